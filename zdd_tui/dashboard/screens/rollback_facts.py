"""The facts that the confirmation of a rollback shows above the steps to undo."""

from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, hang, wrap
from zdd_tui.dashboard.widgets.panes.traffic import read_traffic
from zdd_tui.model.rollback import FactTone, RollbackHistory, describe_rollback_facts

_STYLES = {FactTone.NORMAL: TextStyle.NORMAL, FactTone.WARNING: TextStyle.WARN, FactTone.LOSS: TextStyle.BAD}
_LABEL_WIDTH = 11


def rollback_fact_lines(
    board: DashboardState, context: RenderContext, history: Observed[RollbackHistory], cells: int
) -> list[Line]:
    """What users see now, what is lost, and how long it took before.

    Args:
        history: without a value while it is being read.
    """
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return []
    facts = describe_rollback_facts(
        board.plan.strategy,
        board.plan.change,
        record,
        read_traffic(board, context.now),
        history.value,
        now,
        history.age(context.now) or 0.0,
    )
    return [
        line
        for fact in facts
        for line in hang(
            ((f"{fact.label:<{_LABEL_WIDTH}}", TextStyle.DIM),),
            wrap(fact.text, max(10, cells - _LABEL_WIDTH), _STYLES[fact.tone]),
        )
    ]
