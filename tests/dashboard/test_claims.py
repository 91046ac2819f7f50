"""Random outages, commands and time: no line claims progress, freshness or delivery that the record does not support.

The world below knows what is really so: when each system was last heard, when an agent last renewed its lease, which
rows the database has. The texts of the screens and of `zdd status` are compared with that; the rules of
:mod:`zdd_tui.model.release.claims` are used by the texts alone.
"""

import re
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.states import (
    AGENT,
    ANA,
    BACKFILL_STEP,
    EPOCH,
    MONOTONIC,
    SERVING,
    FixedClock,
    backfill,
    board,
    flags,
    record,
    release,
    workload,
)
from tests.support.strategy_states import guard_situations
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.dashboard.screens.details.base import TextFormatter
from zdd_tui.dashboard.screens.details.timeline import timeline_lines
from zdd_tui.dashboard.screens.status_details import status_detail_lines
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress, command_progress_lines
from zdd_tui.dashboard.widgets.bars.gates import gate_lines
from zdd_tui.dashboard.widgets.bars.header import header_line
from zdd_tui.dashboard.widgets.bars.health import health_line
from zdd_tui.dashboard.widgets.bars.stepper import stepper_line
from zdd_tui.dashboard.widgets.bars.summary import summary_lines
from zdd_tui.dashboard.widgets.diagrams.sources import oldest_source
from zdd_tui.dashboard.widgets.diagrams.strategy import diagram_lines
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines, backfill_progress
from zdd_tui.dashboard.widgets.panes.columns import fit_columns, row_line
from zdd_tui.dashboard.widgets.panes.gates import gate_columns, gates_heading, verdict_of
from zdd_tui.dashboard.widgets.panes.guard import (
    RuleAges,
    guard_columns,
    guard_heading,
    guard_readings,
    second_line,
)
from zdd_tui.dashboard.widgets.panes.steps import build_step_rows
from zdd_tui.model.errors import Refused
from zdd_tui.model.queries import AuditLog, ChangeView
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.delivery import RETRY_SECONDS, VALID_SECONDS, Delivery
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.gate_rows import PhasePosition, build_gate_rows
from zdd_tui.model.release.records import (
    CommandRequest,
    Event,
    GuardReading,
    Lease,
    ReleaseRecord,
    StepRecord,
    StoredCommand,
)
from zdd_tui.model.release.state import (
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
)
from zdd_tui.model.release.strategy import Phase

FRESH = 3.0
"""Seconds within which a loss must be told."""

STEP = 0.25
"""Seconds of one step of the world."""

POSTGRESQL, REDIS, KUBERNETES = "PostgreSQL", "Redis", "Kubernetes"
READ_EVERY = {POSTGRESQL: 1.0, REDIS: 1.0, KUBERNETES: 2.0}
ATTEMPT, PAUSE = 2.5, 0.5

MOVES = re.compile(
    r"▶ (RUNNING|running|backfill|rollback|pause|resume|verifying|move)|◀ (ROLLING|expand|dual-write|backfill)"
    r"|\d/s |ETA|No action needed|(?<!was )reverting step|accepted by the agent|running +move|verifying"
)
"""What only an agent at work can make true."""

ROWS_MOVE = re.compile(r"\d/s |ETA|▶ verifying|\d a second")
"""What only batches that are committed can make true."""

MOVES_IN_STATUS = re.compile(r"… (running|undoing) |a second|[▶◀] |No action needed")

HELD_BUT_MOVES = re.compile(
    r"(?m)(?<!─)▶|◀ [a-z]|\d/s |ETA|running +move|running step|running for|… (running|undoing) |\d a second|^soak: "
)
"""What is untrue of a release that an agent holds: stopped by a breach, paused or failed."""

COUNTS = re.compile(r"\(\d+[hms][\dms]*\)")
"""Seconds of a step that count on."""

OF_PODS = re.compile(r"\d serving|pods ready|requests ▼|rollout: |pods serving")
OF_FLAGS = re.compile(r"shadow reads|users served|reads: |flag on|flag \?")
"""Lines of a topology that are made of pods, and of flags."""

