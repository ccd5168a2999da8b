"""`python -m privemo` is the `privemo` command."""

from privemo.cli import main

main()
