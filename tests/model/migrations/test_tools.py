"""The rules of the other tools: what is pending, which rows say that it is applied, and where each tool stops."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.model.migrations.support import files_of, find_pending, names
from zdd_tui.model.errors import PlanError, Refused, ZddError
from zdd_tui.model.migrations.registry import TOOLS, find_tool

SQL = "SELECT 1;\n"


# --- golang-migrate


def test_golang_migrate_goes_from_the_one_version_in_its_table() -> None:
    files = {f"{n}_a.{way}.sql": way for n in ("1", "09", "10", "11") for way in ("up", "down")}
    found = find_pending("golang-migrate", files, [{"version": 9, "dirty": False}])
    assert names(found) == ["10_a.up.sql", "11_a.up.sql"]
    assert (found.pending[0].up, found.pending[0].down) == ("up", "down")
    assert found.record.statements == ('UPDATE public.versions SET "version" = 11 WHERE "version" = 9',)
    assert found.record.undo == ('UPDATE public.versions SET "version" = 9 WHERE "version" = 11',)
    first = find_pending("golang-migrate", files).record
    assert first.statements == ('INSERT INTO public.versions ("version", "dirty") VALUES (11, false)',)
    assert first.undo == ('DELETE FROM public.versions WHERE "version" = 11',)


@pytest.mark.parametrize(
    ("files", "rows", "error", "text"),
    [
        (["1_a.up.sql"], [{"version": 1, "dirty": True}], Refused, "dirty: the migration to version 1 failed"),
        (["1_a.up.sql"], [{"version": 4, "dirty": False}], Refused, "has version 4, and there is no such file"),
        (["1_a.up.sql", "01_b.up.sql"], [], PlanError, "have the same version, 1"),
        (["1_a.up.sql", "2_b.up.json"], [], PlanError, "2_b.up.json is no SQL"),
        ([f"{2**63}_a.up.sql"], [], PlanError, "is too large"),
    ],
)
def test_golang_migrate_would_stop_here(files: list[str], rows: list[Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        find_pending("golang-migrate", dict.fromkeys(files, SQL), rows)


# --- goose, dbmate


def test_goose_takes_the_part_for_up_and_keeps_its_lines() -> None:
    text = (
        "-- +goose NO TRANSACTION\n-- +goose Up\n-- +goose StatementBegin\nUP;\n-- +goose StatementEnd\n\n"
        "-- +goose DOWN\nBACK;"
    )
    rows = [
        {"id": 1, "version_id": 0, "is_applied": True},
        {"id": 2, "version_id": 1, "is_applied": True},
        {"id": 3, "version_id": 2, "is_applied": True},
        {"id": 4, "version_id": 2, "is_applied": False},
    ]
    found = find_pending("goose", {"00001_a.sql": text, "00002_b.sql": text, "00010_c.sql": text}, rows)
    assert names(found) == ["00002_b.sql", "00010_c.sql"]
    assert found.pending[0].up.split("\n")[3] == "UP;"
    assert "BACK" not in found.pending[0].up
    assert found.pending[0].down is not None
    assert found.pending[0].down.split("\n")[7] == "BACK;"
    assert found.record.statements[0] == 'INSERT INTO public.versions ("version_id", "is_applied") VALUES (2, true)'
    assert found.record.undo[0] == 'DELETE FROM public.versions WHERE "version_id" = 10'


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("00002_b.go", "package x", "is Go code"),
        ("00002_b.sql", "SELECT 1", "there is no line -- \\+goose Up"),
        ("00002_b.sql", "-- +goose ENVSUB ON\n-- +goose Up\nSELECT 1", r"b.sql:1: goose fills values"),
        ("00000_b.sql", "-- +goose Up\nSELECT 1", "00000_b.sql is older than version 1"),
    ],
)
def test_goose_migrations_that_are_refused(name: str, text: str, error: str) -> None:
    rows = [{"id": 1, "version_id": 1, "is_applied": True}]
    with pytest.raises(ZddError, match=error):
        find_pending("goose", {"00001_a.sql": "-- +goose Up", name: text}, rows)


def test_dbmate_takes_every_version_that_has_no_row() -> None:
    text = "-- migrate:up transaction:false\nUP;\n-- migrate:down\nBACK;\n"
    files = {f"2024010{n}_a.sql": text for n in (1, 2, 3)}
    found = find_pending("dbmate", files, [{"version": "20240101"}, {"version": "20240103"}, {"version": "2"}])
    assert names(found) == ["20240102_a.sql"]
    assert (found.pending[0].up.strip(), (found.pending[0].down or "").strip()) == ("UP;", "BACK;")
    assert found.record.statements == ("""INSERT INTO public.versions ("version") VALUES ('20240102')""",)
    assert found.notes == ("applied, but not in the directory: 2",)
    with pytest.raises(PlanError, match="there is no line -- migrate:up"):
        find_pending("dbmate", {"1_a.sql": SQL})


# --- sqlx, Prisma


def test_sqlx_keeps_the_checksum_of_the_file() -> None:
    applied = {"version": 1, "success": True, "checksum": hashlib.sha384(SQL.encode()).digest()}
    files = {"1_first_one.sql": SQL, "2_b_c.up.sql": SQL, "2_b_c.down.sql": "BACK"}
    found = find_pending("sqlx", files, [applied])
    assert names(found) == ["2_b_c.up.sql"]
    assert found.pending[0].down == "BACK"
    digest = hashlib.sha384(SQL.encode()).hexdigest()
    assert f"VALUES (2, 'b c', true, 0, decode('{digest}', 'hex'))" in found.record.statements[0]
    with pytest.raises(Refused, match=r"1_first_one\.sql was changed after it was applied"):
        find_pending("sqlx", files | {"1_first_one.sql": "SELECT 2"}, [applied])
    with pytest.raises(Refused, match="version 1 failed"):
        find_pending("sqlx", files, [applied | {"success": False}])


def prisma_row(name: str, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(SQL.encode()).hexdigest()
    return {"migration_name": name, "checksum": digest, "finished_at": 1, "rolled_back_at": None} | changes


def test_prisma_goes_by_the_names_of_folders() -> None:
    files = {f"{name}/migration.sql": SQL for name in ("10_b", "2_a", "9_c")} | {"2_a/down.sql": "BACK"}
    rows = [prisma_row("10_b"), prisma_row("2_a", rolled_back_at=1, finished_at=None)]
    found = find_pending("prisma", files | {"migration_lock.toml": 'provider = "postgresql"'}, rows)
    assert names(found) == ["2_a", "9_c"]
    assert found.pending[0].down == "BACK"
    assert found.record.statements[0].startswith(
        'INSERT INTO public.versions ("checksum", "migration_name", "applied_steps_count", "id", "finished_at")'
    )
    assert found.record.undo[1].endswith("""WHERE "migration_name" = '2_a' AND rolled_back_at IS NULL""")


@pytest.mark.parametrize(
    ("files", "row", "text"),
    [
        ({"a/migration.sql": SQL}, prisma_row("a", finished_at=None), "a failed when Prisma applied it"),
        ({"a/migration.sql": SQL}, prisma_row("a", checksum="x"), "a/migration.sql was changed after it was applied"),
        ({"migration_lock.toml": 'provider = "mysql"'}, prisma_row("a"), "the provider is mysql"),
    ],
)
def test_prisma_would_stop_here(files: dict[str, str], row: dict[str, Any], text: str) -> None:
    with pytest.raises(ZddError, match=text):
        find_pending("prisma", files, [row])


def test_prisma_accepts_other_line_ends() -> None:
    assert names(find_pending("prisma", {"a/migration.sql": "SELECT 1;\r\n"}, [prisma_row("a")])) == []


# --- Alembic, Django, Rails: code

UPGRADE = """BEGIN;

