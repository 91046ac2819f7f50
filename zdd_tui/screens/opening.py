"""Which screen there is behind a row of a pane."""

from zdd_tui.board import BoardSource, FlagView
from zdd_tui.model.gate_rows import GateRow
from zdd_tui.model.guard import GuardReading
from zdd_tui.model.pod import Pod
from zdd_tui.model.records import FailedRow
from zdd_tui.screens.detail import DetailScreen, Look
from zdd_tui.screens.detail_backfill import BackfillScreen
from zdd_tui.screens.detail_flag import FlagScreen
from zdd_tui.screens.detail_gate import OneGateScreen
from zdd_tui.screens.detail_pod import PodScreen
from zdd_tui.screens.detail_rule import RuleScreen
from zdd_tui.widgets.chosen import RowChosen


def opened(chosen: RowChosen, source: BoardSource, look: Look) -> DetailScreen | None:
    """None where the row has no screen of its own."""
    match chosen.row:
        case Pod(name=name):
            return PodScreen(source, look, name)
        case FlagView(key=key):
            return FlagScreen(source, look, key)
        case GuardReading(rule=rule):
            return RuleScreen(source, look, rule)
        case GateRow(phase=phase, gate=gate):
            return OneGateScreen(source, look, phase, gate.name)
        case FailedRow():
            return BackfillScreen(source, look)
    return BackfillScreen(source, look, search=chosen.search) if chosen.pane == "backfill" else None
