"""Different results of a dark launch: the newest samples from the pods' logs, old value beside new value.

A field that the application masks shows its shape instead of its value, such as ``<text of 14>``.
"""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells

from zdd_tui.dashboard.state import Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    error_lines,
    fit,
    format_source_age,
    hang,
    justify,
    line_width,
    truncate,
    truncate_start,
    wrap,
)
from zdd_tui.model.counting import count_noun
from zdd_tui.model.shadow import FieldDifference, ShadowSample, ShadowSamples

POD_NAME_WIDTH = 6
NARROW_BELOW = 100
"""Width in cells below which unit and field are narrower, to leave room for the values."""

CONTEXT_CHARACTERS = 6
"""Characters that stay visible before the first difference of two values."""

_FAILURE_TEXTS = {"error": "new path failed", "timeout": "new path timed out"}


def shadow_sample_lines(
    source: Observed[ShadowSamples], limit: float, context: RenderContext, cells: int, *, in_full: bool
) -> list[Line]:
    """A heading with the age of the samples, then one row per field; or every value in full.

    Args:
        limit: seconds after which the samples are stale.
        in_full: values are wrapped instead of truncated.
    """
    age = source.age(context.now)
    stale = source.is_stale(context.now, limit)
    text = "" if age is None else f"{format_source_age(age, stale=stale)} old"
    age_text: Line = ((text, TextStyle.WARN if stale else TextStyle.DIM),)
    lines = [justify((("different results, newest first", TextStyle.DIM),), age_text, cells)]
    if source.error:
        lines += error_lines(f"the pods' logs: {source.error}", source.hint, cells)
    samples = source.value
    if samples is None:
        return lines if source.error else [*lines, (("… reading the pods' logs", TextStyle.DIM),)]
    lines += _count_text(samples, cells)
    if not samples.samples:
        return lines
    if in_full:
        return lines + [line for sample in samples.samples for line in _full_lines(sample, context, cells)]
    return lines + _table(samples.samples, context, cells)


def _count_text(samples: ShadowSamples, cells: int) -> list[Line]:
    """How many samples are shown, and from how many logs."""
    logs = "the log of 1 pod" if samples.logs_read == 1 else f"the logs of {samples.logs_read} pods"
    lines: list[Line] = []
    if samples.samples:
        rest = max(0, samples.total_failures - len(samples.samples))
        more = f"at least {rest:,} more not shown" if rest else "no others known"
        lines += wrap(
            f"{count_noun(len(samples.samples), 'sample')} from {logs}; {more}",
            cells,
            TextStyle.WARN if rest else TextStyle.NORMAL,
        )
    else:
        lines += wrap(f"no samples in {logs}, the last {samples.lines_per_log:,} lines of each", cells)
    if samples.logs_not_read:
        unread = "1 log was" if samples.logs_not_read == 1 else f"{samples.logs_not_read} logs were"
        lines += wrap(f"? {unread} not read: {samples.not_read_reason}", cells, TextStyle.WARN)
    return lines