JUDGED = re.compile(
    r"✔ pass\b|✔ backfill-complete|all [0-9]+ pass|passes|all gates pass|(?<!LAST KNOWN: )AWAITING APPROVAL"
)
"""Verdicts that only an agent at work can give."""

PASSES = re.compile(r"✔ pass\b.*?(<3s|\b\d+[smhd])(?= |$)")
"""A verdict in a line that also has the age of its data."""

AFTER_THE_GUARD = re.compile(r"new version|to compare|✔ pass.*<3s|running +move")
"""What guard and gates say while they work."""

MAX_AGE, UNWATCHED = 10.0, 6.0
"""Seconds after which a verdict is unknown, and after which the agent itself says that it has no news."""

BREACH = ConditionReading(
    "image users-api", ConditionStatus.BREACHED, "Deployment users-api has image 1", "set by argo"
)


@dataclass
class Attempt:
    """A statement on its way, with the time until which the database accepts it."""

    request: CommandRequest
    started_at: float
    valid_until: float
    answer_is_lost: bool


@dataclass
class World:
    """The systems, an agent, and a dashboard with one operator. Times are monotonic seconds."""

    now: float = MONOTONIC
    up: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(READ_EVERY, True))
    heard_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(READ_EVERY, MONOTONIC))
    agent_is_alive: bool = True
    renewed_at: float = MONOTONIC
    watched_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(READ_EVERY, MONOTONIC))
    """When the agent last had data of each system."""
    has_valid_flags: bool = True
    copies_rows: bool = True
    copied_at: float = MONOTONIC
    rows_done: int = 0
    state: Release = field(
        default_factory=lambda: release(
            ReleaseState.RUNNING, Phase.BACKFILL, done=BACKFILL_STEP, current=StepStatus.STARTED
        )
    )
    rows: list[StoredCommand] = field(default_factory=list)
    waiting_statements: list[Attempt] = field(default_factory=list)
    loses_answers: bool = False
    given_up: set[str] = field(default_factory=set)
    shown: DashboardState = field(default_factory=lambda: board(record(release(ReleaseState.PLANNED))))
    progress: CommandProgress | None = None
    request: CommandRequest | None = None
    attempt: Attempt | None = None
    next_attempt_at: float = 0.0
    audit: list[Event] = field(default_factory=list)
    seen_audit: tuple[Event, ...] = ()
    is_cancelled: bool = False
    """A breach has ended the running step; it starts again once nothing holds the release."""
    held_text: tuple[object, str] = (None, "")
    """What the timeline has said since the release was held, and by what."""

    def __post_init__(self) -> None:
        self.record_event("step", "run backfill-rows begins: move old rows in batches")
        self._read(POSTGRESQL)

    @property
    def server_now(self) -> float:
        return EPOCH + self.now - MONOTONIC

    # --- what happens --------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            if self.up[POSTGRESQL]:
                self._run_statements()
                if self.agent_is_alive:
                    self._run_agent()
            for system, every in READ_EVERY.items():
                if self.up[system] and self.now - self.heard_at[system] >= every:
                    self._read(system)
            self._deliver()
            self.check()

    def press(self, kind: CommandKind) -> None:
        if self.progress is not None and self.progress.is_unsent:
            return  # refused by the controller
        expected = self.shown.build_precondition() if kind is CommandKind.ROLLBACK else None
        confirmed_at = self.shown.server_now(self.now)
        self.request = CommandRequest(kind, expected=expected, request_id=uuid4().hex, confirmed_at=confirmed_at)
        self.progress = CommandProgress(kind, self.now, expected, request_id=self.request.request_id)
        self.shown = replace(self.shown, delivery=Delivery(self.request.request_id, self.now))
        self.attempt, self.next_attempt_at = None, self.now

    def record_event(self, kind: str, message: str) -> None:
        self.audit.append(Event(len(self.audit) + 1, self.server_now, AGENT, kind, message))

    @property
    def moves(self) -> bool:
        """The agent runs steps, as far as the release lets it."""
        state = self.state.state
        is_held = self.state.paused or any(each.status.stops_progress for each in self.state.unmet)
        return state is ReleaseState.ROLLING_BACK or (state is ReleaseState.RUNNING and not is_held)

    def _run_statements(self) -> None:
        """The database executes what has waited in it."""
        for attempt in self.waiting_statements:
            if attempt.valid_until >= self.server_now and not self._find(attempt.request.request_id):
                assert attempt.request.request_id not in self.given_up, "stored after it was said to be given up"
                self.rows.append(StoredCommand(len(self.rows) + 1, attempt.request, ANA, self.server_now))
        self.waiting_statements.clear()

    def _run_agent(self) -> None:
        if self.now - self.renewed_at >= 1.0:
            self.renewed_at = self.now
        self.watched_at |= {system: self.now for system, is_up in self.up.items() if is_up}
        if self.is_cancelled and self.moves and self.state.state is ReleaseState.RUNNING:
            self.is_cancelled = False
            self.record_event("step", "run backfill-rows begins: move old rows in batches")
        if self.copies_rows and self.moves and self.state.state is ReleaseState.RUNNING:
            self.rows_done, self.copied_at = min(1_000_000, self.rows_done + 500), self.now
        for at, row in enumerate(self.rows):
            if row.status != "queued":
                continue
            command = row.to_command
            try:
                self.state = apply_command(self.state, command, {}, self.server_now)
            except Refused as refusal:
                self.rows[at] = replace(row, status="refused", outcome=str(refusal))
            else:
                late = self.server_now - (row.request.confirmed_at or 0.0)
                seen = row.request.expected
                assert (
                    late <= RETRY_SECONDS + STEP
                    or row.kind is CommandKind.PAUSE
                    or (seen is not None and seen.phase == self.state.phase)
                ), "executed late in another phase than the confirmed one"
                self.rows[at] = replace(row, status="done", outcome=f"{self.state.state}")
                self.record_event("command", f"{row.kind}: {self.state.state}")
                if row.kind is CommandKind.ROLLBACK:
                    self.record_event("step", "revert write-flag-on begins")

    def _read(self, system: str) -> None:
        self.heard_at[system] = self.now
        match system:
            case "PostgreSQL":
                self.shown = replace(self.shown, release=Observed(self._record(), self.now))
                self.seen_audit = tuple(self.audit)
            case "Redis":
                read = tuple(replace(each, problem="" if self.has_valid_flags else "not a share") for each in flags())
                self.shown = replace(self.shown, flags=Observed(read, self.now))
            case _:
                self.shown = replace(self.shown, workload=Observed(workload(SERVING), self.now))

    def _record(self) -> ReleaseRecord:
        lease = Lease(4, "agent", "bastion", 1, self.now - self.renewed_at, 3.0)
        found = record(self.state, note="500 rows", lease=lease)
        states = {ReleaseState.WAITING: "done", ReleaseState.ROLLED_BACK: "cancelled"}
        done = backfill(
            status=states.get(self.state.state, "running"),
            rows_done=self.rows_done,
            rows_total=2_000_000,
            verified_rows=5,
            updated_at=EPOCH + self.copied_at - MONOTONIC,
        )
        names = [gate.name for phase in self.state.strategy.phases for gate in phase.gates]
        known_until = EPOCH + self.watched_at[KUBERNETES] - MONOTONIC
        idle = "the new version does not run"
        guard = (
            GuardReading("error-rate", Verdict.PASS, "0.1 % of requests", observed_at=known_until),
            GuardReading("p99", Verdict.INCONCLUSIVE, idle, observed_at=known_until, is_applicable=False),
        )
        return replace(
            found,
            now=self.server_now,
            backfill=done,
            commands=tuple(self.rows[-20:]),
            gates={name: self._gate(name) for name in names},
            guard=guard,
        )

    def _gate(self, name: str) -> GateReading:
        """As the agent stored it while it worked."""
        at = self.watched_at[self.system_of(name)]
        if self.renewed_at - at > UNWATCHED:
            return GateReading(name, Verdict.UNKNOWN, "no news", EPOCH + self.renewed_at - MONOTONIC)
        return GateReading(name, Verdict.PASS, "3 of 3", EPOCH + at - MONOTONIC, MAX_AGE)

    @staticmethod
    def system_of(gate: str) -> str:
        return POSTGRESQL if gate == "backfill-complete" else KUBERNETES

    def _deliver(self) -> None:
        """As :func:`zdd_tui.backends.store.delivery.deliver_command` and the live source do."""
        delivery, request = self.shown.delivery, self.request
        if delivery is not None and request is not None and delivery.is_open:
            self._step_delivery(delivery, request)
        row = self._find(self.request.request_id) if self.request is not None else None
        context = RenderContext(self.now, self.server_now, FixedClock())
        if self.progress is not None:
            self.progress = self.progress.with_board(self.shown, context)
            if self.progress.stage == "queued" and row is not None and row.status != "queued" and self.up[POSTGRESQL]:
                self.progress = self.progress.with_result(row, self.now)

    def _step_delivery(self, delivery: Delivery, request: CommandRequest) -> None:
        if self.attempt is None and self.now >= self.next_attempt_at:
            valid_until = (self.shown.server_now(self.now) or 0.0) + VALID_SECONDS
            self.attempt = Attempt(request, self.now, valid_until, self.loses_answers)
            self.waiting_statements.append(self.attempt)
            if self.up[POSTGRESQL]:
                self._run_statements()
        if self.attempt is None:
            return
        is_answered = self.up[POSTGRESQL] and not self.attempt.answer_is_lost and self._find(request.request_id)
        if is_answered:
            self.shown = replace(self.shown, delivery=delivery.stored())
            self.attempt = None
        elif self.now - self.attempt.started_at >= ATTEMPT:
            self.shown = replace(self.shown, delivery=delivery.attempt_failed("db does not respond within 2.5 s"))
            if self.now + PAUSE < delivery.started_at + RETRY_SECONDS:
                self.attempt, self.next_attempt_at = None, self.now + PAUSE
            elif self.now >= self.attempt.started_at + VALID_SECONDS:
                self.shown = replace(self.shown, delivery=delivery.given_up("db does not respond"))
                self.given_up.add(request.request_id)
                assert self.progress is not None
                self.progress = self.progress.with_send_error(RuntimeError("db does not respond"), self.now)
                self.attempt = None

    def _find(self, request_id: str) -> StoredCommand | None:
        return next((row for row in self.rows if row.request.request_id == request_id), None)

    # --- what is said about it -----------------------------------------------------------------------------------

    def check(self) -> None:
        context = RenderContext(self.now, self.server_now, FixedClock())
        text = self._screen_text(context)
        assert self.shown.release.value is not None
        seen = self.shown.release.value.release
        works = self.now - self.renewed_at <= FRESH and self.now - self.heard_at[POSTGRESQL] <= FRESH
        if not works:
            claimed = MOVES.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although nobody is known to work:\n{text}"
            judged = JUDGED.search(f"{text}\n{self._verdict_text(context)}") if not self.state.state.has_ended else None
            assert judged is None, f"{judged.group(0)!r} although nobody is known to judge:\n{text}"
            said = " ".join(text.split())  # a wrapped line, too
            assert self.state.state.has_ended or re.search(
                r"no agent for|No agent is running|state not known for", said
            ), text
            assert "STOPPED" not in text, f"as if it were so now:\n{text}"
            if self.now - self.heard_at[POSTGRESQL] > FRESH:  # nor is anybody known to be away
                claimed = re.search(r"STALLED|stalled|✗ (dual-write|backfill|cutover)", text)
                assert claimed is None, f"{claimed.group(0)!r} by a silent database:\n{text}"
            told = [line for line in text.splitlines() if BREACH.text in line]
            assert all("last: breached" in line for line in told), "\n".join(told)
        elif is_held(seen):
            claimed = HELD_BUT_MOVES.search(text) or COUNTS.search(text)
            assert claimed is None, f"{claimed.group(0)!r} although the release is held:\n{text}"
            failed = seen.state is ReleaseState.FAILED
            word = "STOPPED" if seen.breach is not None else "FAILED" if failed else "PAUSED"
            assert word in text, text
        if self.now % 1.0 == 0.0:
            self._check_ages(context)
            self._check_screens(context, seen, works=works)
        if self.now - self.copied_at > FRESH:
            claimed = ROWS_MOVE.search(text)
            assert claimed is None, f"{claimed.group(0)!r} without a batch:\n{text}"
        if self.shown.release.value and self.shown.release.value.release.state.has_ended:
            claimed = AFTER_THE_GUARD.search(text)
            assert claimed is None, f"{claimed.group(0)!r} after the guard has ended:\n{text}"
        self._check_health(plain(health_line(self.shown, context, 80)))
        if self.progress is not None:
            self._check_delivery(plain(*command_progress_lines(self.progress, self.shown, context, 200)))
        if self.up[POSTGRESQL]:
            status = format_status(self._record())
            if self.now - self.copied_at > FRESH:
                assert not ROWS_MOVE.search(status), f"without a batch:\n{status}"
            self._check_status(status)
            if self.now - self.renewed_at > FRESH:
                claimed = MOVES_IN_STATUS.search(status) or (
                    None if self.state.state.has_ended else re.search(r"gate [a-z-]+: pass", status)
                )
                assert "STOPPED" not in status, f"as if it were so now:\n{status}"
                assert claimed is None, f"{claimed.group(0)!r} although no agent works:\n{status}"

    def _check_status(self, status: str) -> None:
        """What `zdd status` says, as text and as JSON, of a release that does not move."""
        works = self.now - self.renewed_at <= FRESH
        if works and is_held(self.state):
            claimed = HELD_BUT_MOVES.search(status)
            assert claimed is None, f"{claimed.group(0)!r} although the release is held:\n{status}"
        if self.now % 1.0 == 0.0:
            document = status_to_dict(self._record())
            moves = works and self.moves
            assert (document["progress"] == "running") is (moves and not self.state.state.has_ended), document
            assert moves or document["backfill"]["rows_per_second"] == 0, document
            notes = [step["note"] for step in document["steps"] if step["note"]]
            assert works or all(note.startswith("last: ") for note in notes), notes

    def _check_screens(self, context: RenderContext, seen: Release, *, works: bool) -> None:
        """Steps, timeline and the topology of every strategy."""
        record, now = self.shown.release.value, self.shown.server_now(context.now)
        assert record is not None
        assert now is not None
        activity = self.shown.activity(context.now)
        steps = "\n".join(f"{row.glyph} {row.text} {row.label} {row.note}" for row in build_step_rows(record, activity))
        audit = AuditLog(self.seen_audit)
        drawn = timeline_lines(
            record, audit, now, context, TextFormatter(99, is_wrapped=True), gates=False, activity=activity
        )
        timeline = plain(*drawn[1:])  # its first line has the age of the release
        topologies = [diagram_lines(board, context, 100) for board in self._boards(seen)]
        shown = {"steps": steps, "timeline": timeline}
        shown |= {str(number): plain(*lines) for number, lines in enumerate(topologies)}
        if not (works and moves(seen)) and not seen.state.has_ended:
            for name, text in shown.items():
                claimed = HELD_BUT_MOVES.search(text)
                assert claimed is None, f"{name}: {claimed.group(0)!r} although nothing is known to move:\n{text}"
        assert self.now - self.copied_at <= FRESH or "━▶" not in shown["0"], f"without a batch:\n{shown['0']}"
        if seen.state is ReleaseState.ROLLING_BACK:
            assert "▶ running" not in steps, f"in a rollback:\n{steps}"
        if works and is_held(seen) and StepStatus.STARTED in seen.statuses:
            word = "✗ stopped" if seen.breach is not None else "‖ paused"
            assert word in steps, steps
            assert word[0] in timeline, timeline
            assert seen.breach is None or "stopped: breach" in timeline, timeline
            assert f"{word[0]} {seen.strategy.phases[seen.phase].name}" in shown["0"], shown["0"]
        said = ((seen, self.seen_audit), timeline if works and is_held(seen) else "")
        is_same = said[1] and self.held_text[1] and said[0] == self.held_text[0]
        assert not is_same or said == self.held_text, f"counts on:\n{self.held_text[1]}\n{timeline}"
        self.held_text = said
        self._check_topologies(topologies, context)

    def _check_topologies(self, topologies: list[list[Line]], context: RenderContext) -> None:
        """What is drawn of a source that is silent is greyed, and its age is told; what is not known is no share."""
        for lines in topologies:
            text = plain(*lines)
            if self.now - self.heard_at[POSTGRESQL] > FRESH:
                assert f"release STALE {format_age(self.now - self.heard_at[POSTGRESQL])}" in text, text
            for system, pattern in ((KUBERNETES, OF_PODS), (REDIS, OF_FLAGS)):
                found = [line for line in lines if pattern.search(plain(line))]
                if self.now - self.heard_at[system] > FRESH and found:
                    bright = [plain(line) for line in found if any(style is not TextStyle.DIM for _, style in line)]
                    assert not bright, f"as if {system} answered: {bright}\n{text}"
                    assert f"STALE {format_age(self.now - self.heard_at[system])}" in text, text
            if any(flag.problem for flag in self.shown.flags.value or ()):
                is_there = not any(state in text for state in ("not created yet", "dropped by the rollback"))
                none = "none|" if is_there else ""  # what does not exist is read by none, whatever a flag has
                known = re.search(rf"% (shadow reads|users served)|reads: +({none}\d+%)", text)
                assert known is None, f"{known.group(0)!r} of flags that are not valid:\n{text}"
        age = oldest_source(self.shown, context.now).age(context.now)
        assert age == pytest.approx(max(self.now - at for at in self.heard_at.values()))

    def _boards(self, seen: Release) -> list[DashboardState]:
        """The state for every strategy: this release, and the others as far on, with sources of the same ages."""
        record = self.shown.release.value
        assert record is not None
        boards = [replace(self.shown, plan=replace(self.shown.plan, change=CHANGE))]
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
            other = replace(base, release=rel, lease=record.lease, now=record.now)
            changes = {
                name: replace(getattr(made, name), observed_at=self.heard_at[KUBERNETES])
                for name in ("workload", "second_workload")
            }
            views = tuple(
                replace(each, value=None, problem=problem) if problem else each
                for each in made.flags.value or ()
                for problem in {flag.problem for flag in self.shown.flags.value or ()}
            )
            boards.append(
                replace(
                    made,
                    release=Observed(other, self.heard_at[POSTGRESQL]),
                    flags=Observed(views or None, self.heard_at[REDIS]),
                    **changes,
                )
            )
        return boards

    def _verdict_text(self, context: RenderContext) -> str:
        """What the panes of gates and guard say of the current phase."""
        record, now = self.shown.release.value, self.shown.server_now(context.now)
        assert record is not None
        assert now is not None
        rows = [row for row in build_gate_rows(record, now) if not row.has_passed]
        rules = guard_readings(self.shown, now)
        return "\n".join(
            (
                gates_heading(self.shown, context),
                guard_heading(rules),
                *(f"{verdict_of(row)[0]} {row.status_text} {row.gate.name}" for row in rows),
                *(f"{VERDICT_GLYPHS[rule.verdict][0]} {rule.verdict} {rule.rule}" for rule in rules),
            )
        )

    def _check_ages(self, context: RenderContext) -> None:
        """Each verdict has the age of its data, wherever it is, and none counts whose data are too old."""
        record, now = self.shown.release.value, self.shown.server_now(context.now)
        assert record is not None
        assert now is not None
        if record.release.state.has_ended:
            return
        rows = [row for row in build_gate_rows(record, now) if row.position is PhasePosition.PRESENT]
        ages, rules = RuleAges(now, {}), guard_readings(self.shown, now)
        rules_fitted = fit_columns(guard_columns(rules, 100), 100)
        gates_fitted = fit_columns(gate_columns(rows, 100), 100)
        lines = [(row.gate.name, row_line(gates_fitted, row, now)) for row in rows]
        lines += [("guard", row_line(rules_fitted, rule, ages)) for rule in rules]
        if record.release.state is ReleaseState.WAITING:
            shown = gate_lines(self.shown, context, 100, limit=20)
            lines += zip([gate.name for gate in record.release.gates], shown, strict=True)
        for name, line in lines:
            true = self.now - self.watched_at[self.system_of(name)]
            found = PASSES.search(plain(line))
            if "✔ pass" in plain(line):
                assert found is not None, f"a verdict without its age: {plain(line)}"
            if found is not None and true > FRESH:
                assert true <= MAX_AGE, f"passes by data of {true} s: {plain(line)}"
                assert found[1] != "<3s", f"by data of {true} s: {plain(line)}"
                assert int(found[1][:-1]) >= int(true), f"by data of {true} s: {plain(line)}"

    def _screen_text(self, context: RenderContext) -> str:
        shown, activity = self.shown, self.shown.activity(context.now)
        assert shown.release.value is not None
        lines = [
            header_line(shown, context, 80),
            stepper_line(shown, 80, activity),
            *summary_lines(shown, context, 80),
            *gate_lines(shown, context, 80),
            *backfill_lines(
                shown.release.value.backfill,
                60,
                progress=backfill_progress(shown, context),
                idle=self._idle_seconds(context),
            ),
            *(second_line(rule, (), 80) for rule in guard_readings(shown, shown.server_now(context.now) or 0.0)),
            *status_detail_lines(shown, context, 80, self.progress),
        ]
        if self.progress is not None:
            lines += command_progress_lines(self.progress, shown, context, 80)
        return plain(*lines)

    def _idle_seconds(self, context: RenderContext) -> float:
        record, now = self.shown.release.value, self.shown.server_now(context.now)
        return record.backfill.idle_seconds(now) if record and record.backfill and now is not None else 0.0

    def _check_health(self, line: str) -> None:
        said = {name: (glyph, age) for glyph, name, age in re.findall(r"([✔✗?○]) (\w+) (\S+)", line)}
        for system, heard_at in self.heard_at.items():
            age = self.now - heard_at
            assert said[system] == (("✔", "<3s") if age <= FRESH else ("✗", format_age(age))), (line, age)
        if said["agent"][0] == "✔":
            assert self.now - self.renewed_at <= FRESH
            assert self.now - self.heard_at[POSTGRESQL] <= FRESH

    def _check_delivery(self, line: str) -> None:
        assert self.request is not None
        assert self.progress is not None
        row = self._find(self.request.request_id)
        if re.search(r" queued |accepted", line):
            assert row is not None, f"not in the database: {line}"
        if self.progress.is_unsent and self.now - self.progress.sent_at > FRESH:
            assert "NOT SENT" in line
        if self.request.request_id in self.given_up and row is None:
            assert "NOT SENT" in line, f"lost silently: {line}"


