"""The doctor's findings: seven pitfalls with all their evidence, and the release checklist on one screen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, cut, human_age, spread, wrap
from zdd_tui.model.release.gate import Verdict

if TYPE_CHECKING:
    from zdd_tui.model.doctor import Finding, Report  # its rules are for later than the first paint

_WORD = max(len(verdict) for verdict in Verdict)


class DoctorScreen(Acting[None], ModalScreen[None], HasPage):
    """Two pages; it looks when it is opened and when it is asked to.

    Args:
        examine: asks for a new examination; its result comes with a later board.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d,q", "dismiss", "Close", show=False, id="doctor.close"),
        Binding("tab,c", "turn", "Other page", show=False, id="doctor.turn"),
        Binding("r", "again", "Look again", show=False, id="doctor.again"),
    ]

    CSS = DIALOG_CSS.format(name="DoctorScreen")

    def __init__(self, board: Board, moment: Moment, examine: Callable[[], None]) -> None:
        super().__init__()
        self._last = (board, moment)
        self._examine = examine
        self._checklist = False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(Page).focus()
        self._examine()
        self.show(*self._last)

    def show(self, board: Board, moment: Moment) -> None:
        self._last = (board, moment)
        self.query_one(Page).show(board, moment)
        self.query_one(Keys).show(board, moment)

    def action_turn(self) -> None:
        self._checklist = not self._checklist
        self.query_one(Page).scroll_home(animate=False)
        self.show(*self._last)

    def action_again(self) -> None:
        self._examine()

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        rows = self.query_one(Page).content_size.height
        return doctor_lines(board, moment, cells, rows, checklist=self._checklist)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        other = "pitfalls" if self._checklist else "checklist"
        hints = (("Tab", other), ("r", "look again"), ("↑ ↓", "scroll"), ("Esc", "close"))
        return [tuple(part for key, told in hints for part in ((key, Tone.KEY), (f" {told}   ", Tone.NORMAL)))]


def doctor_lines(board: Board, moment: Moment, cells: int, rows: int, *, checklist: bool) -> list[Line]:
    """One of the two pages.

    Args:
        rows: of the page: the checklist leaves out what would not fit into them.
    """
    source, report = board.doctor, board.doctor.value
    age = source.age(moment.now)
    looked = "looking …" if board.examining else "" if age is None else f"looked {human_age(age)} ago"
    title: Line = (
        ("release checklist" if checklist else "pitfalls", Tone.STRONG),
        (f"  {board.plan.name}", Tone.NORMAL),
    )
    lines = [spread(title, ((looked, Tone.DIM),), cells)]
    if source.error:
        lines += wrap(f"✗ {source.error}", cells, Tone.BAD)
        lines += wrap(f"→ {source.mend}", cells, Tone.STRONG) if source.mend else []
    if report is None:
        told = "It asks the cluster, the database, Redis, DNS and git, each on its own; this takes some seconds."
        waiting = told if board.examining else "" if source.error else "It has not looked yet: press r."
        return [*lines, (), *wrap(waiting, cells)]
    return [*lines, *(_checklist(report, cells, rows - len(lines)) if checklist else _pitfalls(report, cells))]


def _pitfalls(report: "Report", cells: int) -> list[Line]:
    lines: list[Line] = []
    for number, finding in enumerate(report.pitfalls, 1):
        lines += [(), _head(number, finding, cells)]
        for each in finding.observations:
            glyph, tone = GLYPHS[each.verdict]
            quiet = each.verdict is Verdict.PASS
            first, *rest = wrap(each.text, cells - 4, Tone.DIM if quiet else Tone.NORMAL)
            lines.append((("  ", Tone.NORMAL), (f"{glyph} ", tone), *first))
            lines += [(("    ", Tone.NORMAL), *line) for line in rest]
            lines += wrap(f"→ {each.mend}", cells, Tone.STRONG, indent="    ") if each.mend and not quiet else []
    return lines


def _checklist(report: "Report", cells: int, rows: int) -> list[Line]:
    """All points at once; what to do is told where there is room for it."""
    points = [_point(number, finding, cells) for number, finding in enumerate(report.checklist, 1)]
    if sum(len(point) for point in points) + len(points) <= rows:
        return [line for point in points for line in ((), *point)]
    if sum(len(point) for point in points) <= rows:
        return [line for point in points for line in point]
    return [line for point in points for line in point[:2]]


def _point(number: int, finding: "Finding", cells: int) -> list[Line]:
    telling = finding.telling
    lines: list[Line] = [
        spread(_head(number, finding, cells), ((finding.id, Tone.DIM),), cells),
        ((f"    {cut(telling.text, cells - 4)}", Tone.NORMAL),),
    ]
    if telling.mend and telling.verdict is not Verdict.PASS:
        lines.append(((f"    {cut(f'→ {telling.mend}', cells - 4)}", Tone.STRONG),))
    return lines


def _head(number: int, finding: "Finding", cells: int) -> Line:
    glyph, tone = GLYPHS[finding.verdict]
    head = f"{glyph} {finding.verdict:<{_WORD}} "
    return ((head, tone), (cut(f"{number}. {finding.title}", cells - len(head)), Tone.STRONG))
