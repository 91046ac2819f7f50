"""All events out of readings of the newest, and the time at which a flag changed."""

from dataclasses import replace
from datetime import date

from pydantic import SecretStr

from tests.support.states import record, release
from zdd_tui.dashboard.live_views import MAX_EVENTS, NEWEST_EVENTS, EventCache, FlagCache
from zdd_tui.model.plan.base import Flags, Plan
from zdd_tui.model.plan.strategies import RollingPlan
from zdd_tui.model.release.records import Actor, Event, ReleaseRecord
from zdd_tui.model.release.state import ReleaseState


def read(first: int, last: int, release_id: int = 1) -> ReleaseRecord:
    """A reading with the events of a range of ids; ids have gaps, because other releases have events too."""
    found = tuple(Event(3 * number, 0.0, Actor("a", "h"), "step", f"{number}") for number in range(first, last + 1))
    return replace(record(release(ReleaseState.PLANNED)), id=release_id, events=found)


def event_ids(found: ReleaseRecord) -> list[int]:
    return [int(event.message) for event in found.events]


def test_readings_of_the_newest_events_are_merged() -> None:
    cache = EventCache()
    assert cache.events_to_read(1) == MAX_EVENTS
    assert event_ids(cache.merge(read(1, 120), MAX_EVENTS)) == list(range(1, 121))
    assert cache.events_to_read(1) == NEWEST_EVENTS
    same = cache.merge(read(71, 120), NEWEST_EVENTS)
    assert same.events is cache.merge(read(71, 120), NEWEST_EVENTS).events  # without new events it is the same object
    assert event_ids(cache.merge(read(73, 122), NEWEST_EVENTS)) == list(range(1, 123))


def test_a_gap_is_detected_and_filled() -> None:
    cache = EventCache()
    cache.merge(read(1, 60), cache.events_to_read(1))
    cache.merge(read(150, 199), cache.events_to_read(1))
    assert cache.events_to_read(1) == MAX_EVENTS
    assert event_ids(cache.merge(read(1, 200), MAX_EVENTS)) == list(range(1, 201))
    assert cache.events_to_read(1) == NEWEST_EVENTS


def test_another_release_starts_with_all_events() -> None:
    cache = EventCache()
    cache.merge(read(1, 60), MAX_EVENTS)
    assert cache.events_to_read(2) == MAX_EVENTS
    assert event_ids(cache.merge(read(61, 62, 2), MAX_EVENTS)) == [61, 62]


def test_a_flag_has_its_owner_and_the_time_of_its_last_change() -> None:
    assert FlagCache(RollingPlan.model_construct()).update({}, 5.0) == ()
    flags = Flags(url=SecretStr("redis://x"), write="w", read="r", owner="team-x", expires=date(2027, 1, 31))
    flag_cache = FlagCache(Plan.model_construct(flags=flags))
    first = flag_cache.update({"w": None, "r": "false"}, 100.0)
    assert [(view.key, view.role, view.owner, view.expires) for view in first] == [
        ("w", "write", "team-x", "2027-01-31"),
        ("r", "read", "team-x", "2027-01-31"),
    ]
    assert [view.changed_at for view in first] == [None, None]
    assert [view.changed_at for view in flag_cache.update({"w": "true", "r": "false"}, 160.0)] == [160.0, None]
    assert [view.changed_at for view in flag_cache.update({"w": "true", "r": "maybe"}, 170.0)] == [160.0, 170.0]