def _table(samples: Sequence[ShadowSample], context: RenderContext, cells: int) -> list[Line]:
    most = 8 if cells < NARROW_BELOW else 16
    unit = _column("UNIT", (sample.unit for sample in samples), most)
    field = _column("FIELD", (each.name for sample in samples for each in sample.fields), most)
    room = max(8, (cells - 8 - POD_NAME_WIDTH - unit - field - 5) // 2)
    head = f"{'WHEN':<8} {'POD':<{POD_NAME_WIDTH}} {'UNIT':<{unit}} {'FIELD':<{field}} {'OLD':<{room}} NEW"
    lines: list[Line] = [clip(((head, TextStyle.DIM),), cells)]
    for sample in samples:
        pod, key = _short_pod_name(sample), fit(escape_invisible(sample.unit), unit)
        who = f"{context.clock.time_of_day(sample.at):<8} {pod:<{POD_NAME_WIDTH}} {key} "
        for row in _field_lines(sample, field, room):
            line: Line = ((who, TextStyle.NORMAL), *row)
            if line_width(line) > cells and row[-1][1] is TextStyle.DIM:
                line = line[:-1]  # the description of the difference goes before a value
            lines.append(clip(line, cells))
            who = " " * cell_len(who)
    return lines


def _field_lines(sample: ShadowSample, field: int, room: int) -> list[Line]:
    if not sample.fields:
        return [((_failure_text(sample), TextStyle.BAD),)]
    rows: list[Line] = []
    for each in sample.fields:
        old, new = align_at_difference(escape_invisible(each.old), escape_invisible(each.new), room)
        how: Line = ((f"  {_difference_text(each)}", TextStyle.DIM),) if each.difference else ()
        name = f"{fit(escape_invisible(each.name), field)} "
        values: Line = ((f"{fit(old, room)} ", TextStyle.NORMAL), (truncate(new, room), TextStyle.WARN))
        rows.append(((name, TextStyle.KEY), *values, *how))
    if sample.omitted_fields:
        rows.append(((f"and {count_noun(sample.omitted_fields, 'more field')}", TextStyle.DIM),))
    return rows


def _full_lines(sample: ShadowSample, context: RenderContext, cells: int) -> list[Line]:
    when = context.clock.time_of_day(sample.at)
    lines: list[Line] = [
        (),
        *wrap(f"{when}  {escape_invisible(sample.pod)}  unit {escape_invisible(sample.unit)}", cells, TextStyle.STRONG),
    ]
    if not sample.fields:
        return lines + wrap(_failure_text(sample), cells, TextStyle.BAD, indent="  ")
    for each in sample.fields:
        how_text = f": {_difference_text(each)}" if each.difference else ""
        lines += wrap(f"{escape_invisible(each.name)}{how_text}", cells, indent="  ")
        lines += _value_lines("old", each.old, cells, TextStyle.NORMAL)
        lines += _value_lines("new", each.new, cells, TextStyle.WARN)
    if sample.omitted_fields:
        lines += wrap(f"and {count_noun(sample.omitted_fields, 'more field')}", cells, TextStyle.DIM, indent="  ")
    return lines


def _difference_text(field: FieldDifference) -> str:
    """``differs only in case``, for ``only case`` in the sample."""
    text = escape_invisible(field.difference)
    return f"differs only in {text.removeprefix('only ')}" if text.startswith("only ") else text


def _value_lines(side: str, value: str, cells: int, style: TextStyle) -> list[Line]:
    """Keeps blanks: they may be the only difference."""
    pieces = chop_cells(escape_invisible(value), max(8, cells - 10)) or [""]
    return hang(((f"    {side}   ", TextStyle.DIM),), [((piece, style),) for piece in pieces])


def _failure_text(sample: ShadowSample) -> str:
    text = _FAILURE_TEXTS.get(sample.kind, "no details")
    return f"✗ {text}" + (f": {escape_invisible(sample.error)}" if sample.error else "")


def _short_pod_name(sample: ShadowSample) -> str:
    """The suffix that identifies a pod of a Deployment."""
    return truncate_start(escape_invisible(sample.pod).rpartition("-")[2], POD_NAME_WIDTH)


def _column(name: str, values: Iterable[str], most: int) -> int:
    return min(most, max([len(name), *(cell_len(escape_invisible(value)) for value in values)]))


def escape_invisible(text: str) -> str:
    """Shows invisible characters as escapes: they may be the only difference."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def align_at_difference(old: str, new: str, room: int) -> tuple[str, str]:
    """Both texts from shortly before their first difference, where that would not be visible."""
    if max(cell_len(old), cell_len(new)) <= room:
        return old, new
    pairs = enumerate(zip(old, new, strict=False))
    place = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    start = place - CONTEXT_CHARACTERS
    if start < 2 or cell_len(old[:place]) < room - CONTEXT_CHARACTERS:
        return old, new
    return "…" + old[start:], "…" + new[start:]
