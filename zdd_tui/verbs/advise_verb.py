"""`zdd advise` as a command: options in, report and plan file out."""

import argparse
import asyncio
from typing import TextIO

from zdd_tui.model.advice.derive import Answers
from zdd_tui.model.advice.draft import Target
from zdd_tui.model.adviser import Facts
from zdd_tui.model.errors import ZddError
from zdd_tui.verbs.advise import Request, answer, refuse_existing, refuse_unanswered, write_plan
from zdd_tui.verbs.advise_report import write_report


def request_of(arguments: argparse.Namespace) -> Request:
    """The options as a request.

    Raises:
        ZddError: an option's value is not of its form.
    """
    old, new = arguments.image or ("", "")
    return Request(
        sql=tuple(arguments.sql),
        manifests=tuple(arguments.manifest),
        old_image=old,
        dsn=arguments.dsn,
        facts=Facts(
            risk=arguments.feature_risk,
            regions=arguments.regions,
            sessions=arguments.sessions,
            monolith=arguments.monolith,
            experimental=arguments.experimental,
        ),
        target=Target(
            name=arguments.name,
            environment=arguments.environment,
            namespace=arguments.namespace,
            deployment=arguments.deployment,
            container=arguments.container,
            image=new,
            v2=arguments.v2,
            v3=arguments.v3,
            flag=arguments.flag,
            smoke=arguments.smoke,
            path=arguments.dark_path,
        ),
        answers=Answers(*(_pairs(f"--{name}", getattr(arguments, name)) for name in ("up", "down", "type"))),
        intended=getattr(arguments, "strategy", None) or "",
    )


def run_advise(arguments: argparse.Namespace, out: TextIO) -> int:
    """The verb. 0: answered (and written, with --plan); 1: no plan to write; 2, by exception: bad input."""
    request = request_of(arguments)
    told = (request.sql, request.manifests, request.target.image, request.target.deployment)
    if not any(told) and request.facts == Facts():
        raise ZddError(
            "there is no change to look at", "--sql FILE, --manifest FILE, --image OLD NEW, or --feature-risk high …"
        )
    if arguments.plan:
        refuse_existing(arguments.plan, force=arguments.force)
    found = asyncio.run(answer(request))
    written = ""
    if arguments.plan and found.plan is not None:
        write_plan(found.plan, arguments.plan, force=arguments.force)
        written = arguments.plan
    write_report(found, out, plan_file=written, as_json=arguments.json)
    out.flush()
    if arguments.plan:
        refuse_unanswered(found, arguments.plan)
    return 0


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ZddError(f"{option} {each!r}: expected COLUMN=…", f'such as {option} "full_name=first || last"')
        if name.strip() in pairs:
            raise ZddError(f"{option} names {name.strip()} twice", "keep one of them")
        pairs[name.strip()] = value.strip()
    return pairs
