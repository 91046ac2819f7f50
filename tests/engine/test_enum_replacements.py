"""An enum that a migration replaces by another one of the same name, as Prisma writes it."""

import asyncio
import itertools
from typing import Any

import asyncpg
import pytest

from tests.support.operations import assert_done_and_undone, handle, open_context, plan_of, run_phases
from zdd_tui.backends.store.rollback import read_rollback_history
from zdd_tui.checks.operations import check_operation_rows
from zdd_tui.engine.preconditions import require_kept_rows
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.errors import PlanError, Refused, StepFailed
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.rollback import FactTone, describe_loss
from zdd_tui.testbed.servers import PostgresServer

SCHEMA = """
CREATE TYPE "Role" AS ENUM ('admin', 'user', 'guest');
CREATE TYPE mode AS ENUM ('on', 'off');
COMMENT ON TYPE mode IS 'old';
CREATE TABLE "Member" (
  id serial PRIMARY KEY, n int, role "Role" NOT NULL DEFAULT 'user', roles "Role"[] DEFAULT '{user}'
);
CREATE TABLE other (id int PRIMARY KEY, role "Role");
CREATE TABLE settings (id int PRIMARY KEY, mode mode DEFAULT 'on');
CREATE INDEX ON "Member" (role, n);
CREATE UNIQUE INDEX ON other (role) WHERE id > 3;
GRANT UPDATE (role) ON "Member" TO pg_monitor;
COMMENT ON COLUMN settings.mode IS 'the mode';
INSERT INTO "Member" (role, roles, n) SELECT 'admin', '{admin,user}', i FROM generate_series(1, 40) i;
INSERT INTO other VALUES (1, 'user'), (2, NULL);
INSERT INTO settings VALUES (1, 'on'), (2, NULL);
"""
RENAMED_FIRST = """
ALTER TYPE "Role" RENAME TO "Role_old";
CREATE TYPE "Role" AS ENUM ('owner', 'admin', 'user');
ALTER TABLE "Member" ALTER COLUMN role DROP DEFAULT, ALTER COLUMN roles DROP DEFAULT;
ALTER TABLE "Member" ALTER COLUMN role TYPE "Role" USING (role::text::"Role"),
  ALTER COLUMN roles TYPE "Role"[] USING (roles::text::"Role"[]);
ALTER TABLE other ALTER COLUMN role TYPE "Role" USING (role::text::"Role");
ALTER TABLE "Member" ALTER COLUMN role SET DEFAULT 'owner'::"Role", ALTER COLUMN roles SET DEFAULT ARRAY[]::"Role"[];
DROP TYPE "Role_old";
ALTER TABLE other ADD COLUMN second "Role" NOT NULL DEFAULT 'owner';
"""
RENAMED_LAST = """
BEGIN;
CREATE TYPE "public"."Role_new" AS ENUM ('user', 'admin');
ALTER TABLE "public"."Member" ALTER COLUMN role DROP DEFAULT;
ALTER TABLE "public"."Member" ALTER COLUMN role TYPE "public"."Role_new" USING (role::text::"public"."Role_new");
ALTER TABLE "public"."Member" ALTER COLUMN roles DROP DEFAULT;
ALTER TABLE "public"."Member" ALTER COLUMN roles TYPE "Role_new"[] USING (roles::text::"Role_new"[]);
ALTER TABLE other ALTER COLUMN role TYPE "public"."Role_new" USING (role::text::"public"."Role_new");
ALTER TYPE "public"."Role" RENAME TO "Role_old";
ALTER TYPE "public"."Role_new" RENAME TO "Role";
DROP TYPE "public"."Role_old";
ALTER TABLE "Member" ALTER COLUMN role SET DEFAULT 'user';
COMMIT;
BEGIN;
CREATE TYPE mode_new AS ENUM ('off', 'auto', 'on');
ALTER TABLE settings ALTER mode DROP DEFAULT;
ALTER TABLE settings ALTER mode TYPE mode_new USING (mode::text::mode_new);
DROP TYPE mode;
ALTER TYPE mode_new RENAME TO mode;
ALTER TABLE settings ALTER mode SET DEFAULT 'auto';
COMMIT;
"""
OTHER_NAME = """
ALTER TYPE mode RENAME TO temp;
CREATE TYPE state AS ENUM ('on', 'off', 'auto');
ALTER TABLE settings ALTER mode DROP DEFAULT;
ALTER TABLE settings ALTER mode TYPE state USING mode::text::state;
ALTER TABLE settings ALTER mode SET DEFAULT 'auto';
DROP TYPE temp;
"""
KEPT = """
ALTER TYPE mode RENAME TO mode_before;
CREATE TYPE mode AS ENUM ('off', 'on');
ALTER TABLE settings ALTER mode DROP DEFAULT, ALTER mode TYPE mode USING mode::text::mode;
"""


