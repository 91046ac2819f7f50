"""The second line: every source of the release with its age, at every size of the screen."""

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    format_age,
    format_data_age,
    join,
    line_width,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.release.claims import SourceHealth, SourceStatus
from zdd_tui.model.release.system import System

_GLYPHS = {
    SourceStatus.FRESH: ("✔", TextStyle.DIM),
    SourceStatus.LOST: ("✗", TextStyle.BAD),
    SourceStatus.UNKNOWN: ("?", TextStyle.WARN),
    SourceStatus.NOT_NEEDED: ("○", TextStyle.DIM),
}
_SHORT_NAMES = {System.POSTGRESQL: "PG", System.KUBERNETES: "K8s", System.PROMETHEUS: "Prom"}


class HealthLine(ReleaseView):
    """``✔ PostgreSQL <3s  ✗ Redis 7s  ✔ Kubernetes <3s  ✔ agent <3s``."""

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [health_line(board, context, cells)]


def health_line(board: DashboardState, context: RenderContext, cells: int) -> Line:
    """A narrow terminal gets short names."""
    sources = board.health(context.now)
    for short, gap in ((False, "  "), (False, " "), (True, " ")):
        line = join([_source_text(each, short=short) for each in sources], (gap, TextStyle.NORMAL))
        if line_width(line) <= cells:
            break
    return clip(line, cells)


def _source_text(health: SourceHealth, *, short: bool) -> Line:
    return ((health_text(health, short=short), health_style(health)),)


def health_text(health: SourceHealth, *, short: bool = False) -> str:
    """Glyph, name and age."""
    name = short_name(health.name) if short else health.name
    return f"{_GLYPHS[health.status][0]} {name} {_age_text(health)}"


def short_name(name: System) -> str:
    return _SHORT_NAMES.get(name, name.value)


def health_style(health: SourceHealth) -> TextStyle:
    is_alarm = health.is_required and health.status is SourceStatus.LOST
    return TextStyle.ALARM if is_alarm else _GLYPHS[health.status][1]


def _age_text(health: SourceHealth) -> str:
    """The age; for a fresh source its upper bound, which does not change each second."""
    if health.status is SourceStatus.NOT_NEEDED:
        return "not needed"
    if health.age is None:
        return "none" if health.status is SourceStatus.LOST else "not read"
    return format_data_age(health.age) if health.status is SourceStatus.FRESH else format_age(health.age)
