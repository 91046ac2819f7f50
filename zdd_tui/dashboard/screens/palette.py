"""The palette: search actions by name, with their keys, and why an action is not possible now."""

import re
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.fuzzy import Matcher
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ActionRequested
from zdd_tui.dashboard.screens.dialog import Dialog, PageView, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import action_disabled_reason, offered_actions
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    fit,
    line_width,
    truncate,
    truncate_to_clauses,
    wrap,
)
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.actions import Action


@dataclass(frozen=True, slots=True)
class PaletteEntry:
    """One action in the palette.

    Attributes:
        disabled_reason: why it would be refused now; empty when it would be accepted.
    """

    action: Action
    disabled_reason: str = ""


class PaletteScreen(Dialog[None]):
    """Type to search, select with the arrows, run with Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", show=False, id="palette.close"),
        Binding("up", "move(-1)", "Previous", show=False, id="palette.up"),
        Binding("down", "move(1)", "Next", show=False, id="palette.down"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        super().__init__(board, context)
        self._matches: tuple[PaletteEntry, ...] = palette_entries(board, context)
        self._selected = 0

    def compose_dialog(self) -> ComposeResult:
        yield TextField(placeholder="Search actions")
        yield from super().compose_dialog()

    def show(self, board: DashboardState, context: RenderContext) -> None:
        """Follows the state: possible actions change while the palette is open; the selection stays on its action."""
        self._last_shown = (board, context)
        selected_id = self._matches[self._selected].action.id if self._matches else ""
        self._matches = filter_entries(palette_entries(board, context), self.query_one(Input).value)
        self._selected = next((at for at, each in enumerate(self._matches) if each.action.id == selected_id), 0)
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._matches, self._selected = filter_entries(palette_entries(*self._last_shown), event.value), 0
        self.query_one(PageView).scroll_home(animate=False)
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._matches:
            selected_id = self._matches[self._selected].action.id
            self.dismiss(None)
            self.app.post_message(ActionRequested(selected_id))

    def action_move(self, by: int) -> None:
        if self._matches:
            self._selected = min(max(0, self._selected + by), len(self._matches) - 1)
            page = self.query_one(PageView)
            first, rows = int(page.scroll_offset.y), page.content_size.height
            if not first <= self._selected < first + rows:
                page.scroll_to(y=self._selected if by < 0 else self._selected - rows + 1, animate=False)
            self._draw()

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if not self._matches:
            return [(("no action matches", TextStyle.DIM),)]
        return [
            _entry_line(each, context, cells, selected=at == self._selected) for at, each in enumerate(self._matches)
        ]

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        hints = [
            ("↑ ↓", "select"),
            ("Enter", "run"),
            ("Esc", "close"),
            (self.key_label("rollback"), "rollback"),
        ]
        reason = _full_reason_lines(self._matches[self._selected], cells) if self._matches else []
        return [*reason, key_hints_line(hints)]


def _full_reason_lines(entry: PaletteEntry, cells: int) -> list[Line]:
    """The reason or help of the selected action in full, in at most three lines."""
    text = f"✗ {entry.disabled_reason}" if entry.disabled_reason else entry.action.help
    return wrap(text, cells, TextStyle.WARN if entry.disabled_reason else TextStyle.DIM)[:3]


def palette_entries(board: DashboardState, context: RenderContext) -> tuple[PaletteEntry, ...]:
    """Every action that exists now, in the registry's order; of a release that has ended, first what is possible."""
    record = board.release.value
    entries = tuple(
        PaletteEntry(each, action_disabled_reason(board, context, each))
        for each in offered_actions(board, context)
        if each.id != "palette"
    )
    if record is None or not record.release.state.has_ended:
        return entries
    return tuple(sorted(entries, key=lambda entry: bool(entry.disabled_reason)))


def filter_entries(entries: tuple[PaletteEntry, ...], query: str) -> tuple[PaletteEntry, ...]:
    """Entries whose name has the letters in this order, or whose help has the query, the best match first; all for an
    empty query.

    A name of which a word begins with the query is before every other: Enter runs the first one.
    """
    wanted = query.strip().lower()
    if not wanted:
        return entries
    match = Matcher(wanted).match

    def score(entry: PaletteEntry) -> tuple[bool, float]:
        action = entry.action
        begins = any(word.startswith(wanted) for word in re.split(r"[\s-]+", f"{action.label} {action.id}".lower()))
        in_help = 0.5 if wanted in action.help.lower() else 0.0
        return begins, max(match(action.label), match(action.id), in_help)

    return tuple(each for each in sorted(entries, key=score, reverse=True) if score(each) > (False, 0.0))


def _entry_line(entry: PaletteEntry, context: RenderContext, cells: int, *, selected: bool) -> Line:
    """``▸ a  advance   Run the next phase``; the reason in place of the help where it is not possible."""
    each = entry.action
    key = context.key_names.get(each.id, "")
    head: Line = (
        ("▸ " if selected else "  ", TextStyle.KEY),
        (fit(key, 8), TextStyle.KEY),
        (fit(each.label, 12), TextStyle.STRONG if not entry.disabled_reason else TextStyle.DIM),
    )
    room = cells - line_width(head)
    if entry.disabled_reason:
        return (*head, (truncate(f"✗ {entry.disabled_reason}", room), TextStyle.WARN))
    return clip((*head, (truncate_to_clauses(each.help, room), TextStyle.NORMAL)), cells)
