"""`zdd advise`: reads a change and recommends a strategy. It writes nothing but the plan file that was requested."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.postgres.connection import connect, translate_errors
from zdd_tui.backends.postgres.squawk import SquawkViolation, run_squawk
from zdd_tui.checks.catalog_diff import compare_planned_side
from zdd_tui.checks.locks import evaluate_migration
from zdd_tui.checks.plan import check_plan
from zdd_tui.cli.measurement import DSN_VARIABLE, lock_measurement, resolve_dsn
from zdd_tui.model.advice.carry_over import add_missing_ddl, describe_remaining
from zdd_tui.model.advice.draft import PlanTarget, build_plan_document, find_missing_inputs, format_yaml
from zdd_tui.model.advice.locks import StatementVerdict
from zdd_tui.model.advice.manifest import Manifest, describe_manifest_changes, find_cautions, read_manifests
from zdd_tui.model.advice.migration import DatabaseStats, Statement
from zdd_tui.model.advice.plan_from_migration import DerivedChange, MissingInput, UserAnswers, derive_change
from zdd_tui.model.advice.rules import (
    EXPAND_CONTRACT,
    Advice,
    ChangeFacts,
    choose_strategy,
    classify_schema_impact,
    refuse_destructive,
)
from zdd_tui.model.errors import PlanError, Refused, ZddError
from zdd_tui.model.plan.base import Change, Plan
from zdd_tui.model.plan.file import find_placeholders, load_plan

_GENERATED_PLAN_NAME = "the generated plan"


@dataclass(frozen=True, slots=True)
class AdviseRequest:
    """The options of `zdd advise` and `zdd init`.

    Attributes:
        dsn, scratch_dsn: ``${NAME}``, or the address itself.
        intended_strategy: refused where the migration breaks it; empty for none.
    """

    sql: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    old_image: str = ""
    dsn: str = ""
    facts: ChangeFacts = field(default_factory=ChangeFacts)
    target: PlanTarget = field(default_factory=PlanTarget)
    answers: UserAnswers = field(default_factory=UserAnswers)
    intended_strategy: str = ""
    scratch_dsn: str = ""


@dataclass(frozen=True, slots=True)
class AdviseResult:
    """The result of `zdd advise`.

    Attributes:
        lock_source: where the locks come from: measured, or by rule and why.
        violations: squawk's, by statement.
        changes: differences between the two versions of the manifest.
        missing_inputs: values that only a person knows; while there are any, there is no plan.
        plan: the plan's text; None where there is none.
        expressions: how each side is computed from the other, a line each.
    """

    advice: Advice
    facts: ChangeFacts
    verdicts: tuple[StatementVerdict, ...] = ()
    stats: DatabaseStats | None = None
    lock_source: str = "by rule"
    violations: Mapping[Statement, tuple[SquawkViolation, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    missing_inputs: tuple[MissingInput, ...] = ()
    notes: tuple[str, ...] = ()
    plan: str | None = None
    expressions: tuple[str, ...] = ()


async def analyze_change(request: AdviseRequest) -> AdviseResult:
    """Reads all inputs, chooses the strategy and builds the plan.

    Raises:
        ZddError: an input cannot be read or used; names the first one, with its location.
    """
    sources = [(read_text(file, max_bytes=MAX_SQL_BYTES), file) for file in request.sql]
    evaluated = await evaluate_migration(sources)
    files = [(file, read_text(file)) for file in request.manifests]
    manifests = read_manifests(files, container=request.target.container)
    target, changes, manifest = _fill_target_from_manifests(request.target, manifests)
    if request.old_image and request.old_image == request.target.image:
        raise ZddError(f"the old and the new image are both {request.old_image}", "name two images: --image OLD NEW")
    if (variable := DSN_VARIABLE.match(request.dsn)) is not None:
        target = replace(target, dsn=f"${{{variable[1]}}}")
    if evaluated.statements and (dsn := resolve_dsn(request.dsn, "--dsn")):
        evaluated = await evaluate_migration(sources, dsn, lock_measurement(request.scratch_dsn))
    stats, statements = evaluated.stats, evaluated.statements
    if request.intended_strategy:
        refuse_destructive(statements, request.intended_strategy, stats, evaluated.measured)
    verdicts = evaluated.verdicts
    facts = replace(request.facts, schema=classify_schema_impact(verdicts))
    if manifest is not None and (manifest.facts.session_hints or manifest.sticky):
        facts = replace(facts, sessions="in-memory")
    advice = choose_strategy(facts)
    derived = _derive_change(advice, verdicts, stats, request.answers)
    result = AdviseResult(
        advice=advice,
        facts=facts,
        verdicts=verdicts,
        stats=stats,
        lock_source=evaluated.source,
        violations=await _run_squawk(statements),
        warnings=(*_schema_warnings(verdicts, stats), *(find_cautions(manifest) if manifest else ())),
        changes=changes,
        missing_inputs=(*derived.missing_inputs, *find_missing_inputs(advice.strategy, target)),
        notes=(*derived.notes, *_region_notes(facts)),
        expressions=_describe_expressions(derived.change or {}),
    )
    if result.missing_inputs:
        return result
    reasons = f"{advice.strategy}: {advice.reasons[0].reason} ({advice.reasons[0].change})"
    text = format_yaml(build_plan_document(advice.strategy, target, derived.change, facts.regions), reasons)
    # The check of the plan does not depend on the values of variables that are not set here.
    placeholders = {name: f"placeholder://{name.lower()}" for name in find_placeholders(yaml.safe_load(text))}
    environment = placeholders | {name: value for name, value in os.environ.items() if value}
    loaded = load_plan(text, source=_GENERATED_PLAN_NAME, environment=environment)
    try:
        await check_plan(loaded, offline=True)
        if derived.change is not None and request.dsn and isinstance(loaded.plan, Plan):
            change, remaining = await _carry_over(resolve_dsn(request.dsn, "--dsn"), loaded.plan, derived.change)
            text = format_yaml(build_plan_document(advice.strategy, target, change, facts.regions), reasons)
            result = replace(result, notes=(*result.notes, *remaining))
    except PlanError as error:
        if request.answers != UserAnswers():
            raise
        # The advice holds, but the derived plan does not pass its own check.
        return replace(result, missing_inputs=(MissingInput(f"write the plan by hand: {error.title}"),))
    return replace(result, plan=text)


async def _carry_over(dsn: str, plan: Plan, change: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The section with what the new side lacks of the old one, and what only a person can carry over.

    Raises:
        PlanError: the server refuses the DDL.
        DatabaseError: the database cannot be read.
    """
    section = dict(change)
    conn = await connect(dsn, application_name="zdd advise", timeout=plan.database.connect_timeout)
    try:
        with translate_errors(dsn):
            for _ in range(_CARRY_OVER_PASSES):
                current = plan.model_copy(update={"change": Change.model_validate(section)})
                differences = (await compare_planned_side(conn, current)).differences
                completed = add_missing_ddl(section, differences)
                if completed == section:
                    break
                section = completed
    finally:
        await conn.close()
    return section, describe_remaining(differences)


