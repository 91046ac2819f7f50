"""Random outages, commands and time: no line claims progress, freshness or delivery that the record does not support.

:mod:`tests.support.claims_world` knows what is really so. The texts of the screens and of `zdd status` are compared
with that; the rules of :mod:`zdd_tui.model.release.claims` are used by the texts alone.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textual.geometry import Size

from tests.support.claims_world import (
    ACTIVITY_EVERY,
    BREACH,
    FRESH,
    HISTORY_EVERY,
    KUBERNETES,
    LATE_READING,
    MAX_AGE,
    OFTEN_RULE,
    POSTGRESQL,
    PROMETHEUS,
    READ_EVERY,
    REDIS,
    SECOND,
    UNWATCHED,
    World,
    is_held,
    moves,
    serving,
)
from tests.support.states import EPOCH, MONOTONIC
from tests.support.strategy_states import guard_situations
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.dashboard.screens.confirm import confirm_fact_lines, confirm_lines
from zdd_tui.dashboard.screens.details.activity import SessionsPane, StopSessionScreen
from zdd_tui.dashboard.screens.details.base import TextFormatter, page_age
from zdd_tui.dashboard.screens.details.log import LogNews, log_status_line
from zdd_tui.dashboard.screens.details.timeline import timeline_lines
from zdd_tui.dashboard.screens.details.version_log import following_state
from zdd_tui.dashboard.screens.status_details import status_detail_lines
from zdd_tui.dashboard.screens.tune import tune_lines
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import CommandStage, command_progress_lines
from zdd_tui.dashboard.widgets.bars.gates import gate_lines
from zdd_tui.dashboard.widgets.bars.header import header_line
from zdd_tui.dashboard.widgets.bars.health import health_line
from zdd_tui.dashboard.widgets.bars.notifications import NotificationTracker, attention_items
from zdd_tui.dashboard.widgets.bars.stepper import stepper_line
from zdd_tui.dashboard.widgets.bars.summary import summary_lines
from zdd_tui.dashboard.widgets.diagrams.sources import oldest_source
from zdd_tui.dashboard.widgets.diagrams.strategy import diagram_lines
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, format_source_age
from zdd_tui.dashboard.widgets.panes.backfill import BackfillPane, backfill_lines, backfill_progress, late_batch_seconds
from zdd_tui.dashboard.widgets.panes.charts import ChartPane, last_point_observed
from zdd_tui.dashboard.widgets.panes.columns import fit_columns, row_line
from zdd_tui.dashboard.widgets.panes.events import EventPane
from zdd_tui.dashboard.widgets.panes.flags import FlagPane
from zdd_tui.dashboard.widgets.panes.fleet import (
    FleetCellContext,
    active_columns,
    fleet_detail_lines,
    measure_columns,
)
from zdd_tui.dashboard.widgets.panes.gates import GatePane, gate_columns, gates_heading, verdict_of
from zdd_tui.dashboard.widgets.panes.guard import (
    GuardPane,
    RuleAges,
    guard_columns,
    guard_heading,
    guard_readings,
    second_line,
)
from zdd_tui.dashboard.widgets.panes.pane import Pane
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.dashboard.widgets.panes.steps import build_step_rows
from zdd_tui.model.activity import list_sessions
from zdd_tui.model.queries import AuditLog, ChangeView
from zdd_tui.model.release.claims import format_silence
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.gate_rows import PhasePosition, build_gate_rows
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.rollback import RollbackHistory

MOVES = re.compile(
    r"▶ (RUNNING|running|backfill|rollback|pause|resume|verifying|move)|◀ (ROLLING|expand|dual-write|backfill)"
    r"|\d/s |ETA|No action needed|(?<!was )reverting step|accepted by the agent|running +move|verifying"
)
"""What only an agent at work can make true."""

ROWS_MOVE = re.compile(r"\d/s (?<!\b0/s )|ETA|▶ verifying|\d a second")
"""What only batches that are committed can make true."""

MOVES_IN_STATUS = re.compile(r"… (running|undoing) |a second|[▶◀] |No action needed")

HELD_BUT_MOVES = re.compile(
    r"(?m)(?<!─)▶|◀ [a-z]|\d/s |ETA|running +move|running step|running for|… (running|undoing) |\d a second|^soak: "
)
"""What is untrue of a release that an agent holds: stopped by a breach, paused or failed."""

PAST = re.compile(r"refused(?: \S+ ago)?: |\d\d:\d\d:\d\d ")
"""Of a line that says what was answered, or what was so at a time."""

COUNTS = re.compile(r"\(\d+[hms][\dms]*\)")
"""Seconds of a step that count on."""

OF_PODS = re.compile(r"\d serving|pods ready|requests ▼|rollout: |pods serving")
OF_FLAGS = re.compile(r"shadow reads|users served|reads: |flag on|flag \?")
"""Lines of a topology that are made of pods, and of flags."""

JUDGED = re.compile(
    r"(?m)✔ pass\b|✔ backfill-complete|all [0-9]+ pass\b|its gate passes|^passes|all gates pass"
    r"|(?<!LAST KNOWN: )AWAITING APPROVAL"
)
"""Verdicts that only an agent at work can give."""

PASSES = re.compile(r"✔ pass\b.*?(<3s|\b\d+[smhd])(?= |$)")
"""A verdict in a line that also has the age of its data."""

AFTER_THE_GUARD = re.compile(r"new version|to compare|✔ pass.*<3s|running +move")
"""What guard and gates say while they work."""

NO_AGENT = re.compile(r"STALLED|stalled|No agent is running|no agent (for|is running)|✗ agent(?! waits)")
"""What is untrue while an agent works."""

SHARE_OF_PODS, SHARE_BY_FLAG = (
    re.compile(r"\d+ of \d+ serving pods"),
    re.compile(r"read flag (off|\d)|\d% of (users|reads)"),
)
"""Of a confirmation: what users see now, by pods and by flags."""

CELLS = 98
"""Width of a pane."""


def headless(kind: type[Pane]) -> Any:
    """A pane without an application: what it would show in a place of this size."""

    class Drawn(kind):  # type: ignore[misc, valid-type]
        @property
        def content_size(self) -> Size:
            return Size(CELLS, 30)

        @property
        def shows_history(self) -> bool:
            return True

    return Drawn()


class Screens:
    """What is said about a world, and what was said before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.panes = {kind: headless(kind) for kind in (*SOURCES, PodPane, ChartPane, SessionsPane)}
        self.standby_pods = headless(PodPane)
        self.news = LogNews()
        self.news.observe(world.log.total, world.now)
        self.tracker = NotificationTracker()
        self.held_text: tuple[object, str] = (None, "")
        """What the timeline has said since the release was held, and by what."""

    @property
    def works(self) -> bool:
        """An agent is known to work: it has renewed its lease, and the database responds."""
        return self.world.now - self.world.renewed_at <= FRESH and self.world.silence(POSTGRESQL) <= FRESH

    @property
    def is_read(self) -> bool:
        """The release was read as often as it should be."""
        return self.world.silence(POSTGRESQL) <= LATE_READING

    def check(self) -> None:
        world, context = self.world, self.world.context
        text = self._screen_text(context)
        seen = world.seen.release
        if not self.works:
            claimed = MOVES.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although nobody is known to work:\n{text}"
            has_ended = world.state.state.has_ended
            judged = JUDGED.search(f"{text}\n{self._verdict_text(context)}") if not has_ended else None
            assert judged is None, f"{judged.group(0)!r} although nobody is known to judge:\n{text}"
            said = " ".join(text.split())  # a wrapped line, too
            assert has_ended or re.search(r"no agent for|No agent is running|state not known for", said), text
            assert not re.search("(?<!LAST KNOWN: )STOPPED", text), f"as if it were so now:\n{text}"
            if world.silence(POSTGRESQL) > FRESH:  # nor is anybody known to be away
                claimed = re.search(r"STALLED|stalled|✗ (dual-write|backfill|cutover)", text)
                assert claimed is None, f"{claimed.group(0)!r} by a silent database:\n{text}"
            told = [line for line in text.splitlines() if BREACH.text in line and not PAST.search(line)]
            assert all("last: " in line for line in told), "\n".join(told)
        elif is_held(seen) and self.is_read:
            claimed = HELD_BUT_MOVES.search(text) or COUNTS.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although the release is held:\n{text}"
            failed = seen.state is ReleaseState.FAILED
            word = "STOPPED" if seen.breach is not None else "FAILED" if failed else "PAUSED"
            assert word in text, text
        elif world.has_seen_wait and self.is_read and not seen.state.has_ended:
            claimed = HELD_BUT_MOVES.search(text) or COUNTS.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although the agent waits:\n{text}"
            assert "the agent waits for Redis: no response" in " ".join(text.split()), text
        if not world.was_away:
            claimed = NO_AGENT.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although no agent was missed:\n{text}"
        if world.now - world.copied_at > FRESH:
            claimed = ROWS_MOVE.search(text)
            assert claimed is None, f"{claimed.group(0)!r} without a batch:\n{text}"
        if seen.state.has_ended:
            claimed = AFTER_THE_GUARD.search(text)
            assert claimed is None, f"{claimed.group(0)!r} after the guard has ended:\n{text}"
        self._check_health(plain(health_line(world.shown, context, 120)))
        if world.progress is not None:
            self._check_delivery(plain(*command_progress_lines(world.progress, world.shown, context, 200)))
        self._check_notification(context)
        self._check_logs(context)
        if world.now % 1.0 == 0.0:
            self._check_ages(context)
            self._check_screens(context, seen)
            self._check_panes(context)
            self._check_pods(self.panes[PodPane], world.shown, world.watches, context)
            self._check_charts(context)
            self._check_activity(context)
            self._check_fleet(context)
            self._check_dialogs(context, seen)
            self._check_weight(plain(header_line(world.shown, context, 160)), seen)
            if world.up[POSTGRESQL]:
                self._check_status(format_status(world.record()))

    def _check_status(self, status: str) -> None:
        """What `zdd status` says, as text and as JSON."""
        world = self.world
        works = world.now - world.renewed_at <= FRESH
        if world.now - world.copied_at > FRESH:
            assert not ROWS_MOVE.search(status), f"without a batch:\n{status}"
        if not works:
            claimed = MOVES_IN_STATUS.search(status) or (
                None if world.state.state.has_ended else re.search(r"gate [a-z-]+: pass", status)
            )
            assert "STOPPED" not in status, f"as if it were so now:\n{status}"
            assert claimed is None, f"{claimed.group(0)!r} although no agent works:\n{status}"
        elif is_held(world.state):
            claimed = HELD_BUT_MOVES.search(status)
            assert claimed is None, f"{claimed.group(0)!r} although the release is held:\n{status}"
        document = status_to_dict(world.record())
        moving = works and world.moves and not (world.waits_since is not None and world.is_wait_recorded)
        assert (document["progress"] == "running") is (moving and not world.state.state.has_ended), document
        assert moving or not document["backfill"] or document["backfill"]["rows_per_second"] == 0, document
        notes = [step["note"] for step in document["steps"] if step["note"]]
        assert works or all(note.startswith("last: ") for note in notes), notes

    def _check_screens(self, context: RenderContext, seen: Release) -> None:
        """Steps, timeline and the topology of every strategy."""
        world, record, now = self.world, self.world.seen, self.world.shown.server_now(context.now)
        assert now is not None
        works, activity = self.works, world.shown.activity(context.now)
        steps = "\n".join(f"{row.glyph} {row.text} {row.label} {row.note}" for row in build_step_rows(record, activity))
        audit = AuditLog(world.seen_audit)
        drawn = timeline_lines(
            record, audit, now, context, TextFormatter(99, is_wrapped=True), gates=False, activity=activity
        )
        timeline = plain(*drawn[1:])  # its first line has the age of the release
        boards = self._boards(seen)
        topologies = [diagram_lines(board, context, 100) for board in boards]
        shown = {"steps": steps, "timeline": timeline}
        shown |= {str(number): plain(*lines) for number, lines in enumerate(topologies)}
        is_moving = works and moves(seen) and not (world.has_seen_wait and self.is_read)
        if not is_moving and not seen.state.has_ended:
            for name, text in shown.items():
                claimed = HELD_BUT_MOVES.search(text)
                assert claimed is None, f"{name}: {claimed.group(0)!r} although nothing is known to move:\n{text}"
        assert world.now - world.copied_at <= FRESH or "━▶" not in shown["0"], f"without a batch:\n{shown['0']}"
        if seen.state is ReleaseState.ROLLING_BACK:
            assert "▶ running" not in steps, f"in a rollback:\n{steps}"
        if works and self.is_read and is_held(seen) and StepStatus.STARTED in seen.statuses:
            word = "✗ stopped" if seen.breach is not None else "‖ paused"
            assert word in steps, steps
            assert word[0] in timeline, timeline
            assert seen.breach is None or "stopped: breach" in timeline, timeline
            assert world.is_canary or f"{word[0]} {seen.strategy.phases[seen.phase].name}" in shown["0"], shown["0"]
        said = ((seen, world.seen_audit), timeline if works and self.is_read and is_held(seen) else "")
        is_same = said[1] and self.held_text[1] and said[0] == self.held_text[0]
        assert not is_same or said == self.held_text, f"counts on:\n{self.held_text[1]}\n{timeline}"
        self.held_text = said
        self._check_topologies(topologies, context)
        for board in boards:
            if board.plan.is_blue_green:
                self._check_pods(self.standby_pods, board, (KUBERNETES, KUBERNETES), context)

    def _check_topologies(self, topologies: list[list[Line]], context: RenderContext) -> None:
        """What is drawn of a source that is silent is greyed, and its age is told; what is not known is no share."""
        world = self.world
        for lines in topologies:
            text = plain(*lines)
            if world.silence(POSTGRESQL) > FRESH:
                assert f"release STALE {format_age(world.silence(POSTGRESQL))}" in text, text
            for system, pattern in (*((each, OF_PODS) for each in world.watches), (REDIS, OF_FLAGS)):
                found = [line for line in lines if pattern.search(plain(line))]
                if world.silence(system) > FRESH and found:
                    assert not bright(found), f"as if {system} answered: {bright(found)}\n{text}"
                    assert f"STALE {format_age(world.silence(system))}" in text, text
            if any(flag.problem for flag in world.shown.flags.value or ()):
                is_there = not any(state in text for state in ("not created yet", "dropped by the rollback"))
                none = "none|" if is_there else ""  # what does not exist is read by none, whatever a flag has
                known = re.search(rf"% (shadow reads|users served)|reads: +({none}\d+%)", text)
                assert known is None, f"{known.group(0)!r} of flags that are not valid:\n{text}"
        age = oldest_source(world.shown, context.now).age(context.now)
        assert age == pytest.approx(max(world.silence(system) for system in world.systems))

    def _boards(self, seen: Release) -> list[DashboardState]:
        """The state for every strategy: this release, and the others as far on, with sources of the same ages."""
        world = self.world
        if world.is_canary:
            return [world.shown]
        boards = [replace(world.shown, plan=replace(world.shown.plan, change=CHANGE))]
        for made in OTHER_STRATEGIES:
            base = made.release.value
            assert base is not None
            held = {"paused": seen.paused, "unmet": seen.unmet}
            rel = replace(base.release, **held)
            if seen.state is not ReleaseState.RUNNING:
                statuses = tuple(
                    StepStatus.DONE if each is StepStatus.STARTED else each for each in base.release.statuses
                )
                rel = replace(base.release, state=ReleaseState.WAITING, statuses=statuses, **held)
            other = replace(base, release=rel, lease=world.seen.lease, now=world.seen.now, events=world.seen.events)
            changes = {
                name: replace(getattr(made, name), observed_at=world.heard_at[KUBERNETES])
                for name in ("workload", "second_workload")
            }
            views = tuple(
                replace(each, value=None, problem=problem) if problem else each
                for each in made.flags.value or ()
                for problem in {flag.problem for flag in world.shown.flags.value or ()}
            )
            boards.append(
                replace(
                    made,
                    release=Observed(other, world.heard_at[POSTGRESQL]),
                    flags=Observed(views or None, world.heard_at[REDIS]),
                    **changes,
                )
            )
        return boards

    # --- panes ---------------------------------------------------------------------------------------------------

    def _draw(self, pane: Any, board: DashboardState, context: RenderContext) -> tuple[str, list[Line]]:
        lines = list(pane.lines(board, context, CELLS))
        return pane.title(board, context), lines

    def _check_panes(self, context: RenderContext) -> None:
        """A pane says how old its source is, and shows nothing of a silent one as if it were so now."""
        world = self.world
        for kind, system in SOURCES.items():
            self._check_age_of_pane(kind, world.silence(system), FRESH, context)
        text = plain(*self._draw(self.panes[BackfillPane], world.shown, context)[1]) if not world.is_canary else ""
        tuned = re.search(r"tuned: speed (\d+)%", text)
        limits = dict(world.seen.release.tuning)
        assert tuned is None or int(tuned[1]) == limits.get("speed"), f"{limits}\n{text}"

    def _check_age_of_pane(self, kind: type[Pane], age: float, limit: float, context: RenderContext) -> None:
        title, lines = self._draw(self.panes[kind], self.world.shown, context)
        if age > limit:
            assert f"STALE {format_age(age)}" in title, f"{title}: silent for {age} s"
            assert not bright(lines), f"{title}: {bright(lines)}"
        else:
            assert "STALE" not in title, f"{title}: read {age} s ago"

    def _check_pods(self, pane: Any, board: DashboardState, watches: Sequence[str], context: RenderContext) -> None:
        """Each pod is as old as the watch that knows it; counts are those of the last news; only news move."""
        ages = [self.world.silence(each) for each in watches]
        title, lines = self._draw(pane, board, context)
        is_old = [age > FRESH for age in ages]
        if any(is_old):
            oldest = max(age for age, old in zip(ages, is_old, strict=True) if old)
            side = "" if all(is_old) else f"{board.plan.deployment_roles[is_old.index(True)][0]} "
            assert f"{side}STALE {format_age(oldest)}" in title, f"{title}: {ages}"
        else:
            assert "STALE" not in title, f"{title}: {ages}"
        for line in lines:
            text = plain(line)
            at = int(len(watches) > 1 and re.search(r"canary|green", text) is not None)
            if is_old[at]:
                assert not bright([line]), f"as if it were so now: {text}"
            elif re.search(r"-[a-z0-9]{5} ", text):
                assert bright([line]), f"as if it were old: {text}"
        seen = [source.value for source in (board.workload, board.second_workload)[: len(watches)]]
        for snapshot in seen:
            assert snapshot is not None
            view = snapshot.deployment
            assert view is not None
            count = f"{len(serving(snapshot))}/{view.desired}"
            assert count in title, f"{title}: {count}"

    def _check_charts(self, context: RenderContext) -> None:
        """The chart is as old as its last point; a value that was not measured is not shown."""
        world, pane = self.world, self.panes[ChartPane]
        pane.set_history(last_point_observed(world.history, world.shown.server_now(context.now), context.now))
        title, lines = self._draw(pane, world.shown, context)
        points = world.history.value.points[OFTEN_RULE] if world.history.value is not None else ()
        if not points or world.seen.release.state.has_ended:
            return
        age = world.server_now - points[-1].at
        limit = FRESH if not self.works else 2 * HISTORY_EVERY + FRESH
        if age > limit:
            assert f"STALE {format_age(age)}" in title, f"{title}: last point {age} s ago"
            assert not bright(lines), f"{title}: {bright(lines)}"
        head = plain(lines[0])
        values = re.search(rf"{OFTEN_RULE} +⠒ (\S+) +○ (\S+)", head)
        assert values is not None, head
        assert values.groups() == (("0.1%",) * 2 if points[-1].new is not None else ("-", "-")), head
        if self.works and world.renewed_at - world.watched_at[PROMETHEUS] > UNWATCHED + 3:
            assert re.search(rf"\? {OFTEN_RULE}", head), f"as if it were measured: {head}"

    def observe(self) -> None:
        """A log screen receives lines when they come, whenever it is looked at."""
        self.news.observe(self.world.log.total, self.world.now)

    def _check_logs(self, context: RenderContext) -> None:
        """A log is followed while Kubernetes is heard; no line is counted that was not received."""
        world = self.world
        silence = self.news.silence(world.shown.workload, context.now)
        one, all_pods = plain(log_status_line(world.log, silence)), following_state(silence, is_following=True)[0]
        for text in (one, all_pods):
            is_heard = world.silence(KUBERNETES) <= FRESH
            assert ("▶ following" in text) is is_heard, f"{text}: silent for {world.silence(KUBERNETES)} s"
            assert is_heard or format_silence(world.silence(KUBERNETES)) in text, text
        assert f"{world.log.total:,} line" in one, one

    def _check_activity(self, context: RenderContext) -> None:
        """Sessions are as old as their list."""
        world, limit = self.world, ACTIVITY_EVERY + FRESH
        found, at = world.activity.value, world.activity.observed_at
        if found is None or at is None:
            return
        rows, age = list_sessions(found.sessions), world.now - at
        self.panes[SessionsPane].stale_after = limit
        self.panes[SessionsPane].set_sessions(Observed(rows, at), found.hidden)
        self._check_age_of_pane(SessionsPane, age, limit, context)
        assert page_age(world.activity, limit, context.now)[0] == f"{format_source_age(age, stale=age > limit)} old"
        if rows:
            dialog = StopSessionScreen(world.shown, context, rows[0], at, terminate=True)
            text = plain(*dialog.page(world.shown, context, CELLS))
            assert age <= limit or f"This was so {format_silence(age)} ago" in text, text

    def _check_fleet(self, context: RenderContext) -> None:
        """A row is as old as its reading; it moves and is judged only where an agent was there at that reading."""
        world, row, age = self.world, self.world.fleet_row, self.world.now - self.world.fleet_at
        read_at = EPOCH + world.fleet_at - MONOTONIC
        lease_ends = read_at - world.fleet_lease_age + FRESH
        cells = FleetCellContext(context.wall, {}, lambda _: read_at, lambda _: lease_ends)
        line = plain(row_line(fit_columns(active_columns(measure_columns([row]), True), 160), row, cells))
        detail = plain(*fleet_detail_lines(row, cells, 160))
        if row.has_ended:
            return
        if age > FRESH:
            assert cells.is_old(row)
            assert line.startswith("? "), line
            assert f"{format_age(age)} ago" in line, line
            assert f"values of {format_silence(age)} ago" in detail, detail
        else:
            assert "ago" not in line, line
        had_agent = world.fleet_lease_age <= FRESH
        claimed = re.search(r"▶|◀|✔ pass|RUNNING|ROLLING BACK|AWAITING", line)
        assert had_agent or claimed is None, f"{claimed.group(0)!r} without an agent: {line}"
        assert not had_agent or not NO_AGENT.search(line), line
        if had_agent and not self.works:
            assert line.startswith("? "), f"no agent is known to work, as the other screens say: {line}"
        if world.fleet_waits and had_agent and not is_held(world.state):
            assert "Redis: no response" in line, line
            assert not re.search("▶|◀", line), line

    # --- messages and dialogs ------------------------------------------------------------------------------------

    def _check_notification(self, context: RenderContext) -> None:
        """Nothing is reported that is not so, and nothing at all of a database that is silent."""
        world = self.world
        items = attention_items(world.shown, context)
        text = self.tracker.pop_new_text(items)
        if world.silence(POSTGRESQL) > FRESH:
            assert items is None, items
            return
        assert items is not None
        seen = world.seen.release
        assert "no agent" not in text or world.was_away, text
        for system in READ_EVERY:
            name = KUBERNETES if system == SECOND else system
            silent = max(map(world.silence, world.watches)) if name == KUBERNETES else world.silence(system)
            assert f"lost {name}" not in text or silent > FRESH, text
            if system in world.systems and silent > FRESH and not seen.state.has_ended and self._needs(name, seen):
                assert f"lost {name}" in items, f"{name} is silent for {silent} s: {items}"
        assert f"lost {PROMETHEUS}" not in text or world.now - world.watched_at[PROMETHEUS] >= 2.0, text
        assert "stopped: " not in text or (self.works and seen.breach is not None), text
        if "approval is needed" in text:
            assert self.works, text
            assert seen.state is ReleaseState.WAITING, text
            names = [gate.name for gate in seen.gates]
            assert all(world.now - world.watched_at[world.system_of(name)] <= MAX_AGE for name in names), text
        is_overdue = world.drain_until is not None and world.drain_until <= world.heard_at[KUBERNETES]
        assert "is overdue" not in text or is_overdue, text

    @staticmethod
    def _needs(name: str, seen: Release) -> bool:
        """The phase relies on it: a canary on everything, a backfill on what dual-write has set."""
        return name != POSTGRESQL and (seen.strategy.name != "expand-contract" or seen.phase >= 1)

    def _check_dialogs(self, context: RenderContext, seen: Release) -> None:
        """A dialog that confirms says how old it is, what it does not know, and exactly what would run."""
        world, board = self.world, self.world.shown
        history = Observed(RollbackHistory(), context.now)
        for kind in (CommandKind.ROLLBACK, CommandKind.ADVANCE):
            facts = confirm_fact_lines(board, context, kind, history, 200)
            text = plain(*facts, *confirm_lines(board, kind, 200))
            self._check_dialog_age(text)
            if kind is CommandKind.ROLLBACK:
                effects = [
                    spec.label for spec, status in zip(seen.strategy.steps, seen.statuses, strict=True)
                    if status not in (StepStatus.PENDING, StepStatus.UNDONE)
                ]  # fmt: skip
                assert sorted(re.findall("undo “(.*?)”", text)) == sorted(effects), text
            elif seen.next_phase is not None and seen.state is ReleaseState.WAITING:
                assert f"run {seen.next_phase.name}" in text, text
            if max(map(world.silence, world.watches)) > FRESH:
                assert not SHARE_OF_PODS.search(text), f"as if Kubernetes answered:\n{text}"
                is_named = "Kubernetes: no response for" in text
                assert seen.state.has_ended or not self._needs(KUBERNETES, seen) or is_named, text
            if world.silence(REDIS) > FRESH:
                assert not SHARE_BY_FLAG.search(text), f"as if Redis answered:\n{text}"
        if not world.is_canary:
            text = plain(*tune_lines(board, context, CELLS, 0, {}))
            self._check_dialog_age(text)
            effective = re.search(r"speed +(\d+)%", text)
            assert effective is not None
            assert int(effective[1]) == dict(seen.tuning).get("speed", 100), text

    def _check_dialog_age(self, text: str) -> None:
        silence = self.world.silence(POSTGRESQL)
        assert ("as of " in text) is (silence > FRESH), f"read {silence} s ago:\n{text}"
        assert silence <= FRESH or f"as of {format_silence(silence)} ago" in text, text

    def _check_weight(self, header: str, seen: Release) -> None:
        """Of a canary: the weight that the steps have set, and the real one while both Deployments are heard."""
        world = self.world
        found = re.search(r"weight (\d+)%, real (\S+) of serving pods", header)
        if not world.is_canary or seen.state.has_ended:
            assert found is None, header
            return
        assert found is not None, header
        acts = [
            spec for spec, status in zip(seen.strategy.steps, seen.statuses, strict=True)
            if status not in (StepStatus.PENDING, StepStatus.UNDONE)
        ]  # fmt: skip
        weight = max((spec.value or 0 for spec in acts if spec.registry_key == "set-weight"), default=0)
        is_promoted = weight == 50 and any(spec.registry_key == "rollout-new" for spec in acts)
        assert int(found[1]) == (100 if is_promoted else weight), header
        if max(map(world.silence, world.watches)) > FRESH:
            assert found[2] == "?", f"as if Kubernetes answered: {header}"
        else:
            first, second = world.shown.workload.value, world.shown.second_workload.value
            assert first is not None
            assert second is not None
            pods = [*serving(first), *serving(second)]
            new = sum(each.image == world.shown.plan.new_image for each in pods)
            assert found[2] == f"{100 * new / len(pods):.0f}%", header

    def _verdict_text(self, context: RenderContext) -> str:
        """What the panes of gates and guard say of the current phase."""
        world, now = self.world, self.world.shown.server_now(context.now)
        assert now is not None
        rows = [row for row in build_gate_rows(world.seen, now) if not row.has_passed]
        rules = guard_readings(world.shown, now)
        return "\n".join(
            (
                gates_heading(world.shown, context),
                guard_heading(rules),
                *(f"{verdict_of(row)[0]} {row.status_text} {row.gate.name}" for row in rows),
                *(f"{VERDICT_GLYPHS[rule.verdict][0]} {rule.verdict} {rule.rule}" for rule in rules),
            )
        )

    def _check_ages(self, context: RenderContext) -> None:
        """Each verdict has the age of its data, wherever it is, and none counts whose data are too old."""
        world, record, now = self.world, self.world.seen, self.world.shown.server_now(context.now)
        assert now is not None
        if record.release.state.has_ended:
            return
        rows = [row for row in build_gate_rows(record, now) if row.position is PhasePosition.PRESENT]
        ages = RuleAges(now, {})
        rules = [rule for rule in guard_readings(world.shown, now) if rule.rule == OFTEN_RULE]
        rules_fitted = fit_columns(guard_columns(rules, 100), 100)
        gates_fitted = fit_columns(gate_columns(rows, 100), 100)
        lines = [(row.gate.name, row_line(gates_fitted, row, now)) for row in rows]
        lines += [(OFTEN_RULE, row_line(rules_fitted, rule, ages)) for rule in rules]
        if record.release.state is ReleaseState.WAITING and record.release.last_breach is None:  # a line for each
            names = [gate.name for gate in record.release.gates]
            lines += zip(names, gate_lines(world.shown, context, 100, limit=len(names)), strict=True)
        for name, line in lines:
            system = PROMETHEUS if name == OFTEN_RULE else world.system_of(name)
            true = world.now - world.watched_at[system]
            found = PASSES.search(plain(line))
            if "✔ pass" in plain(line):
                assert found is not None, f"a verdict without its age: {plain(line)}"
            if found is not None and true > FRESH:
                assert true <= MAX_AGE, f"passes by data of {true} s: {plain(line)}"
                assert found[1] != "<3s", f"by data of {true} s: {plain(line)}"
                assert int(found[1][:-1]) >= int(true), f"by data of {true} s: {plain(line)}"

    def _screen_text(self, context: RenderContext) -> str:
        world, shown, activity = self.world, self.world.shown, self.world.shown.activity(context.now)
        record, now = world.seen, shown.server_now(context.now) or 0.0
        lines = [
            header_line(shown, context, 80),
            stepper_line(shown, 80, activity),
            *summary_lines(shown, context, 80),
            *gate_lines(shown, context, 80),
            *backfill_lines(
                record.backfill,
                60,
                progress=backfill_progress(shown, context),
                idle=record.backfill.idle_seconds(now) if record.backfill is not None else 0.0,
                late=late_batch_seconds(shown, context),
            ),
            *(second_line(rule, (), 80) for rule in guard_readings(shown, now)),
            *status_detail_lines(shown, context, 80, world.progress),
        ]
        if world.progress is not None:
            lines += command_progress_lines(world.progress, shown, context, 80)
        return plain(*lines)

    def _check_health(self, line: str) -> None:
        world = self.world
        said = {name: (glyph, age) for glyph, name, age in re.findall(r"([✔✗?○]) (\w+) (\S+)", line)}
        for system in (POSTGRESQL, REDIS, KUBERNETES):
            age = max(map(world.silence, world.watches)) if system == KUBERNETES else world.silence(system)
            assert said[system] == (("✔", "<3s") if age <= FRESH else ("✗", format_age(age))), (line, age)
        if said["agent"][0] == "✔":
            assert self.works, line
        probe = world.seen.metrics_probe
        assert probe is not None
        assert probe.answered_at is not None
        silence = world.server_now - probe.answered_at
        if said[PROMETHEUS][0] == "✔":
            assert self.works, line
            assert silence <= FRESH, f"{line}: silent for {silence} s"
        elif said[PROMETHEUS][0] == "✗":
            assert silence >= 2.0, f"{line}: answered {silence} s ago"
            assert said[PROMETHEUS][1] == format_age(silence), f"{line}: answered {silence} s ago"
        elif not world.seen.release.state.has_ended:
            assert not (self.works and self.is_read and world.had_agent), line

    def _check_delivery(self, line: str) -> None:
        world = self.world
        assert world.request is not None
        assert world.progress is not None
        row = world.find(world.request.request_id)
        if re.search(r" queued |accepted", line):
            assert row is not None, f"not in the database: {line}"
        if world.progress.is_unsent and world.now - world.progress.sent_at > FRESH:
            assert "NOT SENT" in line
        if world.request.request_id in world.given_up and row is None:
            assert "NOT SENT" in line, f"lost silently: {line}"
        if world.progress.stage is CommandStage.SUCCEEDED and world.progress.since == world.now:
            self._check_success(line)

    def _check_success(self, line: str) -> None:
        """A command has succeeded once the agent has accepted it, and the record has its effect."""
        world, seen = self.world, self.world.seen.release
        assert world.request is not None
        row = world.find(world.request.request_id)
        assert row is not None, f"not in the database: {line}"
        assert row.status == "done", f"not accepted: {line}"
        match world.request.kind:
            case CommandKind.PAUSE | CommandKind.RESUME:
                assert seen.paused is (world.request.kind is CommandKind.PAUSE), line
            case CommandKind.TUNE:
                assert dict(seen.tuning) == dict(world.request.tuning or {}), line
            case CommandKind.ROLLBACK:
                assert seen.state is ReleaseState.ROLLED_BACK, line
            case CommandKind.ADVANCE:
                assert world.request.expected is not None
                was = world.request.expected
                assert seen.state in (ReleaseState.WAITING, ReleaseState.DONE), line
                assert (seen.state, seen.phase) != (was.state, was.phase), line
                assert seen.state is ReleaseState.DONE or self.works, line


