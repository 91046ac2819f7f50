"""`zdd tune` on a running backfill: effective at once, shown, audited, kept when the agent is killed."""

import json
import os
import signal
from pathlib import Path

import pytest
import redis

from tests.support.command_line import CliEnvironment, make_environment, read_record, wait_until
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo import manifests
from zdd_tui.demo.data import insert_seed_rows
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor

SLOW = """
backfill:
  batch_rows: 1000
  max_rows_per_second: 20
"""


async def registered_in_backfill(here: CliEnvironment) -> None:
    """A release whose first two phases are behind it: its agent begins with the backfill. No pods are needed."""
    text = here.plan_file.read_text()
    loaded = load_plan(text, source=str(here.plan_file), environment=here.environ)
    async with await Store.open(here.environ["DATABASE_URL"]) as store:
        await store.migrate()
        release_id = await store.register_release(
            loaded.plan, text=text, document=loaded.document, plan_hash=loaded.hash, actor=Actor("ana", "here")
        )
    await here.fetchval("ALTER TABLE users ADD COLUMN full_name text")
    await here.fetchval("CREATE INDEX users_full_name_idx ON users (full_name)")
    async with Cluster.connect(here.environ["KUBECONFIG"], None, "default") as cluster:
        await cluster.set_image(manifests.NAME, "app", loaded.plan.kubernetes.images.v2, epoch=0, reason="test")
    with redis.Redis.from_url(here.environ["REDIS_URL"]) as client:
        client.mset({"ff:users_full_name_write": "true", "ff:users_full_name_read": "false"})
    await here.fetchval(
        "UPDATE zdd.step SET status = 'done' WHERE release_id = $1 AND position < (SELECT position FROM zdd.step"
        " WHERE release_id = $1 AND name = 'prepare-backfill')",
        release_id,
    )
    await here.fetchval("UPDATE zdd.release SET state = 'running', phase = 2 WHERE id = $1", release_id)


@pytest.mark.timeout(400)
async def test_limits_change_under_a_running_backfill_and_outlive_its_agent(
    tmp_path: Path, pg_dsn: str, redis_url: str
) -> None:
    async with make_environment(tmp_path, pg_dsn, redis_url) as here, await Store.open(pg_dsn) as store:
        here.rewrite("\nbackfill:\n  batch_rows: 1000\n", SLOW)
        await here.fetchval("TRUNCATE users")
        await insert_seed_rows(pg_dsn, 4000)
        await registered_in_backfill(here)

        async def rows_done(least: int) -> bool:
            backfill = (await read_record(store)).backfill
            return backfill is not None and backfill.rows_done >= least

        async with here.run_agent() as first:
            await wait_until(lambda: rows_done(20))

            bad = await here.run_zdd("tune", after=("speed=5",))
            assert (bad.code, "speed: it must be greater than or equal to 10" in bad.err) == (2, True)
            bad = await here.run_zdd("tune", after=("max_rows_per_secnd=5",))
            assert (bad.code, "did you mean max_rows_per_second?" in bad.err) == (2, True)

            done = await here.run_zdd(
                "tune", "--reason", "the standby is late", after=("max_rows_per_second=1", "speed=50")
            )
            text = "speed 100% -> 50%, max_rows_per_second 20 -> 1"
            assert (done.code, done.out) == (0, f"tune accepted: {text}\n"), done.err

            shown = await here.run_zdd("status")
            assert "tuned: speed 50% (plan: 100%), max_rows_per_second 1 (plan: 20)" in " ".join(shown.out.split())
            document = json.loads((await here.run_zdd("status", "--json")).out)
            assert document["tuned"] == {"max_rows_per_second": 20, "speed": 100}
            assert document["limits"]["max_rows_per_second"] == 1
            limits = (await here.run_zdd("tune")).out.splitlines()
            assert limits[0].startswith("speed                  50% (plan: 100%)")
            await first.wait_for_exit(signal.SIGKILL)

        async with here.run_agent():
            before = (await read_record(store)).backfill
            assert before is not None
            await wait_until(lambda: rows_done(before.rows_done + 1))
            backfill = (await read_record(store)).backfill
            assert backfill is not None
            assert backfill.recent[-1].rows == 1  # a batch is bounded to one second: the new agent has the limit

            back = await here.run_zdd("tune", "--reset", after=("max_rows_per_second=none",))
            text = "speed 50% -> 100%, max_rows_per_second 1 -> none"
            assert (back.code, back.out) == (0, f"tune accepted: {text}\n"), back.err
            await wait_until(lambda: rows_done(4000))  # three minutes and more at the plan's own pace
            assert (await read_record(store)).tuning == (("max_rows_per_second", None),)

        audit = await here.fetchval(
            "SELECT array_agg(actor || ': ' || message || '; ' || reason ORDER BY id) FROM zdd.event"
            " WHERE message LIKE 'tune%'"
        )
        assert isinstance(audit, list)
        assert [line.partition(": ")[2] for line in audit] == [
            "tune: speed 100% -> 50%, max_rows_per_second 20 -> 1; the standby is late",
            "tune: speed 50% -> 100%, max_rows_per_second 1 -> none; ",
        ]
        assert "max_rows_per_second: 20" in here.plan_file.read_text()  # the plan is as it was