_CARRY_OVER_PASSES = 4
"""A default may bring a sequence, and the sequence an owner: each pass shows what the one before it brings."""


def write_plan(text: str, file: str, *, force: bool) -> None:
    """Writes a plan completely or not at all.

    Raises:
        PlanError: the file exists and `force` is not given, or it cannot be written.
    """
    require_new_file(file, force=force)
    path, part = Path(file), None
    try:
        part = path.with_name(f".{path.name}.{os.getpid()}")
        with part.open("x", encoding="utf-8") as out:
            out.write(text)
        if force:
            part.replace(path)
        else:
            os.link(part, path)  # unlike a rename, it never replaces a file that was created meanwhile
            part.unlink()
    except (OSError, ValueError) as error:  # ValueError: no file has such a name
        with suppress(OSError, ValueError):
            if part is not None:
                part.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise _already_exists(file) from None
        reason = error.strerror if isinstance(error, OSError) else "it is not a file name"
        raise PlanError(f"{file} cannot be written: {reason}", "check the folder and its permissions") from None


def require_new_file(file: str, *, force: bool) -> None:
    """Refuses to overwrite a plan, before any work is done.

    Raises:
        PlanError: the file exists and `force` is not given.
    """
    if os.path.exists(file) and not force:  # Path.exists raises for a name that is too long
        raise _already_exists(file)


