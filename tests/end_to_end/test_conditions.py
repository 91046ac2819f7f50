"""Standing conditions on real servers: whoever breaks one is named, progress stops at once, and no row ends wrong."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from tests.support.release import (
    assert_both_sides_agree,
    assert_no_failures,
    ignore_progress,
    set_image,
    start_production,
)
from tests.support.sessions import client_session
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState

STOP_SECONDS = 5.0
"""The budget is 2 s; a test machine that does much else gets more."""
FROZEN_STOP_SECONDS = 4.0
"""As STOP_SECONDS, but less than the 5 s that a system which does not respond gets."""

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def start_release(
    folder: Path, *phases: str, **options: Any
) -> AsyncIterator[tuple[Environment, Store, ReleaseDriver]]:
    async with start_production(folder, **options) as (env, store):
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        for phase in phases:
            await driver.run_phase(phase)
        yield env, store, driver


async def wait_for_breach(driver: ReleaseDriver, text: str) -> tuple[ReleaseRecord, float]:
    """The record with the breach, and the seconds until it was there."""
    began = time.monotonic()
    record = await driver.wait_until(
        lambda record: record.release.breach is not None and text in record.release.breach.title, timeout=30
    )
    return record, time.monotonic() - began


async def wait_until_met(
    driver: ReleaseDriver, more: Callable[[ReleaseRecord], bool] = lambda _: True
) -> ReleaseRecord:
    return await driver.wait_until(lambda record: not record.release.unmet and more(record), timeout=60)


def audit(record: ReleaseRecord, start: str) -> list[str]:
    return [event.message for event in record.events if event.kind == "condition" and event.message.startswith(start)]


async def finish(driver: ReleaseDriver, *phases: str) -> None:
    for phase in phases:
        await driver.run_phase(phase)


async def set_image_back_after_the_backfill(env: Environment, driver: ReleaseDriver) -> None:
    """Case A2: the release stops, names the manager, and verifies again."""
    old = manifests.image_name(1)
    await set_image(env, old, "argocd-controller")
    record, seconds = await wait_for_breach(driver, "argocd-controller")
    print(f"stopped after {seconds:.2f} s")
    assert seconds < STOP_SECONDS
    assert record.release.breach is not None
    assert old in record.release.breach.title
    assert "suspend its sync" in record.release.breach.hint
    assert record.backfill is not None
    assert not record.backfill.verified, "the verification was withdrawn"
    assert format_status(record).startswith("✗ STOPPED: Deployment")
    assert status_to_dict(record)["conditions"][0]["who"].startswith("set by argocd-controller at ")
    answer = await driver.send_command(CommandKind.ADVANCE)
    assert answer.status == "refused"
    assert "argocd-controller" in answer.outcome

    # Pods of V1 write one side only meanwhile.
    before = env.read_load_report()["requests"]
    async with asyncio.timeout(30):
        while env.read_load_report()["requests"] < before + 100:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
    await set_image(env, manifests.image_name(2), "argocd-controller")
    await wait_until_met(
        driver,
        lambda record: (
            record.release.state is ReleaseState.WAITING and record.backfill is not None and record.backfill.verified
        ),
    )
    await assert_both_sides_agree(env)
    await driver.wait_for_phase("backfill")
    record = await driver.read_record()
    assert audit(record, "breach: Deployment")
    assert audit(record, "holds again after")
    await assert_no_failures(env)


async def assert_both_sides_agree_archived(env: Environment) -> None:
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        wrong = await connection.fetchval(
            "SELECT count(*) FROM public.users WHERE full_name IS DISTINCT FROM zdd_archive_1_first_name ||"
            " CASE WHEN zdd_archive_2_last_name = '' THEN '' ELSE ' ' || zdd_archive_2_last_name END"
        )
    finally:
        await connection.close()
    assert wrong == 0


@asynccontextmanager
async def connect_redis(env: Environment) -> AsyncIterator["redis.asyncio.Redis"]:
    client = redis.asyncio.Redis.from_url(env.redis.url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def executed(env: Environment, *statements: str, application: str = "psql") -> AsyncIterator[None]:
    """Runs statements as another client does, whose session stays idle during the block, as psql's would."""
    async with client_session(env.postgres.dsn, application) as connection:
        for statement in statements:
            await connection.execute(statement)
        yield


