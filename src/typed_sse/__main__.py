"""The program `typed-sse`, and `python -m typed_sse`: says what is missing, or runs the commands.

Knows nothing of the commands; they need the extra `cli`, and this file does not.
"""

import sys

MISSING = "typed-sse: the commands need Typer and Rich: pip install 'typed-sse[cli]'"


def main() -> None:
    """Run the command line; exit with 2, and say what to install, where the extra is missing."""
    try:
        from typed_sse.cli import commands
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(MISSING, file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # before there is a command that could say so
        raise SystemExit(130) from None
    commands()


if __name__ == "__main__":
    main()
