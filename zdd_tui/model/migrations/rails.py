"""Rails: ``20240101000000_name.rb`` with its SQL in a file beside it, kept in ``schema_migrations``."""

import re
from collections.abc import Collection

from zdd_tui.model.errors import Refused
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    delete_sql,
    describe_missing,
    insert_sql,
    parse_version,
    require_distinct,
    rows_record,
)

_NAME = re.compile(r"(?:.*/)?(\d+)_([a-z0-9_]+)(\.[a-z0-9_]+)?\.rb")


class Rails(MigrationTool):
    """The rules of Active Record. Ruby code is not read: the SQL of a migration stands beside it."""

    name = "rails"
    looks_for = "20240101000000_name.rb"
    folders = ("db/migrate",)
    reads = (".sql",)
    columns = frozenset({"version"})
    missing_table = "let Rails record what the database has, with its own command"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(file.path == file.name and _NAME.fullmatch(file.path) for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "schema_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        files = {file.path: file for file in source.files}
        found = sorted(
            (parse_version(match[1], path), path) for path in files if (match := _NAME.fullmatch(path)) is not None
        )
        require_distinct(found)
        applied = {int(row["version"]) for row in source.table.rows if str(row["version"]).isdecimal()}
        pending = [(version, path) for version, path in found if version not in applied]
        table = source.table.sql
        return MigrationSet(
            tuple(_build_pending(source, path, files) for _, path in pending),
            rows_record(
                table,
                (
                    (insert_sql(table, {"version": str(each)}), delete_sql(table, version=str(each)))
                    for each, _ in pending
                ),
            ),
            describe_missing([str(version) for version in sorted(applied - {version for version, _ in found})]),
        )


def _build_pending(source: MigrationSource, path: str, files: dict[str, DirectoryFile]) -> PendingMigration:
    """
    Raises:
        Refused: there is no SQL of it.
    """
    stem = path.removesuffix(".rb")
    name = stem.rpartition("/")[2]
    given = {given.rpartition("/")[2]: (given, text) for given, text in source.outputs.items()}
    texts = {file.name: (source.path(file), file.text) for file in files.values() if file.path.startswith(f"{stem}.")}
    texts = {key: value for key, value in texts.items() if key.endswith(".sql")} | given
    up = texts.get(f"{name}.up.sql") or texts.get(f"{name}.sql")
    if up is None:
        raise Refused(
            f"{source.path(path)} is Ruby code, which zdd does not read",
            f"write the SQL that Rails logs for it in development to {source.path(stem)}.up.sql, and what takes it back"
            f" to {name}.down.sql",
        )
    down = texts.get(f"{name}.down.sql")
    return PendingMigration(f"{name}.rb", up[0], up[1], down[1] if down else None, f"write it to {name}.down.sql")
