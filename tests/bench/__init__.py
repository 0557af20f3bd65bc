"""Programs that print ratios: modelhub beside its peers, on the same bytes, machine and run."""
