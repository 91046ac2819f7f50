"""The limits of the backfill while it runs: what is in force, what the plan says, and what is to change."""

from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.bars.footer import why_not
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, cut, fit, outside, wrap
from zdd_tui.model.errors import PlanError
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.tuning import LIMITS, changes_text, in_force, parse_asked, retuned, value_text


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to change.

    Attributes:
        asked: limits by name, as :func:`zdd_tui.model.tuning.retuned` takes them.
        told: the same for people: ``speed 100% -> 50%``.
        reason: goes into the audit.
    """

    asked: dict[str, object]
    told: str
    reason: str = ""


class TuneScreen(Acting[Wish], ModalScreen[Wish], HasPage):
    """Arrows pick a limit; Enter notes the value that was typed, and with an empty line it sends what was noted.

    Args:
        asked: what is noted already.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Change nothing", show=False, id="tune.leave"),
        Binding("up", "move(-1)", "The limit above", show=False, id="tune.up"),
        Binding("down", "move(1)", "The limit below", show=False, id="tune.down"),
    ]

    CSS = DIALOG_CSS.format(name="TuneScreen")

    def __init__(self, board: Board, moment: Moment, asked: dict[str, object] | None = None) -> None:
        super().__init__()
        self._last = (board, moment)
        self._asked: dict[str, object] = dict(asked or {})
        self._at = 0
        self._wrong = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            yield Input(id="value")
            if self._needs_reason:
                reason = Input(id="reason")
                reason.border_title = "why: the plan asks for a reason"
                yield reason
            yield Keys()

    @property
    def _needs_reason(self) -> bool:
        return CommandKind.TUNE.value in self._last[0].plan.reasons

    def on_mount(self) -> None:
        self.query_one("#reason" if self._asked and self._needs_reason else "#value").focus()
        self._pick(0)

    def show(self, board: Board, moment: Moment) -> None:
        """Follows the board: another operator may tune too."""
        self._last = (board, moment)
        self._draw()

    def _draw(self) -> None:
        self.query_one(Page).show(*self._last)
        self.query_one(Keys).show(*self._last)

    def action_move(self, by: int) -> None:
        self._pick(min(max(0, self._at + by), len(LIMITS) - 1))

    def _pick(self, at: int) -> None:
        self._at, self._wrong = at, ""
        line, spec = self.query_one("#value", Input), LIMITS[at]
        line.value = ""
        none = ", or none" if spec.optional else ""
        line.border_title = Content(f"{spec.key} in {spec.unit}: a value{none}, or plan for the plan’s own")
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._wrong = ""
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        typed = self.query_one("#value", Input).value.strip()
        if typed:
            self._note(typed)
        else:
            self._send()

    def _note(self, typed: str) -> None:
        """Takes a value down, if the plan's rules allow it beside what is noted already."""
        record = self._last[0].release.value
        if record is None or record.plan_limits is None:
            return
        try:
            asked = self._asked | parse_asked([f"{LIMITS[self._at].key}={typed}"])
            retuned(record.plan_limits, record.tuning, asked)
        except PlanError as error:
            self._wrong = f"{error.title} ({error.mend})" if error.mend else error.title
        else:
            self._asked = asked
            self.query_one("#value", Input).value = ""
        self._draw()

    def _send(self) -> None:
        board, moment = self._last
        told = self._changes(board)
        reason = self.query_one("#reason", Input).value.strip() if self._needs_reason else ""
        self._wrong = why_not(board, moment, CommandKind.TUNE)
        if not self._wrong and not told:
            self._wrong = "nothing is to change: type a value first"
        elif not self._wrong and self._needs_reason and not reason:
            self._wrong = "the plan asks for a reason"
            self.query_one("#reason").focus()
        if self._wrong:
            self._draw()
        else:
            self.dismiss(Wish(self._asked, told, reason))

    def _changes(self, board: Board) -> str:
        """What is noted, and would change something now."""
        record = board.release.value
        if record is None or record.plan_limits is None or not self._asked:
            return ""
        wanted = retuned(record.plan_limits, record.tuning, self._asked)
        return changes_text(record.plan_limits, record.tuning, wanted) if wanted != record.tuning else ""

    def action_leave(self) -> None:
        self.dismiss(None)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return tune_lines(board, cells, self._at, self._asked)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if self._wrong:
            return wrap(f"✗ {self._wrong}", cells, Tone.BAD)
        typing, told = self.query_one("#value", Input).value.strip(), self._changes(board)
        above = wrap(f"to send: {told}", cells, Tone.STRONG)[:2] if told else []
        enter = "note it" if typing else "send" if told else ""
        hints = (("↑ ↓", "pick"), ("Enter", enter), ("Esc", "change nothing"))
        return [*above, _hints(hints)]


def _hints(hints: tuple[tuple[str, str], ...]) -> Line:
    return tuple(part for key, told in hints if told for part in ((key, Tone.KEY), (f" {told}   ", Tone.NORMAL)))


def tune_lines(board: Board, cells: int, picked: int, asked: dict[str, object]) -> list[Line]:
    """One line a limit: in force now, the plan's own, what is noted; then what the picked one is for."""
    record = board.release.value
    if record is None or record.plan_limits is None:
        return [(("this release has no backfill: there are no limits to change", Tone.DIM),)]
    plan, limits = record.plan_limits, in_force(record.plan_limits, record.tuning)
    wanted: Any = in_force(plan, retuned(plan, record.tuning, asked))
    name, column = max(len(each.key) for each in LIMITS) + 2, 11
    head = f"  {fit('limit', name)}{fit('in force', column)}{fit('plan', column)}to send"
    lines: list[Line] = [((cut(f"limits of the backfill of {outside(board.plan.name)}", cells), Tone.STRONG),)]
    lines.append(((head, Tone.DIM),))
    for at, spec in enumerate(LIMITS):
        now, own, then = (value_text(spec.key, getattr(each, spec.key)) for each in (limits, plan, wanted))
        line: Line = (
            ("▸ " if at == picked else "  ", Tone.KEY),
            (fit(spec.key, name), Tone.STRONG if at == picked else Tone.NORMAL),
            (fit(now, column), Tone.WARN if now != own else Tone.NORMAL),
            (fit(own, column), Tone.DIM),
            (f"→ {then}" if then != now else "", Tone.KEY),
        )
        lines.append(clip(line, cells))
    return [*lines, (), *wrap(LIMITS[picked].help, cells, Tone.DIM)]
