"""Standing conditions: what a release relies on, and the reading of one that does not hold."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from zdd_tui.model.errors import HINT_PREFIX
from zdd_tui.model.release.system import System

ROLLBACK_IN_HINT = ", or: zdd rollback PLAN"
"""End of a hint where the release can also be rolled back. A screen names its key instead."""

CONTINUES_IN_HINT = "; the release continues then"
"""In a hint, before its end: no command is needed besides. It is left out where a person must continue the release."""

STOPPED_NOTE = "stopped until every condition holds"
"""Of a step that a breach has stopped."""


class ConditionKind(StrEnum):
    """What a condition is about, and so where it is observed."""

    IMAGE = "image"
    PODS = "pods"
    SELECTOR = "selector"
    WEIGHT = "weight"
    FLAG = "flag"
    TRIGGER = "trigger"
    SCHEMA = "schema"
    ROWS_VISIBLE = "rows-visible"
    OBJECT = "object"
    OBJECT_TRIGGER = "object-trigger"
    OBJECT_DEFINITION = "object-definition"


def system_of(kind: ConditionKind) -> System:
    """Where conditions of that kind are observed."""
    match kind:
        case ConditionKind.IMAGE | ConditionKind.PODS | ConditionKind.WEIGHT | ConditionKind.SELECTOR:
            return System.KUBERNETES
        case ConditionKind.FLAG:
            return System.REDIS
    return System.POSTGRESQL


class ConditionStatus(StrEnum):
    """Whether a condition holds. ``rechecking``: it holds again, and what it may have affected is verified again."""

    HOLDS = "holds"
    BREACHED = "breached"
    RECHECKING = "rechecking"
    UNKNOWN = "unknown"

    @property
    def stops_progress(self) -> bool:
        """No step starts, and a running one stops. Unknown does not stop a step, but opens nothing."""
        return self in (ConditionStatus.BREACHED, ConditionStatus.RECHECKING)


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold while the release is at this point.

    Attributes:
        name: unique in the release, such as ``image users-api``.
        subject: a Deployment, Service, HTTPRoute, flag or trigger; empty where there is only one subject.
        allowed: the values that it may have, of a trigger those of ``pg_trigger.tgenabled``; None is a flag that does
            not exist.
        restore_to: the value that the agent writes back after a breach, with its fence; None where the subject belongs
            to others, or nothing is to be written.
        affects_rows: while it did not hold, rows may have been written on one side only.
        table: of an operation's object, as SQL.
        since: of an operation's object, or a trigger: the step after which it is as it must be; another step is another
            condition. Empty while a step may be changing the trigger or its function.
        made_by: of an operation's object: the step that has made it, with its statement where it has one.
        may_be_gone: that step may have removed it.
        differing: of an operation's trigger: the condition, as SQL, of rows that it has not kept equal.
    """

    name: str
    kind: ConditionKind
    subject: str = ""
    allowed: tuple[str | None, ...] = ()
    restore_to: str | None = None
    affects_rows: bool = False
    table: str = ""
    since: str = ""
    made_by: str = ""
    statement: str = ""
    may_be_gone: bool = False
    differing: str = ""


@dataclass(frozen=True, slots=True)
class ConditionFinding:
    """Why a condition does not hold.

    Attributes:
        text: what was found and what is expected, in one line.
        who: who changed it and when, as far as it is recorded; a sentence where it is not.
        hint: what to do, with a command that exists.
    """

    text: str
    who: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ConditionReading:
    """A condition as stored.

    Attributes:
        text, who, hint: as :class:`ConditionFinding`; of the last breach where it holds again.
        restored: the agent has written the release's own value back.
        since: when the status last changed, seconds since the epoch by the database's clock.
        affects_rows: as :class:`Condition`.
        last: of a reading that is withdrawn, the status before; never stored.
    """

    name: str
    status: ConditionStatus
    text: str = ""
    who: str = ""
    hint: str = ""
    restored: bool = False
    affects_rows: bool = False
    since: float = field(default=0.0, compare=False)
    last: ConditionStatus | None = None

    @property
    def last_status(self) -> ConditionStatus:
        """The status; of a reading that is withdrawn, the one before."""
        return self.last or self.status

    @property
    def title(self) -> str:
        """What changed and who did it, in one line."""
        parts = [self.text, *([self.who] if self.who else []), *(["restored by the agent"] if self.restored else [])]
        return "; ".join(parts)

    def withdrawn(self, why: str) -> "ConditionReading":
        """The reading of an agent that is not known to work: unknown, with the last status in its text."""
        if self.last is not None:
            return self
        text = f"{why}; last: {self.status}, {self.text}"
        return replace(self, status=ConditionStatus.UNKNOWN, text=text, last=self.status)

    @property
    def message(self) -> str:
        """The title, and the hint on a line of its own."""
        return f"{self.title}\n{HINT_PREFIX}{self.hint}" if self.hint else self.title


_HOLDS_AGAIN = "; it holds again: "


def recheck_reading(reading: ConditionReading, why: str) -> ConditionReading | None:
    """The reading of a condition that holds again, while what it may have affected is verified; None where it is that.

    Its text still says what was broken; who did it stays, too.

    Args:
        why: what is done, or waited for.
    """
    text = f"{reading.text.partition(_HOLDS_AGAIN)[0]}{_HOLDS_AGAIN}{why}"
    if reading.status is ConditionStatus.RECHECKING and reading.text == text:
        return None
    return replace(reading, status=ConditionStatus.RECHECKING, text=text)


def unmet_readings(readings: Iterable[ConditionReading]) -> tuple[ConditionReading, ...]:
    """Those that do not hold, breaches first."""
    order = list(ConditionStatus)
    unmet = [reading for reading in readings if reading.status is not ConditionStatus.HOLDS]
    return tuple(sorted(unmet, key=lambda reading: (-reading.status.stops_progress, order.index(reading.status))))
