"""The plan as the release was registered with it, and what the file on disk says by now."""

import difflib
from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look, Told
from zdd_tui.dashboard.screens.details.yaml import yaml_line
from zdd_tui.dashboard.state import Board, BoardSource, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, wrap
from zdd_tui.model.queries import PlanQuery, PlanText


class PlanScreen(DetailScreen):
    """Stored text with its placeholders; Tab turns to the difference."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,d", "turn", "The plan, or how the file differs from it", show=False, id="plan.turn"),
    ]

    every = 5.0

    def __init__(self, source: BoardSource, look: Look) -> None:
        super().__init__(source, look)
        self._asked = self.will_ask(PlanQuery(), "the plan")
        self._differs = False
        self.wrapped = False

    def heading(self, board: Board) -> str:
        return f"plan of {board.plan.name}: {'the file against it' if self._differs else 'as stored'}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("Tab", "as stored" if self._differs else "difference"), ("y", "copy"))

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        lines = self.missing(self._asked, cells)
        plan = self._asked.value
        if plan is None:
            return lines
        lines += [*_file(plan, moment, cells, wrap), ()]
        return lines + (difference(plan, cells, self.text) if self._differs else self._stored(plan, cells))

    def _stored(self, plan: PlanText, cells: int) -> list[Line]:
        if self.wrapped:
            return [piece for line in plan.stored.splitlines() for piece in self.text(line, cells)]
        return [yaml_line(line) for line in plan.stored.splitlines()]

    def action_turn(self) -> None:
        self._differs = not self._differs
        self.redraw()


def _file(plan: PlanText, moment: Moment, cells: int, told: Told) -> list[Line]:
    """What became of the file since the release was registered."""
    head = told(f"registered {moment.clock.time_of_day(plan.at)}, sha256 {plan.hash[:12]}", cells, Tone.DIM)
    if not plan.path:
        return head + told("this dashboard was opened without a file", cells, Tone.DIM)
    if plan.file is None:
        return head + told(f"? {plan.file_error}", cells, Tone.WARN)
    if plan.file == plan.stored:
        return head + told(f"✔ {plan.path} says the same", cells, Tone.GOOD)
    when = ""
    if plan.file_changed_at is not None and plan.file_changed_at > plan.at:
        when = f", changed {human_age(moment.wall - plan.file_changed_at)} ago, after the release began"
    lines = told(f"✗ {plan.path} says something else{when}", cells, Tone.WARN)
    return head + lines + told("the release goes by what is stored; the file counts for the next one", cells, Tone.DIM)


def difference(plan: PlanText, cells: int, told: Told) -> list[Line]:
    """A unified diff: - stored, + file."""
    if plan.file is None:
        return told("there is no file to compare with", cells, Tone.WARN)
    if plan.file == plan.stored:
        return told("no difference", cells, Tone.GOOD)
    diff = difflib.unified_diff(
        plan.stored.splitlines(), plan.file.splitlines(), "as stored", plan.path, n=3, lineterm=""
    )
    return [line for text in diff for line in told(text, cells, _tone(text))]


def _tone(line: str) -> Tone:
    if line.startswith(("---", "+++")):
        return Tone.STRONG
    return {"-": Tone.BAD, "+": Tone.GOOD, "@": Tone.KEY}.get(line[:1], Tone.NORMAL)
