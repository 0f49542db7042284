"""`python -m flowforge.cli` is `flowforge`."""

from flowforge.cli import main

main()
