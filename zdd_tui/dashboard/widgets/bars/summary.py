"""What the release does now, what it waits for, and what to press: the lines to read first at three in the morning."""

from dataclasses import replace

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, width, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import State
from zdd_tui.model.release.summary import Mood, Situation, no_agent, situation

TONES = {
    Mood.IDLE: Tone.STRONG,
    Mood.WORKING: Tone.BUSY,
    Mood.WAITING: Tone.WARN,
    Mood.PAUSED: Tone.WARN,
    Mood.BACKWARDS: Tone.WARN,
    Mood.BAD: Tone.ALARM,
    Mood.GOOD: Tone.GOOD,
}

_PLATES = {Mood.BAD: Tone.ALARM, Mood.GOOD: Tone.DONE, "rolled back": Tone.UNDONE}
"""Ends and failures stand on a coloured plate, so that none is taken for another or for work under way."""


BLINK = 1.5
"""Seconds of silence that are not worth a word: a connection that was cut is mostly back within that."""


class NowLines(LineView):
    """Grows with what there is to say, up to eight lines; the rest is in the details."""

    auto_height = 8

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return now_lines(board, moment, cells)


def now_lines(board: Board, moment: Moment, cells: int, limit: int = 8) -> list[Line]:
    record, now = board.release.value, board.server_now(moment.now)
    if record is None or now is None:
        return _no_record(board, cells)
    lines: list[Line] = []
    age = board.release.age(moment.now) or 0.0
    stale = lost(board, moment)
    if stale:
        word = "STALE" if age > RELEASE_STALE else "LOST"
        silence = f"no news from the database for {human_age(age)} ({board.release.error or 'no answer'})"
        lines += wrap(f"✗ {word}: {silence}; this is the last known state", cells, Tone.BAD)
    told = situation(record, now, moment.keys)
    lines += _state(record, told, cells, stale=stale)
    tail: list[Line] = []
    queued = [asked for asked in record.commands if asked.status == "queued"]
    if no_agent(record.lease) and not record.release.state.ended and not stale:
        waiting = f"; {len(queued)} command{'s wait' if len(queued) > 1 else ' waits'}" if queued else ""
        tail += wrap(f"✗ nobody carries this release out{waiting}. Start an agent: zdd agent PLAN", cells, Tone.BAD)
    elif stale:
        mend = f"{board.release.mend}; " if board.release.mend else ""
        tail += wrap(f"→ {mend}this screen reconnects by itself, the agent does not need it", cells, Tone.STRONG)
    elif told.press:
        tail += [(("→ ", Tone.KEY), *line) for line in wrap(_press(told, moment), cells - 2, Tone.STRONG)]
    notes = [line for note in told.notes for line in wrap(note, cells, _note_tone(told.mood), indent="  ")]
    room = max(1, limit - len(lines) - len(tail))
    if len(notes) > room:
        key = (moment.keys["details"], Tone.KEY)
        notes = [*notes[: room - 1], (("  … ", Tone.DIM), key, (" shows all of it", Tone.DIM))]
    return [*lines, *notes, *tail]


def _press(told: Situation, moment: Moment) -> str:
    """What to press: the key that unlocks first where production is locked; read-only, that it is not from here."""
    hidden = tuple(f"{moment.keys[each]} " for each in ("advance", "pause", "resume", "rollback"))
    if not told.press.startswith(hidden):
        return told.press
    if moment.access.read_only:
        return f"not from here (read-only): {told.press}"
    locked = moment.access.locked(moment.now) and not told.press.startswith(hidden[-1])
    return f"{moment.keys['unlock']} unlocks, then {told.press}" if locked else told.press


def lost(board: Board, moment: Moment) -> bool:
    """The release is not being read: it is old, or it is known why it will be."""
    age = board.release.age(moment.now)
    troubled = bool(board.release.error) and age is not None and age > BLINK
    return troubled or board.release.stale(moment.now, RELEASE_STALE)


def _state(record: ReleaseRecord, told: Situation, cells: int, *, stale: bool) -> list[Line]:
    """The plate and what is done now; what the guard saw comes before that."""
    if told.mood in (Mood.WORKING, Mood.BACKWARDS) and no_agent(record.lease) and not stale:
        told = replace(told, mood=Mood.BAD, glyph="✗", word="STANDS STILL")
    badge: Line = ((f"{told.glyph} {told.word}", TONES[told.mood]), ("  ", Tone.NORMAL))
    plate = _PLATES.get("rolled back" if record.release.state is State.ROLLED_BACK else told.mood)
    if plate:
        badge = ((f" {told.glyph} {told.word} ", plate), (" ", Tone.NORMAL))
    room = cells - width(badge)
    first = wrap(told.cause, room, Tone.BAD) if told.cause else []
    first += wrap(told.text, room, Tone.STRONG)
    return [(*badge, *first[0]), *(((" " * width(badge), Tone.NORMAL), *line) for line in first[1:])]


def _note_tone(mood: Mood) -> Tone:
    return Tone.BAD if mood is Mood.BAD else Tone.WARN


def _no_record(board: Board, cells: int) -> list[Line]:
    source = board.release
    if not source.error:
        return wrap(f"… connecting to PostgreSQL {board.plan.database}", cells, Tone.DIM)
    lines = wrap(f"✗ {source.error}", cells, Tone.BAD)
    return lines + (wrap(f"→ {source.mend}", cells, Tone.STRONG) if source.mend else [])
