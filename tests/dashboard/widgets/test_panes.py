"""Keys of the panes: focus, maximised pane, and actions."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from textual import events

from tests.dashboard.screens.test_actions import keys
from tests.dashboard.screens.test_keys import AppDriver
from tests.dashboard.widgets.test_layout import many
from tests.support.incident_states import incident_situations
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, FixedClock, FixedSource, dashboard_situations, metric_history
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.state import Observed
from zdd_tui.dashboard.widgets.bars.footer import shorten_keys
from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.dashboard.widgets.panes.charts import ChartPane
from zdd_tui.dashboard.widgets.panes.pane import Pane
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.actions import ACTIONS
from zdd_tui.model.plan.base import BackfillOfTables
from zdd_tui.model.queries import MetricHistoryQuery
from zdd_tui.model.release.fills import list_fills

BOARDS = dashboard_situations() | guard_situations()
PANES = {"1": "pods", "2": "backfill", "3": "flags", "4": "guard", "5": "events"}


def focused_pane(desk: AppDriver) -> str:
    """The pane with the focus, or whose filter has it."""
    focused = desk.app.screen.focused
    assert focused is not None
    return next(node.pane_name for node in focused.ancestors_with_self if isinstance(node, Pane))


def visible_panes(desk: AppDriver) -> list[str]:
    return [pane.pane_name for pane in desk.app.screen.query(Pane) if pane.display]


async def test_the_digit_in_a_title_focuses_the_pane() -> None:
    async with AppDriver(BOARDS["guard-pass"]) as desk:  # at 80x24 the backfill gives way to the guard
        assert visible_panes(desk) == ["pods", "flags", "guard", "events"]
        for key in "1345":
            assert f"━ {key}:{PANES[key]}" in await desk.press(key)
            assert focused_pane(desk) == PANES[key]
        assert len(visible_panes(desk)) == 4


async def test_a_pane_without_a_place_is_maximised_until_another_is_focused() -> None:
    async with AppDriver(BOARDS["guard-pass"]) as desk:
        assert "━ 2:backfill" in await desk.press("2")
        assert visible_panes(desk) == ["backfill"]
        await desk.press("4")
        assert visible_panes(desk) == ["pods", "flags", "guard", "events"]
        assert focused_pane(desk) == "guard"
        await desk.press("2", "escape")
        assert len(visible_panes(desk)) == 4


async def test_digits_and_tab_maximise_another_pane_while_one_is_maximised() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("5", "z")
        assert visible_panes(desk) == ["events"]
        await desk.press("1")
        assert visible_panes(desk) == ["pods"]
        await desk.press("tab")
        assert visible_panes(desk) == ["backfill"]
        await desk.press("shift+tab", "shift+tab")
        assert visible_panes(desk) == ["events"]
        await desk.press("z")
        assert visible_panes(desk) == ["pods", "backfill", "flags", "events"]
        assert focused_pane(desk) == "events"


async def test_tab_cycles_through_the_panes() -> None:
    async with AppDriver("backfill") as desk:
        names = []
        for _ in range(5):
            await desk.press("tab")
            names.append(focused_pane(desk))
        assert names == ["pods", "backfill", "flags", "events", "pods"]
        await desk.press("shift+tab")
        assert focused_pane(desk) == "events"
        await desk.press("escape", "shift+tab")
        assert focused_pane(desk) == "events"


async def test_queued_keys_reach_the_pane_that_the_previous_key_focused() -> None:
    async with AppDriver("backfill") as desk:
        for key in "1s5z/ref":
            desk.app.post_message(events.Key("slash" if key == "/" else key, key))
        for _ in range(3):
            await desk.pilot.pause()
        assert visible_panes(desk) == ["events"]
        assert "/ref" in desk.screen
        assert "1 of 4" in desk.screen


async def test_a_row_is_opened_by_keys_typed_ahead() -> None:
    async with AppDriver(BOARDS["guard-pass"]) as desk:
        for key in ("4", "down", "enter"):
            desk.app.post_message(events.Key(key, None))
        for _ in range(5):
            await desk.pilot.pause()
        assert "guard rule p99" in desk.screen


async def test_without_a_focus_table_keys_act_on_the_pods() -> None:
    async with AppDriver("gates") as desk:
        assert "7 of 7" in await desk.press("slash")
        assert focused_pane(desk) == "pods"
        assert "1 of 7" in await desk.press(*"ccccc")
        await desk.press("escape", "escape")
        assert desk.app.screen.focused is None
        await desk.press("z")
        assert visible_panes(desk) == ["pods"]


async def test_a_missing_pane_or_action_shows_why() -> None:
    async with AppDriver("backfill") as desk:
        assert "this plan has no guard" in await desk.press("4")
        assert desk.app.screen.focused is None
        assert "sort: the pane backfill has no rows" in await desk.press("2", "s")


async def test_the_palette_focuses_panes_and_acts_in_them_from_any_screen() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("T", "colon", *"to events", "enter")
        await desk.pilot.pause()
        assert len(desk.app.screen_stack) == 1
        assert focused_pane(desk) == "events"
        await desk.press("colon", *"zoom", "enter")
        await desk.pilot.pause()
        assert visible_panes(desk) == ["events"]
        assert "✗ this plan has no guard" in await desk.press("colon", *"to guard")


@pytest.mark.parametrize("action", [each.id for each in ACTIONS if each.is_pane_action])
async def test_help_palette_and_keymap_have_every_key_of_the_panes(action: str) -> None:
    each = next(each for each in ACTIONS if each.id == action)
    async with AppDriver("backfill", keys=keys({action: "f9"})) as desk:
        await desk.press("question_mark")
        lines = desk.app.screen.query_one(PageView).plain_text().splitlines()
        assert [line for line in lines if line.startswith(f"f9      {each.label} ") and each.help[:20] in line]
        await desk.press("escape", "colon")
        lines = desk.app.screen.query_one(PageView).plain_text().splitlines()
        assert [line for line in lines if line[2:].startswith(f"f9      {each.label} ")]


async def test_a_remapped_key_focuses_the_pane_and_is_shown_in_its_title() -> None:
    async with AppDriver("backfill", keys=keys({"to-events": "f5", "to-flags": [], "maximise": "x"})) as desk:
        assert "f5:events" in desk.screen
        assert "─ flags ─" in desk.screen
        await desk.press("5", "3")
        assert desk.app.screen.focused is None
        await desk.press("f5", "x")
        assert visible_panes(desk) == ["events"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("1 2 3 4 5 6", "1-6"),
        ("1 2 3 5 6", "1-3 5 6"),
        ("1 4 5 6", "1 4-6"),
        ("1 2", "1 2"),
        ("3 2 1", "3 2 1"),
        ("1 2 3 f4 5", "1-3 f4 5"),
        ("10 11 12", "10 11 12"),
        ("[ ]", "[ ]"),
        ("9 - 0", "9 - 0"),
    ],
)
def test_the_footer_shortens_consecutive_digits(keys: str, expected: str) -> None:
    assert shorten_keys(keys.split()) == expected


@pytest.mark.parametrize(("picture", "size"), [("few", "160x50"), ("few", "200x60"), ("many", "200x60")])
async def test_picture_of_a_wide_screen(picture: str, size: str, same_as_before: Callable[[str, str], None]) -> None:
    made = BOARDS["guard-backfill"]
    app = ZddApp(FixedSource(made if picture == "few" else many(made, 500)), clock=FixedClock())
    width, _, rows = size.partition("x")
    async with app.run_test(size=(int(width), int(rows)), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        same_as_before(f"{picture}-pods-{size}", screen_text(app))


async def test_a_pane_without_rows_is_maximised_when_it_is_focused() -> None:
    app = ZddApp(FixedSource(BOARDS["gates"]), clock=FixedClock())
    async with app.run_test(size=(80, 12), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert "3:flags" not in screen_text(app)
        await pilot.press("3")
        await pilot.pause()
        assert "━ 3:flags" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "1:pods" in screen_text(app)


async def test_charts_that_get_a_place_by_a_resize_are_read_at_once() -> None:
    source = FixedSource(BOARDS["guard-backfill"], answers={MetricHistoryQuery: metric_history()})
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.resize_terminal(120, 36)
        await pilot.pause()
        await pilot.pause()
        assert "… reading" not in screen_text(app)


async def test_charts_have_their_age_and_are_grey_once_their_source_is_silent_for_3_seconds() -> None:
    source = FixedSource(BOARDS["guard-backfill"], answers={MetricHistoryQuery: metric_history()})
    clock = FixedClock()
    app = ZddApp(source, clock=clock)

    def has_colours() -> bool:
        lines = app.screen.query_one(ChartPane).all_lines()
        return any(style is not TextStyle.DIM for line in lines for text, style in line if text.strip())

    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        assert "charts · " in screen_text(app)
        assert has_colours()
        clock.seconds += 3.5
        app.repaint()
        await pilot.pause()
        assert "charts STALE 9s" in screen_text(app)
        assert not has_colours()


async def test_a_chart_of_a_rule_without_data_says_so() -> None:
    source = FixedSource(BOARDS["guard-unknown"], answers={MetricHistoryQuery: metric_history()})
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(200, 50), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        assert "? p99  " in screen_text(app)


async def test_both_flags_are_visible_while_redis_does_not_answer_in_cutover() -> None:
    app = ZddApp(FixedSource(incident_situations()["redis-frozen"]), clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        shown = screen_text(app)
        assert "write ? was on" in shown
        assert "read  ? was 25%" in shown


async def test_a_pane_with_room_for_one_flag_shows_the_wrong_one_else_that_of_the_reads() -> None:
    source = FixedSource(BOARDS["stale"])
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        shown = screen_text(app)
        assert "1-1 of 2" in shown
        assert "read  ? was off" in shown
        assert "write" not in shown.split("3:flags")[1].split("5:events")[0]
        flags = BOARDS["stale"].flags
        assert flags.value is not None
        wrong = [replace(flag, problem="no JSON") if flag.role == "write" else flag for flag in flags.value]
        source.set_board(replace(BOARDS["stale"], flags=replace(flags, value=tuple(wrong), error="")))
        await pilot.pause(0.3)
        assert "write: no JSON" in screen_text(app)


def pane_colours(pane: Pane, wanted: str) -> set[TextStyle]:
    """The styles of the rows with a text; there must be some."""
    lines = [line for line in pane.all_lines() if wanted in "".join(text for text, _ in line)]
    assert lines, pane.plain_text()
    return {style for line in lines for text, style in line if text.strip()}


@pytest.mark.parametrize(
    ("situation", "silent", "row"),
    [
        ("canary", "second_workload", "canary new"),
        ("canary", "workload", "stable old"),
        ("blue-green", "second_workload", "green "),
    ],
)
async def test_pods_of_a_deployment_whose_watch_alone_is_silent_are_as_old_as_that(
    situation: str, silent: str, row: str
) -> None:
    start = BOARDS[situation]
    side, other = row.split(maxsplit=1)[0], start.plan.deployment_roles[silent == "workload"][0]
    async with AppDriver(start) as desk:
        pane = desk.app.screen.query_one(PodPane)
        current = {"release", "workload", "second_workload", "flags"} - {silent}
        assert pane_colours(pane, row) != {TextStyle.DIM}
        desk.clock.seconds += 10.0
        alive = {name: replace(getattr(start, name), observed_at=desk.clock.seconds) for name in current}
        await desk.set_board(replace(start, **alive))
        assert f"1:pods {side} STALE 11s" in desk.screen
        assert pane.has_class("-stale")
        assert pane_colours(pane, row) == {TextStyle.DIM}
        assert pane_colours(pane, f"{other} ") != {TextStyle.DIM}
        ages = pane.cell_context(desk.source.current, desk.app.render_context())
        assert abs(ages.clocks[0] - ages.clocks[1]) == 8.0, "its clock stops three seconds after the last reading"
        await desk.set_board(replace(start, **alive | {silent: replace(getattr(start, silent), observed_at=1011.0)}))
        assert "STALE" not in desk.screen
        assert pane_colours(pane, row) != {TextStyle.DIM}


async def test_a_loss_is_drawn_when_the_age_is_reached_and_not_at_the_next_second() -> None:
    async with AppDriver("gates") as desk:
        pane = desk.app.screen.query_one(PodPane)
        desk.clock.seconds = MONOTONIC + 3.0
        await desk.set_board(desk.source.current)
        assert "✔ Kubernetes <3s" in desk.screen
        assert pane_colours(pane, "Serving") != {TextStyle.DIM}
        desk.clock.seconds += 0.05
        await desk.set_board(desk.source.current)
        assert "✗ Kubernetes 3s" in desk.screen
        assert "pods STALE 3s" in desk.screen
        assert pane_colours(pane, "Serving") == {TextStyle.DIM}


async def test_a_tables_own_limits_are_in_its_row_and_below_those_of_the_release_in_the_dialog() -> None:
    made = BOARDS["operations"]
    record = made.release.value
    assert record is not None
    table = next(fill.table for fill in list_fills(record) if fill.is_current)
    limits = BackfillOfTables.model_validate({"tables": {table: {"speed": 50, "max_rows_per_second": 1000}}})
    release = replace(record.release, tuning=((f"{table}:speed", 25),))
    made = replace(made, release=Observed(replace(record, plan_limits=limits, release=release), MONOTONIC))
    async with AppDriver(made) as desk:
        await desk.pilot.resize_terminal(120, 40)
        pane = (await desk.press("2", "enter")).splitlines()
        assert any("▶ " in line and "speed 25%, max_rows_per_second 1k" in line for line in pane), pane
        await desk.press("escape")
        assert f"tuned: {table}: speed 25% (plan: 50%)" in desk.screen
        dialog = await desk.press("t")
        assert f"zdd tune PLAN {release.strategy.filled_tables[0]}:speed=50" in dialog
        assert f"{table}: speed 25% (plan: 50%)" in dialog
        assert f"{table}: max_rows_per_second 1k" in dialog
        assert "speed 100% 100%" in " ".join(dialog.split())  # of the release
