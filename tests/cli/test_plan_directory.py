"""`zdd plan --from`: the tool is recognized, the version table is read, and what cannot be planned is refused.

Through the real command line's code, on a real PostgreSQL.
"""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from zdd_tui.cli.parser import main

GOLANG = "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);"
UP = {"1_a.up.sql": "CREATE TABLE a (id int)", "2_b.up.sql": "ALTER TABLE a ADD COLUMN b int"}


class Planner:
    """`zdd plan --from` on a directory of a test."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def plan(self, *options: str) -> dict[str, Any]:
        """The plan's document."""
        code, out, err = self.run(*options)
        assert code == 0, err
        document = yaml.safe_load(out)
        assert isinstance(document, dict)
        return document

    def run(self, *options: str) -> tuple[int, str, str]:
        command = ["plan", "--from", str(self.folder), "--deployment", "api", "--image", "shop/api:2", *options]
        code = main(command)
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def error(self, *options: str) -> str:
        code, out, err = self.run(*options)
        assert (code in (1, 2), out) == (True, "")
        assert "\n  Fix: " in err
        assert "Traceback" not in err
        return err


@pytest.fixture
def planner(
    tmp_path: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Planner:
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    (tmp_path / "migrations").mkdir()
    return Planner(tmp_path / "migrations", capsys)


def execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


def test_the_plan_has_the_pending_statements_and_the_row(planner: Planner, pg_dsn: str) -> None:
    planner.write(UP)
    execute(pg_dsn, GOLANG + "INSERT INTO schema_migrations VALUES (1, false)")
    code, out, _ = planner.run()
    assert code == 0
    name = pg_dsn.rpartition("/")[2]
    assert out.startswith(f'# golang-migrate: 1 pending in {planner.folder}, by "public"."schema_migrations" of')
    assert f"/{name}: 2_b.up.sql\n# note: an older version" in out
    document = yaml.safe_load(out)
    assert document["name"] == "2-b-up"
    assert document["operations"] == [
        "ALTER TABLE a ADD COLUMN b int",
        {
            "sql": 'UPDATE "public"."schema_migrations" SET "version" = 2 WHERE "version" = 1',
            "undo": ['UPDATE "public"."schema_migrations" SET "version" = 1 WHERE "version" = 2'],
            "phase": "expand",
        },
    ]
    assert planner.plan("--record-in", "cleanup")["operations"][-1]["phase"] == "cleanup"


def test_a_name_from_the_database_does_not_end_a_comment_of_the_plan(planner: Planner, pg_dsn: str) -> None:
    planner.write({"1_a.sql": "-- migrate:up\nCREATE TABLE a (id int)"})
    execute(
        pg_dsn,
        "CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES (E'7\\nname: x')",
    )
    _, out, _ = planner.run()
    assert "# note: applied, but not in the directory: 7 name: x\n" in out


def test_where_only_names_decide_the_table_in_the_database_does(planner: Planner, pg_dsn: str) -> None:
    planner.write(UP)
    assert "has no table schema_migrations" in planner.error()
    assert "migrate -path DIR -database URL force VERSION" in planner.error()
    execute(
        pg_dsn,
        "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz"
        " NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL)",
    )
    assert "_sqlx_migrations" in planner.plan()["operations"][-1]["sql"]
    assert "zdd_migrations" in planner.plan("--tool", "plain", "--baseline", "1_a.up.sql")["operations"][-1]["sql"]


def test_plain_files_need_a_baseline_once(planner: Planner, pg_dsn: str) -> None:
    planner.write({"1.sql": "CREATE TABLE a (id int)", "2.sql": "CREATE TABLE b (id int)"})
    assert "name the last one with --baseline FILE" in planner.error()
    create, table, record = planner.plan("--baseline", "1.sql")["operations"]
    assert (create[:12], table) == ("CREATE TABLE", "CREATE TABLE b (id int)")
    execute(pg_dsn, create + ";" + record["sql"])
    assert planner.error().startswith("zdd: plain: nothing is pending in")


@pytest.mark.parametrize(
    ("folder", "options"),
    [("", ()), ("db/migrate", ()), ("prisma/migrations", ("--tool", "prisma"))],
)
def test_no_tool_is_recognized(folder: str, options: tuple[str, ...], planner: Planner) -> None:
    planner.write({f"{folder}/README.md".lstrip("/"): "hello"})
    error = planner.error(*options)
    assert ("looks for migration_lock.toml" if options else "flyway: V1__name.sql or R__name.sql;") in error


def test_the_usual_folder_below_a_project_and_its_configuration_are_found(planner: Planner, pg_dsn: str) -> None:
    planner.write({"flyway.toml": '[flyway]\ntable = "history"', "sql/V1__a.sql": "CREATE TABLE a (id int)"})
    assert "has no table history" in planner.error()
    execute(
        pg_dsn,
        "CREATE SCHEMA app; CREATE TABLE app.hist (installed_rank int, version text, description text, type text,"
        " script text, checksum int, success boolean, installed_by text, execution_time int)",
    )
    assert "'V1__a.sql'" in planner.plan("--version-table", "app.hist")["operations"][-1]["sql"]


def test_another_tool_s_table_and_a_role_without_rights_are_refused(planner: Planner, pg_dsn: str) -> None:
    planner.write(UP)
    execute(pg_dsn, "CREATE TABLE schema_migrations (version text)")
    assert "is no table of golang-migrate: it has no column dirty" in planner.error("--tool", "golang-migrate")
    execute(pg_dsn, f"DROP TABLE schema_migrations; {GOLANG}")
    execute(
        pg_dsn,
        "DROP ROLE IF EXISTS zdd_test_reader; CREATE ROLE zdd_test_reader LOGIN PASSWORD 'r';"
        " GRANT SELECT ON schema_migrations TO zdd_test_reader",
    )
    server = pg_dsn.partition("@")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"postgresql://zdd_test_reader:r@{server}")
        assert "the role may not INSERT or UPDATE or DELETE in" in planner.error()
    execute(pg_dsn, "DROP OWNED BY zdd_test_reader; DROP ROLE zdd_test_reader")


