"""`python -m seaanchor.cli`."""

from seaanchor.cli.app import main

main()
