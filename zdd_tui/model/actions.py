"""The one registry of what an operator can do: it feeds key bindings, footer, palette, help and the CLI."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType


class Danger(StrEnum):
    """How an action is confirmed."""

    PLAIN = "plain"
    CONFIRM = "confirm"
    TYPE_NAME = "type-name"


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator can do.

    Attributes:
        id: stable name; also the CLI's verb where ``verb`` is true.
        key: Textual's names of the default keys, the first of which is shown; two actions may share one where only
            one of them can be had at a time.
        label: what the footer says beside the key.
        mutating: it changes the release; hidden in read-only, and while production is locked.
        always: the way back: also there while production is locked.
        everywhere: its key works on every screen, not only on the main one.
        group: the footer tells neighbours of one group together, by this word.
        command: what a mutating action sends to the agent; its id unless said otherwise.
        on_panes: it moves among the main screen's panes, or does something in the one that has the focus.
        pane: the name of the pane that it goes to.
        binding: its name in a keymap file where it is not the usual one.
        quiet: the footer never tells it.
        cli: what the help of the command line's verb of its name adds; there is no such verb where it is empty, and
            ``verb`` is false.
    """

    id: str
    key: str
    label: str
    help: str
    danger: Danger = Danger.PLAIN
    mutating: bool = False
    verb: bool = False
    always: bool = False
    everywhere: bool = False
    group: str = ""
    command: str = ""
    on_panes: bool = False
    pane: str = ""
    binding: str = ""
    quiet: bool = False
    cli: str = ""

    @property
    def sends(self) -> str:
        """The kind of command that it sends; empty where it sends none."""
        return self.command or (self.id if self.mutating else "")

    @property
    def binding_id(self) -> str:
        """Its name in a keymap file, beside the bindings of panes and dialogs."""
        return self.binding or f"zdd.{self.id}"

    @property
    def cli_help(self) -> str:
        """What the command line says of the verb of its name."""
        return f"{self.help} {self.cli}".rstrip()


def _to(pane: str, key: str, told: str) -> Action:
    """To a pane of the main screen."""
    return Action(f"to-{pane}", key, f"to {pane}", f"To {told}", on_panes=True, pane=pane, group="panes")


def _in_pane(each: str, key: str, told: str, place: str = "", *, label: str = "", quiet: bool = True) -> Action:
    """Something in the pane that has the focus, or else in the first; a pane's own binding where it has a place."""
    binding = f"{place}.{each}" if place else ""
    return Action(each, key, label or each, f"{told}.", on_panes=True, binding=binding, quiet=quiet)


