"""How long a release has been waiting, and whether that is longer than its plan allows (`gates.wait_limit`)."""

from dataclasses import dataclass

from zdd_tui.model.duration import human_duration
from zdd_tui.model.gate import Verdict
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.release import State, closed_gates


@dataclass(frozen=True, slots=True)
class Wait:
    """A release whose phase has run, and which waits.

    Attributes:
        since: seconds since the epoch, by the database's clock; another wait has another one.
        text: how long, for whom or what, and the limit.
        over: it has lasted longer than the plan allows.
    """

    since: float
    text: str
    over: bool


def wait_of(record: ReleaseRecord, now: float) -> Wait | None:
    """What the release waits for: its owner, where every gate passes; else the gate that could not be judged for
    longest. None while something runs, while it is paused, and where a gate says no, since then nobody is late.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phase = release.current
    if release.state is not State.WAITING or release.paused or phase is None or release.next is None:
        return None
    names = {step.name for step in phase.steps}
    ran = max((step.ended_at or 0.0 for step in record.steps if step.name in names), default=0.0)
    gates = [record.gates[gate.name] for gate in phase.gates if gate.name in record.gates]
    if not closed_gates(release, record.gates, now):
        since = max([ran, *(gate.since for gate in gates)])
        who = record.owner or "a person"
        return _wait(since, now, record.wait_limit, "waits", f" for {who}")
    undecided = [gate for gate in gates if gate.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE)]
    if any(gate.verdict is Verdict.FAIL for gate in gates) or not undecided:
        return None
    oldest = min(undecided, key=lambda gate: gate.since)
    label = next(gate.label for gate in phase.gates if gate.name == oldest.name)
    return _wait(max(ran, oldest.since), now, record.wait_limit, f"“{label}” has been {oldest.verdict} for", "")


def _wait(since: float, now: float, limit: float | None, before: str, after: str) -> Wait | None:
    if not since:  # it is not known
        return None
    seconds = max(0.0, now - since)
    text = f"{before} {human_duration(seconds)}{after}"
    if limit is None:
        return Wait(since, text, over=False)
    return Wait(since, f"{text}, limit {human_duration(limit)}", over=seconds > limit)
