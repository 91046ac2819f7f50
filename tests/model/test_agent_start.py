"""When an agent may be started from the screen, and what the screen says of it."""

from dataclasses import replace

import pytest

from tests.support.states import record, release
from zdd_tui.model.agent_start import START_SECONDS, AgentStart, describe_start, why_no_start
from zdd_tui.model.release.claims import Activity
from zdd_tui.model.release.records import Lease
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.strategy import Phase

NO_AGENT = Activity(is_active=False, is_known=True, idle_seconds=None)
LIVE = Lease(4, "agent", "bastion", 4211, 0.3, 3.0)
RUNNING = record(release(ReleaseState.WAITING, Phase.EXPAND), lease=LIVE)
STARTING = AgentStart("starting", 100.0, 77, "/state/agent-users.log")


@pytest.mark.parametrize("lease", [None, replace(LIVE, age=3.1), replace(LIVE, holder="")])
def test_one_may_be_started_where_none_holds_the_lease(lease: Lease | None) -> None:
    assert why_no_start(replace(RUNNING, lease=lease), None, 100.0) == ""
    assert why_no_start(None, None, 100.0) == "", "it registers the release"


def test_never_a_second_one() -> None:
    assert why_no_start(RUNNING, None, 100.0) == "an agent is running the release: pid 4211 on bastion"
    silent = replace(RUNNING, lease=None)
    assert "started 5.0s ago, pid 77; log /state/agent-users.log" in why_no_start(silent, STARTING, 105.0)
    assert why_no_start(silent, AgentStart("starting", 100.0), 101.0) == "an agent is being started", "no process yet"
    # One that hangs, or that cannot reach the database, must not block its replacement for ever.
    assert why_no_start(silent, STARTING, 100.0 + START_SECONDS) == ""
    assert why_no_start(silent, AgentStart("failed", 100.0, error="x"), 101.0) == ""


def test_none_for_a_release_that_has_ended() -> None:
    ended = record(release(ReleaseState.DONE, Phase.CLEANUP), lease=None)
    assert why_no_start(ended, None, 100.0) == "the release is done: it needs no agent"


def test_a_failure_is_shown_with_its_cause_and_its_log() -> None:
    failed = AgentStart("failed", 100.0, log="/state/a.log", error="the plan is not the one that runs", hint="use it")
    assert describe_start(failed, 103.0, NO_AGENT) == (
        "The agent started here ended 3.0s ago: the plan is not the one that runs. Fix: use it; log /state/a.log"
    )
    holds_none = "An agent was started here 2.0s ago (pid 77) and holds no lease yet"
    assert describe_start(STARTING, 102.0, NO_AGENT).startswith(holds_none)
    assert describe_start(AgentStart("starting", 100.0), 102.0, NO_AGENT) == "An agent is being started here, for 2.0s"
    assert describe_start(None, 102.0, NO_AGENT) == ""


def test_a_start_is_old_once_an_agent_has_worked_since() -> None:
    failed = AgentStart("failed", 100.0, error="the plan is not the one that runs")
    assert describe_start(failed, 160.0, Activity(False, True, 61.0)), "the one before had ended then"
    for start in (failed, STARTING):
        assert describe_start(start, 160.0, Activity(False, True, 50.0)) == ""
    assert describe_start(failed, 160.0, Activity(False, False, 50.0)), "not known while the database is silent"
