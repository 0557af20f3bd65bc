"""The command line: a door that parses, calls ``Hub`` and hands the result on."""

from modelhub.cli.app import main

__all__ = ["main"]
