"""The options of `zdd open` that say what may be changed from the dashboard, and by which keys."""

import argparse

from zdd_tui.model.duration import parse_duration


def add_desk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-only", action="store_true", help="hide every key that changes something")
    parser.add_argument(
        "--unlock-for",
        type=_duration,
        metavar="TIME",
        help="how long an unlock of production lasts (default: the plan's confirm.unlock, 15m)",
    )
    add_keymap(parser)


def add_keymap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keymap",
        metavar="FILE",
        help="other keys; see `zdd keys` (default: ~/.config/zdd/keymap.yaml, if it is there)",
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    add_keymap(parser)
    parser.add_argument("--check", metavar="FILE", help="only say what cannot be taken from FILE; exit code 2 then")


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError("an unlock lasts some time, such as 15m")
    return seconds
