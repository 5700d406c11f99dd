"""`python -m habitue`: the command where its script is not on the path."""

from habitue.cli import main

main()
