"""A framed view of one source. Once the source is too old, the title shows STALE and its age."""

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    format_age,
    sanitize,
    wrap,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ActionClicked, LineView
from zdd_tui.model.actions import ACTIONS


def pane_bindings(place: str) -> tuple[Binding, ...]:
    """Bindings from the action registry: ``pane`` for every pane, ``table`` for tables."""
    return tuple(
        Binding(each.key, each.id, each.help.removesuffix("."), show=False, id=each.binding_id)
        for each in ACTIONS
        if each.binding_name.startswith(f"{place}.")
    )


def name_with_key(name: str, keys: Mapping[str, str], focused_as: str = "") -> str:
    """``1:pods``; the name alone where no key focuses the pane or opens its screen.

    Args:
        keys: name of each action's key, by the action's id.
        focused_as: the pane in whose place it is, and whose key it has; empty for its own.
    """
    key = keys.get(f"to-{focused_as or name}", keys.get(name, "-"))
    return name if key == "-" else f"{key}:{name}"


def missing_pane_reason(board: DashboardState, pane: str) -> str:
    """Why the release has no such pane; empty where it has."""
    plan = board.plan
    has_pane = {"backfill": board.has_backfill, "flags": plan.has_flags, "guard": bool(plan.rule_names)}
    return "" if has_pane.get(pane, True) else f"this plan has no {pane}"


class RowSelected(Message):
    """Enter on a row of a pane; the application opens the row's screen.

    Attributes:
        pane: the pane's name: ``pods``, ``backfill``, ``flags``, ``guard``, ``gates``, ``events`` or ``failed rows``.
        identity: a pod's uid, a flag's key, a rule's name, a gate's phase and name, an event's id, a failed
            row's key; empty where the pane has no rows.
        row: the value as shown: a Pod, FlagView, GuardReading, GateRow, Event or FailedRow; None without
            rows.
        search: open the screen with its search field.
    """

    def __init__(self, pane: str, identity: str, row: object = None, *, search: bool = False) -> None:
        super().__init__()
        self.pane = pane
        self.identity = identity
        self.row = row
        self.search = search


class Pane(LineView, can_focus=True):
    """A frame with a title. Tab focuses it; arrow and page keys scroll it. Its source is the release by default."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False, id="pane.up"),
        Binding("down,j", "scroll_down", "Down", show=False, id="pane.down"),
        Binding("pageup", "page_up", "Page up", show=False, id="pane.page-up"),
        Binding("pagedown", "page_down", "Page down", show=False, id="pane.page-down"),
        Binding("home", "scroll_home", "Top", show=False, id="pane.top"),
        Binding("end", "scroll_end", "End", show=False, id="pane.end"),
        Binding("enter", "open", "Open the row", show=False, id="pane.open"),
        *pane_bindings("pane"),
        Binding("escape", "back", "Back: filter, maximised pane, focus", show=False, id="pane.back"),
    ]

    DEFAULT_CSS = """
    Pane {
        height: 1fr;
        border: round $foreground 60%;
        border-title-color: $foreground;
        border-subtitle-color: $foreground;
        padding: 0 1;
        &:focus { border: heavy $secondary; }
        &.-stale { border: dashed $warning; }
    }
    """

    class Maximise(Message):
        """Asks to maximise this pane, or to restore it."""

        def __init__(self, pane: "Pane") -> None:
            super().__init__()
            self.pane = pane

    pane_name: ClassVar[str] = ""

    focused_as: ClassVar[str] = ""
    """The pane in whose place it is, and whose key it has; empty for a place of its own."""

    title_action: ClassVar[str] = ""
    """Id of the action that a click on the title runs; empty: it maximises the pane."""

    stale_after: float = RELEASE_STALE_SECONDS
    """Seconds after which the source is stale, where that does not depend on the state."""

    def source(self, board: DashboardState) -> Observed[object]:
        """The source whose age the title shows once it is stale."""
        return board.release

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return (self.source(board),)

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        """The title after name and age; a narrow pane cuts it off."""
        return ""

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        """The values may be out of date, and are dimmed."""
        source = self.source(board)
        return bool(source.error) or source.is_stale(context.now, self.stale_limit(board, context))

    def stale_limit(self, board: DashboardState, context: RenderContext) -> float:
        """Seconds after which the source is stale now."""
        return self.stale_after

    def stale_text(self, board: DashboardState, context: RenderContext) -> str:
        """``STALE 12s`` once the source is too old, for title and frame; else empty."""
        source = self.source(board)
        age = source.age(context.now)
        stale = source.value is not None and source.is_stale(context.now, self.stale_limit(board, context))
        return f"STALE {format_age(age)}" if stale and age is not None else ""

    def title(self, board: DashboardState, context: RenderContext) -> str:
        """Name, age once the source is stale, and heading."""
        stale, heading = self.stale_text(board, context), self.heading(board, context)
        name = name_with_key(self.pane_name, context.key_names, self.focused_as)
        return f"{name}{stale and f' {stale}'}{f' · {heading}' if heading else ''}"

    def draw(self, board: DashboardState, context: RenderContext) -> None:
        super().draw(board, context)
        is_stale = bool(self.stale_text(board, context))
        if self.has_class("-stale") is not is_stale:
            self.set_class(is_stale, "-stale")
        self._update_title(self.title(board, context))

    def __init__(self) -> None:
        super().__init__()
        self._shown_title = ""
        self._shown_position = ""

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_open(self) -> None:
        self.post_message(RowSelected(self.pane_name, ""))

    def on_click(self, event: events.Click) -> None:
        """A click on the title opens the pane's screen; a pane without one is maximised, or restored."""
        if event.y == 0 and event.get_content_offset(self) is None:
            if self.title_action:
                self.post_message(ActionClicked(self.title_action))
            else:
                self.action_maximise()

    def action_maximise(self) -> None:
        self.post_message(self.Maximise(self))

    @property
    def is_maximised(self) -> bool:
        """It takes the place of all panes; its container sets the class."""
        return self.has_class("-maximised")

    def action_back(self) -> None:
        """Leaves the maximised state first, then the focus."""
        if self.is_maximised:
            self.action_maximise()
        else:
            self.screen.set_focus(None)

    # --- frame -------------------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._update_position()

    def _update_title(self, title: str) -> None:
        if title != self._shown_title:
            self._shown_title = title
            with self.without_refresh():  # else the whole pane is painted for each second that its source ages
                self.border_title = Content(sanitize(title))
            across, down = self.content_offset
            self.request_paint(Region(-across, -down, self.outer_size.width, 1))
        self._update_position()

    def position_text(self) -> str:
        """Range of the visible lines; empty where all are visible."""
        rows, total, first = self.content_size.height, len(self._lines), int(self.scroll_offset.y)
        return f"{first + 1}-{min(total, first + rows)} of {total} ↕" if rows and total > rows else ""

    def _update_position(self) -> None:
        position = self.position_text()
        if position != self._shown_position:
            self._shown_position = position
            with self.without_refresh():
                self.border_subtitle = Content(sanitize(position)) if position else None
            across, down = self.content_offset
            self.request_paint(Region(-across, self.outer_size.height - down - 1, self.outer_size.width, 1))


def unread_source_lines(board: DashboardState, source: Observed[object], cells: int) -> list[Line]:
    """Shown while a source has no value."""
    if source is board.release and board.is_not_started:
        return [(("no release yet", TextStyle.DIM),)]
    return wrap(f"✗ {source.error}", cells, TextStyle.BAD) if source.error else [(("… connecting", TextStyle.DIM),)]
