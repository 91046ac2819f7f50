"""A rule of the guard: verdict, values, query, and the guard's action."""

from collections.abc import Sequence
from dataclasses import replace

from zdd_tui.dashboard.screens.details.base import (
    LABEL_WIDTH,
    ContextSource,
    RecordScreen,
    TextFormatter,
    verdict_change_lines,
)
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.chart import draw_chart
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, format_data_age, sanitize
from zdd_tui.dashboard.widgets.panes.guard import describe_guard_end, guard_readings, headroom
from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.guard.decisions import decide_actions
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.queries import RuleView
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading, ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState

CHART_ROWS = 4
"""Height of the chart in lines."""

_BAR_WIDTH = 20
"""Width of the headroom bar in cells."""


class RuleScreen(RecordScreen):
    """One rule, by its name."""

    def __init__(self, source: StateSource, get_context: ContextSource, rule: str) -> None:
        super().__init__(source, get_context)
        self._rule = rule

    def heading(self, board: DashboardState) -> str:
        return f"guard rule {self._rule}"

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, formatter: TextFormatter
    ) -> Sequence[Line]:
        reading = next((each for each in guard_readings(board, now) if each.rule == self._rule), None)
        if reading is None:
            return [(("the release has no such rule", TextStyle.WARN),)]
        view = next((each for each in board.plan.guard_rules if each.name == self._rule), RuleView(self._rule))
        was_evaluated = any(each.rule == self._rule for each in record.guard)
        lines = verdict_lines(reading, was_evaluated, now, formatter, ended=describe_guard_end(record.release.state))
        lines += [(), *number_lines(reading, view, formatter)]
        activity = board.activity(context.now)
        if not activity.is_active and not record.release.state.has_ended:
            lines += [(), *formatter.labelled("action", f"none: {activity.description}", TextStyle.WARN)]
        elif not record.release.state.has_ended or reading.action_taken:
            lines += [(), *rule_action_lines(reading, view, record, formatter)]
        lines += [(), *(line for word, text in view.properties for line in formatter.labelled(word, text))]
        if not view.properties:
            lines += formatter.labelled("query", "not in this recording", TextStyle.DIM)
        lines += [(), (("changes of the verdict", TextStyle.DIM),), *self.query_error_lines(self._audit, formatter)]
        if self._audit.value is not None:
            lines += verdict_change_lines("guard", self._rule, self._audit.value, context, formatter, indent="  ") or [
                (("  none in this release", TextStyle.DIM),)
            ]
        return lines


def verdict_lines(
    reading: GuardReading, evaluated: bool, now: float, formatter: TextFormatter, *, ended: str
) -> list[Line]:
    """Verdict, age and reason.

    Args:
        ended: that the guard has ended, and why; empty while it evaluates.
    """
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    word = f"last: {glyph} {reading.verdict}" if ended else f"{glyph} {reading.verdict}"
    head: Line = ((f"{word}  ", TextStyle.DIM if ended else style), (sanitize(reading.rule), TextStyle.STRONG))
    age = f"{format_data_age(reading.age(now))} old, valid for {format_age(reading.max_age)}"
    age = f"{format_age(reading.age(now))} ago" if ended else age
    return [
        *(formatter(ended, TextStyle.STRONG) if ended else []),
        formatter.heading(head, age if evaluated else ""),
        *formatter(reading.reason, style if reading.verdict is Verdict.FAIL else TextStyle.NORMAL, indent="  "),
    ]


def number_lines(reading: GuardReading, view: RuleView, formatter: TextFormatter) -> list[Line]:
    """Value, the old version's value, limit, headroom and history."""
    unit = reading.unit
    current = "none" if reading.value is None else format_value(reading.value, unit)
    if reading.samples and reading.value is not None:
        current += f" of {count_noun(reading.samples, 'sample')}"
    lines = formatter.labelled("value", current)
    if reading.baseline is not None:
        ratio = ""
        if reading.value is not None and reading.baseline:
            ratio = f": new is {reading.value / reading.baseline:.2f} times old"
        lines += formatter.labelled("old", f"{format_value(reading.baseline, unit)}{ratio}")
    if reading.limit is not None:
        lines += formatter.labelled("limit", format_value(reading.limit, unit))
    unused = headroom(reading)
    if unused is not None:
        full = int(_BAR_WIDTH * min(1.0, max(0.0, unused)) + 0.5)
        style = TextStyle.BAD if unused < 0 else TextStyle.WARN if unused < 0.1 else TextStyle.GOOD
        text = f"none: {-100 * unused:.0f}% above the limit" if unused < 0 else f"{int(100 * unused)}% of the limit"
        bar: Line = (("█" * full, style), ("░" * (_BAR_WIDTH - full), TextStyle.DIM), (f" {text}", TextStyle.STRONG))
        lines.append(formatter.clip(((f"  {'headroom':<{LABEL_WIDTH - 2}}", TextStyle.DIM), *bar)))
    return lines + ([(), *_history_lines(reading, view, formatter)] if reading.series else [])


def _history_lines(reading: GuardReading, view: RuleView, formatter: TextFormatter) -> list[Line]:
    def value(number: float) -> str:
        return format_value(number, reading.unit)

    bars = draw_chart(reading.series, reading.limit, formatter.cells - 2, CHART_ROWS, value)
    caption = f"last {count_noun(len(reading.series), 'sample')}"
    if view.interval:
        caption += f", one every {format_duration(view.interval)}"
    known = [number for number in reading.series if number is not None]
    if known:
        caption += f": {value(min(known))} to {value(max(known))}, the newest last"
    return [*((("  ", TextStyle.NORMAL), *line) for line in bars), formatter.clip(((f"  {caption}", TextStyle.DIM),))]


def rule_action_lines(
    reading: GuardReading, view: RuleView, record: ReleaseRecord, formatter: TextFormatter
) -> list[Line]:
    """The guard's action for a breach: the one taken, or the one that it would take now."""
    if reading.action_taken:
        lines = formatter.labelled("action", f"triggered {reading.action_taken} (once per breach)", TextStyle.WARN)
    else:
        lines = formatter.labelled("on breach", predict_action(reading, view, record), TextStyle.STRONG)
    action = view.action if view.properties else reading.action
    closes_gate = action is not GuardAction.ALERT
    if record.release.state.has_ended:
        return lines
    gates = "closes the gate “guard” of every phase until it passes" if closes_gate else "closes no gate"
    return lines + formatter.labelled("gates", gates)


def predict_action(reading: GuardReading, view: RuleView, record: ReleaseRecord) -> str:
    """The guard's decision if the rule were breached for long enough now."""
    action = view.action if view.properties else reading.action
    release = record.release
    rolled_back = any(each.action_taken == GuardAction.ROLLBACK for each in record.guard)
    breached = replace(reading, verdict=Verdict.FAIL, should_act=True, action_taken="", action=action)
    decision = next(iter(decide_actions(release, [breached], rolled_back=rolled_back)), None)
    if decision is None:
        if release.state.has_ended:
            return f"no action: {describe_guard_end(release.state)}"
        if release.state is ReleaseState.PLANNED:
            return "no action: the release has not started"
        return "no action: the release is rolling back"
    if decision.command is CommandKind.ROLLBACK:
        return "roll back automatically, once, without confirmation"
    if decision.command is CommandKind.PAUSE:
        instead = "" if action is GuardAction.PAUSE else f" ({action} is no longer possible)"
        return f"pause the release{instead} and notify"
    is_alert = action is GuardAction.ALERT
    return f"notify only: {'an alert changes nothing' if is_alert else 'the release is paused already'}"
