"""Keys: what they send, and their confirmations and errors."""

import asyncio
import re
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.keymap import DashboardKeys
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import Lease
from zdd_tui.model.release.state import CommandKind, Precondition, ReleaseState

_ROLLBACK_SITUATIONS = [
    "planned",
    "lock",
    "backfill",
    "paused",
    "gates",
    "open",
    "failed",
    "contract",
    "no-agent",
    "stale",
]


class AppDriver:
    """Drives an application on a fixed source."""

    def __init__(
        self,
        situation: str | DashboardState,
        *,
        read_only: bool = False,
        unlocked: bool = True,
        keys: DashboardKeys | None = None,
    ) -> None:
        self.source = FixedSource(dashboard_situations()[situation] if isinstance(situation, str) else situation)
        self.clock = FixedClock()
        self.app = ZddApp(self.source, clock=self.clock, read_only=read_only, keys=keys)
        if unlocked:
            self.app.action_controller.access = self.app.action_controller.access.unlock(self.clock.seconds)
        self._running = self.app.run_test(size=(80, 24), notifications=True, tooltips=True)
        self.pilot: Pilot[int]

    async def __aenter__(self) -> "AppDriver":
        self.pilot = await self._running.__aenter__()
        await self.pilot.pause()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(*error)  # type: ignore[arg-type]

    async def press(self, *keys: str) -> str:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        return self.screen

    async def answer_command(self, status: str, outcome: str) -> str:
        self.source.answer(status, outcome)
        await self.pilot.pause()
        return self.screen

    async def set_board(self, board: DashboardState) -> None:
        self.source.current = board
        self.app.repaint()
        await self.pilot.pause()

    @property
    def screen(self) -> str:
        return screen_text(self.app)

    @property
    def footer(self) -> str:
        return self.screen.splitlines()[-1]


async def test_advance_shows_what_will_run_and_sends_what_was_seen() -> None:
    async with AppDriver("open") as desk:
        requested = await desk.press("a")
        assert "SET ff:users_full_name_write true" in requested
        assert "zdd@db.shop:5432/shop" in requested
        assert not desk.source.sent_commands
        after = await desk.press("enter")
        sent = desk.source.sent_commands[0]
        assert sent.kind is CommandKind.ADVANCE
        assert (sent.expected, sent.typed) == (
            Precondition("hash-1", ReleaseState.WAITING, 0, (("users-api", "d"),)),
            None,
        )
        assert desk.source.sent_commands[-1].targets[0] == "rollout-v2: roll out V2"
        assert "… advance queued 0s ago, not accepted by the agent yet" in after
        assert "… advance accepted by the agent: dual-write begins" in await desk.answer_command(
            "done", "dual-write begins"
        )


async def test_escape_cancels() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a", "escape")
        assert not desk.source.sent_commands
        assert "AWAITING APPROVAL" in desk.screen


async def test_a_refusal_is_shown_in_full() -> None:
    reason = (
        "gates are not open: serving-v3 fail: 2 of 4 pods are v2; no-older-pod unknown: STALE 32s: 2 older pods "
        "(wait until every gate passes)"
    )
    async with AppDriver("open") as desk:
        await desk.press("a", "enter")
        shown = await desk.answer_command("refused", reason)
        assert f"✗ advance refused: {reason}" in " ".join(shown.replace("┃", " ").split())
        details = await desk.press("e")
        assert "✗ advance refused" in details


async def test_a_command_that_the_rules_refuse_is_not_sent() -> None:
    async with AppDriver("gates") as desk:
        assert "advance" not in desk.footer
        shown = " ".join((await desk.press("a")).split())
        assert "✗ advance refused: gates are not open: serving-v3 fail" in shown
        assert not desk.source.sent_commands


