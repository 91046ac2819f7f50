"""Effects outside of PostgreSQL: the lease is proved right before, and a short absence of the system is waited out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.model.errors import BackendError, DatabaseError

RETRY_SECONDS = 30.0
"""Seconds: longer than a failover of Redis or a restart of an API server usually takes."""


T = TypeVar("T")


async def with_retry(
    ctx: Context, step: StepHandle, action: Callable[[], Awaitable[T]], retry_seconds: float = RETRY_SECONDS
) -> T:
    """Has an idempotent effect on Redis or Kubernetes.

    Raises:
        StaleEpoch: the lease is gone; nothing was done by us after that.
        BackendError: the system stayed away for ``retry_seconds`` seconds, or refuses.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + retry_seconds
    backoff = Backoff(0.2, 2.0)
    while True:
        await ctx.check_lease()
        try:
            return await action()
        except DatabaseError:
            raise
        except BackendError as error:
            if loop.time() > deadline:
                raise
            await step.set_note(f"retrying: {error.title}")
        await backoff.sleep()
