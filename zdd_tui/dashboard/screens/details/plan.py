"""The plan as stored with the release, and how the file differs from it."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.details.yaml import yaml_lines
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age
from zdd_tui.model.queries import PlanQuery, PlanText


class PlanScreen(DetailScreen):
    """The stored text with its placeholders; Tab shows the difference."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,d", "turn", "Stored plan, or difference to the file", show=False, id="plan.turn"),
    ]

    refresh_interval = 5.0

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_query(PlanQuery(), "the plan")
        self._shows_difference = False
        self.is_wrapped = False

    def heading(self, board: DashboardState) -> str:
        return f"plan, {'difference to the file' if self._shows_difference else 'as stored'}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("Tab", "as stored" if self._shows_difference else "difference"), ("y", "copy"))

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        lines = self.query_error_lines(self._query, formatter)
        plan = self._query.value
        if plan is None:
            return lines
        lines += [*_file_status_lines(plan, context, replace(formatter, is_wrapped=True)), ()]
        return lines + (diff_lines(plan, formatter) if self._shows_difference else yaml_lines(plan.stored, formatter))

    def action_turn(self) -> None:
        self._shows_difference = not self._shows_difference
        self.redraw()


def _file_status_lines(plan: PlanText, context: RenderContext, formatter: TextFormatter) -> list[Line]:
    """Whether the file has changed since the release was registered."""
    head = formatter(f"registered {context.clock.time_of_day(plan.at)}, sha256 {plan.hash[:12]}", TextStyle.DIM)
    if not plan.path:
        return head + formatter("this dashboard was opened without a plan file", TextStyle.DIM)
    if plan.file is None:
        return head + formatter(f"? {plan.file_error}", TextStyle.WARN)
    if plan.file == plan.stored:
        return head + formatter(f"✔ {plan.path} is identical", TextStyle.GOOD)
    when = ""
    if plan.file_changed_at is not None and plan.file_changed_at > plan.at:
        when = f", changed {format_age(context.wall - plan.file_changed_at)} ago, after the release was registered"
    head += formatter(f"✗ {plan.path} differs{when}", TextStyle.WARN)
    return head + formatter("the release uses the stored plan; the file is used by the next release", TextStyle.DIM)


def diff_lines(plan: PlanText, formatter: TextFormatter) -> list[Line]:
    """A unified diff: - stored, + file."""
    if plan.file is None:
        return formatter("no file to compare with", TextStyle.WARN)
    if plan.file == plan.stored:
        return formatter("no difference", TextStyle.GOOD)
    diff = difflib.unified_diff(
        plan.stored.splitlines(), plan.file.splitlines(), "as stored", plan.path, n=3, lineterm=""
    )
    return [line for text in diff for line in formatter(text, _diff_style(text))]


def _diff_style(line: str) -> TextStyle:
    if line.startswith(("---", "+++")):
        return TextStyle.STRONG
    return {"-": TextStyle.BAD, "+": TextStyle.GOOD, "@": TextStyle.KEY}.get(line[:1], TextStyle.NORMAL)
