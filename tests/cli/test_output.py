"""No control character reaches the terminal, whatever a plan, a database or an error holds."""

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.command_line import NAME, CliEnvironment
from tests.support.terminal_emulator import run_in_emulator
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.output import GuardedStream, escape_controls
from zdd_tui.cli.parser import main
from zdd_tui.demo.data import create_schema, insert_seed_rows
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import Actor

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\r\x08\ud800c"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


@given(st.text(alphabet=st.characters(), max_size=60))
def test_what_is_written_is_safe_and_readable(text: str) -> None:
    out = io.StringIO()
    GuardedStream(out).write(text)
    assert not UNSAFE.search(out.getvalue())
    if text.isascii() and text.isprintable():
        assert out.getvalue() == text


@given(st.text(alphabet=st.characters(), max_size=60))
def test_json_stays_the_same_json(text: str) -> None:
    document = json.dumps({"x": text}, ensure_ascii=False)
    assert json.loads(escape_controls(document)) == {"x": text}


def test_argparse_and_plan_errors(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = tmp_path / "p\x1b[31m.yaml"
    file.write_text('name: x\nstrategy: "a\\eb"\n')
    assert main(["check", str(file)]) == 2
    with pytest.raises(SystemExit):
        main(["st\x1batus"])
    out, err = capfdbinary.readouterr()
    assert b"\x1b" not in out + err
    assert b"\\u001b" in err


@pytest.mark.timeout(300)
async def test_hostile_values_of_the_database_in_every_command(tmp_path: Path, pg_dsn: str, redis_url: str) -> None:
    await create_schema(pg_dsn)
    await insert_seed_rows(pg_dsn, 5)
    environ = {**os.environ, "DATABASE_URL": pg_dsn, "REDIS_URL": redis_url, "KUBECONFIG": "/x\x1b[31m"}
    here = CliEnvironment(tmp_path, environ)
    here.plan_file.write_text(plan_yaml("column", "application"))
    loaded = load_plan(here.plan_file.read_text(), source="plan.yaml", environment=environ)
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        await store.register_release(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=Actor("a", "b")
        )
    text = HOSTILE.replace("\ud800", "")
    for table, column in (("release", "environment"), ("release", "error"), ("release", "cause"), ("step", "note")):
        await here.fetchval(f"UPDATE zdd.{table} SET {column} = $1 RETURNING 1", text)
    await here.fetchval("UPDATE zdd.step SET status = 'started' RETURNING 1")
    await here.fetchval(
        "INSERT INTO zdd.lease (release_id, epoch, holder, host, pid, ttl) SELECT id, 1, $1, $1, 1, 60"
        " FROM zdd.release RETURNING 1", text,
    )  # fmt: skip
    for verb, *options in (
        ("status",), ("status", "--json"), ("check",), ("check", "--offline"), ("doctor",), ("doctor", "--json"),
        ("pause", "--timeout", "1s"), ("advance", "--yes", "--timeout", "1s"), ("tune", "--timeout", "1s"), ("keys",),
        ("agent", "--if-needed"),
    ):  # fmt: skip
        ended = await here.run_zdd(verb, *options) if verb != "keys" else None
        if ended is not None:
            assert not UNSAFE.search(ended.output), (verb, ended.output)
            assert "Traceback" not in ended.err, (verb, ended.err)
            if "--json" in options and ended.out:
                json.loads(ended.out)
    shown = await here.run_zdd("status")
    assert shown.code == 0
    assert NAME in shown.out
    assert "\\u001b]0;owned\\u0007" in shown.out


@pytest.mark.timeout(120)
async def test_an_error_on_a_terminal(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text('environment: "\\e]0;owned\\a"\nname: "\\e[2J"\n')
    async with run_in_emulator([sys.executable, "-m", "zdd_tui", "check", str(plan)], dict(os.environ)) as terminal:
        assert await terminal.wait_for_exit() == 2
        text = await terminal.wait_for("zdd:")
        assert "owned" not in getattr(terminal, "title", "")
        assert "\x1b" not in text
