"""What all tools share: files, version table, pending migrations, and the rows that say that they are applied."""

# ruff: noqa: S608  names are quoted, values are literals

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.sql import quote_identifier, quote_literal

T = TypeVar("T")
MAX_VERSION = 2**63 - 1
"""The largest bigint."""


@dataclass(frozen=True, slots=True)
class DirectoryFile:
    """A file of the directory.

    Attributes:
        path: below the directory, with ``/``.
        content: as it is on disk; empty for a file that zdd does not read, such as Python code.
    """

    path: str
    content: bytes = b""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def text(self) -> str:
        """The content without a byte order mark, lines ended by a line feed.

        Raises:
            PlanError: it is not text in UTF-8.
        """
        if (at := self.content.find(b"\0")) >= 0:
            raise PlanError(f"{self.path} is no text: it has a NUL at byte {at}", "save it as UTF-8 text")
        try:
            return self.content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise PlanError(f"{self.path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None


@dataclass(frozen=True, slots=True)
class VersionTable:
    """The table in which a tool keeps what is applied.

    Attributes:
        sql: its name as SQL, with the schema.
        rows: all of them, by column.
        exists: whether the database has it.
    """

    sql: str
    rows: tuple[Mapping[str, Any], ...] = ()
    exists: bool = True


ToolRunner = Callable[[Sequence[str]], str]
"""Runs the tool's command with arguments and returns what it prints.

Raises:
    ZddError: it cannot be run, fails, or exceeds a limit.
"""


@dataclass(frozen=True, slots=True)
class MigrationSource:
    """Everything that a tool's rules look at.

    Attributes:
        folder: of the files, as the operator named it.
        outputs: what the tool's own command printed, by the name of the file that the operator gave.
        run: runs the tool's own command; None where the operator named none.
        allow_out_of_order: take a migration that is older than one that is applied.
        baseline: the last file that the database has, for a directory without a version table; ``none`` for no file.
    """

    folder: str
    files: tuple[DirectoryFile, ...]
    table: VersionTable
    outputs: Mapping[str, str] = field(default_factory=dict)
    run: ToolRunner | None = None
    allow_out_of_order: bool = False
    baseline: str = ""

    def path(self, file: DirectoryFile | str) -> str:
        """A file as the operator would open it."""
        return f"{self.folder.rstrip('/')}/{file if isinstance(file, str) else file.path}"


@dataclass(frozen=True, slots=True)
class PendingMigration:
    """A migration that the database has not applied.

    Attributes:
        name: as the tool shows it.
        source: where the SQL stands, for messages; line 1 of `up` is line 1 there.
        down: the SQL that takes it back; None where there is none.
        undo_hint: where a team would write that SQL.
    """

    name: str
    source: str
    up: str
    down: str | None = None
    undo_hint: str = ""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """The change of the version table, by which the tool finds the pending migrations applied.

    Attributes:
        statements: SQL, in order; one transaction.
        undo: takes it back.
        prepare: operations before all others, such as a CREATE TABLE.
    """

    statements: tuple[str, ...]
    undo: tuple[str, ...]
    prepare: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationSet:
    """What a directory brings to a plan.

    Attributes:
        pending: in the order in which the tool would apply them.
        notes: what an operator should know.
    """

    pending: tuple[PendingMigration, ...]
    record: VersionRecord
    notes: tuple[str, ...] = ()


class MigrationTool(ABC):
    """The rules of one tool.

    Attributes:
        name: for ``--tool``.
        looks_for: the files by which it is recognized, for the error when nothing is.
        folders: where its files are below a project, looked at after the directory itself.
        reads: suffixes of the files whose content it needs.
        columns: of its version table.
        missing_table: what to do where the database has no version table; empty where the table may be missing.
        certainty: how sure it is that a directory that it recognizes is this tool's: by the files' content; by their
            names, unless the database has the table of another tool with such names; only with the table.
        start_note: what an older version of the application does when it runs the tool at its start during the
            release; empty where it starts as always.
    """

    name: ClassVar[str]
    looks_for: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]
    reads: ClassVar[tuple[str, ...]]
    columns: ClassVar[frozenset[str]]
    missing_table: ClassVar[str]
    certainty: ClassVar[Literal["content", "names", "table"]]
    start_note: ClassVar[str]

    @abstractmethod
    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        """Whether these are the files of this tool."""

    @abstractmethod
    def table_name(self, files: Collection[DirectoryFile]) -> str:
        """The version table's name, with its schema where the tool's configuration gives one: SQL names, unquoted."""

    @abstractmethod
    def find_pending(self, source: MigrationSource) -> MigrationSet:
        """What the database has not applied.

        Raises:
            PlanError: the files or rows contradict each other, or cannot be read.
            Refused: the tool itself would stop here.
        """