async def test_an_advance_without_an_agent_is_refused_for_that_and_names_the_key() -> None:
    gates = dashboard_situations()["gates"]
    record = gates.release.value
    assert record is not None
    for lease in (None, Lease(4, "agent", "bastion", 1, 13.0, 3.0)):
        board = replace(gates, release=replace(gates.release, value=replace(record, lease=lease)))
        async with AppDriver(board) as desk:
            (line,) = (line for line in (await desk.press("a")).splitlines() if "advance refused" in line)
            assert re.search(r"advance refused: no agent (yet|for 1[34]s)\. A starts an agent", line)
            assert "last: " not in line


async def test_a_deployment_that_is_read_after_the_dialog_was_opened_is_no_change_of_the_state() -> None:
    ready = dashboard_situations()["open"]
    async with AppDriver(replace(ready, workload=Observed())) as desk:
        await desk.press("a")
        await desk.set_board(ready)
        assert "State changed" not in desk.screen
        await desk.press("enter")
        (sent,) = desk.source.sent_commands
        assert sent.expected == ready.build_precondition(), "with the Deployment that is on screen"


async def test_a_state_that_changed_behind_the_dialog_is_not_confirmed() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a")
        await desk.set_board(dashboard_situations()["backfill"])
        assert "State changed since this dialog was opened" in desk.screen
        await desk.press("enter")
        assert not desk.source.sent_commands
        await desk.press("escape")
        assert "RUNNING" in desk.screen


async def test_advancing_from_contract_requires_the_name() -> None:
    async with AppDriver("contract") as desk:
        assert "irreversible" in await desk.press("a")
        assert "the release name is missing" in await desk.press("enter")
        assert "“users” is not the release name" in await desk.press(*"users", "enter")
        assert not desk.source.sent_commands
        await desk.press(*"-full-name", "enter")
        sent = desk.source.sent_commands[0]
        assert (sent.kind, sent.typed) == (CommandKind.ADVANCE, "users-full-name")
        assert sent.expected == Precondition("hash-1", ReleaseState.WAITING, 4, (("users-api", "d"),))


async def test_one_key_pauses_and_resumes() -> None:
    async with AppDriver("backfill") as desk:
        assert "p pause" in desk.footer
        await desk.press("p")
        await desk.set_board(dashboard_situations()["paused"])
        assert "p resume" in desk.footer
        await desk.press("p")
        assert [request.kind for request in desk.source.sent_commands] == [CommandKind.PAUSE, CommandKind.RESUME]


@pytest.mark.parametrize(
    "situation", ["planned", "lock", "backfill", "paused", "gates", "open", "failed", "contract", "no-agent", "stale"]
)
async def test_rollback_is_one_key_and_one_confirmation(situation: str) -> None:
    async with AppDriver(situation) as desk:
        assert "R rollback" in desk.footer
        await desk.press("R", "enter")
        assert [request.kind for request in desk.source.sent_commands] == [CommandKind.ROLLBACK]


@pytest.mark.parametrize("situation", ["rolling-back", "rolled-back", "done"])
async def test_rollback_is_not_offered_where_it_has_no_effect(situation: str) -> None:
    async with AppDriver(situation) as desk:
        assert "rollback" not in desk.footer
        assert "✗ rollback refused: " in await desk.press("R")
        assert not desk.source.sent_commands


async def test_a_send_error_is_shown() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("p")
        desk.source.futures[-1].set_exception(DatabaseError("db.shop:5432 refuses connections", "check that it runs"))
        await desk.pilot.pause()
        assert "✗ pause NOT SENT: db.shop:5432 refuses connections. Fix: check that it runs" in desk.screen


async def test_a_command_without_an_agent_shows_that_none_accepts_it() -> None:
    async with AppDriver("no-agent") as desk:
        await desk.press("p")
        assert "? pause queued 0s ago; no agent for 13s" in desk.screen


async def test_read_only_has_no_mutating_keys() -> None:
    async with AppDriver("open", read_only=True) as desk:
        assert "READ-ONLY" in desk.screen
        assert desk.footer.split()[:6] == [":", "command", "?", "help", "q", "quit"]
        assert not {"advance", "pause", "rollback", "unlock"} & set(desk.footer.split())
        for key in ("a", "p", "R"):
            assert "AWAITING APPROVAL" in await desk.press(key)
        assert not desk.source.sent_commands
        assert "rollback" not in await desk.press("question_mark")


