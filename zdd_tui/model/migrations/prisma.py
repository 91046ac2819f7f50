"""Prisma Migrate: ``20240101000000_name/migration.sql``, kept in ``_prisma_migrations``."""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

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
    rows_record,
)

_NAME = re.compile(r"([^/]+)/migration\.sql")
_PROVIDER = re.compile(r'^\s*provider\s*=\s*"([^"]*)"', re.MULTILINE)


def checksums(content: bytes) -> tuple[str, ...]:
    """Prisma's checksum of a script, SHA-256 of the file; then those of other line ends, which it accepts too."""
    unix = content.replace(b"\r\n", b"\n")
    return tuple(hashlib.sha256(each).hexdigest() for each in (content, unix, unix.replace(b"\n", b"\r\n")))


class Prisma(MigrationTool):
    """The rules of Prisma Migrate 5 and 6."""

    name = "prisma"
    looks_for = "migration_lock.toml, or NAME/migration.sql"
    folders = ("prisma/migrations", "migrations")
    reads = (".sql", ".toml")
    columns = frozenset({"id", "checksum", "migration_name", "finished_at", "rolled_back_at", "applied_steps_count"})
    missing_table = "let Prisma record what the database has: npx prisma migrate resolve --applied NAME"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any(file.path == "migration_lock.toml" or _NAME.fullmatch(file.path) for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "_prisma_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        files = {file.path: file for file in source.files}
        lock = files.get("migration_lock.toml", DirectoryFile("migration_lock.toml"))
        provider = match[1] if (match := _PROVIDER.search(lock.text)) else "postgresql"
        if provider not in ("postgresql", "postgres"):
            raise PlanError(f"{source.path(lock)}: the provider is {provider}", "zdd changes PostgreSQL only")
        names = sorted(match[1] for path in files if (match := _NAME.fullmatch(path)))
        rows = _select_applied(source.table.rows)
        pending = []
        for name in names:
            file = files[f"{name}/migration.sql"]
            if name not in rows:
                pending.append((name, file))
            elif rows[name]["checksum"] not in checksums(file.content):
                raise changed_error(file.path, "restore the file; Prisma never applies it again")
        table = source.table.sql
        return MigrationSet(
            tuple(_build_pending(source, name, file, files.get(f"{name}/down.sql")) for name, file in pending),
            rows_record(
                table,
                (
                    (
                        insert_sql(
                            table,
                            {"checksum": checksums(file.content)[0], "migration_name": name, "applied_steps_count": 1},
                            id="gen_random_uuid()::text",
                            finished_at="now()",
                        ),
                        f"{delete_sql(table, migration_name=name)} AND rolled_back_at IS NULL",
                    )
                    for name, file in pending
                ),
            ),
            describe_missing(sorted(set(rows) - set(names))),
        )


def _select_applied(rows: Collection[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """
    Raises:
        Refused: one has failed, and nobody has resolved it.
    """
    kept = {row["migration_name"]: row for row in rows if row["rolled_back_at"] is None}
    failed = sorted(name for name, row in kept.items() if row["finished_at"] is None)
    if failed:
        raise Refused(
            f"{failed[0]} failed when Prisma applied it",
            f"repair what it left, then run: npx prisma migrate resolve --rolled-back {failed[0]}",
        )
    return kept


def _build_pending(
    source: MigrationSource, name: str, file: DirectoryFile, down: DirectoryFile | None
) -> PendingMigration:
    return PendingMigration(
        name, source.path(file), file.text, down.text if down else None, f"write it to {source.path(name)}/down.sql"
    )
