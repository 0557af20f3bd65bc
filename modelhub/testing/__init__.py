"""What a backend, or a hub on top of one, is tested with; needs ``modelhub[test]``."""
