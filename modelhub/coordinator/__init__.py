"""The coordinator: publish, fetch, retire, index, sweep and verify, over the three protocols."""