async def lose_flags(env: Environment, driver: ReleaseDriver) -> None:
    """Case A3: a lost flag is restored and audited."""
    async with connect_redis(env) as client:
        write = (await client.keys("ff:*write*"))[0]
        for loss in ("del", "flushall", "off"):
            before = len(audit(await driver.read_record(), "breach: flag"))
            began = time.monotonic()
            match loss:
                case "del":
                    await client.delete(write)
                case "flushall":
                    await client.flushall()
                case "off":
                    await client.set(write, "false")
            async with asyncio.timeout(STOP_SECONDS):
                while await client.get(write) != "true":  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(0.02)
            print(f"{loss}: restored after {time.monotonic() - began:.2f} s")
            await driver.wait_until(lambda record, n=before: len(audit(record, "breach: flag")) > n)  # type: ignore[misc]
            await wait_until_met(driver)
    record = await driver.read_record()
    assert any("restored by the agent" in line for line in audit(record, "holds again"))
    assert any("last command" in line or "by whom" in line for line in audit(record, "breach: flag"))
    await driver.wait_for_phase("dual-write")  # the sample of recent rows has started again


async def break_trigger(env: Environment, driver: ReleaseDriver, trigger: str) -> None:
    """After the verification: a trigger that is disabled, dropped or replaced is restored, and no row is wrong."""
    name = f"zdd_users-full-name_{trigger}"
    function = name.removesuffix("r") if trigger == "wor" else name
    replaced = f'CREATE OR REPLACE FUNCTION zdd."{function}"() RETURNS trigger LANGUAGE plpgsql AS'
    for statement in (
        f'ALTER TABLE users DISABLE TRIGGER "{name}"',
        f'DROP TRIGGER "{name}" ON users',
        f"{replaced} 'BEGIN RETURN new; END'",
    ):
        before = len(audit(await driver.read_record(), "holds again"))
        # What V1 would write meanwhile, unseen: the new side of this row stays as it was.
        also = "UPDATE users SET first_name = first_name || 'x' WHERE id = 1"
        if statement.startswith(replaced):
            also += "; DELETE FROM users WHERE id = 2"
        async with executed(env, f"{statement}; {also}"):
            _record, seconds = await wait_for_breach(driver, f"trigger {name}")
        print(f"noticed after {seconds:.2f} s")
        assert seconds < STOP_SECONDS
        await driver.wait_until(lambda record, n=before: len(audit(record, "holds again")) > n)  # type: ignore[misc]
        await wait_until_met(
            driver,
            lambda record: (
                record.release.state is ReleaseState.WAITING
                and record.backfill is not None
                and record.backfill.verified
            ),
        )
        await assert_both_sides_agree(env)
    record = await driver.read_record()
    assert any("probably by role" in line and "application psql" in line for line in audit(record, "breach"))
    assert any("or its function was replaced; probably by role" in line for line in audit(record, "breach"))


async def wait_for_baseline(env: Environment) -> None:
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with asyncio.timeout(10):
            while not await connection.fetchval("SELECT count(*) FROM zdd.baseline"):  # noqa: ASYNC110 - the agent's
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def rename_column_and_drop_index(env: Environment, driver: ReleaseDriver) -> None:
    """Both stop the release until they are put back."""
    await wait_for_baseline(env)
    async with executed(env, "ALTER TABLE users RENAME COLUMN full_name TO fullname"):
        record, _ = await wait_for_breach(driver, "column full_name of public.users was renamed to fullname")
    answer = await driver.send_command(CommandKind.ADVANCE)
    assert answer.status == "refused"
    assert "renamed to fullname" in answer.outcome
    async with executed(env, "ALTER TABLE users RENAME COLUMN fullname TO full_name"):
        await wait_until_met(driver)
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        index = await connection.fetchrow(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'users' AND indexdef LIKE '%full_name%'"
        )
    finally:
        await connection.close()
    if index is not None:
        async with executed(env, f"DROP INDEX {index['indexname']}"):
            await wait_for_breach(driver, f"index {index['indexname']} of public.users is missing")
        async with executed(env, index["indexdef"]):
            await wait_until_met(driver)
    assert record.release.breach is not None


