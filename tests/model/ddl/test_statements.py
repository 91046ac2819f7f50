"""The SQL texts, as far as a database is not needed to judge them."""

from zdd_tui.model.ddl import (
    Catalog,
    CatalogColumn,
    CreatedObjects,
    KeySequence,
    Table,
    archive_statements,
    archived_name,
    drop_archive_statements,
    expand_statements,
    sync_name,
    undo_expand_statements,
)
from zdd_tui.model.ddl.lint import created_objects
from zdd_tui.model.plan.base import Plan


def plan(**change: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "x" * 40,
            "database": {"dsn": "postgresql://x@y/z"},
            "kubernetes": {"deployment": "users-api", "images": {"v2": "a:2", "v3": "a:3"}},
            "flags": {"url": "redis://x", "write": "w", "read": "r"},
            "change": {
                "table": "users",
                "expand": "ALTER TABLE users ADD COLUMN full_name text",
                "up": {"full_name": "name"},
                "down": {"name": "full_name"},
                **change,
            },
        }
    )


def test_names_stay_within_63_bytes_and_apart() -> None:
    long = plan(down={"é" * 31: "full_name", "é" * 30 + "x": "full_name"})
    names = [archived_name(long, column) for column in long.change.down]
    assert all(len(name.encode()) <= 63 for name in names)
    assert len(set(names)) == 2
    assert len(sync_name(long, "forward")) <= 63


def test_unqualified_names_are_looked_up_in_the_tables_schema() -> None:
    assert expand_statements(plan(table="shop.users", expand="ALTER TABLE users ADD COLUMN full_name text;")) == (
        'SET LOCAL search_path = "shop", "public", pg_temp',
        "ALTER TABLE users ADD COLUMN full_name text",
    )


def test_undo_of_expand_drops_exactly_what_was_made_last_first() -> None:
    made = created_objects(
        plan(
            expand="CREATE TYPE mood AS ENUM ('a'); CREATE SEQUENCE other.s;"
            "ALTER TABLE users ADD COLUMN full_name text, ADD COLUMN extra int;"
            "ALTER TABLE users ADD CONSTRAINT c CHECK (extra > 0) NOT VALID",
            indexes=["CREATE INDEX CONCURRENTLY i ON users (full_name)"],
        )
    )
    assert undo_expand_statements(plan(), made) == (
        'ALTER TABLE "public"."users" DROP CONSTRAINT IF EXISTS "c", DROP COLUMN IF EXISTS "full_name",'
        ' DROP COLUMN IF EXISTS "extra"',
        'DROP INDEX IF EXISTS "public"."i"',
        'DROP SEQUENCE IF EXISTS "other"."s"',
        'DROP TYPE IF EXISTS "public"."mood"',
    )
    assert CreatedObjects.from_json(made.to_json()) == made
    assert undo_expand_statements(plan(), CreatedObjects()) == ()


def test_nothing_is_dropped_in_cascade_and_aside_is_done_once() -> None:
    table = Table("public", "users", (CatalogColumn("id", "bigint", not_null=True), CatalogColumn("name", "text")))
    new = Table("public", "people", (CatalogColumn("id", "bigint", not_null=True), CatalogColumn("full_name", "text")))
    kind = plan(into="people", expand="CREATE TABLE people (id bigint PRIMARY KEY, full_name text)")
    sequence = KeySequence(
        "zdd_archive", "users_id_seq", "id", is_identity=True, is_shared=True, successor="people_id_seq"
    )
    catalog = Catalog(table, new, table.columns[:1], is_archived=True, sequences=(sequence,))
    statements = drop_archive_statements(kind, catalog)
    assert not any("CASCADE" in statement for statement in statements)
    assert statements[-2:] == ('DROP TABLE "zdd_archive"."users"', 'DROP SCHEMA "zdd_archive"')
    assert archive_statements(kind, catalog) == ()
