"""Django: Python code, which ``manage.py sqlmigrate`` writes as SQL; kept in ``django_migrations``."""

import re
import shlex
from collections.abc import Collection

from zdd_tui.model.errors import PlanError, Refused, ZddError
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    delete_sql,
    insert_sql,
    rows_record,
)

_LINE = re.compile(r"\[([X ])\]\s+(\w+)\.(\w+)")
_FILE = re.compile(r"(?:.*/)?(\w+)/migrations/(\d\w*)\.py")
_OUTPUT = re.compile(r"(\w+)\.(\d\w*?)(\.down)?\.sql")
_NO_SQL = "THIS OPERATION CANNOT BE WRITTEN AS SQL"


class Django(MigrationTool):
    """The rules of Django's ``migrate``, by its own commands."""

    name = "django"
    looks_for = "manage.py"
    folders = ()
    reads = ()
    columns = frozenset({"app", "name", "applied"})
    missing_table = "let Django record what the database has: python manage.py migrate --fake-initial"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(file.path == "manage.py" for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "django_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        applied = {(str(row["app"]), str(row["name"])) for row in source.table.rows}
        if source.outputs:
            pending = _from_outputs(source, applied)
        elif source.run is not None:
            pending = _from_command(source, applied)
        else:
            raise _command_needed(source, applied)
        table = source.table.sql
        notes = (
            "Django makes content types and permissions of new models when migrate runs: run it once after the release",
        )
        return MigrationSet(
            tuple(pending.values()),
            rows_record(
                table,
                (
                    (
                        insert_sql(table, {"app": app, "name": name}, applied="now()"),
                        delete_sql(table, app=app, name=name),
                    )
                    for app, name in pending
                ),
            ),
            notes if pending else (),
        )


_Names = tuple[str, str]


def _from_command(source: MigrationSource, applied: Collection[_Names]) -> dict[_Names, PendingMigration]:
    """
    Raises:
        PlanError: the command reads another database than zdd, or prints what zdd does not know.
        Refused: a migration has no SQL.
    """
    assert source.run is not None
    listed = [
        (match[1] == "X", (match[2], match[3]))
        for line in source.run(("showmigrations", "--plan", "--no-color")).splitlines()
        if (match := _LINE.match(line.strip()))
    ]
    if not listed:
        raise PlanError("showmigrations --plan lists no migration", "check --tool-command in the project's directory")
    for is_applied, names in listed:
        if is_applied and names not in applied:
            raise PlanError(
                f"for Django {'.'.join(names)} is applied, and the database has no row of it",
                "give zdd and Django the same database, by --dsn and Django's settings",
            )
    found = {}
    for is_applied, names in listed:
        if is_applied:
            continue
        if names in applied:
            raise PlanError(
                f"for Django {'.'.join(names)} is not applied, and the database has a row of it",
                "give zdd and Django the same database, by --dsn and Django's settings",
            )
        up = source.run(("sqlmigrate", *names, "--no-color"))
        try:
            down = source.run(("sqlmigrate", *names, "--backwards", "--no-color"))
        except ZddError:
            down = None  # it is not reversible: what needs an undo is refused later, one by one
        found[names] = _build_pending(names, up, down)
    return found


def _from_outputs(source: MigrationSource, applied: Collection[_Names]) -> dict[_Names, PendingMigration]:
    """
    Raises:
        PlanError: a file's name tells no migration, or one that is applied.
    """
    ups: dict[_Names, str] = {}
    downs: dict[_Names, str] = {}
    for path, text in source.outputs.items():
        match = _OUTPUT.fullmatch(path.rpartition("/")[2])
        if match is None:
            raise PlanError(
                f"{path}: the file name does not name a migration",
                "name it APP.MIGRATION.sql, such as shop.0002_add.sql",
            )
        names = (match[1], match[2])
        if names in applied:
            raise PlanError(f"{path}: the database has applied it", "leave it out")
        (downs if match[3] else ups)[names] = text
    return {names: _build_pending(names, text, downs.get(names)) for names, text in ups.items()}


def _build_pending(names: _Names, up: str, down: str | None) -> PendingMigration:
    name = ".".join(names)
    if _NO_SQL in up:
        raise Refused(
            f"{name} has an operation that Django cannot write as SQL, such as RunPython",
            "move it to a migration of its own, and run that with Django before or after the release",
        )
    if down is not None and _NO_SQL in down:
        down = None
    return PendingMigration(name, f"sqlmigrate {' '.join(names)}", up, down, "make it reversible")


def _command_needed(source: MigrationSource, applied: Collection[_Names]) -> Refused:
    found = sorted((match[1], match[2]) for file in source.files if (match := _FILE.fullmatch(file.path)))
    pending = [names for names in found if names not in applied]
    lines = [
        f"    python manage.py {shlex.join(('sqlmigrate', *names))} > {'.'.join(names)}.sql" for names in pending[:20]
    ] or ["    python manage.py sqlmigrate APP MIGRATION > APP.MIGRATION.sql"]
    return Refused(
        "Django's migrations are Python code, which zdd does not read",
        "let Django write the SQL: add --tool-command 'python manage.py'; or run\n"
        + "\n".join(lines)
        + f"\n  and give the files in their order: zdd plan APP.MIGRATION.sql … --from {shlex.quote(source.folder)} …",
    )
