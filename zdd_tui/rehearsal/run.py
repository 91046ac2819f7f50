"""`zdd rehearse`: a copy of the schema, rows that look like production's, writers, and every way there and back."""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import connect, explained
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store import evidence as rehearsals
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.backfill.transaction import reason_of
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.strategies import strategy_for
from zdd_tui.rehearsal.copy import Connection, Say, Wish, copy_session, make_copy
from zdd_tui.rehearsal.expected_rows import Ledger, round_trip
from zdd_tui.rehearsal.report import Outcome, as_text
from zdd_tui.rehearsal.scenario import Position, Stage, walk
from zdd_tui.rehearsal.statements import Author
from zdd_tui.rehearsal.step_metrics import Meter
from zdd_tui.rehearsal.workload import Writers
from zdd_tui.testbed.servers import PgServer, RedisServer, postgres_server, redis_server

SERVER = {"fsync": "on", "full_page_writes": "on"}
"""Figures of a server that could lose its data would be too good."""

SOAK, STALENESS = 0.3, 0.05
"""Seconds: nothing is learned from waiting here, and our writers read flags before every write."""


async def rehearse(loaded: LoadedPlan, wish: Wish, folder: Path, say: Say) -> Outcome:
    """Rehearses a plan and keeps the verdict in production's `zdd` schema.

    Args:
        folder: an empty one for everything that is made.

    Raises:
        PlanError: a strategy that changes no database.
        ZddError: production cannot be read or written, or its schema cannot be brought over; nothing is kept.
    """
    plan = loaded.plan
    if not isinstance(plan, Plan):
        raise PlanError(
            f"{loaded.source}: a rehearsal is of a database, and {plan.strategy} changes none",
            "only expand/contract plans are rehearsed",
        )
    began = time.monotonic()
    dsn = plan.database.dsn.get_secret_value()
    async with await Store.open(dsn, application_name="zdd rehearse", timeout=plan.database.connect_timeout) as store:
        await store.migrate()  # where the verdict will be kept: to fail now is better than in the end
    async with AsyncExitStack() as stack:
        say("starting PostgreSQL and Redis")
        postgres, redis = await asyncio.gather(
            stack.enter_async_context(postgres_server(folder / "postgres", SERVER)),
            stack.enter_async_context(redis_server(folder / "redis")),
        )
        outcome = await _on_copy(loaded, plan, wish, postgres, redis, folder, say)
    outcome.seconds = time.monotonic() - began
    await _keep(dsn, outcome)
    return outcome


async def _on_copy(
    loaded: LoadedPlan, plan: Plan, wish: Wish, postgres: PgServer, redis: RedisServer, folder: Path, say: Say
) -> Outcome:
    async with copy_session(postgres.dsn, plan) as conn:
        copy = await make_copy(conn, plan, wish, postgres.dsn, postgres.programs, folder, say)
        outcome = Outcome(
            name=plan.name,
            plan_hash=loaded.hash,
            strategy=strategy_for(plan),
            rows=copy.rows,
            full_rows=copy.main.rows,
            with_data=wish.with_data,
            versions=copy.versions,
            wait_limit=plan.database.lock_timeout_max + 1.0,
            ceiling=plan.backfill.max_rows_per_second,
            notes=copy.notes,
        )
        if copy.trouble:
            outcome.reasons.append(copy.trouble)
            return outcome
        here = _here(plan, postgres.dsn, redis.url)
        catalog = await read_catalog(conn, here)
        assert copy.new is not None, "a copy without trouble knows what expand makes"
        types = {column.name: column.type for column in copy.new.columns if column.name in plan.change.up}
        ledger = Ledger(here, catalog, types)
        if await _begin(conn, ledger, outcome):
            await _try_round_trip(conn, here, ledger, outcome)
        if outcome.passed:  # what is known to lose rows need not be walked
            author = Author(here, catalog, copy.main, copy.new, ledger)
            if author.old_side(dual=False).insert is None:
                outcome.notes.append(
                    f"the writers change rows of {plan.change.table} and make no new ones: no free key"
                )
            await _walks(loaded, here, redis, author, ledger, outcome, say)
    outcome.judge()
    return outcome


