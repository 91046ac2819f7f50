"""Directories of migrations and commands of tools: what is read, and every limit."""

import os
import sys
import time
from pathlib import Path

import pytest

from zdd_tui.backends.migrations import directory
from zdd_tui.backends.migrations.directory import list_directory, read_directory
from zdd_tui.backends.migrations.tool_command import run_tool_command, split_command
from zdd_tui.model.errors import PlanError, ZddError


def test_hidden_files_and_linked_folders_are_left_out_and_linked_files_are_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1_a.sql").write_text("SELECT 1")
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "node_modules").mkdir()
    for name in ("sub/2_b.sql", ".hidden/3.sql", "node_modules/4.sql", ".5.sql", "code.py"):
        (folder / name).write_text("SELECT 2")
    (folder / "1_a.sql").symlink_to(outside / "1_a.sql")  # as in a mounted ConfigMap
    (folder / "linked").symlink_to(outside)
    (folder / "sub/loop").symlink_to(folder)
    paths = list_directory(str(folder))
    assert paths == ("1_a.sql", "code.py", "sub/2_b.sql")
    files = read_directory(str(folder), paths, (".sql",))
    assert [file.content for file in files] == [b"SELECT 1", b"", b"SELECT 2"]


def test_directories_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.sql"
    file.write_text("SELECT 1")
    with pytest.raises(PlanError, match="is a file"):
        list_directory(str(file))
    with pytest.raises(PlanError, match="is not there"):
        list_directory(str(tmp_path / "none"))
    monkeypatch.setattr(directory, "MAX_FILES", 2)
    for name in "bc":
        (tmp_path / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(PlanError, match="has more than 2 files"):
        list_directory(str(tmp_path))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> None:
        read_directory(str(tmp_path), (name,), (".sql",))

    (tmp_path / "gone.sql").symlink_to(tmp_path / "nothing")
    with pytest.raises(PlanError, match=r"there is no file .*gone\.sql"):
        read("gone.sql")
    os.mkfifo(tmp_path / "pipe.sql")
    with pytest.raises(PlanError, match="is no regular file, but a pipe"):
        read("pipe.sql")
    with pytest.raises(PlanError, match="has control characters"):
        read("a\nb.txt")
    with pytest.raises(PlanError, match="is not UTF-8"):
        read(os.fsdecode(b"\xff.txt"))
    (tmp_path / "a.sql").write_bytes(b"x" * 100)
    monkeypatch.setattr(directory, "MAX_TOTAL_BYTES", 99)
    with pytest.raises(PlanError, match="the files have more than"):
        read("a.sql")
    monkeypatch.setattr(directory, "MAX_SQL_BYTES", 99)
    with pytest.raises(PlanError, match=r"a\.sql is larger than"):
        read("a.sql")


def is_ended(pid: str) -> bool:
    child = Path("/proc", pid, "status")
    return not child.exists() or "State:\tZ" in child.read_text()


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_a_command_runs_in_the_directory_without_a_shell(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), sys.argv[1:]); print('log', file=sys.stderr)"
    output = await run_tool_command((*python(code), "$HOME; exit 1", "*"), str(tmp_path))
    assert output == f"{tmp_path} ['$HOME; exit 1', '*']\n"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("/no/such/program",), "/no/such/program cannot be started: No such file"),
        (
            python("import sys; print('postgresql://u:hunter2@h/d', file=sys.stderr); sys.exit(3)"),
            r"failed: postgresql://u:\*\*\*@h/d",
        ),
        (python("import sys; sys.exit(3)"), "failed: exit code 3"),
        (python("while True: print('x' * 1000)"), "printed more than 1 kB"),
        (python("import sys; sys.stdout.buffer.write(b'\\xff')"), "printed no UTF-8 text"),
    ],
)
async def test_a_command_that_fails(command: tuple[str, ...], text: str, tmp_path: Path) -> None:
    with pytest.raises(ZddError, match=text) as error:
        await run_tool_command(command, str(tmp_path), max_bytes=1024)
    assert "hunter2" not in str(error.value).replace(" ".join(command), "")
    assert error.value.hint


async def test_a_command_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    code = "import os, subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    pids = tmp_path / "pids"
    code = code.replace("print(", f"print(file=open({str(pids)!r}, 'w'), *[").replace(".pid, flush", ".pid], flush")
    began = time.monotonic()
    with pytest.raises(ZddError, match="did not finish within 2 s"):
        await run_tool_command(python(code), str(tmp_path), timeout=2)
    assert time.monotonic() - began < 30
    assert is_ended(pids.read_text().strip())


def test_the_words_of_a_command() -> None:
    assert split_command("python 'manage it.py'") == ("python", "manage it.py")
    assert split_command("venv/bin/alembic -c a.ini")[0] == os.path.abspath("venv/bin/alembic")
    with pytest.raises(ZddError, match="No closing quotation"):
        split_command("python 'a")
    with pytest.raises(ZddError, match="is empty"):
        split_command(" ")
