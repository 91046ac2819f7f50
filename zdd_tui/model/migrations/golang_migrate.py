"""golang-migrate: ``0002_name.up.sql`` with ``0002_name.down.sql``, kept as one row in ``schema_migrations``."""

import re
from collections.abc import Collection

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    parse_version,
    pointer_record,
    require_distinct,
)

_NAME = re.compile(r"(\d+)_([^/]*)\.(up|down)\.([^/]*)")


class GolangMigrate(MigrationTool):
    """The rules of golang-migrate, from its ``source.Regex`` and the driver ``postgres``."""

    name = "golang-migrate"
    looks_for = "0001_name.up.sql"
    folders = ("migrations", "db/migrations")
    reads = (".sql",)
    columns = frozenset({"version", "dirty"})
    missing_table = "let the tool record what the database has: migrate -path DIR -database URL force VERSION"
    certainty = "names"
    start_note = (
        "an older version of the application that runs golang-migrate at its start does not start any more once the"
        " new version is recorded, also during a rollback"
    )

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any((match := _NAME.fullmatch(file.name)) and match[3] == "up" for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "schema_migrations"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        found = [(file, match) for file in source.files if (match := _NAME.fullmatch(file.path))]
        ups = {parse_version(match[1], file.path): file for file, match in found if match[3] == "up"}
        downs = {parse_version(match[1], file.path): file for file, match in found if match[3] == "down"}
        for word in ("up", "down"):
            require_distinct(
                (parse_version(match[1], file.path), file.path) for file, match in found if match[3] == word
            )
        current = -1
        for row in source.table.rows:
            current = int(row["version"])
            if row["dirty"]:
                raise Refused(
                    f"the database is dirty: the migration to version {current} failed",
                    f"repair what it left, then run: migrate -path {source.folder} -database URL force VERSION",
                )
        if current >= 0 and current not in ups and current not in downs:
            raise Refused(
                f"the database has version {current}, and there is no such file in {source.folder}",
                "take the directory of the version that the database has, or a newer one",
            )
        pending = [version for version in sorted(ups) if version > current]
        table = source.table.sql
        new, old = pending[-1] if pending else current, current
        return MigrationSet(
            tuple(_build_pending(source, ups[version], downs.get(version)) for version in pending),
            pointer_record(table, "version", str(new), str(old) if old >= 0 else None, dirty="false"),
            _describe_other_files(source.files),
        )


def _build_pending(source: MigrationSource, up: DirectoryFile, down: DirectoryFile | None) -> PendingMigration:
    """
    Raises:
        PlanError: it is not SQL.
    """
    if not up.name.endswith(".sql"):
        raise PlanError(f"{source.path(up)} is no SQL", "write it as SQL, in a file whose name ends in .up.sql")
    return PendingMigration(
        up.name,
        source.path(up),
        up.text,
        down.text if down else None,
        f"write it to {up.name.replace('.up.', '.down.')}",
    )


def _describe_other_files(files: Collection[DirectoryFile]) -> tuple[str, ...]:
    other = [file.path for file in files if file.name.endswith(".sql") and not _NAME.fullmatch(file.path)]
    return (f"ignored, as golang-migrate does not recognize the name: {', '.join(other[:5])}",) if other else ()
