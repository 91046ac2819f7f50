"""Starts an agent that outlives the terminal."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zdd_tui.model.errors import ZddError

POLL = 0.5
MEND = "  mend: "


def log_path(release: str, environ: Mapping[str, str]) -> Path:
    """Where the detached agent of a release writes its log (XDG base directory specification)."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".local" / "state")  # noqa: S108
    return Path(state) / "zdd" / f"agent-{release}.log"


@dataclass(frozen=True, slots=True)
class Detached:
    """An agent that was started, and where its own part of the log begins."""

    process: "subprocess.Popen[bytes]"
    log: Path
    offset: int

    async def outcome(self) -> ZddError | None:
        """Waits until it ends, which may be in days; why it could not do its work, None where it did."""
        # Polled: a thread that waits would hold up our own exit.
        while (code := self.process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        if code <= 0:
            return None
        with self.log.open("rb") as file:
            file.seek(self.offset)
            said = file.read().decode(errors="replace")
        return _last_error(said) or ZddError(f"the agent ended with exit code {code}", f"see {self.log}")


def _last_error(said: str) -> ZddError | None:
    """The error with which a command of ours has ended, as it printed it."""
    _, mark, block = said.rpartition("zdd: ")
    lines = block.splitlines()
    mends = [line.removeprefix(MEND) for line in lines if line.startswith(MEND)]
    titles = [line.strip() for line in lines if not line.startswith(MEND)]
    return ZddError("; ".join(titles), "; ".join(mends)) if mark and titles else None


def start_agent(
    plan_file: Path, release: str, region: str = "", *, environ: Mapping[str, str] = os.environ
) -> Detached:
    """Starts `zdd agent` in a session of its own, so that neither a hang-up nor ctrl-c reaches it.

    Secrets go by the environment, never by the command line, where every user of the machine could read them.

    Raises:
        ZddError: the log cannot be written.
    """
    log = log_path(f"{release}-{region}" if region else release, environ)
    there = ["--region", region] if region else []
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as out:
            offset = out.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, "-m", "zdd_tui", "agent", "--if-needed", *there, str(plan_file.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=dict(environ),
            )
    except OSError as error:
        raise ZddError(
            f"no agent could be started: {error}",
            f"make {log.parent} writable, or run `zdd agent {' '.join([*there, str(plan_file)])}` yourself",
        ) from None
    return Detached(process, log, offset)
