"""What a recording can answer to a detail screen: what stood on its boards, and plainly what did not."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import AuditLog, AuditLogQuery, BackfillQuery, ObjectQuery, PlanQuery, PlanText, Query
from zdd_tui.model.release.records import Event
from zdd_tui.model.shadow import ShadowQuery

_EVENTS_ADAPTER: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])

LIVE_HINT = "what is there now, `zdd open` shows"


def not_recorded_text(what: str) -> str:
    """``a recording holds no logs: it has what the board said``."""
    return f"a recording holds no {what}: it has what the board said"


def answer_query(query: Query[Any], board: DashboardState, recording: Recording) -> Any:
    """The answer as of a board.

    Raises:
        ZddError: nothing of the kind is recorded.
    """
    match query:
        case AuditLogQuery():
            return _audit_log(query, board, recording)
        case PlanQuery():
            return _plan_text(board)
        case ObjectQuery(kind=kind):
            raise ZddError(not_recorded_text(f"{kind.lower()} as the API had it"), LIVE_HINT)
        case BackfillQuery():
            raise ZddError(not_recorded_text("ranges, rows or SQL of the backfill"), LIVE_HINT)
        case ShadowQuery():
            raise ZddError(not_recorded_text("samples of what differed"), LIVE_HINT)
    raise ZddError(not_recorded_text("such details"), LIVE_HINT)


def _audit_log(query: AuditLogQuery, board: DashboardState, recording: Recording) -> AuditLog:
    """The audit up to the board's newest line, as far back as the recorded boards go."""
    record = board.release.value
    if record is None:
        raise ZddError("the recording had not read the release by then", "go on in it")
    last = max((event.id for event in record.events), default=0)
    known = sorted(number for number in recording.events if number <= last)
    kept = known[-query.limit :]
    try:
        events = _EVENTS_ADAPTER.validate_python([recording.events[number] for number in kept])
    except ValidationError as error:
        raise ZddError(f"{recording.file} has an event that cannot be shown: {error.errors()[0]['msg']}") from None
    earlier = len(known) - len(kept)
    whole = earlier or (events and events[0].kind == "release")
    since = None if whole else events[0].at if events else record.now
    return AuditLog(events, tuple(sorted(record.commands, key=lambda each: each.id)), earlier, since)


def _plan_text(board: DashboardState) -> PlanText:
    record = board.release.value
    if record is None or not record.plan_text:
        raise ZddError(not_recorded_text("text of the plan"), LIVE_HINT)
    return PlanText(record.plan_text, record.created_at, record.release.plan_hash)