def moves(seen: Release) -> bool:
    """A release on which an agent works, as the record says it."""
    return seen.state is ReleaseState.ROLLING_BACK or (seen.state is ReleaseState.RUNNING and not is_held(seen))


def is_held(seen: Release) -> bool:
    """The record says that no step runs, whoever works on the release."""
    can_be_held = seen.state in (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED)
    is_breached = any(each.status.stops_progress for each in seen.unmet)
    return can_be_held and (seen.paused or is_breached or seen.state is ReleaseState.FAILED)


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


SYSTEMS = st.sampled_from(sorted(READ_EVERY))
ACTIONS = st.one_of(
    st.tuples(st.just("freeze"), SYSTEMS),
    st.tuples(st.just("thaw"), SYSTEMS),
    st.tuples(st.just("press"), st.sampled_from([each for each in CommandKind if each is not CommandKind.TUNE])),
    st.tuples(
        st.sampled_from(
            (
                "kill",
                "start",
                "lose answers",
                "keep answers",
                "next phase",
                "gates",
                "breach",
                "recheck",
                "hold again",
                "fail",
                "break flags",
                "restore flags",
                "copy",
                "stop copying",
                "undone",
            )
        ),
        st.none(),
    ),
)
WAITS = st.sampled_from((0.25, 0.5, 1.0, 2.75, 3.25, 6.0, 31.0))


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
    (("next phase", None), 1.0),
    (("start", None), 6.0),
]


