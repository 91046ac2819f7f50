"""Several databases of one real server, with releases whose plans are stored as an agent would store them."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import yaml

from tests.support.store import ANA
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.plan import regions_yaml, strategy_plan_yaml
from zdd_tui.model.plan.file import load_plan
from zdd_tui.testbed.servers import PostgresServer

REGIONS = ("eu", "us")
PLAN_NAME = "users-api-rolling"
PLAN = strategy_plan_yaml("rolling", name=PLAN_NAME, soak="5s") + regions_yaml(REGIONS, uses_flags=False)
END = (
    "UPDATE zdd.release SET state = 'done', phase = 0, finished_at = clock_timestamp()",
    "UPDATE zdd.step SET status = 'done', ended_at = clock_timestamp()",
)


@asynccontextmanager
async def fresh_databases(pg: PostgresServer, count: int) -> AsyncIterator[list[str]]:
    """DSNs of empty databases that are dropped at the end."""
    names = [f"test_{secrets.token_hex(4)}" for _ in range(count)]
    admin = await asyncpg.connect(pg.dsn)
    try:
        for name in names:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE zdd_template")
        yield [pg.dsn_for(name) for name in names]
    finally:
        for name in names:
            await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


async def register_regions(dsns: list[str]) -> dict[str, str]:
    """One release of the plan in the database of each region; the first one is done. Returns the plan's environment."""
    environment = {"DATABASE_URL": "postgresql://unused/x", "KUBECONFIG": "/nonexistent"}
    for region, dsn in zip(REGIONS, dsns, strict=True):
        environment |= {f"{region.upper()}_DATABASE_URL": dsn, f"{region.upper()}_KUBECONFIG": f"/nonexistent/{region}"}
    await asyncio.gather(*(_register(dsn, region, environment) for region, dsn in zip(REGIONS, dsns, strict=True)))
    connection = await asyncpg.connect(dsns[0])
    for statement in END:
        await connection.execute(statement)
    await connection.close()
    return environment


async def _register(dsn: str, region: str, environment: dict[str, str]) -> None:
    loaded = load_plan(PLAN, source="plan.yaml", environment=environment, region=region)
    async with await Store.open(dsn) as store:
        await store.migrate()
        await store.register_release(
            loaded.plan, text=loaded.text, document=yaml.safe_load(PLAN), plan_hash=loaded.hash, actor=ANA
        )
