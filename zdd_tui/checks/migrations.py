"""Whether running code survives the SQL that ships with a release whose strategy leaves the schema alone.

zdd does not run that SQL; a statement that breaks running code must not ship with such a release at all.
"""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.checks.locks import EvaluatedMigration, LockMeasurement, evaluate_migration, lock_lines
from zdd_tui.model.advice.locks import select_breaking
from zdd_tui.model.advice.migration import Statement
from zdd_tui.model.advice.rules import refuse_destructive
from zdd_tui.model.doctor.facts import Fact, MigrationFacts
from zdd_tui.model.errors import DatabaseError, PlanError
from zdd_tui.model.plan.file import LoadedPlan, find_placeholders
from zdd_tui.model.plan.strategies import SingleImagePlan


async def check_migrations(
    loaded: LoadedPlan, *, offline: bool, measurement: LockMeasurement | None = None
) -> list[str]:
    """Checks every migration file of the plan.

    Args:
        offline: without the database, which could prove that a NOT NULL is checked already, or that a type only widens.
        measurement: executes the statements on a copy of the schema; None for by rule.

    Returns:
        what the statements are and the locks that they take, a line each; none where the plan names no SQL.

    Raises:
        PlanError: a file that is missing or does not parse, or a destructive statement: its file and line, and the
            command that writes an expand/contract plan as the hint.
        DatabaseError: the tables cannot be read.
    """
    sources = read_migration_texts(loaded)
    if not sources:
        return []
    evaluated = await _evaluate(loaded, sources, "" if offline else _dsn(loaded), measurement)
    try:
        refuse_destructive(evaluated.statements, loaded.plan.strategy, evaluated.stats, evaluated.measured)
    except PlanError as error:
        raise PlanError(error.title, f"{error.hint}\n  to write the plan: {advise_command_line(loaded)}") from None
    lines = [f"the SQL that ships with the release is additive: {_count_statements(evaluated.statements)}"]
    return lines if offline else [*lines, *lock_lines(evaluated)]


async def read_migration_facts(loaded: LoadedPlan, measurement: LockMeasurement | None = None) -> Fact[MigrationFacts]:
    """All breaking statements, for the doctor; it reports what is wrong instead of stopping at the first."""
    try:
        sources = read_migration_texts(loaded)
        evaluated = await _evaluate(loaded, sources, "")
    except PlanError as error:
        return Fact(None, error.title.replace("\n", " "), error.hint)
    with suppress(DatabaseError):  # the doctor reports that elsewhere; the text alone still shows something
        evaluated = await _evaluate(loaded, sources, _dsn(loaded), measurement)
    found = tuple(
        (f"{verdict.statement.location}: {verdict.statement.one_line[:60]}", verdict.rule.breaking_reason)
        for verdict in select_breaking(evaluated.verdicts)
    )
    return Fact(MigrationFacts(len(evaluated.statements), found, advise_command_line(loaded)))


def read_migration_texts(loaded: LoadedPlan) -> list[tuple[str, str]]:
    """The text and the path of every file of the plan, as the operator would open it.

    Raises:
        PlanError: a file cannot be read.
    """
    sources = []
    for number, file in enumerate(_migration_files(loaded)):
        try:
            sources.append((read_text(str(file), max_bytes=MAX_SQL_BYTES), str(file)))
        except PlanError as error:
            line = loaded.lines.get(f"migrations[{number}]", loaded.lines.get("migrations", 1))
            raise PlanError(
                f"{loaded.source}:{line}: migrations: {error.title}", "paths are relative to the plan file"
            ) from None
    return sources


def advise_command_line(loaded: LoadedPlan) -> str:
    """The command that writes the expand/contract plan of these migrations."""
    names = sorted(find_placeholders(loaded.document.get("database")))
    dsn = ["--dsn", f"${{{names[0]}}}"] if len(names) == 1 else []
    files = [str(file) for file in _migration_files(loaded)]
    deployment = next(iter(loaded.plan.workloads), "")
    target = ["--deployment", deployment, "--plan", f"{loaded.plan.name}-expand.yaml"]
    return shlex.join(["zdd", "advise", "--sql", *files, *dsn, *target])


def _migration_files(loaded: LoadedPlan) -> list[Path]:
    plan = loaded.plan
    return [Path(loaded.source).parent / name for name in plan.migrations] if isinstance(plan, SingleImagePlan) else []


async def _evaluate(
    loaded: LoadedPlan, sources: Sequence[tuple[str, str]], dsn: str, measurement: LockMeasurement | None = None
) -> EvaluatedMigration:
    return await evaluate_migration(sources, dsn, measurement, timeout=loaded.plan.database.connect_timeout)


def _dsn(loaded: LoadedPlan) -> str:
    return loaded.plan.database.dsn.get_secret_value()


def _count_statements(statements: tuple[Statement, ...]) -> str:
    return f"{len(statements)} statement{'' if len(statements) == 1 else 's'}"
