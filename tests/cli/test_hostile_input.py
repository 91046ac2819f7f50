"""Hostile input for every verb: files, addresses, values of options, and the process around them.

Whatever is given: no traceback, no password, no control character, a documented exit code; and for bad input one error
with a `Fix:` line. The commands run in this process, where nothing of them is replaced; what depends on the process
itself (its streams, its locale, its home) runs in one of its own.
"""

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from zdd_tui.cli.parser import build_parser, main

pytestmark = pytest.mark.timeout(300)

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
DOCUMENTED_CODES = frozenset({0, 1, 2, 4, 130})
PASSWORD = "wr0ngSecret7"
EXAMPLE = Path(__file__).parents[2] / "config" / "plan.example.yaml"
CLOSED = "127.0.0.1:1"
"""Nothing listens on it."""


class Terminal(io.StringIO):
    """What the verbs of the dashboard require before they read anything."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    is_usage: bool


def run(argv: list[str]) -> Ended:
    """One command, in this process."""
    out, err, stdin = Terminal(), Terminal(), sys.stdin
    is_usage = False
    sys.stdin = Terminal()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(argv)
            except SystemExit as ended:  # argparse
                code, is_usage = int(ended.code or 0), True
    finally:
        sys.stdin = stdin
    return Ended(code, out.getvalue(), err.getvalue(), is_usage)


def assert_harmless(argv: list[str], ended: Ended) -> None:
    """What holds for every command, whatever it was given."""
    shown = ended.out + ended.err
    case = f"{[part[:60] for part in argv]}: {ended.code} {shown[-600:]!r}"
    assert ended.code in DOCUMENTED_CODES, case
    assert "Traceback" not in shown, case
    assert not UNSAFE.search(shown), case
    assert PASSWORD not in shown, case
    if ended.code == 2 and not ended.is_usage:
        # With --json the error is part of the document on stdout.
        assert "\n  Fix: " in (ended.err or json.loads(ended.out)["error"]), case
        assert not ended.err or ended.err.startswith("zdd: "), case


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; no system can be reached."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("ZDD_PLAN", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ana:{PASSWORD}@{CLOSED}/shop")
    monkeypatch.setenv("REDIS_URL", f"redis://:{PASSWORD}@{CLOSED}/0")
    (tmp_path / "plan.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "s.sql").write_text("ALTER TABLE users ADD COLUMN c int")
    (tmp_path / "dir").mkdir()
    return tmp_path


# --- files --------------------------------------------------------------------------------------------------------

CONTENTS = {
    "not UTF-8": b"name: \xff\xfe\n",
    "empty": b"",
    "blank": b"\n \n",
    "UTF-16": "name: x\n".encode("utf-16"),
    "NUL": b"name: a\0b\n",
    "ESC": b"name: a\x1b[31mb\n",
    "an escaped key": b'"na\\e[31m\\u202eme": x\n',
    "an escaped value": b'name: "a\\a\\0\\x9b\\u202eb"\n',
    "a lone surrogate": b'name: "\\ud800"\n',
    "deep list": b"[" * 20_000,
    "deep mapping": b"".join(b" " * depth + b"a:\n" for depth in range(300)),
    "deep flow": b"{a: " * 5000,
    "aliases": b"a: &a [x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b",".join([b"*%c" % letter] * 8)) for letter in range(97, 120)
    ),
    "a huge integer": b"name: x\nbackfill: {batch_rows: " + b"9" * 6000 + b"}\n",
    "a huge number": b"name: x\nbackfill: {batch_rows: 1e999999}\n",
    "a tag": b"!!python/object/apply:os.system ['true']\n",
    "a list": b"- a\n- b\n",
    "a word": b"hello\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "null": b"~\n",
    "a date": b"2001-01-01\n",
    "keys that are numbers": b"1: 2\n",
    "a key that is a list": b"? [a]\n: b\n",
    "not a number": b"name: .nan\n",
    "an unknown alias": b"*x\n",
    "an open quote": b"name: 'x\n",
    "every byte": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00\x00",
    "a long line": b"name: " + b"x" * 400_000 + b"\n",
    "a password": f"database: {{dsn: 'postgresql://a:{PASSWORD}@h/x', port: 1}}\n".encode(),
    "deep SQL": b"SELECT " + b"(" * 20_000 + b"1" + b")" * 20_000,
    "wrong SQL": b"ALTER TABL t ADD c int;\x1b[31m",
    "too large": b"x" * (9 * 1024 * 1024),
}  # fmt: skip
FEW = ("not UTF-8", "empty", "ESC", "an escaped key", "deep flow", "a huge integer")

MAY_SUCCEED = {"keys": {"empty", "blank", "null"}}
"""An empty keymap is one without changes."""


def make_paths(folder: Path) -> dict[str, str]:
    """What may be given in place of a file."""
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    return {
        "a directory": str(folder / "dir"),
        "a pipe": str(folder / "fifo"),
        "a device without an end": "/dev/zero",
        "no file": str(folder / "none"),
        "a dangling link": str(folder / "dangling"),
        "a link to itself": str(folder / "loop"),
        "a long name": str(folder / ("x" * 300)),
        "a name with ESC": "no\x1b[31m\x07file",
        "a name with NUL": "a\0b",
        "a name that is not UTF-8": "a\udcffb",
        "below a file": str(folder / "s.sql" / "x"),
        "an empty name": "",
    }


PLAN_VERBS: dict[str, list[str]] = {
    verb: [verb, "@", *options]
    for verb, *options in (
        ("check",), ("status",), ("agent",), ("open",), ("doctor",), ("rehearse",), ("run", "--yes"), ("tune",),
        ("pause",), ("resume",), ("advance", "--yes"), ("rollback", "--yes"),
    )
}  # fmt: skip
READERS: dict[str, list[str]] = PLAN_VERBS | {
    "check --offline": ["check", "--offline", "@"],
    "list": ["list", "--config", "@"],
    "fleet": ["fleet", "--config", "@"],
    "keys": ["keys", "--check", "@"],
    "keys --keymap": ["keys", "--keymap", "@"],
    "advise": ["advise", "--sql", "@"],
    "advise --manifest": ["advise", "--manifest", "@"],
    "plan": ["plan", "@"],
    "plan --from": ["plan", "--from", "@"],
    "init": ["init", "new.yaml", "--non-interactive", "--sql", "@"],
    "init --manifest": ["init", "new.yaml", "--non-interactive", "--manifest", "@"],
    "replay": ["replay", "@"],
    "demo": ["demo", "--headless", "--migration", "@"],
}


def verbs_of_parser() -> set[str]:
    actions = build_parser()._actions
    return {name for each in actions if isinstance(each, argparse._SubParsersAction) for name in each.choices}


def test_every_verb_has_its_cases() -> None:
    assert {argv[0] for argv in READERS.values()} == verbs_of_parser()


@pytest.mark.parametrize("reader", READERS)
def test_files(reader: str, here: Path) -> None:
    paths = make_paths(here)
    names = CONTENTS if reader in ("check --offline", "list", "keys", "advise", "advise --manifest", "replay") else FEW
    for number, name in enumerate(names):
        paths[name] = str(here / f"file{number}")
        Path(paths[name]).write_bytes(CONTENTS[name])
    if reader == "demo":
        del paths["an empty name"]  # it runs the demo, with a migration of its own
    for name, path in paths.items():
        argv = [path if part == "@" else part for part in READERS[reader]]
        ended = run(argv)
        assert_harmless(argv, ended)
        allowed = {0, 2} if name in MAY_SUCCEED.get(argv[0], ()) else {2}
        assert ended.code in allowed, (reader, name, ended)
    assert not (here / "new.yaml").exists()


# --- addresses ----------------------------------------------------------------------------------------------------

ADDRESSES = {
    "userinfo": f"postgresql://ana:{PASSWORD}@{CLOSED}/x",
    "query": f"postgresql://ana@{CLOSED}/x?password={PASSWORD}",
    "percent-encoded": f"postgresql://ana:{PASSWORD}%2F%40b@{CLOSED}/x",
    "not encoded": f"postgresql://ana:{PASSWORD}/a@b?c#d@{CLOSED}/x",
    "a port too high": f"postgresql://ana:{PASSWORD}@127.0.0.1:99999/x",
    "a port that is a word": f"postgresql://ana:{PASSWORD}@127.0.0.1:abc/x",
    "half an IPv6 address": f"postgresql://ana:{PASSWORD}@[::1/x",
    "key=value": f"host=127.0.0.1 port=1 user=ana password={PASSWORD}",
    "sslpassword": f"postgresql://ana@{CLOSED}/x?sslmode=require&sslpassword={PASSWORD}&sslkey=/none",
    "another scheme": f"mysql://ana:{PASSWORD}@{CLOSED}/x",
    "a wrong sslmode": f"postgresql://ana:{PASSWORD}@{CLOSED}/x?sslmode=bogus",
    "no root certificate": f"postgresql://ana:{PASSWORD}@{CLOSED}/x?sslmode=verify-full&sslrootcert=/none",
    "a newline": f"postgresql://ana:{PASSWORD}\n@{CLOSED}/x",
    "ESC": f"postgresql://a\x1b[31mna:{PASSWORD}@{CLOSED}/x\x1b[0m",
    "a space": f"postgresql://ana:{PASSWORD} b@{CLOSED}/x",
    "quotes": f"postgresql://ana:{PASSWORD}'b\"c@{CLOSED}/x",
    "unknown settings": f"postgresql://ana:{PASSWORD}@{CLOSED}/x?bogus=1&options=-c%20x",
    "not UTF-8": f"postgresql://ana:{PASSWORD}\udcff@{CLOSED}/x",
    "no host": f"postgresql://ana:{PASSWORD}@/x?host=/none",
    "two hosts": f"postgresql://ana:{PASSWORD}@{CLOSED},127.0.0.1:2/x",
    "upper case": f"POSTGRESQL://ana:{PASSWORD}@{CLOSED}/x",
    "no user": f"postgresql://:{PASSWORD}@{CLOSED}/x",
    "a wrong target": f"postgresql://ana:{PASSWORD}@{CLOSED}/x?target_session_attrs=bogus",
    "empty": "",
}
CONNECTING = {verb: ["plan.yaml" if part == "@" else part for part in argv] for verb, argv in PLAN_VERBS.items()}
DSN_OPTIONS = {
    "list": ["list", "--dsn", "@"],
    "list DSN": ["list", "@"],
    "advise": ["advise", "--sql", "s.sql", "--dsn", "@"],
    "advise --plan": ["advise", "--sql", "s.sql", "--dsn", "@", "--plan", "new.yaml", "--force"],
    "plan": ["plan", "s.sql", "--dsn", "@"],
    "init": ["init", "new.yaml", "--force", "--non-interactive", "--sql", "s.sql", "--dsn", "@"],
    "check --scratch-dsn": ["check", "plan.yaml", "--scratch-dsn", "@"],
}


@pytest.mark.parametrize("verb", [verb for verb in CONNECTING if verb != "open"])
def test_addresses_of_a_plan(verb: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("userinfo", "query", "not encoded")
    for name, address in ADDRESSES.items():
        if verb not in ("status", "check") and name not in few:
            continue
        redis = address.replace("postgresql", "redis")
        # In the environment, and, where it can be written there, in the plan itself.
        monkeypatch.setenv("DATABASE_URL", address)
        monkeypatch.setenv("REDIS_URL", redis)
        texts = [EXAMPLE.read_text()]
        if name != "not UTF-8":
            written = texts[0].replace("${DATABASE_URL}", json.dumps(address))
            texts.append(written.replace("${REDIS_URL}", json.dumps(redis)))
        for text in texts:
            (here / "plan.yaml").write_text(text)
            ended = run(CONNECTING[verb])
            assert_harmless([*CONNECTING[verb], name], ended)
            assert ended.code == (1 if verb == "doctor" and not ended.err else 2), (verb, name, ended)


@pytest.mark.parametrize("option", DSN_OPTIONS)
def test_addresses_on_the_command_line(option: str, here: Path) -> None:
    for address in ADDRESSES.values():
        argv = [part.replace("@", address) if part == "@" else part for part in DSN_OPTIONS[option]]
        assert_harmless(argv, run(argv))
        if (made := here / "new.yaml").exists():
            assert PASSWORD not in made.read_text(), "a plan holds no password"


def test_an_address_in_the_configuration(here: Path) -> None:
    for name, address in ADDRESSES.items():
        if name == "not UTF-8":
            continue
        (here / "c.toml").write_text(f"[[databases]]\nname = 'x'\ndsn = {json.dumps(address)}\n")
        argv = ["list", "--config", str(here / "c.toml")]
        assert_harmless([*argv, name], run(argv))


# --- values of options --------------------------------------------------------------------------------------------

VALUES = ("a\x1b[31m\u202eb", "", "a\0b", "a\udcffb", "-1", "9" * 5000, "x" * 5000, "${NOPE}")
OPTIONS: tuple[list[str], ...] = (
    ["check", "plan.yaml", "--offline", "--region", "@"],
    ["status", "plan.yaml", "--wait", "@"],
    ["status", "plan.yaml", "--timeout", "@"],
    ["status", "plan.yaml", "--region", "@"],
    ["advance", "plan.yaml", "--yes", "--reason", "@"],
    ["advance", "plan.yaml", "--confirm", "@"],
    ["run", "plan.yaml", "--until", "@"],
    ["tune", "plan.yaml", "@"],
    ["tune", "plan.yaml", "@=@"],
    ["tune", "plan.yaml", "speed=@"],
    ["tune", "plan.yaml", "batch_rows=@k"],
    ["doctor", "plan.yaml", "--answer", "@", "--reason", "@"],
    ["rehearse", "plan.yaml", "--scale", "@"],
    ["rehearse", "plan.yaml", "--rows", "@"],
    ["fleet", "--theme", "@"],
    ["open", "plan.yaml", "--theme", "@", "--config", "@"],
    ["open", "plan.yaml", "--unlock-for", "@", "--region", "@"],
    ["advise", "--sql", "s.sql", "--up", "@"],
    ["advise", "--sql", "s.sql", "--up", "c=@"],
    ["advise", "--sql", "s.sql", "--regions", "@"],
    ["advise", "--sql", "s.sql", "--name", "@"],
    ["advise", "--image", "a:@", "a:2", "--deployment", "@", "--name", "@"],
    ["plan", "s.sql", "--name", "@", "--environment", "@"],
    ["plan", "s.sql", "--deployment", "@", "--image", "@"],
    ["plan", "s.sql", "-o", "@/x"],
    ["plan", "--from", ".", "--tool", "@"],
    ["plan", "--from", ".", "--version-table", "@", "--tool-command", "@"],
    ["init", "@/x", "--non-interactive", "--image", "a:1", "a:2", "--deployment", "d", "--name", "n"],
    ["replay", "s.sql", "--speed", "@"],
    ["replay", "s.sql", "--at", "@"],
    ["demo", "--strategy", "@"],
    ["demo", "--inject", "@"],
    ["demo", "--regions", "@"],
    ["demo", "--rows", "@", "--strategy", "none"],
    ["@"],
)


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_values_of_options(words: list[str]) -> None:
    for value in VALUES:
        if words == ["@"] and (not value or value[0] in "-$"):
            continue  # not a verb, but options and databases of the list of releases, which opens
        argv = [part.replace("@", value) for part in words]
        assert_harmless(argv, run(argv))


# --- the process --------------------------------------------------------------------------------------------------


def test_streams_locale_and_home(here: Path) -> None:
    """A reader that has closed the pipe is no error; a locale without UTF-8 loses no output; a home is not needed."""
    (here / "plan.yaml").write_text(EXAMPLE.read_text().replace("team users", "Größe ✔"))
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), "/proc/none")
    zdd = f"{sys.executable} -m zdd_tui"
    scripts = {
        f"{zdd} keys | head -0": 0,
        f"{zdd} --help | head -0": 0,
        f"{zdd} check --offline plan.yaml | head -0": 0,
        f"{zdd} plan s.sql | head -0": 0,
        f"{zdd} check --offline plan.yaml >&-": 0,
        f"LC_ALL=C LANG=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {zdd} check --offline plan.yaml": 0,
        f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {zdd} status plan.yaml": 2,
        f"{zdd} check --offline plan.yaml < /dev/null > /dev/full": 2,
    }
    started = {
        script: subprocess.Popen(
            ["/bin/bash", "-o", "pipefail", "-c", script],
            env={**os.environ, **homes, "PYTHONUNBUFFERED": ""}, cwd=here,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for script in scripts
    }  # fmt: skip
    for script, process in started.items():
        out, err = process.communicate(timeout=200)
        shown = (out + err).decode(errors="replace")
        assert "Traceback" not in shown, script
        assert "Exception ignored" not in shown, script
        assert PASSWORD not in shown, script
        assert not UNSAFE.search(shown), script
        assert process.returncode == scripts[script], (script, shown)
        assert ("Fix: " in shown) == (process.returncode == 2), (script, shown)
