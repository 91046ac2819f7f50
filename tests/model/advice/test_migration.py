"""Reading migrations: every kind of statement, places, and text that is no SQL."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.model.advice.locks import TableWork, estimate_lock_seconds, evaluate_statements, is_widening
from zdd_tui.model.advice.migration import ActionKind, DatabaseStats, LiveTableStats, mark_new_tables, read_migration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName

USERS = TableName(name="users")


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("ALTER TABLE users RENAME COLUMN a TO b", ActionKind.RENAME_COLUMN),
        ("ALTER TABLE users RENAME TO people", ActionKind.RENAME_TABLE),
        ("ALTER TABLE users SET SCHEMA app", ActionKind.SET_SCHEMA),
        ("ALTER TABLE users RENAME CONSTRAINT a TO b", ActionKind.RENAME_CONSTRAINT),
        ("ALTER INDEX a RENAME TO b", ActionKind.RENAME_INDEX),
        ("ALTER VIEW v RENAME TO w", ActionKind.RENAME_OTHER),
        ("ALTER TYPE mood RENAME VALUE 'a' TO 'b'", ActionKind.RENAME_OTHER),
        ("ALTER TYPE mood ADD VALUE 'x'", ActionKind.HARMLESS),
        ("ALTER TABLE users ALTER a TYPE bigint", ActionKind.CHANGE_TYPE),
        ("ALTER TABLE users ALTER a SET NOT NULL", ActionKind.SET_NOT_NULL),
        ("ALTER TABLE users ALTER a DROP NOT NULL", ActionKind.DROP_NOT_NULL),
        ("ALTER TABLE users ALTER a SET DEFAULT 1", ActionKind.SET_DEFAULT),
        ("ALTER TABLE users DROP a", ActionKind.DROP_COLUMN),
        ("ALTER TABLE users ADD a int", ActionKind.ADD_COLUMN),
        ("ALTER TABLE users ADD a int DEFAULT 1 NOT NULL", ActionKind.ADD_COLUMN),
        ("ALTER TABLE users ADD a timestamptz DEFAULT now()", ActionKind.ADD_COLUMN),
        ("ALTER TABLE users ADD a int GENERATED ALWAYS AS (b) VIRTUAL", ActionKind.ADD_COLUMN),
        ("ALTER TABLE users ADD a int NOT NULL", ActionKind.ADD_REQUIRED_COLUMN),
        ("ALTER TABLE users ADD a uuid DEFAULT gen_random_uuid()", ActionKind.ADD_COLUMN_REWRITE),
        ("ALTER TABLE users ADD a bigserial", ActionKind.ADD_COLUMN_REWRITE),
        ("ALTER TABLE users ADD a int GENERATED ALWAYS AS (b) STORED", ActionKind.ADD_COLUMN_REWRITE),
        ("ALTER TABLE users ADD a int UNIQUE", ActionKind.ADD_UNIQUE),
        ("ALTER TABLE users ADD CHECK (a > 0)", ActionKind.ADD_CHECK),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID", ActionKind.ADD_NOT_VALID),
        ("ALTER TABLE users ADD CONSTRAINT c NOT NULL a NOT VALID", ActionKind.ADD_NOT_VALID),
        ("ALTER TABLE users ADD FOREIGN KEY (a) REFERENCES b", ActionKind.ADD_FOREIGN_KEY),
        ("ALTER TABLE users ADD FOREIGN KEY (a) REFERENCES b NOT VALID", ActionKind.ADD_FOREIGN_KEY_NOT_VALID),
        ("ALTER TABLE users ADD UNIQUE (a)", ActionKind.ADD_UNIQUE),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i", ActionKind.ADD_UNIQUE_USING_INDEX),
        ("ALTER TABLE users VALIDATE CONSTRAINT c", ActionKind.VALIDATE),
        ("ALTER TABLE users SET TABLESPACE fast", ActionKind.REWRITE_OTHER),
        ("CREATE INDEX ON users (a)", ActionKind.CREATE_INDEX),
        ("CREATE INDEX CONCURRENTLY i ON users (a)", ActionKind.CREATE_INDEX_CONCURRENTLY),
        ("DROP INDEX i", ActionKind.DROP_INDEX),
        ("DROP INDEX CONCURRENTLY i", ActionKind.DROP_INDEX_CONCURRENTLY),
        ("DROP VIEW v", ActionKind.DROP_OTHER),
        ("DROP TABLE IF EXISTS app.users CASCADE", ActionKind.DROP_TABLE),
        ("DROP TRIGGER t ON users", ActionKind.DROP_TRIGGER),
        ("TRUNCATE users", ActionKind.TRUNCATE),
        ("VACUUM FULL users", ActionKind.VACUUM_FULL),
        ("VACUUM users", ActionKind.MAINTAIN),
        ("REINDEX TABLE CONCURRENTLY users", ActionKind.REINDEX_CONCURRENTLY),
        ("UPDATE users SET a = 1", ActionKind.WRITE_ROWS),
        ("LOCK TABLE users", ActionKind.LOCK),
        ("COMMENT ON TABLE users IS 'x'", ActionKind.COMMENT),
        ("DO $$ BEGIN DROP TABLE users; END $$", ActionKind.UNKNOWN),
        ("SELECT migrate_everything()", ActionKind.CALL_FUNCTION),
    ],
)
def test_every_kind(sql: str, kind: ActionKind) -> None:
    [statement] = read_migration(sql, "m.sql")
    assert [action.kind for action in statement.actions] == [kind]


def test_several_actions_and_their_places() -> None:
    text = (
        '-- größer\n\n/* zwei\n Zeilen */ ALTER TABLE "Odd".users\n'
        "  DROP a, ADD b numeric(10,2); -- ;\n\nDROP TABLE x, y;\n"
    )
    first, second = read_migration(text, "dir/m.sql")
    assert (first.location, second.location) == ("dir/m.sql:4", "dir/m.sql:7")
    assert [(a.kind, str(a.table), a.column, a.type) for a in first.actions] == [
        (ActionKind.DROP_COLUMN, "Odd.users", "a", ""),
        (ActionKind.ADD_COLUMN, "Odd.users", "b", "numeric(10, 2)"),
    ]
    assert [str(action.table) for action in second.actions] == ["public.x", "public.y"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("SELEC 1", "m.sql:1"),
        ("SELECT 'ä';\n\nALTER TABEL x", "m.sql:3"),
        ("SELECT 1;\n\\copy x from y", "m.sql:2"),
        ("ALTER TABLE x", "m.sql:1"),
        ("SELECT 'never closed", "m.sql:1"),
        ("\0", "m.sql:1"),
        ("SELECT 'é\n'; \0", "m.sql:2"),
        (f"SELECT 1;\nSELECT {' || '.join('a' * 60)}", "m.sql:1"),
        ("-- nothing\n", "m.sql"),
        ("", "m.sql"),
    ],
)
def test_what_does_not_parse_names_its_line(text: str, place: str) -> None:
    with pytest.raises(PlanError) as error:
        read_migration(text, "m.sql")
    assert error.value.title.startswith(place + ": ")
    assert error.value.hint


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_no_text_ends_in_a_traceback(text: str) -> None:
    try:
        statements = evaluate_statements(mark_new_tables(read_migration(text, "m.sql")))
    except PlanError:
        return
    assert statements


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("character varying(20)", "varchar(40)", True),
        ("character varying(20)", "text", True),
        ("character varying", "varchar(40)", False),
        ("character varying(40)", "varchar(20)", False),
        ("numeric(10,2)", "numeric(12, 2)", True),
        ("numeric(10,2)", "numeric(12, 3)", False),
        ("numeric(10,2)", "numeric", True),
        ("integer", "bigint", False),
        ("text", "varchar(10)", False),
        ("", "text", False),
    ],
)
def test_types_that_only_widen(old: str, new: str, expected: bool) -> None:
    assert is_widening(old, new) is expected


def live(**columns: str) -> DatabaseStats:
    table = LiveTableStats(USERS, rows=1_000_000, heap_bytes=2**30, index_bytes=2**28, columns=columns)
    return DatabaseStats("here", {"public.users": table})


def test_the_database_tells_that_a_type_only_widens() -> None:
    [statement] = read_migration("ALTER TABLE users ALTER a TYPE text", "m.sql")
    [blind], [seeing] = (
        evaluate_statements([statement]),
        evaluate_statements([statement], live(a="character varying(9)")),
    )
    assert blind.rule.breaking_reason
    assert blind.lock_seconds is None
    assert not seeing.rule.breaking_reason
    assert seeing.rule.work is TableWork.INSTANT


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**50), st.integers(0, 2**50), st.integers(-1, 10**12))
def test_estimates_are_ranges_that_grow_with_the_table(heap: int, index: int, rows: int) -> None:
    small = LiveTableStats(USERS, rows=rows, heap_bytes=heap, index_bytes=index, columns={})
    large = LiveTableStats(USERS, rows=rows + 1000, heap_bytes=heap * 2, index_bytes=index * 2, columns={})
    for work in TableWork:
        low = estimate_lock_seconds(work, small)
        high = estimate_lock_seconds(work, large)
        if low is None or high is None:
            assert low is high is None
            continue
        assert 0 <= low[0] <= low[1]
        assert low[0] <= high[0]
        assert low[1] <= high[1]


def test_commands_of_psql_that_change_no_statement_are_left_out() -> None:
    text = "\\restrict token\n\\set ON_ERROR_STOP on\nALTER TABLE a ADD b int;\n\\unrestrict token\n"
    assert [(each.location, each.text) for each in read_migration(text, "dump.sql")] == [
        ("dump.sql:3", "ALTER TABLE a ADD b int")
    ]
    with pytest.raises(PlanError, match=r"dump\.sql:1: PostgreSQL cannot read it"):
        read_migration("\\connect other\nSELECT 1", "dump.sql")