ACTIONS: tuple[Action, ...] = (
    Action(
        "advance",
        "a",
        "advance",
        "Run the next phase (or the failed step again). Gates permitting.",
        Danger.CONFIRM,
        mutating=True,
        verb=True,
    ),
    Action(
        "pause",
        "p",
        "pause",
        "Pause: the backfill stops within one batch and no further step begins.",
        mutating=True,
        verb=True,
    ),
    Action("resume", "p", "resume", "Resume what was paused.", mutating=True, verb=True),
    Action(
        "slower",
        "left_square_bracket",
        "slower",
        "Slow the backfill down by one step of its speed; in force within one batch.",
        mutating=True,
        group="speed",
        command="tune",
    ),
    Action(
        "faster",
        "right_square_bracket",
        "faster",
        "Let the backfill go faster by one step, up to what its throttle allows.",
        mutating=True,
        group="speed",
        command="tune",
    ),
    Action(
        "tune",
        "t",
        "tune",
        "Show the limits of the backfill, and change them while it runs: in force within one batch, and audited.",
        Danger.CONFIRM,
        mutating=True,
        cli="They are kept with the release; the plan is not changed. Without key=value: show the limits that hold.",
    ),
    # A text field takes R for a letter; ctrl+r reaches the way back from there too.
    Action(
        "rollback",
        "R,ctrl+r",
        "rollback",
        "Undo every step in reverse order, back to where the release began.",
        Danger.CONFIRM,
        mutating=True,
        verb=True,
        always=True,
        everywhere=True,
    ),
    Action(
        "unlock",
        "u",
        "unlock",
        "Unlock production for a while; asks for the environment’s name.",
        everywhere=True,
    ),
    Action("lock", "u", "lock", "Lock production again at once.", everywhere=True),
    Action(
        "palette",
        "colon",
        "command",
        "Find any action by some letters of its name, and run it.",
        everywhere=True,
    ),
    Action("help", "question_mark", "help", "Show the keys that work here, then every other key.", everywhere=True),
    Action("quit", "q", "quit", "Leave the dashboard. The agent and the release go on."),
    Action("details", "e", "details", "Show errors, refused commands, gates, sources and events in full."),
    Action(
        "doctor",
        "d",
        "doctor",
        "Look for the seven pitfalls, and prove the release checklist.",
        cli="Exit code 1 where something fails.",
    ),
    Action(
        "copy",
        "y",
        "copy",
        "Copy the row under the cursor, the focused pane or the page to your clipboard.",
        everywhere=True,
    ),
    Action("timeline", "T", "timeline", "Everything that has happened, phase by phase and try by try.", group="more"),
    Action("picture", "V", "picture", "Draw the strategy: where traffic and data go now, what is next.", group="more"),
    Action("gates", "G", "gates", "What each gate asks, of whom, and what came back.", group="more"),
    Action("backfill-detail", "B", "backfill", "Ranges, failed rows, the batch’s SQL and its plan.", group="more"),
    Action("plan", "P", "plan", "The plan as stored, and how the file differs from it.", group="more"),
    _to("pods", "1", "the pods: state, drain, restarts; Enter opens one, with its log."),
    _to("backfill", "2", "the backfill: how far, how fast, what holds it back."),
    _to("flags", "3", "the flags: value, since when, until when."),
    _to("guard", "4", "the guard: each rule’s value beside its limit; Enter opens what it asks and would do."),
    _to("events", "5", "the audit, newest first."),
    _to("gates", "6", "the gates of every phase: verdict, age, reason; Enter opens what one asks."),
    _in_pane("filter", "slash", "Filter the rows by text, !text, column:pattern or label:k=v", "table", quiet=False),
    _in_pane("sort", "s", "Sort by the next column, and behind the last in the table’s own order", "table"),
    _in_pane("reverse", "S", "Reverse the order", "table"),
    _in_pane("maximise", "z", "This pane alone, and back", "pane", label="zoom"),
    _in_pane("next-pane", "tab", "To the next pane", label="next"),
    _in_pane("previous-pane", "shift+tab", "To the pane before", label="previous"),
)


def action(action_id: str) -> Action:
    """Looks an action up.

    Raises:
        KeyError: there is none of that id.
    """
    for candidate in ACTIONS:
        if candidate.id == action_id:
            return candidate
    raise KeyError(action_id)


KEY_NAMES = {
    "question_mark": "?",
    "colon": ":",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "slash": "/",
    "full_stop": ".",
    "comma": ",",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "plus": "+",
    "minus": "-",
    "underscore": "_",
    "backslash": "\\",
    "at": "@",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "shift+tab": "S-Tab",
    "space": "Space",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
}


def key_name(keys: str) -> str:
    """How the first of some keys is written on screen: ``?`` for ``question_mark``."""
    first = keys.split(",", maxsplit=1)[0].strip()
    return KEY_NAMES.get(first) or _sign(first) or first


def _sign(name: str) -> str:
    """``;`` for ``semicolon``: such keys are named as Unicode names their signs."""
    try:
        sign = unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return ""
    return sign if sign.isprintable() and not sign.isalnum() and not sign.isspace() else ""


@cache
def default_keys() -> Mapping[str, str]:
    """What each action's key is called on screen, by the action's id."""
    return MappingProxyType({each.id: key_name(each.key) for each in ACTIONS})
