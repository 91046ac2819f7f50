"""A table that is renamed, or moved to another schema: a new table beside it, with the same columns."""

from typing import Any

import postgast

from zdd_tui.model.advice.derive import Ask, Derived, column_sql, cut, table_sql
from zdd_tui.model.advice.live import LiveTable
from zdd_tui.model.advice.locks import Ruling, breaking
from zdd_tui.model.advice.migration import Action, Kind
from zdd_tui.model.plan import TableName


def derive_table(rulings: tuple[Ruling, ...], rename: Action, live: LiveTable | None) -> Derived:
    """The `change` section for a rename of a table; needs the live table, for its columns."""
    old = rename.table
    assert old is not None
    if live is None:
        return Derived(None, (Ask(f"the columns of {old}", "--dsn"),))
    if others := [ruling for ruling in breaking(rulings) if ruling.action is not rename]:
        return Derived(
            None,
            (Ask(f"{others[0].statement.place} breaks {old} in another way too: give each a migration and a release"),),
        )
    if live.generated:
        return Derived(None, (Ask(f"{old} has the generated column {min(live.generated)}: write the plan by hand"),))
    moved = rename.kind is Kind.SET_SCHEMA
    new = TableName(schema_=rename.name if moved else old.schema_, name=old.name if moved else rename.name)
    same = {name: column_sql(name) for name in live.columns if name not in live.key}
    if not same:
        return Derived(None, (Ask(f"{old} has no column beside its key: write the plan by hand"),))
    indexes = [carried for definition in live.indexes if (carried := _onto(definition, new))]
    section: dict[str, Any] = {"table": table_sql(old), "into": table_sql(new), "expand": _create(new, live)}
    if indexes:
        section["indexes"] = indexes
    notes = [
        f"{new} gets columns, defaults, key and indexes of {old}; CHECKs, foreign keys and grants are yours to add"
    ]
    notes += [f"foreign keys of {table} point at {old}: move them before the contract" for table in live.referenced_by]
    notes += [f"trigger {name} of {old} is not copied" for name in live.triggers]
    return Derived(section | {"up": same, "down": dict(same), "dual_write": "application"}, notes=tuple(notes))


def _create(new: TableName, live: LiveTable) -> str:
    lines = []
    for name, kind in live.columns.items():
        line = f"  {column_sql(name)} {kind}"
        if default := live.defaults.get(name):
            line += f" DEFAULT {default}"
        lines.append(line + (" NOT NULL" if name in live.not_null and name not in live.key else ""))
    lines.append(f"  PRIMARY KEY ({', '.join(column_sql(name) for name in live.key)})")
    return f"CREATE TABLE {table_sql(new)} (\n" + ",\n".join(lines) + "\n)"


def _onto(definition: str, table: TableName) -> str:
    tree = postgast.parse(definition)
    index = tree.stmts[0].stmt.index_stmt
    index.concurrent = True
    index.relation.schemaname, index.relation.relname = table.schema_, table.name
    index.idxname = cut(index.idxname, "_" + table.name)
    return str(postgast.deparse(tree))