def test_placeholders_of_a_plan_in_sql_are_refused(planner: Planner, pg_dsn: str) -> None:
    planner.write({"1_a.up.sql": "COMMENT ON TABLE x IS '${HOME}'"})
    execute(pg_dsn, GOLANG)
    assert "the SQL holds ${HOME}" in planner.error()


@pytest.mark.parametrize(
    ("sql", "placeholder"),
    [
        ('-- {{ no }}\nCREATE TABLE {{ index .Options "Namespace" }}.x (id int)', '{{ index .Options "Namespace" }}'),
        ('-- \nCREATE TABLE "it\'s {new}" (id int)', "{new}"),
        ("\nALTER TABLE t ADD ${COLUMN} int", "${COLUMN}"),
        ("\nDROP TABLE <%= table [*] %>", "<%= table [*] %>"),
    ],
)
def test_a_template_is_told_by_its_placeholder_and_filled_by_the_command_of_the_error(
    sql: str, placeholder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "up.sql"
    file.write_text(sql)
    assert main(["plan", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}:2: {placeholder} is a placeholder of a template, and no SQL" in error
    command = error.partition("fill it in: ")[2].partition(";")[0].replace("VALUE", "filled")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    filled = tmp_path / "filled.sql"
    assert filled.read_text() == sql.replace(placeholder, "filled")
    main(["plan", str(filled)])
    assert "placeholder" not in capsys.readouterr().err


def test_braces_in_strings_are_no_placeholders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "up.sql"
    file.write_text("CREATE TABLE a (b int[] DEFAULT '{{1,2},{3,4}}', c text DEFAULT $$ {name} ${c} $$ /* {{d}} */)")
    assert main(["plan", str(file)]) == 0
    assert "{{1,2},{3,4}}" in capsys.readouterr().out


def test_statements_are_refused_by_file_and_line(planner: Planner, pg_dsn: str) -> None:
    planner.write({"1_a.up.sql": "CREATE TABLE a (id int);\n\nINSERT INTO x VALUES (1);"})
    execute(pg_dsn, GOLANG)
    error = planner.error()
    assert f"{planner.folder}/1_a.up.sql:3: INSERT INTO x VALUES (1): zdd does not know how to undo it" in error
    assert "Fix: write it to 1_a.down.sql" in error
    planner.write({"1_a.down.sql": "DELETE FROM x;\nDROP TABLE a;"})
    assert planner.plan()["operations"][1] == {"sql": "INSERT INTO x VALUES (1)", "undo": ["DELETE FROM x"]}


def test_code_is_refused_with_the_command_and_the_output_is_taken(planner: Planner, pg_dsn: str) -> None:
    planner.write({"alembic.ini": ""})
    execute(pg_dsn, "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('r1')")
    assert "alembic upgrade r1:head --sql > up.sql" in planner.error()
    output = planner.folder / "up.sql"
    output.write_text(
        "-- Running upgrade r1 -> r2\n\nALTER TABLE a ADD COLUMN b int;\n\n"
        "UPDATE alembic_version SET version_num='r2' WHERE alembic_version.version_num = 'r1';\n"
    )
    command = ["plan", str(output), "--from", str(planner.folder), "--deployment", "a", "--image", "i:1"]
    assert main(command) == 0
    operations = yaml.safe_load(planner.capsys.readouterr().out)["operations"]
    assert operations[0] == "ALTER TABLE a ADD COLUMN b int"
    assert "SET \"version_num\" = 'r2'" in operations[1]["sql"]
    assert "cannot be started" in planner.error("--tool-command", "/no/such/alembic")


def test_without_a_file_and_a_directory_there_is_nothing_to_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--deployment", "a", "--image", "i:1"]) == 2
    assert "or a directory with --from DIR" in capsys.readouterr().err


def test_a_directory_as_a_file_leads_to_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path), "--deployment", "a", "--image", "i:1"]) == 2
    assert f"or plan it with --from {tmp_path}" in capsys.readouterr().err


def test_the_database_has_to_be_named(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    planner.write(UP)
    monkeypatch.delenv("DATABASE_URL")
    assert "the environment variable DATABASE_URL is not set" in planner.error()