async def set_third_image_in_the_rollout(env: Environment, driver: ReleaseDriver) -> None:
    """Case E6: it is blamed on its manager. Ends with a rollback."""
    await driver.start_phase("dual-write")
    async with (
        asyncio.timeout(30),
        Cluster.connect(str(env.kubeconfig), None, "default") as cluster,
    ):
        # Before that there is no rollout: the image that the operator confirmed replaces what another client sets.
        image = manifests.image_name(2)
        while image not in (await cluster.get_deployment(manifests.NAME)).images.values():  # noqa: ASYNC110 - an agent sets it
            await asyncio.sleep(0.02)
    await set_image(env, "shop/users-api:0-hotfix", "helm-controller")
    began = time.monotonic()
    async with asyncio.timeout(30):
        while True:
            record = await driver.read_record()
            text = record.release.error or (record.release.breach.title if record.release.breach else "")
            if "helm-controller" in text:
                break
            await asyncio.sleep(0.05)
    print(f"blamed after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < STOP_SECONDS
    assert "0-hotfix" in text
    assert "no progress" not in text
    await driver.roll_back()


async def set_image_back_before_the_backfill(env: Environment, driver: ReleaseDriver) -> None:
    """The sample of recent rows starts again."""
    await set_image(env, manifests.image_name(1), "kubectl-set")
    record, _ = await wait_for_breach(driver, "kubectl-set")
    assert record.release.breach is not None
    assert "set image deployment/users-api" in record.release.breach.hint
    before = env.read_load_report()["requests"]
    async with asyncio.timeout(30):
        while env.read_load_report()["requests"] < before + 60:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
    await set_image(env, manifests.image_name(2), "kubectl-set")
    await wait_until_met(driver)
    await driver.wait_for_phase("dual-write")
    await assert_no_failures(env)


async def test_what_others_change_after_expand_stops_the_release(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand") as (env, _store, driver):
        await rename_column_and_drop_index(env, driver)
        await set_third_image_in_the_rollout(env, driver)


async def test_what_others_change_before_the_backfill_stops_the_release(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write") as (env, _store, driver):
        await set_image_back_before_the_backfill(env, driver)
        await lose_flags(env, driver)
        await finish(driver, "backfill")
        await assert_both_sides_agree(env)


async def test_what_others_change_after_the_backfill_stops_the_release(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write", "backfill") as (env, _store, driver):
        await set_image_back_after_the_backfill(env, driver)
        await break_trigger(env, driver, "wor")
        await finish(driver, "cutover", "contract")
        await assert_both_sides_agree_archived(env)


async def test_a_trigger_that_copies_is_restored(tmp_path: Path) -> None:
    phases = ("expand", "dual-write", "backfill")
    async with start_release(tmp_path, *phases, mode="trigger", kind="table") as (env, _store, driver):
        await break_trigger(env, driver, "fwd")
        await finish(driver, "cutover")


async def test_the_read_flag_is_kept_while_a_rollback_waits_for_v2(tmp_path: Path) -> None:
    """V2 would read the new side, which is not kept in step any more."""
    async with start_release(tmp_path, "expand", "dual-write") as (env, _store, driver), connect_redis(env) as client:
        read = (await client.keys("ff:*read*"))[0]
        await set_paused(env, True)
        with pytest.raises(StepFailed, match="is paused"):
            await driver.roll_back()
        await client.set(read, "true")
        async with asyncio.timeout(30):
            while not audit(record := await driver.read_record(), "holds again"):  # noqa: ASYNC110 - the agent writes it
                await asyncio.sleep(0.1)
        assert not record.release.unmet
        assert audit(record, f"breach: flag {read} is 'true', expected false or missing"), audit(record, "")
        assert audit(record, "holds again")[0].endswith("restored by the agent")
        assert record.release.state is ReleaseState.ROLLBACK_FAILED
        assert await client.get(read) == "false"
        await set_paused(env, False)
        await driver.roll_back()
        assert await client.keys("ff:*read*") == []
        await assert_no_failures(env)


async def set_paused(env: Environment, is_paused: bool) -> None:
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        path = cluster.path("apis/apps/v1", "deployments", manifests.NAME)
        body = {"spec": {"paused": is_paused}}
        await cluster.http.request_json("PATCH", path, body=body, content_type=MERGE_PATCH)


@pytest.mark.slow
async def test_a_cluster_that_does_not_respond_delays_no_breach_of_a_flag(tmp_path: Path) -> None:
    async with start_release(tmp_path, "expand", "dual-write") as (env, _store, driver), connect_redis(env) as client:
        cluster, write = env.processes["cluster"], (await client.keys("ff:*write*"))[0]
        cluster.send_signal(signal.SIGSTOP)
        try:
            # To decide it, the agent reads every system; the cluster gets 5 s.
            advance = asyncio.create_task(driver.send_command(CommandKind.ADVANCE))
            await asyncio.sleep(0.5)
            await client.delete(write)
            record, seconds = await wait_for_breach(driver, "flag ")
            print(f"noticed after {seconds:.2f} s")
            assert seconds < FROZEN_STOP_SECONDS
            assert record.release.state is ReleaseState.WAITING
            answer = await advance
            assert answer.status == "refused"
            await driver.wait_until(lambda record: not any(each.status.stops_progress for each in record.release.unmet))
            assert await client.get(write) == "true"
            # What the release relies on in the cluster is still unknown.
            answer = await driver.send_command(CommandKind.ADVANCE)
            assert answer.status == "refused"
            assert "cannot be checked" in answer.outcome
        finally:
            cluster.send_signal(signal.SIGCONT)
        await wait_until_met(driver)
        await driver.wait_for_phase("dual-write")


async def test_a_breach_while_reads_use_the_new_side_outlives_its_agent(tmp_path: Path) -> None:
    """Rows that a foreign V1 wrote meanwhile are named and copied again before the release goes on."""
    async with start_release(tmp_path, "expand", "dual-write", "backfill", soak="60s") as (env, _store, driver):
        await driver.start_phase("cutover")
        await driver.wait_until(
            lambda record: any(step.name == "soak" and step.detail.get("until") for step in record.steps)
        )
        record = await driver.wait_until(lambda record: "no-older-pod" in record.gates)
        gate = record.gates["no-older-pod"]  # of V2, which is not what the phase rolls out
        assert (gate.verdict, gate.reason) == (Verdict.PENDING, "not finished: roll out V3")
        await set_image(env, manifests.image_name(1), "argocd-controller")
        record, seconds = await wait_for_breach(driver, "argocd-controller")
        assert seconds < STOP_SECONDS
        assert not next(step for step in record.steps if step.name == "soak").detail.get("until"), "the soak restarts"
        before = env.read_load_report()["requests"]
        async with asyncio.timeout(30):
            while env.read_load_report()["requests"] < before + 150:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.1)
        assert record.lease is not None
        epoch = record.lease.epoch
        await env.stop("agent", signal.SIGKILL)
        env.start_agent()
        record = await driver.wait_until(
            lambda record: record.lease is not None and record.lease.epoch > epoch and record.lease.is_live
        )
        assert record.release.breach is not None
        assert record.release.state is ReleaseState.RUNNING
        await set_image(env, manifests.image_name(2), "argocd-controller")
        record = await driver.wait_until(
            lambda record: (
                not record.release.unmet and record.witness.writers != () and "witness-empty" in record.gates
            ),
            timeout=90,
        )
        assert "copied to the other" in record.gates["witness-empty"].reason, "at the commit of each write"
        await driver.roll_back()
        assert not (await driver.read_record()).release.unmet
