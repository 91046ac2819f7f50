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
    AdviseRequest,
    AdviseResult,
    analyze_change,
    require_new_file,
    require_plan,
    write_plan,
)
from zdd_tui.cli.advise_report import build_request
from zdd_tui.model.advice.manifest import read_manifests
from zdd_tui.model.advice.migration import read_migration
from zdd_tui.model.advice.plan_from_migration import MissingInput
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import find_placeholders

Prompt = Callable[[str], str]

_TARGET_FIELDS = {
    "--deployment": "deployment",
    "--v2": "v2",
    "--v3": "v3",
    "--image": "image",
    "--smoke": "smoke",
    "--dark-path": "path",
}
_ANSWER_FIELDS = {"--up": "up", "--down": "down", "--type": "types"}
MAX_ROUNDS = 12
"""Rounds of questions before it gives up; each answers all that was asked in the round before."""


def run_init(arguments: argparse.Namespace, out: TextIO, prompt: Prompt | None = None) -> int:
    """The verb.

    Args:
        prompt: asks one question; default: the terminal, if there is one.

    Raises:
        ZddError: the file is there, bad input, or something is not known and nobody can be asked.
    """
    require_new_file(arguments.plan, force=arguments.force)
    request = build_request(arguments)
    if prompt is None and not arguments.non_interactive and sys.stdin.isatty():
        prompt = input
    if prompt is not None:
        questions = _Interview(prompt, out)
        found = questions.ask_until_complete(questions.ask_about_change(request))
    else:
        found = asyncio.run(analyze_change(request))
    require_plan(found, arguments.plan)
    assert found.plan is not None
    write_plan(found.plan, arguments.plan, force=arguments.force)
    advice = found.advice
    out.write(f"{arguments.plan}: {advice.strategy}, cost {advice.cost.name.lower()}: {advice.reasons[0].reason}\n")
    for note in found.notes:
        out.write(f"  note: {note}\n")
    variables = sorted(find_placeholders(yaml.safe_load(found.plan)))
    out.write(f"next: export {' '.join(f'{name}=…' for name in variables)}; zdd check {arguments.plan}\n")
    return 0


@dataclass(frozen=True, slots=True)
class _Interview:
    prompt: Prompt
    out: TextIO

    def ask_about_change(self, request: AdviseRequest) -> AdviseRequest:
        """Asks what the options have not told."""
        if not request.sql:
            files = self._ask_files(
                "migration files (SQL), none if the schema stays: ", lambda f, t: read_migration(t, f)
            )
            request = replace(request, sql=files)
        if request.sql and not request.dsn:
            request = replace(request, dsn=self._ask("database to look at, such as ${DATABASE_URL}, or none: "))
        if not request.manifests and not request.target.deployment:
            files = self._ask_files("manifest of the Deployment, or none: ", lambda f, t: read_manifests([(f, t)]))
            request = replace(request, manifests=files)
        facts = request.facts
        return replace(
            request,
            facts=replace(
                facts,
                risk="high" if facts.risk == "high" or self._ask_yes_no("a risky feature, or an A/B test?") else "low",
                regions=facts.regions if facts.regions > 1 else self._ask_number("how many regions serve?"),
                sessions="in-memory"
                if facts.sessions == "in-memory" or self._ask_yes_no("are users' sessions kept in the pods' memory?")
                else "external",
                is_monolith=facts.is_monolith or self._ask_yes_no("one large program with rare releases?"),
                is_experimental=facts.is_experimental
                or self._ask_yes_no("logic that must be proven right before anybody sees it?"),
            ),
        )

    def ask_until_complete(self, request: AdviseRequest) -> AdviseResult:
        """Asks for whatever the plan lacks, until it can be written or an answer does not help."""
        found = asyncio.run(analyze_change(request))
        asks = list(found.missing_inputs)
        for _ in range(MAX_ROUNDS):
            if found.plan is not None or not asks or not all(ask.option for ask in asks):
                return found
            for ask in asks:
                request = _apply_answer(request, ask, self._ask(f"{ask.text}: "))
            try:
                found = asyncio.run(analyze_change(request))
                asks = list(found.missing_inputs)
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

    def _ask_yes_no(self, question: str) -> bool:
        while True:
            given = self._ask(f"{question} [y/N] ").lower()
            if given in ("y", "yes", "n", "no", ""):
                return given.startswith("y")
            self.out.write("y or n, please\n")

    def _ask_number(self, question: str) -> int:
        while True:
            given = self._ask(f"{question} [1] ") or "1"
            if given.isdecimal() and 1 <= int(given) <= 1000:
                return int(given)
            self.out.write("a number from 1 on, please\n")

    def _ask_files(self, question: str, read: Callable[[str, str], object]) -> tuple[str, ...]:
        while True:
            files = tuple(self._ask(question).split())
            try:
                for file in files:
                    read(file, read_text(file))
                return files
            except ZddError as error:
                self.out.write(f"{error}\n")


def _apply_answer(request: AdviseRequest, missing_input: MissingInput, value: str) -> AdviseRequest:
    if not value:
        return request
    option = missing_input.option.split()[0]
    if option == "--dsn":
        return replace(request, dsn=value)
    if (side := _ANSWER_FIELDS.get(option)) is not None:
        told = {**getattr(request.answers, side), missing_input.name: value}
        return replace(request, answers=replace(request.answers, **{side: told}))
    return replace(request, target=replace(request.target, **{_TARGET_FIELDS[option]: value}))
