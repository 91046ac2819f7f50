"""What the feeds remember from reading to reading: the whole audit, and when a flag was seen to change."""

from collections.abc import Mapping
from dataclasses import replace

from zdd_tui.board import FlagView
from zdd_tui.feed_views import flag_view
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.plans import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.records import Event, ReleaseRecord

NEWEST = 50
"""Events in a usual reading."""

ALL = 5000
"""Events that are read and kept at most."""


class Audit:
    """A release's events. Each reading brings the newest only; together they are all of them."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._events: tuple[Event, ...] = ()
        self._gap = True

    def wanted(self, release_id: int) -> int:
        """How many events to read: all of them at first, and where some may have been missed."""
        return ALL if self._gap or release_id != self._release else NEWEST

    def whole(self, record: ReleaseRecord, asked: int) -> ReleaseRecord:
        """The reading, with every event known.

        Args:
            asked: what :meth:`wanted` had said for it.
        """
        read = record.events
        if record.id != self._release or asked == ALL:
            new = read != self._events
            self._release, self._gap = record.id, False
            self._events = read if new else self._events
        else:
            last = self._events[-1].id if self._events else 0
            fresh = tuple(event for event in read if event.id > last)
            self._gap = len(fresh) == len(read) >= asked
            if fresh:
                self._events = (*self._events, *fresh)[-ALL:]
        return replace(record, events=self._events)


class FlagMemory:
    """A plan's flags, with who answers for them and when they were seen to change."""

    def __init__(self, plan: BasePlan) -> None:
        self._roles = plan.flag_roles
        self._owner, self._expires = _owner(plan)
        self._raw: dict[str, str | None] = {}
        self._changed: dict[str, float] = {}

    def views(self, raw: Mapping[str, str | None], now: float) -> tuple[FlagView, ...]:
        """What the screens show of a reading.

        Args:
            raw: the stored values, by key.
            now: seconds since the epoch.
        """
        for key, value in raw.items():
            if key in self._raw and self._raw[key] != value:
                self._changed[key] = now
            self._raw[key] = value
        return tuple(
            replace(
                flag_view(key, role, raw[key]),
                owner=self._owner,
                expires=self._expires,
                changed_at=self._changed.get(key),
            )
            for key, role in self._roles.items()
        )


def _owner(plan: BasePlan) -> tuple[str, str]:
    """Who answers for the plan's flags, and the day on which they should be gone; empty where nobody said."""
    flags = plan.flags if isinstance(plan, Plan | DarkLaunchPlan) else None
    found = plan.canary.flag if isinstance(plan, CanaryPlan) else flags
    if found is None:
        return "", ""
    return found.owner or "", found.expires.isoformat() if found.expires else ""
