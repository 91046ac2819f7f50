"""An agent that the dashboard starts: whether it may, and what the screen says of it."""

from dataclasses import dataclass
from typing import Literal

from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.claims import Activity, assess_activity
from zdd_tui.model.release.records import ReleaseRecord

START_SECONDS = 30.0
"""Seconds after which an agent that was started and holds no lease is no reason any more to start no other."""


@dataclass(frozen=True, slots=True)
class AgentStart:
    """An agent that this dashboard has started.

    Attributes:
        status: ``starting`` also while it runs: the lease tells whether it does.
        at: monotonic seconds of the last change.
        pid: its process on this machine; None where there is none, or none yet.
        log: its log file.
        error: why it ended; with the hint, for ``failed``.
    """

    status: Literal["starting", "failed"]
    at: float
    pid: int | None = None
    log: str = ""
    error: str = ""
    hint: str = ""


def why_no_start(record: ReleaseRecord | None, start: AgentStart | None, now: float, reading_age: float = 0.0) -> str:
    """Why no agent may be started now; empty where one may.

    Args:
        record: None while there is no release, which an agent would register.
        now: monotonic seconds.
        reading_age: seconds since the record was read.
    """
    if record is not None and record.release.state.has_ended:
        return f"the release is {record.release.state.text}: it needs no agent"
    lease = record.lease if record is not None else None
    if assess_activity(lease, reading_age).is_active:
        return f"an agent is running the release: pid {lease.pid} on {lease.host}" if lease else ""
    if start is not None and start.status == "starting" and now - start.at < START_SECONDS:
        if start.pid is None:
            return "an agent is being started"
        return f"an agent was started {format_duration(now - start.at)} ago, pid {start.pid}; log {start.log}"
    return ""


def describe_start(start: AgentStart | None, now: float, activity: Activity) -> str:
    """What became of the agent that this dashboard has started; empty where it has started none, and once an agent has
    worked since: what happens now is about that one.

    Args:
        now: monotonic seconds.
        activity: of the agent that holds, or last held, the lease.
    """
    if start is None:
        return ""
    if activity.is_known and activity.idle_seconds is not None and now - activity.idle_seconds > start.at:
        return ""
    age = format_duration(max(0.0, now - start.at))
    log = f"; log {start.log}" if start.log else ""
    if start.status == "failed":
        hint = f". Fix: {start.hint}" if start.hint else ""
        return f"The agent started here ended {age} ago: {start.error}{hint}{log}"
    if start.pid is None:
        return f"An agent is being started here, for {age}"
    return f"An agent was started here {age} ago (pid {start.pid}) and holds no lease yet{log}"
