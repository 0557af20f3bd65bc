"""The real servers that tests run against, and the ways to look into them past modelhub."""
