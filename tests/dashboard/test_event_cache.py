"""The whole audit out of readings of its end, and flags that were seen to change."""

from dataclasses import replace
from datetime import date

from pydantic import SecretStr

from tests.support.states import record, release
from zdd_tui.dashboard.live_source import ALL, NEWEST, Audit, FlagMemory
from zdd_tui.model.plan.base import Flags, Plan
from zdd_tui.model.plan.strategies import RollingPlan
from zdd_tui.model.release.records import Actor, Event, ReleaseRecord
from zdd_tui.model.release.state import State


def read(first: int, last: int, release_id: int = 1) -> ReleaseRecord:
    """A reading with the events of a range of ids; ids have gaps, because other releases have events too."""
    found = tuple(Event(3 * number, 0.0, Actor("a", "h"), "step", f"{number}") for number in range(first, last + 1))
    return replace(record(release(State.PLANNED)), id=release_id, events=found)


def told(found: ReleaseRecord) -> list[int]:
    return [int(event.what) for event in found.events]


def test_readings_of_the_end_make_the_whole() -> None:
    audit = Audit()
    assert audit.wanted(1) == ALL
    assert told(audit.whole(read(1, 120), ALL)) == list(range(1, 121))
    assert audit.wanted(1) == NEWEST
    same = audit.whole(read(71, 120), NEWEST)
    assert same.events is audit.whole(read(71, 120), NEWEST).events  # nothing new is the very same
    assert told(audit.whole(read(73, 122), NEWEST)) == list(range(1, 123))


def test_a_gap_is_found_and_filled() -> None:
    audit = Audit()
    audit.whole(read(1, 60), audit.wanted(1))
    audit.whole(read(150, 199), audit.wanted(1))
    assert audit.wanted(1) == ALL
    assert told(audit.whole(read(1, 200), ALL)) == list(range(1, 201))
    assert audit.wanted(1) == NEWEST


def test_another_release_begins_anew() -> None:
    audit = Audit()
    audit.whole(read(1, 60), ALL)
    assert audit.wanted(2) == ALL
    assert told(audit.whole(read(61, 62, 2), ALL)) == [61, 62]


def test_a_flag_knows_when_it_was_seen_to_change_and_who_answers() -> None:
    assert FlagMemory(RollingPlan.model_construct()).views({}, 5.0) == ()
    flags = Flags(url=SecretStr("redis://x"), write="w", read="r", owner="team-x", expires=date(2027, 1, 31))
    memory = FlagMemory(Plan.model_construct(flags=flags))
    first = memory.views({"w": None, "r": "false"}, 100.0)
    assert [(view.key, view.role, view.owner, view.expires) for view in first] == [
        ("w", "write", "team-x", "2027-01-31"),
        ("r", "read", "team-x", "2027-01-31"),
    ]
    assert [view.changed_at for view in first] == [None, None]
    assert [view.changed_at for view in memory.views({"w": "true", "r": "false"}, 160.0)] == [160.0, None]
    assert [view.changed_at for view in memory.views({"w": "true", "r": "maybe"}, 170.0)] == [160.0, 170.0]
