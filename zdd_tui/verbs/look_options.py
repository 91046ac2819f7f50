"""The options of every verb that draws the dashboard."""

import argparse
from collections.abc import Mapping, Sequence

from zdd_tui.look import Look, check_terminal, speaks_unicode


def add_look(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only; by itself where LANG is not UTF-8")
    parser.add_argument(
        "--low-bandwidth", action="store_true", help="at most one paint a second, no histories: for a slow line"
    )
    parser.add_argument("--no-bell", action="store_true", help="no bell or notification when something needs you")


def add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record", metavar="FILE", help="write what the dashboard sees, for `zdd replay FILE`; .gz compresses"
    )


def look_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Look:
    """What options and environment say together.

    Raises:
        ZddError: the terminal cannot show a dashboard at all.
    """
    check_terminal(environ)
    return Look(
        ascii=arguments.ascii or not speaks_unicode(environ),
        low_bandwidth=arguments.low_bandwidth,
        bell=not arguments.no_bell,
    )


def handed_on(arguments: argparse.Namespace) -> Sequence[str]:
    """The same options for another `zdd` in this terminal."""
    given = {"--ascii": arguments.ascii, "--low-bandwidth": arguments.low_bandwidth, "--no-bell": arguments.no_bell}
    record = ["--record", arguments.record] if arguments.record else []
    return [*(option for option, on in given.items() if on), *record]
