"""What detail screens send to the terminal: changed cells, and of a log the new lines."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from textual.pilot import Pilot

from tests.dashboard.screens.test_details import until
from tests.dashboard.widgets.test_fast_paint import TerminalScreen, wait_until_painted
from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, metric_history, pod, workload
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.details import log as log_screen
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.state import Observed
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle
from zdd_tui.dashboard.widgets.drawing.line_view import find_shift
from zdd_tui.dashboard.widgets.panes import charts
from zdd_tui.model.activity import ActivityQuery, DatabaseActivity, Session
from zdd_tui.model.queries import LogLine, LogView, MetricHistoryQuery
from zdd_tui.model.workload.pod import PodState

SIZE = (100, 30)
TEXT = '{"level": "info", "path": "/users/%06d"}'


class Dashboard:
    """The dashboard of a release with a guard, in which pods and the release change all the time."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.state = guard_situations()["guard-backfill"]
        self.source = FixedSource(self.state)
        self.app = ZddApp(self.source, clock=self.clock)
        self.terminal = TerminalScreen(self.app, *SIZE)
        self.changes = 0

    async def change(self, pilot: Pilot[int], seconds: float = 0.1) -> int:
        """Changes pods and the release, and returns how many bytes that sends."""
        self.clock.seconds += seconds
        self.changes += 1
        record = self.state.release.value
        assert record is not None
        before = self.terminal.received
        pods = [pod(f"{number:03}", "2", PodState.SERVING, restarts=self.changes) for number in range(9)]
        now = self.clock.seconds
        self.source.current = replace(
            self.state,
            workload=Observed(workload(pods, ready=9), now),
            release=Observed(replace(record, now=record.now + now), now),
        )
        self.app.repaint()
        await wait_until_painted(pilot)
        return self.terminal.received - before


async def run(key: str, then: Callable[[Dashboard, Pilot[int]], Awaitable[None]], dashboard: Dashboard) -> None:
    async with dashboard.app.run_test(size=SIZE) as pilot:
        await wait_until_painted(pilot)
        if key:
            await pilot.press(key)
            await until(pilot, lambda: len(dashboard.app.screen_stack) == 2)
            await wait_until_painted(pilot)
            await dashboard.change(pilot, 1.0)
        await then(dashboard, pilot)


@pytest.mark.parametrize("key", ["m", "D", "question_mark", "R"])
async def test_what_a_screen_covers_sends_nothing(key: str) -> None:
    async def changes(dashboard: Dashboard, pilot: Pilot[int]) -> None:
        sent = [await dashboard.change(pilot, 0.001) for _ in range(8)]
        assert sent == [0] * 8
        await pilot.press("escape")
        await until(pilot, lambda: len(dashboard.app.screen_stack) == 1)
        await wait_until_painted(pilot)
        assert f" {dashboard.changes} " in screen_text(dashboard.app)  # the restarts of the last change
        dashboard.terminal.assert_same_as_textual("after the screen was closed")

    await run(key, changes, Dashboard())


