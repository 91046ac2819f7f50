"""A sensible operator: advances while gates are open, does what the Fix says when the release stops, or rolls back."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.saboteur.acts import ROWS_DIFFER, Position, Saboteur
from tests.chaos.saboteur.production import Production
from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.commands import build_precondition
from zdd_tui.cli.status import format_status
from zdd_tui.demo.environment import DemoOptions
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState, closed_gates

PATIENCE = 2.0
"""Seconds that a gate may fail, or a condition be broken, before the operator does something about it."""
STALL_SECONDS = 20.0
"""Seconds without any change after which the release counts as stopped."""
MAX_RETRIES = 3


@dataclass
class Stop:
    """The release did not go on by itself.

    Attributes:
        text: the cause as the product states it.
        acts: names of the acts that the cause names; empty where it names none of those that were done.
    """

    where: str
    text: str
    acts: list[str]


@dataclass
class ReleaseOperator:
    """Drives one release to its end.

    Attributes:
        correct_rows: sets both sides of rows that differ to what their writers wrote; returns how many.
        seconds: limit.
    """

    production: Production
    saboteur: Saboteur
    position: Position
    rollback: tuple[str, float] | None
    seconds: float
    correct_rows: Callable[[], Awaitable[int]]
    say: Callable[[str], None]
    stops: list[Stop] = field(default_factory=list)
    state: str = "planned"
    status: str = ""
    agent_exits: list[str] = field(default_factory=list)
    chose_rollback: bool = False
    corrected: int = 0
    _release_id: int = 0
    _seen: dict[str, float] = field(default_factory=dict)
    _signature: object = None
    _changed_at: float = 0.0
    _retries: int = 0
    _restart_at: float = 0.0

    async def run(self) -> None:
        """Starts an agent and drives the release until it has ended or the time is over."""
        self.production.env.start_agent("--new")
        self._changed_at = began = time.monotonic()
        store = await self._open_store()
        try:
            while time.monotonic() - began < self.seconds:
                self._keep_agent()
                try:
                    record = await self._read(store)
                    if record is not None:
                        await self._act(store, record)
                        if record.release.state.has_ended:
                            break
                except (ZddError, OSError, TimeoutError) as error:
                    self.say(f"operator: cannot read the release: {type(error).__name__}: {str(error)[:100]}")
                await asyncio.sleep(0.05)
        finally:
            self.position.has_ended = True
            await store.close()

    async def _open_store(self) -> Store:
        return await Store.open(self.production.env.postgres.dsn, application_name="operator")

    def _keep_agent(self) -> None:
        """Starts an agent again that has ended by itself, as a supervisor does."""
        env = self.production.env
        process = env.processes.get("agent")
        if process is None or process.poll() is None or self.state in ("done", "rolled-back"):
            return
        now = time.monotonic()
        if not self._restart_at:
            log = (env.folder / "logs" / "agent.log").read_text(errors="replace").strip().splitlines()
            lines = " | ".join(line.strip() for line in log[-12:]) if log else "no output"
            self.agent_exits.append(f"exit {process.returncode}: {lines[:1500]}")
            if not self._release_id and len(self.agent_exits) >= MAX_RETRIES:
                self._stop("refused at the start", lines)
                self.seconds = 0.0
            self.say(f"agent ended: {self.agent_exits[-1]}")
            self._restart_at = now + 0.5
        elif now >= self._restart_at:
            self._restart_at = 0.0
            env.start_agent("--new" if not self._release_id else "--if-needed")

    async def _read(self, store: Store) -> ReleaseRecord | None:
        if not self._release_id:
            found = await store.find_release(DemoOptions().name) if await store.schema_version() else None
            if found is None:
                return None
            self._release_id = found
        record = await store.read_release(self._release_id)
        self.state = str(record.release.state)
        self.status = format_status(record)
        self._follow(record)
        return record

    def _follow(self, record: ReleaseRecord) -> None:
        release, position, now = record.release, self.position, time.monotonic()
        phase = release.current_phase.name if release.current_phase else ""
        if phase != position.phase:
            position.phase, position.phase_since, position.steps_ended = phase, now, None
            self._retries = 0
        if release.state is ReleaseState.WAITING and position.steps_ended is None:
            position.steps_ended = now
        if release.state.is_rolling_back and position.rollback_since is None:
            position.rollback_since = now
        position.has_ended = release.state.has_ended
        done = record.backfill.rows_done if record.backfill else 0
        signature = (release.state, release.phase, release.statuses, done)
        if signature != self._signature:
            self._signature, self._changed_at = signature, now
            self.say(f"{phase or 'planned'}: {release.state}")

    # --- decisions

    async def _act(self, store: Store, record: ReleaseRecord) -> None:
        release = record.release
        breach = getattr(release, "breach", None)
        if breach is not None and "holds again" not in breach.title:  # the end of a stop that was told before
            self._stop(f"condition {breach.name}", breach.title)
        if await self._asked_rollback(store, record):
            return
        match release.state:
            case ReleaseState.PLANNED:
                await self._advance(store, record)
            case ReleaseState.WAITING:
                await self._when_waiting(store, record)
            case ReleaseState.FAILED:
                self._stop("failed", release.error)
                if self._is_quiet(record):
                    await self._retry(store, record, CommandKind.ADVANCE)
            case ReleaseState.ROLLBACK_FAILED:
                self._stop("rollback failed", release.error)
                if self._is_quiet(record):
                    await self._retry(store, record, CommandKind.ROLLBACK)
        if breach is not None and self._is_quiet(record) and self._has_lasted("breach:" + breach.title):
            await self._repair(breach.title)
            if breach.name == "rows agree":
                await self._correct_rows(breach.title)
        if breach is None:
            self._seen = {name: at for name, at in self._seen.items() if not name.startswith("breach:")}
        if time.monotonic() - self._changed_at > STALL_SECONDS and not release.state.has_ended:
            await self._when_stalled(store, record)

    async def _asked_rollback(self, store: Store, record: ReleaseRecord) -> bool:
        position = self.position
        if self.rollback is None or record.release.state.is_rolling_back:
            return False
        phase, delay = self.rollback
        if position.phase != phase or time.monotonic() < position.phase_since + delay:
            return False
        self.rollback = None
        await self._send(store, record, CommandKind.ROLLBACK)
        return True

    def _is_quiet(self, record: ReleaseRecord) -> bool:
        """The saboteur does nothing more here for now."""
        if record.release.state.is_rolling_back:
            return not any(each.phase == "rollback" for each in self.saboteur.pending)
        return not self.saboteur.has_act_before_leaving(self.position.phase)

    async def _when_waiting(self, store: Store, record: ReleaseRecord) -> None:
        closed = closed_gates(record.release, record.gates, record.now)
        if not closed:
            awaits_rollback = self.rollback is not None and self.rollback[0] == self.position.phase
            if record.release.next_phase is not None and self._is_quiet(record) and not awaits_rollback:
                await self._advance(store, record)
            return
        failing = [gate for gate in closed if gate.verdict is Verdict.FAIL]
        if failing and self._is_quiet(record):
            text = "; ".join(f"{gate.name}: {gate.reason}" for gate in failing)
            if self._has_lasted("gate:" + failing[0].name):
                self._stop("gate", text)
                await self._repair(text)
                await self._correct_rows(text)
                await self._roll_back_if_hopeless(store, record)

    def _has_lasted(self, name: str) -> bool:
        """For :data:`PATIENCE` seconds; starts again after it has answered yes."""
        now = time.monotonic()
        since = self._seen.setdefault(name, now)
        if now - since < PATIENCE:
            return False
        del self._seen[name]
        return True

    async def _when_stalled(self, store: Store, record: ReleaseRecord) -> None:
        self._changed_at = time.monotonic()
        closed = closed_gates(record.release, record.gates, record.now)
        steps = [f"{step.name}: {step.note} {step.error}" for step in record.steps if step.note or step.error]
        gates = [f"{gate.name} {gate.verdict}: {gate.reason}" for gate in closed]
        text = "; ".join([*gates, *steps[-2:]]) or "no cause is given"
        self._stop("stalled", text)
        await self._repair(text)
        await self._roll_back_if_hopeless(store, record)

    async def _retry(self, store: Store, record: ReleaseRecord, kind: CommandKind) -> None:
        if not self._has_lasted(f"retry:{record.release.error}"):
            return
        await self._repair(record.release.error)
        await self._correct_rows(record.release.error)
        if kind is CommandKind.ADVANCE and self._retries >= MAX_RETRIES:
            self.chose_rollback = True
            await self._send(store, record, CommandKind.ROLLBACK)
            return
        self._retries += 1
        await self._send(store, record, kind)

    async def _roll_back_if_hopeless(self, store: Store, record: ReleaseRecord) -> None:
        self._retries += 1
        if self._retries > MAX_RETRIES and not record.release.state.is_rolling_back:
            self.chose_rollback = True
            await self._send(store, record, CommandKind.ROLLBACK)

    async def _advance(self, store: Store, record: ReleaseRecord) -> None:
        outcome = await self._send(store, record, CommandKind.ADVANCE)
        if outcome and not re.search("state changed|gates are not open|is still running", outcome):
            self._stop("advance refused", outcome)
            if self._is_quiet(record) and self._has_lasted("refused"):
                await self._repair(outcome)
                await self._roll_back_if_hopeless(store, record)
            await asyncio.sleep(0.5)

    async def _send(self, store: Store, record: ReleaseRecord, kind: CommandKind) -> str:
        """Sends a command; returns why it was refused, else nothing."""
        request = CommandRequest(kind, "chaos", build_precondition(record), record.release.name)
        self.say(f"operator: {kind}")
        sent = await store.send_command(self._release_id, request, actor=this_actor())
        answer = await store.wait_command(sent, 15)
        if answer.status != "done":
            self.say(f"operator: {kind} {answer.status}: {answer.outcome[:300]}")
        return answer.outcome if answer.status == "refused" else ""

    # --- stops

    def _stop(self, where: str, text: str) -> None:
        if any(_without_numbers(stop.text) == _without_numbers(text) for stop in self.stops):
            return
        acts = sorted({act.name for act in self.saboteur.done if act.may_have_caused(text)})
        self.stops.append(Stop(f"{where} in {self.position.phase or 'planned'}", text, acts))
        self.say(f"STOP {where}: {text[:400]}  <- {', '.join(acts) or 'NO ACT'}")

    async def _repair(self, text: str) -> None:
        """What the owners of the things do once the release names them: each puts back what was changed."""
        for act in self.saboteur.done:
            if act.repair is None or act.is_repaired or not act.may_have_caused(text):
                continue
            act.is_repaired = True
            try:
                self.say(f"operator: {await act.repair()}")
            except Exception as error:  # such as an object that the agent has restored, or that is gone
                self.say(f"operator: no repair of {act.name}: {type(error).__name__}: {error}")

    async def _correct_rows(self, text: str) -> None:
        """Only where a gate, a failed step or a condition says that rows differ."""
        if re.search(ROWS_DIFFER, text):
            with suppress(OSError, TimeoutError):
                count = await self.correct_rows()
                self.corrected += count
                self.say(f"operator: {count} rows corrected")


def _without_numbers(text: str) -> str:
    """The text without names of pods, times and counts, so that the same stop counts once."""
    return re.sub(r"users-api-\w+(-\w+)?|\d+", "#", text)
