"""What the plan's SQL may do: every refusal names the place and a fix."""

from typing import Any

import pytest

from tests.model.ddl.test_statements import plan
from zdd_tui.model.ddl.lint import (
    check_expression,
    created_objects,
    down_source_columns,
    lint_plan_sql,
    new_column_types,
    up_source_columns,
)
from zdd_tui.model.errors import PlanError

ADD = "ALTER TABLE users ADD COLUMN full_name text"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"expand": f"{ADD};"},
        {"expand": f'{ADD} COLLATE "C"; ALTER TABLE public.users ADD other int NOT NULL DEFAULT 1'},
        {"expand": f"CREATE TYPE mood AS ENUM ('a', 'b;'); CREATE SEQUENCE s; {ADD}"},
        {"expand": f"{ADD}; ALTER TABLE users ADD CONSTRAINT c CHECK (full_name <> '') NOT VALID"},
        {"expand": f"{ADD}; COMMENT ON COLUMN users.full_name IS 'whole'"},
        {"indexes": ["CREATE UNIQUE INDEX CONCURRENTLY i ON public.users (lower(full_name)) WHERE full_name <> ''"]},
        {"up": {"full_name": "users.name || CASE WHEN name = '' THEN '' ELSE ' -- ' END"}},
        {"up": {"full_name": "coalesce(nullif(btrim(name), ''), upper(name), name::varchar(9), (name)::text)"}},
        {"up": {"full_name": "substring(name from 1 for 2) || (extract(epoch from at))::text || (doc->>'a')"}},
        {
            "into": "people",
            "expand": "CREATE TABLE people (id bigint PRIMARY KEY, full_name text NOT NULL);"
            "GRANT SELECT ON people TO app; ALTER TABLE people ADD CONSTRAINT c CHECK (full_name <> '')",
        },
    ],
)
def test_additive_changes_pass(change: dict[str, Any]) -> None:
    lint_plan_sql(plan(**change))


