"""Where a plan's release stands in another region: a short look into that region's database, which changes nothing."""

import asyncio

import asyncpg

from zdd_tui.backends.postgres.connection import FAILURES, connect, describe, translate
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.regions import RegionStand
from zdd_tui.model.release.state import State

LOOK_SECONDS = 4.0
"""For connecting and reading: under the limit of a gate, so that the reason tells which region does not answer."""

_READ = """
SELECT r.state, r.paused, CASE WHEN r.phase < 0 THEN '' ELSE r.strategy -> 'phases' -> r.phase ->> 'name' END AS phase,
       extract(epoch FROM clock_timestamp() - r.finished_at)::float8 AS ended_for,
       EXISTS (SELECT FROM zdd.release o WHERE o.plan_hash = $1 AND o.region = $2
               AND o.state IN ('rolling-back', 'rollback-failed', 'rolled-back')) AS given_up
FROM zdd.release r WHERE r.plan_hash = $1 AND r.region = $2 ORDER BY r.id DESC LIMIT 1
"""
_OTHER = "SELECT EXISTS (SELECT FROM zdd.release WHERE name = $1)"


async def read_stands(plan: BasePlan, plan_hash: str, names: tuple[str, ...]) -> tuple[RegionStand, ...]:
    """Every named region of a plan, asked side by side; one that cannot be read says why."""
    return tuple(await asyncio.gather(*(read_stand(plan.in_region(name), plan_hash) for name in names)))


async def read_stand(plan: BasePlan, plan_hash: str) -> RegionStand:
    """The newest release of that plan in the region that `plan` is for.

    Raises nothing for a region that cannot be reached: its stand has the error.
    """
    dsn = plan.database.dsn.get_secret_value()
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await _read(dsn, plan, plan_hash, min(plan.database.connect_timeout, LOOK_SECONDS))
    except TimeoutError:
        return RegionStand(plan.region, error=f"{describe(dsn)} does not answer within {LOOK_SECONDS:.0f} s")
    except DatabaseError as error:
        return RegionStand(plan.region, error=error.title)


async def _read(dsn: str, plan: BasePlan, plan_hash: str, timeout: float) -> RegionStand:
    region = plan.region
    conn = await connect(
        dsn, application_name=f"zdd region {region}", timeout=timeout, default_transaction_read_only="on"
    )
    try:
        row = await conn.fetchrow(_READ, plan_hash, region, timeout=LOOK_SECONDS)
        other = row is None and await conn.fetchval(_OTHER, plan.name, timeout=LOOK_SECONDS)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return RegionStand(region)  # no release was ever begun there
    except asyncpg.UndefinedColumnError:
        return RegionStand(region)  # its schema is older than regions, and so is every release in it
    except FAILURES as error:
        raise translate(error, dsn) from None
    finally:
        conn.terminate()
    if row is None:
        return RegionStand(region, other_plan=bool(other))
    return RegionStand(
        region,
        state=State(row["state"]),
        phase=row["phase"],
        paused=row["paused"],
        ended_for=row["ended_for"],
        given_up=row["given_up"],
    )
