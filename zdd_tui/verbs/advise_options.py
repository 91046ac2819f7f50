"""The options of `zdd advise` and `zdd init`. Imports nothing heavy: every command builds the whole parser."""

import argparse

from zdd_tui.model.plans import PLANS

EPILOG = """\
examples:
  zdd advise --sql rename.sql --dsn '${DATABASE_URL}' --manifest deploy.yaml \\
      --v2 shop/api:2 --v3 shop/api:3 --plan plan.yaml
  zdd advise --image shop/api:1 shop/api:2 --deployment api --feature-risk high
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What both verbs take."""
    change = parser.add_argument_group("the change")
    change.add_argument("--sql", nargs="+", default=[], metavar="FILE", help="the migration, in order")
    change.add_argument(
        "--manifest", nargs="+", default=[], metavar="FILE", help="the Deployment; twice the same one: before, after"
    )
    change.add_argument("--image", nargs=2, metavar=("OLD", "NEW"), help="the image that runs, and the new one")
    change.add_argument("--dsn", default="", metavar="'${NAME}'", help="the database, for sizes, types and traffic")
    what = parser.add_argument_group("what only you know")
    what.add_argument("--feature-risk", choices=("low", "high"), default="low")
    what.add_argument("--regions", type=_regions, default=1, metavar="N", help="how many regions serve")
    what.add_argument("--sessions", choices=("external", "in-memory"), default="external")
    what.add_argument("--monolith", action="store_true", help="one large program with rare releases")
    what.add_argument("--experimental", action="store_true", help="logic that must be proven right first")
    for side, text in (("up", "NEW column, from the old ones"), ("down", "OLD column, from the new ones")):
        what.add_argument(f"--{side}", action="append", default=[], metavar="COLUMN=EXPRESSION", help=text)
    what.add_argument("--type", action="append", default=[], metavar="COLUMN=TYPE", help="of an old column, no --dsn")
    plan = parser.add_argument_group("the plan")
    plan.add_argument("--name", default="", help="of the release")
    plan.add_argument("--environment", default="production")
    plan.add_argument("--deployment", default="", metavar="NAME")
    plan.add_argument("--namespace", default="", metavar="NAME")
    plan.add_argument("--container", default="", metavar="NAME")
    plan.add_argument("--v2", default="", metavar="IMAGE", help="expand/contract: writes both sides behind a flag")
    plan.add_argument("--v3", default="", metavar="IMAGE", help="expand/contract: knows only the new side")
    plan.add_argument("--flag", default="", metavar="KEY", help="canary: the flag whose percentage is the weight")
    plan.add_argument("--smoke", default="", metavar="/PATH", help="blue/green: asked of new pods before the switch")
    plan.add_argument("--dark-path", default="", metavar="NAME", help="dark launch: the new path in the metrics")
    plan.add_argument("--force", action="store_true", help="overwrite the plan file")


def add_advise(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd advise`."""
    add_options(parser)
    parser.add_argument("--strategy", choices=tuple(PLANS), help="the one that you have in mind: is it safe?")
    parser.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    parser.add_argument("--plan", default="", metavar="FILE", help="write the plan there")
    parser.usage = "zdd advise [--sql FILE ...] [--manifest FILE ...] [--image OLD NEW] [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def add_init(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd init`."""
    parser.add_argument("plan", metavar="PLAN", nargs="?", default="plan.yaml", help="default: %(default)s")
    add_options(parser)
    parser.add_argument("--non-interactive", action="store_true", help="ask nothing: what is not told is an error")
    parser.usage = "zdd init [PLAN] [--non-interactive] [options]"


def _regions(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of regions from 1 on, got {text!r}")
    return int(text)
