"""Expand: the plan's own DDL, and how to undo exactly what it made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier, quote_qualified, split_statements


@dataclass(frozen=True, slots=True)
class CreatedObjects:
    """Objects that the plan's expand DDL makes: columns of ``change.table``, others as schema and name.

    Stored in the step's detail as JSON, so that undo drops nothing else.
    """

    columns: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    sequences: tuple[tuple[str, str], ...] = ()
    types: tuple[tuple[str, str], ...] = ()
    indexes: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        pairs = ("tables", "sequences", "types", "indexes")
        values: dict[str, Any] = {key: tuple(document.get(key, ())) for key in ("columns", "constraints")}
        values |= {key: tuple((schema, name) for schema, name in document.get(key, ())) for key in pairs}
        return cls(**values)


def expand_statements(plan: Plan) -> tuple[str, ...]:
    """The plan's additive DDL, after the SET that says where its unqualified names are looked up."""
    return (f"SET LOCAL search_path = {search_path(plan)}", *split_statements(plan.change.expand))


def index_statements(plan: Plan) -> tuple[str, ...]:
    """The CREATE INDEX CONCURRENTLY statements; they run outside a transaction."""
    return tuple(statement.strip().rstrip(";").strip() for statement in plan.change.indexes)


def undo_expand_statements(plan: Plan, created: CreatedObjects) -> tuple[str, ...]:
    """Drops what was created in reverse order, each object only if it exists, nothing in cascade."""
    table = quote_qualified(plan.change.table.schema_, plan.change.table.name)
    alters = [f"DROP CONSTRAINT IF EXISTS {quote_identifier(name)}" for name in created.constraints]
    alters += [f"DROP COLUMN IF EXISTS {quote_identifier(name)}" for name in created.columns]
    statements = [f"ALTER TABLE {table} {', '.join(alters)}"] if alters else []
    statements += [f"DROP INDEX IF EXISTS {quote_qualified(*name)}" for name in reversed(created.indexes)]
    statements += [f"DROP TABLE IF EXISTS {quote_qualified(*name)}" for name in reversed(created.tables)]
    statements += [f"DROP SEQUENCE IF EXISTS {quote_qualified(*name)}" for name in reversed(created.sequences)]
    statements += [f"DROP TYPE IF EXISTS {quote_qualified(*name)}" for name in reversed(created.types)]
    return tuple(statements)
