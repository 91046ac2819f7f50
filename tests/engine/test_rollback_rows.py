"""A rollback to the old side loses no acknowledged write, also after somebody has disabled the triggers in between."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tests.engine.test_witness import step_handle, verified
from tests.support.schema_change import count_disagreements
from tests.support.witness import KINDS, WatchedRelease, watched_release
from zdd_tui.backends.postgres.gate_queries import list_enabled_triggers, read_trigger_state
from zdd_tui.backends.postgres.recent_writes import read_horizon
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.engine.context import StepHandle
from zdd_tui.engine.continuity import Continuity, check_continuity
from zdd_tui.engine.recent_writes import compare_since_verification
from zdd_tui.engine.rollback_rows import restore_triggers
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.ddl.names import sync_name
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.flag import ON
from zdd_tui.model.release.records import StepChange, StepRecord
from zdd_tui.model.release.state import ReleaseState, StepStatus

pytestmark = pytest.mark.timeout(90)

V3_RUNS = ("sync-forward", "sync-reverse", "extend-witness", "read-flag-on", "rollout-v3")
FAST_FLAGS = {"max_staleness": "10ms"}


class Cutover:
    """A release whose V3 is rolled out."""

    def __init__(self, made: WatchedRelease, kind: str, v3: asyncpg.Connection) -> None:
        self.made, self.v3 = made, v3
        self.new = "people" if kind == "table" else "users"
        self.kind = kind

    @asynccontextmanager
    async def disabled(self, *names: str) -> AsyncIterator[None]:
        """Somebody disables triggers for a moment."""
        tables = {
            row["tgname"]: row["relation"]
            for row in await self.made.admin.fetch(
                "SELECT tgname, tgrelid::regclass::text AS relation FROM pg_trigger WHERE tgname = ANY ($1)", names
            )
        }
        for name in names:
            await self.made.admin.execute(f'ALTER TABLE {tables[name]} DISABLE TRIGGER "{name}"')
        yield
        for name in names:
            await self.made.admin.execute(f'ALTER TABLE {tables[name]} ENABLE ALWAYS TRIGGER "{name}"')

    @property
    def reverse(self) -> str:
        return sync_name(self.made.plan, "reverse")

    @property
    def witness(self) -> tuple[str, ...]:
        return expected_triggers(self.made.plan, both_sides=True)

    async def write_new(self, key: int, name: str = "New Name") -> None:
        await self.v3.execute(f"UPDATE {self.new} SET full_name = $2 WHERE id = $1", key, name)

    async def change_email_by_old_side(self, key: int) -> None:
        """What V2 does when it reads the old side: it writes the whole row from there."""
        up = self.made.plan.change.up["full_name"]
        await self.v3.execute(f"UPDATE users SET email = 'v2@x'{self._column(up)} WHERE id = $1", key)
        if self.kind == "table":
            await self.v3.execute(
                f"INSERT INTO people (id, full_name, email) SELECT id, {up}, email FROM users WHERE id = $1"
                " ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name, email = excluded.email",
                key,
            )

    def _column(self, up: str) -> str:
        return f", full_name = {up}" if self.kind == "column" else ""

    async def old_name(self, key: int) -> str | None:
        row = await self.made.admin.fetchrow("SELECT first_name, last_name FROM users WHERE id = $1", key)
        return None if row is None else f"{row['first_name']} {row['last_name']}".strip()

    async def undo(self, name: str, **detail: Any) -> StepHandle:
        record = StepRecord(name, StepStatus.UNDOING, detail=detail)
        handle = step_handle(name, {})
        handle.detail = dict(record.detail)
        await STEPS[name].undo(self.made.ctx, handle)
        return handle


@asynccontextmanager
async def cutover(dsn: str, kind: str, rows: int = 20, **extra: Any) -> AsyncIterator[Cutover]:
    async with watched_release(dsn, kind, rows=rows, flags=FAST_FLAGS, **extra) as made, made.writer("v3") as v3:
        await verified(made)
        horizon = await read_horizon(made.admin)
        await made.extend()
        release = (await made.store.read()).release
        for name in V3_RUNS:
            if any(step.name == name for step in release.strategy.steps):
                release = release.with_status(name, StepStatus.DONE)
        release = replace(release, state=ReleaseState.ROLLING_BACK)
        detail = {"image_before": "a:2", "began": horizon}
        await made.store.save(release, step=StepChange("rollout-v3", detail=detail))
        yield Cutover(made, kind, v3)


@asynccontextmanager
async def read_flag(made: WatchedRelease, url: str) -> AsyncIterator[FlagStore]:
    """The read flag is on, in a real Redis."""
    async with await FlagStore.connect(url) as flags:
        made.ctx.flag_store = flags
        await flags.set("r", ON, epoch=made.store.epoch)
        yield flags


BEFORE = {"flags_before": {"r": "false"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_restored", [True, False])
async def test_what_v3_wrote_without_the_trigger_is_on_the_old_side_before_v2_reads_it(
    pg_dsn: str, redis_url: str, kind: str, is_restored: bool
) -> None:
    async with cutover(pg_dsn, kind) as made, read_flag(made.made, redis_url) as flags:
        async with made.disabled(made.reverse):
            await made.write_new(4)
            if not is_restored:
                await made.undo("read-flag-on", **BEFORE)
        if is_restored:
            await made.undo("read-flag-on", **BEFORE)
        assert await flags.read_raw(["r"]) == {"r": "false"}
        assert await made.old_name(4) == "New Name"
        await made.change_email_by_old_side(4)
        assert await made.old_name(4) == "New Name"
        assert await count_disagreements(made.made.admin, kind) == []
        await made.write_new(5, "Later")  # V3 still runs
        assert await made.old_name(5) == "Later"
        await made.undo("sync-reverse")


async def test_many_rows_are_settled_before_reads_go_back(
    pg_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are looked at, and than are copied, in one call."""
    monkeypatch.setattr("zdd_tui.engine.witness.MAX_ROWS", 7)
    monkeypatch.setattr("zdd_tui.engine.rollback_rows.MAX_COUNTED", 3)
    monkeypatch.setattr("zdd_tui.engine.rollback_rows.TRIES", 1)
    async with cutover(pg_dsn, "column", rows=60) as made, read_flag(made.made, redis_url) as flags:
        async with made.disabled(made.reverse):
            await made.v3.execute("UPDATE users SET full_name = 'New Name'")
        await made.undo("read-flag-on", **BEFORE)
        assert await flags.read_raw(["r"]) == {"r": "false"}
        assert await made.made.admin.fetchval("SELECT count(*) FROM users WHERE last_name = 'Name'") == 60


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_both_have_written_stops_it_before_anything_reads_the_old_side(
    pg_dsn: str, redis_url: str, kind: str
) -> None:
    async with (
        cutover(pg_dsn, kind) as made,
        read_flag(made.made, redis_url) as flags,
        made.made.writer("reports") as worker,
    ):
        async with made.disabled(made.reverse):
            await made.write_new(4)
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id IN (4, 6)")
        for step, detail in (("read-flag-on", BEFORE), ("rollout-v3", {"image_before": "a:2"}), ("extend-witness", {})):
            with pytest.raises(StepFailed) as failed:
                await made.undo(step, **detail)
            assert "key 4 (" in failed.value.title
            assert "key 6 (" not in failed.value.title, "only the old side was written, which stays"
            assert "v3 " in failed.value.title
            assert "reports " in failed.value.title
        assert await flags.read_raw(["r"]) == {"r": "true"}
        assert await made.made.admin.fetchval("SELECT key FROM zdd.mismatch") == '["4"]'
        # The error has the statement for each choice.
        hint = failed.value.hint
        found = re.search(r"to keep the new side: (.*); to keep the old side: (.*); then: zdd rollback PLAN", hint)
        assert found is not None
        await made.made.admin.execute(found[2])
        assert await made.old_name(4) == "Old Last 4"
        assert await count_disagreements(made.made.admin, kind) == []
        await made.write_new(4, "Again Here")
        async with made.disabled(made.reverse):
            await made.write_new(4, "New Name")
        await made.made.admin.execute(found[1])
        assert await made.old_name(4) == "New Name"
        await made.undo("read-flag-on", **BEFORE)
        assert await flags.read_raw(["r"]) == {"r": "false"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_one_session_wrote_on_each_side_is_not_decided(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind) as made:
        async with made.disabled(made.reverse):
            await made.write_new(4)
        await made.v3.execute("UPDATE users SET first_name = 'Old' WHERE id = 4")
        with pytest.raises(StepFailed, match=r"key 4 \("):
            await made.undo("rollout-v3", image_before="a:2")


@pytest.mark.parametrize("kind", KINDS)
async def test_while_v3_may_write_a_rollback_restores_the_triggers(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind) as made:
        async with made.disabled(made.reverse, *made.witness[-1:]):
            record = await made.made.store.read()
            await restore_triggers(made.made.ctx, record.release)
            assert await read_trigger_state(made.made.admin, made.reverse) == "A"
            assert await list_enabled_triggers(made.made.admin, made.witness) == set(made.witness)
        await made.write_new(4)
        assert await made.old_name(4) == "New Name"


@pytest.mark.parametrize("kind", KINDS)
async def test_as_long_as_a_rollback_lasts_rows_are_settled(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind) as made:
        async with made.disabled(made.reverse):
            await made.write_new(5, "Second")
        await settle_recorded_rows(made.made.ctx, await made.made.store.read())
        assert await made.old_name(5) == "Second"


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_record_the_rows_are_compared_before_v2_reads_the_old_side(
    pg_dsn: str, redis_url: str, kind: str
) -> None:
    """Nobody has recorded the write. In the table kind the old row shows that it was not written since."""
    async with cutover(pg_dsn, kind) as made, read_flag(made.made, redis_url) as flags:
        async with made.disabled(made.reverse, *made.witness):
            await made.write_new(4)
        if kind == "table":
            await made.undo("read-flag-on", **BEFORE)
            assert await made.old_name(4) == "New Name"
            return
        with pytest.raises(StepFailed, match=r"1 of \d+ rows written since the verification differ, for example key 4"):
            await made.undo("read-flag-on", **BEFORE)
        assert await flags.read_raw(["r"]) == {"r": "true"}


async def test_a_row_that_the_new_table_lacks_is_not_deleted_without_a_record(pg_dsn: str) -> None:
    async with cutover(pg_dsn, "table") as made:
        async with made.disabled(made.reverse, *made.witness):
            await made.v3.execute("DELETE FROM people WHERE id < 6")
        with pytest.raises(StepFailed, match="5 of 20 rows differ"):
            await made.undo("rollout-v3", image_before="a:2")
        assert await made.made.admin.fetchval("SELECT count(*) FROM users") == 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("witness", [True, False])
async def test_a_row_that_only_the_old_side_has_stops_no_rollback(pg_dsn: str, kind: str, witness: bool) -> None:
    """The reverse trigger was in force without a break: V3 cannot have written it."""
    async with cutover(pg_dsn, kind, change={"witness": witness}) as made, made.made.writer() as worker:
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 4")
        if witness:
            await made.undo("extend-witness")
        await made.undo("sync-reverse")
        assert await made.old_name(4) == "Old Last 4"


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_witness_and_with_a_break_it_stops_where_v3_may_have_written(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind, change={"witness": False}) as made, made.made.writer() as worker:
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 4")
        async with made.disabled(made.reverse):
            await made.write_new(5)
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 5")
        with pytest.raises(StepFailed) as failed:
            await made.undo("sync-reverse")
        # Table kind: the new row 4 was not written since V3 began.
        assert ("key 4 (" in failed.value.title) == (kind == "column")
        assert "key 5 (" in failed.value.title


@pytest.mark.parametrize("kind", KINDS)
async def test_after_v3_the_agent_copies_what_the_trigger_missed(pg_dsn: str, kind: str) -> None:
    """No rollback: the release continues by itself."""
    async with cutover(pg_dsn, kind) as made:
        release = replace((await made.made.store.read()).release, state=ReleaseState.WAITING)
        release = replace(release, phase=[each.name for each in release.strategy.phases].index("cutover"))
        await made.made.store.save(release)
        async with made.disabled(made.reverse):
            await made.write_new(4)
            if kind == "table":
                await made.v3.execute("INSERT INTO people (id, full_name, email) VALUES (77, 'Added Here', 'a@x')")
                await made.v3.execute("DELETE FROM people WHERE id = 7")
        await settle_recorded_rows(made.made.ctx, await made.made.store.read())
        assert await made.old_name(4) == "New Name"
        assert await count_disagreements(made.made.admin, kind) == []
        if kind == "table":
            assert await made.old_name(77) == "Added Here"
            assert await made.old_name(7) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_comparison_without_a_difference_the_records_prove_again(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind) as made:
        ctx, store = made.made.ctx, made.made.store
        async with made.disabled(made.reverse, *made.witness):
            pass
        assert await check_continuity(ctx, await store.read()) == Continuity()
        async with made.disabled(made.reverse):
            await made.write_new(4)
        assert (await compare_since_verification(ctx, await store.read(), only_recent=False)).differing
        assert not (await check_continuity(ctx, await store.read())).witness
        await made.made.admin.execute("UPDATE users SET first_name = 'New', last_name = 'Name' WHERE id = 4")
        assert not (await compare_since_verification(ctx, await store.read(), only_recent=False)).differing
        assert await check_continuity(ctx, await store.read()) == Continuity(reverse=True, witness=True)


# --- while V2 reads the old side and V3 still runs -----------------------------------------------------------------


async def events(made: WatchedRelease) -> list[str]:
    rows = await made.admin.fetch("SELECT message, reason FROM zdd.event WHERE kind = 'condition' ORDER BY id")
    return [f"{row['message']} | {row['reason']}" for row in rows]


async def reads_are_back(made: Cutover) -> None:
    release = (await made.made.store.read()).release.with_status("read-flag-on", StepStatus.UNDONE)
    await made.made.store.save(release)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_witnessed", [True, False])
async def test_a_row_that_v2_replaced_before_it_was_copied_is_told(pg_dsn: str, kind: str, is_witnessed: bool) -> None:
    """V2 has written the whole row from the old side: nothing can be copied any more, but nothing is silent."""
    async with cutover(pg_dsn, kind) as made:
        await reads_are_back(made)
        async with made.disabled(made.reverse, *(() if is_witnessed else made.witness)):
            await made.write_new(4, "Lost Name")
            await made.change_email_by_old_side(4)
            await made.write_new(5, "Kept Name")
            await restore_triggers(made.made.ctx, (await made.made.store.read()).release)
        await settle_recorded_rows(made.made.ctx, await made.made.store.read())
        restored, *told = (await events(made.made))[-2 if is_witnessed else -1 :]
        assert "restored by the agent | what V3 wrote meanwhile is copied to the old side, but a row" in restored
        if is_witnessed:
            assert await made.old_name(5) == "Kept Name"
            assert told == [
                "rows that V3 wrote while no trigger copied them: 1 were written on both sides, by V2 or by hand,"
                " before the agent could copy them: key 4; what V3 wrote there may be replaced"
                " | all keys: zdd.witness_row with side new or both, and outcome agreed"
            ]
        else:
            with pytest.raises(StepFailed, match="key 5 ") if kind == "column" else nullcontext():
                await made.undo("rollout-v3", image_before="")
                await made.undo("sync-reverse")
        # Once: the row is settled.
        await settle_recorded_rows(made.made.ctx, await made.made.store.read())
        assert (await events(made.made))[-1:] == (told or [restored])


# --- sync triggers in both directions ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_with_both_sync_triggers_what_v3_wrote_alone_is_copied_without_a_record(pg_dsn: str, kind: str) -> None:
    """The forward trigger had no break and has recorded nothing: the new side alone was written."""
    async with cutover(pg_dsn, kind, dual_write="trigger") as made:
        async with made.disabled(made.reverse):
            await made.write_new(4)
        await made.undo("sync-reverse")
        assert await made.old_name(4) == "New Name"
        assert await count_disagreements(made.made.admin, kind) == []
        assert await made.made.recorded() == [], "no trigger takes the agent's copy for a write of the application"


@pytest.mark.parametrize("kind", KINDS)
async def test_with_both_sync_triggers_a_row_that_both_have_written_is_named(pg_dsn: str, kind: str) -> None:
    async with cutover(pg_dsn, kind, dual_write="trigger") as made, made.made.writer("v2") as v2:
        async with made.disabled(made.reverse):
            await made.write_new(4)
            await made.write_new(5)
            await v2.execute("UPDATE users SET first_name = 'Old' WHERE id = 4")
        with pytest.raises(StepFailed) as failed:
            await made.undo("sync-reverse")
        assert "key 4 (" in failed.value.title
        assert "key 5 (" not in failed.value.title
        assert re.search(r"to keep the new side: UPDATE .*; to keep the old side: UPDATE", failed.value.hint)
        assert await made.made.admin.fetchval("SELECT key FROM zdd.mismatch") == '["4"]'
        assert await made.old_name(5) == "New Name"


@pytest.mark.parametrize("how", ["forward disabled", "replica session", "both sides at once"])
async def test_without_a_proof_the_rollback_stops(pg_dsn: str, how: str) -> None:
    """Column kind: one row has both sides, so only the records tell which one is newer."""
    async with cutover(pg_dsn, "column", dual_write="trigger") as made:
        forward = sync_name(made.made.plan, "forward")
        async with made.disabled(made.reverse, *([forward] if how == "forward disabled" else [])):
            await made.write_new(4)
            if how == "replica session":  # the trigger fires there, too
                await made.made.admin.execute(
                    "SET session_replication_role = replica; UPDATE users SET first_name = 'Old' WHERE id = 4;"
                    "RESET session_replication_role"
                )
            elif how == "both sides at once":
                await made.v3.execute("UPDATE users SET first_name = 'Old', full_name = 'Other' WHERE id = 4")
        with pytest.raises(StepFailed, match=r"key 4 \("):
            await made.undo("sync-reverse")


async def test_with_both_sync_triggers_the_agent_copies_what_the_trigger_could_not(pg_dsn: str) -> None:
    """The old side refuses the copy for a while: recorded, and copied later, forward and in a rollback."""
    async with cutover(pg_dsn, "table", dual_write="trigger") as made:
        rolling_back = (await made.made.store.read()).release
        forward = replace(rolling_back, state=ReleaseState.WAITING)
        for key, release in ((4, rolling_back), (5, forward)):
            await made.made.store.save(release)
            await made.made.admin.execute(
                "ALTER TABLE users ADD CONSTRAINT short CHECK (last_name <> 'Name') NOT VALID"
            )
            await made.write_new(key)
            await settle_recorded_rows(made.made.ctx, await made.made.store.read())
            assert await made.old_name(key) == f"First{key} Last {key}"
            await made.made.admin.execute("ALTER TABLE users DROP CONSTRAINT short")
            await settle_recorded_rows(made.made.ctx, await made.made.store.read())
            assert await made.old_name(key) == "New Name"
        assert await count_disagreements(made.made.admin, "table") == []
        assert (await made.made.store.read()).witness.open_rows == 0
