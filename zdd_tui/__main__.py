"""The process behind ``zdd`` and ``python -m zdd_tui``: what holds for all of it, and then the command line."""

import gc
import sys

OBJECTS = 20_000
"""Newly made objects between two looks of the garbage collector; Python's 700 make it look 400 times at a start whose
objects stay for ever: 7 % of the time to the first paint."""


def main() -> int:
    """Runs one verb; returns its exit code."""
    gc.set_threshold(OBJECTS)
    from zdd_tui.cli.parser import main as run  # noqa: PLC0415  # most of the start is this import

    return run()


if __name__ == "__main__":
    sys.exit(main())
