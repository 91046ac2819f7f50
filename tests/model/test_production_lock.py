"""What may be changed from a dashboard: production opens locked, an unlock runs out, the way back stays."""

import pytest

from zdd_tui.model.actions import ACTIONS, action
from zdd_tui.model.plan.base import Confirm, Reasoned
from zdd_tui.model.production_lock import OPEN, Access

LOCKED = Access(guarded=True, seconds=900)
MUTATING = [each for each in ACTIONS if each.mutating]
HARMLESS = [each for each in ACTIONS if not each.mutating and each.id not in ("lock", "unlock")]


def test_what_is_not_production_has_no_lock() -> None:
    assert all(OPEN.shows(each, 0) for each in MUTATING + HARMLESS)
    assert not OPEN.shows(action("unlock"), 0)
    assert not OPEN.shows(action("lock"), 0)
    assert OPEN.unlock(0) == OPEN


def test_locked_production_keeps_only_the_way_back() -> None:
    assert [each.id for each in MUTATING if LOCKED.shows(each, 0)] == ["rollback"]
    assert all(LOCKED.shows(each, 0) for each in HARMLESS)
    assert LOCKED.shows(action("unlock"), 0)


def test_an_unlock_runs_out_by_itself() -> None:
    opened = LOCKED.unlock(100)
    assert opened.left(100) == 900
    assert not opened.locked(999.9)
    assert all(opened.shows(each, 999.9) for each in MUTATING)
    assert opened.shows(action("lock"), 999.9)
    assert opened.locked(1000)
    assert not opened.shows(action("advance"), 1000)
    assert not opened.shows(action("lock"), 1000)
    assert opened.lock().locked(101)


@pytest.mark.parametrize("guarded", [True, False])
def test_read_only_cannot_be_unlocked(guarded: bool) -> None:
    reading = Access(read_only=True, guarded=guarded)
    for access in (reading, reading.unlock(0)):
        assert not any(access.shows(each, 0) for each in MUTATING)
        assert not access.shows(action("unlock"), 0)
        assert not access.locked(0)


def test_a_reason_is_wanted_where_the_plan_says_so_and_never_for_the_way_back() -> None:
    confirm = Confirm(reason=(Reasoned.ADVANCE, Reasoned.ROLLBACK))
    assert confirm.wants_reason("advance", "  ")
    assert not confirm.wants_reason("advance", "agreed with the team")
    assert not confirm.wants_reason("rollback", "")
    assert not confirm.wants_reason("pause", "")