SOURCES: dict[type[Pane], str] = {
    FlagPane: REDIS,
    GuardPane: POSTGRESQL,
    GatePane: POSTGRESQL,
    EventPane: POSTGRESQL,
    BackfillPane: POSTGRESQL,
}
"""What each pane is made of."""


CHANGE = ChangeView("public.users", "public.users", (("full_name", "a"),), (("first_name", "b"),))


def _other_strategies() -> list[DashboardState]:
    """One release of each other strategy, in the middle of a step."""
    found = []
    for name in ("rolling", "blue-green", "canary", "dark-launch"):
        made = guard_situations()[name]
        record = made.release.value
        assert record is not None
        rel, specs = record.release, record.release.strategy.steps
        last = max(at for at, each in enumerate(rel.statuses) if each is not StepStatus.PENDING)
        statuses = (*rel.statuses[:last], StepStatus.STARTED, *rel.statuses[last + 1 :])
        rel = replace(rel, state=ReleaseState.RUNNING, statuses=statuses)
        steps = tuple(
            StepRecord(
                each.name, status, note="1m of 2m" if status is StepStatus.STARTED else "", started_at=EPOCH - 41
            )
            for each, status in zip(specs, statuses, strict=True)
        )
        found.append(replace(made, release=Observed(replace(record, release=rel, steps=steps), MONOTONIC)))
    return found


