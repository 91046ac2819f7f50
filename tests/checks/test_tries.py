"""`zdd check` tries the release on all three systems, names everything that would fail, and leaves nothing behind."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from tests.support.command_line import CliEnvironment, make_environment
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.demo import manifests

TABLES = 50

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def test_a_good_plan_beside_fifty_tables(here: CliEnvironment, redis_url: str) -> None:
    tables = " ".join(
        f"CREATE TABLE t{n} (id bigint PRIMARY KEY, user_id bigint REFERENCES users, v text);" for n in range(TABLES)
    )
    await here.fetchval(f"DO $$ BEGIN {tables} END $$")
    query = "SELECT array_agg(relname::text ORDER BY relname::text) FROM pg_class WHERE relnamespace <> 11"
    before = await here.fetchval(query)
    good = await here.run_zdd("check")
    assert good.code == 0, good.output
    assert "sampled rows of public.users copied to the new side and back, on scratch tables" in good.out
    assert "the server would accept shop/users-api:2 and then shop/users-api:3" in good.out
    assert "a scratch flag was written, read, fenced, expired and deleted" in good.out
    assert "there is no Service users-api: pods count as serving when they are ready" in good.out
    assert await here.fetchval(query) == before
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []


async def test_everything_that_fails_is_named_at_once(here: CliEnvironment, redis_url: str) -> None:
    async with Cluster.connect(here.environ["KUBECONFIG"], None, "default") as cluster:
        path = cluster.path("apis/apps/v1", "deployments", manifests.NAME)
        paused = {"spec": {"paused": True}}
        await cluster.http.request_json("PATCH", path, body=paused, content_type=STRATEGIC_MERGE_PATCH)
    await here.fetchval("UPDATE users SET first_name = 'Mary Ann' WHERE id = 3 RETURNING id")
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~ff:*", "~zdd:epoch:*", "+ping", "+get", "+mget")
        try:
            weak = re.sub("//.*@", "//weak:pw@", redis_url)
            bad = await here.with_env(REDIS_URL=weak).run_zdd("check")
        finally:
            client.execute_command("ACL", "DELUSER", "weak")
    assert (bad.code, bad.out) == (2, "")
    assert "3 systems cannot run this plan" in bad.err
    assert f"{here.line_of('first_name')}".rpartition(":")[0].rpartition(":")[0] in bad.err
    assert "change.down.first_name: lossy: in 1 of 20 sampled rows" in bad.err
    assert "the Deployment is paused" in bad.err
    assert "of a scratch flag" in bad.err
    assert "Mary" not in bad.err
