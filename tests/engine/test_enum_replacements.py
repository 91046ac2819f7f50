"""An enum that a migration replaces by another one of the same name, as Prisma writes it."""

import asyncio

import asyncpg
import pytest

from tests.engine.test_operation_combinations import Writers
from tests.support.operations import assert_done_and_undone, handle, open_context, plan_of, run_phases
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.errors import PlanError, StepFailed
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.phase import Phase
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
