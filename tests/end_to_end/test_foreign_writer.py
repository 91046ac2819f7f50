"""Case A8: a worker that the plan does not know writes one table with the application, and is found before contract."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from tests.support.release import assert_both_sides_agree, assert_no_failures, ignore_progress, start_production
from zdd_tui.cli.status import status_to_dict
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState
from zdd_tui.model.release.strategy import WITNESS_GATE

INSERT = """
INSERT INTO public.users (id, first_name, last_name) SELECT 1000000 + n, 'Report', n::text FROM generate_series(1, $1) n
"""
"""Rows that the load does not know: it checks the content of every other row."""


def is_closed_for(worker: str, record: ReleaseRecord) -> bool:
    gate = record.gates.get(WITNESS_GATE)
    return gate is not None and gate.verdict is not Verdict.PASS and worker in gate.reason


async def write_again_and_again(worker: asyncpg.Connection) -> None:
    number = 0
    while True:
        number += 1
        await worker.execute("UPDATE public.users SET last_name = $1 WHERE id = 1000003", f"worker{number}")
        await asyncio.sleep(0.05)


async def wait_for_failure(driver: ReleaseDriver) -> ReleaseRecord:
    async with asyncio.timeout(60):
        while (record := await driver.read_record()).release.state is not ReleaseState.FAILED:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return record


def find_step(record: ReleaseRecord, name: str) -> StepRecord:
    return next(step for step in record.steps if step.name == name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["column", pytest.param("table", marks=pytest.mark.slow)])
async def test_a8_a_worker_that_writes_only_the_old_side(kind: str, tmp_path: Path) -> None:
    async with start_production(tmp_path, kind=kind, mode="application") as (env, store):
        dsn = env.postgres.dsn
        worker = await asyncpg.connect(dsn, server_settings={"application_name": "reports-worker"})
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        for phase in ("expand", "dual-write", "backfill"):
            await driver.run_phase(phase)
        # After the verification: its rows are copied again, and it is named.
        await worker.execute(INSERT, 12)
        record = await driver.wait_until(
            lambda record: bool(record.witness.writers) and not record.witness.open_rows, timeout=30
        )
        [found] = status_to_dict(record)["witness"]["writers"]
        assert (found["application_name"], found["address"], found["rows"]) == ("reports-worker", "127.0.0.1", 12)
        assert found["text"].startswith("reports-worker ")
        assert found["text"].endswith(f" as {found['role']}: 12 rows")
        await assert_both_sides_agree(env)

        await driver.run_phase("cutover")
        # Reads use the new side now: each row is copied at its commit, and contract does not begin.
        writing = asyncio.create_task(write_again_and_again(worker))
        await driver.wait_until(lambda record: is_closed_for("reports-worker", record), timeout=30)
        with pytest.raises(ZddError, match="reports-worker"):
            await driver.start_phase("contract")
        # The worker was stopped.
        writing.cancel()
        await asyncio.wait([writing])
        await worker.close()
        await assert_both_sides_agree(env)
        assert not (await driver.read_record()).witness.replaced_rows
        await driver.wait_for_phase("cutover")
        for phase in ("contract", "cleanup"):
            await driver.run_phase(phase)
        record = await driver.read_record()
        assert record.release.state is ReleaseState.DONE
        assert [writer.application_name for writer in record.witness.writers] == ["reports-worker"]
        left = await asyncpg.connect(dsn)
        names = await left.fetch("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'zdd%' AND NOT tgisinternal")
        await left.close()
        assert names == []
        await assert_no_failures(env)


@pytest.mark.timeout(300)
async def test_switched_off_a_foreign_write_is_found_before_contract(tmp_path: Path) -> None:
    async with start_production(tmp_path, kind="table", mode="application") as (env, store):
        plan = env.plan_file.read_text().replace("dual_write: application", "dual_write: application\n  witness: off")
        env.plan_file.write_text(plan)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        names = {step.name for step in (await driver.read_record()).steps}
        assert "create-witness" not in names
        worker = await asyncpg.connect(env.postgres.dsn)
        await worker.execute(INSERT, 12)
        for phase in ("expand", "dual-write", "backfill"):
            await driver.run_phase(phase)
        await worker.execute("UPDATE public.users SET last_name = 'jr' WHERE id = 1000001")
        await worker.execute("DELETE FROM public.users WHERE id = 1000002")
        await driver.run_phase("cutover")
        record = await driver.read_record()
        compared = find_step(record, "compare-recent-writes")
        assert compared.detail["whole"], json.dumps(compared.detail)
        assert compared.detail["repaired"] >= 2
        assert await worker.fetchval("SELECT count(*) FROM public.people WHERE id = 1000002") == 0
        await worker.execute("UPDATE public.users SET last_name = 'late' WHERE id = 1000005")
        await driver.start_phase("contract")
        record = await wait_for_failure(driver)
        assert "key 1000005 (" in record.release.error
        await worker.execute("UPDATE public.users SET last_name = '5' WHERE id = 1000005")
        # A transaction that is open during the comparison and until the archive has the lock: it is found in cleanup.
        async with worker.transaction():
            await worker.execute("UPDATE public.users SET last_name = 'later' WHERE id = 1000006")
            await driver.run_command(CommandKind.ADVANCE)
            await driver.wait_until(lambda record: bool(find_step(record, "archive-old-side").note), timeout=60)
        await driver.wait_for_phase("contract")
        await driver.start_phase("cleanup")
        record = await wait_for_failure(driver)
        assert "the archive has what the new side lacks" in record.release.error
        assert "key 1000006 (" in record.release.error
        # Nobody has recorded who wrote it. The trigger of V3 was in force all the time, so it was not V3.
        await driver.roll_back()
        assert await worker.fetchval("SELECT last_name FROM public.users WHERE id = 1000006") == "later"
        await worker.close()
        await assert_no_failures(env)
