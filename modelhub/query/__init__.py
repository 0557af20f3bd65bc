"""The language of searches: what a text asks for, as values that every search index understands."""
