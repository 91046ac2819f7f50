"""What `zdd rollback` shows before it asks: the facts that the dashboard's confirmation shows, read once."""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotInTime

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.rollback import COUNT_SECONDS
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.dashboard.widgets.panes.traffic import read_traffic
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.rollback import RollbackFact, RollbackHistory, RollbackQuery, describe_rollback_facts

READ_SECONDS = 5.0
"""Seconds that flags and pods are waited for; what does not answer is unknown."""

POLL_SECONDS = 0.05
_LABEL_CELLS = 11


def read_rollback_facts(loaded: LoadedPlan, record: ReleaseRecord) -> tuple[RollbackFact, ...]:
    """What users see now, what is lost and how long it took before; for at most a few seconds."""
    source = LiveSource(loaded.plan, actor=this_actor(), path=loaded.source, release_id=record.id)
    source.start(wait_for_screen=0.0)
    try:
        until = time.monotonic() + READ_SECONDS
        while not _is_read(source.state()) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        history = _read_history(source)
        state, now = source.state(), time.monotonic()
        shown = state.release.value or record
        return describe_rollback_facts(
            state.plan.strategy,
            state.plan.change,
            shown,
            read_traffic(state, now),
            history,
            state.server_now(now) or record.now,
        )
    finally:
        source.stop()


def _is_read(state: DashboardState) -> bool:
    """Everything was read, or has an error."""
    second = [state.second_workload] if len(state.plan.deployment_roles) > 1 else []
    flags = [state.flags] if state.plan.has_flags else []
    sources = (state.release, state.workload, *second, *flags)
    return all(each.observed_at is not None or each.error for each in sources)


def _read_history(source: LiveSource) -> RollbackHistory:
    try:
        return source.fetch(RollbackQuery()).result(COUNT_SECONDS + READ_SECONDS)
    except ZddError as error:
        return RollbackHistory(problem=error.title)
    except NotInTime:
        return RollbackHistory(problem="the database did not respond in time")


def write_rollback_facts(facts: Sequence[RollbackFact]) -> None:
    """Writes one paragraph per fact to stderr, as wide as the terminal."""
    cells = max(40, shutil.get_terminal_size().columns)
    for fact in facts:
        head = f"  {fact.label:<{_LABEL_CELLS}}"
        sys.stderr.write(textwrap.fill(fact.text, cells, initial_indent=head, subsequent_indent=" " * len(head)) + "\n")
