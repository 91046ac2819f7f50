"""The adviser's table: the issue's own rows, and what holds for every combination of facts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.model.advice.locks import LOCK_RULES, evaluate_statements
from zdd_tui.model.advice.migration import ActionKind, mark_new_tables, read_migration
from zdd_tui.model.advice.rules import (
    ADVICE_RULES,
    EXPAND_CONTRACT,
    REJECTIONS,
    STRATEGIES,
    ChangeFacts,
    EffortLevel,
    SchemaImpact,
    choose_strategy,
    classify_schema_impact,
    refuse_destructive,
)
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.registry import PLAN_CLASSES

facts = st.builds(
    ChangeFacts,
    schema=st.sampled_from(SchemaImpact),
    risk=st.sampled_from(["low", "high"]),
    regions=st.integers(1, 5),
    sessions=st.sampled_from(["external", "in-memory"]),
    is_monolith=st.booleans(),
    is_experimental=st.booleans(),
)


@pytest.mark.parametrize(
    ("seen", "strategy", "cost"),
    [
        (ChangeFacts(), "rolling", EffortLevel.LOW),
        (ChangeFacts(schema=SchemaImpact.ADDITIVE), "rolling", EffortLevel.LOW),
        (ChangeFacts(schema=SchemaImpact.ADDITIVE, risk="high"), "canary", EffortLevel.HIGH),
        (ChangeFacts(schema=SchemaImpact.BREAKING), "expand-contract", EffortLevel.MEDIUM),
        (ChangeFacts(risk="high"), "canary", EffortLevel.HIGH),
        (ChangeFacts(regions=3), "blue-green", EffortLevel.HIGH),
        (ChangeFacts(is_monolith=True), "blue-green", EffortLevel.MEDIUM),
        (ChangeFacts(is_experimental=True), "dark-launch", EffortLevel.HIGH),
        (ChangeFacts(sessions="in-memory"), "blue-green", EffortLevel.MEDIUM),
        (ChangeFacts(schema=SchemaImpact.BREAKING, regions=3, risk="high"), "expand-contract", EffortLevel.HIGH),
        (ChangeFacts(is_experimental=True, risk="high"), "dark-launch", EffortLevel.HIGH),
    ],
)
def test_each_row_of_the_table(seen: ChangeFacts, strategy: str, cost: EffortLevel) -> None:
    found = choose_strategy(seen)
    assert (found.strategy, found.cost) == (strategy, cost)


@settings(max_examples=100, deadline=None)
@given(facts)
def test_a_breaking_schema_never_yields_anything_but_expand_contract(seen: ChangeFacts) -> None:
    assert choose_strategy(replace(seen, schema=SchemaImpact.BREAKING)).strategy == EXPAND_CONTRACT
    if seen.schema is not SchemaImpact.BREAKING:
        assert choose_strategy(seen).strategy != EXPAND_CONTRACT


@settings(max_examples=100, deadline=None)
@given(facts, facts)
def test_a_further_difficulty_never_makes_it_cheaper(one: ChangeFacts, other: ChangeFacts) -> None:
    order = list(SchemaImpact)
    worse = ChangeFacts(
        schema=max(one.schema, other.schema, key=order.index),
        risk="high" if "high" in (one.risk, other.risk) else "low",
        regions=max(one.regions, other.regions),
        sessions="in-memory" if "in-memory" in (one.sessions, other.sessions) else "external",
        is_monolith=one.is_monolith or other.is_monolith,
        is_experimental=one.is_experimental or other.is_experimental,
    )
    assert choose_strategy(worse).cost >= max(choose_strategy(one).cost, choose_strategy(other).cost)


@settings(max_examples=100, deadline=None)
@given(facts)
def test_every_other_strategy_is_rejected_with_a_reason(seen: ChangeFacts) -> None:
    found = choose_strategy(seen)
    assert {found.strategy, *(name for name, _ in found.rejected)} == set(STRATEGIES)
    assert all(why for _, why in found.rejected)
    assert found.reasons[0].strategy == found.strategy
    assert all(found.rollback)


def test_every_strategy_that_is_advised_can_be_planned() -> None:
    assert set(STRATEGIES) == set(PLAN_CLASSES)
    assert {row.strategy for row in ADVICE_RULES} == {name for name, _, _ in REJECTIONS} == set(STRATEGIES)


def test_every_kind_of_statement_has_a_rule() -> None:
    assert set(LOCK_RULES) == set(ActionKind)


@pytest.mark.parametrize("strategy", ["rolling", "canary", "blue-green", "dark-launch"])
@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("ALTER TABLE users RENAME COLUMN a TO b", '--type "a=…"'),
        ("ALTER TABLE users ALTER a TYPE bigint", '--type "a=…"'),
        ("ALTER TABLE users ALTER a SET NOT NULL", "NOT VALID; VALIDATE CONSTRAINT; then SET NOT NULL"),
        ("ALTER TABLE users DROP COLUMN a", '--down "a=…"'),
        ("DROP TABLE users", "when no older pod is left"),
        ("ALTER TABLE users RENAME TO people", "--dsn"),
    ],
)
def test_destructive_statements_are_refused_outside_of_expand_contract(sql: str, hint: str, strategy: str) -> None:
    statements = read_migration(f"SELECT 1;\n{sql}", "m.sql")
    with pytest.raises(PlanError) as error:
        refuse_destructive(statements, strategy)
    assert "m.sql:2: " + sql in error.value.title
    assert "make it an expand/contract release" in error.value.hint
    assert hint in error.value.hint
    refuse_destructive(statements, EXPAND_CONTRACT)


def test_the_hint_is_the_change_where_it_can_be_derived() -> None:
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
def test_statements_that_break_nothing_are_not_refused(sql: str) -> None:
    statements = mark_new_tables(read_migration(sql, "m.sql"))
    refuse_destructive(statements, "rolling")
    assert classify_schema_impact(evaluate_statements(statements)) is SchemaImpact.ADDITIVE


def test_a_check_that_is_not_validated_proves_nothing() -> None:
    sql = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID; ALTER TABLE t ALTER a SET NOT NULL"
    assert classify_schema_impact(evaluate_statements(read_migration(sql, "m.sql"))) is SchemaImpact.BREAKING
