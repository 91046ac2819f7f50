"""The dashboard with the viewer's role: everything is shown, and a command is refused with its reason (issue 11, 6)."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.command_line import NAME, CliEnvironment
from tests.support.least_privilege import install_database_roles, remove_database_roles
from tests.support.terminal_emulator import run_in_emulator
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.data import create_schema, insert_seed_rows
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor
from zdd_tui.testbed.servers import PostgresServer


@pytest.mark.timeout(200)
async def test_a_viewer_sees_the_release_and_sends_nothing(
    tmp_path: Path, pg: PostgresServer, pg_dsn: str, redis_url: str
) -> None:
    await create_schema(pg_dsn)
    await insert_seed_rows(pg_dsn, 5)
    roles = await install_database_roles(pg, pg_dsn)
    try:
        here = CliEnvironment(tmp_path, {**os.environ, "REDIS_URL": redis_url, "KUBECONFIG": "/x"})
        here.plan_file.write_text(plan_yaml("column", "application"))
        environ = here.environ | {"DATABASE_URL": roles.agent}
        loaded = load_plan(here.plan_file.read_text(), source=str(here.plan_file), environment=environ)
        async with await Store.open(roles.agent) as store:
            await store.migrate()
            await store.register_release(
                loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=Actor("a", "b")
            )
        viewer = here.with_env(DATABASE_URL=roles.viewer)
        for words in (("--read-only",), ("--no-agent",)):
            program = [sys.executable, "-m", "zdd_tui", "open", *words, str(viewer.plan_file)]
            async with run_in_emulator(program, viewer.environ) as terminal:
                await terminal.wait_for(NAME, "expand")
                if words == ("--no-agent",):
                    terminal.press("p")
                    await terminal.wait_for("pause NOT SENT", "operator role")  # the text is wrapped
                terminal.press("q")
                assert await terminal.wait_for_exit() == 0
    finally:
        await remove_database_roles(pg_dsn, roles)