async def _begin(conn: Connection, ledger: Ledger, outcome: Outcome) -> bool:
    """Notes what every row must hold; False where ``up`` cannot tell."""
    try:
        await ledger.begin(conn)
    except asyncpg.PostgresError as error:
        outcome.reasons.append(f"change.up fails on a row: {_cause(error, outcome)}")
        return False
    return True


async def _try_round_trip(conn: Connection, plan: Plan, ledger: Ledger, outcome: Outcome) -> None:
    try:
        changed, rewritten = await round_trip(conn, plan, ledger.catalog, ledger.types)
    except asyncpg.PostgresError as error:
        outcome.reasons.append(f"change.down fails on what change.up makes of a row: {_cause(error, outcome)}")
        return
    if changed:
        outcome.reasons.append(
            f"change.down loses what V3 writes: after a way back {changed:,} of {outcome.rows:,} rows would hold"
            " something else (up of down of up is not up)"
        )
    if rewritten:
        outcome.warnings.append(
            f"{rewritten:,} of {outcome.rows:,} rows would come back with other old columns of the same meaning, had"
            " V3 written them (down of up is not what was there)"
        )


def _cause(error: asyncpg.PostgresError, outcome: Outcome) -> str:
    """The server's words, unless they could quote production's values."""
    return reason_of(error) if outcome.with_data else str(error).splitlines()[0]


async def _walks(
    loaded: LoadedPlan, here: Plan, redis: RedisServer, author: Author, ledger: Ledger, outcome: Outcome, say: Say
) -> None:
    """All ways there and back; the first that fails ends them."""
    dsn = here.database.dsn.get_secret_value()
    async with await Store.open(dsn) as registry:
        await registry.migrate()
    async with await FlagStore.connect(redis.url) as flags, Meter(dsn) as meter:
        position = Position(here, flags)
        writers = Writers(dsn, author, position.now, discreet=outcome.with_data)
        outcome.tally = writers.tally
        stage = Stage(loaded, here, dsn, flags, writers, meter, ledger, say, position, outcome.measures)
        async with writers:
            for phase in [*(spec.name for spec in outcome.strategy.phases[:-1]), ""]:
                say(f"to {phase} and back" if phase else "to the end")
                try:
                    outcome.walks.append(await walk(stage, phase))
                except ZddError as error:
                    place = f"on the way to {phase} and back" if phase else "on the way to the end"
                    outcome.reasons.append(f"{place}: {' '.join(str(error).split())}")
                    return


def _here(plan: Plan, dsn: str, redis_url: str) -> Plan:
    """The same plan for the copy; what only makes one wait is shortened."""
    return plan.without_regions().model_copy(
        update={
            "environment": "rehearsal",
            "database": plan.database.model_copy(update={"dsn": SecretStr(dsn)}),
            "flags": plan.flags.model_copy(update={"url": SecretStr(redis_url), "max_staleness": STALENESS}),
            "gates": plan.gates.model_copy(update={"soak": min(SOAK, plan.gates.soak)}),
            "backfill": plan.backfill.model_copy(update={"max_rows_per_second": None}),
        }
    )


async def _keep(dsn: str, outcome: Outcome) -> None:
    conn = await connect(dsn, application_name="zdd rehearse")
    try:
        with explained(dsn):
            await rehearsals.keep(
                conn,
                plan_hash=outcome.plan_hash,
                name=outcome.name,
                passed=outcome.passed,
                scale=outcome.scale or 1.0,
                report=outcome.to_json(),
                actor=this_actor(),
            )
    finally:
        conn.terminate()


def run_rehearsal(loaded: LoadedPlan, wish: Wish, *, as_json: bool) -> int:
    """Rehearses in a temporary folder that goes when it ends, and prints the report; 0 only when it passed."""
    folder = Path(tempfile.mkdtemp(prefix="zdd-rehearse-"))
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f}s  {text}\n")
        sys.stderr.flush()

    # Raised wherever we are, so that the servers are ended and the folder goes.
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        report = asyncio.run(rehearse(loaded, wish, folder, say)).to_json()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else as_text(report))
    return 0 if report["passed"] else 1


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")
