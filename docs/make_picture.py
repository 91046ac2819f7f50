"""Makes docs/dashboard.svg: the dashboard on a live demo, 120x36, in the middle of a backfill.

Run as ``python docs/make_picture.py``; it takes a minute. Nothing in the picture is drawn by hand: a production is
started as `zdd demo` does it, the release is walked into its backfill, and the screen is exported.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import Feeds
from zdd_tui.dashboard.state import Board
from zdd_tui.demo.environment import Options, environment
from zdd_tui.demo.release_driver import Walker
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor, CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.release.strategy import Phase

PICTURE = Path(__file__).with_name("dashboard.svg")
OPERATOR = Actor("ana", "bastion")
SIZE = (120, 36)
SHARE = 0.55
"""How much of the backfill is to be done."""

WITHIN = 120.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-picture-") as folder:
        asyncio.run(_make(Path(folder)))


async def _make(folder: Path) -> None:
    options = Options(rows=400_000, ceiling=16_000, guard=True)
    async with (
        environment(folder, options, lambda text: None) as env,
        await Store.open(env.postgres.dsn, application_name="zdd picture") as store,
    ):
        walker = Walker(env, store, lambda record: None)
        await walker.begin()
        plan = load_plan(env.plan_file.read_text(), source=str(env.plan_file), environ=env.environ).plan
        feeds = Feeds(plan, actor=OPERATOR)
        feeds.start(wait_for_screen=0)
        try:
            for phase in (Phase.EXPAND, Phase.DUAL_WRITE):
                await _advance(feeds)
                await walker.settle(phase)
            await _advance(feeds)
            picture = _plain(await _screen(feeds))
        finally:
            feeds.stop()
    for private in (str(this_actor()), str(folder)):
        if private in picture:
            raise SystemExit(f"the picture would tell {private}")
    PICTURE.write_text(picture, encoding="utf-8")


async def _advance(feeds: Feeds) -> None:
    """Sends what the key `a` sends."""
    await _until(lambda: feeds.board().release.value is not None)
    sent = feeds.send(CommandRequest(CommandKind.ADVANCE, expected=feeds.board().expected()))
    answer = await asyncio.wait_for(asyncio.wrap_future(sent), WITHIN)
    if answer.status != "done":
        raise SystemExit(f"advance: {answer.outcome}")


async def _until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not ready():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.1)


async def _screen(feeds: Feeds) -> str:
    """The screen as SVG, as soon as the backfill is far enough and every pane has something to show."""
    app = ZddApp(feeds)
    async with app.run_test(size=SIZE) as pilot:
        await _until(lambda: _worth_a_picture(feeds.board()))
        await pilot.pause(0.3)
        return app.export_screenshot(title="zdd")


def _worth_a_picture(board: Board) -> bool:
    record = board.release.value
    if record is None or record.backfill is None or board.pods.value is None or board.flags.value is None:
        return False
    seen = all(len(reading.series) > 8 and reading.value is not None for reading in record.guard)
    return seen and record.backfill.rows_done >= SHARE * record.backfill.rows_total


def _plain(svg: str) -> str:
    """Without the fonts that a viewer would fetch from elsewhere, and with every blank."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


if __name__ == "__main__":
    main()
