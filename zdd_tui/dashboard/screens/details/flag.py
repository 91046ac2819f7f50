"""A flag: value, owner, expiry, and every change with its actor and reason."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.state import FLAGS_STALE_SECONDS, DashboardState, FlagView, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, sanitize
from zdd_tui.model.queries import AuditLog
from zdd_tui.model.release.records import Event
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.model.release.timeline import StepAttempt, build_timeline

_ROLE_DESCRIPTIONS = {
    "write": "while on, the application also writes the new side",
    "read": "share of requests served by the new side",
    "shadow": "share of requests for which the new path also runs (compared, not served)",
    "weight": "share of users served by the new image",
}
_STEPS_BY_ROLE = {
    "write": ("write-flag-on", "delete-flags"),
    "read": ("read-ramp", "read-flag-on", "set-read", "delete-flags"),
    "shadow": ("set-shadow", "shadow-off"),
    "weight": ("set-weight",),
}
"""Registry keys of the steps that change a flag, by its role."""


class FlagScreen(DetailScreen):
    """One flag, by its key."""

    refresh_interval: ClassVar[float] = 2.0

    def __init__(self, source: StateSource, get_context: ContextSource, key: str) -> None:
        super().__init__(source, get_context)
        self._key = key
        self._query = self.add_audit_query()

    def heading(self, board: DashboardState) -> str:
        return f"flag {self._key}"

    def age_source(self, board: DashboardState) -> tuple[Observed[object], float]:
        return board.flags, FLAGS_STALE_SECONDS

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        flag = next((each for each in board.flags.value or () if each.key == self._key), None)
        if flag is None:
            return [(("the release has no such flag", TextStyle.WARN),)]
        lines = [
            _value_text(flag),
            *_description_lines(flag, board, context, formatter),
            (),
            (("changes", TextStyle.DIM),),
        ]
        lines += self.query_error_lines(self._query, formatter)
        record = board.release.value
        if self._query.value is not None and record is not None:
            lines += flag_history_lines(flag, record.release.strategy, self._query.value, context, formatter)
        return lines


def _description_lines(
    flag: FlagView, board: DashboardState, context: RenderContext, formatter: TextFormatter
) -> list[Line]:
    lines = formatter(f"ff:{flag.key} at {board.plan.flags or '?'}", TextStyle.DIM)
    if meaning := _ROLE_DESCRIPTIONS.get(flag.role):
        lines += formatter(f"{flag.role}: {meaning}")
    removal = f"to be removed from the code by {flag.expires}" if flag.expires else "no date for its removal"
    lines += formatter(f"owner {flag.owner or 'none'}, {removal}")
    if flag.changed_at is not None:
        ago = format_age(max(0.0, context.wall - flag.changed_at))
        lines += formatter(f"changed {ago} ago (seen by this dashboard)", TextStyle.DIM)
    return lines


def _value_text(flag: FlagView) -> Line:
    if flag.problem:
        return ((f"✗ {sanitize(flag.problem)}", TextStyle.BAD),)
    if flag.value is None:
        return (("· unset: the application uses its default", TextStyle.DIM),)
    glyph = "○" if flag.value.is_off else "●" if flag.value.is_on else "◐"
    return ((f"{glyph} {flag.value}", TextStyle.NORMAL if flag.value.is_off else TextStyle.GOOD),)


def flag_history_lines(
    flag: FlagView, strategy: Strategy, audit_log: AuditLog, context: RenderContext, formatter: TextFormatter
) -> list[Line]:
    """The attempts of the steps that change the flag, newest first, with the command that caused each."""
    registry_keys = _STEPS_BY_ROLE.get(flag.role, ())
    names = {spec.name for spec in strategy.steps if spec.registry_key in registry_keys}
    attempts = [
        item
        for span in build_timeline(strategy, audit_log.events)
        for item in span.items
        if isinstance(item, StepAttempt) and item.step in names
    ]
    if not attempts:
        return [(("not changed by this release", TextStyle.DIM),)]
    lines: list[Line] = []
    for item in reversed(attempts):
        verb, style = ("reverted", TextStyle.WARN) if item.is_undo else ("done", TextStyle.NORMAL)
        report = verb if item.outcome == "done" else item.outcome
        lines += formatter(f"{context.clock.time_of_day(item.started_at)} {item.label}: {report}", style)
        lines += formatter(f"✗ {item.error}", TextStyle.BAD, indent="         ") if item.error else []
        command = _command_before(audit_log.events, item.started_at)
        if command is not None:
            reason = f": “{command.reason}”" if command.reason else ""
            lines += formatter(f"requested by {command.actor}{reason}", TextStyle.DIM, indent="         ")
    return lines


def _command_before(events: Sequence[Event], before: float) -> Event | None:
    """The newest command before a time."""
    return next((event for event in reversed(events) if event.kind == "command" and event.at <= before), None)
