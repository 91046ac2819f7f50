"""Results of a detail screen's queries from a recording, or the error that they are not recorded."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import AuditLog, AuditLogQuery, BackfillQuery, ObjectQuery, PlanQuery, PlanText, Query
from zdd_tui.model.release.records import Event
from zdd_tui.model.shadow import ShadowQuery

_EVENTS_ADAPTER: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])

LIVE_HINT = "`zdd open PLAN` shows live data"


def not_recorded_text(what: str) -> str:
    """``the recording has no logs``."""
    return f"the recording has no {what}"


def answer_query(query: Query[Any], state: DashboardState, recording: Recording) -> Any:
    """The result of a query at a recorded state.

    Raises:
        ZddError: the data is not recorded.
    """
    match query:
        case AuditLogQuery():
            return _audit_log(query, state, recording)
        case PlanQuery():
            return _plan_text(state)
        case ObjectQuery(kind=kind):
            raise ZddError(not_recorded_text(f"API object of the {kind.lower()}"), LIVE_HINT)
        case BackfillQuery():
            raise ZddError(not_recorded_text("ranges, rows and SQL of the backfill"), LIVE_HINT)
        case ShadowQuery():
            raise ZddError(not_recorded_text("samples of differences"), LIVE_HINT)
    raise ZddError(not_recorded_text("these details"), LIVE_HINT)


def _audit_log(query: AuditLogQuery, state: DashboardState, recording: Recording) -> AuditLog:
    """The audit log up to the newest event of a state, as far back as the recording goes."""
    record = state.release.value
    if record is None:
        raise ZddError("the release was not read yet at this position", "move forward in the recording")
    last = max((event.id for event in record.events), default=0)
    known = sorted(event_id for event_id in recording.events if event_id <= last)
    selected = known[-query.limit :]
    try:
        events = _EVENTS_ADAPTER.validate_python([recording.events[event_id] for event_id in selected])
    except ValidationError as error:
        raise ZddError(f"{recording.file} has an event that cannot be shown: {error.errors()[0]['msg']}") from None
    earlier = len(known) - len(selected)
    is_whole = earlier or (events and events[0].kind == "release")
    since = None if is_whole else events[0].at if events else record.now
    return AuditLog(events, tuple(sorted(record.commands, key=lambda command: command.id)), earlier, since)


def _plan_text(state: DashboardState) -> PlanText:
    record = state.release.value
    if record is None or not record.plan_text:
        raise ZddError(not_recorded_text("text of the plan"), LIVE_HINT)
    return PlanText(record.plan_text, record.created_at, record.release.plan_hash)
