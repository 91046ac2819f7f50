"""Tries what a release does with its flags, on a scratch flag, and names what would lose them."""

from zdd_tui.backends.redis_flags import FlagStore, RedisServerFacts
from zdd_tui.model.errors import FlagStoreError, with_hint
from zdd_tui.model.plan.base import BasePlan


async def try_flags(store: FlagStore, plan: BasePlan) -> list[str]:
    """Writes, reads and deletes a scratch flag as steps and undos do, and checks the server. Leaves nothing behind.

    Returns:
        one line for each fact that an operator should see.

    Raises:
        FlagStoreError: the server is no primary, or refuses a command that a step or an undo uses.
    """
    facts = await store.read_server_facts()
    if facts.role not in (None, "master"):
        raise FlagStoreError(
            f"Redis {store.address} is a replica, and flags are written to a primary", "point flags.url at the primary"
        )
    await store.try_writes(next(iter(plan.flag_roles)))
    place = f"Redis {store.address}"
    lines = [f"{place}: a scratch flag was written, read, fenced, expired and deleted"]
    return lines + [f"note: {place}: {text}" for text in evaluate_server(facts)]


def evaluate_server(facts: RedisServerFacts) -> list[str]:
    """What could lose the flags of a release that is under way, each with its fix."""
    found = []
    if facts.eviction is None:
        found.append("whether it may evict flags is not readable: this user may not use INFO")
    elif facts.eviction.startswith("allkeys-"):
        limit = f"at {facts.max_memory:,} bytes" if facts.max_memory else "as soon as it gets a memory limit"
        found.append(
            with_hint(
                f"maxmemory-policy {facts.eviction} may evict a flag {limit}; pods then keep its last value, and new"
                " pods have none",
                "redis-cli CONFIG SET maxmemory-policy noeviction, or volatile-lru, which keeps keys without expiry",
            )
        )
    if facts.keeps_data is False:
        found.append(
            with_hint(
                "it writes nothing to disk, so a restart loses the flags: pods keep the last value, and new pods have"
                " none",
                "redis-cli CONFIG SET appendonly yes, at least for the time of the release",
            )
        )
    return found
