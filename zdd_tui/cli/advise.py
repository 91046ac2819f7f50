"""`zdd advise`: looks at a change and answers with a strategy. Changes nothing but the file that it was asked for."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from zdd_tui.backends.files import read_text
from zdd_tui.backends.postgres.squawk import Finding, squawk
from zdd_tui.backends.postgres.table_stats import look_at
from zdd_tui.checks.plan import check_plan
from zdd_tui.model.advice.draft import Target, as_yaml, document, missing
from zdd_tui.model.advice.locks import Ruling, judge
from zdd_tui.model.advice.manifest import Manifest, cautions, changes, read_manifests
from zdd_tui.model.advice.migration import Live, Statement, all_actions, freshened, read_migration
from zdd_tui.model.advice.plan_from_migration import Answers, Ask, Derived, derive
from zdd_tui.model.advice.rules import EXPAND_CONTRACT, Advice, Facts, advise, refuse_destructive, schema_of
from zdd_tui.model.errors import PlanError, Refused, ZddError
from zdd_tui.model.plan.file import load_plan, placeholders

_VARIABLE = re.compile(r"^\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?$")
_SOURCE = "the plan that would be written"


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks.

    Attributes:
        dsn: ``${NAME}``, or the address itself.
        intended: the strategy that the person has in mind; refused where it does not survive the migration.
    """

    sql: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    old_image: str = ""
    dsn: str = ""
    facts: Facts = field(default_factory=Facts)
    target: Target = field(default_factory=Target)
    answers: Answers = field(default_factory=Answers)
    intended: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that `zdd advise` found out.

    Attributes:
        findings: squawk's, by statement.
        asks: what only a person knows; while there are any, there is no plan.
        plan: the plan's text; None where there is none.
        computed: how each side is computed from the other, a line each.
    """

    advice: Advice
    facts: Facts
    rulings: tuple[Ruling, ...] = ()
    live: Live | None = None
    findings: Mapping[Statement, tuple[Finding, ...]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()
    notes: tuple[str, ...] = ()
    plan: str | None = None
    computed: tuple[str, ...] = ()


async def answer(request: Request) -> Answer:
    """Reads everything, then judges.

    Raises:
        ZddError: something cannot be read; the first thing that is wrong, with its place.
    """
    statements = tuple(one for file in request.sql for one in read_migration(read_text(file), file))
    statements = freshened(statements)
    files = [(file, read_text(file)) for file in request.manifests]
    manifests = read_manifests(files, container=request.target.container)
    target, told, chosen = _completed(request.target, manifests)
    if request.old_image and request.old_image == request.target.image:
        raise ZddError(f"the old and the new image are both {request.old_image}", "--image OLD NEW")
    if (variable := _VARIABLE.match(request.dsn)) is not None:
        target = replace(target, dsn=f"${{{variable[1]}}}")
    live = await _live(request.dsn, statements)
    if request.intended:
        refuse_destructive(statements, request.intended, live)
    rulings = judge(statements, live)
    facts = replace(request.facts, schema=schema_of(rulings))
    if chosen is not None and (chosen.facts.session_hints or chosen.sticky):
        facts = replace(facts, sessions="in-memory")
    advice = advise(facts)
    derived = _derive(advice, rulings, live, request.answers)
    found = Answer(
        advice=advice,
        facts=facts,
        rulings=rulings,
        live=live,
        findings=await _squawk(statements),
        cautions=(*_schema_cautions(rulings, live), *(cautions(chosen) if chosen else ())),
        changes=told,
        asks=(*derived.asks, *missing(advice.strategy, target)),
        notes=(*derived.notes, *_region_notes(facts)),
        computed=_computed(derived.change or {}),
    )
    if found.asks:
        return found
    reasons = f"{advice.strategy}: {advice.reasons[0].why} ({advice.reasons[0].change})"
    text = as_yaml(document(advice.strategy, target, derived.change, facts.regions), reasons)
    loaded = load_plan(
        text, source=_SOURCE, environ=_stand_ins(text) | {name: value for name, value in os.environ.items() if value}
    )
    try:
        await check_plan(loaded, offline=True)
    except PlanError as error:
        if request.answers != Answers():
            raise
        # It read the migration well enough to advise, and what it made of it does not pass: say so, write nothing.
        return replace(found, asks=(Ask(f"the plan has to be written by hand: {error.title}"),))
    return replace(found, plan=text)


def _stand_ins(text: str) -> dict[str, str]:
    """For secrets that are not set here: whether the plan is right does not depend on them."""
    return {name: f"stand-in://{name.lower()}" for name in placeholders(yaml.safe_load(text))}


def write_plan(text: str, file: str, *, force: bool) -> None:
    """Writes a plan whole or not at all.

    Raises:
        PlanError: the file is there and `force` is not, or it cannot be written.
    """
    refuse_existing(file, force=force)
    path = Path(file)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x", encoding="utf-8") as out:
            out.write(text)
        if force:
            part.replace(path)
        else:
            os.link(part, path)  # unlike a rename, it never takes the place of a file that came meanwhile
            part.unlink()
    except FileExistsError:
        part.unlink(missing_ok=True)
        raise PlanError(f"{file} exists already", "choose another name, or --force") from None
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PlanError(f"{file} cannot be written: {error.strerror}", "check folder and permissions") from None


def refuse_existing(file: str, *, force: bool) -> None:
    """Before any work: a plan that is there is not overwritten."""
    if Path(file).exists() and not force:
        raise PlanError(f"{file} exists already", "choose another name, or --force")


def refuse_unanswered(found: Answer, file: str) -> None:
    """
    Raises:
        Refused: there is no plan to write, because something is asked.
    """
    if found.plan is None:
        count = len(found.asks)
        raise Refused(
            f"{file} was not written: {count} thing{'s' if count > 1 else ''} only you know",
            "; ".join(str(ask) for ask in found.asks[:3]),
        )


def _completed(target: Target, manifests: Sequence[Manifest]) -> tuple[Target, tuple[str, ...], Manifest | None]:
    """What the manifests tell of the target, what they say has changed, and the one that counts."""
    target = replace(target, v3=target.v3 or target.image)
    if not manifests:
        return target, (), None
    last = manifests[-1]
    others = {each.name for each in manifests} - {last.name}
    if target.deployment:
        last = next((each for each in reversed(manifests) if each.name == target.deployment), None) or last
        if last.name != target.deployment:
            listed = ", ".join(sorted({each.name for each in manifests}))
            raise PlanError(f"{last.place}: no Deployment {target.deployment} in it", f"there is {listed}")
    elif others:
        listed = ", ".join(sorted({each.name for each in manifests}))
        raise PlanError(f"{last.place}: {len(others) + 1} Deployments: {listed}", "say which: --deployment NAME")
    versions = [each for each in manifests if each.name == last.name]
    told = tuple(changes(versions[-2], versions[-1])) if len(versions) > 1 else ()
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
    return filled, told, last


async def _live(dsn: str, statements: tuple[Statement, ...]) -> Live | None:
    if not dsn or not statements:
        return None
    if (match := _VARIABLE.match(dsn)) is not None:
        value = os.environ.get(match[1])
        if not value:
            raise ZddError(f"--dsn: the environment variable {match[1]} is not set", f"export {match[1]}=…")
        dsn = value
    tables = [action.table for action in all_actions(statements) if action.table is not None and not action.fresh]
    return await look_at(dsn, tables)


def _derive(advice: Advice, rulings: tuple[Ruling, ...], live: Live | None, answers: Answers) -> Derived:
    if advice.strategy != EXPAND_CONTRACT:
        given = [f"--{side} {name}" for side in ("up", "down") for name in getattr(answers, side)]
        asks = tuple(Ask(f"{each}: the migration breaks nothing, so there is nothing to compute") for each in given)
        return Derived(None, asks)
    return derive(rulings, live, answers)


def _region_notes(facts: Facts) -> tuple[str, ...]:
    if facts.regions == 1:
        return ()
    return (
        f"the plan goes through {facts.regions} regions, one after the other: give them their names and their order;"
        " region-1 is what the rest of the plan names; each has an agent of its own: zdd agent --region NAME",
    )


def _computed(change: Mapping[str, Any]) -> tuple[str, ...]:
    sides = (("new", change.get("up", {})), ("old, for the way back", change.get("down", {})))
    return tuple(f"{name} = {how}  ({side})" for side, given in sides for name, how in given.items())


def _schema_cautions(rulings: tuple[Ruling, ...], live: Live | None) -> list[str]:
    found: list[str] = []
    if live is not None:
        found += [f"{table} is not in {live.place}" for table in live.missing if _expected(table, rulings)]
        if live.longest_transaction > 1:
            found.append(
                f"a transaction has been open for {live.longest_transaction:.0f} s: every lock waits for it,"
                " and everybody waits behind that lock: set lock_timeout"
            )
    return found


def _expected(table: Any, rulings: tuple[Ruling, ...]) -> bool:
    return any(r.action.table == table and not r.action.fresh and not r.action.columns for r in rulings)


async def _squawk(statements: tuple[Statement, ...]) -> dict[Statement, tuple[Finding, ...]]:
    if not statements:
        return {}
    found = await squawk([one.text for one in statements], in_transaction=False)
    return {
        one: tuple(each for each in found if each.statement == number and each.rule != "syntax-error")
        for number, one in enumerate(statements, 1)
    }