OTHER_STRATEGIES = _other_strategies()


def plain(*lines: Line) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def bright(lines: Sequence[Line]) -> list[str]:
    """The lines that look as if they were so now."""
    return [plain(line) for line in lines if any(style is not TextStyle.DIM and text.strip() for text, style in line)]


SYSTEMS = st.sampled_from((*sorted(READ_EVERY), PROMETHEUS))
ACTIONS = st.one_of(
    st.tuples(st.just("freeze"), SYSTEMS),
    st.tuples(st.just("thaw"), SYSTEMS),
    st.tuples(st.just("press"), st.sampled_from(list(CommandKind))),
    st.tuples(
        st.sampled_from(
            (
                "kill",
                "start",
                "lose answers",
                "keep answers",
                "step done",
                "gates",
                "advance elsewhere",
                "breach",
                "recheck",
                "hold again",
                "fail",
                "break flags",
                "restore flags",
                "copy",
                "stop copying",
                "undone",
                "drain",
                "drained",
                "block",
                "unblock",
            )
        ),
        st.none(),
    ),
)
WAITS = st.sampled_from((0.25, 0.5, 1.0, 2.75, 3.25, 6.0, 31.0))
Story = list[tuple[tuple[str, object], float]]

SENT_INTO_A_FROZEN_DATABASE = [
    (("freeze", POSTGRESQL), 0.25),
    (("press", CommandKind.ROLLBACK), 31.0),
    (("keep answers", None), 6.0),
    (("thaw", POSTGRESQL), 6.0),
]
JUDGED_BY_A_DEAD_AGENT = [(("gates", None), 1.0), (("kill", None), 6.0), (("thaw", REDIS), 6.0)]
JUDGED_BEFORE_A_FROZEN_DATABASE = [(("gates", None), 1.0), (("freeze", POSTGRESQL), 6.0)]
TAKEN_LATE_IN_ANOTHER_PHASE = [
    (("kill", None), 3.25),
    (("press", CommandKind.ROLLBACK), 31.0),
    (("advance elsewhere", None), 1.0),
    (("start", None), 6.0),
]


