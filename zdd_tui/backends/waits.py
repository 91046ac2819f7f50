"""What an agent says of a wait that lasts too long: one audit line, whichever agent it is that notices."""

from zdd_tui.backends import writes
from zdd_tui.backends.agent_store import AgentStore
from zdd_tui.model.records import NewEvent
from zdd_tui.model.waiting import Wait

_TOLD = "SELECT EXISTS (SELECT FROM zdd.event WHERE release_id = $1 AND kind = 'wait' AND at > to_timestamp($2))"


async def tell(store: AgentStore, wait: Wait) -> bool:
    """An audit line of kind `wait`, unless there is one of this very wait already.

    Returns:
        whether it was written now.

    Raises:
        StaleEpoch: another agent carries the release out.
        DatabaseError: the server is away.
    """
    async with store.fenced() as connection:
        if await connection.fetchval(_TOLD, store.release_id, wait.since):
            return False
        await writes.events(connection, store.release_id, store.actor, [NewEvent("wait", wait.text)])
    return True
