"""The one registry of what an operator can do: it feeds key bindings, footer, palette, help and the CLI."""

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
        key: Textual's name of the default key.
        mutating: it changes the release; hidden in read-only.
    """

    id: str
    key: str
    label: str
    help: str
    danger: Danger = Danger.PLAIN
    mutating: bool = False
    verb: bool = False


ACTIONS: tuple[Action, ...] = (
    Action(
        "advance",
        "a",
        "advance",
        "Run the next phase (or the failed step again). Gates permitting.",
        Danger.CONFIRM,
        True,
        True,
    ),
    Action(
        "pause",
        "p",
        "pause",
        "Pause: the backfill stops within one batch and no further step begins.",
        Danger.PLAIN,
        True,
        True,
    ),
    Action("resume", "p", "resume", "Resume what was paused.", Danger.PLAIN, True, True),
    Action(
        "rollback",
        "R",
        "rollback",
        "Undo every step in reverse order, back to where the release began.",
        Danger.CONFIRM,
        True,
        True,
    ),
    Action("details", "e", "details", "Show errors, refused commands, gates, sources and events in full."),
    Action("doctor", "d", "doctor", "Look for the seven pitfalls, and prove the release checklist."),
    Action("help", "question_mark", "help", "Show every key and what it does."),
    Action("quit", "q", "quit", "Leave the dashboard. The agent and the release go on."),
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
