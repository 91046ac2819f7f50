"""A rule of the guard: its verdict, the numbers behind it, what it asks, and what the guard would do."""

from collections.abc import Sequence
from dataclasses import replace

from zdd_tui.dashboard.screens.details.base import Look, RecordScreen, Told, same_story
from zdd_tui.dashboard.screens.details.gate import CHANGES
from zdd_tui.dashboard.state import Board, BoardSource, Moment
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.chart import chart
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, human_age, outside, spread
from zdd_tui.dashboard.widgets.panes.guard import budget_left, guard_readings
from zdd_tui.model.duration import human_duration
from zdd_tui.model.guard.reading import GuardAction, GuardReading, decide
from zdd_tui.model.guard.rules import show
from zdd_tui.model.queries import RuleView, Story, StoryQuery
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, State

CHART_ROWS = 4
"""Lines of the bars."""

_NAME = 10
"""Cells of a word and the blanks around it."""

_BAR = 20
"""Cells of the bar of the budget."""


class RuleScreen(RecordScreen):
    """One rule, by its name."""

    def __init__(self, source: BoardSource, look: Look, rule: str) -> None:
        super().__init__(source, look)
        self._rule = rule
        self._asked = self.will_ask(StoryQuery(), "the audit", same_story)

    def heading(self, board: Board) -> str:
        return f"guard rule {self._rule}"

    def record_body(
        self, board: Board, record: ReleaseRecord, now: float, moment: Moment, cells: int
    ) -> Sequence[Line]:
        reading = next((each for each in guard_readings(board, now) if each.rule == self._rule), None)
        if reading is None:
            return [(("the rule is not among the release's", Tone.WARN),)]
        view = next((each for each in board.plan.guard if each.name == self._rule), RuleView(self._rule))
        judged = any(each.rule == self._rule for each in record.guard)
        lines = verdict_lines(reading, judged, now, cells, self.text)
        lines += [(), *number_lines(reading, view, cells, self.text)]
        lines += [(), *would_lines(reading, view, record, cells, self.text)]
        lines += [(), *(line for word, text in view.told for line in _named(word, text, cells, self.text))]
        if not view.told:
            lines += _named("asks", "not known: the recording is older than this screen", cells, self.text, Tone.DIM)
        lines += [(), (("changes of the verdict", Tone.DIM),), *self.missing(self._asked, cells)]
        if self._asked.value is not None:
            lines += change_lines(self._rule, self._asked.value, moment, cells, self.text)
        return lines


def verdict_lines(reading: GuardReading, judged: bool, now: float, cells: int, told: Told) -> list[Line]:
    """Verdict, its age, and the numbers in the rule's own words."""
    glyph, tone = GLYPHS[reading.verdict]
    head: Line = ((f"{glyph} {reading.verdict}  ", tone), (outside(reading.rule), Tone.STRONG))
    age = f"{human_age(reading.age(now))} old, counts for {human_age(reading.max_age)}" if judged else ""
    return [
        spread(clip(head, cells), ((age, Tone.DIM),), cells),
        *told(reading.reason, cells, tone if reading.verdict is Verdict.FAIL else Tone.NORMAL, indent="  "),
    ]


def number_lines(reading: GuardReading, view: RuleView, cells: int, told: Told) -> list[Line]:
    """Value, old version, limit, what is left of it, and where the value has been."""

    def value(number: float) -> str:
        return show(number, reading.unit)

    lines: list[Line] = []
    now = "no value" if reading.value is None else value(reading.value)
    if reading.samples:
        now += f" of {reading.samples:,} samples"
    lines += _named("now", now, cells, told)
    if reading.baseline is not None:
        lines += _named("old", f"{value(reading.baseline)}{_beside(reading)}", cells, told)
    if reading.limit is not None:
        lines += _named("limit", value(reading.limit), cells, told)
    left = budget_left(reading)
    if left is not None:
        share = min(1.0, max(0.0, left))
        full = int(_BAR * share + 0.5)
        tone = Tone.BAD if left < 0 else Tone.WARN if left < 0.1 else Tone.GOOD
        over = f"over by {-100 * left:.0f}% of the limit" if left < 0 else f"{int(100 * left)}% of the limit"
        bar: Line = (("█" * full, tone), ("░" * (_BAR - full), Tone.DIM), (f" {over}", Tone.STRONG))
        lines.append(clip(((f"  {'left':<{_NAME - 2}}", Tone.DIM), *bar), cells))
    if reading.series:
        lines += [(), *_history(reading, view, cells)]
    return lines


