"""The new version breaks under load; nobody touches a key; the old behaviour comes back."""

from pathlib import Path

import pytest

from zdd_tui.demo import headless_inject as inject
from zdd_tui.demo.environment import DemoOptions


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "rule"), [("errors", "errors"), ("crash-loop", "restarts")])
async def test_the_guard_rolls_back_by_itself(fault: str, rule: str, tmp_path: Path) -> None:
    options = DemoOptions(rows=2000, rate=60, soak="500ms", is_fast=True, has_guard=True)
    report = await inject.run_fault_injection(tmp_path, options, fault)
    assert report["ok"], report
    assert rule in report["cause"]
    assert report["wrong_answers"] == 0
