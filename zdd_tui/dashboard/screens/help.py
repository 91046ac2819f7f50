"""Help: the keys that work on the current screen, then every other key, and the legend."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from zdd_tui.dashboard.screens.base import ActionScreen
from zdd_tui.dashboard.screens.dialog import Dialog, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, fit, hang, wrap
from zdd_tui.model.actions import ACTIONS, Action, Confirmation, key_name

_LEGEND = (
    ("✔ pass, done", "✗ fail, failed, overdue", "~ inconclusive, estimated"),
    ("◆ pending: not finished yet", "? unknown: no data, or older than its limit"),
    ("▶ running", "◆ waiting", "‖ paused", "◀ rolling back", "◁ reverted", "○ not started"),
    ("● Serving", "◐ Warming", "○ Starting", "✗ Not ready", "▽ Draining", "▼ Stopping", "· Gone"),
    ("◇ Standby: ready, no traffic", "▁▂▅█ guard: full is at or above the limit"),
    ("charts: ⠒ new version", "○ old version", "╍ limit"),
)


_ACTION_BINDING_IDS = frozenset(each.binding_id for each in ACTIONS)

_MAX_NAME_WIDTH = 20
"""Width of key and name in cells."""


HelpSections = Mapping[str, Sequence[tuple[str, str]]]
"""Names of keys and their effects, by the title of a section: of the focused pane, and of the screen."""


class HelpScreen(Dialog[None]):
    """A page of keys and glyphs.

    Args:
        sections: the keys of the screen on which help was opened.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False, id="help.close"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext, sections: HelpSections) -> None:
        super().__init__(board, context)
        self._sections = sections

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return help_lines(context, cells, self._sections)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [key_hints_line((("↑ ↓", "scroll"), ("Esc", "close")))]


def help_sections(screen: Screen[Any]) -> HelpSections:
    """The current keys of the focused pane and of the screen, remapped ones included.

    Those of the registry are left out: the help page lists them with their descriptions.
    """
    sections: dict[str, dict[str, tuple[list[str], str]]] = {}
    for key, active in screen.active_bindings.items():
        binding = active.binding
        if not binding.id or binding.id.startswith(("zdd.", "app.")):
            continue
        if isinstance(active.node, ActionScreen) and binding.id in _ACTION_BINDING_IDS:
            continue  # an action of a pane, which the help page lists
        title = _node_label(active.node)
        keys, _ = sections.setdefault(title, {}).setdefault(binding.id, ([], binding.description))
        keys.append(key_name(key))
    return {title: [(" ".join(keys), text) for keys, text in hints.values()] for title, hints in sections.items()}


def _node_label(node: object) -> str:
    """``in the pane pods``, ``on this screen``."""
    named = getattr(node, "pane_name", "")
    return f"in the pane {named}" if named else "on this screen" if isinstance(node, Screen) else "on this page"


def help_lines(context: RenderContext, cells: int, sections: HelpSections) -> list[Line]:
    lines: list[Line] = []
    is_locked = context.production_lock.is_locked(context.now)
    lock = wrap(_LOCK_TEXT.format_map(context.key_names), cells) if context.production_lock.guarded else []
    if is_locked:  # the list below is not complete
        lines += [*lock, ()]
    for title, hints in sections.items():
        lines.append(((title, TextStyle.DIM),))
        for key, text in hints:
            lines += _hint_lines(key, "", text, cells)
        lines.append(())
    lines.append((("everywhere", TextStyle.DIM),))
    lines += _action_lines([each for each in ACTIONS if each.is_global], context, cells)
    lines += [(), (("on the main screen", TextStyle.DIM),)]
    own = [each for each in ACTIONS if not (each.is_global or each.is_pane_action or each.opens_detail)]
    lines += _action_lines(own, context, cells)
    lines += [(), (("on the main screen and on every detail screen; Esc goes back", TextStyle.DIM),)]
    lines += _action_lines([each for each in ACTIONS if each.opens_detail], context, cells)
    lines += [(), (("in the panes: in the focused one, else in the first", TextStyle.DIM),)]
    lines += _action_lines([each for each in ACTIONS if each.is_pane_action], context, cells)
    lines += wrap("Arrow and page keys scroll a pane, Enter opens a row; ? in the pane shows all of its keys.", cells)
    lines += [(), (("mouse", TextStyle.DIM),), *wrap(_MOUSE_TEXT.format_map(context.key_names), cells)]
    lines += [] if is_locked or not lock else [(), *lock]
    lines += [(), (("legend", TextStyle.DIM),)]
    lines += [line for row in _LEGEND for line in wrap("   ".join(row), cells)]
    text = "The agent runs the release: closing this screen, or losing it, stops nothing."
    return [*lines, (), *wrap(text, cells)]


_MOUSE_TEXT = (
    "Click a key in the last line, a row (twice opens it), a column’s title to sort, a pane’s title or the line of"
    " phases to open its screen; the wheel scrolls. No click confirms a dialog. To select text, hold Shift while you"
    " drag (Option in iTerm2, Fn in Terminal of macOS); {copy} copies without the mouse."
)

_LOCK_TEXT = (
    "Production is locked at start, and keys that change the release are not listed. {unlock} and the environment name"
    " unlock them until the countdown in the header ends. {rollback} (in a text field ctrl+r) works while locked too;"
    " its dialog then asks for the environment name."
)

_CONFIRMATION_TEXTS = {
    Confirmation.NONE: "",
    Confirmation.DIALOG: " Confirmation required.",
    Confirmation.TYPED_NAME: " Type the release name to confirm.",
}


def _action_lines(actions: Sequence[Action], context: RenderContext, cells: int) -> list[Line]:
    return [
        line
        for each in actions
        if context.production_lock.is_available(each, context.now)
        for line in _hint_lines(
            context.key_names[each.id], each.label, f"{each.help}{_CONFIRMATION_TEXTS[each.confirmation]}", cells
        )
    ]


def _hint_lines(key: str, label: str, text: str, cells: int) -> list[Line]:
    """Key, name, and the effect over as many lines as needed."""
    head: Line = (
        ((fit(key, 8), TextStyle.KEY), (fit(label, _MAX_NAME_WIDTH - 8), TextStyle.STRONG))
        if label
        else ((fit(key, _MAX_NAME_WIDTH), TextStyle.KEY),)
    )
    return hang(head, wrap(text, cells - _MAX_NAME_WIDTH))