FROZEN_KUBERNETES = [(("gates", None), 1.0), (("freeze", KUBERNETES), 6.0), (("thaw", KUBERNETES), 3.25)]
BREACHED_BEFORE_THE_AGENT_DIED = [(("breach", None), 2.75), (("kill", None), 6.0)]
BREACHED_BEFORE_A_FROZEN_DATABASE = [(("breach", None), 2.75), (("freeze", POSTGRESQL), 6.0)]
STOPPED = [(("breach", None), 6.0), (("recheck", None), 3.25), (("hold again", None), 2.75), (("breach", None), 1.0)]
PAUSED = [(("press", CommandKind.PAUSE), 3.25), (("press", CommandKind.RESUME), 2.75), (("breach", None), 2.75)]
STOPPED_AND_PAUSED = [(("press", CommandKind.PAUSE), 1.0), (("breach", None), 2.75), (("hold again", None), 2.75)]
PAUSED_WITHOUT_AGENT = [(("press", CommandKind.PAUSE), 31.0), (("freeze", KUBERNETES), 2.75), (("kill", None), 6.0)]
FAILED = [(("fail", None), 2.75), (("breach", None), 2.75), (("hold again", None), 1.0), (("kill", None), 6.0)]
RETRIED = [(("fail", None), 2.75), (("press", CommandKind.ADVANCE), 2.75), (("breach", None), 2.75)]
UNDONE_BY_NOBODY = [(("press", CommandKind.ROLLBACK), 1.0), (("kill", None), 6.0)]
UNDONE_WITH_INVALID_FLAGS = [
    (("press", CommandKind.ROLLBACK), 0.25),
    (("break flags", None), 0.25),
    (("undone", None), 0.25),
]
FROZEN_REDIS = [(("freeze", REDIS), 6.0), (("thaw", REDIS), 1.0), (("break flags", None), 2.75)]
NO_BATCHES = [(("stop copying", None), 6.0), (("copy", None), 1.0)]
ROLLED_BACK = [(("press", CommandKind.ROLLBACK), 1.0), (("undone", None), 6.0)]

