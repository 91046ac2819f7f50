"""The decision of the comparison, without a server: what is carried, harmless or lost, and what the operator reads."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema_change import make_plan
from zdd_tui.model.ddl.catalog_diff import (
    SideDifference,
    SideVerdict,
    compare_sides,
    find_sequence_moves,
    format_losses,
    holds_every_value,
    lost_differences,
    unused_accepts,
)
from zdd_tui.model.ddl.table_objects import CatalogObject, Grant, ObjectKind, SequenceObject, TableColumn, TableObjects
from zdd_tui.model.plan.base import AcceptedLoss, Plan

OLD = TableColumn("a", "text", collation="pg_catalog.default")
NEW = replace(OLD, name="b")
KEY = TableColumn("id", "bigint", not_null=True)


def plan_of(*accept: str, up: dict[str, str] | None = None, **change: Any) -> Plan:
    plan = make_plan()
    section = plan.change.model_copy(update={"up": up or {"b": "a"}, "down": {"a": "b"}, **change})
    accepted = tuple(AcceptedLoss(what=what, reason="tested") for what in accept)
    return plan.model_copy(update={"change": section, "accept": accepted})


def compare(plan: Plan, old: TableColumn, new: TableColumn, *objects: CatalogObject, **table: Any) -> dict[str, str]:
    both = TableObjects("public", "users", "me", (KEY, old, new), objects, **table)
    return {each.what: str(each.verdict) for each in compare_sides(plan, both, both, key=["id"])}


@pytest.mark.parametrize(
    ("old", "new", "holds"),
    [
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("integer", "numeric", True),
        ("numeric", "integer", False),
        ("character varying(10)", "text", True),
        ("text", "character varying(10)", False),
        ("text", "character varying", True),
        ("character varying(10)", "character varying(11)", True),
        ("character varying(10)", "character varying(9)", False),
        ("character varying", "character varying(9)", False),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(12,5)", False),
        ("numeric(10,2)", "numeric(11,3)", True),
        ("numeric(10,2)", "numeric", True),
        ("real", "double precision", True),
        ("double precision", "real", False),
        ("json", "jsonb", False),
        ("uuid", "text", False),
        ("character(4)", "text", False),  # padding is not kept
    ],
)
def test_types_that_hold_every_value(old: str, new: str, holds: bool) -> None:
    assert holds_every_value(old, new) is holds


@pytest.mark.parametrize(
    ("up", "old", "new", "verdict"),
    [
        ("a", "integer", "bigint", "harmless"),
        ("a", "bigint", "integer", "lost"),
        ("CAST(a AS integer)", "bigint", "integer", "harmless"),
        ("upper(a)", "text", "character varying(9)", "harmless"),
    ],
)
def test_a_narrower_type_needs_a_conversion_in_the_plan(up: str, old: str, new: str, verdict: str) -> None:
    found = compare(plan_of(up={"b": up}), replace(OLD, type=old, collation=""), replace(NEW, type=new, collation=""))
    assert found["type a"] == verdict


def test_what_has_no_successor_is_lost_and_takes_its_indexes_along() -> None:
    index = CatalogObject(ObjectKind.INDEX, "i", "CREATE INDEX i ON public.users USING btree (a)", ("a",))
    check = CatalogObject(ObjectKind.CHECK, "c", "CHECK ((a <> id::text))", ("a", "id"))
    found = compare(plan_of(up={"b": "id::text"}), OLD, NEW, index, check)
    assert found == {"column a": "lost", "check c": "lost", "index i": "harmless"}


def test_what_cannot_be_read_is_lost() -> None:
    check = CatalogObject(ObjectKind.CHECK, "c", "CHECK ((a >< 1)) SYNTAX OF TOMORROW", ("a",))
    other = replace(check, name="d", definition="CHECK ((b >< 1)) SYNTAX OF TOMORROW", columns=("b",))
    assert compare(plan_of(), OLD, NEW, check, other) == {"check c": "lost"}


def test_a_constraint_counts_only_when_it_is_valid() -> None:
    check = CatalogObject(ObjectKind.CHECK, "c", "CHECK ((a <> ''::text))", ("a",))
    other = CatalogObject(ObjectKind.CHECK, "d", "CHECK ((b <> ''::text)) NOT VALID", ("b",), is_valid=False)
    assert compare(plan_of(), OLD, NEW, check, other) == {"check c": "lost"}
    assert compare(plan_of(), OLD, NEW, replace(check, is_valid=False), other) == {"check c": "carried"}
    assert compare(plan_of(), OLD, NEW, check, replace(other, is_valid=True)) == {"check c": "carried"}


def test_rights_on_the_table_include_its_new_columns() -> None:
    old = Grant("app", "SELECT", "a")
    assert compare(plan_of(), OLD, NEW, grants=(old,)) == {"grant SELECT(a) to app": "lost"}
    assert compare(plan_of(), OLD, NEW, grants=(old, Grant("app", "SELECT"))) == {"grant SELECT(a) to app": "carried"}
    assert compare(plan_of(), OLD, NEW, grants=(old, Grant("app", "UPDATE"))) == {"grant SELECT(a) to app": "lost"}
    option = replace(old, is_grantable=True)
    found = compare(plan_of(), OLD, NEW, grants=(option, Grant("app", "SELECT", "b")))
    assert found == {"grant SELECT(a) to app with grant option": "lost"}


def test_an_accepted_loss_is_none_unless_it_keeps_the_old_side() -> None:
    view = SideDifference("view public.v", SideVerdict.LOST, "", is_attached=True)
    check = SideDifference("check c", SideVerdict.LOST, "")
    plan = plan_of("view public.v", "check c", "check other", "default  x")
    assert lost_differences(plan, [view, check]) == ()
    assert lost_differences(plan, [view, check], at_end=True) == (view,)
    assert unused_accepts(plan, [view, check]) == (
        "accept: check other is not lost; remove it",
        "accept: default x is not lost; remove it",
    )


def test_the_hint_has_the_lines_to_add() -> None:
    plan = plan_of()
    both = TableObjects("public", "users", "me", (KEY, replace(OLD, not_null=True, comment="it's"), NEW))
    text = format_losses(compare_sides(plan, both, both, key=["id"]))
    assert "COMMENT ON COLUMN public.users.b IS 'it''s';" in text
    assert "- ALTER TABLE public.users ALTER COLUMN b SET NOT NULL" in text
    assert "- what: not-null a" in text
    assert "reason: …" in text


def test_sequences_of_both_sides_are_paired_by_column() -> None:
    def side(name: str, sequence: str) -> TableObjects:
        column = TableColumn("id", "bigint", not_null=True, identity="d", sequence=("public", sequence))
        return TableObjects(
            "public", name, columns=(column,), sequences=(SequenceObject("public", sequence, "bigint", "id"),)
        )

    plan = make_plan("table")
    (move,) = find_sequence_moves(plan, side("users", "users_id_seq"), side("people", "people_id_seq"), key=["id"])
    assert (move.new, move.old) == (("public", "people_id_seq"), ("public", "users_id_seq"))
    assert 'FROM "public"."people"' in move.sql
    assert find_sequence_moves(plan, side("users", "s"), side("people", "s"), key=["id"]) == ()
