"""Explicit-state models of the commit protocol."""