@pytest.mark.parametrize(
    "migration", [RENAMED_FIRST, RENAMED_LAST, OTHER_NAME, KEPT], ids=["first", "last", "other name", "kept"]
)
async def test_a_replaced_enum_is_done_as_the_plain_migration_does_it_and_undone(
    migration: str, pg: PostgresServer, pg_dsn: str
) -> None:
    await assert_done_and_undone(pg, pg_dsn, SCHEMA, migration)


async def test_writers_notice_nothing_and_a_value_that_the_new_enum_lacks_is_refused_from_contract_on(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA)
    plan = plan_of(pg_dsn, RENAMED_FIRST)
    insert = """INSERT INTO "Member" (role, n) VALUES (CAST('admin' AS "Role"), $1) RETURNING id"""
    change = "UPDATE \"Member\" SET role = 'user', roles = '{admin}' WHERE role = 'admin'::\"Role\" AND id = $1"
    async with open_context(plan) as ctx, asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(_write(pg_dsn, insert, change))
        try:
            steps = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT])
            with pytest.raises(asyncpg.InvalidTextRepresentationError, match='enum "Role": "guest"'):
                await db.execute(insert.replace("admin", "guest"), 1)
            for each in reversed(steps):
                await RunOperation().undo(ctx, each)
            await db.execute(insert.replace("admin", "guest"), 1)
        finally:
            writing.cancel()
    assert await db.fetchval("SELECT count(*) FROM \"Member\" WHERE role::text = 'guest'") == 1


async def test_values_that_the_new_enum_lacks_are_named_before_the_start(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA + "UPDATE \"Member\" SET role = 'guest', roles = '{user,guest}' WHERE id < 4")
    async with open_context(plan_of(pg_dsn, RENAMED_FIRST)) as ctx:
        with pytest.raises(StepFailed, match=r"role has a value .* type \"Role\" lacks: 3 rows \('guest'\).*roles has"):
            await CheckRows().run(ctx, handle(0))
    mapped = RENAMED_FIRST.replace("(role::", "((CASE role WHEN 'guest' THEN 'user' ELSE role::text END)::")
    mapped = mapped.replace("(roles::text", "(array_replace(roles::text[], 'guest', 'user')")
    await check_operation_rows(db, plan_of(pg_dsn, mapped))
    updated = {"sql": "UPDATE \"Member\" SET role = 'user', roles = '{}' WHERE role = 'guest'", "undo": []}
    await check_operation_rows(db, plan_of(pg_dsn, updated, RENAMED_FIRST))