async def test_help_names_every_key() -> None:
    async with AppDriver("open") as desk:
        await desk.press("question_mark")
        shown = desk.app.screen.query_one(PageView).plain_text()
        for word in ("advance", "pause", "resume", "rollback", "details", "doctor", "help", "quit"):
            assert word in shown
        await desk.press("escape")
        assert "AWAITING APPROVAL" in desk.screen


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quit_exits_with_code_0(key: str) -> None:
    async with AppDriver("backfill") as desk:
        await desk.pilot.press(key)
        await desk.pilot.pause()
    assert desk.app.return_value == 0


async def test_ages_grow_without_updates() -> None:
    async with AppDriver("backfill") as desk:
        assert "✔ PostgreSQL <3s" in desk.screen
        desk.clock.seconds += 30
        desk.app.repaint()
        await desk.pilot.pause()
        assert "pods STALE 31s" in desk.screen
        assert "✗ PostgreSQL 31s" in desk.screen


async def test_tab_and_arrows_scroll_a_long_pane() -> None:
    async with AppDriver("gates") as desk:
        many = dashboard_situations()["gates"]
        assert many.workload.value is not None
        pods = tuple(
            replace(pod, name=f"{pod.name}-{n:02}", uid=f"{pod.uid}-{n:02}")
            for n in range(10)
            for pod in many.workload.value.pods
        )
        await desk.set_board(
            replace(many, workload=replace(many.workload, value=replace(many.workload.value, pods=pods)))
        )
        rows = int(re.search(r"1-(\d+) of 61 ↕", desk.screen)[1])  # type: ignore[index]
        await desk.press("tab")
        assert f"{62 - rows}-61 of 61 ↕" in await desk.press("end")
        assert f"{61 - rows}-60 of 61 ↕" in await desk.press(*["up"] * rows)
        assert f"1-{rows} of 61 ↕" in await desk.press("home")


async def test_only_what_changed_is_painted() -> None:
    """An invisible change paints nothing; a changed line paints that line."""
    async with AppDriver("backfill") as desk:
        painted: list[str] = []
        for widget in desk.app.screen.query("LineView"):
            before = widget.refresh

            def spy(
                *regions: object, _before: object = before, _name: str = type(widget).__name__, **rest: object
            ) -> object:
                painted.append(_name)
                return _before(*regions, **rest)  # type: ignore[operator]

            widget.refresh = spy  # type: ignore[method-assign, assignment]
            widget.request_paint = spy  # type: ignore[attr-defined]
        desk.app.repaint()
        await desk.pilot.pause()
        assert painted == []
        assert desk.source.current.release.value is not None
        backfill = desk.source.current.release.value.backfill
        assert backfill is not None
        await desk.set_board(
            replace(
                desk.source.current,
                release=replace(
                    desk.source.current.release,
                    value=replace(desk.source.current.release.value, backfill=replace(backfill, throttle="lock waits")),
                ),
            )
        )
        assert painted == ["BackfillPane"]


async def test_a_state_from_another_thread_is_painted() -> None:
    async with AppDriver("open") as desk:
        shown = asyncio.Event()
        screen = desk.app.screen
        assert isinstance(screen, ReleaseScreen)
        show, loop = screen.show, asyncio.get_running_loop()

        def spy(board: DashboardState, context: RenderContext) -> None:
            show(board, context)
            if board is desk.source.current:
                loop.call_soon(shown.set)

        screen.show = spy  # type: ignore[method-assign]
        await asyncio.to_thread(desk.source.set_board, dashboard_situations()["done"])
        async with asyncio.timeout(5):
            await shown.wait()
        await desk.pilot.pause()
        assert "DONE" in desk.screen
