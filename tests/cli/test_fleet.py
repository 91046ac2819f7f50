"""`zdd`, `zdd list` and the list on a real terminal, with several databases of one server."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import asyncpg
import pytest

from tests.support.fleet_databases import PLAN, PLAN_NAME, fresh_databases, register_regions
from tests.support.store import password_of
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.cli.fleet import list_releases
from zdd_tui.cli.parser import add_default_verb, main
from zdd_tui.dashboard.live_fleet import LiveFleet
from zdd_tui.model.fleet.config import FleetDatabase, FleetSettings
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer


@dataclass
class ConfiguredFleet:
    """A configuration with two regions, a database without a release, and one that does not respond."""

    folder: Path
    environ: dict[str, str]
    password: str


@pytest.fixture
async def fleet(pg: PostgresServer, tmp_path: Path) -> AsyncIterator[ConfiguredFleet]:
    async with fresh_databases(pg, 3) as dsns:
        variables = await register_regions(dsns[:2])
        variables |= {"EMPTY_URL": dsns[2], "GONE_URL": f"postgresql://u:pw-gone@127.0.0.1:{free_port()}/x"}
        folder = tmp_path / "config" / "zdd"
        folder.mkdir(parents=True)
        entries = (("shop-eu", "EU_DATABASE_URL"), ("shop-us", "US_DATABASE_URL"), ("empty", "EMPTY_URL"),
                   ("gone", "GONE_URL"), ("unset", "NEVER_SET_URL"))  # fmt: skip
        (folder / "config.toml").write_text(
            "".join(f'[[database]]\nname = "{name}"\ndsn = "${{{variable}}}"\n' for name, variable in entries)
        )
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}
        environ = {name: value for name, value in os.environ.items() if name != "ZDD_PLAN"}
        yield ConfiguredFleet(tmp_path, environ | variables | home, password_of(dsns[0]))


def run(environ: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "zdd_tui", *arguments]
    return subprocess.run(
        argv, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )


def test_a_list_has_a_row_for_each_release_and_for_each_database_without_an_answer(fleet: ConfiguredFleet) -> None:
    text = run(fleet.environ, "list")
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("2 releases, 5 databases, 1 needs you, 2 not responding\n")
    assert fleet.password not in text.stdout
    assert "pw-gone" not in text.stdout
    assert "refuses connections" in text.stdout
    assert "NEVER_SET_URL is not set" in text.stdout
    document = json.loads(run(fleet.environ, "list", "--json").stdout)
    rows = {row["database"]: row for row in document}
    assert list(rows)[:2] == ["gone", "unset"]
    assert rows["shop-us"]["region"] == "us"
    assert rows["shop-us"]["waits_for"] == "an agent"
    assert rows["shop-eu"]["state"] == "done", "an ended region stays beside the one that has not ended"
    assert rows["empty"]["release"] is None
    assert rows["gone"]["hint"] == "check host and port, and that the server runs"


async def test_a_release_that_was_rolled_back_is_listed_with_its_cause(fleet: ConfiguredFleet) -> None:
    connection = await asyncpg.connect(fleet.environ["US_DATABASE_URL"])
    await connection.execute(
        "UPDATE zdd.release SET state = 'rolled-back', cause = 'errors 4 %', finished_at = clock_timestamp()"
    )
    await connection.close()
    settings = FleetSettings((FleetDatabase("us", fleet.environ["US_DATABASE_URL"]),))
    out = StringIO()
    assert await asyncio.to_thread(list_releases, settings, as_json=False, history=False, out=out) == 0
    assert out.getvalue().startswith("1 release, 1 database, 1 rolled back\n")
    assert "guard: errors 4 %" in out.getvalue()
    live = LiveFleet(lambda: settings, lambda plan, release_id: pytest.fail("nothing is opened"))
    live.resume()
    try:
        for _ in range(100):
            if live.fleet().active and not live.fleet().pending:
                break
            await asyncio.sleep(0.05)
        assert [row.label for row in live.fleet().active] == ["ROLLED BACK"]
    finally:
        await asyncio.to_thread(live.stop)


def test_a_plan_in_the_environment_is_a_fleet(fleet: ConfiguredFleet, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    environ = fleet.environ | {"XDG_CONFIG_HOME": str(tmp_path / "none"), "ZDD_PLAN": str(plan)}
    rows = json.loads(run(environ, "list", "--json").stdout)
    assert [(row["database"], row["release"]) for row in rows] == [("eu", PLAN_NAME), ("us", PLAN_NAME)]


def test_a_newcomer_is_told_what_to_write_and_how_to_start_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ZDD_PLAN", raising=False)
    for arguments in ([], ["list"]):
        assert main(arguments) == 2
        text = capsys.readouterr().err
        assert f"there is no file {tmp_path}/zdd/config.toml" in text
        assert '[[database]]\n    name = "shop-eu"\n    dsn = "${SHOP_EU_DATABASE_URL}"' in text
        assert "zdd demo" in text


def test_without_a_terminal_the_list_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["--dsn", "postgresql://nobody@127.0.0.1:1/x"]) == 2
    assert "use `zdd list` in scripts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], ["fleet"]),
        (["--dsn", "x"], ["fleet", "--dsn", "x"]),
        (["postgresql://x/y"], ["fleet", "postgresql://x/y"]),
        (["${DATABASE_URL}"], ["fleet", "${DATABASE_URL}"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        (["status", "x"], ["status", "x"]),
    ],
)
def test_the_verb_that_is_left_out(typed: list[str], meant: list[str]) -> None:
    assert add_default_verb(typed) == meant


async def press_until(terminal: Emulator, key: str, wanted: str) -> None:
    """Repeats a key that has no effect on the wanted screen."""
    for _ in range(30):
        terminal.press(key)
        with suppress(AssertionError):
            await terminal.wait_for(wanted, seconds=1.5)
            return
    await terminal.wait_for(wanted)


async def test_an_operator_filters_opens_switches_the_region_and_comes_back(fleet: ConfiguredFleet) -> None:
    argv = [sys.executable, "-m", "zdd_tui", "--no-bell"]
    async with run_in_emulator(argv, fleet.environ, columns=120, rows=36) as terminal:
        await terminal.wait_for("NO ANSWER", "gone", "eu 1/2", "us 2/2", "NO RELEASE")
        terminal.press("/shop-eu")
        await terminal.wait_for("1 of")
        await press_until(terminal, "\r", "opens region us")  # the first one ends typing, the next one opens
        # Without a plan file: the copy that is stored with the release, the addresses from the environment.
        await terminal.wait_for(PLAN_NAME, "region eu 1/2", "✔ DONE", "> opens region us, the one after this")
        terminal.press("q")
        await terminal.wait_for("region us follows")
        terminal.press(">")
        await terminal.wait_for("region us 2/2", "PLANNED", "agent none")
        terminal.press("R")
        await terminal.wait_for("region us 2/2", "Enter confirm")
        terminal.press("\x1b")
        await terminal.wait_for("PLANNED", without="Enter confirm")
        terminal.press("f")
        await terminal.wait_for("/shop-eu", "f back")
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
        assert fleet.password not in terminal.text
