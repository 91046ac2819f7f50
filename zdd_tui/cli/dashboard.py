"""`zdd open`: the dashboard on a plan, and an agent where none runs."""

import asyncio
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_tui.cli.keys import load_dashboard_keys
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.records import Actor

if TYPE_CHECKING:
    from zdd_tui.dashboard.recording.writer import RecordingWriter
    from zdd_tui.model.doctor import Report


def run_dashboard(
    loaded: LoadedPlan,
    actor: Actor,
    *,
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
        keymap: a file with other keys; None for the default file, if it exists.
        unlock_seconds: duration of an unlock of production; None for the plan's own.
        recording_file: a file that the dashboard's state is recorded into; None for none.
    """
    keys = load_dashboard_keys(keymap)
    source = LiveSource(loaded.plan, actor=actor, doctor=partial(_run_examination, loaded), path=loaded.source)
    recorder = _open_recorder(source, recording_file) if recording_file is not None else None
    source.start()
    if start_agent:
        # A thread of its own: it waits for an unreachable database without limit.
        threading.Thread(target=_ensure_agent, args=(loaded, source), name="zdd-ensure-agent", daemon=True).start()
    try:
        app = ZddApp(source, read_only=read_only, display_options=display, unlock_seconds=unlock_seconds, keys=keys)
        return app.run()
    finally:
        source.stop()
        if recorder is not None:
            recorder.close()
            if recorder.error:
                sys.stderr.write(f"zdd: the recording is incomplete: {recorder.error}\n")


def _open_recorder(source: LiveSource, file: str) -> "RecordingWriter":
    from zdd_tui.dashboard.recording.writer import RecordingWriter  # noqa: PLC0415  # only recording pays for it

    return RecordingWriter(source.state, Path(file), ready=source.wait_for_screen)


async def _run_examination(loaded: LoadedPlan) -> "Report":
    from zdd_tui.cli.doctor import run_examination  # noqa: PLC0415  # imports the drivers

    return await run_examination(loaded)


def _ensure_agent(loaded: LoadedPlan, source: LiveSource) -> None:
    source.wait_for_screen()
    from zdd_tui.cli.agent import ensure_agent  # noqa: PLC0415  # imports the drivers

    with suppress(asyncio.CancelledError):
        try:
            asyncio.run(ensure_agent(loaded, Path(loaded.source)))
        except ZddError as error:
            source.agent_error = error
