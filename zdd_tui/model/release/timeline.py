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

Outcome = Literal["running", "done", "failed", "cut off", "stopped"]
"""Cut off: the agent was lost, and the step began anew. Stopped: the way back began in the middle of it."""


@dataclass(frozen=True, slots=True)
class Try:
    """One run, or one undo, of one step.

    Attributes:
        number: 1 for the first of its direction.
        ended: None while it is under way; of a try that was cut off, when the next one began.
        error: why it failed.
    """

    step: str
    label: str
    undo: bool
    number: int
    began: float
    ended: float | None = None
    outcome: Outcome = "running"
    error: str = ""


Item = Try | Event


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase, or the way back, with all that happened in it.

    Attributes:
        name: the phase's; ``rollback`` for the way back, ``before`` for what came before the first step.
        ended: when its last step ended; None while one is under way.
    """

    name: str
    began: float
    ended: float | None
    items: tuple[Item, ...]


@dataclass(slots=True)
class _Open:
    name: str
    began: float
    items: list[Item] = field(default_factory=list)


def timeline(strategy: Strategy, events: Iterable[Event], *, gates: bool = False) -> tuple[Stretch, ...]:
    """The stretches in order.

    Args:
        events: the audit, oldest first.
        gates: also verdicts of gates, and those of the guard that are no failure.
    """
    labels = {spec.name: spec.label for spec in strategy.steps}
    phases = {spec.name: phase.name for phase in strategy.phases for spec in phase.steps}
    stretches: list[_Open] = []
    running: dict[tuple[str, bool], tuple[_Open, int]] = {}
    tries: dict[tuple[str, bool], int] = {}
    for event in events:
        found = _STEP.fullmatch(event.what) if event.kind in ("step", "error") else None
        if found is None or found[2] not in phases:
            if event.kind != "phase" and (gates or not _quiet(event)):
                _stretch(stretches, "before", event.at).items.append(event)
            continue
        verb, name, what, more = found[1], found[2], found[3], found[4] or ""
        key = (name, verb == "undo")
        if what == "begins":
            _close(running, key, event.at, "cut off")
            if verb == "undo":
                for other in [each for each in running if not each[1]]:
                    _close(running, other, event.at, "stopped")
            place = "rollback" if verb == "undo" else phases[name]
            stretch = _stretch(stretches, place, event.at, new=True)
            tries[key] = tries.get(key, 0) + 1
            running[key] = (stretch, len(stretch.items))
            stretch.items.append(Try(name, labels[name], verb == "undo", tries[key], event.at))
        else:
            _close(running, key, event.at, "done" if what == "done" else "failed", more if what == "failed" else "")
    return tuple(Stretch(each.name, each.began, _end(each), tuple(each.items)) for each in stretches)


def _quiet(event: Event) -> bool:
    quiet = event.kind == "guard" and event.what.endswith((": pass", ": inconclusive", ": unknown"))
    return quiet or event.kind == "gate"


def _stretch(stretches: list[_Open], name: str, at: float, *, new: bool = False) -> _Open:
    """The one under way; a new one where there is none, or where another phase begins."""
    if not stretches or (new and stretches[-1].name != name):
        stretches.append(_Open(name, at))
    return stretches[-1]


def _close(
    running: dict[tuple[str, bool], tuple[_Open, int]],
    key: tuple[str, bool],
    at: float,
    outcome: Outcome,
    error: str = "",
) -> None:
    if key in running:
        stretch, place = running.pop(key)
        begun = stretch.items[place]
        assert isinstance(begun, Try)
        stretch.items[place] = replace(begun, ended=at, outcome=outcome, error=error)


def _end(stretch: _Open) -> float | None:
    tries = [item for item in stretch.items if isinstance(item, Try)]
    if any(item.ended is None for item in tries):
        return None
    ends = [item.ended for item in tries if item.ended is not None]
    return max(ends) if ends else max(item.at for item in stretch.items if isinstance(item, Event))