-- Running upgrade r1 -> r2

ALTER TABLE a ADD COLUMN b TEXT;

UPDATE versions SET version_num='r2' WHERE versions.version_num = 'r1';

-- Running upgrade r2 -> r3, the title

INSERT INTO x VALUES ('UPDATE versions SET; -- Running');

UPDATE versions SET version_num='r3' WHERE versions.version_num = 'r2';

COMMIT;
"""
DOWNGRADE = (
    "-- Running downgrade r3 -> r2\n\nDELETE FROM x;\n\n-- Running downgrade r2 -> r1\n\nALTER TABLE a DROP b;\n"
)


def test_alembic_writes_the_sql_itself() -> None:
    calls: list[tuple[str, ...]] = []

    def run(arguments: Sequence[str]) -> str:
        calls.append(tuple(arguments))
        return UPGRADE if arguments[0] == "upgrade" else DOWNGRADE

    found = find_pending("alembic", {}, [{"version_num": "r1"}], run=run)
    assert calls == [("upgrade", "r1:head", "--sql"), ("downgrade", "r3:r1", "--sql")]
    assert names(found) == ["r2", "r3"]
    assert [" ".join(each.up.split()) for each in found.pending] == [
        "ALTER TABLE a ADD COLUMN b TEXT; ;",
        "INSERT INTO x VALUES ('UPDATE versions SET; -- Running'); ; COMMIT;",
    ]
    assert (found.pending[1].down or "").strip() == "DELETE FROM x;"
    [update] = found.record.statements
    assert update == """UPDATE public.versions SET "version_num" = 'r3' WHERE "version_num" = 'r1'"""
    outputs = {"up.sql": UPGRADE, "down.sql": DOWNGRADE}
    assert find_pending("alembic", {}, [{"version_num": "r1"}], outputs=outputs) == found


def test_alembic_has_to_be_one_line_from_the_database_s_revision() -> None:
    with pytest.raises(PlanError, match="goes from revision r1 to r2, where zdd expects one that follows base"):
        find_pending("alembic", {}, [], outputs={"up.sql": UPGRADE})
    with pytest.raises(PlanError, match="goes from revision r1 to r2, where zdd expects one that follows r9"):
        find_pending("alembic", {}, [{"version_num": "r9"}], outputs={"up.sql": UPGRADE})
    with pytest.raises(Refused, match="several revisions: r1, r2"):
        find_pending("alembic", {}, [{"version_num": "r2"}, {"version_num": "r1"}])
    merge = "-- Running upgrade r1, r2 -> r3\n"
    with pytest.raises(PlanError, match="branches have to be merged"):
        find_pending("alembic", {}, [{"version_num": "r1"}], outputs={"up.sql": merge})


def test_without_a_command_the_commands_to_run_are_named() -> None:
    with pytest.raises(Refused) as alembic:
        find_pending("alembic", {}, [{"version_num": "r1"}])
    assert "alembic upgrade r1:head --sql > up.sql" in alembic.value.hint
    with pytest.raises(Refused) as django:
        find_pending("django", {"shop/migrations/0001_a.py": "", "shop/migrations/0002_b.py": ""}, [DJANGO_ROW])
    assert "python manage.py sqlmigrate shop 0002_b > shop.0002_b.sql" in django.value.hint
    assert "0001_a" not in django.value.hint


DJANGO_ROW = {"app": "shop", "name": "0001_a"}


def django_run(plan: str, **outputs: str) -> Any:
    def run(arguments: Sequence[str]) -> str:
        if arguments[0] == "showmigrations":
            return plan
        way = "down" if "--backwards" in arguments else "up"
        if way not in outputs:
            raise ZddError("not reversible")
        return outputs[way]

    return run


def test_django_lists_what_is_pending_and_writes_its_sql() -> None:
    plan = "[X]  shop.0001_a\n[ ]  shop.0002_b\n"
    found = find_pending("django", {}, [DJANGO_ROW], run=django_run(plan, up="UP", down="BACK"))
    assert [(each.name, each.up, each.down) for each in found.pending] == [("shop.0002_b", "UP", "BACK")]
    assert found.record.statements[0].endswith("""("app", "name", "applied") VALUES ('shop', '0002_b', now())""")
    assert find_pending("django", {}, [DJANGO_ROW], run=django_run(plan, up="UP")).pending[0].down is None
    outputs = {"x/shop.0002_b.sql": "UP", "x/shop.0002_b.down.sql": "BACK"}
    assert find_pending("django", {}, [DJANGO_ROW], outputs=outputs) == found


@pytest.mark.parametrize(
    ("plan", "up", "error"),
    [
        ("[X]  shop.0001_a\n[X]  shop.0002_b", "", "for Django shop.0002_b is applied, and the database has no row"),
        ("[ ]  shop.0001_a", "", "for Django shop.0001_a is not applied, and the database has a row"),
        ("[X]  shop.0001_a\n[ ]  shop.0002_b", "-- THIS OPERATION CANNOT BE WRITTEN AS SQL", "such as RunPython"),
        ("Loading", "", "lists no migration"),
    ],
)
def test_django_reads_another_database_or_has_code(plan: str, up: str, error: str) -> None:
    with pytest.raises(ZddError, match=error):
        find_pending("django", {}, [DJANGO_ROW], run=django_run(plan, up=up))


def test_rails_needs_the_sql_beside_the_code() -> None:
    files = {"1_a.rb": "", "02_b.rb": "", "02_b.up.sql": "UP", "02_b.down.sql": "BACK", "3_c.rb": "", "3_c.sql": "C"}
    found = find_pending("rails", files, [{"version": "1"}])
    assert [(each.name, each.up, each.down) for each in found.pending] == [
        ("02_b.rb", "UP", "BACK"),
        ("3_c.rb", "C", None),
    ]
    assert found.record.statements[0] == """INSERT INTO public.versions ("version") VALUES ('2')"""
    with pytest.raises(Refused, match=r"dir/1_a\.rb is Ruby code") as error:
        find_pending("rails", files)
    assert "dir/1_a.up.sql" in error.value.hint


# --- plain files


def test_plain_files_are_ordered_by_number_and_kept_in_a_table_of_zdd() -> None:
    files = {"9_a.sql": SQL, "10_b.sql": SQL, "10_b.down.sql": "BACK", "11_c.up.sql": SQL, "11_c.down.sql": "B"}
    with pytest.raises(Refused, match=r"no table public\.versions") as error:
        find_pending("plain", files, exists=False)
    assert "--baseline FILE" in error.value.hint
    found = find_pending("plain", files, exists=False, baseline="9_a.sql")
    assert [(each.name, each.down) for each in found.pending] == [("10_b.sql", "BACK"), ("11_c.up.sql", "B")]
    assert found.record.prepare[0].startswith("CREATE TABLE public.versions (name text PRIMARY KEY")
    assert [re.findall(r"'([^']*)'", each)[0] for each in found.record.statements] == [
        "9_a.sql",
        "10_b.sql",
        "11_c.up.sql",
    ]
    assert names(find_pending("plain", files, exists=False, baseline="none")) == ["9_a.sql", "10_b.sql", "11_c.up.sql"]
    with pytest.raises(PlanError, match=r"there is no 8\.sql in dir"):
        find_pending("plain", files, exists=False, baseline="8.sql")


def test_a_plain_file_that_was_changed_or_comes_late_stops_the_plan() -> None:
    digest = hashlib.sha256(SQL.encode()).hexdigest()
    rows = [{"name": "2.sql", "sha256": digest}]
    assert names(find_pending("plain", {"2.sql": b"\xef\xbb\xbfSELECT 1;\r\n", "10.sql": SQL}, rows)) == ["10.sql"]
    with pytest.raises(Refused, match=r"2\.sql was changed after it was applied"):
        find_pending("plain", {"2.sql": "SELECT 2"}, rows)
    with pytest.raises(Refused, match=r"1\.sql is older than 2\.sql"):
        find_pending("plain", {"1.sql": SQL, "2.sql": SQL}, rows)
    assert names(find_pending("plain", {"1.sql": SQL, "2.sql": SQL}, rows, allow_out_of_order=True)) == ["1.sql"]


# --- all tools


@pytest.mark.parametrize(
    ("files", "tools"),
    [
        ({"migration_lock.toml": ""}, ["prisma"]),
        ({"1_a/migration.sql": ""}, ["prisma"]),
        ({"alembic.ini": ""}, ["alembic"]),
        ({"env.py": "", "versions/a.py": ""}, ["alembic"]),
        ({"manage.py": ""}, ["django"]),
        ({"20240101_a.rb": ""}, ["rails"]),
        ({"V1__a.sql": ""}, ["flyway", "plain"]),
        ({"sub/V1__a.sql": ""}, ["flyway"]),
        ({"U1__a.sql": ""}, ["plain"]),
        ({"1_a.sql": "-- +goose Up"}, ["goose", "sqlx", "plain"]),
        ({"1_a.sql": "\n-- migrate:up"}, ["dbmate", "sqlx", "plain"]),
        ({"1_a.up.sql": ""}, ["golang-migrate", "sqlx", "plain"]),
        ({"1_a.sql": ""}, ["sqlx", "plain"]),
        ({"a.SQL": "", "sub/a.sql": ""}, []),
    ],
)
def test_tools_are_recognized_by_their_files(files: dict[str, str], tools: list[str]) -> None:
    found = [tool.name for tool in TOOLS if tool.recognizes(files_of(files))]
    assert found == tools


def test_a_file_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"1_a\.up\.sql is not UTF-8 text \(byte 7\)"):
        find_pending("golang-migrate", {"1_a.up.sql": b"SELECT \xff"})
    with pytest.raises(PlanError, match=r"1_a\.up\.sql is no text: it has a NUL at byte 1"):
        find_pending("golang-migrate", {"1_a.up.sql": b"S\0"})


def test_an_unknown_tool_is_refused() -> None:
    with pytest.raises(PlanError, match="zdd knows no tool 'x'"):
        find_tool("x")
