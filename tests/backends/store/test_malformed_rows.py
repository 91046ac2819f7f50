"""Rows that are no rows of zdd end neither an agent nor a reader (case C6)."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.store import AGENT, ANA, open_store
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.detail import read_audit_log
from zdd_tui.backends.store.row_values import MalformedRow
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind

EXPECTED = '{"plan_hash": "x", "state": "planned", "phase": -1}'

ROWS = {
    "args is a list": ("advance", "[]", "args is a list"),
    "args is null": ("pause", "null", "args is null"),
    "args is a text": ("pause", '"x"', "args is a text"),
    "expected is a number": ("advance", '{"expected": 1}', "args.expected is a number, expected an object"),
    "expected is empty": ("advance", '{"expected": {}}', "args.expected.state is null"),
    "no such state": ("advance", EXPECTED.join(['{"expected": ', "}"]).replace("planned", "gone"), "is not a state"),
    "the phase is a text": ("advance", EXPECTED.join(['{"expected": ', "}"]).replace("-1", '"x"'), "phase is a text"),
    "objects is a list": (
        "advance", EXPECTED.join(['{"expected": ', "}"]).replace("-1", '1, "objects": [1]'), "objects is a list",
    ),
    "typed is an object": ("advance", '{"typed": {}}', "args.typed is an object, expected a text"),
    "targets is a text": ("advance", '{"targets": "x"}', "args.targets is a text, expected a list"),
    "a target is a number": ("advance", '{"targets": [1]}', "args.targets[0] is a number"),
    "unrehearsed is a text": ("advance", '{"unrehearsed": "no"}', "args.unrehearsed is a text"),
    "tuning is a number": ("tune", '{"tuning": 1}', "args.tuning is a number"),
    "a limit is a list": ("tune", '{"tuning": {"speed": [1]}}', "args.tuning.speed is a list"),
    "the table of a pause is a number": ("pause", '{"table": 1}', "args.table is a number, expected a text"),
    "an endless number": ("tune", '{"tuning": {"speed": 1e400}}', "args is no readable JSON"),
    "many digits": ("tune", '{"tuning": {"speed": ' + "9" * 5000 + "}}", "args is no readable JSON"),
    "nested deep": ("advance", '{"expected": ' + "[" * 3000 + "]" * 3000 + "}", "args is no readable JSON"),
    "huge": ("advance", json.dumps({"typed": "x" * 3_000_000}), "args is no readable JSON"),
    "an unknown kind": ("explode", "{}", "the zdd that sent 'explode'"),
    "a huge kind": ("x" * 1_000_000, "{}", "the zdd that sent 'xxx"),
}  # fmt: skip


@pytest.fixture
async def release(pg_dsn: str) -> AsyncIterator[tuple[Store, int]]:
    async with open_store(pg_dsn) as opened:
        yield opened


async def insert_command(db: asyncpg.Connection, release: int, kind: str, args: str, reason: str = "") -> int:
    return int(
        await db.fetchval(
            "INSERT INTO zdd.command (release_id, kind, args, reason, actor, host)"
            " VALUES ($1, $2, $3, $4, 'eve', 'x') RETURNING id",
            release, kind, args, reason,
        )
    )  # fmt: skip


async def test_c6_malformed_commands_are_refused_and_audited(
    pg_dsn: str, db: asyncpg.Connection, release: tuple[Store, int]
) -> None:
    store, release_id = release
    sent = {name: await insert_command(db, release_id, kind, args) for name, (kind, args, _) in ROWS.items()}
    sent["a huge reason"] = await insert_command(db, release_id, "pause", "[]", "x" * 3_000_000)
    good = await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, "lunch"), actor=ANA)
    before = await store.read_release(release_id)  # the rows that are still queued do no harm to a reader
    assert before.commands[-1].request.reason == "lunch"
    agent = await acquire_lease(pg_dsn, release_id, AGENT)
    assert agent is not None
    async with agent:
        taken = await agent.next_command()
        assert taken is not None
        assert taken.id == good
    for name, (_kind, _args, text) in ROWS.items():
        row = await db.fetchrow("SELECT status, outcome FROM zdd.command WHERE id = $1", sent[name])
        assert row is not None
        assert row["status"] == "refused", name
        assert text in row["outcome"], (name, row["outcome"])
    events = [event for event in (await store.read_release(release_id, events=200)).events if event.kind == "refused"]
    assert len(events) == len(sent)
    assert {event.actor.name for event in events} == {"eve"}
    assert max(len(event.message) + len(event.reason) for event in events) < 20_000
    assert len((await read_audit_log(store.pool, release_id, 200)).commands) > 0


DAMAGE = {
    "detail": "UPDATE zdd.step SET detail = '[1]'",
    "detail that is nested deep": f"UPDATE zdd.step SET detail = '{'[' * 3000 + ']' * 3000}'",
    "tuning": "UPDATE zdd.release SET tuning = '[]'",
    "tuning of another type": """UPDATE zdd.release SET tuning = '{"speed": "fast", "workers": [1]}'""",
    "document": "UPDATE zdd.release SET document = '[]'",
    "sections": """UPDATE zdd.release SET document = '{"backfill": 1, "gates": [2]}'""",
    "wait limit": """UPDATE zdd.release SET document = '{"gates": {"wait_limit": [], "owner": {}}}'""",
    "gate": "INSERT INTO zdd.gate (release_id, name, verdict, reason, observed_at, max_age)"
    " SELECT id, 'lag', 'pass', 'x', 'infinity', 'NaN' FROM zdd.release",
    "guard": "INSERT INTO zdd.guard (release_id, rule, verdict, reason, unit, value, samples, series, action,"
    " observed_at, max_age) SELECT id, 'r', 'pass', 'x', 'ratio', 'NaN', 0, '{NaN,Infinity,NULL}', 'alert', now(),"
    " 'Infinity' FROM zdd.release",
    "backfill": "INSERT INTO zdd.backfill (release_id, status, recent, rate)"
    " SELECT id, 'running', '[[1], \"x\", [null, {}, []]]', 'NaN' FROM zdd.release",
    "failed row": "INSERT INTO zdd.failed_row (release_id, key, reason) SELECT id, '{\"a\": 1}', 'x' FROM zdd.release",
}


@pytest.mark.parametrize("case", DAMAGE)
async def test_a_reader_survives_what_somebody_wrote(
    db: asyncpg.Connection, release: tuple[Store, int], case: str
) -> None:
    store, release_id = release
    await db.execute(DAMAGE[case])
    record = await store.read_release(release_id)
    assert "users-full-name: planned" in format_status(record)
    json.loads(json.dumps(status_to_dict(record), allow_nan=False))
    await store.read_failed_rows(release_id)
    if case == "gate":
        assert record.gates["lag"].as_of(record.now).verdict is Verdict.UNKNOWN
    if case.startswith("detail"):
        with pytest.raises(StepFailed, match="cannot be used"):
            record.steps[0].require_detail()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("UPDATE zdd.release SET strategy = '[]'", "zdd.release.strategy"),
        ("UPDATE zdd.release SET phase = 99", "phase 99"),
        ("DELETE FROM zdd.step WHERE position = 0", "steps of the strategy"),
        ("UPDATE zdd.release SET table_pauses = '{}'", "zdd.release.table_pauses"),
        ("""UPDATE zdd.release SET table_pauses = '[{"table": 1}]'""", "zdd.release.table_pauses.table"),
    ],
)
async def test_a_release_of_which_nothing_can_be_said_is_an_error_with_its_reason(
    db: asyncpg.Connection, release: tuple[Store, int], damage: str, text: str
) -> None:
    store, release_id = release
    await db.execute(damage)
    with pytest.raises(MalformedRow, match="cannot be used") as caught:
        await store.read_release(release_id)
    assert text in caught.value.title
    assert caught.value.hint


async def test_texts_that_the_server_refuses_are_replaced(release: tuple[Store, int]) -> None:
    store, release_id = release
    request = CommandRequest(CommandKind.ADVANCE, "a\0b\ud800", typed="x\0\udfff", targets=("line\0",))
    stored = await store.read_command(await store.send_command(release_id, request, actor=ANA))
    assert "\0" not in stored.request.reason + str(stored.request.typed) + stored.request.targets[0]
