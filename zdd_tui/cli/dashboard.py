"""`zdd open`: the dashboard on a plan, and an agent where none runs. `zdd replay`: the dashboard on a recording."""

import asyncio
import re
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from zdd_tui.cli.keys import load_dashboard_keys
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.column_choice import ColumnChoice
from zdd_tui.dashboard.live_fleet import LiveFleet, LoadSettings
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.model.agent_start import AgentStart
from zdd_tui.model.duration import format_duration, parse_duration
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import LoadedPlan, fill_placeholders
from zdd_tui.model.queries import MetricHistoryQuery
from zdd_tui.model.release.records import Actor

if TYPE_CHECKING:
    from zdd_tui.dashboard.recording.player import Player
    from zdd_tui.dashboard.recording.reader import Recording
    from zdd_tui.dashboard.recording.writer import RecordingWriter
    from zdd_tui.model.doctor import Report

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def run_dashboard(
    loaded: LoadedPlan,
    actor: Actor,
    *,
    load_settings: LoadSettings,
    start_agent: bool,
    read_only: bool,
    display: DisplayOptions,
    keymap: str | None = None,
    unlock_seconds: float | None = None,
    recording_file: str | None = None,
) -> int:
    """Shows the dashboard until the operator quits; returns the exit code.

    Nothing here waits for a backend: the first paint comes before the first connection.

    Args:
        load_settings: reads the databases of the fleet when it is first shown.
        keymap: a file with other keys; None for the default file, if it exists.
        unlock_seconds: duration of an unlock of production; None for the plan's own.
        recording_file: a file that the dashboard's state is recorded into; None for none.
    """
    keys = load_dashboard_keys(keymap)
    source = _make_source(loaded, actor)
    recorder = _open_recorder(source, recording_file) if recording_file is not None else None

    def open_region(name: str, region: str) -> LiveSource | None:
        if name != loaded.plan.name or loaded.plan.regions is None:
            return None
        own = loaded.for_region(region)
        _, unset = fill_placeholders(own.plan.database.dsn.get_secret_value(), {})
        if unset:
            raise PlanError(f"region {region} needs {unset[0]}, which is not set", f"export {unset[0]}=...")
        opened = _make_source(own, actor)
        opened.start()
        return opened

    fleet = LiveFleet(load_settings, partial(_open_stored, actor), opened=source, open_region=open_region)
    source.start()
    if start_agent:
        _start_agent_thread(loaded, source)
    try:
        app = ZddApp(
            source,
            fleet=fleet,
            read_only=read_only,
            display_options=display,
            unlock_seconds=unlock_seconds,
            keys=keys,
            column_choice=ColumnChoice(column_file()),
        )
        return _run(app)
    finally:
        fleet.stop()
        if recorder is not None:
            recorder.close()
            if recorder.error:
                sys.stderr.write(f"zdd: the recording is incomplete: {recorder.error}\n")


def _run(app: ZddApp) -> int:
    """Runs the application, however it ends; what was not sent is said on standard error."""
    code = app.run()
    if app.unsent_text:
        sys.stderr.write(f"zdd: {app.unsent_text}\n")
    return code


def run_fleet(
    load_settings: LoadSettings,
    actor: Actor,
    *,
    read_only: bool,
    display: DisplayOptions,
    keymap: str | None = None,
    unlock_seconds: float | None = None,
) -> int:
    """Shows the list of all releases until the operator quits; returns the exit code. Arguments: as above."""
    keys = load_dashboard_keys(keymap)
    fleet = LiveFleet(load_settings, partial(_open_stored, actor))
    try:
        app = ZddApp(
            None,
            fleet=fleet,
            read_only=read_only,
            display_options=display,
            unlock_seconds=unlock_seconds,
            keys=keys,
            column_choice=ColumnChoice(column_file()),
        )
        return _run(app)
    finally:
        fleet.stop()


def column_file() -> Path:
    """Where the choice of columns is kept."""
    return user_state_path("zdd", appauthor=False) / "columns.json"


def _make_source(loaded: LoadedPlan, actor: Actor) -> LiveSource:
    source = LiveSource(loaded.plan, actor=actor, doctor=partial(_run_examination, loaded), path=loaded.source)
    source.starter = partial(_start_agent_thread, loaded, source)
    return source


def _open_stored(actor: Actor, plan: BasePlan, release_id: int | None) -> LiveSource:
    """Starts the source of a release without a plan file."""
    source = LiveSource(plan, actor=actor, release_id=release_id)
    source.start()
    return source


def _open_recorder(source: LiveSource, file: str) -> "RecordingWriter":
    from zdd_tui.dashboard.recording.writer import RecordingWriter  # noqa: PLC0415  # only recording pays for it

    return RecordingWriter(
        source.state, Path(file), ready=source.wait_for_screen, fetch_history=lambda: source.fetch(MetricHistoryQuery())
    )


async def _run_examination(loaded: LoadedPlan) -> "Report":
    from zdd_tui.cli.doctor import run_examination  # noqa: PLC0415  # imports the drivers

    return await run_examination(loaded)


def _start_agent_thread(loaded: LoadedPlan, source: LiveSource) -> None:
    # A thread of its own: it waits for an unreachable database without limit.
    threading.Thread(target=_ensure_agent, args=(loaded, source), name="zdd-ensure-agent", daemon=True).start()


def _ensure_agent(loaded: LoadedPlan, source: LiveSource) -> None:
    """Starts an agent where none holds the lease; reports its start, and the error that it ends with."""
    source.wait_for_screen()
    from zdd_tui.cli.agent import DetachedAgent, ensure_agent  # noqa: PLC0415  # imports the drivers

    started: list[DetachedAgent] = []

    def report(agent: DetachedAgent) -> None:
        started.append(agent)
        source.report_agent_start(AgentStart("starting", time.monotonic(), agent.process.pid, str(agent.log)))

    with suppress(asyncio.CancelledError):
        try:
            asyncio.run(ensure_agent(loaded, Path(loaded.source), report))
            source.report_agent_start(None)
        except ZddError as error:
            log = str(started[-1].log) if started else ""
            source.report_agent_start(
                AgentStart("failed", time.monotonic(), log=log, error=error.title, hint=error.hint)
            )


def open_player(file: str, speed: float, at: str) -> "Player":
    """Loads a recording and a player for it.

    Args:
        at: time from the start (``3m``), or a local time of day (``14:02:11``); empty for the start.

    Raises:
        ZddError: the file cannot be read, or holds nothing at that time.
    """
    from zdd_tui.dashboard.recording.player import PLAYBACK_SPEEDS, Player  # noqa: PLC0415  # `zdd open` needs neither
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
