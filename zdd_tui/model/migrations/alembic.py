"""Alembic: Python code, which ``alembic upgrade --sql`` writes as SQL; the revision is kept in ``alembic_version``."""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from zdd_tui.model.errors import PlanError, Refused, ZddError
from zdd_tui.model.migrations.base import (
    DirectoryFile,
    MigrationSet,
    MigrationSource,
    MigrationTool,
    PendingMigration,
    literal,
    pointer_record,
)
from zdd_tui.model.sql import parse_sql, tokens

_HEADER = re.compile(r"-- Running (?P<way>upgrade|downgrade) (?P<before>.*?) ?-> (?P<after>[^,]*?)?(, .*)?")
_REVISION = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class _Move:
    """One revision's part of the output. An empty revision is the base."""

    way: str
    before: str
    after: str
    sql: str


class Alembic(MigrationTool):
    """The rules of Alembic, in its offline mode."""

    name = "alembic"
    looks_for = "alembic.ini, or env.py beside versions/"
    folders = ("alembic", "migrations")
    reads = ()
    columns = frozenset({"version_num"})
    missing_table = "let Alembic record what the database has: alembic stamp REVISION"
    certainty = "content"
    start_note = (
        "an older version of the application that runs Alembic at its start does not start any more once the new"
        " revision is recorded, also during a rollback"
    )

    def recognizes(self, files: Collection[DirectoryFile]) -> bool:
        paths = {file.path for file in files}
        return "alembic.ini" in paths or ("env.py" in paths and any(path.startswith("versions/") for path in paths))

    def table_name(self, files: Collection[DirectoryFile]) -> str:
        return "alembic_version"

    def find_pending(self, source: MigrationSource) -> MigrationSet:
        revisions = [str(row["version_num"]) for row in source.table.rows]
        if len(revisions) > 1:
            raise Refused(
                f"the database has several revisions: {', '.join(sorted(revisions))}",
                "zdd plans one line of revisions; merge the branches: alembic merge heads",
            )
        current = revisions[0] if revisions else ""
        table = source.table.sql.rpartition(".")[2].strip('"')
        ups = _parse_output(_read_upgrade(source, current), "upgrade", table)
        _require_line(ups, current)
        head = ups[-1].after if ups else current
        downs = {
            move.before: move.sql for move in _parse_output(_read_downgrade(source, head, current), "downgrade", table)
        }
        return MigrationSet(
            tuple(
                PendingMigration(
                    move.after, f"alembic revision {move.after}", move.sql, downs.get(move.after), "write downgrade()"
                )
                for move in ups
            ),
            pointer_record(source.table.sql, "version_num", literal(head), literal(current) if current else None),
        )


def _read_upgrade(source: MigrationSource, current: str) -> str:
    """
    Raises:
        Refused: zdd may not run Alembic, and there is no output of it; names the command.
    """
    base = current or "base"
    arguments = ("upgrade", f"{base}:head", "--sql")
    for text in source.outputs.values():
        if "-- Running upgrade " in text or "-- Running downgrade " not in text:
            return text
    if source.run is not None:
        return source.run(arguments)
    raise Refused(
        "Alembic's migrations are Python code, which zdd does not read",
        f"let Alembic write the SQL: add --tool-command alembic; or run\n"
        f"    {shlex.join(('alembic', *arguments))} > up.sql\n"
        f"    {shlex.join(('alembic', 'downgrade', f'head:{base}', '--sql'))} > down.sql\n"
        f"  and give both files: zdd plan up.sql down.sql --from {shlex.quote(source.folder)} …",
    )


def _read_downgrade(source: MigrationSource, head: str, current: str) -> str:
    """Empty where Alembic cannot write it, such as for a downgrade() that raises."""
    for text in source.outputs.values():
        if "-- Running downgrade " in text and "-- Running upgrade " not in text:
            return text
    if source.run is None or head == current:
        return ""
    try:
        return source.run(("downgrade", f"{head}:{current or 'base'}", "--sql"))
    except ZddError:
        return ""  # the statements that need an undo are refused later, one by one


def _parse_output(text: str, way: str, table: str) -> list[_Move]:
    moves: list[tuple[re.Match[str], list[str]]] = []
    for line in text.splitlines():
        if match := _HEADER.fullmatch(line.rstrip()):
            moves.append((match, []))
        elif moves:
            moves[-1][1].append(line)
    return [
        _Move(way, match["before"], match["after"] or "", _without_version_table("\n".join(lines), table))
        for match, lines in moves
        if match["way"] == way
    ]


def _without_version_table(text: str, table: str) -> str:
    """The same SQL without the statements on Alembic's own table: zdd writes its row when all of them have run."""
    raw = text.encode()
    starts = [token.start for token in tokens(text) if token.kind not in ("comment", "semicolon")]
    kept = bytearray(raw)
    for statement in parse_sql(text).stmts:
        node = statement.stmt
        kind = node.WhichOneof("node")
        relation = getattr(getattr(node, kind), "relation", None)
        if (
            relation is not None
            and kind in ("insert_stmt", "update_stmt", "delete_stmt", "create_stmt")
            and relation.relname == table
        ):
            begin = min(start for start in starts if start >= statement.stmt_location)
            end = statement.stmt_location + statement.stmt_len if statement.stmt_len else len(raw)
            kept[begin:end] = re.sub(rb"[^\n]", b" ", raw[begin:end])
    return kept.decode()


def _require_line(moves: list[_Move], current: str) -> None:
    """
    Raises:
        PlanError: the revisions are no line that begins at the database's revision.
    """
    for move in moves:
        if move.before != current or not _REVISION.fullmatch(move.after):
            raise PlanError(
                f"Alembic's output goes from revision {move.before or 'base'} to {move.after or 'base'}, where zdd"
                f" expects one that follows {current or 'base'}",
                "write the output again for the revision that the database has; branches have to be merged first",
            )
        current = move.after
