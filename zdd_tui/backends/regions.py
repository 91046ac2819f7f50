"""Reads the state of a plan's release in another region from the database of that region."""

import asyncio

import asyncpg

from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect, describe_dsn, translate_error
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.regions import RegionStatus
from zdd_tui.model.release.state import ReleaseState

READ_TIMEOUT = 4.0
"""Seconds for connecting and reading: below the time limit of a gate, so that its reason names the region."""

_READ = """
SELECT r.state, r.paused, CASE WHEN r.phase < 0 THEN '' ELSE r.strategy -> 'phases' -> r.phase ->> 'name' END AS phase,
       extract(epoch FROM clock_timestamp() - r.finished_at)::float8 AS seconds_since_end,
       EXISTS (SELECT FROM zdd.release o WHERE o.plan_hash = $1 AND o.region = $2
               AND o.state IN ('rolling-back', 'rollback-failed', 'rolled-back')) AS was_rolled_back
FROM zdd.release r WHERE r.plan_hash = $1 AND r.region = $2 ORDER BY r.id DESC LIMIT 1
"""
_OTHER_PLAN_EXISTS = "SELECT EXISTS (SELECT FROM zdd.release WHERE name = $1)"


async def read_region_statuses(plan: BasePlan, plan_hash: str, names: tuple[str, ...]) -> tuple[RegionStatus, ...]:
    """Reads every named region of a plan, in parallel; an unreadable one has the reason as its error."""
    return tuple(await asyncio.gather(*(read_region_status(plan.for_region(name), plan_hash) for name in names)))


async def read_region_status(plan: BasePlan, plan_hash: str) -> RegionStatus:
    """Reads the newest release of the plan in the region that `plan` is for.

    Does not raise when the region is unreachable: the status has the error.
    """
    dsn = plan.database.dsn.get_secret_value()
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            return await _read_status(dsn, plan, plan_hash, min(plan.database.connect_timeout, READ_TIMEOUT))
    except TimeoutError:
        return RegionStatus(plan.region, error=f"{describe_dsn(dsn)} does not respond within {READ_TIMEOUT:.0f} s")
    except DatabaseError as error:
        return RegionStatus(plan.region, error=error.title)


async def _read_status(dsn: str, plan: BasePlan, plan_hash: str, timeout: float) -> RegionStatus:
    region = plan.region
    conn = await connect(
        dsn, application_name=f"zdd region {region}", timeout=timeout, default_transaction_read_only="on"
    )
    try:
        row = await conn.fetchrow(_READ, plan_hash, region, timeout=READ_TIMEOUT)
        other = row is None and await conn.fetchval(_OTHER_PLAN_EXISTS, plan.name, timeout=READ_TIMEOUT)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return RegionStatus(region)  # no release was ever started there
    except asyncpg.UndefinedColumnError:
        return RegionStatus(region)  # the schema is older than regions, and so is every release in it
    except CONNECTION_ERRORS as error:
        raise translate_error(error, dsn) from None
    finally:
        conn.terminate()
    if row is None:
        return RegionStatus(region, runs_other_plan=bool(other))
    return RegionStatus(
        region,
        state=ReleaseState(row["state"]),
        phase=row["phase"],
        is_paused=row["paused"],
        seconds_since_end=row["seconds_since_end"],
        was_rolled_back=row["was_rolled_back"],
    )
