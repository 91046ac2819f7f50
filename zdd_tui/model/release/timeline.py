"""The timeline of a release: phases, every attempt of every step, and what people and the guard did in between.

It is built from the audit, which is append-only: a step's row in the store has only its newest attempt.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Event
from zdd_tui.model.release.strategy import Strategy

_STEP = re.compile(r"(run|revert) (\S+) (begins|done|failed|suspended)(?:: (.*))?", re.DOTALL)

_ROUTINE_VERDICTS = tuple(f": {verdict}" for verdict in Verdict if verdict is not Verdict.FAIL)

_BREACH = "breach: "
"""How the audit's message of a standing condition begins that stops the running step."""

BEFORE_FIRST_STEP, ROLLBACK = "before", "rollback"
"""Names of the spans that are no phase."""

AttemptOutcome = Literal["running", "done", "failed", "cut off", "breached", "stopped", "suspended"]
"""Cut off: the agent was lost, and the step started again. Breached: a standing condition did not hold, and the agent
stopped it. Stopped: a rollback started in the middle of it. Suspended: the table that it fills was paused."""


@dataclass(frozen=True, slots=True)
class StepAttempt:
    """One run, or one undo, of one step.

    Attributes:
        number: 1 for the first of its direction.
        ended_at: None while it runs; of an attempt that was cut off, the start of the next one.
        error: why it failed.
    """

    step: str
    label: str
    is_undo: bool
    number: int
    started_at: float
    ended_at: float | None = None
    outcome: AttemptOutcome = "running"
    error: str = ""


TimelineItem = StepAttempt | Event


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase, or a rollback, with everything that happened in it.

    Attributes:
        name: the phase's, or :data:`BEFORE_FIRST_STEP` or :data:`ROLLBACK`.
        ended_at: when its last step ended; of the time before the first step when that began; None before that.
    """

    name: str
    started_at: float
    ended_at: float | None
    items: tuple[TimelineItem, ...]


@dataclass(slots=True)
class _OpenSpan:
    name: str
    started_at: float
    items: list[TimelineItem] = field(default_factory=list)


def build_timeline(
    strategy: Strategy, events: Iterable[Event], *, include_gates: bool = False
) -> tuple[PhaseSpan, ...]:
    """The phases and rollbacks in order.

    Args:
        events: the audit, oldest first.
        include_gates: also verdicts of gates, and verdicts of the guard other than ``fail``.
    """
    labels = {spec.name: spec.label for spec in strategy.steps}
    phases = {spec.name: phase.name for phase in strategy.phases for spec in phase.steps}
    spans: list[_OpenSpan] = []
    running: dict[tuple[str, bool], tuple[_OpenSpan, int]] = {}
    attempts: dict[tuple[str, bool], int] = {}
    for event in events:
        match = _STEP.fullmatch(event.message) if event.kind in ("step", "error") else None
        if event.kind == "condition" and event.message.startswith(_BREACH):
            for other in [each for each in running if not each[1]]:
                _finish_attempt(running, other, event.at, "breached")
        if match is None or match[2] not in phases:
            if event.kind != "phase" and (include_gates or not _is_routine(event)):
                _current_span(spans, BEFORE_FIRST_STEP, event.at).items.append(event)
            continue
        name, change, is_undo = match[2], match[3], match[1] == "revert"
        key = (name, is_undo)
        if change == "begins":
            _finish_attempt(running, key, event.at, "cut off")
            if is_undo:
                for other in [each for each in running if not each[1]]:
                    _finish_attempt(running, other, event.at, "stopped")
            span = _current_span(spans, ROLLBACK if is_undo else phases[name], event.at, allow_new=True)
            attempts[key] = attempts.get(key, 0) + 1
            running[key] = (span, len(span.items))
            span.items.append(StepAttempt(name, labels[name], is_undo, attempts[key], event.at))
        elif change == "failed":
            _finish_attempt(running, key, event.at, "failed", match[4] or "")
        else:
            _finish_attempt(running, key, event.at, "suspended" if change == "suspended" else "done")
    following = [*(each.started_at for each in spans[1:]), None]
    ends = [
        start if each.name == BEFORE_FIRST_STEP else _span_end(each)
        for each, start in zip(spans, following, strict=True)
    ]
    return tuple(
        PhaseSpan(each.name, each.started_at, end, tuple(each.items)) for each, end in zip(spans, ends, strict=True)
    )


def _is_routine(event: Event) -> bool:
    return event.kind == "gate" or (event.kind == "guard" and event.message.endswith(_ROUTINE_VERDICTS))


def _current_span(spans: list[_OpenSpan], name: str, at: float, *, allow_new: bool = False) -> _OpenSpan:
    """The last span; a new one where there is none, or where another phase starts."""
    if not spans or (allow_new and spans[-1].name != name):
        spans.append(_OpenSpan(name, at))
    return spans[-1]


def _finish_attempt(
    running: dict[tuple[str, bool], tuple[_OpenSpan, int]],
    key: tuple[str, bool],
    at: float,
    outcome: AttemptOutcome,
    error: str = "",
) -> None:
    if key in running:
        span, index = running.pop(key)
        attempt = span.items[index]
        assert isinstance(attempt, StepAttempt)
        span.items[index] = replace(attempt, ended_at=at, outcome=outcome, error=error)


def _span_end(span: _OpenSpan) -> float | None:
    attempts = [item for item in span.items if isinstance(item, StepAttempt)]
    ends = [item.ended_at for item in attempts if item.ended_at is not None]
    if len(ends) < len(attempts):
        return None
    return max(ends, default=None)
