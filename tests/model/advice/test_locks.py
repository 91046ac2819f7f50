"""The table of locks against a real server: which lock a statement takes, and whether it rewrites the table."""

import asyncpg
import pytest

from zdd_tui.model.advice.locks import RULES, Lock, Work, widens
from zdd_tui.model.advice.migration import Kind, read_migration

SETUP = """
CREATE TABLE other (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), c numeric(10,2), d text, n int);
INSERT INTO t SELECT i, i, i::text, i, i::text, i FROM generate_series(1, 50) i;
INSERT INTO other SELECT id FROM t;
CREATE UNIQUE INDEX ready ON t (a);
CREATE INDEX plain ON t (d);
ALTER TABLE t ADD CONSTRAINT waits CHECK (a > 0) NOT VALID;
ALTER TABLE t ADD CONSTRAINT n_there CHECK (n IS NOT NULL);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER old BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
"""

STATEMENTS = {
    Kind.DROP_TABLE: "DROP TABLE t",
    Kind.DROP_COLUMN: "ALTER TABLE t DROP COLUMN d",
    Kind.TRUNCATE: "TRUNCATE t",
    Kind.RENAME_TABLE: "ALTER TABLE t RENAME TO u",
    Kind.SET_SCHEMA: "ALTER TABLE t SET SCHEMA elsewhere",
    Kind.RENAME_COLUMN: "ALTER TABLE t RENAME COLUMN a TO z",
    Kind.CHANGE_TYPE: "ALTER TABLE t ALTER a TYPE bigint",
    Kind.SET_NOT_NULL: "ALTER TABLE t ALTER a SET NOT NULL",
    Kind.ADD_COLUMN: "ALTER TABLE t ADD x timestamptz NOT NULL DEFAULT now()",
    Kind.ADD_COLUMN_REWRITE: "ALTER TABLE t ADD x uuid DEFAULT gen_random_uuid()",
    Kind.ADD_CHECK: "ALTER TABLE t ADD CHECK (a > 0)",
    Kind.ADD_FOREIGN_KEY: "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES other",
    Kind.ADD_NOT_VALID: "ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0) NOT VALID",
    Kind.ADD_FOREIGN_KEY_NOT_VALID: "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES other NOT VALID",
    Kind.ADD_UNIQUE: "ALTER TABLE t ADD UNIQUE (b)",
    Kind.ADD_UNIQUE_USING_INDEX: "ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX ready",
    Kind.VALIDATE: "ALTER TABLE t VALIDATE CONSTRAINT waits",
    Kind.DROP_CONSTRAINT: "ALTER TABLE t DROP CONSTRAINT waits",
    Kind.DROP_NOT_NULL: "ALTER TABLE t ALTER a DROP NOT NULL",
    Kind.SET_DEFAULT: "ALTER TABLE t ALTER a SET DEFAULT 1",
    Kind.CREATE_INDEX: "CREATE INDEX x ON t (a)",
    Kind.REINDEX: "REINDEX TABLE t",
    Kind.DROP_INDEX: "DROP INDEX plain",
    Kind.CREATE_TRIGGER: "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    Kind.DROP_TRIGGER: "DROP TRIGGER old ON t",
    Kind.REWRITE_OTHER: "ALTER TABLE t SET UNLOGGED",
    Kind.LOCK: "LOCK TABLE t",
    Kind.WRITE_ROWS: "UPDATE t SET a = a + 100",
}
_LOCKS = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = $1::bigint::oid AND granted"
_STRONGEST = [
    *(Lock.ACCESS_EXCLUSIVE, Lock.SHARE_ROW_EXCLUSIVE, Lock.SHARE, Lock.SHARE_UPDATE_EXCLUSIVE, Lock.ROW_EXCLUSIVE),
]


def _mode(lock: Lock) -> str:
    return "".join(word.capitalize() for word in lock.value.split()) + "Lock"


@pytest.mark.parametrize("kind", STATEMENTS, ids=lambda kind: kind.name)
async def test_the_server_takes_the_lock_and_does_the_work(db: asyncpg.Connection, kind: Kind) -> None:
    sql = STATEMENTS[kind]
    assert read_migration(sql, "m.sql")[0].actions[0].kind is kind
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    oid = await db.fetchval("SELECT 't'::regclass::oid::bigint")
    before = await db.fetchval("SELECT pg_relation_filenode('t')")
    transaction = db.transaction()
    await transaction.start()
    try:
        await db.execute(sql)
        held = {row["mode"] for row in await db.fetch(_LOCKS, oid)}
        after = await db.fetchval("SELECT pg_relation_filenode($1::bigint::oid)", oid)
    finally:
        await transaction.rollback()
    strongest = next(lock for lock in _STRONGEST if _mode(lock) in held)
    assert strongest is RULES[kind].lock
    if kind not in (Kind.DROP_TABLE, Kind.TRUNCATE):  # both leave the old file for good, at once
        assert (before != after) == (RULES[kind].work is Work.REWRITE)


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        ("b", "character varying(10)", "varchar(20)"),
        ("b", "character varying(10)", "text"),
        ("b", "character varying(10)", "varchar(5)"),
        ("c", "numeric(10,2)", "numeric(12, 2)"),
        ("c", "numeric(10,2)", "numeric(12, 3)"),
        ("c", "numeric(10,2)", "numeric"),
        ("a", "integer", "bigint"),
    ],
)
async def test_a_type_that_only_widens_rewrites_nothing(
    db: asyncpg.Connection, column: str, old: str, new: str
) -> None:
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    before = await db.fetchval("SELECT pg_relation_filenode('t')")
    await db.execute(f"ALTER TABLE t ALTER {column} TYPE {new}")
    assert (await db.fetchval("SELECT pg_relation_filenode('t')") == before) == widens(old, new)


async def test_a_validated_check_saves_the_scan_of_not_null(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    said: list[str] = []
    db.add_log_listener(lambda _connection, message: said.append(message.message))
    await db.execute("SET client_min_messages = debug1")
    await db.execute("ALTER TABLE t ALTER n SET NOT NULL")
    await db.execute("RESET client_min_messages")
    assert any("sufficient to prove" in message for message in said), said
