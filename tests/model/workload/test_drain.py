"""The pods of each version at a glance: late ones are named, and sessions are counted only where they are known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import pod
from zdd_tui.model.workload.drain import LEAVING, DatabaseSessions, SessionCount, summarize_drain
from zdd_tui.model.workload.pod import Pod, PodState


def pods(version: str, *states: PodState) -> list[tuple[str, Pod]]:
    return [
        (version, pod(f"{version}-{at}", version, state, ip=f"10.0.{version}.{at}")) for at, state in enumerate(states)
    ]


OLD = pods("1", PodState.SERVING, PodState.DRAINING, PodState.OVERDUE)
NEW = pods("2", PodState.SERVING, PodState.SERVING, PodState.WARMING)


def clients(*counts: tuple[str, str, int], **changes: object) -> DatabaseSessions:
    return replace(DatabaseSessions(tuple(SessionCount(*each) for each in counts)), **changes)  # type: ignore[arg-type]


def test_nothing_is_told_of_one_version_of_which_no_pod_leaves() -> None:
    assert summarize_drain(NEW, None) == ()
    assert summarize_drain([*NEW, *pods("1", PodState.GONE)], None) == ()
    assert [each.text for each in summarize_drain([*NEW, *pods("1", PodState.SERVING)], None)] == [
        "2: 2 serving, 1 not serving",
        "1: 1 serving",
    ]


def test_sessions_are_of_the_pods_that_leave_by_name_or_address() -> None:
    sessions = clients(
        ("users-api-1-1", "127.0.0.1", 3),  # draining, by its name
        ("api", "10.0.1.2", 2),  # overdue, by its address
        ("users-api-1-0", "127.0.0.1", 8),  # it serves
        ("psql", "10.9.9.9", 4),
    )
    old, new = summarize_drain([*OLD, *NEW], sessions)
    assert old.text == "1: 1 serving, 1 draining, 1 OVERDUE, 5 db sessions"
    assert new.text == "2: 2 serving, 1 not serving"


@pytest.mark.parametrize(
    "sessions",
    [
        None,
        clients(("users-api-1-1", "", 3), hidden=1),
        clients(("users-api-1-1", "", 3), is_truncated=True),
        clients(("pgbouncer", "10.9.9.9", 40)),
    ],
    ids=["not read", "hidden from this role", "too many", "a pooler"],
)
def test_what_cannot_be_counted_is_not_known_and_never_zero(sessions: DatabaseSessions | None) -> None:
    old, _ = summarize_drain([*OLD, *NEW], sessions)
    assert old.sessions is None
    assert old.text.endswith("db sessions not known")


def test_an_address_of_several_pods_tells_them_not_apart() -> None:
    shared = [(version, replace(each, ip="10.0.0.1")) for version, each in OLD]
    old, *_ = summarize_drain(shared, clients(("api", "10.0.0.1", 5), ("users-api-1-1", "10.0.0.1", 1)))
    assert old.sessions == 1


@given(st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(PodState)), max_size=12))
def test_every_pod_that_exists_is_in_one_number(given_pods: list[tuple[str, PodState]]) -> None:
    named = [(version, pod(str(at), version, state)) for at, (version, state) in enumerate(given_pods)]
    named = [
        (version, replace(each, is_terminal=each.state in (PodState.FAILED, PodState.SUCCEEDED)))
        for version, each in named
    ]
    existing = [each for _, each in named if each.state is not PodState.GONE and not each.is_terminal]
    found = summarize_drain(named, None)
    if found:
        assert sum(each.serving + each.leaving + each.other for each in found) == len(existing)
    else:
        assert not any(each.state in LEAVING for each in existing)
