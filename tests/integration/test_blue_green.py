"""Blue/green under load: the whole release, and rolled back from each of its phases; nobody is hurt either way."""

from pathlib import Path

import pytest

from tests.release_support import assert_nobody_was_hurt, no_progress, production
from zdd_tui.demo.likeness import differences, take
from zdd_tui.demo.walk import Walker
from zdd_tui.model.release import State

PHASES = ("preview", "switch", "soak", "promote", "cleanup")


@pytest.mark.timeout(400)
async def test_rollback_from_every_phase_then_the_release(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="blue/green") as (env, store):
        before = await take(env)
        for last in PHASES[:4]:
            walker = Walker(env, store, no_progress)
            await walker.begin()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await walker.advance(phase)
            await walker.rollback()
            await env.end("agent")
            assert (await walker.record()).release.state is State.ROLLED_BACK
            assert differences(before, await take(env)) == [], f"after a rollback from {last}"
            await assert_nobody_was_hurt(env)
        walker = Walker(env, store, no_progress)
        await walker.begin()
        for phase in PHASES:
            await walker.advance(phase)
        after = await take(env)
        assert (await walker.record()).release.state is State.DONE
        assert differences(before, after) == [
            "image: shop/users-api:1 became shop/users-api:2",
            f"pods: {before.pods} became {('shop/users-api:2',) * 2}",
        ]
        await assert_nobody_was_hurt(env)
