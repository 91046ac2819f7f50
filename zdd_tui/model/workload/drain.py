"""The pods of each version at a glance: how many serve, how many drain, and who is late; with their database sessions.

Sessions are those of pg_stat_activity. One belongs to a pod by its application_name, which is the pod's name, or by its
client address, which is the pod's address. Behind a pooler, and for a role that may not see the sessions of others,
nobody knows; then nothing is counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zdd_tui.model.workload.pod import Pod, PodState

LEAVING = (PodState.DRAINING, PodState.STOPPING, PodState.OVERDUE)
"""States of a pod that is being deleted."""


@dataclass(frozen=True, slots=True)
class SessionCount:
    """Sessions of one client: `application` is its application_name, `address` its host; `sessions` their number."""

    application: str
    address: str
    sessions: int


@dataclass(frozen=True, slots=True)
class DatabaseSessions:
    """The sessions of the release's database.

    Attributes:
        hidden: sessions of other roles that this role may not see.
        is_truncated: there are more clients than were read.
    """

    clients: tuple[SessionCount, ...] = ()
    hidden: int = 0
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class VersionDrain:
    """The pods of one version.

    Attributes:
        draining: terminating, and its endpoint still serves; ``stopping``: it serves no more.
        overdue: terminating for longer than its grace period.
        other: starting, warming, not ready.
        sessions: database sessions of the pods that leave; None where they are not known.
    """

    version: str
    serving: int = 0
    draining: int = 0
    stopping: int = 0
    overdue: int = 0
    other: int = 0
    sessions: int | None = None

    @property
    def leaving(self) -> int:
        return self.draining + self.stopping + self.overdue

    @property
    def text(self) -> str:
        """``old: 2 serving, 1 draining, 1 OVERDUE, 5 db sessions``."""
        parts = [f"{self.serving} serving"]
        parts += [f"{self.draining} draining"] if self.draining else []
        parts += [f"{self.stopping} stopping"] if self.stopping else []
        parts += [f"{self.overdue} OVERDUE"] if self.overdue else []
        parts += [f"{self.other} not serving"] if self.other else []
        if self.leaving:
            parts.append("db sessions not known" if self.sessions is None else f"{self.sessions} db sessions")
        return f"{self.version}: {', '.join(parts)}"

    @property
    def short_text(self) -> str:
        """``old: 2 serving 1 OVERDUE 1 draining db 5``: what matters first, ``?`` for what is not known."""
        parts = [f"{self.serving} serving"]
        parts += [f"{self.overdue} OVERDUE"] if self.overdue else []
        parts += [f"{self.draining + self.stopping} draining"] if self.draining + self.stopping else []
        parts += [f"{self.other} not serving"] if self.other else []
        if self.leaving:
            parts.append(f"db {'?' if self.sessions is None else self.sessions}")
        return f"{self.version}: {' '.join(parts)}"


def has_leaving_pods(pods: Iterable[Pod]) -> bool:
    return any(pod.state in LEAVING for pod in pods)


def summarize_drain(pods: Sequence[tuple[str, Pod]], sessions: DatabaseSessions | None) -> tuple[VersionDrain, ...]:
    """One entry for each version that has pods, in the order in which they come; empty where there is nothing to tell:
    one version, of which no pod leaves.

    Args:
        pods: with their versions; pods that are gone or in a terminal phase do not count.
        sessions: None where they are not known now.
    """
    counted = [(version, pod) for version, pod in pods if pod.state is not PodState.GONE and not pod.is_terminal]
    versions = dict.fromkeys(version for version, _ in counted)
    if len(versions) < 2 and not has_leaving_pods(pod for _, pod in counted):
        return ()
    by_pod = None if sessions is None else count_sessions([pod for _, pod in counted], sessions)
    found = []
    for version in versions:
        own = [pod for each, pod in counted if each == version]
        states = [pod.state for pod in own]
        serving, draining, stopping, overdue = (states.count(state) for state in (PodState.SERVING, *LEAVING))
        other = len(states) - serving - draining - stopping - overdue
        leaving = sum(by_pod.get(pod.uid, 0) for pod in own if pod.state in LEAVING) if by_pod is not None else None
        found.append(VersionDrain(version, serving, draining, stopping, overdue, other, leaving))
    return tuple(found)


def count_sessions(pods: Sequence[Pod], sessions: DatabaseSessions) -> dict[str, int] | None:
    """Sessions of each pod, by its uid; None where they are not known: sessions are hidden or were left out, or none at
    all is of a pod, as behind a pooler."""
    if sessions.hidden or sessions.is_truncated:
        return None
    by_name = {pod.name: pod.uid for pod in pods}
    shared = Counter(pod.ip for pod in pods)
    # Pods in their node's network share its address: it tells them not apart.
    by_address = {pod.ip: pod.uid for pod in pods if pod.ip and shared[pod.ip] == 1}
    found: dict[str, int] = {}
    for client in sessions.clients:
        uid = by_name.get(client.application) or by_address.get(client.address)
        if uid is not None:
            found[uid] = found.get(uid, 0) + client.sessions
    return found or None
