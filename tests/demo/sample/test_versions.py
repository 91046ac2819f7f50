"""The three versions of the sample application on a real database, both kinds, both ways to write twice."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support.sample_pods import SamplePod, SetFlags, StartPod
from zdd_tui.demo.data import FIRST_NAMES, LAST_NAMES, create_schema, insert_seed_rows, seed_email, seed_name
from zdd_tui.service.flags import bucket
from zdd_tui.testbed.servers import postgres_server

WRITE, READ = "users_full_name_write", "users_full_name_read"

UP = "first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END"
EXPAND = {
    "column": "ALTER TABLE users ADD COLUMN full_name text",
    "table": "CREATE TABLE people (id bigint PRIMARY KEY DEFAULT nextval('users_id_seq'), full_name text, email text)",
}
BACKFILL = {
    "column": f"UPDATE users SET full_name = {UP} WHERE full_name IS DISTINCT FROM {UP}",
    "table": f"INSERT INTO people SELECT id, {UP}, email FROM users ON CONFLICT (id) DO UPDATE"
    " SET full_name = excluded.full_name, email = excluded.email",
}
# What a trigger-mode release installs: old to new on every change of the old side.
TRIGGER = {
    "column": f"""
CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.full_name := (SELECT {UP} FROM (SELECT NEW.first_name, NEW.last_name) AS r(first_name, last_name));
  RETURN NEW;
END $$;
CREATE TRIGGER sync BEFORE INSERT OR UPDATE OF first_name, last_name ON users
  FOR EACH ROW EXECUTE FUNCTION sync()""",
    "table": f"""
CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN DELETE FROM people WHERE id = OLD.id; RETURN OLD; END IF;
  INSERT INTO people (id, full_name, email)
    SELECT id, {UP}, email FROM (SELECT NEW.*) AS r
    ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name, email = excluded.email;
  RETURN NEW;
