"""A warm process of the sample application, from which a node's pods are forked.

Why: a pod spends 0.4 s of CPU on its imports, often more than on all that it serves, and a release starts a dozen.
A fork of a process that has the imports already costs a few milliseconds. The pod is a process as before: its own pid,
session, environment, folder, log, signals and exit; and it dies with the zygote, which dies with the kubelet.

Why not multiprocessing's forkserver: it runs the kubelet's ``__main__`` in every child, there is one of it in a
process, and it reaps children by itself, so that the processes that a pod left in its session could not
be killed while the pid is surely the pod's. Here a pod stays a zombie until the kubelet collects its exit code.

``python -m zdd_tui.testbed.kubelet.zygote FD`` is the warm process: one thread, no loop, no connection but FD, a
SOCK_SEQPACKET to the kubelet. Each request is one JSON object, and so is each reply; it sends ``{}`` once it is ready:

    {"env": {...}, "cwd": PATH, "log": PATH}    fork a pod                  {"pid": PID} or {"error": TEXT}
    {"wait": PID}                               wait for it, and reap it    {"code": as Popen.returncode}
"""

import asyncio
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zdd_tui.testbed.processes import end_with_parent, same_at_start, spawn

SAMPLE_MODULE = "zdd_tui.demo.sample"
"""What is run, as ``python -m`` would."""

PRELOADED_MODULES = ("app", "version2", "version4")
"""Its modules that bring all the others."""

_LIMIT = 1 << 20
_REPLY_TIMEOUT = 30.0
"""Seconds, on a machine that may do much else."""


class ForkedProcess:
    """A pod that was forked. A zombie until :meth:`wait`, so that its pid is no other process's before."""

    def __init__(self, link: "_ZygoteConnection", pid: int) -> None:
        self._link = link
        self.pid = pid
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        """To the process alone."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit, as :attr:`subprocess.Popen.returncode`. Blocks unless it has ended."""
        if self.returncode is None:
            try:
                self.returncode = int(self._link.send_request({"wait": self.pid})["code"])
            except OSError:
                self.returncode = -signal.SIGKILL  # the zygote is gone, and the kernel ended its pods with it
        return self.returncode


class Zygote:
    """The kubelet's side. The warm process is started when it is first needed, and again after it was lost.

    Args:
        folder: where it works; its own output goes to ``zygote.log`` there.
        env: its whole environment.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = dict(env)
        self._link: _ZygoteConnection | None = None

    def can_fork(self, argv: list[str], env: Mapping[str, str]) -> bool:
        """It can be started by a fork: the sample application, and nothing that only a new interpreter would heed."""
        return argv == [sys.executable, "-m", SAMPLE_MODULE] and same_at_start(env, self._env)

    async def fork(self, env: Mapping[str, str], cwd: Path, log: Path) -> ForkedProcess:
        """A new pod; `cwd` exists. It has its own session when this returns.

        Raises:
            OSError: it could not be started.
        """
        if self._link is None or self._link.is_lost:
            self.close()
            self._link = _ZygoteConnection(self._folder, self._env)
        link = self._link
        await link.wait_until_ready()
        return link.fork(env, cwd, log)

    def close(self) -> None:
        """Ends the warm process, and with it every pod that still runs."""
        if self._link is not None:
            self._link.close()
            self._link = None


class _ZygoteConnection:
    """One warm process and the socket to it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        argv = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs, (folder / "zygote.log").open("ab") as log:
            self._child = spawn(argv, log=log, env=env, cwd=folder, pass_fds=(theirs.fileno(),))
        self._warming: asyncio.Future[None] | None = None

    @property
    def is_lost(self) -> bool:
        return self._child.poll() is not None

    async def wait_until_ready(self) -> None:
        """Until its imports are done; whoever waits with us may be cancelled.

        Raises:
            OSError: it ended before.
        """
        if self._warming is None:
            self._warming = asyncio.ensure_future(self._read_greeting())
        await asyncio.shield(self._warming)

    async def _read_greeting(self) -> None:
        if not await asyncio.get_running_loop().sock_recv(self._socket, _LIMIT):
            raise OSError("the zygote ended at its start; see zygote.log")
        self._socket.settimeout(_REPLY_TIMEOUT)

    def fork(self, env: Mapping[str, str], cwd: Path, log: Path) -> ForkedProcess:
        request = {"env": dict(env), "cwd": str(cwd.absolute()), "log": str(log.absolute())}
        return ForkedProcess(self, int(self.send_request(request)["pid"]))

    def send_request(self, request: Mapping[str, Any]) -> Any:
        """Sends a request and returns the response, within milliseconds.

        Raises:
            OSError: the zygote is gone, or it could not do it.
        """
        try:
            self._socket.send(json.dumps(request).encode())
            text = self._socket.recv(_LIMIT)
        except TimeoutError:
            self._child.kill()  # its late response would be read as that to the next request
            raise
        reply = json.loads(text) if text else {"error": "the zygote is gone"}
        if "error" in reply:
            raise OSError(reply["error"])
        return reply

    def close(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
        self._child.kill()
        self._child.wait()
        self._socket.close()


# The warm process


def main() -> None:
    """Serve until the kubelet closes its end. Returns in the zygote only; in a pod it ends as the application does."""
    for name in PRELOADED_MODULES:
        importlib.import_module(f"{SAMPLE_MODULE}.{name}")
    gc.collect()
    gc.freeze()  # the pods share these pages: no collection of theirs writes to them
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        sys.argv[1:] = []
        runpy.run_module(SAMPLE_MODULE, run_name="__main__", alter_sys=True)


def _serve(kubelet: socket.socket) -> bool:
    """True in each pod, False in the zygote at its end."""
    with kubelet:
        kubelet.send(b"{}")
        while text := kubelet.recv(_LIMIT):
            request = json.loads(text)
            try:
                if "wait" in request:
                    reply: dict[str, Any] = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
                elif pid := _fork(request):
                    reply = {"pid": pid}
                else:
                    return True
            except OSError as error:
                reply = {"error": str(error)}
            kubelet.send(json.dumps(reply).encode())
    return False


def _fork(request: Mapping[str, Any]) -> int:
    """The pod's pid, and 0 in the pod.

    Raises:
        OSError: no process could be made, or it could not start the requested module.
    """
    zygote = os.getpid()
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as failure, open(write_end, "wb") as text:
        pid = os.fork()
        if pid == 0:
            try:
                _run_as_pod(request, zygote)
            except BaseException as error:
                text.write(str(error).encode())
                text.flush()
                os._exit(127)
            return 0
        text.close()
        why = failure.read()  # ends when the pod closes its end: from then on it has its session
    if why:
        os.waitpid(pid, 0)
        raise OSError(why.decode())
    return pid


def _run_as_pod(request: Mapping[str, Any], zygote: int) -> None:
    end_with_parent(zygote, signal.SIGKILL)
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    Path("/proc/self/comm").write_text(request["env"].get("POD_NAME", "pod")[-15:])  # what `ps` and `top` show
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]  # where `python -m` looks first
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)


if __name__ == "__main__":
    main()
