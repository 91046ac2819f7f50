"""Tables in use: cursor, sorting, filter, maximised pane, opened rows."""

import re
from dataclasses import replace

from textual import events
from textual.message import Message

from tests.dashboard.screens.test_details import opened
from tests.dashboard.screens.test_keys import AppDriver
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, board, dashboard_situations, pod, record, release, workload
from tests.support.states import events as audit_events
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.panes.backfill import FailedRowsPane
from zdd_tui.dashboard.widgets.panes.events import EventPane
from zdd_tui.dashboard.widgets.panes.filter import MAX_LENGTH, FilterInput
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.workload.pod import Pod, PodState

NAMES = [f"{letter * 5}" for letter in "abcdefghijklmnop"]


def many(*names: str, **changes: object) -> list[Pod]:
    return [
        replace(
            pod(name, "2" if number % 2 else "1", PodState.SERVING, restarts=number),
            labels={"tier": "web" if number % 2 else "db"},
            **changes,  # type: ignore[arg-type]
        )
        for number, name in enumerate(names)
    ]


def with_pods(pods: list[Pod], start: DashboardState | None = None) -> DashboardState:
    return replace(start or dashboard_situations()["open"], workload=Observed(workload(pods), MONOTONIC))


def cursor(screen: str) -> str:
    """The name of the row under the cursor."""
    found = re.search(r"▸(\S+)", screen)
    return found[1] if found else ""


async def test_the_cursor_stays_on_its_pod_and_enter_opens_that_one() -> None:
    pods = many(*NAMES)
    async with AppDriver(with_pods(pods)) as desk:
        pane = desk.app.screen.query_one(PodPane)
        opened: list[RowSelected] = []
        post = pane.post_message

        def spy(message: Message) -> bool:
            if not isinstance(message, RowSelected):
                return post(message)
            opened.append(message)
            return True

        pane.post_message = spy  # type: ignore[method-assign]
        assert cursor(desk.screen) == ""
        assert cursor(await desk.press("tab", "down", "down", "j", "k")) == "users-api-ccccc"
        # Others come before it, and it moves itself: it fails.
        pods[2] = replace(pods[2], reason="OOMKilled", state=PodState.STARTING)
        await desk.set_board(with_pods([*many("00000", "11111"), *pods]))
        assert cursor(desk.screen) == "users-api-ccccc"
        await desk.press("enter")
        assert [(each.pane, each.identity) for each in opened] == [("pods", "ccccc")]
        assert opened[0].row is pods[2]
        # It goes: the one behind it gets the cursor, and what opens is never a pod that is gone.
        await desk.set_board(with_pods([each for each in pods if each.uid != "ccccc"]))
        assert pane.selected_row is not None
        assert pane.selected_row.pod.uid == "aaaaa"
        assert pane.text_under_cursor().startswith("users-api-aaaaa")
        await desk.set_board(with_pods([]))
        assert "no pods" in desk.screen
        assert pane.selected_row is None
        await desk.press("enter")
        assert len(opened) == 1


async def test_any_column_sorts_both_ways_and_is_marked() -> None:
    pods = many(*NAMES[:5])
    pods[3] = replace(pods[3], restarts=99)
    async with AppDriver(with_pods(pods)) as desk:
        pane = desk.app.screen.query_one(PodPane)

        def names() -> str:
            return "".join(re.findall(r"users-api-([a-e])", pane.plain_text()))

        await desk.press("tab")
        assert "POD▲" in await desk.press("s")
        assert names() == "abcde"
        assert "POD▼" in await desk.press("S")
        assert names() == "edcba"
        assert "VERSIO▲" in await desk.press("s")
        assert names() == "acebd"  # stable: by name within a version
        while "▲restarts" not in await desk.press("s"):  # the column has no room; it sorts all the same
            pass
        await desk.press("S")
        assert names()[0] == "d"
        for _ in range(9):
            await desk.press("s")
            if "▲" not in f"{pane.plain_text()}{pane.position_text()}":
                break
        assert names() == "abcde"


async def test_a_filter_shows_count_and_error_and_takes_every_letter() -> None:
    async with AppDriver(with_pods(many(*NAMES))) as desk:
        await desk.press("tab", "down", "down")
        assert "16 of 16" in await desk.press("slash")
        assert isinstance(desk.app.screen.focused, FilterInput)
        assert desk.screen.splitlines()[-1].strip() == "Enter keep filter  Esc clear filter  ctrl+r rollback"
        # Letters that are keys elsewhere are letters here.
        assert "0 of 16" in await desk.press(*"paRq")
        assert "no row matches" in desk.screen
        assert not desk.source.sent_commands
        assert "16 of 16" in await desk.press("ctrl+u")
        assert "8 of 16" in await desk.press(*"ver:1")
        wrong = await desk.press("space", *"pod:[")
        assert "✗ pattern “[”" in wrong
        assert "8 of 16" in wrong  # the filter before it stays
        assert "2 of 16" in await desk.press(*"ce]{5}")
        assert cursor(desk.screen) == "users-api-ccccc"
        assert "/ver:1 pod:[ce]{5}" in await desk.press("enter")
        assert "R rollback" in desk.screen.splitlines()[-1]
        assert "1 of 16" in await desk.press("slash", "space", *"label:tier=db", "space", *"!ccc", "enter")
        assert cursor(desk.screen) == "users-api-eeeee"  # its own row is hidden: the next one that is not
        # New rows pass through it.
        await desk.set_board(with_pods([*many(*NAMES), *many("ecece", "zzzzz")]))
        assert "2 of 18" in desk.screen
        assert "of 18 " not in (await desk.press("escape")).replace("of 18 ↕", "")
        assert cursor(desk.screen) == "users-api-eeeee"
        assert "1 of 18" in await desk.press("slash", *"zzz")
        assert "of 18 " not in (await desk.press("escape")).replace("of 18 ↕", "")


