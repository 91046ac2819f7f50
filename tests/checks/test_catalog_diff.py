"""The new side compared with the old one on a real PostgreSQL: what is lost is refused, what is carried is found."""

from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import make_plan
from zdd_tui.checks.catalog_diff import SideReport, check_new_side, compare_planned_side
from zdd_tui.model.ddl.catalog_diff import SideVerdict
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Plan

ACCOUNTS = """
CREATE ROLE {role};
CREATE TABLE owners (id bigint PRIMARY KEY);
CREATE TABLE accounts (
  id bigint PRIMARY KEY, acct text NOT NULL DEFAULT 'none' CONSTRAINT acct_check CHECK (length(acct) > 2),
  owner bigint CONSTRAINT owner_fkey REFERENCES owners ON DELETE CASCADE);
GRANT SELECT (acct) ON accounts TO {role};
COMMENT ON COLUMN accounts.acct IS 'the account';
"""


@pytest.fixture
async def role(db: asyncpg.Connection) -> Any:
    """The name of a role that the test may create; roles belong to the server, not to the database."""
    name = "reporting_" + (await db.fetchval("SELECT current_database()")).removeprefix("test_")
    yield name
    if await db.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def plan_of(**change: Any) -> Plan:
    """A plan with this change, and nothing accepted unless said so."""
    accept = change.pop("accept", [])
    document = make_plan().model_dump(mode="json") | {
        "database": {"dsn": "postgresql://x@y/z"},
        "accept": [{"what": what, "reason": "tested"} for what in accept],
    }
    document["flags"] |= {"url": "redis://x"}
    document["change"] = change
    return Plan.model_validate(document)


def verdicts(report: SideReport) -> dict[str, str]:
    return {each.what: str(each.verdict) for each in report.differences}


async def lost(db: asyncpg.Connection, plan: Plan) -> list[str]:
    report = await compare_planned_side(db, plan)
    return sorted(each.what for each in report.differences if each.verdict is SideVerdict.LOST)


ACCT = {
    "table": "accounts",
    "expand": "ALTER TABLE accounts ADD COLUMN account text; ALTER TABLE accounts ADD COLUMN holder bigint",
    "up": {"account": "acct", "holder": "owner"},
    "down": {"acct": "account", "owner": "holder"},
}


async def test_a6_foreign_key_check_and_column_grant_are_refused_with_the_lines_that_carry_them(
    db: asyncpg.Connection, role: str
) -> None:
    await db.execute(ACCOUNTS.format(role=role))
    before = await db.fetch("SELECT oid, relname FROM pg_class ORDER BY 1")
    with pytest.raises(PlanError) as refused:
        await check_new_side(db, plan_of(**ACCT))
    assert await db.fetch("SELECT oid, relname FROM pg_class ORDER BY 1") == before
    assert await lost(db, plan_of(**ACCT)) == [
        "check acct_check",
        "comment acct",
        "default acct",
        "foreign-key owner_fkey",
        f"grant SELECT(acct) to {role}",
        "not-null acct",
    ]
    text = str(refused.value)
    print(text)
    assert f"GRANT SELECT (account) ON public.accounts TO {role};" in text
    assert "FOREIGN KEY (holder) REFERENCES public.owners (id) ON DELETE CASCADE NOT VALID" in text
    assert "CHECK (length(account) > 2) NOT VALID" in text
    assert "- what: foreign-key owner_fkey" in text


async def test_a6_what_the_hint_says_carries_everything(db: asyncpg.Connection, role: str) -> None:
    await db.execute(ACCOUNTS.format(role=role))
    report = await compare_planned_side(db, plan_of(**ACCT))
    change: dict[str, Any] = dict(ACCT)
    for each in report.differences:
        for statement in each.statements:
            if statement.section == "expand":
                change["expand"] += f"; {statement.sql}"
            else:
                change[statement.section] = [*change.get(statement.section, []), statement.sql]
    assert await lost(db, plan_of(**change)) == []
    assert set(verdicts(await check_new_side(db, plan_of(**change))).values()) == {"carried"}