async def test_a_chart_is_drawn_once_for_each_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = charts.rule_chart_lines

    def count(reading: object, *arguments: object, **options: object) -> list[Line]:
        drawn.append(str(reading))
        return draw(reading, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(charts, "rule_chart_lines", count)
    dashboard = Dashboard()
    record = dashboard.state.release.value
    assert record is not None
    dashboard.source.answers[MetricHistoryQuery] = metric_history(record.now)

    async def changes(dashboard: Dashboard, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "last value" in screen_text(dashboard.app))
        rules = len(dashboard.state.plan.rule_names)
        drawn.clear()
        sent = [await dashboard.change(pilot, 0.2) for _ in range(20)]
        assert len(drawn) == 0
        assert sum(sent) < 20 * 12  # the ages, once a second
        dashboard.source.answers[MetricHistoryQuery] = metric_history(record.now + 5)
        dashboard.app.screen.refresh_queries()  # type: ignore[attr-defined]
        await until(pilot, lambda: bool(drawn))
        await wait_until_painted(pilot)
        assert 0 < len(drawn) <= rules
        dashboard.terminal.assert_same_as_textual("with new points")

    await run("m", changes, dashboard)


async def test_activity_sends_the_ages_alone() -> None:
    dashboard = Dashboard()

    def sessions(seconds: float) -> DatabaseActivity:
        who = "app", "users-api", "10.2.0.7", "active"
        return DatabaseActivity(
            tuple(
                Session(4000 + at, f"s{at}", *who, 60 + seconds, seconds, "Lock", "UPDATE users", (4000,) if at else ())
                for at in range(12)
            )
        )

    dashboard.source.answers[ActivityQuery] = sessions(1)

    async def changes(dashboard: Dashboard, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "12 listed" in screen_text(dashboard.app))
        for seconds in (2, 3, 4):
            before = dashboard.terminal.received
            dashboard.source.answers[ActivityQuery] = sessions(seconds)
            dashboard.app.screen.refresh_queries()  # type: ignore[attr-defined]
            await until(pilot, partial(is_shown, dashboard.app, f" 1m0{seconds}s"))
            assert await dashboard.change(pilot) < 40
            assert dashboard.terminal.received - before < 12 * 10 + 60
        dashboard.terminal.assert_same_as_textual("with later ages")

    await run("D", changes, dashboard)


def is_shown(app: ZddApp, text: str) -> bool:
    return text in screen_text(app)


def log_view(last: int, kept: int = 200) -> LogView:
    lines = tuple(LogLine(TEXT % at, float(at)) for at in range(max(0, last - kept), last))
    return LogView(lines, last, max(0, last - kept), state="following")


@pytest.mark.parametrize("no_color", ["", "1"])
async def test_a_log_sends_its_new_lines(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(log_screen, "REFRESH_INTERVAL", 600.0)
    dashboard = Dashboard()
    dashboard.source.log = log_view(195)

    async def changes(dashboard: Dashboard, pilot: Pilot[int]) -> None:
        app, page = dashboard.app, dashboard.app.screen.query_one(PageView)
        tail, screen = dashboard.source.tails[-1], dashboard.app.screen
        assert await dashboard.change(pilot) == 0
        last = 195
        for new in (1, 5, 5, 5, 3, 60):  # from 200 lines on the oldest ones are dropped
            last += new
            tail.current = log_view(last)
            before = dashboard.terminal.received
            screen._refresh_new_lines()  # type: ignore[attr-defined]
            await wait_until_painted(pilot)
            assert TEXT % (last - 1) in screen_text(app)
            rows = min(new, page.content_size.height)
            assert dashboard.terminal.received - before < rows * (len(TEXT % 0) + 80) + 120
            dashboard.terminal.assert_same_as_textual(f"after {last} lines")
        first = page.first_line
        await pilot.press("up")
        await until(pilot, lambda: "not following" in screen_text(app))
        await wait_until_painted(pilot)
        dashboard.terminal.assert_same_as_textual("one line up")
        assert page.first_line == first - 1
        assert TEXT % (last - 1) not in screen_text(app)
        assert TEXT % (last - 2) in screen_text(app)
        tail.current = log_view(last + 7)
        screen._refresh_new_lines()  # type: ignore[attr-defined]
        await until(pilot, lambda: "7 newer" in screen_text(app))
        await pilot.press("f")
        await until(pilot, lambda: TEXT % (last + 6) in screen_text(app))
        await wait_until_painted(pilot)
        dashboard.terminal.assert_same_as_textual("following again")

    async with dashboard.app.run_test(size=SIZE) as pilot:
        await wait_until_painted(pilot)
        await dashboard.app.push_screen(
            log_screen.LogScreen(dashboard.source, dashboard.app.render_context, "users-api-000")
        )
        await wait_until_painted(pilot)
        await dashboard.change(pilot, 1.0)
        await changes(dashboard, pilot)


def test_rows_move_only_where_that_leaves_fewer_to_paint() -> None:
    def lines(text: str) -> list[Line]:
        return [((char, TextStyle.NORMAL),) for char in text]

    assert find_shift(lines("abcdef"), lines("cdefgh")) == 2
    assert find_shift(lines("abcdef"), lines("abcdef")) == 0
    assert find_shift(lines("abcdef"), lines("abcdeg")) == 0
    assert find_shift(lines("abcdef"), lines("uvwxyz")) == 0
    assert find_shift([*lines("abcde"), None], lines("bcdefg")) == 0
