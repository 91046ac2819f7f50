"""The message line: what became of the last command, and what the dashboard itself has to say."""

from zdd_tui.board import Board, Moment
from zdd_tui.widgets.course import Course, course_lines
from zdd_tui.widgets.line import Line, Tone, wrap
from zdd_tui.widgets.line_view import LineView


class MessageLine(LineView):
    """Hidden while there is nothing to say."""

    auto_height = 4

    course: Course | None = None

    notice: tuple[str, ...] = ()
    """What is to be known before the first command, such as a keymap that could not be taken as it is."""

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if self.course is not None:
            return course_lines(self.course, board, moment, cells)
        return [line for text in self.notice for line in wrap(text, cells, Tone.WARN)]
