"""Our programs as forks of one process that has imported everything.

Why: a command of zdd spends half a second of CPU on its imports, an agent more, and the tests start several hundred.
Each fork is a process as before: its own pid, environment, folder, descriptors, signals and exit code. What only a new
interpreter shows (a module that a verb forgets to import, what `zdd status` does not import) other tests show; they
start `python -m zdd_tui` itself.

``python -m tests.support.warm_python FD`` is the process that forks: one thread, no loop, no connection but FD, a
SOCK_SEQPACKET. Each request is one JSON object and so is each reply; ``{}`` is sent once it is ready:

    {"argv": [MODULE, ...], "env": {...}, "cwd": PATH, "death_signal": N, "has_session": BOOL}, and three descriptors
                                                fork a program              {"pid": PID} or {"error": TEXT}
    {"wait": PID}                               wait for it, and reap it    {"code": as Popen.returncode}
"""

import asyncio
import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from zdd_tui.testbed.processes import end_with_parent, same_at_start, spawn

ROOT = Path(__file__).parents[2]
PACKAGE = "zdd_tui"
START_SECONDS = 60.0
_LIMIT = 1 << 17


class WarmProcess:
    """A program that was forked, with the methods of :class:`subprocess.Popen` that are needed.

    It is a zombie until its exit code is read, so that its pid is no other process's before.
    """

    def __init__(self, link: "_Link", pid: int) -> None:
        self._link = link
        self._exit = os.pidfd_open(pid)
        self._code: int | None = None
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        if self._code is None and select.select([self._exit], [], [], 0)[0]:
            self._read_code()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None and not select.select([self._exit], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0.0)
        return self._read_code()

    async def wait_for_exit(self) -> int:
        if self.poll() is None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._exit, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._exit)
        return self._read_code()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _read_code(self) -> int:
        if self._code is None:
            self._code = int(self._link.send_request({"wait": self.pid})["code"])
            os.close(self._exit)
        return self._code


def can_fork(env: Mapping[str, str]) -> bool:
    """Nothing in the environment is for a new interpreter alone."""
    return same_at_start(env, os.environ)


def fork_program(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    env: Mapping[str, str],
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    has_session: bool = False,
) -> WarmProcess:
    """Starts ``python -m ARGV...``, which :func:`can_fork` allows. It ends with this process.

    Args:
        stdin, stdout, stderr: descriptors; they stay open here.
    """
    request = {"argv": list(argv), "env": dict(env), "cwd": str(cwd or Path.cwd())}
    link = _link()
    reply = link.send_request(
        request | {"death_signal": int(death_signal), "has_session": has_session}, (stdin, stdout, stderr)
    )
    return WarmProcess(link, reply["pid"])


def spawn_warm(
    argv: list[str], *, log: IO[bytes] | int, env: Mapping[str, str], death_signal: signal.Signals
) -> "WarmProcess | subprocess.Popen[bytes]":
    """In place of :func:`zdd_tui.testbed.processes.spawn`, for the programs of a production."""
    if argv[:2] != [sys.executable, "-m"] or not can_fork(env):
        return spawn(argv, log=log, env=env, death_signal=death_signal)
    output = log if isinstance(log, int) else log.fileno()
    with open(os.devnull, "rb") as empty:
        return fork_program(
            argv[2:],
            stdin=empty.fileno(), stdout=output, stderr=output,
            env=env, death_signal=death_signal, has_session=True,
        )  # fmt: skip


class _Link:
    """The warm process and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(START_SECONDS)
        argv = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs:
            self._child = spawn(argv, log=sys.__stderr__.fileno(), cwd=ROOT, pass_fds=(theirs.fileno(),))
        assert self._socket.recv(_LIMIT) == b"{}", "the warm process ended at its start"

    def send_request(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> Any:
        socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
        reply = json.loads(self._socket.recv(_LIMIT) or b'{"error": "the warm process is gone"}')
        if "error" in reply:
            raise OSError(reply["error"])
        return reply

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._socket.close()


@functools.cache
def _link() -> _Link:
    link = _Link()
    atexit.register(link.close)
    return link


# The warm process


def main() -> None:
    """Serves until the other side closes its end. Returns in the warm process only; a fork ends as its program does."""
    _import_everything()
    gc.collect()
    gc.freeze()  # the forks share these pages: no collection of theirs writes to them
    if argv := _serve(socket.socket(fileno=int(sys.argv[1]))):
        sys.argv[1:] = argv[1:]
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


def _import_everything() -> None:
    """All that the programs import, sooner or later, but for the screens."""
    for package in (
        "cli",
        "engine",
        "checks",
        "backends",
        "testbed.cluster",
        "testbed.kubelet",
        "demo.load",
        "demo.sample",
    ):
        parent = importlib.import_module(f"{PACKAGE}.{package}")
        for module in pkgutil.walk_packages(parent.__path__, f"{parent.__name__}."):
            if not module.name.endswith(("__main__", "cli.dashboard", "kubelet.zygote")):
                importlib.import_module(module.name)
    importlib.import_module(f"{PACKAGE}.backends.kubernetes.client_import").import_client()
    importlib.import_module(f"{PACKAGE}.model.sql").parse_sql("SELECT 1")


def _serve(tests: socket.socket) -> list[str]:
    """The program's arguments in each fork, none in the warm process at its end."""
    with tests:
        tests.send(b"{}")
        while True:
            text, descriptors, _, _ = socket.recv_fds(tests, _LIMIT, 3)
            if not text:
                return []
            request = json.loads(text)
            try:
                if "wait" in request:
                    reply: dict[str, Any] = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
                elif pid := _fork(request, descriptors):
                    reply = {"pid": pid}
                else:
                    return list(request["argv"])
            except OSError as error:
                reply = {"error": str(error)}
            finally:
                for each in descriptors:
                    os.close(each)
            tests.send(json.dumps(reply).encode())


def _fork(request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """The program's pid, and 0 in the fork."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent(parent, signal.Signals(request["death_signal"]))
            if request["has_session"]:
                os.setsid()
            for number, each in enumerate(descriptors):
                os.dup2(each, number)
            _open_standard_streams()
            os.environ.clear()
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            sys.path[0] = request["cwd"]  # where `python -m` looks first
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(127)
    return pid


def _open_standard_streams() -> None:
    """As a new interpreter does: those of the warm process know whether its own descriptors may seek."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        before = getattr(sys, name)
        stream = open(number, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        stream.reconfigure(line_buffering=before.line_buffering or stream.isatty())
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
