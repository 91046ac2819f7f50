"""The SQL that ships with a rolling, canary, blue/green or dark launch release: what running code does not survive is
refused with place and hint, by `zdd check`, by an agent before it starts, and found by the doctor."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import CliEnvironment, make_environment
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import strategy_plan_yaml

pytestmark = pytest.mark.timeout(300)

STRATEGIES = ("rolling", "canary", "blue-green", "dark-launch")
RENAME = """-- the marketing department wants it

CREATE INDEX CONCURRENTLY users_email ON users (email);
ALTER TABLE users RENAME COLUMN email TO mail;
"""


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        async with Cluster.connect(made.environ["KUBECONFIG"], None, "default") as cluster:
            await cluster.http.request_json(
                "POST", cluster.path("api/v1", "services"), body=manifests.service_manifest()
            )
        yield made


def write(here: CliEnvironment, sql: str, strategy: str = "rolling") -> Path:
    text = strategy_plan_yaml(strategy, name="r", soak="1s")
    here.plan_file.write_text(f"{text}\nmigrations:\n  - sql/one.sql\n")
    file = here.plan_file.parent / "sql" / "one.sql"
    file.parent.mkdir(exist_ok=True)
    file.write_text(sql)
    return file


async def test_no_such_strategy_carries_a_destructive_statement(here: CliEnvironment) -> None:
    for strategy in STRATEGIES:
        file = write(here, RENAME, strategy)
        bad = await here.run_zdd("check", "--offline")
        assert (bad.code, bad.out) == (2, "")
        assert f"{file}:4: ALTER TABLE users RENAME COLUMN email TO mail" in bad.err
        assert f"this breaks a {strategy} release: " in bad.err
        hint = bad.err.partition("Fix: ")[2]
        assert "make it an expand/contract release:" in hint
        assert '--type "email=' in hint, "what the database would tell"
        command = f"zdd advise --sql {file} --dsn '${{DATABASE_URL}}' --deployment users-api --plan r-expand.yaml"
        assert command in " ".join(hint.split())

    bad = await here.run_zdd("agent")
    assert bad.code == 2
    assert f"{file}:4: ALTER TABLE users RENAME" in bad.err
    assert "mail: email" in bad.err.partition("Fix: ")[2], "the plan's change, now that the type is known"
    assert await here.fetchval("SELECT to_regnamespace('zdd')") is None, "nothing was changed"

    ended = await here.run_zdd("doctor", "--json")
    found = next(each for each in json.loads(ended.out)["pitfalls"] if each["id"] == "breaking-migration")
    assert found["verdict"] == "fail"
    assert f"{file}:4: ALTER TABLE users RENAME COLUMN email TO mail" in found["evidence"][0]["text"]
    assert "zdd advise --sql" in found["evidence"][0]["hint"]


async def test_what_the_database_proves_is_let_through(here: CliEnvironment) -> None:
    write(here, "ALTER TABLE users ALTER COLUMN email SET NOT NULL;")
    bad = await here.run_zdd("check")
    assert bad.code == 2
    assert "sql/one.sql:1: ALTER TABLE users ALTER COLUMN email SET NOT NULL" in bad.err
    await here.fetchval("ALTER TABLE users ADD CONSTRAINT there CHECK (email IS NOT NULL) NOT VALID")
    assert (await here.run_zdd("check")).code == 2, "not validated proves nothing"
    await here.fetchval("ALTER TABLE users VALIDATE CONSTRAINT there")
    good = await here.run_zdd("check")
    assert good.code == 0, good.err
    assert "the SQL that ships with the release is additive: 1 statement" in good.out
    ended = await here.run_zdd("doctor", "--json")
    found = next(each for each in json.loads(ended.out)["pitfalls"] if each["id"] == "breaking-migration")
    assert (found["verdict"], found["evidence"][0]["text"]) == (
        "pass",
        "rolling: running code survives the SQL that ships with it",
    )


async def test_sql_that_is_none_is_one_clear_error(here: CliEnvironment) -> None:
    file = write(here, "ALTER TABLE users ADD nick text;\nALTER TABEL users ADD more text;")
    bad = await here.run_zdd("check", "--offline")
    assert (bad.code, bad.out) == (2, "")
    assert f"{file}:2: PostgreSQL cannot read it: syntax error" in bad.err
    assert "correct the statement" in bad.err.partition("Fix: ")[2]
    file.unlink()
    gone = await here.run_zdd("check", "--offline")
    assert gone.code == 2
    number = here.plan_file.read_text().splitlines().index("  - sql/one.sql") + 1
    assert f"{here.plan_file}:{number}: migrations: there is no file {file}" in gone.err
    assert "relative to the plan file" in gone.err
