"""Copies definitions, and rows on request, from one server to another with PostgreSQL's own tools."""

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from zdd_tui.backends.postgres.connection import Connection, connect, describe_dsn, translate_errors
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.sql import quote_qualified
from zdd_tui.rehearsal.dependencies import Dependencies, Relation

LOCK_WAIT_TIMEOUT_MS = 3000
"""A dump takes ACCESS SHARE on what it reads; behind another session's DDL it fails rather than join the queue."""

DUMP_TIMEOUT = 120.0
COPY_TIMEOUT = 3600.0

_TOC_ENTRY = re.compile(r"^\d+; (\d+) (\d+) (.*)$")
_TOC_TYPES_BY_NAME = ("SEQUENCE OWNED BY ", "TABLE ATTACH ", "INDEX ATTACH ")
"""Entries of a table of contents that have no object of their own; they go with the relation that they name."""


async def copy_schema(source: str, target: str, dependencies: Dependencies, programs: Path, folder: Path) -> None:
    """Makes the closure's objects in the target database. Reads from the source, and takes no lock but ACCESS SHARE.

    Args:
        programs: the folder of pg_dump and pg_restore.
        folder: for the files in between.

    Raises:
        DatabaseError: the source cannot be dumped, or the target lacks what the objects need.
    """
    choice = folder / "tables.filter"
    choice.write_text(
        "".join(
            f"exclude table {quote_qualified(r.schema, r.name)}\n"
            for r in dependencies.excluded
            if r.kind not in ("i", "I")
        )
        + 'exclude schema "zdd"\n'
    )
    dump = _Dump(programs, folder / "schema.dump")
    listed = await dump.make(source, "--no-privileges", "--no-publications", f"--filter={choice}")
    await dump.restore(target, select_toc_entries(listed, dependencies), "--exit-on-error", "--no-privileges")


_LEFT_OUT = ("USER MAPPING", "EVENT TRIGGER", "SUBSCRIPTION", "DATABASE", "EXTENSION - dblink", "EXTENSION - file_fdw")
"""Entries of a whole schema that could reach outside of the database, or would act on every statement."""


async def copy_whole_schema(source: str, target: str, programs: Path, folder: Path) -> bool:
    """Makes all objects of the source database in the target, without rows. What the target cannot hold, such as the
    objects of an extension that it does not have, is left out.

    Returns:
        whether nothing was left out that SQL can use.

    Raises:
        DatabaseError: the source cannot be dumped.
    """
    dump = _Dump(programs, folder / "whole.dump")
    listed = await dump.make(source, "--exclude-schema=zdd")
    skipped = (*_LEFT_OUT, "SCHEMA - public ")  # every database has that schema
    entries = [line for line in listed if (match := _TOC_ENTRY.match(line)) and not match[3].startswith(skipped)]
    has_extensions = any("EXTENSION - " in line for line in listed if line not in entries)
    return await dump.restore(target, entries, accepted=(0, 1)) and not has_extensions


async def dump_definitions(dsn: str, programs: Path) -> list[str]:
    """The definitions of a database as pg_dump writes them, without the agent's own schema.

    Raises:
        DatabaseError: it cannot be dumped.
    """
    plain, secret = split_password(dsn)
    program = [str(programs / "pg_dump"), "--schema-only", "--exclude-schema=zdd", "--exclude-schema=zdd_archive"]
    text = await _run([*program, f"--dbname={plain}"], secret, f"{describe_dsn(dsn)} cannot be dumped")
    return [line for line in text.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]


@dataclass(frozen=True, slots=True)
class _Dump:
    """An archive of definitions.

    Attributes:
        programs: the folder of pg_dump and pg_restore.
        archive: its file; the list of what is restored is written beside it.
    """

    programs: Path
    archive: Path

    async def make(self, source: str, *options: str) -> list[str]:
        """Dumps a database; returns the lines of the table of contents.

        Raises:
            DatabaseError: the source cannot be dumped.
        """
        plain, secret = split_password(source)
        program = [str(self.programs / "pg_dump"), "--format=custom", "--schema-only", "--no-owner", "--no-comments"]
        program += ["--no-subscriptions", "--no-security-labels", "--no-tablespaces", *options]
        program += [f"--lock-wait-timeout={LOCK_WAIT_TIMEOUT_MS}", f"--file={self.archive}", f"--dbname={plain}"]
        await _run(program, secret, f"{describe_dsn(source)} cannot be dumped")
        contents = [str(self.programs / "pg_restore"), "--list", str(self.archive)]
        return (await _run(contents, {}, "the dump cannot be read")).splitlines()

    async def restore(
        self, target: str, entries: Iterable[str], *options: str, accepted: tuple[int, ...] = (0,)
    ) -> bool:
        """Makes the objects of some entries of the table of contents; returns whether it made all of them.

        Args:
            accepted: exit codes; 1 leaves out what the target cannot hold.

        Raises:
            DatabaseError: the target lacks what the objects need.
        """
        chosen = self.archive.with_suffix(".list")
        chosen.write_text("\n".join(entries) + "\n")
        plain, secret = split_password(target)
        program = [str(self.programs / "pg_restore"), "--no-owner", *options]
        program += [f"--use-list={chosen}", f"--dbname={plain}", str(self.archive)]
        _, code = await _execute(program, secret, "the server of the copy cannot take the schema", accepted)
        return code == 0


