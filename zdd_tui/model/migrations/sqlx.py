"""sqlx (Rust): ``0002_name.sql``, or ``.up.sql`` with ``.down.sql``, kept in ``_sqlx_migrations``."""

import hashlib
import re
from collections.abc import Collection

from zdd_tui.model.errors import Refused
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
    parse_version,
    require_distinct,
    rows_record,
)

_NAME = re.compile(r"(\d+)_([^/]*?)(\.up|\.down)?\.sql")


class Sqlx(MigrationTool):
    """The rules of sqlx 0.8: ``migrate/source.rs`` and the PostgreSQL driver."""

    name = "sqlx"
    looks_for = "0001_name.sql, with the table _sqlx_migrations in the database"
    folders = ("migrations",)
    reads = (".sql",)
    columns = frozenset({"version", "description", "success", "checksum", "execution_time"})
    missing_table = "let sqlx record what the database has, with its own command"
    certainty = "table"
    start_note = (
        "an older version of the application that runs sqlx at its start does not start any more once the new version"
        " is recorded, also during a rollback, unless it sets ignore_missing"
    )

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(_NAME.fullmatch(file.path) for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "_sqlx_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        found = [(file, match) for file in source.files if (match := _NAME.fullmatch(file.path))]
        ups = sorted((parse_version(match[1], file.path), file) for file, match in found if match[3] != ".down")
        downs = {int(match[1]): file for file, match in found if match[3] == ".down"}
        titles = {int(match[1]): match[2].replace("_", " ") for _, match in found}
        require_distinct((version, file.path) for version, file in ups)
        rows = {int(row["version"]): row for row in source.table.rows}
        failed = [version for version, row in rows.items() if not row["success"]]
        if failed:
            raise Refused(f"version {failed[0]} failed when sqlx applied it", "repair what it left and delete its row")
        pending = []
        for version, file in ups:
            if version not in rows:
                pending.append((version, file))
            elif bytes(rows[version]["checksum"]) != hashlib.sha384(file.content).digest():
                raise changed_error(file.path, "restore the file")
        table = source.table.sql
        return MigrationSet(
            tuple(_build_pending(source, file, downs.get(version)) for version, file in pending),
            rows_record(
                table,
                (
                    (
                        insert_sql(
                            table,
                            {"version": version, "description": titles[version], "success": True, "execution_time": 0},
                            checksum=f"decode('{hashlib.sha384(file.content).hexdigest()}', 'hex')",
                        ),
                        delete_sql(table, version=version),
                    )
                    for version, file in pending
                ),
            ),
            describe_missing([str(version) for version in sorted(set(rows) - {version for version, _ in ups})]),
        )


def _build_pending(source: MigrationSource, up: DirectoryFile, down: DirectoryFile | None) -> PendingMigration:
    is_reversible = up.name.endswith(".up.sql")
    hint = f"write it to {up.name.replace('.up.sql', '.down.sql')}" if is_reversible else ""
    return PendingMigration(up.name, source.path(up), up.text, down.text if down else None, hint)
