"""The limits of a running backfill: effective, the plan's, and pending changes."""

from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from zdd_tui.dashboard.screens.dialog import (
    FollowingDialog,
    KeyHints,
    PageView,
    key_hints_line,
    reading_age_lines,
    text_field,
)
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import disabled_reason
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, fit, sanitize, truncate, wrap
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.errors import PlanError
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.tuning import (
    LIMITS,
    apply_tuning,
    describe_limit_changes,
    describe_table_limits,
    effective_limits,
    format_limit,
    parse_requested_limits,
)


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """The requested change.

    Attributes:
        changes: limits by name, for :func:`zdd_tui.model.tuning.apply_tuning`.
        text: the changes as shown: ``speed 100% -> 50%``.
        reason: for the audit.
    """

    changes: dict[str, object]
    text: str
    reason: str = ""


class TuneScreen(FollowingDialog[TuneRequest]):
    """Arrows select a limit; Enter stages the typed value, and with an empty field sends the staged changes.

    Args:
        changes: staged at the start.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", show=False, id="tune.leave"),
        Binding("up", "move(-1)", "Previous limit", show=False, id="tune.up"),
        Binding("down", "move(1)", "Next limit", show=False, id="tune.down"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext, changes: dict[str, object] | None = None) -> None:
        super().__init__(board, context)
        self._staged: dict[str, object] = dict(changes or {})
        self._selected = 0
        self._error = ""

    def compose_dialog(self) -> ComposeResult:
        yield PageView()
        yield TextField(id="value")
        if self._is_reason_required:
            yield text_field("reason", "reason (required by the plan)")
        yield KeyHints()

    @property
    def _is_reason_required(self) -> bool:
        return CommandKind.TUNE.value in self._last_shown[0].plan.commands_needing_reason

    def initial_focus(self) -> Widget:
        return self.query_one("#reason" if self._staged and self._is_reason_required else "#value")

    def on_mount(self) -> None:
        self._select(0)

    def action_move(self, by: int) -> None:
        self._select(min(max(0, self._selected + by), len(LIMITS) - 1))

    def _select(self, at: int) -> None:
        self._selected, self._error = at, ""
        line, spec = self.query_one("#value", Input), LIMITS[at]
        line.value = ""
        none = ", none" if spec.optional else ""
        line.border_title = Content(f"{spec.key} in {spec.unit}: a value{none}, or “plan” for the plan’s value")
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._error = ""
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        typed = self.query_one("#value", Input).value.strip()
        if typed:
            self._stage(typed)
        else:
            self._send()

    def _stage(self, typed: str) -> None:
        """Stages a value, if it is valid together with the values staged before."""
        record = self._last_shown[0].release.value
        if record is None or record.plan_limits is None:
            return
        try:
            requested = self._staged | parse_requested_limits([f"{LIMITS[self._selected].key}={typed}"])
            apply_tuning(record.plan_limits, record.tuning, requested)
        except PlanError as error:
            self._error = f"{error.title}. Fix: {error.hint}" if error.hint else error.title
        else:
            self._staged = requested
            self.query_one("#value", Input).value = ""
        self._draw()

    def _send(self) -> None:
        board, context = self._last_shown
        text = self._changes_text(board)
        reason = self.query_one("#reason", Input).value.strip() if self._is_reason_required else ""
        self._error = disabled_reason(board, context, CommandKind.TUNE)
        if not self._error and not text:
            self._error = "no pending change: type a value first"
        elif not self._error and self._is_reason_required and not reason:
            self._error = "the plan requires a reason"
            self.query_one("#reason").focus()
        if self._error:
            self._draw()
        else:
            self.dismiss(TuneRequest(self._staged, text, reason))

    def _changes_text(self, board: DashboardState) -> str:
        """The staged changes that have an effect now."""
        record = board.release.value
        if record is None or record.plan_limits is None or not self._staged:
            return ""
        tuning = apply_tuning(record.plan_limits, record.tuning, self._staged)
        return describe_limit_changes(record.plan_limits, record.tuning, tuning) if tuning != record.tuning else ""

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return tune_lines(board, context, cells, self._selected, self._staged)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        typing, text = self.query_one("#value", Input).value.strip(), self._changes_text(board)
        above = wrap(f"pending: {text}", cells, TextStyle.STRONG)[:2] if text else []
        above = wrap(f"✗ {self._error}", cells, TextStyle.BAD) if self._error else above
        enter = "stage" if typing else "send" if text else ""
        return [*above, key_hints_line((("↑ ↓", "select"), ("Enter", enter), ("Esc", "cancel")))]


def tune_lines(
    board: DashboardState, context: RenderContext, cells: int, selected: int, staged: dict[str, object]
) -> list[Line]:
    """One line per limit: effective, the plan's, pending; then the description of the selected limit, and the limits
    that tables have of their own."""
    record = board.release.value
    if record is None or record.plan_limits is None:
        return [(("this release has no backfill, so there are no limits to change", TextStyle.DIM),)]
    plan, limits = record.plan_limits, effective_limits(record.plan_limits, record.tuning)
    pending: Any = effective_limits(plan, apply_tuning(plan, record.tuning, staged))
    name, column = max(len(each.key) for each in LIMITS) + 2, 11
    head = f"  {fit('limit', name)}{fit('effective', column)}{fit('plan', column)}pending"
    where = f", region {board.plan.region}" if board.plan.region else ""
    lines: list[Line] = [
        ((truncate(f"limits of the backfill of {sanitize(board.plan.name)}{where}", cells), TextStyle.STRONG),)
    ]
    lines += reading_age_lines(board, context, cells)
    lines.append(((head, TextStyle.DIM),))
    for at, spec in enumerate(LIMITS):
        effective, planned, staged_value = (
            format_limit(spec.key, getattr(each, spec.key)) for each in (limits, plan, pending)
        )
        line: Line = (
            ("▸ " if at == selected else "  ", TextStyle.KEY),
            (fit(spec.key, name), TextStyle.STRONG if at == selected else TextStyle.NORMAL),
            (fit(effective, column), TextStyle.WARN if effective != planned else TextStyle.NORMAL),
            (fit(planned, column), TextStyle.DIM),
            (f"→ {staged_value}" if staged_value != effective else "", TextStyle.KEY),
        )
        lines.append(clip(line, cells))
    tables = describe_table_limits(plan, limits, record.release.strategy.filled_tables)
    lines += [(), *wrap(LIMITS[selected].help, cells, TextStyle.DIM)]
    return [*lines, *(line for text in tables for line in wrap(sanitize(text), cells, TextStyle.DIM))]
