"""A plan, two people, and a migrated store with one registered release."""

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from zdd_tui.backends.store.client import Store
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.records import Actor

ANA = Actor("ana", "bastion")
AGENT = Actor("agent", "pod-1")
OTHER = Actor("agent", "pod-2")


def plan_for(dsn: str, name: str = "users-full-name") -> Plan:
    return Plan.model_validate(
        {
            "name": name,
            "environment": "staging",
            "database": {"dsn": dsn},
            "kubernetes": {"deployment": "users-api", "images": {"v2": "users:2", "v3": "users:3"}},
            "flags": {"url": "redis://localhost/0", "write": "new_write", "read": "new_read"},
            "change": {
                "table": "users",
                "expand": "ALTER TABLE users ADD full_name text",
                "indexes": ["CREATE INDEX CONCURRENTLY users_full_name ON users (full_name)"],
                "up": {"full_name": "name"},
                "down": {"name": "full_name"},
            },
        }
    )


async def register_release(store: Store, dsn: str, name: str = "users-full-name", plan_hash: str = "hash-1") -> int:
    return await store.register_release(
        plan_for(dsn, name),
        text="database: {dsn: ${DATABASE_URL}}",
        document={"database": {"dsn": "${DATABASE_URL}"}},
        plan_hash=plan_hash,
        actor=ANA,
    )


@asynccontextmanager
async def open_store(dsn: str) -> AsyncIterator[tuple[Store, int]]:
    """A store on a migrated database, and the id of the release in it."""
    async with await Store.open(dsn) as store:
        await store.migrate()
        yield store, await register_release(store, dsn)


def password_of(dsn: str) -> str:
    password = urlsplit(dsn).password
    assert password
    return password


def all_error_text(error: BaseException) -> str:
    """All that any traceback or log could show of an error, suppressed contexts included."""
    output, seen = [], set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        output += [str(one), repr(one), repr(vars(one)), *traceback.format_exception(one)]
        pending += [one.__cause__, one.__context__]
    return "\n".join(output)
