"""`python -m lambent.cli`: the command without its console script."""

from lambent.cli.main import main

main()
