"""``python -m cxrbench``: the command, where the script that pip makes is not on the path."""

from cxrbench.cli import main

main()
