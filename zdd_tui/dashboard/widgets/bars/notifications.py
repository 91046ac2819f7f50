"""What needs a person, read from the board: pure, so that the bell rings once for each thing and never without one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import outside
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.release.summary import FOR_YOU, Mood, no_agent, situation, wait_of
from zdd_tui.model.workload.pod import PodState

LONGEST = 200
"""Characters of a notification; terminals cut what is longer as they like."""


def needs(board: Board, moment: Moment) -> dict[str, str] | None:
    """What needs a person now, each under a name that stays the same while it is the same thing.

    Returns:
        None where nobody knows: there is no reading of the release, or it is old.
    """
    record, now = board.release.value, board.server_now(moment.now)
    if record is None or now is None or board.release.stale(moment.now, RELEASE_STALE):
        return None
    found: dict[str, str] = {}
    release = record.release
    told = situation(record, now)
    for reading in guard_readings(board, now):
        if reading.acted and not release.state.ended:
            found[f"guard {reading.rule} {reading.acted}"] = f"the guard acted ({reading.acted}): {reading.reason}"
    if told.mood is Mood.BAD:
        found[f"{release.state} {release.phase}"] = f"{told.word.lower()} {told.text}"
    elif told.word == FOR_YOU:
        found[f"waiting {release.phase}"] = f"{told.text}; it waits for you"
    if (wait := wait_of(record, now)) is not None and wait.over:
        found[f"late {wait.since:.0f}"] = wait.text
    if not release.state.ended and no_agent(record.lease):
        found["agent"] = "no agent carries the release out"
    return found | _overdue(board)


def _overdue(board: Board) -> dict[str, str]:
    """Pods that outlive their deadline."""
    shown = [source.value for source in (board.pods, board.twin) if source.value is not None]
    late = [pod for workload in shown for pod in workload.pods if pod.state is PodState.OVERDUE]
    return {f"pod {pod.uid}": f"pod {pod.name} is overdue" for pod in late}


@dataclass
class Attention:
    """Tells each thing once: when it begins, not while it lasts.

    What is there when the dashboard is opened rings no bell: the operator is looking. While nobody knows, what was
    known last still counts.
    """

    _known: Mapping[str, str] | None = field(default=None)

    def news(self, found: Mapping[str, str] | None) -> str:
        """The text for whatever has begun since the last call; empty for nothing."""
        if found is None:
            return ""
        before, self._known = self._known, found
        begun = [text for name, text in found.items() if before is not None and name not in before]
        text = outside("; ".join(begun))
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
