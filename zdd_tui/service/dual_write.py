"""Dual writing by the application: the old and the new place of a datum in one transaction, behind two flags.

How to use it in a release that moves data from an old place to a new one::

    dual = DualWrite(flags, write_key="users_full_name_write", read_key="users_full_name_read")

    async def rename(user_id, name):
        sides = dual.choose(user_id)        # once per request: the answer may change between two calls
        async with pool.acquire() as connection, connection.transaction():
            return await sides.write(
                old=lambda source: write_users(connection, user_id, name, source),
                new=lambda source: write_people(connection, user_id, name, source),
            )

Rules that keep both places equal:

1. *One transaction.* Both writes commit or none does.
2. *The side that is read is the truth.* It is written first and returns the whole row; the other side is then
   written from that row, whole, by an UPSERT: its row may not exist yet (not backfilled), or may be old.
3. *Never read what is not written.* While the write flag is off for a unit, the read flag is not looked at.
   (With ``write_key=None`` a trigger of the database does the second write, and the read flag decides alone.)
4. *Order of flags.* On: write, then backfill and verification, then read. Off: read, then write. After each
   switch wait ``max_staleness`` of the flag client plus the longest request before the next.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from zdd_tui.service.flags import FlagClient

RowT = TypeVar("RowT")


class WriteDecision(NamedTuple):
    """What one request does, for one unit."""

    write_new: bool
    read_new: bool

    async def write(
        self,
        *,
        old: Callable[[RowT | None], Awaitable[RowT | None]],
        new: Callable[[RowT | None], Awaitable[RowT | None]],
    ) -> RowT | None:
        """Run the writes that the flags ask for; the caller holds the transaction.

        Each callable gets None when it is the source, which applies the request to its own row, and else
        the source's row, which it stores whole. Each returns the row in the application's common form. A source
        that returns None has found no row; then there is nothing to mirror.

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
        write_key: flag that switches writing of the new place on; None when a trigger keeps it in step.
        read_key: flag that switches reading to the new place.
    """

    def __init__(self, flags: FlagClient, *, write_key: str | None, read_key: str) -> None:
        unknown = {key for key in (write_key, read_key) if key is not None} - set(flags.keys)
        if unknown:
            raise ValueError(f"the flag client does not know {', '.join(sorted(unknown))}; declare it there")
        self.flags = flags
        self.write_key = write_key
        self.read_key = read_key

    def decide(self, unit: str | int) -> WriteDecision:
        """The decision for one unit, from one moment."""
        read_new = self.flags.is_on(self.read_key, unit)
        if self.write_key is None:
            return WriteDecision(False, read_new)
        write_new = self.flags.is_on(self.write_key, unit)
        return WriteDecision(write_new, write_new and read_new)
