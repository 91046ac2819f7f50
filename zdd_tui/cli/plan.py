"""`zdd plan`: from a team's migration files to the plan that zdd executes, statement by statement."""

import argparse
import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.checks.plan import check_plan
from zdd_tui.cli.advise import require_new_file, write_plan
from zdd_tui.cli.measurement import DSN_VARIABLE
from zdd_tui.cli.plan_directory import PlannedMigration, plan_directory
from zdd_tui.model.advice.draft import format_yaml
from zdd_tui.model.advice.migration import Statement, read_migration
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.operations import PlanOperation
from zdd_tui.model.operations.base import Operation, OperationOptions
from zdd_tui.model.operations.partition_scripts import derive_partition
from zdd_tui.model.operations.partitioning import read_partition
from zdd_tui.model.operations.registry import plan_operations, read_operations
from zdd_tui.model.plan.file import find_placeholders, load_plan
from zdd_tui.model.plan.operations import BaseOperationsPlan, PartitionSection
from zdd_tui.model.production_lock import is_production


def run_plan(arguments: argparse.Namespace, out: TextIO) -> int:
    """Writes the plan of a migration, and says what runs in which phase.

    Raises:
        Refused: the migration changes nothing, or holds what cannot be executed online; names it. Nothing is written.
        PlanError: an option is wrong, a file cannot be read or is no SQL, or the plan cannot be written.
    """
    if arguments.output:
        require_new_file(arguments.output, force=arguments.force)
    has_rollout = arguments.deployment is not None
    if has_rollout is not (arguments.image is not None):
        raise PlanError(
            "--deployment and --image belong together", "give both, or neither for a plan that rolls out nothing"
        )
    if arguments.directory:
        found = plan_directory(arguments, has_rollout=has_rollout)
    else:
        found = _plan_files(arguments, has_rollout=has_rollout)
    document = _build_document(arguments, found)
    text = format_yaml(document, "\n# ".join(found.origin))
    placeholders = {name: f"placeholder://{name.lower()}" for name in find_placeholders(yaml.safe_load(text))}
    loaded = load_plan(text, source=arguments.output or "plan.yaml", environment=placeholders | os.environ)
    assert isinstance(loaded.plan, BaseOperationsPlan)
    try:
        operations = plan_operations(loaded.plan)
    except PlanError as error:  # each statement can be executed, but not all of them in one migration
        raise Refused(error.title, error.hint) from None
    asyncio.run(check_plan(loaded, offline=True))
    if not arguments.output:
        out.write(text)
        return 0
    write_plan(text, arguments.output, force=arguments.force)
    for line in found.origin:
        out.write(line + "\n")
    for line in describe_operations(operations):
        out.write(line + "\n")
    out.write(f"wrote {arguments.output}: check it with zdd check {arguments.output}\n")
    return 0


def _plan_files(arguments: argparse.Namespace, *, has_rollout: bool) -> PlannedMigration:
    """
    Raises:
        Refused: a statement cannot be executed online, or there is none.
        PlanError: no file is named, or one cannot be read.
    """
    if not arguments.files:
        raise PlanError("there is no migration to plan", "name its SQL files, or a directory with --from DIR")
    for file in arguments.files:
        if os.path.isdir(file):  # Path.is_dir raises for a name that is too long
            raise PlanError(f"{file} is a directory", f"name SQL files in it, or plan it with --from {file}")
    statements = [
        statement
        for file in arguments.files
        for statement in read_migration(read_text(file, max_bytes=MAX_SQL_BYTES), file)
    ]
    kept = keep_operations(statements, has_rollout=has_rollout)
    if not kept:
        raise Refused("the migration changes nothing", "name a file with statements that change the schema")
    names = ", ".join(Path(file).name for file in arguments.files)
    return PlannedMigration(kept, Path(arguments.files[-1]).stem, (f"from {names}",))


def describe_operations(operations: tuple[Operation, ...]) -> list[str]:
    """A line for each operation: what it does, and its phases."""
    return [f"{each.summary}: {' and '.join(dict.fromkeys(step.phase for step in each.steps))}" for each in operations]


def keep_operations(statements: Sequence[Statement], *, has_rollout: bool) -> list[PlanOperation]:
    """The statements of a migration that are operations, and the settings that they need; without those that change
    nothing, such as BEGIN. Empty where nothing changes.

    Raises:
        Refused: one cannot be executed online; names file and line.
    """
    options = OperationOptions(has_rollout)
    kept: list[PlanOperation] = []
    operations: list[Operation] = []
    taken = 0
    for number, statement in enumerate(statements):
        if number < taken:
            continue
        if (derived := derive_partition([each.text for each in statements[number:]])) is not None:
            section, count = derived
            operations.append(_read_partition(statement, section, options))
            kept.append({"partition": section})
            taken = number + count
            continue
        before = dict(options.scope.settings)
        found = _read(statement, options)
        operations += found
        if found or options.scope.settings != before:
            kept.append(statement.text)
    return kept if operations else []


def _read(statement: Statement, options: OperationOptions) -> tuple[Operation, ...]:
    try:
        return read_operations(statement.text, options)
    except PlanError as error:
        raise Refused(f"{statement.location}: {error.title}", error.hint) from None


def _read_partition(statement: Statement, section: dict[str, Any], options: OperationOptions) -> Operation:
    try:
        return read_partition(PartitionSection.model_validate(section), options)
    except PlanError as error:
        raise Refused(f"{statement.location}: {error.title}", error.hint) from None


def _build_document(arguments: argparse.Namespace, found: PlannedMigration) -> dict[str, Any]:
    stem = re.sub(r"[^a-z0-9]+", "-", found.stem.lower()).strip("-")
    rollout = {
        "kubernetes": {
            "namespace": arguments.namespace or "default",
            "deployment": arguments.deployment,
            "container": arguments.container or "app",
            "image": arguments.image,
        }
    }
    variable = DSN_VARIABLE.match(arguments.dsn)
    return {
        "name": arguments.name or stem[:40].strip("-") or "migration",
        "strategy": "expand-contract",
        "environment": arguments.environment,
        "production": is_production(arguments.environment),
        # An address itself may hold a password, which a plan must not.
        "database": {"dsn": f"${{{variable[1]}}}" if variable is not None else "${DATABASE_URL}"},
        **(rollout if arguments.deployment else {}),
        "operations": found.operations,
    }
