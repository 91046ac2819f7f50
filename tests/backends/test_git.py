"""Is the plan in version control? Asked of the real git."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from zdd_tui.backends.git import read_file_state
from zdd_tui.model.doctor.facts import FileFacts

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=ana", "-c", "user.email=ana@shop.example", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


async def test_the_states_of_a_file_in_version_control(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: x\n")
    assert (await read_file_state(plan)).value == FileFacts("outside")
    git(tmp_path, "init", "-q")
    assert (await read_file_state(plan)).value == FileFacts("untracked")
    git(tmp_path, "add", "plan.yaml")
    assert (await read_file_state(plan)).value == FileFacts("untracked"), "staged is not committed"
    git(tmp_path, "commit", "-qm", "plan")
    revision = git(tmp_path, "log", "-1", "--format=%h")
    assert (await read_file_state(plan)).value == FileFacts("committed", revision)
    plan.write_text("name: y\n")
    assert (await read_file_state(plan)).value == FileFacts("changed", revision)
    git(tmp_path, "add", "plan.yaml")
    assert (await read_file_state(plan)).value == FileFacts("changed", revision)


async def test_without_git_the_state_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    fact = await read_file_state(tmp_path / "plan.yaml")
    assert fact.value is None
    assert "git is not installed" in fact.unavailable_reason
