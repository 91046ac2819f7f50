"""The one registry of what an operator can do: it feeds key bindings, footer, palette, help and the CLI."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum


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

    @property
    def sends(self) -> str:
        """The kind of command that it sends; empty where it sends none."""
        return self.command or (self.id if self.mutating else "")

    @property
    def binding_id(self) -> str:
        """Its name in a keymap file, beside the bindings of panes and dialogs."""
        return f"zdd.{self.id}"


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
        "Show every limit of the backfill, and change some of them while it runs.",
        Danger.CONFIRM,
        mutating=True,
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
    Action("doctor", "d", "doctor", "Look for the seven pitfalls, and prove the release checklist."),
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


def default_keys() -> dict[str, str]:
    """What each action's key is called on screen, by the action's id."""
    return {each.id: key_name(each.key) for each in ACTIONS}
