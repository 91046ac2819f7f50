"""Flags in a rollback: it must not stop at an unreadable value of another client."""

from typing import Any, cast

import pytest
import redis

from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps import flags as flag_steps
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus

KEY = "new_read"


class _Plan:
    flag_staleness = 0.01


class _Context:
    """The part of a context that flags need; the lease is tested elsewhere."""

    plan, epoch = _Plan(), 7

    def __init__(self, flags: FlagStore) -> None:
        self.flags = flags

    async def check_lease(self) -> None: ...


def handle(**detail: Any) -> StepHandle:
    async def ignore(*_: Any) -> None: ...

    stored = StepRecord("read-50", StepStatus.STARTED, detail=detail)
    return StepHandle(stored, write_note=ignore, write_detail=ignore, write_done=ignore)


@pytest.mark.parametrize("junk", ["off", "", "1000", "ja"])
async def test_a_rollback_switches_an_unreadable_value_off(redis_url: str, junk: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    async with await FlagStore.connect(redis_url) as flags:
        ctx = cast(Context, _Context(flags))
        client.set(f"ff:{KEY}", junk)
        await flag_steps.undo_flag_share(ctx, handle(flags_before={KEY: "25"}), KEY, is_first_step=False)
        assert client.get(f"ff:{KEY}") == "false"
        client.set(f"ff:{KEY}", junk)
        await flag_steps.restore_flags(ctx, handle(flags_before={KEY: "25"}))
        assert client.get(f"ff:{KEY}") == "25"
    client.close()


async def test_an_unreadable_value_fails_the_step_before_anything_is_saved(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.set(f"ff:{KEY}", "ja")
    async with await FlagStore.connect(redis_url) as flags:
        step = handle()
        with pytest.raises(StepFailed, match="ff:new_read"):
            await flag_steps.save_flag_values(cast(Context, _Context(flags)), step, KEY)
        assert "flags_before" not in step.detail
    client.close()


async def test_the_fence_outlives_the_release(redis_url: str) -> None:
    """An agent that was frozen since before the rollback ended must still be fenced when it resumes."""
    client = redis.Redis.from_url(redis_url)
    async with await FlagStore.connect(redis_url) as flags:
        await flags.set(KEY, FlagValue(100), epoch=8)
        await flags.delete(KEY, epoch=8)
        await flags.expire_fences([KEY])
        with pytest.raises(Exception, match="written by epoch 8; this agent has epoch 7"):
            await flags.set(KEY, FlagValue(100), epoch=7)
        assert client.get(f"ff:{KEY}") is None
        assert 0 < client.ttl(f"zdd:epoch:{KEY}") <= 86_400
    client.close()
