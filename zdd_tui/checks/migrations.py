"""Whether running code survives the SQL that ships with a release whose strategy leaves the schema alone.

zdd does not run that SQL; a statement that breaks running code must not ship with such a release at all.
"""

import shlex
from contextlib import suppress
from pathlib import Path

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.postgres.table_stats import read_database_stats
from zdd_tui.model.advice.locks import evaluate_statements, select_breaking
from zdd_tui.model.advice.migration import DatabaseStats, Statement, all_actions, mark_new_tables, read_migration
from zdd_tui.model.advice.rules import refuse_destructive
from zdd_tui.model.doctor.facts import Fact, MigrationFacts
from zdd_tui.model.errors import DatabaseError, PlanError
from zdd_tui.model.plan.file import LoadedPlan, find_placeholders
from zdd_tui.model.plan.strategies import SingleImagePlan


async def check_migrations(loaded: LoadedPlan, *, offline: bool) -> list[str]:
    """Checks every migration file of the plan.

    Args:
        offline: without the database, which could prove that a NOT NULL is checked already, or that a type only widens.

    Returns:
        one line; none where the plan names no SQL.

    Raises:
        PlanError: a file that is missing or does not parse, or a destructive statement: its file and line, and the
            command that writes an expand/contract plan as the hint.
        DatabaseError: the tables cannot be read.
    """
    statements = read_migrations(loaded)
    if not statements:
        return []
    live = None if offline else await _read_stats(loaded, statements)
    try:
        refuse_destructive(statements, loaded.plan.strategy, live)
    except PlanError as error:
        raise PlanError(error.title, f"{error.hint}\n  to write the plan: {advise_command_line(loaded)}") from None
    return [f"the SQL that ships with the release is additive: {_count_statements(statements)}"]


async def read_migration_facts(loaded: LoadedPlan) -> Fact[MigrationFacts]:
    """All breaking statements, for the doctor; it reports what is wrong instead of stopping at the first."""
    try:
        statements = read_migrations(loaded)
    except PlanError as error:
        return Fact(None, error.title.replace("\n", " "), error.hint)
    live = None
    with suppress(DatabaseError):  # the doctor reports that elsewhere; the text alone still shows something
        live = await _read_stats(loaded, statements) if statements else None
    found = tuple(
        (f"{ruling.statement.location}: {ruling.statement.one_line[:60]}", ruling.rule.breaking_reason)
        for ruling in select_breaking(evaluate_statements(statements, live))
    )
    return Fact(MigrationFacts(len(statements), found, advise_command_line(loaded)))


def read_migrations(loaded: LoadedPlan) -> tuple[Statement, ...]:
    """Every statement, with its file and line as the operator would open it.

    Raises:
        PlanError: a file cannot be read, or is not SQL.
    """
    statements: list[Statement] = []
    for number, file in enumerate(_migration_files(loaded)):
        try:
            text = read_text(str(file), max_bytes=MAX_SQL_BYTES)
        except PlanError as error:
            line = loaded.lines.get(f"migrations[{number}]", loaded.lines.get("migrations", 1))
            raise PlanError(
                f"{loaded.source}:{line}: migrations: {error.title}", "paths are relative to the plan file"
            ) from None
        statements += read_migration(text, str(file))
    return mark_new_tables(tuple(statements))


def advise_command_line(loaded: LoadedPlan) -> str:
    """The command that writes the expand/contract plan of these migrations."""
    names = sorted(find_placeholders(loaded.document.get("database")))
    dsn = ["--dsn", f"${{{names[0]}}}"] if len(names) == 1 else []
    files = [str(file) for file in _migration_files(loaded)]
    target = ["--deployment", loaded.plan.kubernetes.deployment, "--plan", f"{loaded.plan.name}-expand.yaml"]
    return shlex.join(["zdd", "advise", "--sql", *files, *dsn, *target])


def _migration_files(loaded: LoadedPlan) -> list[Path]:
    plan = loaded.plan
    return [Path(loaded.source).parent / name for name in plan.migrations] if isinstance(plan, SingleImagePlan) else []


async def _read_stats(loaded: LoadedPlan, statements: tuple[Statement, ...]) -> DatabaseStats | None:
    tables = [
        action.table for action in all_actions(statements) if action.table is not None and not action.on_new_table
    ]
    database = loaded.plan.database
    return await read_database_stats(database.dsn.get_secret_value(), tables, timeout=database.connect_timeout)


def _count_statements(statements: tuple[Statement, ...]) -> str:
    return f"{len(statements)} statement{'' if len(statements) == 1 else 's'}"
