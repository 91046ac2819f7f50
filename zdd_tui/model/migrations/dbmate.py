"""dbmate: ``20240101000000_name.sql`` with ``-- migrate:up`` and ``-- migrate:down``, kept in ``schema_migrations``."""

import re
from collections.abc import Collection

from zdd_tui.model.errors import PlanError
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    delete_sql,
    describe_missing,
    insert_sql,
    require_distinct,
    rows_record,
    select_section,
)

_NAME = re.compile(r"(\d+)[^/]*\.sql")
_UP = re.compile(r"--\s*migrate:up(\s|$)")
_DOWN = re.compile(r"--\s*migrate:down(\s|$)")
_MARKER = re.compile(rb"^--\s*migrate:up(\s|$)", re.MULTILINE)


class Dbmate(MigrationTool):
    """The rules of dbmate 2."""

    name = "dbmate"
    looks_for = "20240101000000_name.sql with the line -- migrate:up"
    folders = ("db/migrations",)
    reads = (".sql",)
    columns = frozenset({"version"})
    missing_table = "let dbmate make its table and record what the database has, with its own command"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(_NAME.fullmatch(file.name) and _MARKER.search(file.content) for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "schema_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        found = sorted(
            (file.path, match[1], file) for file in source.files if (match := _NAME.fullmatch(file.path)) is not None
        )
        require_distinct((version, path) for path, version, _ in found)
        applied = {str(row["version"]) for row in source.table.rows}
        pending = [(version, file) for _, version, file in found if version not in applied]
        missing = sorted(applied - {version for _, version, _ in found})
        table = source.table.sql
        return MigrationSet(
            tuple(_build_pending(source, file) for _, file in pending),
            rows_record(
                table,
                ((insert_sql(table, {"version": each}), delete_sql(table, version=each)) for each, _ in pending),
            ),
            describe_missing(missing),
        )


def _build_pending(source: MigrationSource, file: DirectoryFile) -> PendingMigration:
    """
    Raises:
        PlanError: it has no part for up.
    """
    up = select_section(file.text, _UP, _DOWN)
    if up is None:
        raise PlanError(f"{source.path(file)}: there is no line -- migrate:up", "write it above the statements")
    down = select_section(file.text, _DOWN, _UP)
    return PendingMigration(file.name, source.path(file), up, down, "write it below a line -- migrate:down")