async def test_a_filter_is_edited_like_text_and_stays_when_the_focus_moves() -> None:
    async with AppDriver(with_pods(many(*NAMES))) as desk:
        await desk.press("1", "slash")
        field = desk.app.screen.query_one(FilterInput)
        field.post_message(events.Paste("label:tier=db\n\x1bcccc"))
        await desk.pilot.pause()
        assert field.value == "label:tier=db cccc"
        assert "1 of 16" in await desk.press("c")
        assert "0 of 16" in await desk.press("home", "!", "end")
        assert "1 of 16" in await desk.press("home", "delete")
        assert cursor(await desk.press("up")) == "users-api-ccccc", "other keys keep their meaning"
        assert "1 of 16" in await desk.press("tab")
        assert not field.display
        assert "16 of 16" in await desk.press("1", "slash", "end", "ctrl+u")
        field.post_message(events.Paste("x" * (MAX_LENGTH + 1)))
        await desk.pilot.pause()
        assert len(field.value) == MAX_LENGTH


async def test_a_pane_is_maximised_and_restored() -> None:
    text = audit_events(*[("phase", f"event {number}", "") for number in range(60)])
    names = NAMES[:14]
    made = with_pods(many(*names), board(record(release(ReleaseState.PLANNED), events=text)))
    async with AppDriver(made) as desk:
        before = desk.screen
        alone = await desk.press("tab", "z")
        assert all(name in alone for name in names)
        assert "node-1" in alone  # there is room for it now
        assert "events" not in alone
        assert "PLANNED" in alone  # what the release does stays in sight
        assert "rollback" in alone
        assert "events" in await desk.press("z")
        for pane in desk.app.screen.query(Pane):
            pane.focus()
            assert f":{pane.pane_name} " in (await desk.press("z")).split("┏━ ")[1][:20]
            assert (await desk.press("escape")).count("╭─") >= 2
        desk.app.screen.query_one(EventPane).focus()
        assert "event 0" in await desk.press("end")
        # A row at a time, and its cursor follows the event while newer ones come.
        assert cursor(await desk.press("z")) == "03:11:01"
        await desk.press("z", "escape")
        assert desk.app.screen.focused is None
        assert [line[:40] for line in desk.screen.splitlines()][:5] == [line[:40] for line in before.splitlines()][:5]


async def test_failed_rows_are_a_table_below_the_backfill() -> None:
    app, _, screen = opened("backfill")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(screen())
        for _ in range(3):
            await pilot.pause()
        failed_rows = app.screen.query_one(FailedRowsPane)
        assert "4711" in screen_text(app)
        assert "1 row failed" in screen_text(app)
        await pilot.press("tab", "slash", *"reason:null", "enter")
        await pilot.pause()
        assert failed_rows.selected_row is not None
        assert failed_rows.selected_row.key == ["4711"]
        assert "1 of 1" in screen_text(app)


async def test_scrolled_events_count_the_newer_ones_and_return_to_the_newest() -> None:
    def with_events(count: int, at: float) -> DashboardState:
        made = record(
            release(ReleaseState.PLANNED), events=audit_events(*[("step", f"e{n}e", "") for n in range(count)])
        )
        return replace(board(made), release=Observed(made, at))

    async with AppDriver(with_events(30, MONOTONIC)) as desk:
        assert "newer" not in await desk.press("5")
        assert "newer" in await desk.press("end")
        assert "e0e" in desk.screen
        before = int(re.search(r"(\d+) newer ↑", desk.screen)[1])  # type: ignore[index]
        desk.clock.seconds += 30
        await desk.set_board(with_events(42, desk.clock.seconds))
        assert f"{before + 12} newer ↑" in desk.screen
        await desk.press("up")  # it is being read
        desk.clock.seconds += 50
        await desk.set_board(with_events(42, desk.clock.seconds))
        assert f"{before + 12} newer ↑" in desk.screen
        desk.clock.seconds += 61
        await desk.set_board(with_events(42, desk.clock.seconds))
        await desk.pilot.pause()
        assert "newer" not in desk.screen
        assert "▸" in next(line for line in desk.screen.splitlines() if "e41e" in line)
