"""The options of `zdd demo`. Imports nothing heavy: every command builds the whole parser."""

import argparse

from zdd_tui.model.plans import PLANS
from zdd_tui.verbs.look_options import add_look, add_record

MISMATCH = "mismatch"
"""The fault of a dark launch: an image whose new path answers otherwise."""


def add_demo(demo: argparse.ArgumentParser) -> None:
    """The options of `zdd demo`."""
    demo.add_argument(
        "--strategy",
        choices=tuple(PLANS),
        default="expand/contract",
        metavar="NAME",
        help=f"of the release: {', '.join(PLANS)} (default: %(default)s)",
    )
    demo.add_argument(
        "--by", choices=("replicas", "flag", "gateway"), default="replicas", help="what makes a canary's weight"
    )
    demo.add_argument(
        "--regions",
        type=int,
        choices=(1, 2, 3),
        default=1,
        metavar="N",
        help="so many productions, and one release that goes through them one after the other: 1 to 3",
    )
    demo.add_argument("--headless", action="store_true", help="walk the release by itself and print a report")
    demo.add_argument("--json", action="store_true", help="with --headless: the report as JSON on stdout")
    demo.add_argument("--rows", type=positive, default=200_000, help="rows in the table (default: %(default)s)")
    demo.add_argument("--rate", type=positive, default=120, help="requests a second of the load (default: %(default)s)")
    demo.add_argument("--kind", choices=("column", "table"), default="column", help="what is beside the old schema")
    demo.add_argument("--dual-write", choices=("application", "trigger"), default="application")
    demo.add_argument(
        "--inject",
        choices=("errors", "latency", "crash-loop", "redis-down", "db-slow", "metrics-gone", MISMATCH),
        metavar="FAULT",
        help="break the new version, and the guard rolls back by itself: errors, latency, crash-loop, redis-down,"
        " db-slow or metrics-gone; of a dark launch mismatch: its new path answers otherwise, and its gate stays shut",
    )
    demo.add_argument(
        "--env", action="store_true", help="print the exports of the demo that runs, for kubectl and psql"
    )
    demo.add_argument("--keep", action="store_true", help="keep the temporary folder, for its logs")
    add_look(demo)
    add_record(demo)


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
