"""`eval "$(zdd demo --env)"`, then the usual tools as a reader types them (case C8): in a real shell."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zdd_tui.backends.store.client import Store
from zdd_tui.cli.parser import main
from zdd_tui.demo.data import create_schema
from zdd_tui.demo.environment import DemoOptions, Environment
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.demo.run import ENV_FILE, export_lines, published_exports
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor
from zdd_tui.testbed.servers import PostgresServer, RedisServer, _redis_binary


@pytest.fixture
async def env(tmp_path: Path, pg: PostgresServer, redis_instance: RedisServer) -> AsyncIterator[Environment]:
    """What `zdd demo` has written, with the servers of the tests; their database is the one that a demo uses."""
    folder = tmp_path / "zdd-demo-x"
    folder.mkdir()
    made = Environment(folder, DemoOptions(), pg, redis_instance, folder / "it's a kubeconfig")
    made.plan_file.write_text(plan_yaml("column", "application"))
    with published_exports(folder, export_lines([made])):
        yield made


async def run_in_shell(env: Environment, command: str) -> tuple[int, str]:
    """The exit code and the output of a command in a shell that has evaluated the exports and nothing else."""
    tools = f"{env.postgres.programs_folder}:{_redis_binary().parent}"
    clean = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(env.folder), "TMPDIR": str(env.folder.parent)}
    clean |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", f'exports="$({sys.executable} -m zdd_tui demo --env)" && eval "$exports" && {{ {command}; }}',
        env=clean, cwd="/", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await shell.communicate()
    assert shell.returncode is not None
    return shell.returncode, out.decode()


def test_the_exports_of_a_demo_that_has_ended_are_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running, killed = tmp_path / "zdd-demo-a", tmp_path / "zdd-demo-b"
    for folder in (running, killed):
        folder.mkdir()
    script = f"""
import os, signal
from pathlib import Path
from zdd_tui.demo.run import published_exports
with published_exports(Path({str(killed)!r}), ["export NEWER=1"]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert (killed / ENV_FILE).exists(), "it was killed, and deletes nothing"
    with published_exports(running, ["export OLDER=1"]):
        os.utime(running / ENV_FILE, (1, 1))
        assert main(["demo", "--env"]) == 0
        assert capsys.readouterr().out == "export OLDER=1\n"
    assert main(["demo", "--env"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no demo is running on this machine" in shown.err
    assert "Fix: start one with `zdd demo`" in shown.err


@pytest.mark.timeout(120)
async def test_c8_psql_and_redis_cli_as_the_reader_types_them(env: Environment) -> None:
    assert await run_in_shell(env, "psql -XAtc 'SELECT 1'") == (0, "1\n")
    assert (await run_in_shell(env, 'redis-cli -u "$REDIS_URL" PING 2>/dev/null')) == (0, "PONG\n")
    # redis-cli 7 sends an empty user name where the URL has none, and the server refuses it.
    assert env.redis.url.startswith("redis://default:")
    assert await run_in_shell(env, 'test -n "$KUBECONFIG" && printf %s "$KUBECONFIG"') == (0, str(env.kubeconfig))


@pytest.mark.timeout(120)
async def test_c8_zdd_status_takes_the_plan_from_the_environment(
    env: Environment, pg_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await create_schema(pg_dsn)
    environ = env.connection_variables | {"DATABASE_URL": pg_dsn}
    loaded = load_plan(env.plan_file.read_text(), source=str(env.plan_file), environment=environ)
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        await store.register_release(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=Actor("a", "b")
        )
    zdd = f'DATABASE_URL="{pg_dsn}" {sys.executable} -m zdd_tui'
    commands = (f"{zdd} status", f"{zdd} status --json", f"{zdd} tune", f"{zdd} check --offline")
    code, out = await run_in_shell(env, " && ".join(commands))
    assert code == 0, out
    code, out = await run_in_shell(env, f"{zdd} tune speed=50 --timeout 0s")  # no PLAN before KEY=VALUE
    assert "no agent" in out, out
    code, out = await run_in_shell(env, f"{zdd} status {tmp_path}/other.yaml")  # an explicit PLAN wins
    assert code == 2
    assert "there is no file" in out
    code, out = await run_in_shell(env, f"unset ZDD_PLAN; {zdd} status")
    assert code == 2
    assert "no PLAN was given" in out
    assert "ZDD_PLAN" in out
