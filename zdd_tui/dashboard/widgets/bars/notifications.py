"""What needs a person, read from the board: pure, so that the bell rings once for each thing and never without one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import sanitize
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.release.summary import AWAITING_APPROVAL, Severity, find_wait, has_no_agent, summarize_release
from zdd_tui.model.workload.pod import PodState

MAX_TEXT_LENGTH = 200
"""Characters of a notification; terminals cut what is longer as they like."""


def attention_items(board: DashboardState, context: RenderContext) -> dict[str, str] | None:
    """What needs a person now, each under a name that stays the same while it is the same thing.

    Returns:
        None where nobody knows: there is no reading of the release, or it is old.
    """
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None or board.release.is_stale(context.now, RELEASE_STALE_SECONDS):
        return None
    found: dict[str, str] = {}
    release = record.release
    text = summarize_release(record, now)
    for reading in guard_readings(board, now):
        if reading.action_taken and not release.state.has_ended:
            found[f"guard {reading.rule} {reading.action_taken}"] = (
                f"the guard acted ({reading.action_taken}): {reading.reason}"
            )
    if text.severity is Severity.ERROR:
        found[f"{release.state} {release.phase}"] = f"{text.state_label.lower()} {text.text}"
    elif text.state_label == AWAITING_APPROVAL:
        found[f"waiting {release.phase}"] = f"{text.text}; it waits for you"
    if (wait := find_wait(record, now)) is not None and wait.is_overdue:
        found[f"late {wait.since:.0f}"] = wait.description
    if not release.state.has_ended and has_no_agent(record.lease):
        found["agent"] = "no agent carries the release out"
    return found | _overdue_pods(board)


def _overdue_pods(board: DashboardState) -> dict[str, str]:
    """Pods that outlive their deadline."""
    shown = [source.value for source in (board.workload, board.second_workload) if source.value is not None]
    late = [pod for workload in shown for pod in workload.pods if pod.state is PodState.OVERDUE]
    return {f"pod {pod.uid}": f"pod {pod.name} is overdue" for pod in late}


@dataclass
class NotificationTracker:
    """Tells each thing once: when it begins, not while it lasts.

    What is there when the dashboard is opened rings no bell: the operator is looking. While nobody knows, what was
    known last still counts.
    """

    _known: Mapping[str, str] | None = field(default=None)

    def pop_new_text(self, found: Mapping[str, str] | None) -> str:
        """The text for whatever has begun since the last call; empty for nothing."""
        if found is None:
            return ""
        before, self._known = self._known, found
        begun = [text for name, text in found.items() if before is not None and name not in before]
        text = sanitize("; ".join(begun))
        return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
