"""`zdd pause --table` and `zdd resume --table` on a running agent: one table waits, also under the next agent."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.command_line import CliEnvironment, wait_until

PLAN = """
name: notes
environment: dev
database: {dsn: "${DATABASE_URL}"}
operations:
  - {sql: UPDATE users SET n = n + 1, undo: []}
  - {sql: UPDATE orders SET n = n + 1, undo: []}
backfill:
  batch_rows: 10
  batch_rows_max: 10
  tables:
    users: {max_rows_per_second: 100}
"""


@pytest.mark.timeout(200)
async def test_one_table_is_paused_shown_audited_and_stays_paused_when_its_agent_is_killed(
    tmp_path: Path, pg_dsn: str
) -> None:
    here = CliEnvironment(tmp_path, dict(os.environ | {"DATABASE_URL": pg_dsn, "COLUMNS": "80"}))
    here.plan_file.write_text(PLAN)
    for table in ("users", "orders"):
        await here.fetchval(f"CREATE TABLE {table} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)")
        await here.fetchval(f"INSERT INTO {table} (id) SELECT i FROM generate_series(1, 200) i")

    async def sum_of(table: str) -> int:
        return int(str(await here.fetchval(f"SELECT coalesce(sum(n), 0) FROM {table}")))

    async def users_begun() -> bool:
        return await sum_of("users") >= 20

    async def orders_filled() -> bool:
        return await sum_of("orders") == 200

    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        arrived = await here.run_zdd("run", "--until", "expand")
        assert arrived.code == 0, arrived.err
        bad = await here.run_zdd("pause", "--table", "pets")
        assert (bad.code, "no step of the release fills a table pets" in bad.err) == (1, True), bad.err
        assert (await here.run_zdd("advance", "--yes")).code == 0
        await wait_until(users_begun)
        done = await here.run_zdd("pause", "--table", "public.users", "--reason", "the standby is late")
        text = "table users is paused; the release continues where it does not need it"
        assert (done.code, done.out) == (0, f"pause accepted: {text}\n"), done.err
        again = await here.run_zdd("pause", "--table", "users")
        assert (again.code, "table users is paused by" in again.err) == (1, True), again.err
        assert f"zdd resume {here.plan_file} --table users" in " ".join(again.err.split())
        await wait_until(orders_filled)
        await agent.wait_for_exit(signal.SIGKILL)

    stopped = await sum_of("users")
    assert 20 <= stopped < 200
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        held = await here.run_zdd("run", "--timeout", "1s")
        assert held.code == 4, held.output
        assert "table users is paused by" in " ".join(held.err.split())
        assert f"zdd resume {here.plan_file} --table users" in " ".join(held.err.split())
        assert await sum_of("users") == stopped
        shown = (await here.run_zdd("status")).out
        assert shown.startswith("notes: running in backfill, TABLE PAUSED")
        document = json.loads((await here.run_zdd("status", "--json")).out)
        assert (document["progress"], document["paused"]) == ("paused", False)
        assert [each["paused"] is None for each in document["fills"]] == [False, True]
        listed = (await here.run_zdd("resume", "--table", "users")).out
        assert listed == "resume accepted: table users is resumed\n"
        end = await here.run_zdd("run", "--until", "backfill")
        assert end.code == 0, end.err
    assert await here.fetchval("SELECT count(*) FROM users WHERE n = 1") == 200
    audit = await here.fetchval(
        "SELECT array_agg(message || '; ' || reason ORDER BY id) FROM zdd.event WHERE kind = 'command'"
        " AND message LIKE '%table users%'"
    )
    assert audit == [f"pause: {text}; the standby is late", "resume: table users is resumed; "]