def _beside(reading: GuardReading) -> str:
    """The new version's value as a share of the old one's."""
    if reading.value is None or not reading.baseline:
        return ""
    return f": new is {reading.value / reading.baseline:.2f} times old"


def _history(reading: GuardReading, view: RuleView, cells: int) -> list[Line]:
    bars = chart(reading.series, reading.limit, cells - 2, CHART_ROWS, lambda number: show(number, reading.unit))
    looks = f"the last {len(reading.series)} looks"
    if view.every:
        looks += f", one every {human_duration(view.every)}"
    known = [value for value in reading.series if value is not None]
    if known:
        looks += f": {show(min(known), reading.unit)} to {show(max(known), reading.unit)}, the newest last"
    return [*((("  ", Tone.NORMAL), *line) for line in bars), clip(((f"  {looks}", Tone.DIM),), cells)]


def would_lines(reading: GuardReading, view: RuleView, record: ReleaseRecord, cells: int, told: Told) -> list[Line]:
    """What the guard has done about a breach, or what it would do about one now."""
    if reading.acted:
        lines = _named("did", f"asked for: {reading.acted}; once for each breach", cells, told, Tone.WARN)
    else:
        lines = _named("would", what_it_would_do(reading, view, record), cells, told, Tone.STRONG)
    demands = view.action if view.told else reading.action
    gates = (
        "closes the gate “guard” of every phase until it passes"
        if demands is not GuardAction.ALERT
        else "closes no gate"
    )
    return lines + _named("gates", gates, cells, told)


def what_it_would_do(reading: GuardReading, view: RuleView, record: ReleaseRecord) -> str:
    """By the guard's own decision, as if the rule were broken for long enough now."""
    action = view.action if view.told else reading.action
    release = record.release
    rolled_back = any(each.acted == GuardAction.ROLLBACK for each in record.guard)
    broken = replace(reading, verdict=Verdict.FAIL, acting=True, acted="", action=action)
    act = next(iter(decide(release, [broken], rolled_back=rolled_back)), None)
    if act is None:
        if release.state.ended:
            return f"do nothing: the release is {release.state}"
        if release.state is State.PLANNED:
            return "do nothing: the release has not begun"
        return "do nothing: the release is on its way back"
    if act.command is CommandKind.ROLLBACK:
        return "roll the release back by itself, once, without asking"
    if act.command is CommandKind.PAUSE:
        instead = "" if action is GuardAction.PAUSE else f" ({action} is not to be had any more)"
        return f"pause the release{instead}, and call for a person"
    return "only tell: " + ("it is paused already" if action is not GuardAction.ALERT else "an alert changes nothing")


def change_lines(rule: str, story: Story, moment: Moment, cells: int, told: Told) -> list[Line]:
    """When the verdict changed, and what the guard did, the newest first."""
    prefix = f"{rule}: "
    changes = [event for event in story.events if event.kind == "guard" and event.what.startswith(prefix)]
    lines: list[Line] = []
    for event in reversed(changes[-CHANGES:]):
        when, what = moment.clock.time_of_day(event.at), outside(event.what.removeprefix(prefix))
        lines += told(f"{when} {what}: {event.why}", cells, indent="  ")
    return lines or [(("  none in this release", Tone.DIM),)]


def _named(word: str, text: str, cells: int, told: Told, tone: Tone = Tone.NORMAL) -> list[Line]:
    """A text beside its word; further lines of it stand under the first."""
    first, *rest = told(text, max(10, cells - _NAME), tone)
    return [
        ((f"  {word:<{_NAME - 2}}", Tone.DIM), *first),
        *(((" " * _NAME, Tone.NORMAL), *line) for line in rest),
    ]
