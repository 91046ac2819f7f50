"""Detail screens: their snapshots at every size, their keys, and hostile results."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.dashboard.conftest import SameInAllSizes
from tests.dashboard.screens.detail_answers import (
    ANSWERS,
    AUDIT_LOG,
    LOG,
    OBJECT,
    POD,
    SCREENS,
    SITUATIONS,
    soaking_board,
    with_change,
)
from tests.dashboard.screens.test_untrusted_text import EVIL
from tests.support.screen_text import screen_text
from tests.support.states import (
    AGENT,
    EPOCH,
    MONOTONIC,
    SERVING,
    FixedClock,
    FixedSource,
    board,
    dashboard_situations,
    record,
    release,
)
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.confirm import ConfirmScreen
from zdd_tui.dashboard.screens.details.activity import ActivityScreen
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.details.diagram import DiagramScreen
from zdd_tui.dashboard.screens.details.flag import FlagScreen
from zdd_tui.dashboard.screens.details.gate import GateScreen
from zdd_tui.dashboard.screens.details.plan import PlanScreen
from zdd_tui.dashboard.screens.details.pod import PodScreen
from zdd_tui.dashboard.screens.details.timeline import TimelineScreen, timeline_lines
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.screens.status_details import StatusDetailsScreen
from zdd_tui.dashboard.state import Observed, RenderContext
from zdd_tui.dashboard.widgets.panes.pane import RowSelected
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.activity import ActivityQuery, Session, StopRequest
from zdd_tui.model.errors import ClusterError, DatabaseError
from zdd_tui.model.queries import AuditLog, AuditLogQuery, LogLine, LogView, ObjectQuery, PlanQuery
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.records import Event, FailedRow
from zdd_tui.model.release.state import CommandKind, ReleaseState

TURNED = {
    "log-wrapped": ("log", "w"),
    "log-stopped": ("log", "f"),
    "log-previous": ("log", "b"),
    "plan-difference": ("plan", "tab"),
    "timeline-verdicts": ("timeline", "g"),
    "timeline-found": ("timeline", "slash R O L L enter"),
    "gates-all": ("gates", "tab"),
    "yaml-wrapped": ("yaml", "w"),
    "backfill-end": ("backfill", "end"),
    "topology-dark-launch-full": ("topology-dark-launch", "w"),
    "activity-stop": ("activity", "enter"),
    "activity-cancel": ("activity", "down enter"),
    "logs-filtered": ("logs", "slash 1 9 9 9 enter"),
    "logs-errors": ("logs", "e"),
    "search": ("yaml", "slash i m a g e"),
    "search-nothing": ("yaml", "slash x y z enter"),
    "help": ("pod", "question_mark"),
}
"""Screens after key presses."""
PICTURES = {name: (name, "") for name in SCREENS} | TURNED


def opened(
    name: str, *, clock: FixedClock | None = None, **changes: Any
) -> tuple[ZddApp, FixedSource, Callable[[], DetailScreen]]:
    """An application on a fixed source, and a factory of the screen of that name."""
    situation, maker = SCREENS[name]
    source = FixedSource(with_change(SITUATIONS[situation]), answers=dict(ANSWERS), log=LOG)
    for key, value in changes.items():
        setattr(source, key, value)
    app = ZddApp(source, clock=clock or FixedClock())
    return app, source, lambda: maker(source, app.render_context)


@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    name, keys = PICTURES[picture]
    app, _, screen = opened(name)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        await pilot.press(*keys.split())
        await pilot.pause()
        await same_in_all_sizes(pilot, f"detail-{picture}")


async def test_a_text_field_names_its_own_keys_in_the_footer() -> None:
    app, _, screen = opened("logs")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.press("slash")
        await pilot.pause()
        assert screen_text(app).splitlines()[-1].split("  ")[1:4] == ["Enter filter", "ctrl+r rollback", "Esc cancel"]
        await pilot.press("escape")
        await pilot.pause()
        assert "R rollback  Esc back" in screen_text(app).splitlines()[-1]


async def test_before_the_first_phase_the_gates_are_those_of_every_phase() -> None:
    app, source, screen = opened("gates")
    source.set_board(board(record(release(ReleaseState.PLANNED))))
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        shown = screen_text(app)
        assert "gates of every phase" in shown.splitlines()[0]
        assert "Tab" not in shown.splitlines()[-1], "there is nothing else to show"


@pytest.mark.parametrize("name", SCREENS)
async def test_what_stops_the_release_is_in_the_first_line_of_every_screen(name: str) -> None:
    app, source, screen = opened(name)
    state = SITUATIONS[SCREENS[name][0]]
    assert state.release.value is not None
    reading = ConditionReading("image users-api", ConditionStatus.BREACHED, "Deployment users-api has image 1")
    stopped = replace(state.release.value, release=replace(state.release.value.release, unmet=(reading,)))
    source.set_board(replace(state, release=replace(state.release, value=stopped)))
    async with app.run_test(size=(120, 36)) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        assert "✗ STOPPED: Deployment users-api has image 1" in screen_text(app).splitlines()[0]


async def test_without_a_session_enter_is_not_offered() -> None:
    app, source, screen = opened("activity")
    source.answers[ActivityQuery] = replace(ANSWERS[ActivityQuery], sessions=())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        assert "Enter" not in screen_text(app).splitlines()[-1]


async def test_sessions_that_block_others_are_counted_beside_those_that_block_zdd() -> None:
    app, source, screen = opened("activity")
    waiting = Session(12, "b", "app", "users", "10.0.0.2", "active", 4.0, 4.0, "Lock relation", "SELECT 2", (11,))
    blocking = replace(waiting, pid=11, wait="", blocked_by=(), state="idle in transaction")
    source.answers[ActivityQuery] = replace(ANSWERS[ActivityQuery], sessions=(waiting, blocking))
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        assert "2 listed, 0 block zdd, 1 blocks others" in screen_text(app)


async def test_logs_and_pods_have_one_name_for_a_version() -> None:
    app, source, screen = opened("logs")
    source.set_board(SITUATIONS["canary"])
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        seen = set()
        for _ in range(3):
            await pilot.press("v")
            await pilot.pause()
            seen.add(screen_text(app).split("logs of ")[1].split("  ")[0].strip())
            assert source.tails[-1].query.pod
        assert seen == {"version old", "version new", "all versions"}


async def test_no_visible_session_is_no_proof_where_some_are_hidden_from_the_role() -> None:
    app, source, screen = opened("activity")
    source.answers[ActivityQuery] = replace(ANSWERS[ActivityQuery], sessions=(), hidden=3)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        text = screen_text(app)
        assert "? none is visible, but 3 sessions may block zdd unseen" in text
        assert "✔ no session" not in text


async def test_sessions_that_were_not_read_are_not_counted() -> None:
    app, source, screen = opened("activity")
    del source.answers[ActivityQuery]
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        text = screen_text(app)
        assert "not read yet" in text
        assert "listed" not in text


@pytest.mark.parametrize("name", SCREENS)
async def test_no_text_field_takes_text_without_a_bound(name: str) -> None:
    app, _, screen = opened(name)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        fields = [field for field in app.screen.query(Input) if not isinstance(field, TextField)]
        assert fields == []


async def test_a_session_in_the_way_is_stopped_in_two_keys_and_cancelled_before_it_is_terminated() -> None:
    clock = FixedClock()
    app, source, screen = opened("activity", clock=clock)
    app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:

        async def press(*pressed: str) -> str:
            await pilot.press(*pressed)
            await pilot.pause()
            return screen_text(app)

        await app.push_screen(screen())
        await pilot.pause()
        asked = await press("enter")
        assert "SELECT pg_terminate_backend(4123)" in asked, "it is idle: there is no statement to cancel"
        assert "JOIN orders o" in asked
        assert source.stopped_sessions == []
        assert "This was so" not in asked
        clock.seconds += 12
        app.repaint()
        await pilot.pause()
        assert "This was so 12s ago, when the session was listed" in screen_text(app)
        assert "✔ terminate sent to pid 4123" in await press("enter")
        assert source.stopped_sessions == [StopRequest(4123, "s1", True)]
        assert "SELECT pg_cancel_backend(4305)" in await press("down", "enter")
        await press(*"slow", "enter")
        assert source.stopped_sessions[-1] == StopRequest(4305, "s3", False, "slow")
        clock.seconds += 5
        source.stop_result = DatabaseError("the session of a superuser")
        assert "SELECT pg_terminate_backend(4305)" in await press("enter"), "it was cancelled in vain"
        assert "✗ terminate of pid 4305: the session of a superuser" in await press("enter")
        clock.seconds += 30
        app.repaint()
        await pilot.pause()
        assert "30s ago: ✗ terminate of pid 4305: the session of a superuser" in screen_text(app)
        clock.seconds += 31
        app.repaint()
        await pilot.pause()
        assert "the session of a superuser" not in screen_text(app), "old news"
        await press("end", "enter")
        assert isinstance(app.screen, ActivityScreen), "an agent's session is no session to stop"
    assert len(source.stopped_sessions) == 3


async def test_the_logs_of_a_version_are_filtered_and_follow_new_pods() -> None:
    app, source, screen = opened("logs")
    source.log = LogView((LogLine("GET /users", 1.0), LogLine("ERROR timeout", 2.0)), 2, state="following")
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:

        async def press(*pressed: str) -> str:
            await pilot.press(*pressed)
            await pilot.pause()
            return screen_text(app)

        await app.push_screen(screen())
        await pilot.pause()
        pods = {tail.query.pod for tail in source.tails}
        assert len(pods) == len(source.tails) > 1
        assert "GET /users" not in (shown := await press("e"))
        assert "ERROR timeout" in shown
        assert "errors only" in shown
        assert "GET /users" in await press("e")
        await press("slash", *"users")
        assert "ERROR timeout" not in await press("enter")
        assert "ERROR timeout" in await press("escape"), "the first Esc clears the filter"
        await press("b")
        assert all(tail.query.previous for tail in source.tails[len(pods) :])
        assert all(tail.closed for tail in source.tails[: len(pods)])
        assert "logs of all versions" in await press("v")
        await press("escape")
        assert len(app.screen_stack) == 1
    assert all(tail.closed for tail in source.tails)


@pytest.mark.parametrize("name", ["log", "logs", "pod"])
async def test_a_log_is_not_said_to_be_followed_while_kubernetes_does_not_respond(name: str) -> None:
    clock = FixedClock()
    app, source, screen = opened(name, clock=clock)
    state = with_change(SITUATIONS["open"])  # the phase relies on no Deployment
    source.set_board(state)
    silent = "? no response for "
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await until(pilot, lambda: "▶ following" in screen_text(app))

        async def shown_after(seconds: float) -> str:
            clock.seconds += seconds
            current = {each: replace(getattr(state, each), observed_at=clock.seconds) for each in ("release", "flags")}
            source.set_board(replace(state, **current))
            app.repaint()
            await pilot.pause()
            return screen_text(app)

        assert "▶ following" in await shown_after(1.5)
        text = await shown_after(10.0)
        assert re.search(r"\? no response for 1\ds from Kubernetes", text), (
            "seconds since the later one of the last reading and the last line"
        )
        assert "▶ following" not in text
        assert "lost: K8s" not in text
        if name != "pod":
            assert "s from Kubernetes, not following" in await press_and_show(pilot, app, "f")
            await pilot.press("f")
        for tail in source.tails:
            tail.current = replace(LOG, total=LOG.total + 1)
        await until(pilot, lambda: "▶ following" in screen_text(app))
        assert silent not in screen_text(app), "it has a new line"


async def press_and_show(pilot: Pilot[Any], app: ZddApp, *keys: str) -> str:
    await pilot.press(*keys)
    await pilot.pause()
    return screen_text(app)


async def test_escape_closes_a_screen_and_its_logs() -> None:
    app, source, screen = opened("pod")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        await pilot.press("l")
        await pilot.pause()
        assert [tail.query.pod for tail in source.tails] == [POD, POD]
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert [tail.closed for tail in source.tails] == [True, True]
        assert len(app.screen_stack) == 1


KEYS = {
    "T": TimelineScreen,
    "V": DiagramScreen,
    "G": GateScreen,
    "B": BackfillScreen,
    "P": PlanScreen,
}


async def test_keys_open_the_screens_and_rollback_is_two_keys_from_each() -> None:
    staging = SITUATIONS["backfill"]
    source = FixedSource(replace(staging, plan=replace(staging.plan, environment="staging")), answers=dict(ANSWERS))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        for key, kind in KEYS.items():
            await pilot.press(key)
            await until(pilot, lambda kind=kind: isinstance(app.screen, kind) and bool(app.screen.query(PageView)))
            await pilot.press("R")
            await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
            await pilot.pause()
            await pilot.press("escape")
            await pilot.pause()
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, TimelineScreen) and bool(app.screen.query(PageView)))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: len(source.sent_commands) == 1)
        assert source.sent_commands[0].kind is CommandKind.ROLLBACK


@pytest.mark.parametrize("keys", ["B", "2 enter"])
async def test_the_backfill_shows_its_rate_by_whichever_way_it_is_opened(keys: str) -> None:
    source = FixedSource(SITUATIONS["backfill"], answers=dict(ANSWERS))
    app = ZddApp(source, clock=FixedClock())
    value = source.current.release.value
    assert value is not None
    assert value.backfill is not None
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        for second in range(1, 4):
            done = replace(value.backfill, rows_done=756_000 + 5_000 * second, updated_at=EPOCH + second)
            source.current = replace(source.current, release=Observed(replace(value, backfill=done), MONOTONIC))
            app.repaint()
        await pilot.press(*keys.split())
        await until(pilot, lambda: isinstance(app.screen, BackfillScreen) and bool(app.screen.query(PageView)))
        await pilot.pause()
        assert "rate since this dashboard was opened" in screen_text(app)


async def test_enter_on_a_row_opens_its_screen() -> None:
    app, source, _ = opened("topology")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        for row, kind in (
            (SERVING[0], PodScreen),
            ((source.current.flags.value or ())[0], FlagScreen),
            (FailedRow(["1"], "why", 0.0), BackfillScreen),
            (None, StatusDetailsScreen),
        ):
            app.screen.post_message(RowSelected("x", "y", row))
            await until(pilot, lambda kind=kind: isinstance(app.screen, kind) and bool(app.screen.query(PageView)))
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
        assert source.tails[0].query.pod == SERVING[0].name
        assert source.tails[0].closed


async def test_a_log_stops_following_on_request() -> None:
    app, source, screen = opened("log")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        await pilot.press("f")
        source.tails[0].current = replace(LOG, lines=(LogLine("fresh"),), total=2320, dropped=2319)
        await until(pilot, lambda: "not following, 10 newer" in screen_text(app))
        assert "/users/1999" in screen_text(app)
        assert "fresh" not in screen_text(app)
        await pilot.press("f")
        await until(pilot, lambda: "fresh" in screen_text(app))
        assert "2,319 dropped" in screen_text(app)
        await pilot.press("b")
        await until(pilot, lambda: "previous log of" in screen_text(app))
        assert source.tails[0].closed
        assert source.tails[1].query.previous


async def test_search_goes_from_match_to_match() -> None:
    app, _, screen = opened("timeline")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        await pilot.press("slash", *"ROLL", "enter")
        await pilot.pause()
        assert "roll out V2" in screen_text(app)
        assert "n/N “ROLL”" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "/ search" in screen_text(app)
        await pilot.press("slash", *"nowhere", "enter")
        await pilot.pause()
        assert "no match for “nowhere”" in screen_text(app)


async def test_the_plan_screen_switches_to_the_difference() -> None:
    app, source, screen = opened("plan")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        await pilot.press("tab")
        await pilot.pause()
        shown = screen_text(app)
        assert "-  soak: 30s" in shown
        assert "+  soak: 5s" in shown
        assert len([query for query in source.queries if isinstance(query, PlanQuery)]) == 1


async def test_an_audit_that_the_state_confirms_is_not_fetched_again() -> None:
    clock = FixedClock()
    app, source, screen = opened("timeline", clock=clock)

    def audits() -> list[AuditLogQuery]:
        return [query for query in source.queries if isinstance(query, AuditLogQuery)]

    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        made = screen()
        await app.push_screen(made)
        await until(pilot, lambda: "attempt 2" in made.query_one(PageView).plain_text())
        made.refresh_queries()
        assert len(audits()) == 2, "the newest event of the state is not that of the audit"
        await pilot.pause()
        record = source.current.release.value
        assert record is not None
        clock.seconds = MONOTONIC + 9
        confirmed = Observed(replace(record, events=AUDIT_LOG.events[-3:]), clock.seconds)
        source.current = replace(source.current, release=confirmed)
        made.refresh_queries()
        assert len(audits()) == 2
        app.repaint()
        assert "1s old" in screen_text(app), "the age of the state's newest reading, not of the result"


async def test_an_error_is_shown_and_the_query_is_repeated() -> None:
    error = ClusterError("no pod 'x' in namespace 'shop'", "check the name with: kubectl get pods")
    app, source, screen = opened("yaml", answers={ObjectQuery: error})
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        made = screen()
        await app.push_screen(made)
        await pilot.pause()
        assert "✗ Pod users-api-6d4f9c7b5d-x7k2p: no pod 'x' in namespace 'shop'" in screen_text(app)
        assert "→ Fix: check the name with" in screen_text(app)
        source.answers[ObjectQuery] = OBJECT
        made.refresh_queries()
        await until(pilot, lambda: "apiVersion: v1" in screen_text(app))
        assert "no pod 'x'" not in screen_text(app)


@pytest.mark.parametrize(
    "name", [name for name in SCREENS if not name.startswith("topology-") or name == "topology-dark-launch"]
)
async def test_hostile_answers_are_only_text(name: str) -> None:
    app, source, screen = opened(name)
    source.answers = {kind: hostile(answer) for kind, answer in ANSWERS.items()}
    source.log = hostile(LOG)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        await pilot.pause()
        for keys in (("end",), ("w",), ("home",), ("tab",), ("slash", "z", "enter")):
            await pilot.press(*keys)
            await pilot.pause()
            shown = screen_text(app)
            assert all(line.isprintable() for line in shown.splitlines())
        if name not in ("charts", "flag", "gate", "gates", "topology"):  # these show only names that zdd defines
            await pilot.press("escape", "home")
            text = "\n".join(app.screen.query_one(PageView).plain_text().splitlines())
            assert "[/var/log/app]" in text


def hostile(value: Any) -> Any:
    """The value with every text replaced by a hostile one, except those that select a branch."""
    if isinstance(value, str):
        return EVIL if value not in KEPT else value
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hostile(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: hostile(getattr(value, each.name)) for each in fields(value)})
    return value


KEPT = {"following", "guard", "command", "refused", "step", "error", "gate", "lease", "release"}


async def until(pilot: Pilot[Any], wanted: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(20):
        while not wanted():
            await pilot.pause(0.02)


async def test_the_backfill_screen_of_a_release_without_backfill() -> None:
    source = FixedSource(SITUATIONS["dark-launch"], answers=dict(ANSWERS))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(BackfillScreen(source, app.render_context))
        await pilot.pause()
        assert "a Dark launch release has no backfill" in screen_text(app)
        assert "statement of a batch" not in screen_text(app)


def test_the_time_before_the_start_counts_on_and_ends_with_the_first_step() -> None:
    strategy = release(ReleaseState.PLANNED).strategy
    lines = [("release", "registered"), ("lease", "acquired the lease, epoch 3")]
    step = ("step", f"run {strategy.steps[0].name} begins")

    def shown(state: ReleaseState, *more: tuple[str, str], finished_at: float | None = None) -> str:
        audit = AuditLog(tuple(Event(n, EPOCH + n, AGENT, *each) for n, each in enumerate((*lines, *more))))
        made = replace(record(release(state)), created_at=EPOCH, finished_at=finished_at)
        moment, formatter = RenderContext.at_clock(FixedClock()), TextFormatter(80, is_wrapped=True)
        found = timeline_lines(made, audit, EPOCH + 600, moment, formatter, gates=False)
        return next(text for line in found if "before start" in (text := "".join(part for part, _ in line)))

    assert "○ before start" in shown(ReleaseState.PLANNED)
    assert "duration 10m00s" in shown(ReleaseState.PLANNED)
    assert "duration 2.0s" in shown(ReleaseState.RUNNING, step)
    assert "■ before start" in shown(ReleaseState.ROLLED_BACK, finished_at=EPOCH + 60)
    assert "duration 1m00s" in shown(ReleaseState.ROLLED_BACK, finished_at=EPOCH + 60)


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_whose_system_does_not_respond_says_so_after_3_seconds(name: str, is_read: bool) -> None:
    clock = FixedClock()
    app, source, screen = opened(name, clock=clock, log=LogView() if not is_read else LOG)
    async with app.run_test(size=(120, 36)) as pilot:
        if not is_read:
            source.answers = {}  # no query is ever answered
        asked_before = len(source.queries)
        await app.push_screen(screen())
        await pilot.pause()
        asked = len(source.queries) - asked_before
        if is_read and asked:
            source.answers = {}
            shown, state = app.screen, source.current
            assert isinstance(shown, DetailScreen)
            assert state.release.value is not None
            rec = replace(state.release.value, events=())  # the audit has to be read again
            source.set_board(replace(state, release=replace(state.release, value=rec)))
            shown.refresh_queries()
        clock.seconds += 4.25
        app.repaint()
        await pilot.pause()
        text = screen_text(app)
        if asked:
            assert re.search("no result for 4s from (PostgreSQL|Kubernetes)", text), text
        assert "… reading" not in text
        if source.tails and not is_read:
            assert text.count("no response for 4s from Kubernetes") == 1, text


async def test_a_rollback_says_that_what_is_lost_was_not_read() -> None:
    clock = FixedClock()
    source = FixedSource(soaking_board())  # the history is never answered
    app = ZddApp(source, clock=clock)
    app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("R")
        await pilot.pause()
        assert "counting the rows" in screen_text(app)
        clock.seconds += 4.25
        app.repaint()
        await pilot.pause()
        text = " ".join(screen_text(app).split())
        assert "could not be counted: no result for 4s from PostgreSQL" in text.replace("┃ ┃ ", "")
        assert "Enter confirm" in text, "the two keys still roll back"


PLAN_FILE = "/srv/plans/users.yaml"
PLACEHOLDER = re.compile(r"zdd [a-z -]*\bPLAN\b")


@pytest.mark.parametrize("keys", ["", "e", "d", "T"])
@pytest.mark.parametrize("situation", ["done", "trigger-missing", "rolled-back", "no-agent"])
async def test_commands_on_screen_have_the_plan_s_file(situation: str, keys: str) -> None:
    trigger = ConditionReading(
        "trigger sync-forward", ConditionStatus.BREACHED, "the trigger is disabled",
        hint="find who changes triggers, then zdd status PLAN; the agent creates it again",
    )  # fmt: skip
    made = dashboard_situations()[situation if situation != "trigger-missing" else "stopped"]
    assert made.release.value is not None
    rec = made.release.value
    if situation == "trigger-missing":
        rec = replace(rec, release=replace(rec.release, unmet=(trigger,)))
    made = replace(made, release=replace(made.release, value=rec))
    with_file = replace(made, plan=replace(made.plan, file=PLAN_FILE))
    for board_of, is_known in ((made, False), (with_file, True)):
        app = ZddApp(FixedSource(board_of, answers=dict(ANSWERS)), clock=FixedClock())
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.pause()
            await pilot.press(*keys.split())
            await pilot.pause()
            text = " ".join(re.sub("[│┃]", " ", screen_text(app)).split())
        assert not is_known or not PLACEHOLDER.search(text), text
        if (situation, keys) in (("done", ""), ("trigger-missing", ""), ("trigger-missing", "e")):
            command = "zdd agent --new" if situation == "done" else "then zdd status"
            assert f"{command} {PLAN_FILE if is_known else 'PLAN'}" in text, text
