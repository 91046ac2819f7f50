"""Bell and notification: conditions that need attention, each reported once."""

from collections.abc import Mapping

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import sanitize
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.release.summary import AWAITING_APPROVAL, Severity, find_wait, summarize_release
from zdd_tui.model.release.system import System
from zdd_tui.model.workload.pod import PodState

MAX_TEXT_LENGTH = 200
"""Characters of a notification; terminals truncate longer ones."""


def attention_items(board: DashboardState, context: RenderContext) -> dict[str, str] | None:
    """Texts of the conditions that need attention now, each under a stable key.

    Returns:
        None where it is unknown: the release was not read, or not recently.
    """
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None or board.release.is_stale(context.now, RELEASE_STALE_SECONDS):
        return None
    items: dict[str, str] = {}
    release, activity = record.release, board.activity(context.now)
    summary = summarize_release(record, now)
    for reading in guard_readings(board, now):
        if reading.action_taken and not release.state.has_ended:
            items[f"guard {reading.rule} {reading.action_taken}"] = (
                f"the guard acted ({reading.action_taken}): {reading.reason}"
            )
    if release.breach is not None:
        if activity.is_active:
            items[f"stopped {release.breach.name}"] = f"stopped: {release.breach.title}"
    elif summary.severity is Severity.ERROR:
        items[f"{release.state} {release.phase}"] = f"{summary.state_label.lower()} {summary.text}"
    elif summary.state_label == AWAITING_APPROVAL and activity.is_active:
        items[f"waiting {release.phase}"] = f"{summary.text}; approval is needed"
    if activity.is_active and (wait := find_wait(record, now)) is not None and wait.is_overdue:
        items[f"late {wait.since:.0f}"] = wait.description
    if not release.state.has_ended and activity.is_known and not activity.is_active:
        items["agent"] = "no agent is running the release"
    return items | _lost_sources(board, context) | _overdue_pods(board)


def _lost_sources(board: DashboardState, context: RenderContext) -> dict[str, str]:
    """Sources on which the release relies; the agent has an item of its own."""
    lost = [each for each in board.lost_sources(context.now) if each.name is not System.AGENT]
    return {f"lost {each.name}": f"lost {each.description}" for each in lost}


def _overdue_pods(board: DashboardState) -> dict[str, str]:
    """Pods that are past their deadline."""
    late = [pod for workload in board.workloads for pod in workload.pods if pod.state is PodState.OVERDUE]
    return {f"pod {pod.uid}": f"pod {pod.name} is overdue" for pod in late}


class NotificationTracker:
    """Reports each condition once, when it starts.

    Conditions that exist when the dashboard is opened are not reported. While the state is unknown, the last known
    conditions are kept.
    """

    _known: Mapping[str, str] | None = None

    def pop_new_text(self, items: Mapping[str, str] | None) -> str:
        """The text of the conditions that have started since the last call; empty for none."""
        if items is None:
            return ""
        before, self._known = self._known, items
        started = [text for key, text in items.items() if before is not None and key not in before]
        text = sanitize("; ".join(started))
        return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
