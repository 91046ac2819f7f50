"""Versions 4 and 5 of the sample application: what a user gets, and what /metrics tells of the path beside it."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.support.sample_pods import SamplePod, SetFlags, StartPod
from zdd_tui.backends.metrics.scrape import read_shadow_counters
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.shadow import ShadowCounters

NAME = "Ana van der Berg"


async def counted(pod: SamplePod, result: str, at_least: int) -> ShadowCounters:
    """The pod's counters, once a result was seen often enough: comparisons end after their requests."""
    async with asyncio.timeout(10):
        while True:
            found = await read_shadow_counters({"pod": pod.endpoint}, "users_name")
            if found["pod"].results.get(result, 0) >= at_least:
                return found["pod"]
            await asyncio.sleep(0.05)


async def make_user(pod: SamplePod) -> dict[str, Any]:
    status, user = await pod.call("POST", "/users", {"name": NAME, "email": None})
    assert status == 201
    return user  # type: ignore[no-any-return]


@pytest.mark.parametrize(("version", "result"), [(4, "match"), (5, "mismatch")])
async def test_the_new_path_is_compared_and_seen_by_nobody(
    version: int, result: str, start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection
) -> None:
    await set_flags(users_sql_name_shadow="true", users_sql_name_read="false")
    pod = await start_pod(version)
    user = await make_user(pod)
    for _ in range(5):
        assert (await pod.call("GET", f"/users/{user['id']}"))[1] == user
        await asyncio.sleep(0)
    counts = await counted(pod, result, 1)
    assert set(counts.results) >= {"match", "mismatch", "error", "timeout", "moved", "skipped"}
    assert bool(counts.fields) is (version == 5)
    assert counts.results["error"] == counts.results["timeout"] == 0


async def test_by_the_read_flag_users_get_the_new_path_and_without_flags_the_old_one(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection
) -> None:
    await set_flags(users_sql_name_shadow="false", users_sql_name_read="false")
    pod = await start_pod(5)
    user = await make_user(pod)
    assert (await pod.call("GET", f"/users/{user['id']}"))[1]["name"] == NAME
    await set_flags(pod, users_sql_name_shadow="false", users_sql_name_read="true")
    assert (await pod.call("GET", f"/users/{user['id']}"))[1]["name"] == "Ana Van Der Berg"
    await set_flags(pod, users_sql_name_read="false")
    assert (await pod.call("GET", f"/users/{user['id']}"))[1]["name"] == NAME


async def test_an_image_without_a_shadow_gives_no_numbers(start_pod: StartPod) -> None:
    pod = await start_pod(1)
    with pytest.raises(MetricsError, match="no shadow_comparisons_total for path 'users_name'"):
        await read_shadow_counters({"pod": pod.endpoint}, "users_name")
