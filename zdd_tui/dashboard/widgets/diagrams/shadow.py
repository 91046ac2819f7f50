"""Which answers of a dark launch differ: the newest samples from the pods' logs, old value against new.

A field that the application does not let be shown has its shape in the place of its value, such as ``<text of 14>``.
"""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Tone,
    clip,
    cut,
    cut_start,
    fit,
    source_age,
    spread,
    width,
    wrap,
)
from zdd_tui.model.shadow import ShadowSample, ShadowSamples

POD = 6
NARROW = 100
"""Cells below which unit and field give way to the two values."""

LEAD = 6
"""Characters before the place where two values part that stay in sight."""

_FAILED = {"error": "the new path failed", "timeout": "the new path was too late"}


def shadow_lines(
    answer: Sourced[ShadowSamples], limit: float, moment: Moment, cells: int, *, whole: bool
) -> list[Line]:
    """A heading with the age of what was read, then a row a field; or every value in full.

    Args:
        limit: seconds after which the answer is stale.
        whole: nothing is cut.
    """
    age = answer.age(moment.now)
    stale = answer.stale(moment.now, limit)
    told = "" if age is None else f"{source_age(age, stale=stale)} old"
    lines = [
        spread((("which answers differ, newest first", Tone.DIM),), ((told, Tone.WARN if stale else Tone.DIM),), cells)
    ]
    if answer.error:
        lines += wrap(f"✗ the pods' logs: {answer.error}", cells, Tone.BAD)
        lines += wrap(f"→ {answer.mend}", cells, Tone.STRONG) if answer.mend else []
    found = answer.value
    if found is None:
        return lines if answer.error else [*lines, (("… reading the pods' logs", Tone.DIM),)]
    lines += _counted(found, cells)
    if not found.samples:
        return lines
    if whole:
        return lines + [line for sample in found.samples for line in _in_full(sample, moment, cells)]
    return lines + _table(found.samples, moment, cells)


def _counted(found: ShadowSamples, cells: int) -> list[Line]:
    """How much of it is in sight."""
    logs = "the log of 1 pod" if found.pods == 1 else f"the logs of {found.pods} pods"
    lines: list[Line] = []
    if found.samples:
        rest = max(0, found.known - len(found.samples))
        more = f"at least {rest:,} more are not shown" if rest else "no other is known"
        lines += wrap(f"{len(found.samples)} from {logs}, {more}", cells, Tone.WARN if rest else Tone.NORMAL)
    else:
        lines += wrap(f"none in {logs}, the last {found.lines:,} lines of each", cells)
    if found.unread:
        unread = "1 log was" if found.unread == 1 else f"{found.unread} logs were"
        lines += wrap(f"? {unread} not read: {found.why}", cells, Tone.WARN)
    return lines


def _table(samples: Sequence[ShadowSample], moment: Moment, cells: int) -> list[Line]:
    most = 8 if cells < NARROW else 16
    unit = _column("UNIT", (sample.unit for sample in samples), most)
    field = _column("FIELD", (each.name for sample in samples for each in sample.fields), most)
    room = max(8, (cells - 8 - POD - unit - field - 5) // 2)
    head = f"{'WHEN':<8} {'POD':<{POD}} {'UNIT':<{unit}} {'FIELD':<{field}} {'OLD':<{room}} NEW"
    lines: list[Line] = [clip(((head, Tone.DIM),), cells)]
    for sample in samples:
        who = f"{moment.clock.time_of_day(sample.at):<8} {_pod(sample):<{POD}} {fit(visible(sample.unit), unit)} "
        for row in _rows(sample, field, room):
            line: Line = ((who, Tone.NORMAL), *row)
            fits = width(line) <= cells or row[-1][1] is not Tone.DIM  # how they differ is seen, too
            lines.append(clip(line if fits else line[:-1], cells))
            who = " " * cell_len(who)
    return lines


def _rows(sample: ShadowSample, field: int, room: int) -> list[Line]:
    if not sample.fields:
        return [((_failure(sample), Tone.BAD),)]
    rows: list[Line] = []
    for each in sample.fields:
        old, new = parted(visible(each.old), visible(each.new), room)
        how: Line = ((f"  {visible(each.how)}", Tone.DIM),) if each.how else ()
        name = f"{fit(visible(each.name), field)} "
        rows.append(((name, Tone.KEY), (f"{fit(old, room)} ", Tone.NORMAL), (cut(new, room), Tone.WARN), *how))
    if sample.more:
        rows.append(((f"and {sample.more} more fields", Tone.DIM),))
    return rows


def _in_full(sample: ShadowSample, moment: Moment, cells: int) -> list[Line]:
    when = moment.clock.time_of_day(sample.at)
    lines: list[Line] = [(), *wrap(f"{when}  {visible(sample.pod)}  unit {visible(sample.unit)}", cells, Tone.STRONG)]
    if not sample.fields:
        return lines + wrap(_failure(sample), cells, Tone.BAD, indent="  ")
    for each in sample.fields:
        lines += wrap(f"{visible(each.name)}{f': {visible(each.how)}' if each.how else ''}", cells, indent="  ")
        lines += _value("old", each.old, cells, Tone.NORMAL) + _value("new", each.new, cells, Tone.WARN)
    if sample.more:
        lines += wrap(f"and {sample.more} more fields", cells, Tone.DIM, indent="  ")
    return lines


def _value(side: str, value: str, cells: int, tone: Tone) -> list[Line]:
    """Blanks are kept: they may be all that differs."""
    text, room = visible(value), max(8, cells - 10)
    pieces = []
    while text:
        piece = ""
        while text and cell_len(piece + text[0]) <= room:
            piece, text = piece + text[0], text[1:]
        pieces.append(piece)
    head = f"    {side}   "
    return [
        ((head if at == 0 else " " * len(head), Tone.DIM), (piece, tone)) for at, piece in enumerate(pieces or [""])
    ]


def _failure(sample: ShadowSample) -> str:
    told = _FAILED.get(sample.what, "nothing is told of it")
    return f"✗ {told}" + (f": {visible(sample.error)}" if sample.error else "")


def _pod(sample: ShadowSample) -> str:
    """What tells one pod of a Deployment from another."""
    return cut_start(visible(sample.pod).rpartition("-")[2], POD)


def _column(name: str, values: Iterable[str], most: int) -> int:
    return min(most, max([len(name), *(cell_len(visible(value)) for value in values)]))


def visible(text: str) -> str:
    """The text with every character that cannot be seen as an escape: it may be the very one that differs."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def parted(old: str, new: str, room: int) -> tuple[str, str]:
    """Both texts from a little before the place where they part, where that would be out of sight."""
    if max(cell_len(old), cell_len(new)) <= room:
        return old, new
    pairs = enumerate(zip(old, new, strict=False))
    place = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    start = place - LEAD
    if start < 2 or cell_len(old[:place]) < room - LEAD:
        return old, new
    return "…" + old[start:], "…" + new[start:]
