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
from zdd_tui.model.advice.draft import format_yaml
from zdd_tui.model.advice.migration import Statement, read_migration
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.operations.base import Operation, OperationOptions
from zdd_tui.model.operations.registry import plan_operations, read_operations
from zdd_tui.model.plan.file import find_placeholders, load_plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.production_lock import is_production


def run_plan(arguments: argparse.Namespace, out: TextIO) -> int:
    """Writes the plan of a migration, and says what runs in which phase.

    Raises:
        Refused: a statement cannot be executed online; names each of them. Nothing is written.
        PlanError: a file cannot be read, or the plan not be written.
    """
    if arguments.output:
        require_new_file(arguments.output, force=arguments.force)
    statements = [
        statement
        for file in arguments.files
        for statement in read_migration(read_text(file, max_bytes=MAX_SQL_BYTES), file)
    ]
    has_rollout = arguments.deployment is not None
    if has_rollout is not (arguments.image is not None):
        raise Refused(
            "--deployment and --image belong together", "give both, or neither for a plan that rolls out nothing"
        )
    kept = keep_operations(statements, has_rollout=has_rollout)
    if not kept:
        raise Refused("the migration changes nothing", "name a file with statements that change the schema")
    document = _build_document(arguments, kept)
    text = format_yaml(document, f"from {', '.join(Path(file).name for file in arguments.files)}")
    placeholders = {name: f"placeholder://{name.lower()}" for name in find_placeholders(yaml.safe_load(text))}
    loaded = load_plan(text, source=arguments.output or "plan.yaml", environment=placeholders | os.environ)
    asyncio.run(check_plan(loaded, offline=True))
    if not arguments.output:
        out.write(text)
        return 0
    write_plan(text, arguments.output, force=arguments.force)
    assert isinstance(loaded.plan, BaseOperationsPlan)
    for line in describe_operations(plan_operations(loaded.plan)):
        out.write(line + "\n")
    out.write(f"wrote {arguments.output}: check it with zdd check {arguments.output}\n")
    return 0


def describe_operations(operations: tuple[Operation, ...]) -> list[str]:
    """A line for each operation: what it does, and its phases."""
    return [f"{each.summary}: {' and '.join(dict.fromkeys(step.phase for step in each.steps))}" for each in operations]


def keep_operations(statements: Sequence[Statement], *, has_rollout: bool) -> list[str]:
    """The statements of a migration that are operations, and the settings that they need; without those that change
    nothing, such as BEGIN. Empty where nothing changes.

    Raises:
        Refused: one cannot be executed online; names file and line.
    """
    options = OperationOptions(has_rollout)
    kept: list[str] = []
    operations: list[Operation] = []
    for statement in statements:
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


def _build_document(arguments: argparse.Namespace, operations: list[str]) -> dict[str, Any]:
    stem = re.sub(r"[^a-z0-9]+", "-", Path(arguments.files[-1]).stem.lower()).strip("-")
    rollout = {
        "kubernetes": {
            "namespace": arguments.namespace or "default",
            "deployment": arguments.deployment,
            "container": arguments.container or "app",
            "image": arguments.image,
        }
    }
    return {
        "name": arguments.name or stem[:40].strip("-") or "migration",
        "strategy": "expand-contract",
        "environment": arguments.environment,
        "production": is_production(arguments.environment),
        "database": {"dsn": arguments.dsn or "${DATABASE_URL}"},
        **(rollout if arguments.deployment else {}),
        "operations": operations,
    }
