"""The registry of operator actions: it feeds key bindings, footer, palette, help and the CLI."""

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
    """An operator action.

    Attributes:
        id: stable name; also the CLI's verb where ``has_cli_command`` is true.
        key: Textual's names of the default keys, the first of which is shown; two actions may share one where only
            one of them is available at a time.
        label: the footer's text beside the key.
        mutating: it changes the release; hidden in read-only, and while production is locked.
        has_cli_command: its id is also a verb of the command line that sends its command.
        available_while_locked: it stays available while production is locked.
        is_global: its key works on every screen, not only on the main one.
        opens_detail: it opens a detail screen; its key works on every other detail screen too, which it replaces.
        group: the footer shows adjacent actions of one group together, under this name.
        command: the kind of command that a mutating action sends to the agent; default: its id.
        sends_command: a mutating action is a command to the agent.
        is_pane_action: it moves among the main screen's panes, or acts on the focused one.
        pane: the name of the pane that it focuses.
        binding_name: its name in a keymap file; default: ``zdd.`` and its id.
        hidden_in_footer: the footer never shows it.
        cli_help_suffix: added to the help of its verb on the command line.
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
    opens_detail: bool = False
    group: str = ""
    command: str = ""
    sends_command: bool = True
    is_pane_action: bool = False
    pane: str = ""
    binding_name: str = ""
    hidden_in_footer: bool = False
    cli_help_suffix: str = ""

    @property
    def command_kind(self) -> str:
        """The kind of command that it sends; empty where it sends none."""
        return self.command or (self.id if self.mutating and self.sends_command else "")

    @property
    def binding_id(self) -> str:
        """Its name in a keymap file, beside the bindings of panes and dialogs."""
        return self.binding_name or f"zdd.{self.id}"

    @property
    def cli_help(self) -> str:
        """The help of its verb on the command line."""
        return f"{self.help} {self.cli_help_suffix}".rstrip()


def _focus_pane_action(pane: str, key: str, help_text: str) -> Action:
    """Moves the focus to a pane of the main screen."""
    return Action(f"to-{pane}", key, f"to {pane}", f"To {help_text}", is_pane_action=True, pane=pane, group="panes")


def _pane_action(
    action_id: str, key: str, help_text: str, binding_scope: str = "", *, label: str = "", hidden_in_footer: bool = True
) -> Action:
    """Acts on the focused pane, else on the first; with a scope it is the pane's own binding."""
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


def _detail_action(action_id: str, key: str, label: str, help_text: str, *, hidden_in_footer: bool = False) -> Action:
    """Opens a detail screen, from the main screen and from any other detail screen."""
    return Action(action_id, key, label, help_text, opens_detail=True, group="more", hidden_in_footer=hidden_in_footer)


