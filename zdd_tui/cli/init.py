"""`zdd init`: a few questions, then the first plan. With --non-interactive (or without a terminal) it asks nothing."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

import yaml

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.cli.advise import AdviseRequest, AdviseResult, analyze_change, require_new_file, require_plan, write_plan
from zdd_tui.cli.advise_report import build_request
from zdd_tui.cli.output import escape_controls
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
"""Rounds of questions before it stops; each asks for all inputs that are missing after the round before."""


def run_init(arguments: argparse.Namespace, out: TextIO, prompt: Prompt | None = None) -> int:
    """Runs the command.

    Args:
        prompt: asks one question; default: the terminal, if there is one.

    Raises:
        ZddError: the file exists, bad input, or inputs are missing and there is no terminal.
    """
    require_new_file(arguments.plan, force=arguments.force)
    request = build_request(arguments)
    if prompt is None and not arguments.non_interactive and sys.stdin.isatty():
        prompt = input
    if prompt is not None:
        questions = _Interview(prompt, out)
        result = questions.ask_until_complete(questions.ask_about_change(request))
    else:
        result = asyncio.run(analyze_change(request))
    require_plan(result, arguments.plan)
    assert result.plan is not None
    write_plan(result.plan, arguments.plan, force=arguments.force)
    advice = result.advice
    out.write(f"{arguments.plan}: {advice.strategy}, cost {advice.cost.name.lower()}: {advice.reasons[0].reason}\n")
    for note in result.notes:
        out.write(f"  note: {note}\n")
    variables = sorted(find_placeholders(yaml.safe_load(result.plan)))
    out.write(f"next: export {' '.join(f'{name}=…' for name in variables)}; zdd check {arguments.plan}\n")
    return 0


@dataclass(frozen=True, slots=True)
class _Interview:
    prompt: Prompt
    out: TextIO

    def ask_about_change(self, request: AdviseRequest) -> AdviseRequest:
        """Asks for the facts that the options do not give."""
        if not request.sql:
            files = self._ask_files(
                "migration files (SQL), empty if the schema does not change: ", lambda f, t: read_migration(t, f)
            )
            request = replace(request, sql=files)
        if request.sql and not request.dsn:
            request = replace(request, dsn=self._ask("database, such as ${DATABASE_URL}, or empty: "))
        if not request.manifests and not request.target.deployment:
            files = self._ask_files("manifest of the Deployment, or empty: ", lambda f, t: read_manifests([(f, t)]))
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
                or self._ask_yes_no("logic whose results must be verified before users see it?"),
            ),
        )

    def ask_until_complete(self, request: AdviseRequest) -> AdviseResult:
        """Asks for missing inputs until the plan can be written or no question can supply them."""
        result = asyncio.run(analyze_change(request))
        missing = list(result.missing_inputs)
        for _ in range(MAX_ROUNDS):
            if result.plan is not None or not missing or not all(each.option for each in missing):
                return result
            for each in missing:
                request = _apply_answer(request, each, self._ask(f"{each.text}: "))
            try:
                result = asyncio.run(analyze_change(request))
                missing = list(result.missing_inputs)
            except ZddError as error:
                self.out.write(f"{error}\n")
                # Only the columns that the error names are asked for again; all of them where it names none.
                missing = [each for each in missing if each.name and f".{each.name}" in error.title] or missing
        return result

    def _ask(self, question: str) -> str:
        try:
            return self.prompt(escape_controls(question)).strip()
        except EOFError:
            raise ZddError(
                "the input ended before the plan was complete", "answer all questions, or give options: zdd init --help"
            ) from None

    def _ask_yes_no(self, question: str) -> bool:
        while True:
            answer = self._ask(f"{question} [y/N] ").lower()
            if answer in ("y", "yes", "n", "no", ""):
                return answer.startswith("y")
            self.out.write("answer y or n\n")

    def _ask_number(self, question: str) -> int:
        while True:
            answer = self._ask(f"{question} [1] ") or "1"
            if answer.isdecimal() and 1 <= int(answer) <= 1000:
                return int(answer)
            self.out.write("answer a number from 1 to 1000\n")

    def _ask_files(self, question: str, read: Callable[[str, str], object]) -> tuple[str, ...]:
        while True:
            files = tuple(self._ask(question).split())
            try:
                for file in files:
                    read(file, read_text(file, max_bytes=MAX_SQL_BYTES))
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
        values = {**getattr(request.answers, side), missing_input.name: value}
        return replace(request, answers=replace(request.answers, **{side: values}))
    return replace(request, target=replace(request.target, **{_TARGET_FIELDS[option]: value}))
