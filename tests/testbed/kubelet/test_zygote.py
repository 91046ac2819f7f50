"""A pod that is forked from the zygote is what it would be as a new program: process, session, log, signals, exit."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from zdd_tui.testbed.kubelet.container import ExitStatus, Process, base_environment
from zdd_tui.testbed.kubelet.zygote import SAMPLE_MODULE, Zygote
from zdd_tui.testbed.processes import free_port

FORKED = [sys.executable, "-m", SAMPLE_MODULE]
EXECUTED = [sys.executable, "-u", "-m", SAMPLE_MODULE]
"""The same program, by a command line that is not the zygote's."""

BOTH = pytest.mark.parametrize("argv", [FORKED, EXECUTED], ids=["forked", "executed"])


@pytest.fixture
async def zygote(tmp_path: Path) -> AsyncIterator[Zygote]:
    made = Zygote(tmp_path / "node", base_environment())
    yield made
    made.close()


def environment(version: str = "2", **more: str) -> dict[str, str]:
    """Of a pod that finds neither PostgreSQL nor Redis: it is alive, but never ready."""
    return base_environment() | {
        "DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "IMAGE": f"shop/users-api:{version}",
        "POD_NAME": "one",
        "PORT": str(free_port()),
        "DRAIN_SECONDS": "0",
        **more,
    }


class ZygotePod:
    """One pod in its folder."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "pods" / "one"
        self.log = folder / "logs" / "one.log"

    async def start(self, argv: list[str], env: dict[str, str], zygote: Zygote) -> Process:
        assert zygote.can_fork(argv, env) == (argv == FORKED)
        return await Process.start(argv, env, self.cwd, self.log, zygote)

    async def alive(self, process: Process) -> dict[str, str]:
        """Waits until it serves; its answer to who it is."""
        url = f"http://127.0.0.1:{process.env['PORT']}/version"
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            while True:
                assert not process.exited.is_set(), self.log.read_text()
                try:
                    async with http.get(url) as answer:
                        text: dict[str, str] = await answer.json()
                        return text
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)


@pytest.fixture
def here(tmp_path: Path) -> ZygotePod:
    return ZygotePod(tmp_path)


async def wait_for_exit(process: Process) -> ExitStatus:
    await asyncio.wait_for(process.exited.wait(), 30)
    return process.exit


@BOTH
async def test_it_is_a_process_of_its_own(argv: list[str], here: ZygotePod, zygote: Zygote) -> None:
    process = await here.start(argv, environment(), zygote)
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid != os.getsid(0)
    assert psutil.Process(process.pid).cwd() == str(here.cwd)
    assert (await here.alive(process))["pod"] == "one"
    assert psutil.Process(process.pid).num_threads() == 1
    assert (psutil.Process(process.pid).name() == "one") == (argv == FORKED)
    process.terminate()
    assert await wait_for_exit(process) == ExitStatus(0, 0)
    assert "version 2 listens" in here.log.read_text()
    assert "every request had ended" in here.log.read_text()
    assert not psutil.pid_exists(process.pid)


@BOTH
async def test_nothing_of_our_environment_reaches_it(
    argv: list[str], here: ZygotePod, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://ours")
    env = environment()
    del env["REDIS_URL"]
    process = await here.start(argv, env, zygote)
    assert (await wait_for_exit(process)).code > 0
    assert "needs the environment variable REDIS_URL" in here.log.read_text()


@BOTH
async def test_its_exit_is_the_applications(argv: list[str], here: ZygotePod, zygote: Zygote) -> None:
    for image, text in (("9", "the tag of IMAGE is '9'"), ("2", "ValueError: invalid literal for int()")):
        port = {"PORT": "http"} if image == "2" else {}
        process = await here.start(argv, environment(image, **port), zygote)
        assert await wait_for_exit(process) == ExitStatus(2 if image == "9" else 1, 0)
        assert text in here.log.read_text()


@BOTH
async def test_a_fault_and_a_kill_end_it(argv: list[str], here: ZygotePod, zygote: Zygote, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    process = await here.start(argv, environment(INJECT_FILE=str(fault)), zygote)
    await here.alive(process)
    fault.write_text("crash-loop")
    assert await wait_for_exit(process) == ExitStatus(1, 0)
    fault.unlink()
    process = await here.start(argv, environment(), zygote)
    process.kill()
    assert await wait_for_exit(process) == ExitStatus(137, 9)


async def test_it_is_a_zombie_until_its_exit_was_asked_for(here: ZygotePod, zygote: Zygote) -> None:
    here.cwd.mkdir(parents=True)
    here.log.parent.mkdir()
    pod = await zygote.fork(environment("9"), here.cwd, here.log)
    seen = psutil.Process(pod.pid)
    async with asyncio.timeout(30):
        while seen.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - the event belongs to Process
            await asyncio.sleep(0.01)
    pod.send_signal(signal.SIGTERM)  # reaches nobody else
    assert pod.wait() == 2
    assert not psutil.pid_exists(pod.pid)


async def test_what_cannot_become_a_pod_says_why(here: ZygotePod, zygote: Zygote) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        await zygote.fork(environment(), here.cwd, here.log)
    assert await here.alive(await here.start(FORKED, environment(), zygote))


async def test_a_killed_zygote_takes_its_pods_along_and_another_takes_its_place(
    here: ZygotePod, zygote: Zygote
) -> None:
    first = await here.start(FORKED, environment(), zygote)
    await here.alive(first)
    parent = psutil.Process(first.pid).parent()
    assert parent is not None
    assert parent.num_threads() == 1
    parent.kill()
    assert await wait_for_exit(first) == ExitStatus(137, 9)
    second = await here.start(FORKED, environment(), zygote)
    assert await here.alive(second)
    zygote.close()
    assert await wait_for_exit(second) == ExitStatus(137, 9)


async def test_a_zygote_may_be_closed_while_it_warms_up(here: ZygotePod, zygote: Zygote) -> None:
    starting = [asyncio.create_task(here.start(FORKED, environment(), zygote)) for _ in range(2)]
    await asyncio.sleep(0.01)
    zygote.close()
    assert all(
        isinstance(how, asyncio.CancelledError) for how in await asyncio.gather(*starting, return_exceptions=True)
    )
    assert await here.alive(await here.start(FORKED, environment(), zygote))


def test_only_the_application_is_forked_and_only_as_a_new_interpreter_would_start(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path, base_environment())
    env = environment()
    assert zygote.can_fork(FORKED, env)
    assert not zygote.can_fork([*FORKED, "--more"], env)
    assert not zygote.can_fork([sys.executable, "-m", "http.server"], env)
    assert not zygote.can_fork(["/bin/sh", "-c", "exit 1"], env)
    assert not zygote.can_fork(FORKED, env | {"PYTHONPATH": "/elsewhere"})
    assert not zygote.can_fork(FORKED, env | {"TZ": "Asia/Tokyo"})


OWNER = """
import asyncio, sys
from pathlib import Path
from tests.testbed.kubelet.test_zygote import FORKED, Zygote, ZygotePod, base_environment, environment

async def main():
    folder = Path(sys.argv[1])
    here = ZygotePod(folder)
    process = await here.start(FORKED, environment(), Zygote(folder, base_environment()))
    await here.alive(process)
    print(process.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_no_pod_outlives_a_killed_kubelet(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pod = psutil.Process(int(await owner.stdout.readline()))
    family = [pod, *pod.parents()[:1]]
    assert family[1].ppid() == owner.pid
    owner.kill()
    await owner.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, family, 20)
    assert left == []
