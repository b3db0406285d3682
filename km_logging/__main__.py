"""The command ``km-logging``, also ``python -m km_logging``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; without the extra ``cli``, say in one line how to install it."""
    try:
        from km_logging.commands import run  # the extra may be missing
    except KeyboardInterrupt:
        sys.exit("Aborted!")  # as click says it later
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        from km_logging.errors import MissingExtraError  # only then

        sys.exit(f"km-logging: {MissingExtraError('the command line', 'cli')}")
    run()


if __name__ == "__main__":
    main()
