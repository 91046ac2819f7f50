"""Whether a statement uses a removed object: by its parse tree, a column matched to its table."""

import pytest

from tests.support.schema_change import make_plan
from zdd_tui.model.operations.base import RemovedKind
from zdd_tui.model.operations.removed_use import ResolvedObject, names_object, old_side
from zdd_tui.model.operations.statement_uses import RemovedTarget, Use, find_use

NOTES = frozenset({("public", "notes"), ("public", "notes_2026")})
COLUMN = RemovedTarget(RemovedKind.COLUMN, NOTES, "legacy", frozenset({("public", "other")}))

COLUMN_USES = {
    Use.YES: (
        "SELECT legacy FROM notes",
        'SELECT "legacy" FROM public."notes" WHERE id = $1',
        "SELECT n.legacy FROM notes AS n JOIN other o USING (id)",
        "SELECT 1 FROM notes JOIN third USING (legacy)",
        "SELECT a FROM notes ORDER BY legacy",
        "SELECT interval $1, max(legacy) OVER (PARTITION BY id) FROM notes",
        "SELECT legacy FROM notes_2026",
        "SELECT x.legacy FROM (SELECT * FROM notes) x",
        "SELECT (n).legacy FROM notes n",
        "SELECT a FROM notes UNION ALL SELECT legacy FROM notes",
        "WITH w AS (SELECT legacy FROM notes) SELECT 1 FROM w",
        "SELECT 1 FROM other o WHERE EXISTS (SELECT FROM notes n WHERE n.legacy = o.id)",
        "INSERT INTO notes VALUES ($1, $2)",
        "INSERT INTO notes (id, legacy) VALUES ($1, $2)",
        "INSERT INTO notes (id) VALUES ($1) ON CONFLICT (legacy) DO NOTHING",
        "INSERT INTO notes (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET legacy = excluded.legacy",
        "UPDATE notes SET legacy = $1",
        "UPDATE notes SET a = $1 WHERE legacy IS NULL",
        "DELETE FROM notes WHERE legacy = $1",
        "MERGE INTO notes n USING other o ON o.id = n.id WHEN MATCHED THEN UPDATE SET legacy = $1",
        "COPY notes FROM STDIN",
        "COPY (SELECT legacy FROM notes) TO STDOUT",
        "EXPLAIN ANALYZE SELECT legacy FROM notes",
        "DECLARE c CURSOR FOR SELECT legacy FROM notes",
        "CREATE TABLE t AS SELECT legacy FROM notes",
        "DO $$ BEGIN UPDATE notes SET legacy = 1; END $$",
    ),
    Use.MAYBE: (
        "SELECT * FROM notes",
        "SELECT n.* FROM notes n, other",
        "SELECT to_jsonb(n) FROM notes n",
        "UPDATE notes SET a = 1 RETURNING *",
        "INSERT INTO log SELECT * FROM notes",
        "SELECT 1 FROM notes NATURAL JOIN other",
        "COPY notes TO STDOUT",
        "COPY public.notes (id, legacy) TO stdout",  # as pg_dump sends it
        "SELECT legacy FROM notes WHERE a = 'cut o",
    ),
    Use.NO: (
        "SELECT a FROM notes",
        "SELECT count(*) FROM notes",
        "SELECT a FROM notes WHERE EXISTS (SELECT * FROM notes n WHERE n.a = $1)",
        "SELECT legacy FROM other",
        "SELECT (SELECT legacy FROM other) FROM notes",
        "SELECT o.legacy FROM notes n JOIN other o USING (id)",
        "SELECT users.*, notes.id FROM users JOIN notes ON true",
        "WITH notes AS (SELECT 1 AS legacy) SELECT legacy FROM notes",
        "SELECT legacy FROM elsewhere.notes",
        "SELECT 'legacy of notes'",
        "INSERT INTO notes (a) VALUES ($1) RETURNING id",
        "INSERT INTO notes DEFAULT VALUES",
        "COPY notes (a) FROM STDIN",
        "TRUNCATE notes",
        "ALTER TABLE notes DROP COLUMN legacy",
        "SELECT count(*)::int FROM (SELECT FROM notes WHERE legacy IS NULL LIMIT 1000) AS zdd_violating",
        "SELECT legacy FROM notes, zdd.step",
    ),
}


@pytest.mark.parametrize(("use", "sql"), [(use, sql) for use, found in COLUMN_USES.items() for sql in found])
def test_use_of_a_column(use: Use, sql: str) -> None:
    assert find_use(sql, COLUMN) is use


