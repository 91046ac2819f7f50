"""Help: the keys that work where the operator is, then every other key, and what the signs mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, fit, wrap
from zdd_tui.model.actions import ACTIONS, Action, Danger, key_name

_SIGNS = (
    ("✔ pass, done", "✗ fail, failed, overdue", "~ inconclusive, estimated"),
    ("? unknown: no data, or older than its limit",),
    ("▶ running", "◆ waiting", "‖ paused", "◀ rolling back", "◁ undone", "○ not begun"),
    ("● Serving", "◐ Warming", "○ Starting", "▽ Draining", "▼ Stopping", "· Gone"),
    ("◇ Warm: ready, without traffic", "▁▂▅█ guard: full is the limit, or above"),
)


_REGISTRY = frozenset(each.binding_id for each in ACTIONS)

_NAMES = 20
"""Cells of key and name."""


@dataclass(frozen=True, slots=True)
class Section:
    """The keys of the focused pane, or of the screen.

    Attributes:
        hints: names of keys, and what they do.
    """

    title: str
    hints: tuple[tuple[str, str], ...]


class HelpScreen(Acting[None], ModalScreen[None], HasPage):
    """A page to read.

    Args:
        here: the keys that work where the help was asked for.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False, id="help.close"),
    ]

    CSS = DIALOG_CSS.format(name="HelpScreen")

    def __init__(self, board: Board, moment: Moment, here: Sequence[Section] = ()) -> None:
        super().__init__()
        self._shown = (board, moment)
        self._here = here

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            yield Keys()

    def on_mount(self) -> None:
        page = self.query_one(Page)
        page.focus()
        page.show(*self._shown)
        self.query_one(Keys).show(*self._shown)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return help_lines(moment, cells, self._here)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [(("↑ ↓", Tone.KEY), (" scroll   ", Tone.NORMAL), ("Esc", Tone.KEY), (" close", Tone.NORMAL))]


def sections(screen: Screen[Any]) -> tuple[Section, ...]:
    """The keys of the focused pane and of the screen, as they are now, remapped ones too.

    Those of the registry are left out: they follow below with all that is to be said about them.
    """
    found: dict[str, dict[str, tuple[list[str], str]]] = {}
    for key, active in screen.active_bindings.items():
        binding = active.binding
        if not binding.id or binding.id.startswith(("zdd.", "app.")):
            continue
        if isinstance(active.node, Acting) and binding.id in _REGISTRY:
            continue  # a pane's own, to be had without going there first
        title = f"in {_name(active.node)}"
        keys, _ = found.setdefault(title, {}).setdefault(binding.id, ([], binding.description))
        keys.append(key_name(key))
    return tuple(
        Section(title, tuple((" ".join(keys), told) for keys, told in hints.values())) for title, hints in found.items()
    )


def _name(node: object) -> str:
    """``pods`` of a pane, ``this screen`` of a screen."""
    named = getattr(node, "name_of_pane", "")
    return f"the pane {named}" if named else "this screen" if isinstance(node, Screen) else "this page"


def help_lines(moment: Moment, cells: int, here: Sequence[Section] = ()) -> list[Line]:
    lines: list[Line] = []
    for section in here:
        lines.append(((section.title, Tone.DIM),))
        for key, told in section.hints:
            lines += _hint(key, "", told, cells)
        lines.append(())
    lines.append((("everywhere", Tone.DIM),))
    lines += _actions([each for each in ACTIONS if each.everywhere], moment, cells)
    lines += [(), (("on the main screen", Tone.DIM),)]
    lines += _actions([each for each in ACTIONS if not each.everywhere and not each.on_panes], moment, cells)
    lines += [(), (("among its panes, and in the one that has the focus, or else in the first", Tone.DIM),)]
    lines += _actions([each for each in ACTIONS if each.on_panes], moment, cells)
    lines += wrap("Arrows and pages scroll a pane, Enter opens a row; ? there tells all of its keys.", cells)
    if moment.access.guarded:
        lines += [(), *wrap(_LOCK.format_map(moment.keys), cells)]
    lines += [(), (("signs", Tone.DIM),)]
    lines += [line for row in _SIGNS for line in wrap("   ".join(row), cells)]
    told = "The release is carried out by the agent: closing this screen, or losing it, stops nothing."
    return [*lines, (), *wrap(told, cells)]


_LOCK = (
    "Production opens locked: {unlock} asks for the environment’s name, and the keys that change the release are there"
    " until the header has counted down. {rollback} (in a text field ctrl+r) works while it is locked too; its dialog"
    " asks for the environment’s name then."
)

_ASKS = {Danger.PLAIN: "", Danger.CONFIRM: " Asks first.", Danger.TYPE_NAME: " Asks for the release’s name."}


def _actions(among: Sequence[Action], moment: Moment, cells: int) -> list[Line]:
    return [
        line
        for each in among
        if moment.access.shows(each, moment.now)
        for line in _hint(moment.keys[each.id], each.label, f"{each.help}{_ASKS[each.danger]}", cells)
    ]


def _hint(key: str, label: str, told: str, cells: int) -> list[Line]:
    """Key, name, and what it does over as many lines as it needs."""
    head: Line = (
        ((fit(key, 8), Tone.KEY), (fit(label, _NAMES - 8), Tone.STRONG)) if label else ((fit(key, _NAMES), Tone.KEY),)
    )
    first, *rest = wrap(told, cells - _NAMES)
    return [(*head, *first), *(((" " * _NAMES, Tone.NORMAL), *line) for line in rest)]
