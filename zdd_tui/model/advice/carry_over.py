"""Adds the DDL to a `change` section that gives the new side what the old side has."""

from collections.abc import Iterable, Mapping
from typing import Any

from zdd_tui.model.ddl.catalog_diff import SideDifference, SideVerdict
from zdd_tui.model.sql import deparse, node_class, parse_sql, split_statements, walk


def add_missing_ddl(change: Mapping[str, Any], differences: Iterable[SideDifference]) -> dict[str, Any]:
    """The section with the statements that carry the losses over; those that only a person knows stay lost."""
    lost = [each for each in differences if each.verdict is SideVerdict.LOST]
    section = dict(change)
    statements = list(split_statements(section["expand"]))
    for each in lost:
        if each.kind == "collation" and each.statements:
            statements = [_add_collation(text, each.statements[0].sql) for text in statements]
    for name in ("indexes", "constrain"):
        found = [each.sql for difference in lost for each in difference.statements if each.section == name]
        if found:
            section[name] = list(dict.fromkeys([*section.get(name, []), *found]))
    added = [
        each.sql
        for difference in lost
        if difference.kind != "collation"
        for each in difference.statements
        if each.section == "expand"
    ]
    section["expand"] = ";\n".join(dict.fromkeys([*statements, *added]))
    order = ("table", "into", "key", "expand", "indexes", "constrain", "up", "down", "dual_write")
    return {key: section[key] for key in order if key in section}


def describe_remaining(differences: Iterable[SideDifference]) -> tuple[str, ...]:
    """What a person must still carry over, or accept."""
    return tuple(
        f"lost unless you carry it over or name it in `accept:`: {each.what}: {each.reason}"
        for each in differences
        if each.verdict is SideVerdict.LOST
    )


def _add_collation(text: str, added: str) -> str:
    """The statement with the collation of a column that it makes; ``added`` is an ADD COLUMN with that collation."""
    wanted = next(node for node in walk(parse_sql(added)) if node_class(node) == "ColumnDef")
    tree = parse_sql(text)
    for node in walk(tree):
        if node_class(node) == "ColumnDef" and node.colname == wanted.colname:
            node.coll_clause.CopyFrom(wanted.coll_clause)
            return deparse(tree)
    return text
