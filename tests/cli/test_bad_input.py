"""Bad input is refused by one clear error with a place and a hint: exit code 2, nothing changed, no secret.

Every case goes through the real command line, against a real PostgreSQL, Redis and API server.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.command_line import CliEnvironment, CommandResult, environment_without, make_environment
from tests.support.kubelet import read, write_config
from tests.support.pooling_proxy import pooling_proxy
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.testbed.processes import free_port

pytestmark = pytest.mark.timeout(300)  # several processes each, on a machine that may do much else

PASSWORD = "wr0ng-Secret"


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


def assert_refused(ended: CommandResult, here: CliEnvironment, *expected: str) -> None:
    """One error with its hint, and no secret. ``@key`` in `expected` is a key with file and line."""
    assert ended.code == 2, ended.output
    assert ended.out == ""
    assert ended.err.count("zdd: ") == 1, ended.err
    assert ended.err.startswith("zdd: ")
    assert "\n  Fix: " in ended.err, "it has no hint"
    for text in expected:
        assert (here.line_of(text[1:]) if text.startswith("@") else text) in ended.err
    assert "Traceback" not in ended.err
    for secret in (*here.secrets, PASSWORD):
        assert secret not in ended.err


async def assert_refused_by_all(bad: CliEnvironment, clean: CliEnvironment, *expected: str) -> None:
    """`zdd check` and `zdd agent` both refuse, and the database is as it was."""
    for ended in await asyncio.gather(bad.run_zdd("check"), bad.run_zdd("agent")):
        assert_refused(ended, bad, *expected)
    assert await clean.fetchval("SELECT to_regnamespace('zdd')") is None, "something was changed"


# --- the file ---------------------------------------------------------------------------------------------------

Rewrite = tuple[str, str, tuple[str, ...]]

FILES: dict[str, Rewrite] = {
    "unknown key": (
        "deployment: users-api",
        "deploymnt: users-api",
        ("@kubernetes.deploymnt", "did you mean deployment?"),
    ),
    "wrong type": (
        "batch_rows: 1000",
        "batch_rows: many",
        ("@backfill.batch_rows", "expected a valid integer"),
    ),
    "wrong duration": ("soak: 5s", "soak: soon", ("@gates.soak", "expected a duration such as")),
    "missing variable": (
        "${DATABASE_URL}",
        "${DATABASE_URI}",
        ("@database.dsn", "DATABASE_URI is not set", "there is DATABASE_URL"),
    ),
    "a secret in the wrong place": (
        "dual_write: application",
        "dual_write: ${DATABASE_URL}",
        ("@change.dual_write", "got '${DATABASE_URL}'"),
    ),
    "a key that is there twice": ("environment: demo", "name: again", ("name is defined twice",)),
    "not YAML": ("strategy:", "strategy: [", ("not valid YAML",)),
    "refers to itself": ("environment: demo", "environment: &a [*a]", ("refers to itself",)),
    "dangerous DDL": ("ADD COLUMN full_name text", "DROP COLUMN email", ("@change.expand",)),
}


@pytest.fixture
def plan_without_systems(tmp_path: Path) -> CliEnvironment:
    """A plan and no system: what is wrong with the file is found without any."""
    urls = {"DATABASE_URL": f"postgresql://ana:{PASSWORD}@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
    made = CliEnvironment(tmp_path, {**os.environ, **urls, "KUBECONFIG": "/nowhere"})
    made.plan_file.write_text(plan_yaml("column", "application"))
    return made


@pytest.mark.parametrize("case", FILES)
async def test_a_plan_file_that_is_wrong(plan_without_systems: CliEnvironment, case: str) -> None:
    old, new, text = FILES[case]
    plan_without_systems.rewrite(old, new)
    assert_refused(await plan_without_systems.run_zdd("check"), plan_without_systems, *text)


async def test_every_verb_reads_the_plan_first(plan_without_systems: CliEnvironment) -> None:
    plan_without_systems.rewrite("deployment: users-api", "deploymnt: users-api")
    verbs = ("agent", "status", "advance", "pause", "resume", "rollback")
    for ended in await asyncio.gather(*(plan_without_systems.run_zdd(verb) for verb in verbs)):
        assert_refused(ended, plan_without_systems, "@kubernetes.deploymnt")


async def test_no_file_and_a_directory(plan_without_systems: CliEnvironment) -> None:
    plan_without_systems.plan_file.unlink()
    assert_refused(
        await plan_without_systems.run_zdd("check"), plan_without_systems, "there is no file", "plan.example.yaml"
    )
    plan_without_systems.plan_file.mkdir()
    assert_refused(await plan_without_systems.run_zdd("check"), plan_without_systems, "is a directory")


async def test_open_refuses_a_wrong_plan_before_it_paints(plan_without_systems: CliEnvironment) -> None:
    from tests.support.terminal_emulator import run_in_emulator

    plan_without_systems.rewrite("deployment: users-api", "deploymnt: users-api")
    async with run_in_emulator(
        [sys.executable, "-m", "zdd_tui", "open", str(plan_without_systems.plan_file)], plan_without_systems.environ
    ) as terminal:
        assert await terminal.wait_for_exit() == 2
        text = await terminal.wait_for("unknown key", "did you mean deployment?")
        assert text.startswith("zdd: ")
        assert "Traceback" not in text
    assert_refused(
        await plan_without_systems.run_zdd("open"), plan_without_systems, "the dashboard needs a terminal", "zdd status"
    )


# --- the database -----------------------------------------------------------------------------------------------


async def _unused_port(here: CliEnvironment) -> CliEnvironment:
    return here.with_env(DATABASE_URL=f"postgresql://ana:{PASSWORD}@127.0.0.1:{free_port()}/shop")


async def _wrong_password(here: CliEnvironment) -> CliEnvironment:
    parts = urlsplit(here.environ["DATABASE_URL"])
    return here.with_env(DATABASE_URL=parts._replace(netloc=f"postgres:{PASSWORD}@127.0.0.1:{parts.port}").geturl())


async def _no_such_database(here: CliEnvironment) -> CliEnvironment:
    return here.with_env(DATABASE_URL=urlsplit(here.environ["DATABASE_URL"])._replace(path="/nowhere").geturl())


async def _no_dsn(here: CliEnvironment) -> CliEnvironment:
    return here.with_env(DATABASE_URL=f"shop:{PASSWORD}@localhost")


async def _few_rights(here: CliEnvironment) -> CliEnvironment:
    role, dsn = f"app_{secrets.token_hex(4)}", here.environ["DATABASE_URL"]
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute(f"ALTER TABLE users OWNER TO {role}")
    await connection.close()
    parts = urlsplit(dsn)
    return here.with_env(DATABASE_URL=parts._replace(netloc=f"{role}:{PASSWORD}@127.0.0.1:{parts.port}").geturl())


async def _no_table(here: CliEnvironment) -> CliEnvironment:
    here.rewrite("table: public.users", "table: public.userz")
    here.rewrite("ALTER TABLE users", "ALTER TABLE userz")
    here.rewrite("ON users", "ON userz")
    return here


async def _no_column(here: CliEnvironment) -> CliEnvironment:
    here.rewrite("full_name: first_name ||", "full_name: firstname ||")
    return here


async def _json_key(here: CliEnvironment) -> CliEnvironment:
    await here.fetchval("ALTER TABLE users ADD COLUMN doc json NOT NULL DEFAULT '{}'")
    here.rewrite("  dual_write:", "  key: doc\n  dual_write:")
    return here


async def _table_of_another(here: CliEnvironment) -> CliEnvironment:
    bad = await _few_rights(here)
    role = urlsplit(bad.environ["DATABASE_URL"]).username
    await here.fetchval("ALTER TABLE users OWNER TO postgres")
    await here.fetchval(f"CREATE SCHEMA zdd AUTHORIZATION {role}")
    return bad


DATABASES: dict[str, tuple[Callable[[CliEnvironment], Awaitable[CliEnvironment]], tuple[str, ...]]] = {
    "unreachable": (_unused_port, ("ana@127.0.0.1:", "refuses connections", "check host and port")),
    "wrong password": (
        _wrong_password,
        ("does not accept the password of role postgres", "the secret that fills the dsn"),
    ),
    "no such database": (_no_such_database, ("/nowhere is a database that does not exist",)),
    "not a dsn": (_no_dsn, ("is not a usable dsn", "postgresql://user:password@host")),
    "no rights to create the schema": (_few_rights, ("may not create the schema zdd", "GRANT CREATE ON DATABASE")),
    "no such table": (_no_table, ("@change.table", "public.userz", "users")),
    "no such column": (_no_column, ("@change.up", "firstname", "first_name")),
    "a key that has no order": (_json_key, ("@change.key", "json")),
}


@pytest.mark.parametrize("case", DATABASES)
async def test_a_database_that_cannot_run_it(here: CliEnvironment, case: str) -> None:
    make, text = DATABASES[case]
    await assert_refused_by_all(await make(here), here, *text)


async def test_a_table_that_is_another_roles(here: CliEnvironment) -> None:
    bad = await _table_of_another(here)
    for ended in await asyncio.gather(bad.run_zdd("check"), bad.run_zdd("agent")):
        assert_refused(ended, bad, "does not own public.users", "GRANT")
    assert await here.fetchval("SELECT to_regclass('zdd.migration')") is None


async def test_a_pooler_in_transaction_mode(here: CliEnvironment) -> None:
    async with pooling_proxy(here.environ["DATABASE_URL"]) as dsn:
        bad = here.with_env(DATABASE_URL=dsn)
        await assert_refused_by_all(bad, here, "a pooler in transaction mode", "session-mode pool")
        assert_refused(await bad.run_zdd("advance", "--yes"), bad, "a pooler in transaction mode")


@pytest.mark.parametrize("case", ["wrong password", "no rights to create the schema"])
async def test_commands_and_status_say_the_same(here: CliEnvironment, case: str) -> None:
    make, text = DATABASES[case]
    bad = await make(here)
    rights = case == "no rights to create the schema"  # a read is allowed: there is no release
    for ended in await asyncio.gather(*(bad.run_zdd(verb) for verb in ("status", "advance", "rollback"))):
        assert_refused(ended, bad, "has no release users-full-name" if rights else text[-1])


# --- the cluster ------------------------------------------------------------------------------------------------


def _other_config(here: CliEnvironment, **user: str) -> CliEnvironment:
    folder = here.folder / "other"
    folder.mkdir()
    return here.with_env(
        KUBECONFIG=write_config(folder, read(here.environ["KUBECONFIG"])["clusters"][0]["cluster"], **user)
    )


def _bad_token(here: CliEnvironment) -> CliEnvironment:
    return _other_config(here, token=PASSWORD)


def _connection_refused(here: CliEnvironment) -> CliEnvironment:
    return here.with_env(KUBECONFIG=write_config(here.folder, f"https://127.0.0.1:{free_port()}", token=PASSWORD))


def _no_kubeconfig(here: CliEnvironment) -> CliEnvironment:
    return here.with_env(KUBECONFIG=str(here.folder / "nowhere"))


def _not_a_kubeconfig(here: CliEnvironment) -> CliEnvironment:
    path = here.folder / "config"
    path.write_text(f"{PASSWORD}: [\n")
    return here.with_env(KUBECONFIG=str(path))


def _no_deployment(here: CliEnvironment) -> CliEnvironment:
    here.rewrite("deployment: users-api", "deployment: user-api")
    return here


def _no_container(here: CliEnvironment) -> CliEnvironment:
    here.rewrite("container: app", "container: web")
    return here


def _no_context(here: CliEnvironment) -> CliEnvironment:
    here.rewrite("  namespace: default", "  context: prod-eu\n  namespace: default")
    return here


CLUSTERS: dict[str, tuple[Callable[[CliEnvironment], CliEnvironment], tuple[str, ...]]] = {
    "bad token": (_bad_token, ("does not accept the credentials of", "log in to the cluster again")),
    "connection refused": (_connection_refused, ("refuses the connection", "check that the cluster runs")),
    "no kubeconfig": (_no_kubeconfig, ("no kubeconfig at", "KUBECONFIG")),
    "not a kubeconfig": (_not_a_kubeconfig, ("cannot use", "config")),
    "no such deployment": (
        _no_deployment,
        ("no Deployment 'user-api' in namespace 'default'", "kubectl get deployments"),
    ),
    "no such container": (_no_container, ("has no container 'web'", "kubernetes.container", "app")),
    "no such context": (_no_context, ("no context 'prod-eu'", "kubectl config get-contexts")),
}


@pytest.mark.parametrize("case", CLUSTERS)
async def test_a_cluster_that_refuses_us(here: CliEnvironment, case: str) -> None:
    make, text = CLUSTERS[case]
    await assert_refused_by_all(make(here), here, *text)


async def test_open_shows_why_the_release_does_not_begin(here: CliEnvironment) -> None:
    """The agent that it starts refuses the plan; the dashboard shows the error instead of waiting forever."""
    from tests.support.terminal_emulator import run_in_emulator

    bad = _no_deployment(here).with_env(XDG_STATE_HOME=str(here.folder / "state"))
    async with run_in_emulator([sys.executable, "-m", "zdd_tui", "open", str(bad.plan_file)], bad.environ) as terminal:
        text = await terminal.wait_for("no Deployment 'user-api' in namespace 'default'", "kubectl get deployments")
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
    log = (here.folder / "state" / "zdd" / "agent-users-full-name.log").read_text()
    for secret in bad.secrets:
        assert secret not in text + log
    assert await here.fetchval("SELECT to_regnamespace('zdd')") is None


# --- Redis ------------------------------------------------------------------------------------------------------


async def test_redis_that_is_unreachable(here: CliEnvironment) -> None:
    bad = here.with_env(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    await assert_refused_by_all(bad, here, "Redis 127.0.0.1:", "cannot be reached", "flags.url")


async def test_redis_with_a_wrong_password(here: CliEnvironment) -> None:
    port = urlsplit(here.environ["REDIS_URL"]).port
    bad = here.with_env(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
    await assert_refused_by_all(bad, here, "refuses the login", "check user and password")


async def test_all_errors_are_reported_at_once(here: CliEnvironment) -> None:
    bad = _no_deployment((await _unused_port(here)).with_env(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"))
    ended = await bad.run_zdd("check")
    assert_refused(ended, bad, "3 systems cannot run this plan", "refuses connections", "no Deployment", "Redis")
    assert ended.err.count("Fix: ") == 3


async def test_offline_asks_no_system(plan_without_systems: CliEnvironment) -> None:
    ended = await plan_without_systems.run_zdd("check", "--offline")
    assert (ended.code, ended.err) == (0, "")
    without = CliEnvironment(
        plan_without_systems.folder, environment_without(plan_without_systems.environ, "REDIS_URL")
    )
    assert_refused(await without.run_zdd("check", "--offline"), without, "REDIS_URL is not set")


# --- an agent that starts with all in order ---------------------------------------------------------------------


@asynccontextmanager
async def registered(here: CliEnvironment) -> AsyncIterator[None]:
    """A release that is under way."""
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
    yield


async def test_another_plan_of_the_same_name_is_refused_with_the_reason(here: CliEnvironment) -> None:
    async with registered(here):
        here.rewrite("soak: 5s", "soak: 6s")
        ended = await here.run_zdd("agent")
        assert ended.code == 1
        assert "runs with another plan" in ended.err
        assert "\n  Fix: " in ended.err
        ended = await here.run_zdd("advance", "--yes")
        assert ended.code == 1
        assert "is not the plan that release users-full-name runs" in ended.err
        ended = await here.run_zdd("status")
        assert ended.code == 0
        assert "is not the plan of this release" in ended.err
        # Whoever edits the file in the middle of an incident must still be able to stop and to go back.
        ended = await here.run_zdd("rollback", "--yes", "--timeout", "300ms")
        assert ended.code == 4, ended.output
        assert "the rollback uses the plan that it runs" in ended.err
