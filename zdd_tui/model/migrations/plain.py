"""Plain SQL files, which no tool applies: zdd keeps them in a table of its own, ``zdd_migrations``."""

import hashlib
import re
from collections.abc import Collection

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    changed_error,
    delete_sql,
    describe_missing,
    insert_sql,
    require_order,
    rows_record,
)

NO_BASELINE = "none"
"""As a baseline: the database has applied no file."""


def natural_key(path: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Orders paths with numbers by their value, 9 before 10; what is not decided by it, as text."""
    parts = re.split(r"(\d+)", path)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part), path


class Plain(MigrationTool):
    """Files ``*.sql`` of the directory itself, in the order of their names.

    ``name.down.sql`` takes ``name.sql`` back.
    """

    name = "plain"
    looks_for = "files *.sql"
    folders = ()
    reads = (".sql",)
    columns = frozenset({"name", "sha256"})
    missing_table = ""
    certainty = "names"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(file.path == file.name and file.name.endswith(".sql") for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "zdd_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        files = {file.path: file for file in source.files if file.path == file.name and file.name.endswith(".sql")}
        paths = sorted((path for path in files if not path.endswith(".down.sql")), key=natural_key)
        rows = {str(row["name"]): str(row["sha256"]) for row in source.table.rows}
        before = _read_baseline(source, paths) if not source.table.exists else ()
        for path in paths:
            if path in rows and rows[path] != _checksum(files[path]):
                raise changed_error(source.path(path), f"restore the file, or correct its row in {source.table.sql}")
        pending = [path for path in paths if path not in rows and path not in before]
        last = max((path for path in rows if path in files), key=natural_key, default=None)
        require_order(
            [(natural_key(path), path) for path in pending],
            natural_key(last) if last else None,
            allowed=source.allow_out_of_order,
            last_name=str(last),
        )
        table = source.table.sql
        prepare = (
            f"CREATE TABLE {table} (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        return MigrationSet(
            tuple(_build_pending(source, path, files) for path in pending),
            rows_record(
                table,
                (
                    (
                        insert_sql(table, {"name": path, "sha256": _checksum(files[path])}),
                        delete_sql(table, name=path),
                    )
                    for path in (*before, *pending)
                ),
                () if source.table.exists else (prepare,),
            ),
            describe_missing(sorted(set(rows) - set(paths), key=natural_key)),
        )


def _read_baseline(source: MigrationSource, paths: list[str]) -> tuple[str, ...]:
    """The files that the database has applied already, by the word of the operator.

    Raises:
        Refused: the operator says nothing.
        PlanError: there is no such file.
    """
    if not source.baseline:
        raise Refused(
            f"the database has no table {source.table.sql}: it is not known which files it has applied",
            "name the last one with --baseline FILE, or say --baseline none",
        )
    if source.baseline == NO_BASELINE:
        return ()
    if source.baseline not in paths:
        raise PlanError(
            f"--baseline: there is no {source.baseline} in {source.folder}", "name a file below that directory"
        )
    return tuple(paths[: paths.index(source.baseline) + 1])


def _checksum(file: DirectoryFile) -> str:
    """Of the text, so that other line ends are no change."""
    return hashlib.sha256(file.text.encode()).hexdigest()


def _build_pending(source: MigrationSource, path: str, files: dict[str, DirectoryFile]) -> PendingMigration:
    down = f"{path.removesuffix('.sql').removesuffix('.up')}.down.sql"
    undo = files[down].text if down in files else None
    return PendingMigration(path, source.path(path), files[path].text, undo, f"write it to {source.path(down)}")
