"""Makes docs/dashboard.svg: the dashboard on a live demo, 120x36, during a backfill.

Run ``python docs/make_picture.py``; it takes a minute. It starts a production as `zdd demo` does, drives the release
into its backfill, and exports the screen.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.demo.environment import DemoOptions, start_environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor, CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.release.strategy import Phase

OUTPUT_FILE = Path(__file__).with_name("dashboard.svg")
OPERATOR = Actor("ana", "bastion")
SIZE = (120, 36)
MIN_BACKFILL_SHARE = 0.55
"""Share of the backfill that is done in the picture."""

TIMEOUT = 120.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-picture-") as folder:
        asyncio.run(_make_screenshot(Path(folder)))


async def _make_screenshot(folder: Path) -> None:
    options = DemoOptions(rows=400_000, max_rows_per_second=16_000, has_guard=True)
    async with (
        start_environment(folder, options, lambda text: None) as env,
        await Store.open(env.postgres.dsn, application_name="zdd picture") as store,
    ):
        driver = ReleaseDriver(env, store, lambda record: None)
        await driver.start_release()
        plan = load_plan(env.plan_file.read_text(), source=str(env.plan_file), environment=env.environ).plan
        source = LiveSource(plan, actor=OPERATOR)
        source.start(wait_for_screen=0)
        try:
            for phase in (Phase.EXPAND, Phase.DUAL_WRITE):
                await _advance(source)
                await driver.wait_for_phase(phase)
            await _advance(source)
            svg = _strip_fonts(await _take_screenshot(source))
        finally:
            source.stop()
    for private in (str(this_actor()), str(folder)):
        if private in svg:
            raise SystemExit(f"the picture contains {private}")
    OUTPUT_FILE.write_text(svg, encoding="utf-8")


async def _advance(source: LiveSource) -> None:
    """Sends the command of the key `a`."""
    await _wait_until(lambda: source.state().release.value is not None)
    sent = source.send_command(CommandRequest(CommandKind.ADVANCE, expected=source.state().build_precondition()))
    answer = await asyncio.wait_for(asyncio.wrap_future(sent), TIMEOUT)
    if answer.status != "done":
        raise SystemExit(f"advance: {answer.outcome}")


async def _wait_until(is_reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not is_reached():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.1)


async def _take_screenshot(source: LiveSource) -> str:
    """The screen as SVG, as soon as the backfill has reached its share and every pane has content."""
    app = ZddApp(source)
    async with app.run_test(size=SIZE) as pilot:
        await _wait_until(lambda: _has_all_panes(source.state()))
        await pilot.pause(0.3)
        return app.export_screenshot(title="zdd")


def _has_all_panes(state: DashboardState) -> bool:
    record = state.release.value
    if record is None or record.backfill is None or state.workload.value is None or state.flags.value is None:
        return False
    has_guard_values = all(len(reading.series) > 8 and reading.value is not None for reading in record.guard)
    return has_guard_values and record.backfill.rows_done >= MIN_BACKFILL_SHARE * record.backfill.rows_total


def _strip_fonts(svg: str) -> str:
    """Removes the fonts that a viewer would download, and keeps every blank."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


if __name__ == "__main__":
    main()
