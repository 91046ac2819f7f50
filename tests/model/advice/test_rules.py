"""The adviser's table: the issue's own rows, and what holds for every combination of facts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.model.advice.locks import RULES, judge
from zdd_tui.model.advice.migration import Kind, freshened, read_migration
from zdd_tui.model.advice.rules import (
    AGAINST,
    EXPAND_CONTRACT,
    STRATEGIES,
    TABLE,
    Cost,
    Facts,
    Schema,
    advise,
    refuse_destructive,
    schema_of,
)
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.strategies import PLANS

facts = st.builds(
    Facts,
    schema=st.sampled_from(Schema),
    risk=st.sampled_from(["low", "high"]),
    regions=st.integers(1, 5),
    sessions=st.sampled_from(["external", "in-memory"]),
    monolith=st.booleans(),
    experimental=st.booleans(),
)


@pytest.mark.parametrize(
    ("seen", "strategy", "cost"),
    [
        (Facts(), "rolling", Cost.LOW),
        (Facts(schema=Schema.ADDITIVE), "rolling", Cost.LOW),
        (Facts(schema=Schema.ADDITIVE, risk="high"), "canary", Cost.HIGH),
        (Facts(schema=Schema.BREAKING), "expand/contract", Cost.MEDIUM),
        (Facts(risk="high"), "canary", Cost.HIGH),
        (Facts(regions=3), "blue/green", Cost.HIGH),
        (Facts(monolith=True), "blue/green", Cost.MEDIUM),
        (Facts(experimental=True), "dark-launch", Cost.HIGH),
        (Facts(sessions="in-memory"), "blue/green", Cost.MEDIUM),
        (Facts(schema=Schema.BREAKING, regions=3, risk="high"), "expand/contract", Cost.HIGH),
        (Facts(experimental=True, risk="high"), "dark-launch", Cost.HIGH),
    ],
)
def test_each_row_of_the_table(seen: Facts, strategy: str, cost: Cost) -> None:
    found = advise(seen)
    assert (found.strategy, found.cost) == (strategy, cost)


@settings(max_examples=100, deadline=None)
@given(facts)
def test_a_breaking_schema_never_yields_anything_but_expand_contract(seen: Facts) -> None:
    assert advise(replace(seen, schema=Schema.BREAKING)).strategy == EXPAND_CONTRACT
    if seen.schema is not Schema.BREAKING:
        assert advise(seen).strategy != EXPAND_CONTRACT


@settings(max_examples=100, deadline=None)
@given(facts, facts)
def test_a_further_difficulty_never_makes_it_cheaper(one: Facts, other: Facts) -> None:
    order = list(Schema)
    worse = Facts(
        schema=max(one.schema, other.schema, key=order.index),
        risk="high" if "high" in (one.risk, other.risk) else "low",
        regions=max(one.regions, other.regions),
        sessions="in-memory" if "in-memory" in (one.sessions, other.sessions) else "external",
        monolith=one.monolith or other.monolith,
        experimental=one.experimental or other.experimental,
    )
    assert advise(worse).cost >= max(advise(one).cost, advise(other).cost)


@settings(max_examples=100, deadline=None)
@given(facts)
def test_every_other_strategy_is_rejected_with_a_reason(seen: Facts) -> None:
    found = advise(seen)
    assert {found.strategy, *(name for name, _ in found.rejected)} == set(STRATEGIES)
    assert all(why for _, why in found.rejected)
    assert found.reasons[0].strategy == found.strategy
    assert all(found.rollback)


def test_every_strategy_that_is_advised_can_be_planned() -> None:
    assert set(STRATEGIES) == set(PLANS)
    assert {row.strategy for row in TABLE} == {name for name, _, _ in AGAINST} == set(STRATEGIES)


def test_every_kind_of_statement_has_a_rule() -> None:
    assert set(RULES) == set(Kind)


@pytest.mark.parametrize("strategy", ["rolling", "canary", "blue/green", "dark-launch"])
@pytest.mark.parametrize(
    ("sql", "mend"),
    [
        ("ALTER TABLE users RENAME COLUMN a TO b", '--type "a=…"'),
        ("ALTER TABLE users ALTER a TYPE bigint", '--type "a=…"'),
        ("ALTER TABLE users ALTER a SET NOT NULL", "NOT VALID; VALIDATE CONSTRAINT; then SET NOT NULL"),
        ("ALTER TABLE users DROP COLUMN a", '--down "a=…"'),
        ("DROP TABLE users", "when no older pod is left"),
        ("ALTER TABLE users RENAME TO people", "--dsn"),
    ],
)
def test_destructive_statements_are_refused_outside_of_expand_contract(sql: str, mend: str, strategy: str) -> None:
    statements = read_migration(f"SELECT 1;\n{sql}", "m.sql")
    with pytest.raises(PlanError) as error:
        refuse_destructive(statements, strategy)
    assert "m.sql:2: " + sql in error.value.title
    assert "expand/contract" in error.value.mend
    assert mend in error.value.mend
    refuse_destructive(statements, EXPAND_CONTRACT)


def test_the_mend_is_the_change_where_it_can_be_derived() -> None:
    sql = "ALTER TABLE users DROP COLUMN a, ADD COLUMN b int"
    with pytest.raises(PlanError, match='--up "b=…"'):
        refuse_destructive(read_migration(sql, "m.sql"), "rolling")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ADD COLUMN a text; CREATE INDEX CONCURRENTLY i ON users (a)",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID; ALTER TABLE users VALIDATE CONSTRAINT c;"
        "ALTER TABLE users ALTER a SET NOT NULL",
        "CREATE TABLE t (a int); ALTER TABLE t RENAME COLUMN a TO b; DROP TABLE t",
    ],
)
def test_what_running_code_survives_is_not_refused(sql: str) -> None:
    statements = freshened(read_migration(sql, "m.sql"))
    refuse_destructive(statements, "rolling")
    assert schema_of(judge(statements)) is Schema.ADDITIVE


def test_a_check_that_is_not_validated_proves_nothing() -> None:
    sql = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID; ALTER TABLE t ALTER a SET NOT NULL"
    assert schema_of(judge(read_migration(sql, "m.sql"))) is Schema.BREAKING