@pytest.mark.parametrize(
    ("expand", "message"),
    [
        (f"{ADD}; DROP TABLE users", "change.expand statement 2: DROP TABLE users is not additive"),
        ("ALTER TABLE users DROP COLUMN name", "statement 1: .* is not additive"),
        ("ALTER TABLE users RENAME COLUMN name TO full_name", "is not additive"),
        ("ALTER TABLE users ALTER COLUMN name TYPE int", "is not additive"),
        ("UPDATE users SET name = 'x'", "is not additive"),
        ("TRUNCATE users", "is not additive"),
        ("VACUUM users", "is not additive"),
        ("DO 'BEGIN END'", "is not additive|cannot read"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "is not additive|cannot read"),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", "is not additive"),
        ("ALTER TABLE others ADD COLUMN full_name text", "public.others is no table of this plan"),
        ("ALTER TABLE users ADD COLUMN other text", "change.up.full_name: change.expand makes no column full_name"),
        (f"{ADD} NOT NULL", "full_name must be nullable and without a default"),
        (f"{ADD} DEFAULT ''", "full_name must be nullable and without a default"),
        (f"{ADD}, ADD COLUMN b int NOT NULL", "column b is NOT NULL without a default"),
        (f"{ADD}, ADD COLUMN b uuid DEFAULT gen_random_uuid()", "the default of b calls a function"),
        (f"{ADD}, ADD COLUMN b bigserial", "rewrites the table"),
        (f"{ADD}, ADD COLUMN b int UNIQUE", "needs a long lock"),
        (f"{ADD}, ADD COLUMN b int REFERENCES others (id)", "needs a long lock"),
        (f"{ADD}, ADD COLUMN b int GENERATED ALWAYS AS (1) STORED", "needs a long lock"),
        ("ALTER TABLE users ADD COLUMN IF NOT EXISTS full_name text", "IF NOT EXISTS would take over"),
        (f"{ADD}; ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0)", "would read the whole table"),
        (f"{ADD}; ALTER TABLE users ADD CONSTRAINT c UNIQUE (id)", "would read the whole table"),
        (f"{ADD}; CREATE INDEX i ON users (id)", "an index belongs to change.indexes"),
        (f"{ADD}; CREATE TABLE IF NOT EXISTS t (id int)", "IF NOT EXISTS would take over"),
        (f"{ADD}; CREATE TABLE t AS SELECT 1", "must be a plain table"),
        (f"{ADD}; CREATE TEMP TABLE t (id int)", "must be a plain table"),
        (f"{ADD}; CREATE UNLOGGED TABLE t (id int)", "must be a plain table"),
        (f"{ADD}; CREATE TABLE t (id int) INHERITS (users)", "must be a plain table"),
        (f"{ADD}; CREATE TABLE t (id int) PARTITION BY LIST (id)", "must be a plain table"),
        (f"{ADD}; CREATE TEMP SEQUENCE s", "is not additive"),
        (f"{ADD}; SELECT 1 AS a INTO t", "is not additive"),
        (f"{ADD}; REVOKE SELECT ON users FROM app", "is not additive"),
        (f"{ADD}; GRANT admin TO app", "is not additive"),
        (f"{ADD}; ALTER TABLE users ADD CHECK (id > 0) NOT VALID", "the constraint has no name"),
        (f"{ADD} -- and a comment", "change.expand: it holds a comment"),
        ("ALTER TABEL users", "is not additive|cannot read"),
        ("", "at least 1 character"),
    ],
)
def test_other_ddl_is_refused(expand: str, message: str) -> None:
    with pytest.raises((PlanError, ValueError), match=message) as caught:
        lint_plan_sql(plan(expand=expand))
    if isinstance(caught.value, PlanError):
        assert caught.value.hint


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("name) FROM secrets WHERE (true", "closes a bracket"),
        ("name -- x", "holds a comment"),
        ("name, id", "cannot read|expected one"),
        ("name AS full_name", "AS is not allowed"),
        ("*", r"\* is not allowed"),
        ("SELECT name", "a subquery is not allowed"),
        ("(SELECT max(name) FROM secrets)", "a subquery is not allowed"),
        ("EXISTS (SELECT 1)", "a subquery is not allowed"),
        ("name IN (SELECT a FROM b)", "a subquery is not allowed"),
        ("max(name)", "aggregate or window"),
        ("row_number() OVER ()", "aggregate or window"),
        ("own(name) OVER ()", "aggregate or window"),
        ("own(name) FILTER (WHERE true)", "aggregate or window"),
        ("own(DISTINCT name)", "aggregate or window"),
        ("own(*)", "aggregate or window"),
        ("JSON_ARRAYAGG(name)", "aggregate or window"),
        ("ARRAY(SELECT 1)::text", "a subquery is not allowed"),
        ("JSON_ARRAY(SELECT 1)", "a subquery is not allowed"),
        ("users.*", r"\* is not allowed"),
        ("(users).*", r"\* is not allowed"),
        ("DEFAULT", "DEFAULT is not allowed"),
        ("name full_name", "AS is not allowed"),
        ("session_user", "session_user returns a different result"),
        ("localtime(3)::text", "localtime returns a different result"),
        ("pg_catalog.random()::text", "random returns a different"),
        ("public.users.name", r"public\.users\.name is not a column of users"),
        ("DROP TABLE users", "a statement is not allowed"),
        ("now()::text", "now returns a different result each time"),
        ("current_timestamp::text", "current_timestamp returns a different result"),
        ("gen_random_uuid()", "gen_random_uuid returns a different"),
        ("Random()::text", "random returns a different"),
        ("orders.name", r"orders\.name is not a column of users"),
        ("$1", "a parameter"),
        ("", "cannot read|expected one"),
    ],
)
def test_other_expressions_are_refused(expression: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        lint_plan_sql(plan(up={"full_name": expression}))
    assert caught.value.title.startswith("change.up.full_name: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("CREATE INDEX i ON users (full_name)", "without CONCURRENTLY"),
        ("CREATE INDEX CONCURRENTLY ON users (full_name)", "no name"),
        ("CREATE INDEX CONCURRENTLY i ON others (full_name)", "public.others is no table of this plan"),
        ("DROP INDEX CONCURRENTLY i", "not a CREATE INDEX"),
        ("CREATE INDEX CONCURRENTLY i ON users (a); DROP TABLE users", "semicolon"),
    ],
)
def test_other_indexes_are_refused(index: str, message: str) -> None:
    good = "CREATE INDEX CONCURRENTLY g ON users (full_name);"
    with pytest.raises(PlanError, match=message) as caught:
        lint_plan_sql(plan(indexes=[good, index]))
    assert caught.value.title.startswith("change.indexes statement 2: ")


def test_functions_are_judged_by_name_only_without_a_database() -> None:
    for expression in ("max(name)", "random()::text"):
        lint_plan_sql(plan(up={"full_name": expression}), has_catalog=True)
    lint_plan_sql(plan(up={"full_name": "app.random(name) || app.max(name)"}))


def test_a_new_table_must_be_made_and_filled() -> None:
    with pytest.raises(PlanError, match=r"nothing creates public\.people"):
        lint_plan_sql(plan(into="people"))
    with pytest.raises(PlanError, match="column extra is NOT NULL, and up does not fill it"):
        lint_plan_sql(
            plan(
                into="people",
                key=["id"],
                expand="CREATE TABLE people (id int PRIMARY KEY, full_name text, extra int NOT NULL)",
            )
        )


def test_a_key_is_neither_old_nor_new() -> None:
    with pytest.raises(PlanError, match=r"change.key: name is also in up or down"):
        lint_plan_sql(plan(key=["name"]))


def test_what_is_read_and_made() -> None:
    change = plan(
        up={"full_name": 'Name || users."Last Name" || name'},
        down={"name": "full_name", "Last Name": "full_name || id"},
        expand='ALTER TABLE users ADD COLUMN full_name VARCHAR(20), ADD COLUMN "Odd" double precision',
    )
    assert up_source_columns(change) == ("name", "Last Name")
    assert down_source_columns(change) == ("full_name", "id")
    assert created_objects(change).columns == ("full_name", "Odd")
    assert new_column_types(change) == {"full_name": "varchar(20)", "Odd": "double precision"}
    assert check_expression("x", "'constant'", "users") == ()
