"""`zdd` without a verb: the fleet on screen. `zdd list`: the same rows as text or JSON."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len

from zdd_tui.backends.files import read_text
from zdd_tui.cli.options import default_config_path
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import BackendError, PlanError
from zdd_tui.model.fleet.config import (
    EXAMPLE_CONFIG,
    FleetConfigError,
    FleetDatabase,
    FleetSettings,
    database_from_dsn,
    join_databases,
    parse_fleet_config,
)
from zdd_tui.model.fleet.rows import (
    Fleet,
    FleetRow,
    add_missing_regions,
    build_error_row,
    mark_recent_rollbacks,
    order_rows,
    row_to_dict,
    summarize_fleet,
)

MAX_CONCURRENT_READS = 64
"""Databases that `zdd list` reads at the same time."""


def load_fleet_settings(
    config: str | None, dsns: Sequence[str], load_plan_databases: Callable[[], Sequence[FleetDatabase]]
) -> FleetSettings:
    """The databases of the command line, of a plan, and of the configuration file.

    Args:
        config: the file; None for the default one, if it exists.
        load_plan_databases: those of the plan in use; a plan that cannot be used matters only where no other database
            is known.

    Raises:
        FleetConfigError: the file cannot be used, or there is no database.
        PlanError: the plan cannot be used, and there is no other database.
    """
    given = [database_from_dsn(dsn, os.environ) for dsn in dsns]
    path = Path(config) if config is not None else default_config_path()
    settings = FleetSettings()
    if config is not None or path.exists():
        text = read_text(path, missing_hint=f"write it, such as:\n{EXAMPLE_CONFIG}", error_type=FleetConfigError)
        settings = parse_fleet_config(text, source=str(path), environment=os.environ)
    known = join_databases(given, settings.databases)
    try:
        # A plan's own database may be one of those: then it has the configured name.
        databases = join_databases(known, load_plan_databases())
    except PlanError:
        if not known:
            raise
        databases = known
    if not databases:
        raise FleetConfigError(f"no database is known: {_absence(path)}", _first_steps(path))
    return replace(settings, databases=databases)


def _absence(path: Path) -> str:
    return f"{path} names none" if path.exists() else f"there is no file {path}"


def _first_steps(path: Path) -> str:
    example = "\n".join(f"    {line}".rstrip() for line in EXAMPLE_CONFIG.splitlines())
    return (
        f"write {path}, such as\n\n{example}\n\n  or name a database: zdd --dsn '${{DATABASE_URL}}'\n"
        "  or try zdd on a live demo: zdd demo"
    )


async def read_fleet(databases: Sequence[FleetDatabase]) -> Fleet:
    """Reads every database once; one that does not answer is a row."""
    from zdd_tui.backends.store.fleet import FleetReader  # noqa: PLC0415  # imports the driver

    slots = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def read(database: FleetDatabase) -> tuple[FleetRow, ...]:
        reader = FleetReader(database)
        try:
            async with slots:
                return await reader.read()
        except BackendError as error:
            place = database.name, database.group, database.environment
            return (build_error_row(*place, error.title, error.hint),)
        finally:
            reader.close()

    read_rows = await asyncio.gather(*(read(database) for database in databases))
    unanswered = sum(rows[0].release_id is None and rows[0].label == "NO ANSWER" for rows in read_rows)
    wall = time.time()
    found = add_missing_regions([row for rows in read_rows for row in rows], wall, is_complete=not unanswered)
    return Fleet(order_rows(mark_recent_rollbacks(found, wall)), len(databases), unanswered)


def list_releases(settings: FleetSettings, *, as_json: bool, history: bool, out: TextIO) -> int:
    """`zdd list`; returns 0, also where a database does not answer: that is a row.

    Args:
        history: ended releases too.
    """
    fleet, wall = asyncio.run(read_fleet(settings.databases)), time.time()
    rows = [*fleet.active, *(row for row in fleet.ended if row not in fleet.active)] if history else fleet.active
    if as_json:
        out.write(json.dumps([row_to_dict(row, wall) for row in rows], indent=2) + "\n")
        return 0
    total, needs = summarize_fleet(fleet)
    out.write(f"{', '.join([total, *needs])}\n")
    for line in format_fleet_rows(rows, wall):
        out.write(f"{line}\n")
    return 0


def format_fleet_rows(rows: Sequence[FleetRow], wall: float) -> list[str]:
    """A table; of a database without a release the text takes the place of the columns."""
    head = ("STATE", "RELEASE", "REGION", "ENVIRONMENT", "PHASE", "PROGRESS", "WAITS FOR", "SINCE", "GUARD", "AGENT",
            "AGE", "DATABASE")  # fmt: skip
    table = [_row_cells(row, wall) for row in rows]
    full = [cells for cells in table if len(cells) > 3]
    used = [at for at in range(len(head)) if at < 2 or any(cells[at] for cells in full)]
    widths = {at: max(cell_len(cells[at]) for cells in [head, *full]) for at in used}
    for cells in table:
        for at in (0, 1):
            widths[at] = max(widths[at], cell_len(cells[at]))
    lines = []
    for cells in [head, *table] if rows else []:
        shown = used if len(cells) > 3 else range(3)
        lines.append("  ".join(_pad(cells[at], widths[at] if len(cells) > 3 or at < 2 else 0) for at in shown).rstrip())
    return lines


def _pad(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _row_cells(row: FleetRow, wall: float) -> tuple[str, ...]:
    state = f"{row.glyph} {row.label}"
    if row.error:
        return state, row.name, f"{row.error}. Fix: {row.hint}" if row.hint else row.error
    since, age = (row.seconds_since(at, wall) for at in (row.listed_since, row.created_at))
    return (
        state,
        row.name,
        row.region,
        row.environment,
        row.phase,
        row.progress,
        row.waits_for or row.cause,
        "" if since is None else format_duration(since),
        "" if row.guard is None else str(row.guard),
        row.agent if row.has_agent else "none",
        "" if age is None else format_duration(age),
        row.database,
    )
