"""Case A1: a role from which row security hides rows copies none, and is refused before it starts."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.support.schema_change import USERS, insert_rows, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.row_visibility import find_hidden_rows
from zdd_tui.backends.store import backfill as rows
from zdd_tui.checks.schema import check_change
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.errors import DatabaseError, StepFailed, ZddError

pytestmark = pytest.mark.timeout(60)

POLICY = "CREATE POLICY tenant ON users USING (email = current_setting('app.tenant', true))"


@dataclass
class Owner:
    """An owner that is no superuser and does not bypass row security."""

    admin: asyncpg.Connection
    role: str
    dsn: str
    conn: asyncpg.Connection


@asynccontextmanager
async def owned_table(dsn: str, count: int = 3000) -> AsyncIterator[Owner]:
    role = f"owner_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(dsn)
    await admin.execute(
        f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD 'pw';"
        f"GRANT ALL ON SCHEMA public TO {role}; GRANT ALL ON DATABASE {urlsplit(dsn).path[1:]} TO {role}"
    )
    parts = urlsplit(dsn)
    own = urlunsplit(parts._replace(netloc=f"{role}:pw@{parts.netloc.rpartition('@')[2]}"))
    conn = await asyncpg.connect(own)
    try:
        await conn.execute(USERS)
        await insert_rows(conn, count)
        yield Owner(admin, role, own, conn)
    finally:
        await conn.close()
        await admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await admin.close()


async def test_a1_check_refuses_and_its_fix_works(pg_dsn: str) -> None:
    async with owned_table(pg_dsn) as owner:
        plan = make_plan(dsn=owner.dsn)
        await check_change(owner.conn, plan)
        await owner.conn.execute(f"ALTER TABLE users ENABLE ROW LEVEL SECURITY; {POLICY}")
        await check_change(owner.conn, plan)  # an owner sees every row
        await owner.conn.execute("ALTER TABLE users FORCE ROW LEVEL SECURITY")
        assert await owner.conn.fetchval("SELECT count(*) FROM users") == 0
        with pytest.raises(DatabaseError, match="may not see every row") as refused:
            await check_change(owner.conn, plan)
        assert "1 policy, FORCE" in refused.value.title
        assert f'ALTER ROLE "{owner.role}" BYPASSRLS' in refused.value.hint
        await owner.admin.execute(f"ALTER ROLE {owner.role} BYPASSRLS")
        await check_change(owner.conn, plan)


async def test_a1_a_backfill_that_sees_no_row_is_never_complete(pg_dsn: str) -> None:
    async with owned_table(pg_dsn, 300) as owner:
        plan = make_plan(dsn=owner.dsn)
        async with open_leased_store(owner.dsn, plan) as store:
            catalog = await run_expand(store, plan)
            await owner.conn.execute(f"ALTER TABLE users ENABLE ROW LEVEL SECURITY; {POLICY}")
            runner = BackfillRunner(store, ChangeJob(plan, catalog), signals=())
            await runner.prepare()
            # The policy begins to apply after the check, in the middle of the release.
            await owner.conn.execute("ALTER TABLE users FORCE ROW LEVEL SECURITY")
            with pytest.raises(ZddError, match=r"row-level security|may not see every row"):
                await runner.run()
            with pytest.raises(ZddError, match=r"row-level security|may not see every row"):
                await BackfillRunner(store, ChangeJob(plan, catalog), signals=()).prepare()
            with pytest.raises((ZddError, asyncpg.InsufficientPrivilegeError), match=r"row-level|every row"):
                await Verifier(store, plan, catalog).run()
            async with store.fenced() as conn:
                assert not (await rows.list_ranges(conn, store.release_id, "backfill"))[0].done
            await owner.admin.execute(f"ALTER ROLE {owner.role} BYPASSRLS")
            await runner.run()
            assert await owner.admin.fetchval("SELECT count(full_name) FROM users") == 300


async def test_a_table_with_pages_and_no_visible_row_is_empty_only_by_analyze(pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    admin = await asyncpg.connect(pg_dsn)
    await admin.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        await BackfillRunner(store, ChangeJob(plan, catalog), signals=()).prepare()  # without pages it is empty
        await insert_rows(admin, 50)
        await admin.execute("DELETE FROM users; DELETE FROM zdd.range; DELETE FROM zdd.backfill")
        async with admin.transaction():
            await admin.execute("LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE")  # ANALYZE skips it
            with pytest.raises(StepFailed, match="has 1 page") as refused:
                await BackfillRunner(store, ChangeJob(plan, catalog), signals=()).prepare()
        assert "VACUUM ANALYZE public.users" in refused.value.hint.replace('"', "")
        # Now ANALYZE reads every page, and finds deleted rows only.
        runner = BackfillRunner(store, ChangeJob(plan, catalog), signals=())
        await runner.prepare()
        await runner.run()
        await Verifier(store, plan, catalog).run()
    await admin.close()


async def test_partitions_and_children_are_judged_too(pg_dsn: str) -> None:
    async with owned_table(pg_dsn, 1) as owner:
        await owner.conn.execute(
            "CREATE TABLE parent (id int, email text) PARTITION BY RANGE (id);"
            "CREATE TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (10);"
            "ALTER TABLE part ENABLE ROW LEVEL SECURITY; ALTER TABLE part FORCE ROW LEVEL SECURITY"
        )
        assert [each.table for each in await find_hidden_rows(owner.conn, ["public.parent"])] == ["public.part"]
        assert await find_hidden_rows(owner.admin, ["public.parent", "public.missing"]) == []


async def test_the_target_table_is_judged_too(pg_dsn: str) -> None:
    async with owned_table(pg_dsn, 1) as owner:
        plan = make_plan("table", dsn=owner.dsn)
        await owner.conn.execute(
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text);"
            "ALTER TABLE people ENABLE ROW LEVEL SECURITY; ALTER TABLE people FORCE ROW LEVEL SECURITY"
        )
        with pytest.raises(DatabaseError, match=r"every row of public\.people"):
            await check_change(owner.conn, plan, has_started=True)


async def test_a_role_that_is_not_the_owner_is_told_to_become_one(pg_dsn: str) -> None:
    async with owned_table(pg_dsn, 1) as owner:
        await owner.conn.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY; GRANT SELECT ON users TO PUBLIC")
        other = f"{owner.role}_x"
        await owner.admin.execute(f"CREATE ROLE {other}")
        try:
            await owner.admin.execute(f"SET SESSION AUTHORIZATION {other}")
            [hidden] = await find_hidden_rows(owner.admin, ["public.users"])
            assert f'GRANT "{owner.role}" TO "{other}"' in hidden.hint
        finally:
            await owner.admin.execute(f"RESET SESSION AUTHORIZATION; DROP ROLE {other}")
