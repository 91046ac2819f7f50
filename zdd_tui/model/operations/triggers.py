"""Triggers, rules and policies: parts of a table that act on running code's statements."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, relation_sql, shorten
from zdd_tui.model.operations.objects import create_object
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, name_sql, quote_literal

_STATES = """CASE {column} WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS'
 ELSE 'ENABLE' END"""


def restore_trigger_query(table: str, name: str) -> str:
    """For ``undo_query``: creates a trigger as it is, with its state and comment. No rows where there is none.

    Args:
        table: as SQL.
    """
    literal = quote_literal(table)
    where = f"t.tgrelid = to_regclass({literal}) AND t.tgname = {quote_literal(name)} AND NOT t.tgisinternal"
    return (
        f"SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE {where}"
        f" UNION ALL {trigger_states_query(table, name)} AND t.tgenabled <> 'O'"
        f" UNION ALL SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, {literal}, d.description)"
        f" FROM pg_trigger t JOIN pg_description d ON d.objoid = t.oid AND d.classoid = 'pg_trigger'::regclass"
        f" WHERE {where}"
    )


def trigger_states_query(table: str, name: str = "") -> str:
    """For ``undo_query``: whether triggers are enabled, of the table and its partitions.

    Args:
        table: as SQL.
        name: default: all.
    """
    literal = quote_literal(table)
    named = f" AND t.tgname = {quote_literal(name)}" if name else " AND NOT t.tgisinternal"
    return states_query(
        f"t.tgrelid IN (SELECT to_regclass({literal}) UNION SELECT relid FROM"
        f" pg_partition_tree(to_regclass({literal}))){named}"
    )


def states_query(condition: str) -> str:
    """As :func:`trigger_states_query`.

    Args:
        condition: over pg_trigger t.
    """
    state = _STATES.format(column="t.tgenabled")
    return (
        f"SELECT format('ALTER TABLE ONLY %s %s TRIGGER %I', t.tgrelid::regclass, {state}, t.tgname) FROM pg_trigger t"
        f" WHERE {condition}"
    )


def restore_rule_query(table: str, name: str) -> str:
    """For ``undo_query``: creates a rule as it is."""
    literal = quote_literal(table)
    where = f"r.ev_class = to_regclass({literal}) AND r.rulename = {quote_literal(name)}"
    state = _STATES.format(column="r.ev_enabled")
    return (
        f"SELECT pg_get_ruledef(r.oid) FROM pg_rewrite r WHERE {where}"
        f" UNION ALL SELECT format('ALTER TABLE %s %s RULE %I', {literal}, {state}, r.rulename) FROM pg_rewrite r"
        f" WHERE {where} AND r.ev_enabled <> 'O'"
        f" UNION ALL SELECT format('COMMENT ON RULE %I ON %s IS %L', r.rulename, {literal}, d.description)"
        f" FROM pg_rewrite r JOIN pg_description d ON d.objoid = r.oid AND d.classoid = 'pg_rewrite'::regclass"
        f" WHERE {where}"
    )


def restore_policy_query(table: str, name: str) -> str:
    """For ``undo_query``: creates a policy as it is."""
    literal = quote_literal(table)
    where = f"p.polrelid = to_regclass({literal}) AND p.polname = {quote_literal(name)}"
    roles = (
        "(SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')"
        " FROM unnest(p.polroles) AS r)"
    )
    commands = (
        "CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'"
        " ELSE 'ALL' END"
    )
    return (
        f"SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, {literal},"
        f" CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, {commands}, {roles},"
        " coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ''),"
        " coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''))"
        f" FROM pg_policy p WHERE {where}"
        f" UNION ALL SELECT format('COMMENT ON POLICY %I ON %s IS %L', p.polname, {literal}, d.description)"
        f" FROM pg_policy p JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_policy'::regclass"
        f" WHERE {where}"
    )


def event_trigger_state_query(name: str) -> str:
    """For ``undo_query``: whether an event trigger is enabled."""
    state = _STATES.format(column="evtenabled")
    return (
        f"SELECT format('ALTER EVENT TRIGGER %I %s', evtname, {state}) FROM pg_event_trigger"
        f" WHERE evtname = {quote_literal(name)}"
    )


def _replace_part(what: str, drop: str, text: str, restore: str) -> tuple[Operation, ...]:
    before = f"SELECT {quote_literal(drop)} UNION ALL SELECT * FROM ({restore}) AS restored"
    step = OperationStep(Phase.EXPAND, f"create or replace {what}", (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def _read_trigger(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    name, table = name_sql(statement.trigname), relation_sql(statement.relation)
    if statement.replace:
        drop = f"DROP TRIGGER IF EXISTS {name} ON {table}"
        return _replace_part(f"trigger {name} on {table}", drop, text, restore_trigger_query(table, statement.trigname))
    return create_object("TRIGGER", name, text, on=table)


def _read_rule(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    name, table = name_sql(statement.rulename), relation_sql(statement.relation)
    if statement.replace:
        drop = f"DROP RULE IF EXISTS {name} ON {table}"
        return _replace_part(f"rule {name} on {table}", drop, text, restore_rule_query(table, statement.rulename))
    return create_object("RULE", name, text, on=table)


def _read_policy(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return create_object("POLICY", name_sql(statement.policy_name), text, on=relation_sql(statement.table))


def _read_alter_policy(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    name, table = name_sql(statement.policy_name), relation_sql(statement.table)
    restore = restore_policy_query(table, statement.policy_name)
    before = f"SELECT {quote_literal(f'DROP POLICY {name} ON {table}')} UNION ALL SELECT * FROM ({restore}) AS restored"
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def _read_alter_event_trigger(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    before = event_trigger_state_query(statement.trigname)
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def read_enable_trigger(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ENABLE in expand, DISABLE in contract, as for CREATE and DROP."""
    given, table = command.alter_table_cmd, relation_sql(alter.relation)
    is_disabled = enum_name(given, "subtype").startswith("AT_Disable")
    step = OperationStep(
        options.last_phase if is_disabled else Phase.EXPAND,
        shorten(text),
        (text,),
        undo_query=trigger_states_query(table, given.name),
    )
    topic = f"triggers and rules of {relation_sql(alter.relation)}"
    return (Operation(text, step.label, (step,), topic=topic),)


