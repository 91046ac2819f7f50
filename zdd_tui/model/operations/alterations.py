"""Sequences, domains, composite types and publications that exist."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.identities import read_sequence_type, restore_position_query
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, string_values


def _read_alter_sequence(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    names = {each.def_elem.defname for each in statement.options}
    sequence = relation_sql(statement.sequence)
    if names == {"as"} and not statement.missing_ok:
        return read_sequence_type(statement, text, options)
    literal = quote_literal(sequence)
    if names == {"restart"}:
        before = restore_position_query(literal)
    elif "restart" in names:
        raise PlanError(f"{shorten(text)}: RESTART and options of the sequence in one", "write two statements")
    elif names <= {"owned_by"}:
        before = (
            f"SELECT 'ALTER SEQUENCE ' || {literal} || ' OWNED BY ' || coalesce((SELECT format('%s.%I',"
            " d.refobjid::regclass, a.attname) FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid"
            f" AND a.attnum = d.refobjsubid WHERE d.objid = to_regclass({literal}) AND d.classid = 'pg_class'::regclass"
            " AND d.deptype = 'a'), 'NONE')"
        )
    else:
        before = (
            "SELECT format('ALTER SEQUENCE %s AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s',"
            f" {literal}, format_type(seqtypid, NULL), seqincrement, seqmin, seqmax, seqstart, seqcache,"
            " CASE WHEN seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)"
            f" FROM pg_sequence WHERE seqrelid = to_regclass({literal})"
        )
        if "owned_by" in names:
            return (read_own_statement(text, options),)
    only_if = f"SELECT to_regclass({literal}) IS NOT NULL" if statement.missing_ok else ""
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=before, only_if=only_if)
    return (Operation(text, step.label, (step,)),)


def _read_alter_domain(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A constraint that running code may violate comes in contract, one that goes in expand."""
    domain = name_sql(*string_values(statement.type_name))
    literal, alter = quote_literal(domain), f"ALTER DOMAIN {domain}"
    at = f"c.contypid = to_regtype({literal}) AND c.conname = {quote_literal(statement.name)}"
    steps: tuple[OperationStep, ...]
    drops: tuple[ObjectAddress, ...] = ()
    last, label = options.last_phase, shorten(text)
    match statement.subtype:
        case "T":
            is_set = getattr(statement, "def").WhichOneof("node") is not None
            before = (
                f"SELECT {quote_literal(alter)} || coalesce(' SET DEFAULT ' || typdefault_sql, ' DROP DEFAULT') FROM"
                " (SELECT coalesce(pg_get_expr(typdefaultbin, 0), quote_literal(typdefault)) AS typdefault_sql"
                f" FROM pg_type WHERE oid = to_regtype({literal})) AS before"
            )
            steps = (OperationStep(Phase.EXPAND if is_set else last, label, (text,), undo_query=before),)
        case "N" | "O":
            before = (
                f"SELECT {quote_literal(alter)} || CASE WHEN typnotnull THEN ' SET NOT NULL' ELSE ' DROP NOT NULL' END"
                f" FROM pg_type WHERE oid = to_regtype({literal})"
            )
            steps = (
                OperationStep(Phase.EXPAND if statement.subtype == "N" else last, label, (text,), undo_query=before),
            )
        case "C":
            constraint = getattr(statement, "def").constraint
            if not constraint.conname or enum_name(constraint, "contype") != "CONSTR_CHECK":
                raise PlanError(f"{label}: the constraint has no name", "name it: ADD CONSTRAINT name CHECK …")
            name, is_checked = name_sql(constraint.conname), not constraint.skip_validation
            tree = parse_sql(text)
            added = getattr(tree.stmts[0].stmt.alter_domain_stmt, "def").constraint
            added.skip_validation, added.initially_valid = True, False
            steps = (OperationStep(last, label, (deparse(tree),), (f"{alter} DROP CONSTRAINT {name}",)),)
            if is_checked:
                validate = f"{alter} VALIDATE CONSTRAINT {name}"
                steps += (OperationStep(last, f"validate {name} of {domain}", (validate,)),)
        case "X":
            before = (
                f"SELECT format('%s ADD CONSTRAINT %I %s', {quote_literal(alter)}, c.conname,"
                " pg_get_constraintdef(c.oid))"
                f" FROM pg_constraint c WHERE {at}"
            )
            steps = (OperationStep(Phase.EXPAND, label, (text,), undo_query=before),)
            drops = (ObjectAddress("domain constraint", (domain,), (statement.name,)),)
        case "V":
            steps = (OperationStep(last, f"{label}, which stays so after a rollback", (text,)),)
        case _:
            return (read_own_statement(text, options),)
    return (Operation(text, label, steps, drops=drops),)


def read_composite_attribute(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: always: running code writes whole values of the type.
    """
    raise PlanError(
        f"{shorten(text)}: running code writes values of the type with the attributes of now",
        "create a new type and a column of it; or give the operation undo: and phase:",
    )


def _read_alter_publication(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ADD TABLE in expand, DROP TABLE in cleanup; subscribers of anything else see another set of rows at once."""
    action = enum_name(statement, "action")
    name = name_sql(statement.pubname)
    tables = [each.publication_obj_spec.pubtable.relation for each in statement.pubobjects]
    if action == "AP_AddObjects" and tables and all(each.relname for each in tables):
        queries = [
            f"SELECT {quote_literal(f'ALTER PUBLICATION {name} DROP TABLE {relation_sql(each)}')} WHERE NOT EXISTS"
            " (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname ="
            f" {quote_literal(statement.pubname)} AND r.prrelid = to_regclass({quote_literal(relation_sql(each))}))"
            for each in tables
        ]
        step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=" UNION ALL ".join(queries))
        return (Operation(text, step.label, (step,)),)
    if action == "AP_DropObjects":
        step = OperationStep(Phase.CLEANUP, shorten(text), (text,))
        return (Operation(text, step.label, (step,)),)
    return (read_own_statement(text, options),)


ALTERATION_READERS: Mapping[str, Any] = {
    "alter_domain_stmt": _read_alter_domain,
    "alter_publication_stmt": _read_alter_publication,
    "alter_seq_stmt": _read_alter_sequence,
}
