"""Effects outside PostgreSQL: the lease is checked right before each, and an outage of the system is waited out.

A system that does not respond is repaired at some time, and the step continues then by itself: it waits without a
limit. Whoever does not want to wait rolls back or pauses. PostgreSQL needs no such wait: without it the session of the
agent ends, and the next one runs the step again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.errors import ApiUnreachable, KubeApiError
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.waits import SilenceNotes
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import BackendError, DatabaseError, FlagStoreUnavailable
from zdd_tui.model.release.records import RETRYING_NOTE
from zdd_tui.model.release.system import System

REFUSAL_SECONDS = 30.0
"""Seconds for which a request is repeated that a system refuses for a reason that may pass: a token that is being
renewed, a Redis that becomes the primary. Nothing says that it passes, so that the step fails then."""

PAUSE_INTERVAL = 0.3
"""Seconds between two checks whether a pause has ended."""

PERMANENT_STATUSES = frozenset({400, 403, 404, 405, 409, 413, 415, 422})
"""HTTP statuses of the Kubernetes API that the same request gets again (Kubernetes API conventions, "HTTP status
codes"). 401 may be a token that is being renewed, 429 and 5xx ask for a retry."""

T = TypeVar("T")


def is_permanent(error: BackendError) -> bool:
    """Whether the same request would be refused again, so that a retry only hides the cause."""
    return isinstance(error, KubeApiError) and error.status in PERMANENT_STATUSES


def is_outage(error: Exception) -> bool:
    """Whether the system does not respond, or responds that it cannot serve requests now (429, 5xx)."""
    if isinstance(error, KubeApiError):
        return error.status == 429 or error.status >= 500
    return isinstance(error, ApiUnreachable | FlagStoreUnavailable)


def find_system(error: BackendError) -> System:
    """The system whose error it is; of a pod's metrics Kubernetes, where the pod is."""
    return System.REDIS if isinstance(error, FlagStoreUnavailable) else System.KUBERNETES


async def with_retry(
    ctx: Context, step: StepHandle, action: Callable[[], Awaitable[T]], system: System = System.KUBERNETES
) -> T:
    """Runs an idempotent action on Redis or Kubernetes, and repeats it until the system responds.

    A step that is paused meanwhile is not tried again before it is resumed.

    Raises:
        StaleEpoch: the lease is lost; the action does not run after that.
        BackendError: the system refuses what a retry does not change, or has refused it for `REFUSAL_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    refused_since: float | None = None
    backoff = Backoff(0.2, 2.0)
    silence = SilenceNotes(step, system)
    while True:
        await ctx.check_lease()
        try:
            async with silence.note_while_silent():
                return await action()
        except DatabaseError:
            raise
        except BackendError as error:
            if is_outage(error):
                refused_since = None
                await wait_for_system(ctx, step, error, silence, backoff)
                continue
            refused_since = loop.time() if refused_since is None else refused_since
            if is_permanent(error) or loop.time() > refused_since + REFUSAL_SECONDS:
                raise
            silence.note_response()
            await step.set_note(f"{RETRYING_NOTE}{format_duration(REFUSAL_SECONDS)}, then it fails: {error.title}")
        await backoff.sleep()


async def retry_redis(ctx: Context, step: StepHandle, action: Callable[[], Awaitable[T]]) -> T:
    """:func:`with_retry` of an action on Redis."""
    return await with_retry(ctx, step, action, System.REDIS)


async def wait_for_system(
    ctx: Context, step: StepHandle, error: BackendError, silence: SilenceNotes, backoff: Backoff
) -> None:
    """Waits before the next attempt after an outage, with its note; while the release is paused for as long as that."""
    silence.note_error(error)
    await silence.write()
    await backoff.sleep()
    while ctx.is_paused():
        await silence.write(", not tried while paused")
        await asyncio.sleep(PAUSE_INTERVAL)
