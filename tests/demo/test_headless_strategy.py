"""`zdd demo --headless` of a strategy: the guard watches and does nothing, the doctor finds the demo clean."""

from pathlib import Path

import pytest

from zdd_tui.demo.environment import DemoOptions
from zdd_tui.demo.headless_strategy import format_strategy_report, run_strategy_release


@pytest.mark.timeout(400)
async def test_a_rolling_release_reports_load_rollback_and_doctor(tmp_path: Path) -> None:
    options = DemoOptions(
        rows=2000,
        rate=60,
        soak="500ms",
        is_fast=True,
        strategy="rolling",
        name="users-rolling",
        has_guard=True,
        is_guard_lenient=True,
    )
    report = await run_strategy_release(tmp_path, options)
    assert report["ok"], report
    assert report["requests"] > 100
    found = report["doctor"]["findings"]
    # `zdd rehearse` is for an operator to run; all else is the demo's own, and must be as it should.
    assert [name for name, verdict in found.items() if verdict not in ("pass", "inconclusive")] == [
        "rollback-rehearsed"
    ], report["doctor"]["open"]
    # Asked with the database away, and ended by SIGTERM.
    assert found["probes"] == found["health-ready"] == found["shutdown"] == found["triggers"] == "pass"
    assert found["fragile-steps"] == "pass"
    text = format_strategy_report(report)
    assert "✔ rolling release: 2 pods of shop/users-api:2" in text
    assert "✗ a rollback that was never rehearsed: never rehearsed" in text
