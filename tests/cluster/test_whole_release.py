"""Whole releases, with PostgreSQL, Redis, pods and a load, on a real control plane. The pods' node is the testbed's."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster import planes
from tests.end_to_end.test_conditions import (
    assert_both_sides_agree_archived,
    finish,
    set_image_back_after_the_backfill,
    set_image_back_before_the_backfill,
    start_release,
)
from tests.support.release import assert_both_sides_agree, assert_no_failures
from zdd_tui.demo import environment
from zdd_tui.demo.environment import Environment
from zdd_tui.model.release.state import ReleaseState

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def real_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every environment has a control plane of its own: its pods are in the namespace `default`."""
    assets, _ = planes.from_environment()
    if assets is None:
        pytest.skip("no real control plane: set KUBEBUILDER_ASSETS")
    stack, start = ExitStack(), Environment.start

    async def start_cluster(env: Environment) -> None:
        folder = env.kubeconfig.parent
        folder.mkdir()
        await asyncio.to_thread(stack.enter_context, planes.real(assets, folder))
        node = ("--dir", str(env.folder / "node"), "--bind", "--advertise", "10")
        env.start("kubelet", "zdd_tui.testbed.kubelet", "--kubeconfig", str(env.kubeconfig), *node)

    def start_program(env: Environment, name: str, *argv: str) -> "subprocess.Popen[bytes]":
        module = "tests.cluster.loopback_load" if argv[0] == "zdd_tui.demo.load" else argv[0]
        return start(env, name, module, *argv[1:])

    monkeypatch.setattr(environment, "_start_cluster", start_cluster)
    monkeypatch.setattr(Environment, "start", start_program)
    with stack:
        yield


async def test_forward_to_the_end(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write", "backfill") as (env, _store, driver):
        await assert_both_sides_agree(env)
        await finish(driver, "cutover", "contract")
        await assert_no_failures(env)
        await driver.start_phase("cleanup")
        record = await driver.wait_until(lambda record: record.release.state is ReleaseState.DONE, timeout=60)
        assert not record.release.unmet


async def test_back_from_cutover(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write", "backfill", "cutover") as (env, _store, driver):
        await driver.roll_back()
        assert (await driver.read_record()).release.state is ReleaseState.ROLLED_BACK
        await assert_no_failures(env)


async def test_a_breach_before_the_backfill_lets_the_sample_of_recent_rows_start_again(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write") as (env, _store, driver):
        await set_image_back_before_the_backfill(env, driver)
        await finish(driver, "backfill")
        await assert_both_sides_agree(env)
        await assert_no_failures(env)


async def test_case_a2_an_image_that_is_set_back_stops_the_release_and_names_the_manager(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write", "backfill") as (env, _store, driver):
        await set_image_back_after_the_backfill(env, driver)
        await finish(driver, "cutover", "contract")
        await assert_both_sides_agree_archived(env)
        await assert_no_failures(env)