FROZEN_KUBERNETES = [(("gates", None), 1.0), (("freeze", KUBERNETES), 6.0), (("thaw", KUBERNETES), 3.25)]
BREACHED_BEFORE_THE_AGENT_DIED = [(("breach", None), 2.75), (("kill", None), 6.0)]
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


@pytest.mark.timeout(300)
@given(st.lists(st.tuples(ACTIONS, WAITS), max_size=12))
@example(SENT_INTO_A_FROZEN_DATABASE)
@example(JUDGED_BY_A_DEAD_AGENT)
@example(JUDGED_BEFORE_A_FROZEN_DATABASE)
@example(TAKEN_LATE_IN_ANOTHER_PHASE)
@example(FROZEN_KUBERNETES)
@example(BREACHED_BEFORE_THE_AGENT_DIED)
@example(STOPPED)
@example(PAUSED)
@example(STOPPED_AND_PAUSED)
@example(PAUSED_WITHOUT_AGENT)
@example(FAILED)
@example(RETRIED)
@example(UNDONE_BY_NOBODY)
@example(UNDONE_WITH_INVALID_FLAGS)
@example(FROZEN_REDIS)
@example(NO_BATCHES)
@example(ROLLED_BACK)
@settings(max_examples=40, deadline=None)
def test_no_line_claims_what_the_record_does_not_support(story: list[tuple[tuple[str, object], float]]) -> None:
    world = World()
    for (action, target), wait in story:
        match action:
            case "freeze" | "thaw":
                world.up[str(target)] = action == "thaw"
            case "press":
                world.press(CommandKind(str(target)))
            case "kill" | "start":
                world.agent_is_alive = action == "start"
            case "next phase":  # by another operator, as far as the database answers
                if world.up[POSTGRESQL] and world.state.phase < 4 and not world.state.state.is_rolling_back:
                    world.state = replace(world.state, phase=world.state.phase + 1)
            case "gates":  # the phase has run
                if world.up[POSTGRESQL] and world.state.state is ReleaseState.RUNNING:
                    names = [step.name for step in world.state.current_phase.steps] if world.state.current_phase else []
                    for name in names:
                        world.state = world.state.with_status(name, StepStatus.DONE)
                    world.state = replace(world.state, state=ReleaseState.WAITING)
            case "copy" | "stop copying":
                world.copies_rows = action == "copy"
            case "break flags" | "restore flags":
                world.has_valid_flags = action == "restore flags"
            case "breach" | "recheck" | "hold again" | "fail" | "undone" if not (
                world.up[POSTGRESQL] and world.agent_is_alive
            ):
                pass  # the agent finds and does it
            case "breach" | "recheck":
                status = ConditionStatus.BREACHED if action == "breach" else ConditionStatus.RECHECKING
                if action == "breach" and world.state.state is ReleaseState.RUNNING:
                    world.is_cancelled = True
                    world.record_event("condition", f"breach: {BREACH.text}")
                if action == "breach" or world.state.unmet:
                    world.state = replace(world.state, unmet=(replace(BREACH, status=status, since=world.server_now),))
            case "hold again":
                world.state = replace(world.state, unmet=())
            case "fail":
                if world.state.state is ReleaseState.RUNNING and world.moves and world.state.phase == 2:
                    world.state = replace(
                        world.state.with_status("backfill-rows", StepStatus.FAILED),
                        state=ReleaseState.FAILED,
                        error="no space left",
                    )
                    world.record_event("error", "run backfill-rows failed: no space left")
            case "undone":
                if world.state.state is ReleaseState.ROLLING_BACK:
                    undone = tuple(StepStatus.UNDONE if each.has_effect else each for each in world.state.statuses)
                    world.state = replace(world.state, state=ReleaseState.ROLLED_BACK, statuses=undone)
            case _:
                world.loses_answers = action == "lose answers"
        world.run(wait)