# --- what several tools need


def parse_version(text: str, name: str) -> int:
    """
    Raises:
        PlanError: it does not fit the bigint that the tool's version table has.
    """
    if int(text) > MAX_VERSION:
        raise PlanError(f"{name}: the version {text} is too large", f"use one of at most {MAX_VERSION}")
    return int(text)


def require_distinct(versions: Iterable[tuple[T, str]]) -> None:
    """
    Args:
        versions: version and file.

    Raises:
        PlanError: two files have one version.
    """
    seen: dict[T, str] = {}
    for version, name in versions:
        if version in seen:
            raise PlanError(f"{seen[version]} and {name} have the same version, {version}", "rename one of them")
        seen[version] = name


def require_order(pending: Sequence[tuple[T, str]], last: T | None, *, allowed: bool, last_name: str) -> None:
    """
    Args:
        pending: version and name.
        last: the highest version that is applied.

    Raises:
        Refused: a pending migration is older than an applied one.
    """
    if allowed or last is None:
        return
    late = [name for version, name in pending if version < last]  # type: ignore[operator]
    if late:
        raise Refused(
            f"{', '.join(late)} is older than {last_name}, which the database has applied",
            "give it a higher version; or take it as it is with --out-of-order",
        )


def changed_error(name: str, hint: str) -> Refused:
    """An applied migration's file is not the one that was applied."""
    return Refused(f"{name} was changed after it was applied: its checksum differs", hint)


def describe_missing(names: Sequence[str]) -> tuple[str, ...]:
    """The note on applied migrations without a file."""
    return (f"applied, but not in the directory: {list_first(names)}",) if names else ()


def list_first(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def select_section(text: str, begins: re.Pattern[str], ends: re.Pattern[str]) -> str | None:
    """The lines between a marker and the next other one; every other line is empty, so that line numbers stay.

    Returns:
        None where there is no such marker.
    """
    found, inside, lines = False, False, []
    for line in text.split("\n"):
        if begins.match(line):
            found = inside = True
            lines.append("")
            continue
        if ends.match(line):
            inside = False
        lines.append(line if inside else "")
    return "\n".join(lines) if found else None


def insert_sql(table: str, values: Mapping[str, str | int | bool | None], **expressions: str) -> str:
    """An INSERT of one row.

    Args:
        expressions: further columns, as SQL.
    """
    columns = [*values, *expressions]
    row = [*(literal(value) for value in values.values()), *expressions.values()]
    return f"INSERT INTO {table} ({', '.join(map(quote_identifier, columns))}) VALUES ({', '.join(row)})"


def delete_sql(table: str, **values: str | int) -> str:
    """A DELETE of the rows with these values."""
    where = " AND ".join(f"{quote_identifier(name)} = {literal(value)}" for name, value in values.items())
    return f"DELETE FROM {table} WHERE {where}"


def pointer_record(table: str, column: str, new: str, old: str | None, **others: str) -> VersionRecord:
    """Of a table whose one row names the version that the database has. A row of another version stays as it is.

    Args:
        new, old: as SQL; None for a database without a version.
        others: further columns of a new row, as SQL.
    """
    name = quote_identifier(column)
    if old is None:
        insert = insert_sql(table, {}, **{column: new}, **others)
        return VersionRecord((insert,), (f"DELETE FROM {table} WHERE {name} = {new}",))

    def move(before: str, after: str) -> tuple[str]:
        return (f"UPDATE {table} SET {name} = {after} WHERE {name} = {before}",)

    return VersionRecord(move(old, new), move(new, old))


def literal(value: str | int | bool | None) -> str:
    """A value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else quote_literal(value).strip()


def rows_record(table: str, rows: Iterable[tuple[str, str]], prepare: tuple[str, ...] = ()) -> VersionRecord:
    """
    Args:
        rows: for each migration the INSERT and the DELETE of its row.
    """
    rows = list(rows)
    return VersionRecord(tuple(insert for insert, _ in rows), tuple(delete for _, delete in reversed(rows)), prepare)
