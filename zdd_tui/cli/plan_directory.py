"""`zdd plan --from DIR`: what the database has not applied of a directory of migrations."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.migrations.directory import list_directory, read_directory
from zdd_tui.backends.migrations.tool_command import run_tool_command, split_command
from zdd_tui.backends.migrations.version_table import has_version_table, read_version_table
from zdd_tui.backends.postgres.connection import describe_dsn
from zdd_tui.cli.measurement import resolve_dsn
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.masking import replace_unprintable
from zdd_tui.model.migrations.base import DirectoryFile, MigrationSource, MigrationTool, ToolRunner, list_first
from zdd_tui.model.migrations.flyway import CONFIG_NAMES
from zdd_tui.model.migrations.operations import PlanOperation, plan_pending
from zdd_tui.model.migrations.registry import TOOLS, describe_searched, find_tool
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.file import find_placeholders


@dataclass(frozen=True, slots=True)
class PlannedMigration:
    """What becomes a plan.

    Attributes:
        operations: of the plan.
        stem: for the name of the release.
        origin: lines that say where the operations come from, and what an operator should know.
    """

    operations: Sequence[PlanOperation]
    stem: str
    origin: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Location:
    """A tool's files: `folder` as the operator would open it."""

    tool: MigrationTool
    folder: str
    files: tuple[DirectoryFile, ...]


def plan_directory(arguments: argparse.Namespace, *, has_rollout: bool) -> PlannedMigration:
    """
    Args:
        has_rollout: the plan rolls out an image.

    Raises:
        PlanError: the directory, its files or the version table cannot be read, or no tool is recognized.
        Refused: nothing is pending, the tool itself would stop here, or a statement cannot be executed online.
        DatabaseError: the database cannot be read.
        ZddError: the tool's own command failed.
    """
    dsn = resolve_dsn(arguments.dsn or "${DATABASE_URL}", "--dsn")
    location = _choose(_locate(arguments), dsn, arguments.version_table)
    tool, files = location.tool, location.files
    table_name = arguments.version_table or tool.table_name(files)
    table = asyncio.run(read_version_table(dsn, tool, table_name))
    source = MigrationSource(
        location.folder,
        files,
        table,
        outputs={file: read_text(file, max_bytes=MAX_SQL_BYTES) for file in arguments.files},
        run=_tool_runner(arguments.tool_command, location.folder),
        allow_out_of_order=arguments.out_of_order,
        baseline=arguments.baseline,
    )
    found = tool.find_pending(source)
    place = f"{location.folder}, by {table.sql} of {describe_dsn(dsn)}"
    if not found.pending:
        raise Refused(f"{tool.name}: nothing is pending in {place}", "add a migration to the directory first")
    operations = plan_pending(found, record_in=Phase(arguments.record_in), has_rollout=has_rollout)
    if unfilled := sorted(find_placeholders(list(operations))):
        raise PlanError(
            f"the SQL holds ${{{unfilled[0]}}}, which a plan fills from the environment of zdd",
            "write the value itself, or the text in two parts: '$' || '{…}'",
        )
    names = [migration.name for migration in found.pending]
    notes = [*found.notes, *([tool.start_note] if tool.start_note and has_rollout else [])]
    origin = (
        f"{tool.name}: {len(names)} pending in {place}: {list_first(names)}",
        *(f"note: {note}" for note in notes),
    )
    # Comments of the plan: a name from the database must not end one.
    return PlannedMigration(operations, PurePath(names[-1]).stem, tuple(map(replace_unprintable, origin)))


def _locate(arguments: argparse.Namespace) -> list[_Location]:
    """The tools that the directory may belong to, the likeliest first.

    Raises:
        PlanError: there is none.
    """
    folder = arguments.directory
    paths = list_directory(folder)
    tools = [find_tool(arguments.tool)] if arguments.tool else TOOLS
    found = [location for tool in tools if (location := _locate_tool(tool, folder, paths)) is not None]
    if found:
        return found
    if arguments.tool:
        raise PlanError(
            f"{folder} has no migrations of {arguments.tool}: it looks for {tools[0].looks_for}",
            "name the directory with the migrations",
        )
    raise PlanError(
        f"no migration tool is recognized in {folder}; looked for {describe_searched()}",
        "name the directory with the migrations, and the tool with --tool",
    )


def _locate_tool(tool: MigrationTool, folder: str, paths: tuple[str, ...]) -> _Location | None:
    """The tool's files: in the directory itself, in the tool's usual folder below it, or anywhere below it."""
    top = tuple(path for path in paths if "/" not in path)
    if tool.recognizes(read_directory(folder, top, tool.reads)):
        return _Location(tool, folder, read_directory(folder, paths, tool.reads))
    for name in tool.folders:
        below = tuple(path.removeprefix(f"{name}/") for path in paths if path.startswith(f"{name}/"))
        files = read_directory(os.path.join(folder, name), below, tool.reads)
        if tool.recognizes(files):
            config = tuple(path for path in paths if path in CONFIG_NAMES or path.removeprefix("conf/") in CONFIG_NAMES)
            outer = read_directory(folder, config, tool.reads)
            files += tuple(DirectoryFile(f"../{file.path}", file.content) for file in outer)
            return _Location(tool, os.path.join(folder, name), files)
    files = read_directory(folder, paths, tool.reads)
    return _Location(tool, folder, files) if tool.recognizes(files) else None


def _choose(locations: list[_Location], dsn: str, table: str) -> _Location:
    """The first whose content is the tool's; where only names speak for several, the one whose table exists."""
    if locations[0].tool.certainty == "content" or len(locations) == 1:
        return locations[0]
    named = [each for each in locations if each.tool.certainty != "content"]
    for each in named:
        if each.tool.missing_table and asyncio.run(
            has_version_table(dsn, each.tool, table or each.tool.table_name(each.files))
        ):
            return each
    return next(each for each in named if each.tool.certainty == "names")


def _tool_runner(command: str, folder: str) -> ToolRunner | None:
    if not command:
        return None
    words = split_command(command)
    run = partial(run_tool_command, folder=folder)
    return lambda arguments: asyncio.run(run((*words, *arguments)))
