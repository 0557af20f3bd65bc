"""Walks of the models, taken step by step by the coordinator itself."""
