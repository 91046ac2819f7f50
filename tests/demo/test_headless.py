"""`zdd demo --headless`: every scenario on a small production, and its report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.release import forked_programs
from zdd_tui.demo.environment import DemoOptions
from zdd_tui.demo.run import as_text, run_headless_scenario
from zdd_tui.demo.scenarios import choose_scenario


async def run_small(folder: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """The report of a scenario, as JSON and as text."""
    chosen = replace(DemoOptions(rows=2000, rate=40, soak="500ms", is_fast=True, has_guard=True), **options)
    with forked_programs():
        report = await run_headless_scenario(folder, chosen)
    return report, as_text(report, choose_scenario(chosen))


@pytest.mark.timeout(400)
async def test_a_rolling_release_reports_load_rollback_and_doctor(tmp_path: Path) -> None:
    report, text = await run_small(tmp_path, strategy="rolling", name="users-rolling", is_guard_lenient=True)
    assert report["ok"], report
    assert report["requests"] > 100
    findings = report["doctor"]["findings"]
    # `zdd rehearse` is for an operator to run; all else is the demo's own, and must pass.
    assert [name for name, verdict in findings.items() if verdict not in ("pass", "inconclusive")] == [
        "rollback-rehearsed"
    ], report["doctor"]["open"]
    # Probed with the database unreachable, and stopped by SIGTERM.
    assert findings["probes"] == findings["health-ready"] == findings["shutdown"] == findings["triggers"] == "pass"
    assert findings["fragile-steps"] == "pass"
    assert report["release"]["agent_killed"]["in"] == "soak"
    assert "✔ Rolling release: 2 pods of shop/users-api:2" in text
    assert "agent killed     in soak, replaced after " in text
    assert "✗ a rollback that was never rehearsed: never rehearsed" in text


@pytest.mark.timeout(400)
async def test_a_schema_release_is_paused_and_its_agent_killed_in_the_backfill(tmp_path: Path) -> None:
    report, text = await run_small(tmp_path, rows=6000, max_rows_per_second=1000, is_guard_lenient=True)
    assert report["ok"], report
    release = report["release"]
    assert tuple(release["phases"]) == ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
    assert tuple(report["rollback_rehearsal"]["phases"]) == ("expand", "dual-write", "backfill", "cutover")
    assert release["pause"]["rows_moved_while_paused"] == 0
    killed = release["agent_killed"]
    assert killed["in"] == "backfill"
    assert 0 < killed["rows_at_kill"] < release["backfill"]["rows"]
    assert killed["takeover_seconds"] <= killed["resumed_seconds"]
    assert (report["mismatches"], release["mismatches"], release["backfill"]["failed_rows"]) == (0, 0, 0)
    assert report["verified_rows"] >= 6000
    assert f"✔ release of {report['rows']:,} rows, column kind, dual writing by application" in text
    assert "rollback         from cutover in " in text


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "rule"), [("errors", "errors"), ("crash-loop", "restarts")])
async def test_the_guard_rolls_a_broken_version_back_without_a_command(fault: str, rule: str, tmp_path: Path) -> None:
    report, text = await run_small(tmp_path, fault=fault)
    assert report["ok"], report
    assert rule in report["cause"]
    assert report["wrong_results"] == 0
    assert f"✔ fault {fault}: rolled-back" in text


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_dark_launch_that_returns_different_results_fails_its_gate_and_is_rolled_back(tmp_path: Path) -> None:
    report, text = await run_small(
        tmp_path,
        strategy="dark-launch",
        name="users-dark-launch",
        has_wrong_results=True,
        is_guard_lenient=True,
    )
    assert report["ok"], report
    assert "mismatch; differs: name" in report["gate"]
    assert any(" name " in sample and " -> " in sample for sample in report["samples"]), report["samples"]
    assert (report["failures"], report["wrong_results"], report["differences"]) == (0, 0, [])
    assert "✔ Dark launch of a new path that returns different results" in text
    assert f"gate             {report['gate']}" in text


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_later_region_is_refused_until_the_first_is_done_and_soaked(tmp_path: Path) -> None:
    report, text = await run_small(
        tmp_path, strategy="rolling", name="users-rolling", regions=("eu", "us"), is_guard_lenient=True
    )
    assert report["ok"], report
    first, second = report["regions"]
    assert (first["region"], first["state"], first["refused"]) == ("eu", "done", [])
    assert (second["region"], second["state"], len(second["refused"])) == ("us", "done", 2)
    assert second["began_after"] >= report["region_soak_seconds"]
    assert "✔ Rolling release of eu, then us" in text
    assert f"refused          {second['refused'][0]}" in text
