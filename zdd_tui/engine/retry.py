"""Effects outside of PostgreSQL: the lease is proved right before, and a short absence of the system is waited out."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.model.errors import BackendError, DatabaseError

PATIENCE = 30.0
"""Seconds: longer than a failover of Redis or a restart of an API server usually takes."""


T = TypeVar("T")


async def effect(ctx: Context, step: StepHandle, act: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
    """Has an idempotent effect on Redis or Kubernetes.

    Raises:
        StaleEpoch: the lease is gone; nothing was done by us after that.
        BackendError: the system stayed away for ``patience`` seconds, or refuses.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = 0.2
    while True:
        await ctx.prove_lease()
        try:
            return await act()
        except DatabaseError:
            raise
        except BackendError as error:
            if loop.time() > deadline:
                raise
            await step.note(f"retrying: {error.title}")
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        pause = min(2.0, pause * 2)