END $$;
CREATE TRIGGER sync AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION sync()""",
}
NEW_NAME = {
    "column": "SELECT full_name FROM users WHERE id = $1",
    "table": "SELECT full_name FROM people WHERE id = $1",
}
NAMES = ["Ana", "Ana García Márquez", 'O\'Shea "Max" de la Cruz', "李 山田", "'; DROP TABLE users; --"]


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the other side is another process
            await asyncio.sleep(0.002)


async def wait_for_flag_age(pod: SamplePod, condition: Callable[[float], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition((await pod.call("GET", "/flags"))[1]["age"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def check_crud(pod: SamplePod, name: str) -> int:
    """Create, read, change and read again; returns the id, which then has ``name`` and ``b@x``."""
    status, user = await pod.call("POST", "/users", {"name": "Before Change", "email": "a@x"})
    assert status == 201
    path = f"/users/{user['id']}"
    assert await pod.call("GET", path) == (200, {"id": user["id"], "name": "Before Change", "email": "a@x"})
    assert await pod.call("PUT", path, {"name": name}) == (200, {"id": user["id"], "name": name, "email": "a@x"})
    changed = (200, {"id": user["id"], "name": name, "email": "b@x"})
    assert await pod.call("PUT", path, {"email": "b@x"}) == changed
    assert await pod.call("GET", path) == changed
    return int(user["id"])


@pytest.mark.parametrize("kind", ["column", "table"])
@pytest.mark.parametrize("version", [1, 3])
async def test_versions_1_and_3_keep_users(
    start_pod: StartPod, db: asyncpg.Connection, version: int, kind: str
) -> None:
    if version == 3:
        pod = await start_pod(1)  # only to have the schema made by the same fixture
        await db.execute(EXPAND[kind])
        await db.execute("ALTER TABLE users ALTER COLUMN first_name DROP NOT NULL")
    pod = await start_pod(version, kind)
    for name in NAMES:
        user_id = await check_crud(pod, name)
        if version == 3:
            assert await db.fetchval(NEW_NAME[kind], user_id) == name
        assert await pod.call("DELETE", f"/users/{user_id}") == (204, None)
        assert (await pod.call("GET", f"/users/{user_id}"))[0] == 404
        assert (await pod.call("PUT", f"/users/{user_id}", {"name": "Late"}))[0] == 404
        assert (await pod.call("DELETE", f"/users/{user_id}"))[0] == 404


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_version_2_obeys_the_flags(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection, kind: str
) -> None:
    await start_pod(1)
    await db.execute(EXPAND[kind])
    pod = await start_pod(2, kind)
    await set_flags(pod, **{WRITE: "false", READ: "true"})
    for name in NAMES:  # the write flag is off: old alone, and the read flag is not looked at
        assert await db.fetchval(NEW_NAME[kind], await check_crud(pod, name)) is None
    assert (await pod.call("DELETE", "/users/1"))[0] == 204

    await set_flags(pod, **{WRITE: "true", READ: "false"})
    for name in NAMES:
        assert await db.fetchval(NEW_NAME[kind], await check_crud(pod, name)) == name
    # A row that the backfill has not reached: a change writes it whole on the new side.
    assert (await pod.call("PUT", "/users/2", {"name": "Touched By Hand"}))[0] == 200
    assert await db.fetchval(NEW_NAME[kind], 2) == "Touched By Hand"
    # A row that a pod without the flag wrote last: any change brings the sides together again.
    await db.execute("UPDATE users SET last_name = 'Out Of Step' WHERE id = 2")
    assert (await pod.call("PUT", "/users/2", {"email": "z@x"}))[1]["name"] == "Touched Out Of Step"
    assert await db.fetchval(NEW_NAME[kind], 2) == "Touched Out Of Step"

    await db.execute(BACKFILL[kind])
    await set_flags(pod, **{WRITE: "true", READ: "100%"})
    for name in NAMES:
        user_id = await check_crud(pod, name)
        # The read side is the new one: a change of it alone is what the pod shows, and what it carries back.
        table = "users" if kind == "column" else "people"
        await db.execute(f"UPDATE {table} SET full_name = 'Seen By V3' WHERE id = $1", user_id)
        assert (await pod.call("GET", f"/users/{user_id}"))[1]["name"] == "Seen By V3"
        assert (await pod.call("PUT", f"/users/{user_id}", {"email": "c@x"}))[1]["name"] == "Seen By V3"
        assert await db.fetchval(f"SELECT {UP} FROM users WHERE id = $1", user_id) == "Seen By V3"
        assert (await pod.call("DELETE", f"/users/{user_id}"))[0] == 204
        assert (await pod.call("GET", f"/users/{user_id}"))[0] == 404
        assert await db.fetchval("SELECT count(*) FROM users WHERE id = $1", user_id) == 0
    await set_flags(pod, **{WRITE: "true", READ: "false"})
    assert (await pod.call("GET", "/users/2"))[1]["name"] == "Touched Out Of Step"


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_percentage_decides_by_id(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection, kind: str
) -> None:
    await start_pod(1)
    await db.execute(EXPAND[kind])
    pod = await start_pod(2, kind)
    await set_flags(pod, **{WRITE: "50", READ: "false"})
    written = {}
    for _ in range(40):
        _, user = await pod.call("POST", "/users", {"name": "Per Cent", "email": None})
        written[user["id"]] = await db.fetchval(NEW_NAME[kind], user["id"]) is not None
    assert written == {user_id: bucket(WRITE, str(user_id)) < 50 for user_id in written}
    assert set(written.values()) == {True, False}


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_version_2_beside_a_trigger(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection, kind: str
) -> None:
    await start_pod(1)
    await db.execute(EXPAND[kind])
    await db.execute(TRIGGER[kind])
    pod = await start_pod(2, kind, "trigger")
    for read in ("false", "true"):
        await set_flags(pod, **{READ: read})
        for name in NAMES:
            user_id = await check_crud(pod, name)
            assert await db.fetchval(NEW_NAME[kind], user_id) == name
            assert await pod.call("DELETE", f"/users/{user_id}") == (204, None)
            assert (await pod.call("GET", f"/users/{user_id}"))[0] == 404


async def test_an_update_that_the_missing_trigger_does_not_copy_fails_as_a_whole(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection
) -> None:
    """A "not found" would be untrue: the old side would have it, and whoever repairs the rows would copy it."""
    await start_pod(1)
    await db.execute(EXPAND["table"])
    pod = await start_pod(2, "table", "trigger")
    await set_flags(pod, **{READ: "true"})
    user_id = await db.fetchval("INSERT INTO users (first_name, last_name) VALUES ('Ana', '') RETURNING id")
    async with pod.http.put(f"{pod.url}/users/{user_id}", json={"name": "Ben"}) as answer:
        assert answer.status == 500
    assert await db.fetchval("SELECT first_name FROM users") == "Ana"


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_versions_2_and_3_work_on_the_same_rows(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection, kind: str
) -> None:
    await start_pod(1)
    await db.execute(EXPAND[kind])
    await db.execute("ALTER TABLE users ALTER COLUMN first_name DROP NOT NULL")
    two, three = await start_pod(2, kind), await start_pod(3, kind)
    await set_flags(two, **{WRITE: "true", READ: "true"})
    _, user = await three.call("POST", "/users", {"name": "Born New", "email": "n@x"})
    path = f"/users/{user['id']}"
    assert await two.call("GET", path) == (200, user)
    assert await two.call("PUT", path, {"email": "m@x"}) == (200, user | {"email": "m@x"})
    assert (await three.call("PUT", path, {"name": "Third Word Here"}))[0] == 200
    # Version 2 must not carry a name back that version 3 has replaced.
    assert (await two.call("PUT", path, {"email": "k@x"}))[1]["name"] == "Third Word Here"
    assert (await three.call("GET", path))[1] == {"id": user["id"], "name": "Third Word Here", "email": "k@x"}
    assert await two.call("DELETE", path) == (204, None)
    assert (await three.call("GET", path))[0] == 404


@pytest.mark.parametrize(
    "body",
    [None, [], {}, *({"name": name} for name in ("", "a  b", " a", "a\0", 7)), {"name": "a", "email": 7}],
)
async def test_bad_input_is_refused(start_pod: StartPod, body: Any) -> None:
    pod = await start_pod(1)
    assert (await pod.call("POST", "/users", body))[0] == 400
    assert (await pod.call("GET", "/users/99999999999999999999"))[0] == 404
    assert (await pod.call("GET", "/users/x"))[0] == 404


async def test_ddl_fails_no_request(start_pod: StartPod, db: asyncpg.Connection) -> None:
    """Columns come, go, and are renamed under a pod that reads and writes all the time."""
    pod = await start_pod(1)
    _, user = await pod.call("POST", "/users", {"name": "Ana Lee", "email": "a@x"})
    path = f"/users/{user['id']}"
    done = asyncio.Event()
    answers = 0

    async def hammer() -> None:
        nonlocal answers
        while not done.is_set():
            assert await pod.call("GET", path) == (200, user)
            assert await pod.call("PUT", path, {"name": "Ana Lee"}) == (200, user)
            answers += 2

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(hammer())
        for number in range(25):
            await db.execute(f"ALTER TABLE users ADD COLUMN extra{number} text")
            await db.execute(f"ALTER TABLE users RENAME COLUMN extra{number} TO other{number}")
            await db.execute("ALTER TABLE users ALTER COLUMN email TYPE varchar(99)")
            await db.execute("ALTER TABLE users ALTER COLUMN email TYPE text")
            await db.execute(f"ALTER TABLE users DROP COLUMN other{number}")
        done.set()
    assert answers > 100


async def test_seeded_rows_have_computable_names(start_pod: StartPod, pg_dsn: str, db: asyncpg.Connection) -> None:
    pod = await start_pod(1)
    rows = len(FIRST_NAMES) * len(LAST_NAMES) * 2 + 1
    await insert_seed_rows(pg_dsn, rows)
    for row in await db.fetch(f"SELECT id, {UP} AS name, email FROM users"):
        assert (row["name"], row["email"]) == (seed_name(row["id"]), seed_email(row["id"]))
    assert await db.fetchval("SELECT count(DISTINCT first_name || last_name) FROM users") == rows
    assert (await pod.call("POST", "/users", {"name": "Next"}))[1]["id"] == rows + 1


async def test_drain_under_load_fails_no_request(start_pod: StartPod) -> None:
    """SIGTERM: /ready says no at once, /health yes, everything that still comes is served, then exit 0."""
    pod = await start_pod(1, DRAIN_SECONDS="1")
    _, user = await pod.call("POST", "/users", {"name": "Ana Lee", "email": None})
    leave = asyncio.Event()
    closes: list[bool] = []

    async def client() -> None:
        while not leave.is_set():
            async with pod.http.get(f"{pod.url}/users/{user['id']}") as answer:
                assert (answer.status, await answer.json()) == (200, user)
                closes.append(answer.headers.get("Connection") == "close")

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client())
        await wait_until(lambda: len(closes) >= 50)
        assert not any(closes)
        pod.process.send_signal(signal.SIGTERM)
        await pod.wait_until_ready(503)
        assert (await pod.call("GET", "/health"))[0] == 200
        served = len(closes)
        await wait_until(lambda: len(closes) >= served + 100)
        assert all(closes[-50:])
        leave.set()
    assert await asyncio.to_thread(pod.process.wait, 5) == 0
    with pytest.raises(aiohttp.ClientConnectionError):
        await pod.call("GET", "/health")


async def test_a_lost_redis_takes_no_pod_out_of_rotation(
    start_pod: StartPod, set_flags: SetFlags, db: asyncpg.Connection, redis_instance: Any
) -> None:
    await start_pod(1)
    await db.execute(EXPAND["column"])
    pod = await start_pod(2)
    await set_flags(pod, **{WRITE: "true", READ: "true"})
    await redis_instance.kill()
    try:
        await wait_for_flag_age(pod, lambda age: age > 1.5)
        assert (await pod.call("GET", "/ready"))[0] == 200
        user_id = await check_crud(pod, "Still Written Twice")
        assert await db.fetchval(NEW_NAME["column"], user_id) == "Still Written Twice"
        # A pod that has never seen the flags must not serve by defaults.
        fresh = await start_pod(2, WAIT="no")
        await fresh.wait_until_ready(503)
        assert (await fresh.call("GET", "/ready"))[1]["checks"]["flags"] == "TimeoutError"
    finally:
        await redis_instance.start()
    await fresh.wait_until_ready()
    await wait_for_flag_age(pod, lambda age: age < 1)
    # The Redis came back empty: what was known stays in force, and says so.
    assert (await pod.call("GET", "/flags"))[1]["flags"][WRITE] == {"percent": 100, "problem": "missing"}


async def test_a_pod_without_a_database_is_alive_and_not_ready(start_pod: StartPod) -> None:
    pod = await start_pod(1, WAIT="no", DATABASE_URL="postgresql://u:s3cret@127.0.0.1:1/x")
    await pod.wait_until_ready(503)
    assert (await pod.call("GET", "/health"))[0] == 200
    status, body = await pod.call("GET", "/users/1")
    assert status == 503
    assert "s3cret" not in str(body) + pod.log.read_text()


async def test_a_database_that_is_killed_and_comes_back_is_used_again(start_pod: StartPod, server_folder: Path) -> None:
    async with postgres_server(server_folder / "sample") as server:
        await create_schema(server.dsn)
        pod = await start_pod(1, DATABASE_URL=server.dsn)
        _, user = await pod.call("POST", "/users", {"name": "Ana Lee", "email": "a@x"})
        path = f"/users/{user['id']}"
        await server.kill()
        assert (await pod.call("GET", path))[0] == 503
        # Within the tolerance: all pods share the database, and none of them would do better out of rotation.
        status, state = await pod.call("GET", "/ready")
        assert (status, "tolerated" in state["checks"]["postgresql"]) == (200, True)
        await server.start()
        assert await pod.call("GET", path) == (200, user)
        assert await pod.call("PUT", path, {"name": "Ana Lee"}) == (200, user)


async def test_metrics_can_be_scraped(start_pod: StartPod) -> None:
    pod = await start_pod(1)
    await pod.call("GET", "/users/1")
    async with pod.http.get(pod.url + "/metrics") as answer:
        text = await answer.text()
    assert 'http_requests_total{method="GET",code="404"} 1' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 1' in text
