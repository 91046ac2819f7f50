"""The arguments of `zdd tune`, without what it needs to run."""

import argparse

from zdd_tui.model.tuning import LIMITS

TUNE_HELP = (
    "Change limits of the backfill while it runs: in force within one batch, kept with the release, audited. The plan"
    " is not changed. Without key=value: show the limits that hold."
)


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
