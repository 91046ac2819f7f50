"""Flyway: ``V2__name.sql``, ``R__name.sql`` and ``U2__name.sql``, kept in ``flyway_schema_history``.

The rules of names, checksums and states are those of Flyway 10: its ``ResourceNameParser``, ``MigrationVersion``,
``ChecksumCalculator`` and ``MigrationInfoServiceImpl``.
"""

import re
import tomllib
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
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
    require_distinct,
    require_order,
    rows_record,
)

CONFIG_NAMES = ("flyway.conf", "flyway.toml")
"""Of Flyway's configuration, in the directory, in its parent where that was named, or in ``conf`` in one of them."""

_NAME = re.compile(r"(?P<kind>[VUR])(?P<version>.*?)__(?P<description>.+)\.sql")
_VERSION = re.compile(r"\d+([._]\d+)*")
_CONFIG_FILES = tuple(f"{folder}{name}" for folder in ("../conf/", "../", "conf/", "") for name in CONFIG_NAMES)
_REPEATABLE_NOTE = (
    "an older version of the application that runs Flyway at its start applies its own form of a repeatable migration"
    " again, and does not start where it has none of that name"
)
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_FIXED_SETTINGS = {
    "sqlmigrationprefix": "V",
    "undosqlmigrationprefix": "U",
    "repeatablesqlmigrationprefix": "R",
    "sqlmigrationseparator": "__",
    "sqlmigrationsuffixes": ".sql",
    "placeholderprefix": "${",
    "placeholdersuffix": "}",
    "encoding": "UTF-8",
}
"""Settings that decide how files are read, with the one value that zdd knows: Flyway's default."""


@dataclass(frozen=True, slots=True, order=False)
class FlywayVersion:
    """A version: numbers between dots, of which trailing zeros do not count; 1.10 is higher than 1.9."""

    text: str

    @property
    def parts(self) -> tuple[int, ...]:
        parts = [int(part) for part in self.text.split(".")]
        while len(parts) > 1 and parts[-1] == 0:
            parts.pop()
        return tuple(parts)

    def __lt__(self, other: "FlywayVersion") -> bool:
        pairs = zip_longest(self.parts, other.parts, fillvalue=0)
        return next((left < right for left, right in pairs if left != right), False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlywayVersion) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Script:
    """A migration file. `version` is None for a repeatable one."""

    file: DirectoryFile
    kind: str
    version: FlywayVersion | None
    description: str


def checksum(text: str) -> int:
    """Flyway's checksum of a migration: CRC32 of all lines without what ends them, as a signed integer.

    Args:
        text: without a byte order mark, lines ended by a line feed.
    """
    value = 0
    for line in text.split("\n"):  # an empty last line adds nothing
        value = zlib.crc32(line.encode(), value)
    return value - 2**32 if value >= 2**31 else value


def read_settings(files: Collection[DirectoryFile]) -> dict[str, str]:
    """Flyway's settings from its configuration in the directory, by lower-case name without ``flyway.``.

    Raises:
        PlanError: the file is not TOML, or a setting changes how migrations are read in a way that zdd does not know.
    """
    settings: dict[str, str] = {}
    by_path = {file.path: file for file in files}
    for path in _CONFIG_FILES:
        if path in by_path:
            settings |= _read_toml(by_path[path]) if path.endswith(".toml") else _read_properties(by_path[path].text)
    for name, known in _FIXED_SETTINGS.items():
        if settings.get(name, known).upper() != known.upper():
            raise PlanError(
                f"Flyway's setting {name} is {settings[name]!r}, and zdd reads migrations only with {known!r}",
                "name the SQL itself: zdd plan FILE…",
            )
    return settings


def _read_properties(text: str) -> dict[str, str]:
    found = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith(("#", "!")):
            found[name.strip().lower().removeprefix("flyway.")] = value.strip()
    return found


def _read_toml(file: DirectoryFile) -> dict[str, str]:
    try:
        section = tomllib.loads(file.text).get("flyway", {})
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{file.path} is not TOML: {error}", "correct it") from None
    found: dict[str, str] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}{name}.", value)
            else:
                shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                found[f"{prefix}{name}".lower()] = shown

    add("", section if isinstance(section, dict) else {})
    return found


