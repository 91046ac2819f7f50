"""Check tries every command that steps and undos use on a scratch flag (cases C1, C2), and evaluates the server."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from zdd_tui.backends.redis_flags import REQUIRED_RIGHTS, FlagStore, RedisServerFacts
from zdd_tui.checks.flags import evaluate_server, try_flags
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.errors import FlagStoreError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.testbed.servers import RedisServer

ENVIRONMENT = {"DATABASE_URL": "postgresql://x@y/z", "REDIS_URL": "redis://x", "KUBECONFIG": "k"}


def demo_plan() -> BasePlan:
    return load_plan(plan_yaml("column", "application"), source="plan.yaml", environment=ENVIRONMENT).plan


async def run_try(url: str) -> list[str]:
    async with await FlagStore.connect(url) as store:
        return await try_flags(store, demo_plan())


@contextmanager
def acl_user(url: str, *rights: str) -> Iterator[str]:
    """The URL of a user with these rights alone."""
    name, password = f"u{secrets.token_hex(4)}", secrets.token_hex(8)
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", name, "on", f">{password}", "resetkeys", "-@all", *rights)
        try:
            yield f"redis://{name}:{password}@{url.rpartition('@')[2]}"
        finally:
            client.execute_command("ACL", "DELUSER", name)


def keys_of(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return list(client.keys("*"))


async def test_a_scratch_flag_is_written_and_nothing_stays(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("ff:users_full_name_write", "25")
    lines = await run_try(redis_url)
    assert "a scratch flag was written, read, fenced, expired and deleted" in lines[0]
    assert keys_of(redis_url) == [b"ff:users_full_name_write"]
    # The testbed's Redis writes nothing to disk.
    assert any("a restart loses the flags" in line and "Fix: " in line for line in lines)


async def test_c1_a_replica_is_refused(redis_instance: RedisServer, redis_url: str, tmp_path: Path) -> None:
    replica = RedisServer(tmp_path / "replica")
    await replica.start()
    try:
        with redis.Redis.from_url(replica.url) as client, redis.Redis.from_url(redis_url) as primary:
            client.config_set("masterauth", primary.connection_pool.connection_kwargs["password"])
            client.replicaof("127.0.0.1", str(redis_instance.port))
            for writable in ("no", "yes"):
                client.config_set("replica-read-only", "yes" if writable == "no" else "no")
                with pytest.raises(FlagStoreError, match="is a replica, and flags are written to a primary") as caught:
                    await run_try(replica.url)
                assert "point flags.url at the primary" in caught.value.hint
    finally:
        await replica.stop()


@pytest.mark.parametrize(
    ("missing", "named"),
    [("+eval", "EVAL"), ("+expire", "EXPIRE"), ("+del", "DEL"), ("+set", "SET"), ("~zdd:epoch:*", "EVAL")],
)
async def test_c1_c2_each_missing_right_is_named(redis_url: str, missing: str, named: str) -> None:
    rights = [right for right in REQUIRED_RIGHTS.split() if right != missing]
    with acl_user(redis_url, *rights) as url:
        with pytest.raises(FlagStoreError, match="of a scratch flag: ") as caught:
            await run_try(url)
        assert named in caught.value.title
        assert REQUIRED_RIGHTS in caught.value.hint
    leftover = {key for key in keys_of(redis_url) if missing != "+del"}
    assert not leftover


async def test_the_rights_that_the_hint_names_are_enough(redis_url: str) -> None:
    with acl_user(redis_url, *REQUIRED_RIGHTS.split()) as url:
        lines = await run_try(url)
    assert "a scratch flag was written" in lines[0]
    assert any("whether it may evict flags is not readable" in line for line in lines)
    assert keys_of(redis_url) == []


async def test_a_server_that_may_evict_flags_is_named(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            lines = await run_try(redis_url)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    (line,) = (line for line in lines if "allkeys-lru" in line)
    assert "may evict a flag" in line
    assert "Fix: redis-cli CONFIG SET maxmemory-policy noeviction" in line
    assert evaluate_server(RedisServerFacts("master", 0, "volatile-lru", True)) == []
