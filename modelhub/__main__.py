"""``python -m modelhub`` is the ``modelhub`` command."""

from modelhub.cli import main

main()