class Flyway(MigrationTool):
    """The rules of Flyway."""

    name = "flyway"
    looks_for = "V1__name.sql or R__name.sql"
    folders = ("sql", "src/main/resources/db/migration", "db/migration")
    reads = (".sql", ".conf", ".toml")
    columns = frozenset({"installed_rank", "version", "description", "type", "script", "checksum", "success"})
    missing_table = "let Flyway record what the database has: flyway baseline -baselineVersion=VERSION"
    certainty = "content"
    start_note = ""

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        return any((match := _NAME.fullmatch(file.name)) and match["kind"] in "VR" for file in files)

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        settings = read_settings(files)
        schema = settings.get("defaultschema") or settings.get("schemas", "").split(",")[0].strip()
        table = settings.get("table", "flyway_schema_history")
        return f"{schema}.{table}" if schema else table

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        settings = read_settings(source.files)
        scripts, notes = _read_scripts(source.files)
        versioned = sorted((each for each in scripts if each.kind == "V"), key=_version_of)
        repeatable = sorted((each for each in scripts if each.kind == "R"), key=lambda each: each.description)
        undo = {each.version: each for each in scripts if each.kind == "U"}
        require_distinct((_version_of(each), each.file.path) for each in versioned)
        require_distinct((each.version, each.file.path) for each in scripts if each.kind == "U")
        require_distinct((each.description, each.file.path) for each in repeatable)
        rows = sorted(source.table.rows, key=lambda row: int(row["installed_rank"]))
        _refuse_failed(rows)
        latest = {FlywayVersion(row["version"]): row for row in rows if row["version"] is not None}
        applied = {
            version: row for version, row in latest.items() if row["type"] not in ("DELETE", "UNDO_SQL", "UNDO_SCRIPT")
        }
        baseline = max((v for v, row in applied.items() if "BASELINE" in row["type"]), default=None)
        pending = []
        for script in versioned:
            version = _version_of(script)
            row = applied.get(version)
            if row is None:
                if baseline is None or baseline < version:
                    pending.append(script)
            elif row["checksum"] is not None and "BASELINE" not in row["type"]:
                _require_same(script, row)
        last = max(applied, default=None)
        require_order(
            [(_version_of(each), each.file.path) for each in pending],
            last,
            allowed=source.allow_out_of_order or settings.get("outoforder", "").lower() == "true",
            last_name=f"version {last}",
        )
        known = {_version_of(each) for each in versioned}
        missing = [
            row["script"] for v, row in sorted(applied.items()) if v not in known and "BASELINE" not in row["type"]
        ]
        again = [each for each in repeatable if _has_changed(each, rows, settings)]
        return MigrationSet(
            tuple(_build_pending(source, each, undo.get(each.version), settings) for each in (*pending, *again)),
            rows_record(
                source.table.sql,
                _build_rows(source, (*pending, *again), rows, settings),
            ),
            (*notes, *describe_missing(missing), *((_REPEATABLE_NOTE,) if again else ())),
        )


def _version_of(script: _Script) -> FlywayVersion:
    assert script.version is not None
    return script.version


def _read_scripts(files: Collection[DirectoryFile]) -> tuple[list[_Script], tuple[str, ...]]:
    scripts, ignored = [], []
    for file in files:
        if not file.name.lower().endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        version = match["version"] if match else ""
        if match is None or (match["kind"] == "R") is bool(version) or (version and not _VERSION.fullmatch(version)):
            ignored.append(file.path)
            continue
        parsed = FlywayVersion(version.replace("_", ".")) if version else None
        scripts.append(_Script(file, match["kind"], parsed, match["description"].replace("_", " ")))
    notes = (f"ignored, as Flyway does not recognize the name: {', '.join(ignored[:5])}",) if ignored else ()
    return scripts, notes


def _refuse_failed(rows: Sequence[Mapping[str, Any]]) -> None:
    failed = [row["script"] for row in rows if not row["success"]]
    if failed:
        raise Refused(f"{failed[-1]} failed when Flyway applied it", "repair what it left, then run: flyway repair")


def _require_same(script: _Script, row: Mapping[str, Any]) -> None:
    if checksum(script.file.text) != row["checksum"]:
        raise changed_error(
            script.file.path, "restore the file; or, where the change is meant, accept it with: flyway repair"
        )


def _has_changed(script: _Script, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, str]) -> bool:
    """Whether a repeatable migration has to be applied: never, or with another checksum the last time."""
    mine = [row for row in rows if row["version"] is None and row["description"] == script.description]
    return not mine or mine[-1]["type"] == "DELETE" or mine[-1]["checksum"] != _own_checksum(script, settings)


def _own_checksum(script: _Script, settings: Mapping[str, str]) -> int:
    """The placeholders of a repeatable migration count with their values, those of a versioned one as they stand."""
    text = script.file.text
    return checksum(_fill(script, text, settings) if script.version is None else text)


def _build_pending(
    source: MigrationSource, script: _Script, undo: _Script | None, settings: Mapping[str, str]
) -> PendingMigration:
    return PendingMigration(
        script.file.name,
        source.path(script.file),
        _fill(script, script.file.text, settings),
        _fill(undo, undo.file.text, settings) if undo else None,
        f"write U{script.version}__{script.description.replace(' ', '_')}.sql beside it" if script.version else "",
    )


def _fill(script: _Script, text: str, settings: Mapping[str, str]) -> str:
    """
    Raises:
        PlanError: a placeholder has no value in the configuration.
    """
    if settings.get("placeholderreplacement", "true").lower() == "false":
        return text
    values = {name.removeprefix("placeholders."): value for name, value in settings.items()}

    def replace(match: re.Match[str]) -> str:
        name = match[1].lower()
        if f"placeholders.{name}" not in settings:
            line = text.count("\n", 0, match.start()) + 1
            raise PlanError(
                f"{script.file.path}:{line}: the placeholder {match[0]} has no value in Flyway's configuration",
                f"write flyway.placeholders.{match[1]}=VALUE to flyway.conf in the directory",
            )
        return values[name]

    return _PLACEHOLDER.sub(replace, text)


def _build_rows(
    source: MigrationSource,
    scripts: Sequence[_Script],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, str],
) -> list[tuple[str, str]]:
    last = max((int(row["installed_rank"]) for row in rows), default=0)
    result = []
    for rank, script in enumerate(scripts, last + 1):
        values: dict[str, str | int | bool | None] = {
            "installed_rank": rank,
            "version": str(script.version) if script.version else None,
            "description": script.description[:200],
            "type": "SQL",
            "script": script.file.path,
            "checksum": _own_checksum(script, settings),
        }
        insert = insert_sql(
            source.table.sql, values | {"execution_time": 0, "success": True}, installed_by="current_user"
        )
        result.append((insert, delete_sql(source.table.sql, installed_rank=rank, script=script.file.path)))
    return result
