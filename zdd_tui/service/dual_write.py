"""Dual writing by the application: the old and the new side of the data in one transaction, behind two flags.

How to use it in a release that moves data from an old side to a new one::

    dual = DualWrite(flags, write_key="users_full_name_write", read_key="users_full_name_read")

    async def rename(user_id, name):
        decision = dual.decide(user_id)     # once per request: the flags may change between two calls
        async with pool.acquire() as connection, connection.transaction():
            return await decision.write(
                old=lambda source: write_users(connection, user_id, name, source),
                new=lambda source: write_people(connection, user_id, name, source),
            )

Rules that keep both sides equal:

1. *One transaction.* Both writes commit or neither does.
2. *The side that is read is the source.* It is written first and returns the whole row. The other side is then written
   from that row, whole, by an UPSERT: its row may not exist yet (no backfill), or may be old.
3. *Never read a side that is not written.* While the write flag is off for a unit, the read flag is ignored.
   (With ``write_key=None`` a trigger of the database does the second write, and only the read flag decides.)
4. *Order of flags.* On: write, then backfill and verification, then read. Off: read, then write. After each
   switch wait ``max_staleness`` of the flag client plus the longest request before the next.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from zdd_tui.service.flags import FlagClient

RowT = TypeVar("RowT")


class WriteDecision(NamedTuple):
    """Which sides one request writes and reads, for one unit."""

    write_new: bool
    read_new: bool

    async def write(
        self,
        *,
        old: Callable[[RowT | None], Awaitable[RowT | None]],
        new: Callable[[RowT | None], Awaitable[RowT | None]],
    ) -> RowT | None:
        """Runs the writes of the decision, in the caller's transaction.

        The source's callable gets None and applies the request to its own row. The other callable gets the source's
        row and stores it whole. Both return the row in the application's common form. A source that returns None has
        found no row; then there is nothing to mirror.

        Returns:
            The row of the side that is read, or None.
        """
        if not self.write_new:
            return await old(None)
        source, mirror = (new, old) if self.read_new else (old, new)
        row = await source(None)
        if row is not None:
            await mirror(row)
        return row


class DualWrite:
    """Decides per unit, from two flags.

    Args:
        flags: a running client that declares both keys.
        write_key: flag that turns on writes to the new side; None if a trigger writes it.
        read_key: flag that moves reads to the new side.
    """

    def __init__(self, flags: FlagClient, *, write_key: str | None, read_key: str) -> None:
        unknown = {key for key in (write_key, read_key) if key is not None} - set(flags.keys)
        if unknown:
            raise ValueError(f"the flag client does not know {', '.join(sorted(unknown))}; declare it there")
        self.flags = flags
        self.write_key = write_key
        self.read_key = read_key

    def decide(self, unit: str | int) -> WriteDecision:
        """The decision for one unit, from the flags as they are now."""
        read_new = self.flags.is_on(self.read_key, unit)
        if self.write_key is None:
            return WriteDecision(False, read_new)
        write_new = self.flags.is_on(self.write_key, unit)
        return WriteDecision(write_new, write_new and read_new)
