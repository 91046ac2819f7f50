"""Generated tables through whole releases of the real agent: refused by check, or done with nothing lost.

The generator and the judge are those of tests/checks/test_catalog_diff_properties.py; here the agent, a cluster with
pods and Redis run, and rows are written while they do.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import yaml

from tests.checks.test_catalog_diff import plan_of
from tests.checks.test_catalog_diff_properties import NEW, OLD, judge, make_change, make_table, read_lines, write_row
from tests.support.command_line import CliEnvironment
from tests.support.kubelet import NAME, deployment, make_cluster, service
from zdd_tui.checks.catalog_diff import compare_planned_side
from zdd_tui.model.advice.carry_over import add_missing_ddl

CASES = {
    "a column with partitioned referencing tables": ("integer", ["range referencing", "not null", "comment"], False),
    "a column with keys, policies and rights": (
        "text",
        ["unique", "policy", "grant", "statistics", "collation"],
        False,
    ),
    "a table that lists reference": ("bigint", ["list referencing", "default", "index", "row security"], True),
    "a table with a partitioned target": ("integer", ["hash target", "check", "replica identity", "table grant"], True),
}
"""Some of what the generator draws: type, parts, and whether the table is replaced."""


@asynccontextmanager
async def make_environment(folder: Path, dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    """A Deployment with a pod that serves, and where commands run."""
    async with make_cluster(folder) as cluster:
        await cluster.create("deployments", deployment(replicas=1))
        await cluster.create("services", service())
        environ = os.environ | {"DATABASE_URL": dsn, "REDIS_URL": redis_url, "KUBECONFIG": cluster.kubeconfig}
        here = CliEnvironment(folder, dict(environ))
        here.plan_file.write_text(
            yaml.safe_dump(
                {
                    "name": "gen",
                    "strategy": "expand-contract",
                    "environment": "test",
                    "production": False,
                    "database": {"dsn": "${DATABASE_URL}"},
                    "kubernetes": {
                        "namespace": cluster.cluster.namespace,
                        "deployment": NAME,
                        "container": "app",
                        "images": {"v2": "shop/users:2", "v3": "shop/users:3"},
                    },
                    "flags": {"url": "${REDIS_URL}", "write": "gen-write", "read": "gen-read"},
                    "gates": {"soak": "1s"},
                }
            )
        )
        yield here


async def keep_writing(dsn: str, kind: str, written: dict[int, str], name: str, first: int) -> None:
    """A writer that knows one side only, until it is cancelled."""
    conn = await asyncpg.connect(dsn)
    column, table = (OLD, "gen") if name == "old" else (NEW, "gen")
    try:
        for number in range(first, first + 10_000):
            await write_row(conn, kind, written, number, column, table=table)
            await asyncio.sleep(0.05)
    finally:
        await conn.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
async def test_a_generated_table_is_refused_or_released_with_nothing_lost(
    name: str, tmp_path: Path, pg_dsn: str, redis_url: str
) -> None:
    kind, parts, is_table = CASES[name]
    conn = await asyncpg.connect(pg_dsn)
    async with make_environment(tmp_path, pg_dsn, redis_url) as here:
        try:
            await make_table(conn, kind, parts)
            await conn.execute("DROP SCHEMA zdd")
            written: dict[int, str] = {}
            if "hash target" in parts:
                await conn.execute("INSERT INTO gen_hashed SELECT generate_series(1, 20000)")
            for number in range(1, 200):
                await write_row(conn, kind, written, number, OLD, table="gen")
            change = make_change(kind, is_table=is_table) | {"dual_write": "trigger"}
            for _ in range(4):
                change = add_missing_ddl(change, (await compare_planned_side(conn, plan_of(**change))).differences)
            document = yaml.safe_load(here.plan_file.read_text()) | {"change": change}
            here.plan_file.write_text(yaml.safe_dump(document, sort_keys=False))
            before = await read_lines(conn)
            async with here.run_agent() as agent:
                await agent.wait_for_output("holding the lease")
                writer = asyncio.create_task(keep_writing(pg_dsn, kind, written, "old", 200))
                arrived = await here.run_zdd("run", "--until", "cutover")
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                assert arrived.code == 0, f"{arrived.output}\n{agent.log}"
                ended = await here.run_zdd("run", "--confirm", "gen")
                assert ended.code == 0, f"{ended.output}\n{agent.log}"
            assert await judge(conn, table=is_table, before=before) == []
            target, column = ("gen2", OLD) if is_table else ("gen", NEW)
            rows = await conn.fetch(f"SELECT id, coalesce(({column})::text, 'NULL') AS value FROM {target}")
            assert {row["id"]: row["value"] for row in rows} == written
            assert len(written) > 200, "a writer wrote during the release"
        finally:
            await conn.close()
