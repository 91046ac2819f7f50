"""Rows of the fleet: the same state as on the release's screen, whom it waits for, order, summary."""

from dataclasses import replace

import pytest

from tests.support.fleet_states import LIVE, REGIONS, ended, fixed_fleet, row, situation
from tests.support.states import EPOCH, dashboard_situations
from zdd_tui.model.fleet.rows import (
    DONE_SHOWN_SECONDS,
    ROLLED_BACK_SHOWN_SECONDS,
    CommandFacts,
    Fleet,
    FleetRow,
    ReleaseFacts,
    Urgency,
    add_missing_regions,
    find_blocker,
    find_region_row,
    mark_last_known,
    mark_recent_rollbacks,
    order_rows,
    row_to_dict,
    summarize_fleet,
    summarize_history,
)
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import summarize_release

RELEASES = {name: board.release.value for name, board in dashboard_situations().items() if board.release.value}
NO_FACTS = ReleaseFacts()


@pytest.mark.parametrize("name", RELEASES)
def test_the_state_is_that_of_the_release_s_screen(name: str) -> None:
    record = replace(RELEASES[name], lease=LIVE)  # type: ignore[arg-type]
    summary = summarize_release(record, record.now)
    made = row(record, "db")
    assert (made.label, made.severity, made.glyph) == (summary.state_label, summary.severity, summary.glyph)


def test_nothing_that_depends_on_a_dead_agent_claims_to_move() -> None:
    made = row(replace(situation("backfill"), lease=replace(LIVE, age=65.0)), "db")
    assert (made.label, made.urgency, made.agent, made.has_agent) == ("STALLED", Urgency.BROKEN, "", False)
    assert made.waits_for == "an agent"
    assert made.seconds_since(made.waiting_since, situation("backfill").now) == pytest.approx(65.0)


def test_whom_a_release_waits_for_and_since_when() -> None:
    waiting = replace(situation("open"), lease=LIVE, owner="payments")
    assert find_blocker(waiting, NO_FACTS)[0] == "payments"
    gates = replace(situation("gates"), lease=LIVE)
    assert find_blocker(gates, NO_FACTS)[0].startswith("gate: ")
    paused = replace(situation("paused"), lease=LIVE)
    facts = ReleaseFacts(paused=CommandFacts("ana", EPOCH - 60))
    assert find_blocker(paused, facts) == ("resume, paused by ana", EPOCH - 60)
    failed = replace(situation("failed"), lease=LIVE)
    assert find_blocker(failed, NO_FACTS)[0] == "a person: retry or roll back"
    stopped = replace(situation("stopped"), lease=LIVE)
    assert stopped.release.breach is not None
    assert find_blocker(stopped, NO_FACTS) == (stopped.release.breach.title, stopped.release.breach.since)
    assert find_blocker(replace(situation("backfill"), lease=LIVE), NO_FACTS) == ("", None)


def test_the_history_has_duration_rollback_and_cause() -> None:
    by_guard, by_ana = (each for each in fixed_fleet().ended if each.state is ReleaseState.ROLLED_BACK)
    assert by_guard.cause == "guard: errors 4.1 % of v2, limit 2 %"
    assert (by_guard.duration, by_guard.rollback_seconds, by_guard.rollbacks) == (3600.0, 12.0, 1)
    assert (by_ana.cause, by_ana.rollback_seconds, by_ana.rollbacks) == ("by ana: wrong index", 500.0, 2)


def test_the_most_urgent_come_first_and_regions_stay_together() -> None:
    rows = fixed_fleet().rows
    assert [each.urgency for each in rows if not each.region] == sorted(
        each.urgency for each in rows if not each.region
    )
    at = [number for number, each in enumerate(rows) if each.region]
    assert [rows[number].region for number in at] == ["eu 1/2", "us 2/2"]
    assert at[1] == at[0] + 1
    assert rows[at[0]].urgency > rows[at[1]].urgency, "the plan has the place of its most urgent region"


def test_an_ended_region_stays_beside_the_one_that_runs() -> None:
    done = ended(situation("backfill"), ReleaseState.DONE, region="eu")
    fleet = replace(
        fixed_fleet(),
        rows=order_rows(
            [
                row(done, "eu", REGIONS, release_id=1, name="users"),
                row(replace(done, created_at=EPOCH - 9000), "eu", REGIONS, release_id=0, name="users"),
                row(situation("backfill"), "us", REGIONS, name="users", region="us 2/2", region_order=1),
                row(done, "eu", REGIONS, release_id=2, name="other"),
            ]
        ),
    )
    first, _second = fleet.active
    assert (first.name, first.region, first.release_id) == ("users", "eu 1/2", 1)
    assert find_region_row(fleet.rows, "users", "eu") is fleet.active[0]
    assert find_region_row(fleet.rows, "users", "ap") is None