KILLED_DURING_AN_OUTAGE = [(("freeze", POSTGRESQL), 0.25), (("kill", None), 2.75), (("thaw", POSTGRESQL), 0.25)]
REFUSED_BEFORE_AN_OUTAGE = [
    (("breach", None), 0.25),
    (("press", CommandKind.ADVANCE), 2.75),
    (("freeze", POSTGRESQL), 31.0),
]
QUIET_LOG = [(("freeze", KUBERNETES), 3.25), (("thaw", KUBERNETES), 6.0), (("freeze", KUBERNETES), 2.75)]
BREACHED_GATES = [(("freeze", KUBERNETES), 3.0), (("gates", None), 0.25), (("breach", None), 0.25)]
TAKEN_OVER_WITHOUT_REDIS = [
    (("kill", None), 3.25),
    (("freeze", REDIS), 1.0),
    (("start", None), 6.0),
    (("press", CommandKind.ROLLBACK), 6.0),
    (("freeze", POSTGRESQL), 6.0),
    (("thaw", POSTGRESQL), 2.75),
    (("thaw", REDIS), 6.0),
]
FROZEN_SECOND_DEPLOYMENT = [(("freeze", SECOND), 6.0), (("thaw", SECOND), 1.0)]
FROZEN_PROMETHEUS = [(("freeze", PROMETHEUS), 31.0), (("thaw", PROMETHEUS), 2.75)]
TUNED = [(("press", CommandKind.TUNE), 2.75), (("freeze", POSTGRESQL), 6.0)]
DRAINING_UNSEEN = [(("drain", None), 6.0), (("freeze", KUBERNETES), 6.0)]
BLOCKED_UNSEEN = [(("block", None), 2.75), (("freeze", POSTGRESQL), 6.0), (("thaw", POSTGRESQL), 1.0)]
NOT_BLOCKED_UNSEEN = [(("freeze", POSTGRESQL), 31.0)]
ADVANCED = [(("gates", None), 1.0), (("press", CommandKind.ADVANCE), 2.75), (("gates", None), 2.75)]
CANARY_BACK = [
    (("step done", None), 1.0),
    (("press", CommandKind.ROLLBACK), 2.75),
    (("step done", None), 1.0),
    (("step done", None), 2.75),
    (("undone", None), 1.0),
]


