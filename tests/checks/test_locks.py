"""`zdd check` executes the SQL of a plan on a copy of the schema. Cases B1 and B3, and the locks that it reports."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import CliEnvironment, make_environment
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import strategy_plan_yaml

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        async with Cluster.connect(made.environ["KUBECONFIG"], None, "default") as cluster:
            await cluster.http.request_json(
                "POST", cluster.path("api/v1", "services"), body=manifests.service_manifest()
            )
        yield made


def write_migration(here: CliEnvironment, sql: str) -> None:
    """A rolling plan that ships with this SQL."""
    text = strategy_plan_yaml("rolling", name="r", soak="1s")
    here.plan_file.write_text(f"{text}\nmigrations:\n  - m.sql\n")
    (here.plan_file.parent / "m.sql").write_text(sql)


async def test_b1_a_do_block_in_migrations_is_never_additive_unread(here: CliEnvironment) -> None:
    write_migration(here, "DO $$ BEGIN ALTER TABLE users DROP COLUMN email; END $$;")
    for options in ((), ("--offline",)):
        bad = await here.run_zdd("check", *options)
        assert bad.code == 2, bad.output
        assert "m.sql:1: DO $$ BEGIN ALTER TABLE users DROP COLUMN email; END $$" in bad.err
        assert "this breaks a rolling release" in bad.err
        assert (
            "it is code that only an execution shows" if options else "column email of public.users is gone"
        ) in bad.err
    assert await here.fetchval("SELECT count(email) FROM users") > 0, "nothing was executed on the real database"

    write_migration(here, "DO $$ BEGIN ALTER TABLE users ADD COLUMN nick text; END $$;")
    assert (await here.run_zdd("check", "--offline")).code == 2
    good = await here.run_zdd("check")
    assert good.code == 0, good.output
    assert "locks: measured on PostgreSQL" in good.out
    assert "m.sql:1: ACCESS EXCLUSIVE on public.users (blocks reads and writes), catalog only, under 0.1s" in good.out
    refused = await here.run_zdd("check", "--scratch-dsn", "${DATABASE_URL}")
    assert refused.code == 2, "without a copy it is judged by rule"


async def test_b1_the_agent_refuses_what_check_refuses(here: CliEnvironment) -> None:
    write_migration(here, "DO $$ BEGIN ALTER TABLE users DROP COLUMN email; END $$;")
    bad = await here.run_zdd("agent")
    assert bad.code == 2
    assert "column email of public.users is gone" in bad.err


async def test_b3_expand_never_rewrites_a_table(here: CliEnvironment) -> None:
    await here.fetchval("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    await here.fetchval("CREATE DOMAIN nested AS positive")
    await here.fetchval("CREATE TABLE countries (id int PRIMARY KEY)")
    good = await here.run_zdd("check")
    assert good.code == 0, good.output
    assert "locks: measured on PostgreSQL" in good.out
    assert "change.expand statement 1:1: ACCESS EXCLUSIVE on public.users" in good.out

    text = here.plan_file.read_text()
    column = "ALTER TABLE users ADD COLUMN full_name text"
    assert column in text
    key = "ADD CONSTRAINT h FOREIGN KEY (home) REFERENCES countries NOT VALID"
    more = f"ALTER TABLE users ADD COLUMN home int; ALTER TABLE users {key}"
    here.plan_file.write_text(text.replace(column, f"{column}; {more}"))
    good = await here.run_zdd("check")
    assert good.code == 0, good.output
    assert "change.expand statement 3:1: SHARE ROW EXCLUSIVE on public.countries (blocks writes)" in good.out

    here.plan_file.write_text(text.replace(column, f"{column}; ALTER TABLE users ADD COLUMN age nested"))
    bad = await here.run_zdd("check")
    assert bad.code == 2, bad.output
    assert "change.expand statement 2: it rewrites the table and its indexes (public.users)" in bad.err
    assert "the domain's base type" in bad.err