TABLE = RemovedTarget(RemovedKind.RELATION, frozenset({("public", "notes")}))
TWICE = RemovedTarget(RemovedKind.RELATION, frozenset({("public", "notes")}), others=frozenset({("s", "notes")}))
DEFAULT = RemovedTarget(RemovedKind.DEFAULT, NOTES, "legacy")
FUNCTION = RemovedTarget(RemovedKind.ROUTINE, frozenset({("public", "total")}))
TYPE = RemovedTarget(RemovedKind.TYPE, frozenset({("public", "mood")}))
UNIQUE = RemovedTarget(RemovedKind.CONSTRAINT, NOTES, key=frozenset({"a", "b"}), constraint="notes_ab")
INDEX = RemovedTarget(RemovedKind.INDEX, NOTES)


@pytest.mark.parametrize(("target", "use", "sql"), [
    (TABLE, Use.YES, "SELECT * FROM notes"),
    (TABLE, Use.YES, "TRUNCATE public.notes"),
    (TABLE, Use.YES, "SELECT 1 FROM other WHERE id IN (SELECT id FROM notes)"),
    (TABLE, Use.NO, "SELECT notes FROM other"),
    (TABLE, Use.NO, "ANALYZE notes"),
    (TABLE, Use.MAYBE, "LOCK TABLE notes IN ACCESS SHARE MODE"),
    (TABLE, Use.YES, "COPY notes FROM STDIN"),
    (TWICE, Use.MAYBE, "SELECT 1 FROM notes"),
    (TWICE, Use.YES, "SELECT 1 FROM public.notes"),
    (TWICE, Use.NO, "SELECT 1 FROM s.notes"),
    (DEFAULT, Use.MAYBE, "INSERT INTO notes (a) VALUES ($1)"),
    (DEFAULT, Use.MAYBE, "INSERT INTO notes DEFAULT VALUES"),
    (DEFAULT, Use.NO, "INSERT INTO notes (a, legacy) VALUES ($1, $2)"),
    (DEFAULT, Use.NO, "SELECT legacy FROM notes"),
    (FUNCTION, Use.YES, "SELECT total($1)"),
    (FUNCTION, Use.YES, "CALL total()"),
    (FUNCTION, Use.NO, "SELECT total FROM notes"),
    (TYPE, Use.YES, "SELECT $1::mood"),
    (TYPE, Use.NO, "SELECT mood FROM notes"),
    (UNIQUE, Use.YES, "INSERT INTO notes (a, b) VALUES ($1, $2) ON CONFLICT (b, a) DO NOTHING"),
    (UNIQUE, Use.YES, "INSERT INTO notes (a, b) VALUES ($1, $2) ON CONFLICT ON CONSTRAINT notes_ab DO NOTHING"),
    (UNIQUE, Use.NO, "INSERT INTO notes (a, b) VALUES ($1, $2) ON CONFLICT (a) DO NOTHING"),
    (UNIQUE, Use.NO, "INSERT INTO notes (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING"),
    (INDEX, Use.NO, "INSERT INTO notes (a) VALUES ($1) ON CONFLICT (a) DO NOTHING"),
])  # fmt: skip
def test_use_of_other_objects(target: RemovedTarget, use: Use, sql: str) -> None:
    assert find_use(sql, target) is use


def old_objects(kind: str = "column") -> list[ResolvedObject]:
    """What the change takes away; there is another table of the name."""
    removed = old_side(make_plan(kind))
    others = frozenset({("s", "users")}) if kind == "table" else frozenset()
    users = frozenset({("public", "users")})
    column = kind == "column"
    return [
        ResolvedObject(each, RemovedTarget(each.kind, users, each.names[-1] if column else "", others))
        for each in removed
    ]


@pytest.mark.parametrize(("query", "is_named"), [
    ("SELECT first_name FROM users WHERE id = $1", True),
    ('/* app */ -- x\n select u."first_name" from public.users u', True),
    ("UPDATE users SET last_name = $1", True),
    ("WITH x AS (SELECT 1) SELECT last_name FROM users", True),
    ("SELECT full_name FROM users", False),
    ("SELECT * FROM users", False),
    ("SELECT users.full_name, c.first_name FROM users, customers c", False),
    ("SELECT 'first_name' FROM users", False),
    ('SELECT "FIRST_NAME" FROM users', False),
    ("ALTER TABLE users RENAME COLUMN first_name TO x", False),
    ("SELECT full_name FROM users WHERE a = 'cut off; first_name", True),
    ("", False),
])  # fmt: skip
def test_which_statements_name_the_old_columns_of_a_change(query: str, is_named: bool) -> None:
    assert names_object(query, old_objects()) is is_named


def test_of_a_change_of_tables_the_name_of_the_table_counts() -> None:
    assert names_object("SELECT count(*) FROM users", old_objects("table")), "it may be the one of the other schema"
    assert not names_object("SELECT count(*) FROM s.users", old_objects("table"))
    assert not names_object("SELECT count(*) FROM people", old_objects("table"))
