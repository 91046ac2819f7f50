"""The state of a file in version control, read with the git command."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from zdd_tui.model.doctor.facts import Fact, FileFacts

GIT_TIMEOUT = 5.0


async def read_file_state(file: Path) -> Fact[FileFacts]:
    """Reads whether a file is committed, changed, untracked or outside of a repository."""
    try:
        inside, _, errors = await _run_git(file, "rev-parse", "--is-inside-work-tree")
        if inside != 0:
            if "not a git repository" in errors:
                return Fact(FileFacts("outside"))
            return Fact(None, f"git failed: {errors.splitlines()[0] if errors else f'exit code {inside}'}")
        _, revision, _ = await _run_git(file, "log", "-1", "--format=%h", "--", file.name)
        tracked, _, _ = await _run_git(file, "ls-files", "--error-unmatch", "--", file.name)
        if tracked != 0 or not revision:
            return Fact(FileFacts("untracked"))
        changed, _, _ = await _run_git(file, "diff", "--quiet", "HEAD", "--", file.name)
        return Fact(FileFacts("committed" if changed == 0 else "changed", revision))
    except FileNotFoundError:
        return Fact(None, "git is not installed: the state of the plan in version control is unknown")
    except TimeoutError:
        return Fact(None, f"git did not respond within {GIT_TIMEOUT:g} s")


async def _run_git(file: Path, *arguments: str) -> tuple[int, str, str]:
    """Runs a git command in the folder of the file, read only; returns its exit code, output and errors."""
    folder = str(file.parent) or "."
    environ = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    process = await asyncio.create_subprocess_exec(
        "git", "-C", folder, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ
    )
    try:
        async with asyncio.timeout(GIT_TIMEOUT):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(errors="replace").strip(), errors.decode(errors="replace").strip()
