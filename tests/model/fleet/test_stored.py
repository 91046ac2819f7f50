"""The plan from the stored copy: the right database, and no value of another system."""

import pytest

from zdd_tui.demo.plan import plan_yaml, regions_yaml
from zdd_tui.model.errors import PlanError
from zdd_tui.model.fleet.config import FleetDatabase
from zdd_tui.model.fleet.stored import load_stored_plan, require_known_cluster, require_known_value
from zdd_tui.model.plan.base import BasePlan

TEXT = plan_yaml("column", "application")
DSN = "postgresql://viewer:pw@db.eu/shop"
HERE = {"DATABASE_URL": "postgresql://app@db.eu/shop", "REDIS_URL": "redis://cache.eu/0", "KUBECONFIG": "/eu"}


def load(environment: dict[str, str], text: str = TEXT, region: str = "", **variables: str) -> BasePlan:
    database = FleetDatabase("shop", DSN, variables=variables)
    return load_stored_plan(text, release="users-full-name", region=region, database=database, environment=environment)


def redis_of(plan: BasePlan) -> str:
    assert plan.redis_url is not None
    return plan.redis_url.get_secret_value()


def test_the_environment_counts_where_it_leads_to_the_same_database() -> None:
    plan = load(HERE)
    assert plan.database.dsn.get_secret_value() == DSN
    assert redis_of(plan) == "redis://cache.eu/0"
    require_known_cluster(plan)


def test_the_environment_of_another_database_is_not_used() -> None:
    plan = load(HERE | {"DATABASE_URL": "postgresql://app@db.us/shop"})
    assert plan.database.dsn.get_secret_value() == DSN
    with pytest.raises(PlanError, match="REDIS_URL}, which is not known for this database"):
        require_known_value(redis_of(plan), "flags.url")
    with pytest.raises(PlanError, match="KUBECONFIG"):
        require_known_cluster(plan)


def test_a_plan_without_kubeconfig_does_not_use_the_current_context_of_another_system() -> None:
    text = TEXT.replace("  kubeconfig: ${KUBECONFIG}\n", "")
    with pytest.raises(PlanError, match="KUBECONFIG"):
        require_known_cluster(load({}, text))
    assert load({}, text, KUBECONFIG="/eu").kubernetes.kubeconfig == "/eu"
    assert load(HERE, text).kubernetes.kubeconfig is None


def test_the_variables_of_the_configuration_come_first() -> None:
    plan = load(HERE, REDIS_URL="redis://configured/0")
    assert redis_of(plan) == "redis://configured/0"


def test_a_password_that_was_masked_is_told() -> None:
    plan = load(HERE, TEXT.replace("${REDIS_URL}", "redis://:***@cache/0"))
    with pytest.raises(PlanError, match="a password that the stored copy of the plan does not hold"):
        require_known_value(redis_of(plan), "flags.url")


def test_a_region_keeps_its_own_values() -> None:
    text = TEXT + regions_yaml(("eu", "us"), uses_flags=True)
    environment = {"US_DATABASE_URL": DSN, "US_REDIS_URL": "redis://us/0", "US_KUBECONFIG": "/us"}
    plan = load(environment, text, "us")
    assert (plan.region, redis_of(plan), plan.kubernetes.kubeconfig) == ("us", "redis://us/0", "/us")
    assert plan.database.dsn.get_secret_value() == DSN
