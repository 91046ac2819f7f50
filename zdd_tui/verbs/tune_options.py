"""The arguments of `zdd tune`, without what it needs to run."""

import argparse

from zdd_tui.model.tuning import LIMITS


def add_tune(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments, after PLAN."""
    parser.epilog = "limits: " + ", ".join(spec.key for spec in LIMITS)
    parser.add_argument(
        "changes",
        nargs="*",
        metavar="KEY=VALUE",
        help="such as speed=50, max_rows_per_second=5k, batch_budget=80ms; none lifts a ceiling, plan goes back to"
        " the plan's own value",
    )
    parser.add_argument("--reset", action="store_true", help="first take every limit back to the plan's own value")
    parser.add_argument("--reason", default="", metavar="WHY", help="goes into the audit")