TABLES = """
name: notes
environment: dev
database: {dsn: "${DATABASE_URL}"}
operations:
  - {sql: UPDATE items SET n = n + 1, undo: []}
  - {sql: UPDATE orders SET n = n + 1, undo: []}
backfill:
  tables:
    public.orders: {max_rows_per_second: 1000}
"""


@pytest.mark.timeout(200)
async def test_limits_of_one_table_are_listed_changed_and_audited(tmp_path: Path, pg_dsn: str) -> None:
    here = CliEnvironment(tmp_path, dict(os.environ | {"DATABASE_URL": pg_dsn, "COLUMNS": "80"}))
    here.plan_file.write_text(TABLES.replace("public.orders:", "order:"))
    await here.fetchval("CREATE TABLE items (id int PRIMARY KEY, n int)")
    await here.fetchval("CREATE TABLE orders (id int PRIMARY KEY, n int)")
    bad = await here.run_zdd("check", "--offline")
    where = f"{here.plan_file}:10: backfill.tables.order: no step of the migration fills this table"
    assert (bad.code, where in bad.err, "that are filled: items, orders" in bad.err) == (2, True, True), bad.err

    here.plan_file.write_text(TABLES)
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        listed = (await here.run_zdd("tune")).out.splitlines()
        assert listed[-2:] == [
            "own limits of tables, where stricter: zdd tune PLAN items:speed=50",
            "  orders: max_rows_per_second 1k",
        ]
        bad = await here.run_zdd("tune", after=("order:speed=50",))
        assert (bad.code, "no step of the release fills a table order" in bad.err) == (2, True), bad.err
        assert "items, orders" in bad.err
        done = await here.run_zdd("tune", after=("public.items:speed=50", "orders:max_rows_per_second=none"))
        text = "orders: max_rows_per_second 1k -> none, items: speed none -> 50%"
        assert (done.code, done.out) == (0, f"tune accepted: {text}\n"), done.err
        shown = " ".join((await here.run_zdd("status")).out.split())
        assert "tuned: orders: max_rows_per_second none (plan: 1k), items: speed 50% (plan: none)" in shown
        document = json.loads((await here.run_zdd("status", "--json")).out)
        assert document["tuned"] == {"items:speed": None, "orders:max_rows_per_second": 1000}
        assert [(each["table"], each["limits"]) for each in document["fills"]] == [
            ("items", {"speed": 50}),
            ("orders", {}),
        ]
        back = await here.run_zdd("tune", "--reset")
        assert back.code == 0, back.err
        assert (await here.run_zdd("tune")).out.splitlines() == listed
    assert await here.fetchval("SELECT count(*) FROM zdd.event WHERE message = $1", f"tune: {text}") == 1
