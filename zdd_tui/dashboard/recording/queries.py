"""What a recording can answer to a detail screen: what stood on its boards, and plainly what did not."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import Board
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import BackfillQuery, ObjectQuery, PlanQuery, PlanText, Query, Story, StoryQuery
from zdd_tui.model.release.records import Event
from zdd_tui.model.shadow import ShadowQuery

_EVENTS: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])

LIVE = "what is there now, `zdd open` shows"


def absent(what: str) -> str:
    """``a recording holds no logs: it has what the board said``."""
    return f"a recording holds no {what}: it has what the board said"


def answered(query: Query[Any], board: Board, recording: Recording) -> Any:
    """The answer as of a board.

    Raises:
        ZddError: nothing of the kind is recorded.
    """
    match query:
        case StoryQuery():
            return _story(query, board, recording)
        case PlanQuery():
            return _plan(board)
        case ObjectQuery(kind=kind):
            raise ZddError(absent(f"{kind.lower()} as the API had it"), LIVE)
        case BackfillQuery():
            raise ZddError(absent("ranges, rows or SQL of the backfill"), LIVE)
        case ShadowQuery():
            raise ZddError(absent("samples of what differed"), LIVE)
    raise ZddError(absent("such details"), LIVE)


def _story(query: StoryQuery, board: Board, recording: Recording) -> Story:
    """The audit up to the board's newest line, as far back as the recorded boards go."""
    record = board.release.value
    if record is None:
        raise ZddError("the recording had not read the release by then", "go on in it")
    last = max((event.id for event in record.events), default=0)
    known = sorted(number for number in recording.events if number <= last)
    kept = known[-query.limit :]
    try:
        events = _EVENTS.validate_python([recording.events[number] for number in kept])
    except ValidationError as error:
        raise ZddError(f"{recording.file} has an event that cannot be shown: {error.errors()[0]['msg']}") from None
    earlier = len(known) - len(kept)
    whole = earlier or (events and events[0].kind == "release")
    since = None if whole else events[0].at if events else record.now
    return Story(events, tuple(sorted(record.commands, key=lambda each: each.id)), earlier, since)


def _plan(board: Board) -> PlanText:
    record = board.release.value
    if record is None or not record.plan_text:
        raise ZddError(absent("text of the plan"), LIVE)
    return PlanText(record.plan_text, record.created_at, record.release.plan_hash)