def test_the_summary_counts_what_needs_somebody() -> None:
    total, needs = summarize_fleet(fixed_fleet())
    assert total == "8 releases, 8 databases"
    assert "1 rolled back" in needs
    assert needs[-2:] == ("1 not responding", "1 connecting")
    assert needs[0].endswith("broken")
    history = summarize_fleet(fixed_fleet(), is_history=True)
    assert history == ("3 ended releases, not known for 2 of 8 databases", needs)
    assert summarize_history(fixed_fleet()) == "3 ended releases, 2 rolled back, not known for 2 of 8 databases"
    answered = replace(fixed_fleet(), unanswered=0, pending=0)
    assert summarize_fleet(answered, is_history=True)[0] == "3 ended releases, 8 databases"
    assert summarize_history(answered) == "3 ended releases, 2 rolled back"
    waiting = replace(row(situation("open"), "db"), urgency=Urgency.NEEDS_PERSON)
    assert summarize_fleet(Fleet((waiting,), 1))[1] == ("1 needs you",)
    silent = Fleet((mark_last_known(waiting),), 1, unanswered=1)
    assert summarize_fleet(silent) == ("1 release, 1 database", ("1 not responding",))


def test_a_row_for_scripts_has_ages_and_no_clock() -> None:
    made = row_to_dict(row(situation("backfill"), "db", REGIONS, region="eu 1/2"), EPOCH)
    assert (made["state"], made["phase"], made["region"], made["database"]) == ("running", "backfill", "eu", "db")
    assert made["age"] == pytest.approx(EPOCH - situation("backfill").created_at)


def test_a_region_without_a_release_has_a_row_and_only_where_all_answered_it_is_said_not_to_be_started() -> None:
    facts = ReleaseFacts(region_names=("eu", "us", "ap"))
    eu = row(replace(situation("backfill"), lease=LIVE, region="eu"), "eu-db", facts=facts)
    wall = EPOCH
    found = add_missing_regions([eu], wall, is_complete=True)
    assert [(each.label, each.region, each.name) for each in found[1:]] == [
        ("NOT STARTED", "us 2/3", eu.name),
        ("NOT STARTED", "ap 3/3", eu.name),
    ]
    assert len({each.key for each in found}) == 3
    assert order_rows(found) == found, "in the order of the plan"
    assert find_region_row(found, eu.name, "us") is None, "there is nothing to open"
    unknown = add_missing_regions([eu], wall, is_complete=False)
    assert {each.label for each in unknown[1:]} == {"NOT KNOWN"}
    assert not any("zdd open" in each.hint for each in unknown), "it may have a release that runs"
    assert summarize_fleet(Fleet(unknown, 3, 2))[0] == "1 release, 2 regions not known, 3 databases"
    us = row(replace(situation("backfill"), lease=LIVE, region="us"), "us-db", facts=facts)
    assert [each.region for each in add_missing_regions([eu, us], wall, is_complete=True)[2:]] == ["ap 3/3"]
    done = replace(eu, state=ReleaseState.DONE, finished_at=EPOCH)
    assert len(add_missing_regions([done], wall + 60, is_complete=True)) == 3, "the next region is due"
    assert len(add_missing_regions([done], wall + DONE_SHOWN_SECONDS + 60, is_complete=True)) == 1
    assert len(add_missing_regions([replace(eu, state=ReleaseState.ROLLED_BACK)], wall, is_complete=True)) == 1


def test_what_was_rolled_back_stays_in_the_list_for_a_day_or_until_the_next_release_of_the_plan() -> None:
    cause = "errors 4.1 % of v2, limit 2 %"
    rolled_back = row(ended(situation("backfill"), ReleaseState.ROLLED_BACK, cause=cause), "db", release_id=7)
    assert rolled_back.finished_at is not None
    moving = row(replace(situation("backfill"), lease=LIVE), "other", name="other")

    def listed(rows: list[FleetRow], after: float = 18.0) -> Fleet:
        assert rolled_back.finished_at is not None
        return Fleet(order_rows(mark_recent_rollbacks(rows, rolled_back.finished_at + after)), 2)

    fleet = listed([moving, rolled_back])
    assert [(each.label, each.cause) for each in fleet.active] == [("ROLLED BACK", f"guard: {cause}"), ("RUNNING", "")]
    assert summarize_fleet(fleet) == ("2 releases, 2 databases", ("1 rolled back",))
    assert fleet.active[0].listed_since == rolled_back.finished_at
    assert [each.name for each in fleet.ended] == [rolled_back.name], "it is in the history, too"
    document = row_to_dict(fleet.active[0], rolled_back.finished_at + 18)
    assert (document["state"], document["ended_seconds_ago"], document["cause"]) == (
        "rolled-back",
        18.0,
        f"guard: {cause}",
    )
    assert listed([moving, rolled_back], ROLLED_BACK_SHOWN_SECONDS + 1).active == (moving,)
    again = replace(moving, database="db", name=rolled_back.name, release_id=8)
    assert listed([again, rolled_back]).active == (again,)
    elsewhere = replace(again, database="other")
    assert len(listed([elsewhere, rolled_back]).active) == 2, "a release in another database replaces none"
    done = replace(rolled_back, state=ReleaseState.DONE)
    assert listed([done]).active == ()


def test_the_header_counts_as_many_releases_as_there_are_rows() -> None:
    rows = [replace(row, region_names=("eu", "us")) for row in fixed_fleet().rows if row.region]
    assert len(rows) == 2
    ended = replace(rows[0], state=ReleaseState.DONE, finished_at=EPOCH)
    assert summarize_fleet(Fleet((ended, rows[1]), 2))[0] == "2 releases, 2 databases"
    missing = add_missing_regions(rows[:1], EPOCH, is_complete=True)
    assert summarize_fleet(Fleet(missing, 2))[0] == "1 release, 1 region without one, 2 databases"
