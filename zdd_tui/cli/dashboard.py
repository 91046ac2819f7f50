"""`zdd open`: the dashboard on a plan, and an agent where none is at work."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_tui.cli.keys import key_choice_of
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import Feeds
from zdd_tui.dashboard.terminal.display_options import Look
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.records import Actor

if TYPE_CHECKING:
    from zdd_tui.dashboard.recording.writer import Recorder
    from zdd_tui.model.doctor import Report


def run_dashboard(
    loaded: LoadedPlan,
    actor: Actor,
    *,
    start_agent: bool,
    read_only: bool,
    look: Look,
    keymap: str | None = None,
    unlock_seconds: float | None = None,
    record: str | None = None,
) -> int:
    """Shows the dashboard until the operator leaves; returns the exit code.

    Nothing here waits for a backend: the first paint comes before the first connection.

    Args:
        keymap: a file with other keys; None for the default file, if it is there.
        unlock_seconds: how long an unlock of production lasts; None for the plan's own.
        record: a file to write what the board says into; None for none.
    """
    keys = key_choice_of(keymap, os.environ)
    feeds = Feeds(loaded.plan, actor=actor, examine=partial(_examine, loaded), path=loaded.source)
    recorder = _recorder(feeds, record) if record is not None else None
    feeds.start()
    if start_agent:
        # A thread of its own: it may have to wait for the database as long as that is away.
        threading.Thread(target=_ensure, args=(loaded, feeds), name="zdd-ensure-agent", daemon=True).start()
    try:
        app = ZddApp(feeds, read_only=read_only, look=look, unlock_seconds=unlock_seconds, keys=keys)
        return app.run().code
    finally:
        feeds.stop()
        if recorder is not None:
            recorder.close()
            if recorder.problem:
                sys.stderr.write(f"zdd: the recording is not complete: {recorder.problem}\n")


def _recorder(feeds: Feeds, file: str) -> "Recorder":
    from zdd_tui.dashboard.recording.writer import Recorder  # noqa: PLC0415  # nobody pays for it who does not record

    return Recorder(feeds.board, Path(file), ready=feeds.wait_for_screen)


async def _examine(loaded: LoadedPlan) -> "Report":
    from zdd_tui.cli.doctor import examine  # noqa: PLC0415  # it brings the drivers

    return await examine(loaded)


def _ensure(loaded: LoadedPlan, feeds: Feeds) -> None:
    feeds.wait_for_screen()
    from zdd_tui.cli.agent import ensure_agent  # noqa: PLC0415  # it brings the drivers

    with suppress(asyncio.CancelledError):
        try:
            asyncio.run(ensure_agent(loaded, Path(loaded.source)))
        except ZddError as error:
            feeds.no_agent = error
