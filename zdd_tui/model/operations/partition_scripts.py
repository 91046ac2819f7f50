"""The script by which teams make a table a partitioned one, as the ``partition:`` of a plan."""

from collections.abc import Sequence
from typing import Any

from zdd_tui.model.operations.base import relation_sql
from zdd_tui.model.operations.partitioning import bound_sql, key_sql
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, string_values


def derive_partition(statements: Sequence[str]) -> tuple[dict[str, Any], int] | None:
    """The section, and how many of the statements it stands for; None where they do not begin such a script.

    It is CREATE TABLE new (LIKE old) PARTITION BY, its partitions and perhaps its PRIMARY KEY, then INSERT INTO new
    SELECT * FROM old, the RENAME of both, and DROP TABLE of the old one, with nothing between them.
    """
    first = _read_one(statements[0], "create_stmt")
    if first is None or not first.HasField("partspec") or first.HasField("partbound"):
        return None
    likes = [each.table_like_clause.relation for each in first.table_elts if each.HasField("table_like_clause")]
    keys = [each.constraint for each in first.table_elts if each.HasField("constraint")]
    if len(likes) != 1 or len(keys) + 1 != len(first.table_elts):
        return None
    new, old = relation_sql(first.relation), relation_sql(likes[0])
    section: dict[str, Any] = {
        "table": old,
        "by": key_sql(first.partspec),
        "partitions": {},
    }
    ending: list[str] = []
    taken = 1
    for text in statements[1:]:
        if len(ending) == _LENGTH_OF_ENDING:
            break
        taken += 1
        part, alter = _read_one(text, "create_stmt"), _read_one(text, "alter_table_stmt")
        if part is not None and not ending and [relation_sql(each.range_var) for each in part.inh_relations] == [new]:
            section["partitions"][relation_sql(part.relation)] = bound_sql(part.partbound)
        elif alter is not None and not ending and relation_sql(alter.relation) == new:
            keys += [getattr(each.alter_table_cmd, "def").constraint for each in alter.cmds]
        else:
            ending.append(deparse(parse_sql(text)))
    if len(keys) > 1 or any(enum_name(each, "contype") != "CONSTR_PRIMARY" for each in keys):
        return None
    if not section["partitions"] or ending != _expected_ending(new, likes[0], ending[1:2]):
        return None
    section |= {"key": string_values(keys[0].keys)} if keys else {}
    return section, taken


_LENGTH_OF_ENDING = 4
"""INSERT, two RENAME and DROP."""


def _expected_ending(new: str, old: Any, rename: list[str]) -> list[str]:
    """The statements at the end, given the first RENAME."""
    begin = f"ALTER TABLE {relation_sql(old)} RENAME TO "
    archive = rename[0].removeprefix(begin) if rename else ""
    schema = f"{name_sql(old.schemaname)}." if old.schemaname else ""
    return [
        f"INSERT INTO {new} SELECT * FROM {relation_sql(old)}",  # noqa: S608  compared, not run
        f"{begin}{archive}",
        f"ALTER TABLE {new} RENAME TO {name_sql(old.relname)}",
        f"DROP TABLE {schema}{archive}",
    ]


def _read_one(text: str, kind: str) -> Any:
    """A statement of a kind; None for any other."""
    statements = parse_sql(text).stmts
    is_kind = len(statements) == 1 and statements[0].stmt.WhichOneof("node") == kind
    return getattr(statements[0].stmt, kind) if is_kind else None