def select_toc_entries(lines: Iterable[str], dependencies: Dependencies) -> list[str]:
    """The lines of a table of contents that belong to the closure, in their order."""
    prefixes = tuple(f"{kind}{r.schema} {r.name} " for kind in _TOC_TYPES_BY_NAME for r in dependencies.included)
    found = []
    for line in lines:
        if (match := _TOC_ENTRY.match(line)) is None:
            continue
        pair, what = (int(match[1]), int(match[2])), match[3]
        if what.startswith("SCHEMA - public "):
            continue  # every database has it
        if pair in dependencies.objects or (pair == (0, 0) and what.startswith(prefixes)):
            found.append(line)
    return found


async def copy_rows(source: str, target: Connection, relation: Relation, share: float, folder: Path) -> int:
    """Copies rows of one table, production's own, with every value; returns how many.

    Args:
        share: of the rows, from 0 to 1; the same ones every time.
    """
    table = quote_qualified(relation.schema, relation.name)
    file = folder / "rows.copy"
    reading = await connect(
        source, application_name="zdd rehearse", default_transaction_read_only="on", row_security="off"
    )
    try:
        with translate_errors(source):
            columns = [row["attname"] for row in await reading.fetch(_COPIED_COLUMNS, relation.oid)]
            names = ", ".join(quote_qualified(name) for name in columns)
            sample = "" if share >= 1 else f" TABLESAMPLE BERNOULLI ({100 * share:.6f}) REPEATABLE (1)"
            file.touch(mode=0o600)
            await reading.copy_from_query(
                f"SELECT {names} FROM {table}{sample}",  # noqa: S608 - names are quoted, the share is a number
                output=file, timeout=COPY_TIMEOUT,
            )  # fmt: skip
        copied = await target.copy_to_table(
            relation.name, schema_name=relation.schema, columns=columns, source=file, timeout=COPY_TIMEOUT
        )
        return int(str(copied).rpartition(" ")[2])
    finally:
        reading.terminate()
        file.unlink(missing_ok=True)


_COPIED_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped
  AND attgenerated = '' ORDER BY attnum
"""


async def check_versions(conn: Connection, dsn: str, programs: Path) -> tuple[int, int]:
    """Major versions of the source and of pg_dump.

    Raises:
        DatabaseError: the source is newer than what could dump it.
    """
    text = await _run([str(programs / "pg_dump"), "--version"], {}, "pg_dump does not run")
    ours = int(re.findall(r"(\d+)", text)[0])
    theirs = int(await conn.fetchval("SELECT current_setting('server_version_num')::int / 10000"))
    if theirs > ours:
        raise DatabaseError(
            f"{describe_dsn(dsn)} is PostgreSQL {theirs}, and pg_dump is of {ours}: it cannot copy a newer schema",
            'pip install --upgrade "zdd-tui[demo]"',
        )
    return theirs, ours


def split_password(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN without its password, and the environment that has it: command lines can be read by everybody."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    secret = dict(query).get("password", unquote(password))
    kept = urlencode([pair for pair in query if pair[0] != "password"])
    plain = urlunsplit(parts._replace(netloc=f"{user}{at}{hosts}", query=kept))
    return plain, {"PGPASSWORD": secret} if secret else {}


async def _run(argv: list[str], secret: Mapping[str, str], title: str) -> str:
    out, _ = await _execute(argv, secret, title, (0,))
    return out


async def _execute(
    argv: list[str], secret: Mapping[str, str], title: str, accepted: tuple[int, ...]
) -> tuple[str, int]:
    """Output and exit code of a program."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **secret, "LC_MESSAGES": "C"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), DUMP_TIMEOUT)
    except TimeoutError:
        raise DatabaseError(f"{title}: no end within {DUMP_TIMEOUT:.0f} s", "try again at a quieter hour") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in accepted:
        raise _translate_error(title, err.decode(errors="replace"), secret)
    return out.decode(), process.returncode


def _translate_error(title: str, output: str, secret: Mapping[str, str]) -> ZddError:
    lines = [line for line in output.splitlines() if "error:" in line or "ERROR:" in line] or output.splitlines()[-1:]
    text = re.sub(r"^pg_(dump|restore): (error: )?", "", lines[0] if lines else "no error message")
    for value in secret.values():
        text = text.replace(value, "***")
    missing = re.search(r'extension "([^"]+)" is not available', text)
    if "permission denied" in text:
        return DatabaseError(f"{title}: {text}", "grant the role of database.dsn SELECT on it, then repeat the command")
    hint = (
        f"that server has no extension {missing[1]}; without a rehearsal: zdd advance PLAN --unrehearsed --reason TEXT"
        if missing
        else "fix the cause, then repeat the command"
    )
    return DatabaseError(f"{title}: {text}", hint)