@pytest.mark.timeout(300)
@given(st.booleans(), st.lists(st.tuples(ACTIONS, WAITS), max_size=12))
@example(False, SENT_INTO_A_FROZEN_DATABASE)
@example(False, JUDGED_BY_A_DEAD_AGENT)
@example(False, JUDGED_BEFORE_A_FROZEN_DATABASE)
@example(False, TAKEN_LATE_IN_ANOTHER_PHASE)
@example(False, FROZEN_KUBERNETES)
@example(False, BREACHED_BEFORE_THE_AGENT_DIED)
@example(False, BREACHED_BEFORE_A_FROZEN_DATABASE)
@example(False, STOPPED)
@example(False, PAUSED)
@example(False, STOPPED_AND_PAUSED)
@example(False, PAUSED_WITHOUT_AGENT)
@example(False, FAILED)
@example(False, RETRIED)
@example(False, UNDONE_BY_NOBODY)
@example(False, UNDONE_WITH_INVALID_FLAGS)
@example(False, FROZEN_REDIS)
@example(False, NO_BATCHES)
@example(False, ROLLED_BACK)
@example(False, REFUSED_BEFORE_AN_OUTAGE)
@example(False, QUIET_LOG)
@example(False, BREACHED_GATES)
@example(False, KILLED_DURING_AN_OUTAGE)
@example(False, TAKEN_OVER_WITHOUT_REDIS)
@example(True, TAKEN_OVER_WITHOUT_REDIS)
@example(True, FROZEN_SECOND_DEPLOYMENT)
@example(False, FROZEN_PROMETHEUS)
@example(False, TUNED)
@example(False, DRAINING_UNSEEN)
@example(False, BLOCKED_UNSEEN)
@example(False, NOT_BLOCKED_UNSEEN)
@example(True, ADVANCED)
@example(True, CANARY_BACK)
@settings(max_examples=30, deadline=None)
def test_no_line_claims_what_the_record_does_not_support(is_canary: bool, story: Story) -> None:
    world = World(is_canary)
    screens = Screens(world)
    for (action, target), wait in story:
        match action:
            case "freeze" | "thaw":
                world.up[str(target)] = action == "thaw"
            case "press":
                world.press(CommandKind(str(target)))
            case "advance elsewhere":
                world.press_elsewhere(CommandKind.ADVANCE)
            case "kill":
                world.agent_is_alive, world.waits_since = False, None
            case "start":
                world.start_agent()
            case "step done":
                world.finish_step()
            case "gates":
                world.finish_phase()
            case "copy" | "stop copying":
                world.copies_rows = action == "copy"
            case "break flags" | "restore flags":
                world.has_valid_flags = action == "restore flags"
            case "breach" | "recheck":
                world.find_breach(ConditionStatus.BREACHED if action == "breach" else ConditionStatus.RECHECKING)
            case "hold again":
                world.hold_again()
            case "fail":
                world.fail()
            case "undone":
                world.undo_all()
            case "drain" | "drained":
                world.drain_until = world.now + 5.0 if action == "drain" else None
            case "block" | "unblock":
                world.is_blocked = action == "block"
            case _:
                world.loses_answers = action == "lose answers"
        world.run(wait, screens.check, screens.observe)
