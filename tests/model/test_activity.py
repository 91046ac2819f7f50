"""Which sessions are listed, in which order, and what stops one."""

from zdd_tui.model.activity import CANCEL_SECONDS, Session, SessionRelation, list_sessions, must_terminate, why_no_stop


def session(pid: int, application: str = "app", *, blocked_by: tuple[int, ...] = (), **changes: object) -> Session:
    values = {"state": "active", "transaction_seconds": 1.0, "state_seconds": 1.0} | changes
    return Session(pid, f"start {pid}", "app", application, "10.0.0.1", blocked_by=blocked_by, **values)  # type: ignore[arg-type]


def test_whoever_blocks_the_agent_comes_first_also_behind_another() -> None:
    listed = list_sessions(
        [
            session(1, transaction_seconds=3600.0),
            session(2, "zdd agent 7 4", blocked_by=(3,)),
            session(3, blocked_by=(4,)),
            session(4, state="idle in transaction", transaction_seconds=840.0),
            session(5, blocked_by=(2,)),
            session(6, blocked_by=(8,)),
            session(8),
            session(9),
        ]
    )
    assert [(each.session.pid, each.relation) for each in listed] == [
        (4, SessionRelation.BLOCKS_AGENT),
        (3, SessionRelation.BLOCKS_AGENT),
        (5, SessionRelation.WAITS_FOR_AGENT),
        (8, SessionRelation.BLOCKS),
        (6, SessionRelation.WAITS),
        (1, SessionRelation.LONG),
        (2, SessionRelation.AGENT),
    ]
    assert {each.session.pid: each.blocks for each in listed}[4] == (3,)


def test_a_circle_of_waiting_sessions_ends() -> None:
    listed = list_sessions([session(1, "zdd agent 7 4", blocked_by=(2,)), session(2, blocked_by=(1,))])
    assert [each.relation for each in listed] == [SessionRelation.BLOCKS_AGENT, SessionRelation.AGENT]


def test_a_session_without_a_statement_can_only_be_terminated() -> None:
    """pg_cancel_backend has no effect on a session that is idle in a transaction, and its lock stays."""
    assert must_terminate(session(1, state="idle in transaction"), None)
    assert not must_terminate(session(1), None)
    assert not must_terminate(session(1), 0.5), "it gets time to end"
    assert must_terminate(session(1), CANCEL_SECONDS)


def test_what_cannot_be_stopped_here() -> None:
    assert why_no_stop(session(1)) == ""
    assert "pause or roll back" in why_no_stop(session(1, "zdd agent 7 4"))
    assert why_no_stop(session(0, "gid-1")) == "a prepared transaction has no session: ROLLBACK PREPARED 'gid-1'"
