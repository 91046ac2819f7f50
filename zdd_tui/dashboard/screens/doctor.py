"""The doctor's findings: seven pitfalls with their evidence, and the release checklist."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.dialog import FollowingDialog, PageView, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    error_lines,
    format_age,
    hang,
    justify,
    truncate,
    wrap,
)
from zdd_tui.model.release.gate import Verdict

if TYPE_CHECKING:
    from zdd_tui.model.doctor import Finding, Report  # not imported before the first paint

_VERDICT_WIDTH = max(len(verdict) for verdict in Verdict)


class DoctorScreen(FollowingDialog[None]):
    """Two pages. Checks run when it is opened and on request.

    Args:
        run_doctor: starts the checks; the result arrives with a later state.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d,q", "dismiss", "Close", show=False, id="doctor.close"),
        Binding("tab,c", "turn", "Other page", show=False, id="doctor.turn"),
        Binding("r", "refresh", "Check again", show=False, id="doctor.refresh"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext, run_doctor: Callable[[], None]) -> None:
        super().__init__(board, context)
        self._run_doctor = run_doctor
        self._shows_checklist = False

    def on_mount(self) -> None:
        self._run_doctor()

    def action_turn(self) -> None:
        self._shows_checklist = not self._shows_checklist
        self.query_one(PageView).scroll_home(animate=False)
        self._draw()

    def action_refresh(self) -> None:
        self._run_doctor()

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        rows = self.query_one(PageView).content_size.height
        return doctor_lines(board, context, cells, rows, checklist=self._shows_checklist)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        other = "pitfalls" if self._shows_checklist else "checklist"
        return [key_hints_line((("Tab", other), ("r", "check again"), ("↑ ↓", "scroll"), ("Esc", "close")))]


def doctor_lines(
    board: DashboardState, context: RenderContext, cells: int, rows: int, *, checklist: bool
) -> list[Line]:
    """One of the two pages.

    Args:
        rows: height of the page; the checklist leaves out hints that do not fit.
    """
    source, report = board.doctor_report, board.doctor_report.value
    age = source.age(context.now)
    checked = "checking …" if board.is_doctor_running else "" if age is None else f"checked {format_age(age)} ago"
    title: Line = (
        ("release checklist" if checklist else "pitfalls", TextStyle.STRONG),
        (f"  {board.plan.name}", TextStyle.NORMAL),
    )
    lines = [justify(title, ((checked, TextStyle.DIM),), cells)]
    lines += error_lines(source.error, source.hint, cells)
    if report is None:
        text = "It checks the cluster, the database, Redis, DNS and git in parallel; this takes some seconds."
        waiting = text if board.is_doctor_running else "" if source.error else "Not checked yet: press r."
        return [*lines, (), *wrap(waiting, cells)]
    return [
        *lines,
        *(_checklist_lines(report, cells, rows - len(lines)) if checklist else _pitfall_lines(report, cells)),
    ]


def _pitfall_lines(report: "Report", cells: int) -> list[Line]:
    lines: list[Line] = []
    for number, finding in enumerate(report.pitfalls, 1):
        lines += [(), _finding_line(number, finding, cells)]
        for each in finding.observations:
            glyph, style = VERDICT_GLYPHS[each.verdict]
            passes = each.verdict is Verdict.PASS
            text = wrap(each.text, cells - 4, TextStyle.DIM if passes else TextStyle.NORMAL)
            lines += hang((("  ", TextStyle.NORMAL), (f"{glyph} ", style)), text)
            lines += error_lines("", "" if passes else each.hint, cells, indent="    ")
    return lines


def _checklist_lines(report: "Report", cells: int, rows: int) -> list[Line]:
    """All items on one page; with hints where they fit."""
    items = [_checklist_item_lines(number, finding, cells) for number, finding in enumerate(report.checklist, 1)]
    if sum(len(lines) for lines in items) + len(items) <= rows:
        return [line for lines in items for line in ((), *lines)]
    if sum(len(lines) for lines in items) <= rows:
        return [line for lines in items for line in lines]
    return [line for lines in items for line in lines[:2]]


def _checklist_item_lines(number: int, finding: "Finding", cells: int) -> list[Line]:
    observation = finding.deciding_observation
    lines: list[Line] = [
        justify(_finding_line(number, finding, cells), ((finding.id, TextStyle.DIM),), cells),
        ((f"    {truncate(observation.text, cells - 4)}", TextStyle.NORMAL),),
    ]
    if observation.hint and observation.verdict is not Verdict.PASS:
        lines.append(((f"    {truncate(f'→ Fix: {observation.hint}', cells - 4)}", TextStyle.STRONG),))
    return lines


def _finding_line(number: int, finding: "Finding", cells: int) -> Line:
    glyph, style = VERDICT_GLYPHS[finding.verdict]
    head = f"{glyph} {finding.verdict:<{_VERDICT_WIDTH}} "
    return ((head, style), (truncate(f"{number}. {finding.title}", cells - len(head)), TextStyle.STRONG))
