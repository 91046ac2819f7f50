"""`zdd init`: a few questions, then the first plan. With --non-interactive (or without a terminal) it asks nothing."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

import yaml

from zdd_tui.backends.files import read_text
from zdd_tui.cli.advise import (
    Answer,
    Request,
    answer,
    refuse_existing,
    refuse_unanswered,
    write_plan,
)
from zdd_tui.cli.advise_report import request_of
from zdd_tui.model.advice.manifest import read_manifests
from zdd_tui.model.advice.migration import read_migration
from zdd_tui.model.advice.plan_from_migration import Ask
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import placeholders

Prompt = Callable[[str], str]

_TARGETS = {
    "--deployment": "deployment",
    "--v2": "v2",
    "--v3": "v3",
    "--image": "image",
    "--smoke": "smoke",
    "--dark-path": "path",
}
_SIDES = {"--up": "up", "--down": "down", "--type": "types"}
ROUNDS = 12
"""Rounds of questions before it gives up; each answers all that was asked in the round before."""


def run_init(arguments: argparse.Namespace, out: TextIO, prompt: Prompt | None = None) -> int:
    """The verb.

    Args:
        prompt: asks one question; default: the terminal, if there is one.

    Raises:
        ZddError: the file is there, bad input, or something is not known and nobody can be asked.
    """
    refuse_existing(arguments.plan, force=arguments.force)
    request = request_of(arguments)
    if prompt is None and not arguments.non_interactive and sys.stdin.isatty():
        prompt = input
    if prompt is not None:
        questions = _Questions(prompt, out)
        found = questions.until_known(questions.about_the_change(request))
    else:
        found = asyncio.run(answer(request))
    refuse_unanswered(found, arguments.plan)
    assert found.plan is not None
    write_plan(found.plan, arguments.plan, force=arguments.force)
    advice = found.advice
    out.write(f"{arguments.plan}: {advice.strategy}, cost {advice.cost.name.lower()}: {advice.reasons[0].why}\n")
    for note in found.notes:
        out.write(f"  note: {note}\n")
    variables = sorted(placeholders(yaml.safe_load(found.plan)))
    out.write(f"next: export {' '.join(f'{name}=…' for name in variables)}; zdd check {arguments.plan}\n")
    return 0


@dataclass(frozen=True, slots=True)
class _Questions:
    prompt: Prompt
    out: TextIO

    def about_the_change(self, request: Request) -> Request:
        """Asks what the options have not told."""
        if not request.sql:
            files = self._files("migration files (SQL), none if the schema stays: ", lambda f, t: read_migration(t, f))
            request = replace(request, sql=files)
        if request.sql and not request.dsn:
            request = replace(request, dsn=self._ask("database to look at, such as ${DATABASE_URL}, or none: "))
        if not request.manifests and not request.target.deployment:
            files = self._files("manifest of the Deployment, or none: ", lambda f, t: read_manifests([(f, t)]))
            request = replace(request, manifests=files)
        facts = request.facts
        return replace(
            request,
            facts=replace(
                facts,
                risk="high" if facts.risk == "high" or self._yes("a risky feature, or an A/B test?") else "low",
                regions=facts.regions if facts.regions > 1 else self._number("how many regions serve?"),
                sessions="in-memory"
                if facts.sessions == "in-memory" or self._yes("are users' sessions kept in the pods' memory?")
                else "external",
                monolith=facts.monolith or self._yes("one large program with rare releases?"),
                experimental=facts.experimental or self._yes("logic that must be proven right before anybody sees it?"),
            ),
        )

    def until_known(self, request: Request) -> Answer:
        """Asks for whatever the plan lacks, until it can be written or an answer does not help."""
        found = asyncio.run(answer(request))
        asks = list(found.asks)
        for _ in range(ROUNDS):
            if found.plan is not None or not asks or not all(ask.option for ask in asks):
                return found
            for ask in asks:
                request = _answered(request, ask, self._ask(f"{ask.text}: "))
            try:
                found = asyncio.run(answer(request))
                asks = list(found.asks)
            except ZddError as error:
                self.out.write(f"{error}\n")
                # Only what the error names is asked again; where it names nothing, all of it.
                asks = [ask for ask in asks if ask.name and f".{ask.name}" in error.title] or asks
        return found

    def _ask(self, question: str) -> str:
        try:
            return self.prompt(question).strip()
        except EOFError:
            raise ZddError("the answers ended before the plan was known", "nothing was written; see --help") from None

    def _yes(self, question: str) -> bool:
        while True:
            given = self._ask(f"{question} [y/N] ").lower()
            if given in ("y", "yes", "n", "no", ""):
                return given.startswith("y")
            self.out.write("y or n, please\n")

    def _number(self, question: str) -> int:
        while True:
            given = self._ask(f"{question} [1] ") or "1"
            if given.isdecimal() and 1 <= int(given) <= 1000:
                return int(given)
            self.out.write("a number from 1 on, please\n")

    def _files(self, question: str, read: Callable[[str, str], object]) -> tuple[str, ...]:
        while True:
            files = tuple(self._ask(question).split())
            try:
                for file in files:
                    read(file, read_text(file))
                return files
            except ZddError as error:
                self.out.write(f"{error}\n")


def _answered(request: Request, ask: Ask, value: str) -> Request:
    if not value:
        return request
    option = ask.option.split()[0]
    if option == "--dsn":
        return replace(request, dsn=value)
    if (side := _SIDES.get(option)) is not None:
        told = {**getattr(request.answers, side), ask.name: value}
        return replace(request, answers=replace(request.answers, **{side: told}))
    return replace(request, target=replace(request.target, **{_TARGETS[option]: value}))