def read_enable_rule(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ENABLE in expand, DISABLE in contract."""
    given, literal = command.alter_table_cmd, quote_literal(relation_sql(alter.relation))
    is_disabled = enum_name(given, "subtype").startswith("AT_Disable")
    state = _STATES.format(column="r.ev_enabled")
    before = (
        f"SELECT format('ALTER TABLE %s %s RULE %I', {literal}, {state}, r.rulename) FROM pg_rewrite r"
        f" WHERE r.ev_class = to_regclass({literal}) AND r.rulename = {quote_literal(given.name)}"
    )
    phase = options.last_phase if is_disabled else Phase.EXPAND
    step = OperationStep(phase, shorten(text), (text,), undo_query=before)
    topic = f"triggers and rules of {relation_sql(alter.relation)}"
    return (Operation(text, step.label, (step,), topic=topic),)


TRIGGER_READERS: Mapping[str, Any] = {
    "alter_event_trig_stmt": _read_alter_event_trigger,
    "alter_policy_stmt": _read_alter_policy,
    "create_policy_stmt": _read_policy,
    "create_trig_stmt": _read_trigger,
    "rule_stmt": _read_rule,
}
TRIGGER_COMMANDS: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            *("AT_EnableTrig", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig", "AT_DisableTrig"),
            *("AT_EnableTrigAll", "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser"),
        ),
        read_enable_trigger,
    ),
    **dict.fromkeys(
        ("AT_EnableRule", "AT_EnableAlwaysRule", "AT_EnableReplicaRule", "AT_DisableRule"), read_enable_rule
    ),
}
