"""What happened in a release, in order: phases, each try of each step, and what people and the guard did in between.

Made from the audit alone, which is append-only: a step's own row knows only its newest try.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from zdd_tui.model.release.records import Event
from zdd_tui.model.release.strategy import Strategy

_STEP = re.compile(r"(run|undo) (\S+) (begins|done|failed)(?:: (.*))?", re.DOTALL)

AttemptOutcome = Literal["running", "done", "failed", "cut off", "stopped"]
"""Cut off: the agent was lost, and the step began anew. Stopped: the way back began in the middle of it."""


@dataclass(frozen=True, slots=True)
class StepAttempt:
    """One run, or one undo, of one step.

    Attributes:
        number: 1 for the first of its direction.
        ended_at: None while it is under way; of a try that was cut off, when the next one began.
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
    """A phase, or the way back, with all that happened in it.

    Attributes:
        name: the phase's; ``rollback`` for the way back, ``before`` for what came before the first step.
        ended_at: when its last step ended; None while one is under way.
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
    """The stretches in order.

    Args:
        events: the audit, oldest first.
        include_gates: also verdicts of gates, and those of the guard that are no failure.
    """
    labels = {spec.name: spec.label for spec in strategy.steps}
    phases = {spec.name: phase.name for phase in strategy.phases for spec in phase.steps}
    stretches: list[_OpenSpan] = []
    running: dict[tuple[str, bool], tuple[_OpenSpan, int]] = {}
    tries: dict[tuple[str, bool], int] = {}
    for event in events:
        found = _STEP.fullmatch(event.message) if event.kind in ("step", "error") else None
        if found is None or found[2] not in phases:
            if event.kind != "phase" and (include_gates or not _is_routine(event)):
                _current_span(stretches, "before", event.at).items.append(event)
            continue
        verb, name, what, more = found[1], found[2], found[3], found[4] or ""
        key = (name, verb == "undo")
        if what == "begins":
            _finish_attempt(running, key, event.at, "cut off")
            if verb == "undo":
                for other in [each for each in running if not each[1]]:
                    _finish_attempt(running, other, event.at, "stopped")
            place = "rollback" if verb == "undo" else phases[name]
            stretch = _current_span(stretches, place, event.at, allow_new=True)
            tries[key] = tries.get(key, 0) + 1
            running[key] = (stretch, len(stretch.items))
            stretch.items.append(StepAttempt(name, labels[name], verb == "undo", tries[key], event.at))
        else:
            _finish_attempt(
                running, key, event.at, "done" if what == "done" else "failed", more if what == "failed" else ""
            )
    return tuple(PhaseSpan(each.name, each.started_at, _span_end(each), tuple(each.items)) for each in stretches)


def _is_routine(event: Event) -> bool:
    quiet = event.kind == "guard" and event.message.endswith((": pass", ": inconclusive", ": unknown"))
    return quiet or event.kind == "gate"


def _current_span(spans: list[_OpenSpan], name: str, at: float, *, allow_new: bool = False) -> _OpenSpan:
    """The one under way; a new one where there is none, or where another phase begins."""
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
        stretch, place = running.pop(key)
        begun = stretch.items[place]
        assert isinstance(begun, StepAttempt)
        stretch.items[place] = replace(begun, ended_at=at, outcome=outcome, error=error)


def _span_end(span: _OpenSpan) -> float | None:
    tries = [item for item in span.items if isinstance(item, StepAttempt)]
    if any(item.ended_at is None for item in tries):
        return None
    ends = [item.ended_at for item in tries if item.ended_at is not None]
    return max(ends) if ends else max(item.at for item in span.items if isinstance(item, Event))
