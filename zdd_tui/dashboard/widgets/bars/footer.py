"""The last line: keys that have an effect now. A key that would be refused is not shown."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from textual import events
from textual.widgets import Input

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, PlanView, RenderContext
from zdd_tui.dashboard.widgets.drawing.key_clicks import clicked_key
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.dashboard.widgets.panes.pane import missing_pane_reason
from zdd_tui.model.actions import ACTIONS, Action, find_action, key_name
from zdd_tui.model.agent_start import describe_start, why_no_start
from zdd_tui.model.release.claims import count_verdicts
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.next_commands import explain_no_table_pause, explain_refusal, pause_or_resume
from zdd_tui.model.release.state import CONDITIONS_UNKNOWN, GATES_CLOSED, CommandKind, Release

_GAP = ("  ", TextStyle.NORMAL)
_DIGITS = tuple("0123456789")
FILTER_KEYS: Line = (
    ("Enter", TextStyle.KEY),
    (" keep filter", TextStyle.NORMAL),
    _GAP,
    ("Esc", TextStyle.KEY),
    (" clear filter", TextStyle.NORMAL),
)
"""While a filter is typed."""


class Footer(ReleaseView):
    """``a advance  p pause  R rollback  ? help``."""

    is_coloured_in_production = True

    def dependencies(self, state: DashboardState) -> tuple[object, ...]:
        return (*super().dependencies(state), self._is_typing)

    @property
    def _is_typing(self) -> bool:
        """A text field takes every other key."""
        return isinstance(self.screen.focused, Input)

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [self._typing_line() if self._is_typing else footer_line(board, context, cells)]

    def _typing_line(self) -> Line:
        """A text field takes single letters: rollback has another key there."""
        binding_id = find_action("rollback").binding_id
        bindings = self.screen.active_bindings
        key = next((key_name(key) for key, each in bindings.items() if each.binding.id == binding_id), "")
        return (*FILTER_KEYS, _GAP, (key, TextStyle.KEY), (" rollback", TextStyle.NORMAL)) if key else FILTER_KEYS

    def on_click(self, event: events.Click) -> None:
        """A click on a key or on its text is that key."""
        offset = event.get_content_offset(self)
        if offset is not None and self.all_lines() and (key := clicked_key(self.all_lines()[0], offset.x)):
            self.app.simulate_key(key)


def footer_line(board: DashboardState, context: RenderContext, cells: int) -> Line:
    """As many keys as fit; help and palette list the others."""
    hints = [
        _hint(tuple(together), context)
        for _, together in groupby(_shown_actions(board, context), key=lambda each: each.group or each.id)
    ]
    line: Line = ()
    for hint in hints:
        longer = (*line, _GAP, *hint) if line else hint
        if line_width(longer) <= cells:
            line = longer
    return line


def _shown_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    return tuple(each for each in available_actions(board, context) if not each.hidden_in_footer)


def _hint(actions: tuple[Action, ...], context: RenderContext) -> Line:
    keys = shorten_keys([context.key_names[each.id] for each in actions])
    return ((keys, TextStyle.KEY), (f" {actions[0].group or actions[0].label}", TextStyle.NORMAL))


def shorten_keys(keys: Sequence[str]) -> str:
    """``1-4 6`` for ``1 2 3 4 6``: three or more consecutive digits become a range."""
    runs: list[list[str]] = []
    for key in keys:
        follows = key in _DIGITS and runs and runs[-1][-1] in _DIGITS and int(key) == int(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(key)
        else:
            runs.append([key])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(run) for run in runs)


def offered_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    """The actions that exist now; some may be refused. Of actions that share a key, one exists at a time."""
    record = board.release.value
    hidden = {CommandKind.PAUSE, CommandKind.RESUME} - {pause_or_resume(record.release if record else None)}
    return tuple(
        each
        for each in ACTIONS
        if each.id not in hidden
        and context.production_lock.is_available(each, context.now)
        and is_within_reach(board.plan, each.id, has_fleet=context.has_fleet)
    )


_REGION_STEPS = {"previous-region": -1, "next-region": 1}


def is_within_reach(plan: PlanView, action_id: str, *, has_fleet: bool) -> bool:
    """Whether there is what an action opens: a fleet, a region before or after this one; True for other actions."""
    if action_id in _REGION_STEPS:
        return has_fleet and bool(plan.region_beside(_REGION_STEPS[action_id]))
    return has_fleet or action_id != "fleet"


def available_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    """The actions that have an effect now."""
    return tuple(each for each in offered_actions(board, context) if not action_disabled_reason(board, context, each))


def action_disabled_reason(board: DashboardState, context: RenderContext, each: Action) -> str:
    """Why an action has no effect in this state; empty when it has one."""
    if each.id == "start-agent":
        return agent_start_disabled_reason(board, context)
    if each.id == "pause-table":
        return table_pause_disabled_reason(board, context)
    if each.command_kind:
        return disabled_reason(board, context, CommandKind(each.command_kind))
    return missing_pane_reason(board, each.pane)


def agent_start_disabled_reason(board: DashboardState, context: RenderContext) -> str:
    """Why no agent may be started now; empty where one may."""
    record = board.release.value
    if record is not None and board.release.is_stale(context.now, RELEASE_STALE_SECONDS):
        return "the database does not respond: whether an agent is running is not known"
    if record is None and not board.release.error:
        return "the release has not been read yet"
    return why_no_start(record, board.agent_start, context.now, board.release.age(context.now) or 0.0)


def table_pause_disabled_reason(board: DashboardState, context: RenderContext) -> str:
    """Why no table can be paused or resumed by itself now; empty where one can."""
    return _disabled_reason(board, context, CommandKind.PAUSE, explain_no_table_pause)


def disabled_reason(board: DashboardState, context: RenderContext, kind: CommandKind, table: str = "") -> str:
    """Why a command would be refused in this state; empty when it would be accepted.

    Before the first reading a rollback is accepted: its dialog waits for that.

    Args:
        table: of a pause or resume of one table.
    """
    return _disabled_reason(
        board, context, kind, lambda release, gates, now: explain_refusal(release, kind, gates, now, table=table)
    )


def _disabled_reason(
    board: DashboardState,
    context: RenderContext,
    kind: CommandKind,
    explain: Callable[[Release, Mapping[str, GateReading], float], str],
) -> str:
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        is_absent = bool(board.release.error) and not board.release.is_stale(context.now, RELEASE_STALE_SECONDS)
        if kind is CommandKind.ROLLBACK and not is_absent:
            return ""
        return board.release.error or "the release has not been read yet"
    if not board.activity(context.now).is_known and kind is not CommandKind.ROLLBACK:  # rollback is always offered
        return f"{board.release.error or 'the database does not respond'}; commands are blocked until it recovers"
    counted = count_verdicts(record, now)
    reason = explain(counted.release, counted.gates, now)
    activity = board.activity(context.now)
    if not activity.is_active and reason.startswith((GATES_CLOSED, CONDITIONS_UNKNOWN)):
        return f"{activity.description}. {agent_hint(board, context)}; without an agent no gate is evaluated"
    return _with_keys(reason, context)


def agent_hint(board: DashboardState, context: RenderContext) -> str:
    """What became of the agent that was started here; else what starts one."""
    started = describe_start(board.agent_start, context.now, board.activity(context.now))
    if started and agent_start_disabled_reason(board, context):
        return started
    can_start = context.production_lock.is_available(find_action("start-agent"), context.now)
    fix = f"{context.key_names['start-agent']} starts an agent" if can_start else "Fix: zdd agent PLAN"
    return f"{started}. {fix}" if started else fix


def _with_keys(reason: str, context: RenderContext) -> str:
    """A reason from the rules with keys in place of commands. That of `zdd status` is this screen."""
    reason = re.sub(r" \([^()]*zdd status PLAN\)$", "", reason)
    return re.sub(
        r"zdd (resume|rollback) PLAN( --table (?:'[^']*'|\S+))?",
        lambda found: f"press {context.key_names['pause-table' if found[2] else found[1]]}",
        reason,
    )
