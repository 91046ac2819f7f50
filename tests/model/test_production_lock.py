"""Which names suggest production; the production lock: it opens locked, an unlock expires, rollback stays available."""

import pytest

from zdd_tui.model.actions import ACTIONS, find_action
from zdd_tui.model.plan.base import ConfirmSection, ReasonCommand
from zdd_tui.model.production_lock import UNRESTRICTED, ProductionLock, is_production

LOCKED = ProductionLock(guarded=True, unlock_seconds=900)
MUTATING = [each for each in ACTIONS if each.mutating]
HARMLESS = [each for each in ACTIONS if not each.mutating and each.id not in ("lock", "unlock")]


def test_what_is_not_production_has_no_lock() -> None:
    assert all(UNRESTRICTED.is_available(each, 0) for each in MUTATING + HARMLESS)
    assert not UNRESTRICTED.is_available(find_action("unlock"), 0)
    assert not UNRESTRICTED.is_available(find_action("lock"), 0)
    assert UNRESTRICTED.unlock(0) == UNRESTRICTED


def test_locked_production_keeps_only_what_asks_for_its_name() -> None:
    assert [each.id for each in MUTATING if LOCKED.is_available(each, 0)] == ["rollback", "start-agent"]
    assert all(LOCKED.is_available(each, 0) for each in HARMLESS)
    assert LOCKED.is_available(find_action("unlock"), 0)


def test_an_unlock_runs_out_by_itself() -> None:
    opened = LOCKED.unlock(100)
    assert opened.seconds_left(100) == 900
    assert not opened.is_locked(999.9)
    assert all(opened.is_available(each, 999.9) for each in MUTATING)
    assert opened.is_available(find_action("lock"), 999.9)
    assert opened.is_locked(1000)
    assert not opened.is_available(find_action("advance"), 1000)
    assert not opened.is_available(find_action("lock"), 1000)
    assert opened.lock().is_locked(101)


@pytest.mark.parametrize("guarded", [True, False])
def test_read_only_cannot_be_unlocked(guarded: bool) -> None:
    reading = ProductionLock(read_only=True, guarded=guarded)
    for access in (reading, reading.unlock(0)):
        assert not any(access.is_available(each, 0) for each in MUTATING)
        assert not access.is_available(find_action("unlock"), 0)
        assert not access.is_locked(0)


def test_a_reason_is_required_where_the_plan_says_so_and_never_for_rollback() -> None:
    confirm = ConfirmSection(reason=(ReasonCommand.ADVANCE, ReasonCommand.ROLLBACK))
    assert confirm.needs_reason("advance", "  ")
    assert not confirm.needs_reason("advance", "agreed with the team")
    assert not confirm.needs_reason("rollback", "")
    assert not confirm.needs_reason("pause", "")


@pytest.mark.parametrize(
    "name",
    [
        *("production", "prod", "prd", "live", "PRODUCTION", "Prod", " prod "),
        *("prod-eu", "eu-production", "prod_eu_1", "eu.prod", "shop/prod", "prod2", "Production2", "prd1-eu", "EuProd"),
        *("live-eu", "go-live", "prod-staging"),
    ],
)
def test_production(name: str) -> None:
    assert is_production(name)


@pytest.mark.parametrize(
    "name",
    [
        *("preprod", "pre-production", "pre-prod", "pre_prod", "PreProd", "PREPROD", "non-prod", "nonprod", "NonProd"),
        *("non_production", "not-production", "eu-non-prod", "prod-like", "prod-copy"),
        *("staging", "stage", "test", "dev", "demo", "qa", ""),
        *("product", "products", "reproduction", "olive", "delivery"),
    ],
)
def test_no_production(name: str) -> None:
    assert not is_production(name)