async def test_a_column_that_keeps_the_old_enum_is_named_before_the_start(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA + 'CREATE TABLE third (role "Role"); CREATE TABLE fourth (role "Role")')
    plan = plan_of(pg_dsn, "DROP TABLE fourth", RENAMED_FIRST)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=r"column role of table third would be dropped with it") as failed:
            await CheckRows().run(ctx, handle(0))
    assert "fourth" not in str(failed.value)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ('ALTER TYPE "Role" RENAME TO "Part"', 'casts to "Role" would fail'),
        (
            [RENAMED_FIRST, {"sql": "UPDATE \"Member\" SET role = 'owner'", "undo": []}],
            "has the old type until contract",
        ),
        (RENAMED_FIRST + "ALTER TABLE other ADD CHECK (role <> 'user'::\"Role\")", "gets its name in the same phase"),
        (RENAMED_FIRST + "ALTER TYPE \"Role\" ADD VALUE 'x'", 'has given the name "Role" to another type'),
        (
            RENAMED_FIRST + 'CREATE VIEW a AS SELECT n FROM "Member"; CREATE VIEW b AS SELECT role::"Role" FROM other',
            "create view b: it names a type whose name changes in contract",
        ),
    ],
)
def test_what_needs_the_new_enum_before_contract_is_refused(sql: str | list[Any], reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as refused:
        plan_operations(plan_of("postgresql://x", *([sql] if isinstance(sql, str) else sql)))
    assert refused.value.hint


NEW_VALUES = """
ALTER TYPE mode RENAME TO mode_old; CREATE TYPE mode AS ENUM ('off', 'auto', 'on', 'it''s');
ALTER TABLE settings ALTER mode DROP DEFAULT, ALTER mode TYPE mode USING mode::text::mode;
DROP TYPE mode_old;
"""


async def test_values_that_only_the_new_enum_has_are_named_before_a_rollback_which_is_refused(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA)
    plan = plan_of(pg_dsn, NEW_VALUES)
    notes = [line for line in await check_operation_rows(db, plan) if "old type lacks" in line]
    assert len(notes) == 1
    assert notes[0].startswith(
        "note: 'auto', 'it''s' of settings.mode: the old type lacks it; while a row holds one, a"
    )
    async with open_context(plan) as ctx:
        steps = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        await require_kept_rows(ctx)
        steps += await run_phases(ctx, plan, [Phase.CONTRACT])
        await require_kept_rows(ctx)
        await db.execute("INSERT INTO settings (id, mode) VALUES (5, 'auto'), (6, 'it''s'), (7, 'on')")
        with pytest.raises(
            Refused, match=r"settings.mode has a value .* old type: 2 rows \('auto', 'it''s'\)"
        ) as refused:
            await require_kept_rows(ctx)
        assert "UPDATE" in str(refused.value)
        history = await read_rollback_history(ctx.store.pool, ctx.store.release_id, plan)
        assert history.dropped is not None
        assert any(each.is_copy for found in history.dropped.values() for each in found)
        assert history.losses is not None
        facts = describe_loss(None, await ctx.store.read(), history)
        assert [(each.label, each.tone) for each in facts if each.tone is FactTone.LOSS] == [("REFUSED", FactTone.LOSS)]
        assert "2 rows ('auto', 'it''s')" in facts[-1].text

        # The guard's own rollback is not confirmed: its first step stops it, and the new version goes on.
        with pytest.raises(StepFailed, match=r"2 rows of settings\.mode would lose their value"):
            await RunOperation().undo(ctx, steps[-1])
        await db.execute("INSERT INTO settings (id, mode) VALUES (8, 'auto')")
        await db.execute("UPDATE settings SET mode = 'on' WHERE mode NOT IN ('off', 'on')")
        await require_kept_rows(ctx)
        for each in reversed(steps):
            await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT count(*) FROM settings WHERE mode::text = 'on'") == 5
    assert await db.fetchval("SELECT count(*) FROM pg_enum WHERE enumtypid = 'mode'::regtype") == 2


async def _write(dsn: str, insert: str, change: str) -> None:
    """Prepared statements of an older version, until cancelled."""
    connection = await asyncpg.connect(dsn)
    try:
        add, update = await connection.prepare(insert), await connection.prepare(change)
        for number in itertools.count():
            await update.fetch(await add.fetchval(number))
            await asyncio.sleep(0.002)
    finally:
        connection.terminate()


NAMED = """
CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TYPE mood AS ENUM ('ok', 'so');
CREATE TABLE notes (id int PRIMARY KEY, kind kind DEFAULT 'a', kinds kind[], mood mood);
CREATE FUNCTION is_first(k kind) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN k = $$a$$; END';
CREATE INDEX firsts ON notes (id) WHERE kind = 'a';
"""
RENAMES = ("ALTER TYPE kind RENAME TO sort", "ALTER TYPE mood RENAME VALUE 'so' TO 'so-so'")


def _as_the_refusal_says(sql: str) -> dict[str, str]:
    with pytest.raises(PlanError) as refused:
        plan_operations(plan_of("postgresql://x", sql))
    return {"sql": sql, "phase": "contract", "undo": refused.value.hint.partition("phase: contract and undo: ")[2]}


async def test_a_rename_waits_for_contract_as_its_refusal_says(pg: PostgresServer, pg_dsn: str) -> None:
    await assert_done_and_undone(pg, pg_dsn, NAMED, [_as_the_refusal_says(each) for each in RENAMES])


async def test_versions_that_name_neither_type_nor_value_notice_no_rename(pg_dsn: str, db: asyncpg.Connection) -> None:
    """They send values as parameters, whose type the server knows by its OID."""
    await db.execute(NAMED)
    insert = await db.prepare("INSERT INTO notes (id, kind, kinds) VALUES ($1, $2, $3)")
    find = await db.prepare("SELECT count(*) FROM notes WHERE kind = $1 AND is_first(kind)")
    plan = plan_of(pg_dsn, *map(_as_the_refusal_says, RENAMES))
    async with open_context(plan) as ctx:
        handles = await run_phases(ctx, plan, [Phase.CONTRACT])
        await insert.fetch(1, "a", ["a", "b"])
        assert await find.fetchval("a") == 1
        for each in reversed(handles):
            await RunOperation().undo(ctx, each)
    await insert.fetch(2, "b", None)
    assert await find.fetchval("b") == 0