ACTIONS: tuple[Action, ...] = (
    Action(
        "advance",
        "a",
        "advance",
        "Run the next phase, or retry the failed step; refused while gates do not pass.",
        Confirmation.DIALOG,
        mutating=True,
        has_cli_command=True,
    ),
    Action(
        "pause",
        "p",
        "pause",
        "Pause: the backfill stops within one batch, and no further step starts.",
        mutating=True,
        has_cli_command=True,
    ),
    Action("resume", "p", "resume", "Resume the paused release.", mutating=True, has_cli_command=True),
    Action(
        "slower",
        "left_square_bracket",
        "slower",
        "Slow the backfill down by one step; takes effect within one batch.",
        mutating=True,
        group="speed",
        command="tune",
    ),
    Action(
        "faster",
        "right_square_bracket",
        "faster",
        "Speed the backfill up by one step, up to the limit of its throttles.",
        mutating=True,
        group="speed",
        command="tune",
    ),
    Action(
        "tune",
        "t",
        "tune",
        "Show and change the limits of the running backfill; takes effect within one batch, and is audited.",
        Confirmation.DIALOG,
        mutating=True,
        cli_help_suffix="They are stored with the release, not in the plan. Without key=value: show the limits.",
    ),
    Action(
        "pause-table",
        "b",
        "pause table",
        "Pause or resume the backfill of one table: the fills of the others go on.",
        Confirmation.DIALOG,
        mutating=True,
        sends_command=False,
    ),
    # A text field takes R as a letter; ctrl+r works there too.
    Action(
        "rollback",
        "R,ctrl+r",
        "rollback",
        "Undo every step: reads go back at once, then the newest step first.",
        Confirmation.DIALOG,
        mutating=True,
        has_cli_command=True,
        available_while_locked=True,
        is_global=True,
    ),
    Action(
        "start-agent",
        "A",
        "start agent",
        "Start an agent on this machine where none runs the release, or show the line to run elsewhere.",
        Confirmation.DIALOG,
        mutating=True,
        available_while_locked=True,
        sends_command=False,
    ),
    Action(
        "unlock",
        "u",
        "unlock",
        "Unlock production for a limited time; requires the environment’s name.",
        is_global=True,
    ),
    Action("lock", "u", "lock", "Lock production at once.", is_global=True),
    Action("palette", "colon", "command", "Search actions by name, and run one.", is_global=True),
    Action("help", "question_mark", "help", "Show the keys of this screen, then all others.", is_global=True),
    Action("quit", "q", "quit", "Quit the dashboard; the agent keeps running the release."),
    Action(
        "fleet",
        "f",
        "fleet",
        "Show the releases of all configured databases: filter, sort, and open one.",
        cli_help_suffix="The default without a verb.",
    ),
    Action(
        "previous-region",
        "less_than_sign",
        "prev region",
        "Open this plan’s release in the previous region.",
        group="region",
    ),
    Action(
        "next-region",
        "greater_than_sign",
        "next region",
        "Open this plan’s release in the next region.",
        group="region",
    ),
    Action("details", "e", "details", "Show errors, refused commands, gates, sources and events in full."),
    Action(
        "doctor",
        "d",
        "doctor",
        "Check for the seven pitfalls, and the release checklist.",
        cli_help_suffix="Exit code 1 where a check fails.",
    ),
    Action(
        "copy",
        "y",
        "copy",
        "Copy the row under the cursor, the focused pane or the screen to the clipboard.",
        is_global=True,
    ),
    _detail_action("timeline", "T", "timeline", "The history of the release: phases and attempts."),
    _detail_action("topology", "V", "topology", "Draw the topology: where traffic and data go now, and what is next."),
    _detail_action("gates", "G", "gates", "The query of each gate, its source and its result."),
    _detail_action("backfill-detail", "B", "backfill", "Rate, ranges, failed rows, SQL of a batch and its query plan."),
    _detail_action(
        "charts",
        "m",
        "charts",
        "Charts of every guard rule, full size: the new version against the old one.",
        hidden_in_footer=True,
    ),
    _detail_action("logs", "L", "logs", "The logs of all pods of a version by time; errors only."),
    _detail_action(
        "activity",
        "D",
        "activity",
        "Sessions that block zdd or wait for it, long transactions, replication, vacuum; Enter stops a session.",
    ),
    _detail_action("stored-plan", "P", "plan", "The stored plan, and its differences from the file."),
    _focus_pane_action("pods", "1", "the pods: state, drain, restarts; Enter opens one, with its log."),
    _focus_pane_action("backfill", "2", "the backfill: progress, rate, throttles."),
    _focus_pane_action("flags", "3", "the flags: value, time of the last change, expiry."),
    _focus_pane_action("guard", "4", "the guard: each rule’s value and limit; Enter opens its query and action."),
    _focus_pane_action("events", "5", "the audit, newest first."),
    _focus_pane_action("gates", "6", "the gates of every phase: verdict, age, reason; Enter opens the query."),
    _pane_action(
        "filter",
        "slash",
        "Filter the rows by text, !text, column:pattern or label:k=v",
        "table",
        hidden_in_footer=False,
    ),
    _pane_action("sort", "s", "Sort by the next column; after the last one, in the table’s default order", "table"),
    _pane_action("reverse", "S", "Reverse the order", "table"),
    _pane_action("columns", "c", "Choose the columns; the choice is kept", "table"),
    _pane_action("maximise", "z", "Maximise this pane, and restore", "pane", label="zoom"),
    _pane_action("next-pane", "tab", "To the next pane", label="next"),
    _pane_action("previous-pane", "shift+tab", "To the previous pane", label="previous"),
)


def find_action(action_id: str) -> Action:
    """Finds an action by its id.

    Raises:
        KeyError: no action has that id.
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
    """The first of the keys as it is shown on screen: ``?`` for ``question_mark``."""
    first = keys.split(",", maxsplit=1)[0].strip()
    return KEY_NAMES.get(first) or _symbol_of_unicode_name(first) or first


def _symbol_of_unicode_name(name: str) -> str:
    """``;`` for ``semicolon``: such keys have Unicode character names."""
    try:
        sign = unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return ""
    return sign if sign.isprintable() and not sign.isalnum() and not sign.isspace() else ""


@cache
def default_keys() -> Mapping[str, str]:
    """The shown key of each action, by the action's id."""
    return MappingProxyType({each.id: key_name(each.key) for each in ACTIONS})
