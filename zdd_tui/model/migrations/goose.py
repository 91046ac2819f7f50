"""goose: ``00002_name.sql`` with ``-- +goose Up`` and ``-- +goose Down``, kept in ``goose_db_version``."""

import re
from collections.abc import Collection

from zdd_tui.model.errors import PlanError, Refused
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
    require_order,
    rows_record,
    select_section,
)

_NAME = re.compile(r"(\d+)_[^/]*\.(sql|go)")
_UP = re.compile(r"--\s*\+goose\s+up\s*$", re.IGNORECASE)
_DOWN = re.compile(r"--\s*\+goose\s+down\s*$", re.IGNORECASE)
_SUBSTITUTION = re.compile(r"^--\s*\+goose\s+envsub\s+on\s*$", re.IGNORECASE | re.MULTILINE)


class Goose(MigrationTool):
    """The rules of goose 3."""

    name = "goose"
    looks_for = "00001_name.sql with the line -- +goose Up"
    folders = ("migrations", "db/migrations")
    reads = (".sql",)
    columns = frozenset({"id", "version_id", "is_applied"})
    missing_table = "let goose make its table and record what the database has, with its own command"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(
            _NAME.fullmatch(file.name) and b"+goose" in file.content for file in files if file.name.endswith(".sql")
        )

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "goose_db_version"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        found = sorted(
            (parse_version(match[1], file.path), file)
            for file in source.files
            if (match := _NAME.fullmatch(file.path)) and not file.name.endswith("_test.go")
        )
        require_distinct((version, file.path) for version, file in found)
        # A version's last row decides: older releases of goose add one with is_applied = false when they go down.
        latest = {int(row["version_id"]): row for row in sorted(source.table.rows, key=lambda row: int(row["id"]))}
        applied = {version for version, row in latest.items() if row["is_applied"]}
        pending = [(version, file) for version, file in found if version not in applied]
        last = max(applied, default=None)
        require_order(
            [(version, file.path) for version, file in pending],
            last,
            allowed=source.allow_out_of_order,
            last_name=f"version {last}",
        )
        missing = [str(version) for version in sorted(applied - {version for version, _ in found}) if version > 0]
        table = source.table.sql
        return MigrationSet(
            tuple(_build_pending(source, file) for _, file in pending),
            rows_record(
                table,
                (
                    (
                        insert_sql(table, {"version_id": version, "is_applied": True}),
                        delete_sql(table, version_id=version),
                    )
                    for version, _ in pending
                ),
            ),
            describe_missing(missing),
        )


def _build_pending(source: MigrationSource, file: DirectoryFile) -> PendingMigration:
    """
    Raises:
        Refused: it is Go code.
        PlanError: the SQL has no part for up, or takes values from the environment.
    """
    if file.name.endswith(".go"):
        raise Refused(f"{source.path(file)} is Go code, which zdd cannot read", "write the migration as SQL")
    text = file.text
    if match := _SUBSTITUTION.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise PlanError(
            f"{source.path(file)}:{line}: goose fills values of its environment in here", "write the values themselves"
        )
    up = select_section(text, _UP, _DOWN)
    if up is None:
        raise PlanError(f"{source.path(file)}: there is no line -- +goose Up", "write it above the statements")
    return PendingMigration(
        file.name, source.path(file), up, select_section(text, _DOWN, _UP), "write it below a line -- +goose Down"
    )
