"""Delivers a command: attempts until the database has confirmed it, for a bounded time, at most one stored row."""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.model.errors import CommandNotSent, DatabaseError, DatabaseUnavailable
from zdd_tui.model.release.delivery import RETRY_SECONDS, VALID_SECONDS

RETRY_PAUSE = 0.5
"""Seconds between two attempts."""


async def deliver_command(
    attempt: Callable[[], Awaitable[int]],
    on_failure: Callable[[DatabaseError], None],
    *,
    retry_seconds: float = RETRY_SECONDS,
    valid_seconds: float = VALID_SECONDS,
) -> int:
    """Returns the id of the stored command.

    Args:
        attempt: sends the request once, with one request id in all attempts and `valid_seconds` of validity, as
            :meth:`zdd_tui.backends.store.client.Store.send_command` does.
        on_failure: called after each attempt that was not confirmed and will be repeated.
        retry_seconds: for how long attempts are repeated.

    Raises:
        CommandNotSent: the database has not confirmed it in time. It stores no attempt any more: the last one has
            expired.
        DatabaseError: refused; a retry would not help.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + retry_seconds
    while True:
        started_at = loop.time()
        try:
            return await attempt()
        except DatabaseUnavailable as error:
            failure = error
        on_failure(failure)
        if loop.time() + RETRY_PAUSE >= deadline:
            break
        await asyncio.sleep(RETRY_PAUSE)
    await asyncio.sleep(max(0.0, started_at + valid_seconds - loop.time()))
    raise CommandNotSent(f"{failure.title}; given up after {retry_seconds:.0f} s", failure.hint)
