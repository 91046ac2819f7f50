"""A container as a process: its command and environment by the API's rules, its start and its end."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_objects, get_text
from zdd_tui.testbed.kubelet.zygote import ForkedProcess, Zygote
from zdd_tui.testbed.processes import spawn

DEFAULT_PORT = 8080
PREVIOUS_SUFFIX = ".previous"
"""In place of a log's own suffix: what the process before the present one wrote."""
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.\-][A-Za-z0-9_.\-]*)\)")


class ConfigError(Exception):
    """The container cannot be made from its spec; the text is what the waiting state shows."""


def container_port(container: JsonObject) -> int:
    """The port that the application listens on: $PORT, the first containerPort, or 8080."""
    for item in get_objects(container, "env"):
        if get_text(item, "name") == "PORT" and get_text(item, "value").isdigit():
            return int(get_text(item, "value"))
    ports = get_objects(container, "ports")
    return get_number(ports[0], "containerPort", default=DEFAULT_PORT) if ports else DEFAULT_PORT


def base_environment() -> dict[str, str]:
    """What every process gets: nothing but the PATH, HOME and locale of ours leaks in."""
    own = {key: os.environ[key] for key in ("HOME", "LANG", "LC_ALL", "PYTHONPATH", "TZ") if key in os.environ}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return own | {"PYTHONUNBUFFERED": "1"}


def container_environment(
    pod: JsonObject, container: JsonObject, address: str, reported: str, node: str
) -> dict[str, str]:
    """The process's whole environment.

    Raises:
        ConfigError: a value comes from where we cannot read it (ConfigMap, Secret).
    """
    own = base_environment() | {
        "POD_NAME": get_text(pod, "metadata", "name"),
        "POD_IP": address,
        "HOSTNAME": get_text(pod, "metadata", "name"),
        "IMAGE": get_text(container, "image"),
        "PORT": str(container_port(container)),
    }
    if container.get("envFrom"):
        raise ConfigError("envFrom is not supported")
    fields = {
        "metadata.name": get_text(pod, "metadata", "name"),
        "metadata.namespace": get_text(pod, "metadata", "namespace"),
        "metadata.uid": get_text(pod, "metadata", "uid"),
        "spec.nodeName": node,
        "spec.serviceAccountName": get_text(pod, "spec", "serviceAccountName"),
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": reported,
    }
    for item in get_objects(container, "env"):
        name, source = get_text(item, "name"), get_object(item, "valueFrom")
        if not source:
            own[name] = expand_variables(get_text(item, "value"), own)
            continue
        path = get_text(source, "fieldRef", "fieldPath")
        key = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
        if key:
            own[name] = get_text(pod, "metadata", key[1], key[2])
        elif path in fields:
            own[name] = fields[path]
        else:
            raise ConfigError(f"env {name}: only value and fieldRef are supported")
    return own


def expand_variables(value: str, env: dict[str, str]) -> str:
    """``$(NAME)`` by the API's rules: what is not known stays as it is, ``$$`` is a dollar."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else env.get(match[1], match[0])

    return _REFERENCE.sub(replace, value)


def container_command(container: JsonObject, env: dict[str, str]) -> list[str]:
    """The argument vector; ``python`` is the interpreter that runs us.

    Raises:
        ConfigError: there is no command, and we have no image to take one from.
    """
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    argv = [expand_variables(str(word), env) for word in words]
    if not argv:
        raise ConfigError("no command specified")
    if argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    return argv


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended. `signal` is 0 unless one ended it; `code` is then 128 + signal, as in a shell."""

    code: int
    signal: int


class Process:
    """A running container. `exited` is set with no polling (pidfd_open(2))."""

    def __init__(
        self, child: subprocess.Popen[bytes] | ForkedProcess, env: dict[str, str], cwd: Path, mark: Path
    ) -> None:
        self._child = child
        self._mark_file = mark
        self.env = env
        self.cwd = cwd
        self.exited = asyncio.Event()
        self._pidfd = os.pidfd_open(child.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def start(cls, argv: list[str], env: dict[str, str], cwd: Path, log: Path, zygote: Zygote) -> "Process":
        """Start the process; it dies with us. The log of the previous process is kept as `previous`, as a kubelet does.

        What the zygote has warm is forked from it; all else is a new program.

        Raises:
            OSError: no such program, or it may not be run.
        """
        _rotate_log(cwd, log)
        child: subprocess.Popen[bytes] | ForkedProcess
        if zygote.can_fork(argv, env):
            child = await zygote.fork(env, cwd, log)
        else:
            with log.open("ab") as sink:
                child = spawn(argv, log=sink, env=env, cwd=cwd)
        return cls(child, env, cwd, _write_mark(cwd, child.pid))

    @property
    def pid(self) -> int:
        return self._child.pid

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _kill_group(self._child.pid)  # what it left behind in its session; before wait, while the pid is surely its own
        self._child.wait()
        self._mark_file.unlink(missing_ok=True)
        self.exited.set()

    @property
    def exit(self) -> ExitStatus:
        """How it ended; only once `exited` is set."""
        code = self._child.returncode
        assert code is not None
        return ExitStatus(128 - code, -code) if code < 0 else ExitStatus(code, 0)

    def terminate(self) -> None:
        """SIGTERM to the process alone, as a container runtime does."""
        if not self.exited.is_set():
            self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process and all that it started."""
        if not self.exited.is_set():
            _kill_group(self._child.pid)


def _rotate_log(cwd: Path, log: Path) -> None:
    cwd.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(PREVIOUS_SUFFIX))


def _write_mark(cwd: Path, pid: int) -> Path:
    """For :func:`kill_leftovers`, should we be killed."""
    mark = cwd / "process.json"
    mark.write_text(json.dumps({"pid": pid, "started": process_start_time(pid)}))
    return mark


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def process_start_time(pid: int) -> str:
    """The kernel's start time of a process: with the pid it names one process for ever. Empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def kill_leftovers(folder: Path) -> None:
    """End what a kubelet before us left running below `folder`."""
    for mark in folder.glob("*/process.json"):
        try:
            message = json.loads(mark.read_text())
        except (OSError, ValueError):
            message = None
        pid = get_number(message, "pid")
        if pid > 1 and process_start_time(pid) == get_text(message, "started"):
            _kill_group(pid)
        mark.unlink(missing_ok=True)
