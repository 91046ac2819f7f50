"""`zdd replay`: its options, and the recording that they select."""

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_tui.cli.options import add_display_options
from zdd_tui.model.duration import format_duration, parse_duration
from zdd_tui.model.errors import ZddError

if TYPE_CHECKING:
    from zdd_tui.dashboard.recording.player import Player
    from zdd_tui.dashboard.recording.reader import Recording

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def add_replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a recording")
    parser.add_argument("--speed", type=float, default=1.0, help="playback speed, 0.25 to 64 (default: %(default)g)")
    parser.add_argument(
        "--at", default="", metavar="TIME", help="start position: 3m after the start, or the time of day 14:02:11"
    )
    add_display_options(parser)


def open_player(file: str, speed: float, at: str) -> "Player":
    """Loads a recording and a player for it.

    Args:
        at: time from the start (``3m``), or a local time of day (``14:02:11``); empty for the start.

    Raises:
        ZddError: the file cannot be read, or holds nothing at that time.
    """
    from zdd_tui.dashboard.recording.player import PLAYBACK_SPEEDS, Player  # noqa: PLC0415  # slow to import
    from zdd_tui.dashboard.recording.reader import load_recording  # noqa: PLC0415

    if not PLAYBACK_SPEEDS[0] <= speed <= PLAYBACK_SPEEDS[-1]:
        raise ZddError(
            f"--speed {speed:g} is not between {PLAYBACK_SPEEDS[0]:g} and {PLAYBACK_SPEEDS[-1]:g}", "try --speed 4"
        )
    recording = load_recording(Path(file))
    return Player(recording, speed=speed, at=parse_position(at, recording) if at else 0.0)


def parse_position(at: str, recording: "Recording") -> float:
    """Seconds after the recording's start.

    Raises:
        ZddError: not a time, or not within the recording.
    """
    wall = recording.header.wall
    if match := _CLOCK.fullmatch(at):
        day = time.localtime(wall)
        wanted = time.mktime((*day[:3], int(match[1]), int(match[2]), int(match[3] or 0), 0, 0, -1))
        seconds = (wanted - wall) % 86400  # a recording may go past midnight
    else:
        try:
            seconds = parse_duration(at)
        except ValueError:
            hint = "use a time from the start, such as --at 3m, or a time of day, such as --at 14:02:11"
            raise ZddError(f"--at {at} is not a time", hint) from None
    if seconds > recording.length + 1:
        first, last = (time.strftime("%H:%M:%S", time.localtime(wall + offset)) for offset in (0.0, recording.length))
        raise ZddError(
            f"--at {at} is not in {recording.file}",
            f"use a time from {first} to {last} ({format_duration(recording.length)})",
        )
    return seconds