def _already_exists(file: str) -> PlanError:
    return PlanError(f"{file} exists already", "choose another name, or --force")


def require_plan(result: AdviseResult, file: str) -> None:
    """
    Raises:
        Refused: there is no plan to write, because inputs are missing.
    """
    if result.plan is None:
        count = len(result.missing_inputs)
        raise Refused(
            f"{file} was not written: {count} input{'s are' if count > 1 else ' is'} missing",
            "; ".join(str(missing) for missing in result.missing_inputs[:3]),
        )


def _fill_target_from_manifests(
    target: PlanTarget, manifests: Sequence[Manifest]
) -> tuple[PlanTarget, tuple[str, ...], Manifest | None]:
    """The target with the values of the manifests, the changes between their versions, and the one of the target."""
    target = replace(target, v3=target.v3 or target.image)
    if not manifests:
        return target, (), None
    names = sorted({each.name for each in manifests})
    listed, location = ", ".join(names), manifests[-1].location
    if target.deployment and target.deployment not in names:
        raise PlanError(f"{location}: no Deployment {target.deployment} in it", f"--deployment is one of {listed}")
    if not target.deployment and len(names) > 1:
        raise PlanError(f"{location}: {len(names)} Deployments: {listed}", "name one: --deployment NAME")
    versions = [each for each in manifests if each.name == (target.deployment or names[0])]
    last = versions[-1]
    changes = tuple(describe_manifest_changes(versions[-2], versions[-1])) if len(versions) > 1 else ()
    probe = last.facts.readiness
    filled = replace(
        target,
        namespace=target.namespace or last.namespace,
        deployment=last.name,
        container=last.container,
        service=target.service or last.service,
        image=target.image or last.facts.image,
        v3=target.v3 or (last.facts.image if len(versions) > 1 else ""),
        smoke=target.smoke or ("/" + probe.partition("/")[2] if probe.startswith("GET ") else ""),
    )
    return filled, changes, last


def _derive_change(
    advice: Advice, verdicts: tuple[StatementVerdict, ...], stats: DatabaseStats | None, answers: UserAnswers
) -> DerivedChange:
    if advice.strategy != EXPAND_CONTRACT:
        options = [f"--{side} {name}" for side in ("up", "down") for name in getattr(answers, side)]
        text = "the migration breaks nothing, so there is nothing to compute: leave it out"
        return DerivedChange(None, tuple(MissingInput(f"{option}: {text}") for option in options))
    return derive_change(verdicts, stats, answers)


def _region_notes(facts: ChangeFacts) -> tuple[str, ...]:
    if facts.regions == 1:
        return ()
    return (
        f"the plan releases {facts.regions} regions one after the other: set their names and their order; the rest of"
        " the plan describes region-1; each region has an agent of its own: zdd agent --region NAME",
    )


def _describe_expressions(change: Mapping[str, Any]) -> tuple[str, ...]:
    sides = (("new", change.get("up", {})), ("old, for a rollback", change.get("down", {})))
    return tuple(f"{name} = {sql}  ({side})" for side, columns in sides for name, sql in columns.items())


def _schema_warnings(verdicts: tuple[StatementVerdict, ...], stats: DatabaseStats | None) -> list[str]:
    if stats is None:
        return []
    expected = {v.action.table for v in verdicts if not v.action.on_new_table and not v.action.columns}
    warnings = [f"{table} is not in {stats.database}" for table in stats.missing_tables if table in expected]
    if stats.longest_transaction > 1:
        warnings.append(
            f"a transaction has been open for {stats.longest_transaction:.0f} s: every lock of the migration waits for"
            " it, and all other sessions wait behind that lock: set lock_timeout"
        )
    return warnings


async def _run_squawk(statements: tuple[Statement, ...]) -> dict[Statement, tuple[SquawkViolation, ...]]:
    if not statements:
        return {}
    violations = await run_squawk([statement.text for statement in statements], in_transaction=False)
    return {
        statement: tuple(each for each in violations if each.statement_number == number and each.rule != "syntax-error")
        for number, statement in enumerate(statements, 1)
    }
