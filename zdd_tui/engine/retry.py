"""Effects outside PostgreSQL: the lease is checked right before each, and a short outage of the system is retried."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.waits import SilenceNotes
from zdd_tui.model.errors import BackendError, DatabaseError
from zdd_tui.model.release.records import RETRYING_NOTE

RETRY_SECONDS = 30.0
"""Longer than a failover of Redis or a restart of an API server usually takes."""

PERMANENT_STATUSES = frozenset({400, 403, 404, 405, 409, 413, 415, 422})
"""HTTP statuses of the Kubernetes API that the same request gets again (Kubernetes API conventions, "HTTP status
codes"). 401 may be a token that is being renewed, 429 and 5xx ask for a retry."""

T = TypeVar("T")


def is_permanent(error: BackendError) -> bool:
    """Whether the same request would be refused again, so that a retry only hides the cause."""
    return isinstance(error, KubeApiError) and error.status in PERMANENT_STATUSES


async def with_retry(
    ctx: Context, step: StepHandle, action: Callable[[], Awaitable[T]], retry_seconds: float = RETRY_SECONDS
) -> T:
    """Runs an idempotent action on Redis or Kubernetes, and repeats it while the system is unavailable.

    Raises:
        StaleEpoch: the lease is lost; the action does not run after that.
        BackendError: the system was unavailable for ``retry_seconds`` seconds, or refuses what a retry does not change.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + retry_seconds
    backoff = Backoff(0.2, 2.0)
    silence = SilenceNotes(step, RETRYING_NOTE)
    while True:
        await ctx.check_lease()
        try:
            async with silence.note_while_silent():
                return await action()
        except DatabaseError:
            raise
        except BackendError as error:
            if is_permanent(error) or loop.time() > deadline:
                raise
            silence.note_error(error)
            await step.set_note(f"{RETRYING_NOTE}{error.title}")
        await backoff.sleep()
