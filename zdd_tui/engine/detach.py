"""Starts an agent that outlives the terminal."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from zdd_tui.model.errors import ZddError


def log_path(release: str, environ: Mapping[str, str]) -> Path:
    """Where the detached agent of a release writes its log (XDG base directory specification)."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".local" / "state")  # noqa: S108
    return Path(state) / "zdd" / f"agent-{release}.log"


def start_agent(plan_file: Path, release: str, *, environ: Mapping[str, str] = os.environ) -> tuple[int, Path]:
    """Starts `zdd agent` in a session of its own, so that neither a hang-up nor ctrl-c reaches it.

    Secrets go by the environment, never by the command line, where every user of the machine could read them.

    Returns:
        the process id and the log.

    Raises:
        ZddError: the log cannot be written.
    """
    log = log_path(release, environ)
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "zdd_tui", "agent", "--if-needed", str(plan_file.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=dict(environ),
            )
    except OSError as error:
        raise ZddError(
            f"no agent could be started: {error}",
            f"make {log.parent} writable, or run `zdd agent {plan_file}` yourself",
        ) from None
    # Whether this one or another gets the lease, the store decides; we only must not leave a zombie or a warning.
    process.returncode = 0
    return process.pid, log
