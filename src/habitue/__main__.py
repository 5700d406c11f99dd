"""The command `habitue`, which is `python -m habitue` too."""

import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends it without a word, for nothing was begun."""
    try:
        from habitue.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
