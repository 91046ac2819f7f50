"""The one registry of what an operator can do: it feeds key bindings, footer, palette, help and the CLI."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType


class Confirmation(StrEnum):
    """How an action is confirmed."""

    NONE = "plain"
    DIALOG = "confirm"
    TYPED_NAME = "type-name"


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator can do.

    Attributes:
        id: stable name; also the CLI's verb where ``has_cli_command`` is true.
        key: Textual's names of the default keys, the first of which is shown; two actions may share one where only
            one of them can be had at a time.
        label: what the footer says beside the key.
        mutating: it changes the release; hidden in read-only, and while production is locked.
        available_while_locked: the way back: also there while production is locked.
        is_global: its key works on every screen, not only on the main one.
        group: the footer tells neighbours of one group together, by this word.
        command: what a mutating action sends to the agent; its id unless said otherwise.
        is_pane_action: it moves among the main screen's panes, or does something in the one that has the focus.
        pane: the name of the pane that it goes to.
        binding_name: its name in a keymap file where it is not the usual one.
        hidden_in_footer: the footer never tells it.
        cli_help_suffix: what the help of the command line's verb of its name adds; there is no such verb where it is empty, and
            ``has_cli_command`` is false.
    """

    id: str
    key: str
    label: str
    help: str
    confirmation: Confirmation = Confirmation.NONE
    mutating: bool = False
    has_cli_command: bool = False
    available_while_locked: bool = False
    is_global: bool = False
    group: str = ""
    command: str = ""
    is_pane_action: bool = False
    pane: str = ""
    binding_name: str = ""
    hidden_in_footer: bool = False
    cli_help_suffix: str = ""

    @property
    def command_kind(self) -> str:
        """The kind of command that it sends; empty where it sends none."""
        return self.command or (self.id if self.mutating else "")

    @property
    def binding_id(self) -> str:
        """Its name in a keymap file, beside the bindings of panes and dialogs."""
        return self.binding_name or f"zdd.{self.id}"

    @property
    def cli_help(self) -> str:
        """What the command line says of the verb of its name."""
        return f"{self.help} {self.cli_help_suffix}".rstrip()


def _focus_pane_action(pane: str, key: str, help_text: str) -> Action:
    """To a pane of the main screen."""
    return Action(f"to-{pane}", key, f"to {pane}", f"To {help_text}", is_pane_action=True, pane=pane, group="panes")


def _pane_action(
    action_id: str, key: str, help_text: str, binding_scope: str = "", *, label: str = "", hidden_in_footer: bool = True
) -> Action:
    """Something in the pane that has the focus, or else in the first; a pane's own binding where it has a place."""
    binding = f"{binding_scope}.{action_id}" if binding_scope else ""
    return Action(
        action_id,
        key,
        label or action_id,
        f"{help_text}.",
        is_pane_action=True,
        binding_name=binding,
        hidden_in_footer=hidden_in_footer,
    )


ACTIONS: tuple[Action, ...] = (
    Action(
        "advance",
        "a",
        "advance",
        "Run the next phase (or the failed step again). Gates permitting.",
        Confirmation.DIALOG,
        mutating=True,
        has_cli_command=True,
    ),
    Action(
        "pause",
        "p",
        "pause",
        "Pause: the backfill stops within one batch and no further step begins.",
        mutating=True,
        has_cli_command=True,
    ),
    Action("resume", "p", "resume", "Resume what was paused.", mutating=True, has_cli_command=True),
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
        Confirmation.DIALOG,
        mutating=True,
        cli_help_suffix="They are kept with the release; the plan is not changed. Without key=value: show the limits that hold.",
    ),
    # A text field takes R for a letter; ctrl+r reaches the way back from there too.
    Action(
        "rollback",
        "R,ctrl+r",
        "rollback",
        "Undo every step in reverse order, back to where the release began.",
        Confirmation.DIALOG,
        mutating=True,
        has_cli_command=True,
        available_while_locked=True,
        is_global=True,
    ),
    Action(
        "unlock",
        "u",
        "unlock",
        "Unlock production for a while; asks for the environment’s name.",
        is_global=True,
    ),
    Action("lock", "u", "lock", "Lock production again at once.", is_global=True),
    Action(
        "palette",
        "colon",
        "command",
        "Find any action by some letters of its name, and run it.",
        is_global=True,
    ),
    Action("help", "question_mark", "help", "Show the keys that work here, then every other key.", is_global=True),
    Action("quit", "q", "quit", "Leave the dashboard. The agent and the release go on."),
    Action("details", "e", "details", "Show errors, refused commands, gates, sources and events in full."),
    Action(
        "doctor",
        "d",
        "doctor",
        "Look for the seven pitfalls, and prove the release checklist.",
        cli_help_suffix="Exit code 1 where something fails.",
    ),
    Action(
        "copy",
        "y",
        "copy",
        "Copy the row under the cursor, the focused pane or the page to your clipboard.",
        is_global=True,
    ),
    Action("timeline", "T", "timeline", "Everything that has happened, phase by phase and try by try.", group="more"),
    Action("topology", "V", "topology", "Where traffic and data go now, and what is next.", group="more"),
    Action("gates", "G", "gates", "What each gate asks, of whom, and what came back.", group="more"),
    Action("backfill-detail", "B", "backfill", "Ranges, failed rows, the batch’s SQL and its plan.", group="more"),
    Action("plan", "P", "plan", "The plan as stored, and how the file differs from it.", group="more"),
    _focus_pane_action("pods", "1", "the pods: state, drain, restarts; Enter opens one, with its log."),
    _focus_pane_action("backfill", "2", "the backfill: how far, how fast, what holds it back."),
    _focus_pane_action("flags", "3", "the flags: value, since when, until when."),
    _focus_pane_action(
        "guard", "4", "the guard: each rule’s value beside its limit; Enter opens what it asks and would do."
    ),
    _focus_pane_action("events", "5", "the audit, newest first."),
    _focus_pane_action("gates", "6", "the gates of every phase: verdict, age, reason; Enter opens what one asks."),
    _pane_action(
        "filter",
        "slash",
        "Filter the rows by text, !text, column:pattern or label:k=v",
        "table",
        hidden_in_footer=False,
    ),
    _pane_action("sort", "s", "Sort by the next column, and behind the last in the table’s own order", "table"),
    _pane_action("reverse", "S", "Reverse the order", "table"),
    _pane_action("maximise", "z", "This pane alone, and back", "pane", label="zoom"),
    _pane_action("next-pane", "tab", "To the next pane", label="next"),
    _pane_action("previous-pane", "shift+tab", "To the pane before", label="previous"),
)


def find_action(action_id: str) -> Action:
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
    return KEY_NAMES.get(first) or _symbol_of_unicode_name(first) or first


def _symbol_of_unicode_name(name: str) -> str:
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
