"""The release's flags."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from zdd_tui.dashboard.state import FLAGS_STALE, Board, FlagView, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, cut, human_age, outside
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.table import TablePane

_DAY = 86400.0


class FlagPane(TablePane[FlagView, float]):
    """A row a flag: role, value, name, and since when, until when and by whom."""

    name_of_pane = "flags"
    limit = FLAGS_STALE
    titles_from = 3

    def source(self, board: Board) -> Sourced[object]:
        return board.flags

    def watched(self, board: Board) -> tuple[object, ...]:
        record = board.release.value
        return board.flags.value, board.flags.error, record.steps if record else ()

    def rows(self, board: Board, moment: Moment) -> Sequence[FlagView]:
        return board.flags.value or ()

    def columns(self, board: Board, rows: Sequence[FlagView], cells: int) -> Sequence[Column[FlagView, float]]:
        return flag_columns(rows, {flag.key: last_change(board, flag) for flag in rows})

    def context(self, board: Board, moment: Moment) -> float:
        return moment.wall

    def identity(self, row: FlagView) -> str:
        return row.key

    def labels(self, row: FlagView) -> Mapping[str, str]:
        return {"role": row.role, "owner": row.owner, "expires": row.expires}

    def notes(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return flag_notes(board.flags.value or (), cells)


def flag_notes(flags: Sequence[FlagView], cells: int) -> list[Line]:
    """What cannot be understood of their values."""
    return [((cut(f"✗ {flag.role}: {flag.problem}", cells), Tone.BAD),) for flag in flags if flag.problem]


def flag_columns(rows: Sequence[FlagView], changes: Mapping[str, float | None]) -> list[Column[FlagView, float]]:
    """The columns of these flags. Cells get this machine's clock.

    Args:
        changes: when each was changed last, in seconds since the epoch, as far as that is known.
    """

    def since(row: FlagView, now: float) -> str:
        at = changes.get(row.key)
        return "" if at is None else human_age(now - at)

    columns: list[Column[FlagView, float]] = [
        Column(
            "role", "ROLE", lambda row, _: row.role, max((len(row.role) for row in rows), default=5),
            find=lambda row: row.role,
        ),
        Column("value", "VALUE", lambda row, _: " ".join(_value(row)[:2]), 7, tone=lambda row, _: _value(row)[2],
               find=lambda row: _value(row)[1], sort=lambda row: row.value.percent if row.value else None),
        Column(
            "key", "FLAG", lambda row, _: row.key, 12, max((len(outside(row.key)) for row in rows), default=12),
            tail=True, tone=lambda _row, _: Tone.DIM, find=lambda row: row.key,
        ),
        Column("since", "SINCE", since, 5, right=True, gives_way=1, tone=lambda _row, _: Tone.DIM,
               sort=lambda row: changes.get(row.key)),
    ]  # fmt: skip
    if any(row.expires for row in rows):
        columns.append(
            Column("expires", "EXPIRES", _expires, 8, gives_way=2, tone=_expired, sort=lambda row: row.expires or None)
        )
    if any(row.owner for row in rows):
        longest = max(5, *(len(row.owner) for row in rows))
        columns.append(
            Column(
                "owner",
                "OWNER",
                lambda row, _: row.owner,
                min(8, longest),
                longest,
                gives_way=3,
                find=lambda row: row.owner,
            )
        )
    return columns


def _value(flag: FlagView) -> tuple[str, str, Tone]:
    """Glyph, word and tone."""
    if flag.problem:
        return "✗", "bad", Tone.BAD
    if flag.value is None:
        return "·", "unset", Tone.DIM
    if flag.value.off:
        return "○", "off", Tone.NORMAL
    return ("●" if flag.value.on else "◐"), str(flag.value), Tone.GOOD


def days_left(flag: FlagView, now: float) -> int | None:
    """Whole days until the flag should be gone, negative afterwards; None where nobody said."""
    if not flag.expires:
        return None
    return (date.fromisoformat(flag.expires) - datetime.fromtimestamp(now, UTC).date()).days


def _expires(flag: FlagView, now: float) -> str:
    left = days_left(flag, now)
    if left is None:
        return ""
    return f"✗ {-left}d ago" if left < 0 else "today" if left == 0 else f"in {left}d"


def _expired(flag: FlagView, now: float) -> Tone:
    left = days_left(flag, now)
    return Tone.BAD if left is not None and left < 0 else Tone.DIM


def last_change(board: Board, flag: FlagView) -> float | None:
    """When a flag was changed last: as this dashboard saw it, else by the step of the release that switches it."""
    record = board.release.value
    steps = record.steps if record is not None else ()
    known = [step.ended_at for step in steps if step.name.startswith(f"{flag.role}-flag") and step.ended_at is not None]
    return max([*known, *([flag.changed_at] if flag.changed_at is not None else [])], default=None)
