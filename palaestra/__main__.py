"""`python -m palaestra` is the command line."""

from palaestra.cli import main

main()
