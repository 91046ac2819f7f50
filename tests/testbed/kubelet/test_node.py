"""The kubelet runs real processes for pods of a Kubernetes API."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.kubelet import (
    PYTHON,
    REAL_KUBECONFIG,
    ClusterClient,
    is_ready,
    main_status,
    make_cluster,
    pod,
    wait_until,
)
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_object, get_objects, get_text
from zdd_tui.testbed.kubelet.addresses import PodAddressAllocator
from zdd_tui.testbed.kubelet.probes import INITIAL_DELAY, ContainerProber, ProbeTarget


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    async with make_cluster(tmp_path) as made:
        yield made


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def pid_of(raw: Any) -> int:
    return int(get_text(main_status(raw), "containerID").removeprefix("process://") or 0)


async def is_gone(here: ClusterClient, name: str = "one") -> bool:
    return name not in await here.pod_names()


async def test_a_pod_becomes_ready_and_tells_how_it_runs(here: ClusterClient) -> None:
    env = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "GREETING", "value": "hello-$(POD_NAME)-$(UNKNOWN)-$$(POD_NAME)"},
    ]
    await here.create("pods", pod(env=env))
    raw = await wait_until(here.pod, is_ready)

    status = get_object(raw, "status")
    assert get_text(status, "phase") == "Running"
    conditions = {get_text(item, "type"): get_text(item, "status") for item in get_objects(status, "conditions")}
    assert {conditions[kind] for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")} == {"True"}
    assert "running" in main_status(raw)["state"]
    assert (main_status(raw)["ready"], main_status(raw)["started"], main_status(raw)["restartCount"]) == (True, True, 0)
    answer = await here.ask(get_text(status, "podIP"))
    assert answer == f"shop/users:1 one {here.node} hello-one-$(UNKNOWN)-$(POD_NAME)"
    reasons = await wait_until(here.event_reasons, lambda found: "Started" in found)
    assert {"Scheduled", "Pulled", "Created", "Started"} <= reasons.keys()
    assert reasons["Pulled"] == 'Container image "shop/users:1" already present on machine'


async def test_two_pods_have_two_addresses(here: ClusterClient) -> None:
    await here.create("pods", pod("one"))
    await here.create("pods", pod("two"))
    first = await wait_until(lambda: here.pod("one"), is_ready)
    second = await wait_until(lambda: here.pod("two"), is_ready)
    assert get_text(first, "status", "podIP") != get_text(second, "status", "podIP")
    assert "two" in await here.ask(get_text(second, "status", "podIP"))


async def test_deletion_runs_prestop_then_terminates_then_removes(here: ClusterClient) -> None:
    await here.create("pods", pod(lifecycle={"preStop": {"httpGet": {"path": "/drain", "port": "http"}}}))
    raw = await wait_until(here.pod, is_ready)
    await here.delete_pod()
    assert get_text(await here.pod(), "metadata", "deletionTimestamp")
    await wait_until(lambda: is_gone(here), bool)
    assert here.log() == ["serving", "preStop", "SIGTERM", "bye"]
    assert not alive(pid_of(raw))
    assert "Killing" in await here.event_reasons()


async def test_prestop_sleep_keeps_the_pod_serving(here: ClusterClient) -> None:
    await here.create("pods", pod(lifecycle={"preStop": {"sleep": {"seconds": 1}}}))
    raw = await wait_until(here.pod, is_ready)
    await here.delete_pod()
    assert await here.ask(get_text(raw, "status", "podIP"))
    assert is_ready(await here.pod())
    assert "SIGTERM" not in here.log()
    await wait_until(lambda: is_gone(here), bool)
    assert here.log()[-2:] == ["SIGTERM", "bye"]


async def test_what_ignores_sigterm_is_killed_when_the_grace_ends(here: ClusterClient) -> None:
    await here.create("pods", pod(grace=1))
    raw = await wait_until(here.pod, is_ready)
    (here.working_directory() / "stubborn").touch()
    began = asyncio.get_running_loop().time()
    await here.delete_pod()
    await wait_until(lambda: is_gone(here), bool)
    assert here.log() == ["serving", "SIGTERM"]
    assert asyncio.get_running_loop().time() - began >= 1
    assert not alive(pid_of(raw))


async def test_forced_deletion_leaves_no_process(here: ClusterClient) -> None:
    await here.create("pods", pod(grace=30))
    raw = await wait_until(here.pod, is_ready)
    (here.working_directory() / "stubborn").touch()
    await here.delete_pod(grace=0)
    assert await is_gone(here)

    async def lives() -> bool:
        return alive(pid_of(raw))

    await wait_until(lives, lambda found: not found)


async def test_a_second_deletion_shortens_the_grace(here: ClusterClient) -> None:
    await here.create("pods", pod(grace=600, lifecycle={"preStop": {"sleep": {"seconds": 500}}}))
    await wait_until(here.pod, is_ready)
    await here.delete_pod()
    await wait_until(here.pod, lambda raw: get_text(raw, "metadata", "deletionTimestamp"))
    await here.delete_pod(grace=1)
    await wait_until(lambda: is_gone(here), bool)
    assert here.log()[-2:] == ["SIGTERM", "bye"]


async def test_failing_readiness_takes_a_pod_out_and_back(here: ClusterClient) -> None:
    await here.create("pods", pod())
    await wait_until(here.pod, is_ready)
    (here.working_directory() / "unready").touch()
    raw = await wait_until(here.pod, lambda found: not is_ready(found))
    assert main_status(raw)["ready"] is False
    assert main_status(raw)["restartCount"] == 0
    reasons = await wait_until(here.event_reasons, lambda found: "503" in found.get("Unhealthy", ""))
    assert "Readiness probe failed: HTTP probe failed with statuscode: 503" in reasons["Unhealthy"].splitlines()
    (here.working_directory() / "unready").unlink()
    await wait_until(here.pod, is_ready)


async def test_readiness_is_still_asked_while_a_pod_leaves(here: ClusterClient) -> None:
    await here.create("pods", pod(lifecycle={"preStop": {"sleep": {"seconds": 5}}}))
    await wait_until(here.pod, is_ready)
    await here.delete_pod()
    (here.working_directory() / "unready").touch()
    raw = await wait_until(here.pod, lambda found: not is_ready(found))
    assert get_text(raw, "metadata", "deletionTimestamp")
    assert "running" in main_status(raw)["state"]


async def test_failing_liveness_restarts_the_container(here: ClusterClient) -> None:
    probe = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    await here.create("pods", pod(livenessProbe=probe, grace=5))
    first = await wait_until(here.pod, is_ready)
    (here.working_directory() / "sick").touch()
    await wait_until(here.pod, lambda raw: main_status(raw)["restartCount"] == 1)
    (here.working_directory() / "sick").unlink()
    raw = await wait_until(here.pod, is_ready)
    assert pid_of(raw) != pid_of(first)
    assert get_text(raw, "status", "podIP") == get_text(first, "status", "podIP")
    assert get_text(main_status(raw), "lastState", "terminated", "reason") == "Completed"
    assert (await here.event_reasons())["Killing"] == "Container app failed liveness probe, will be restarted"


async def test_nothing_is_ready_before_the_startup_probe_has_passed(here: ClusterClient) -> None:
    slow = {"exec": {"command": ["test", "-e", "up"]}, "periodSeconds": 1, "failureThreshold": 60}
    await here.create("pods", pod(startupProbe=slow))
    raw = await wait_until(here.pod, lambda found: "running" in get_object(main_status(found), "state"))
    assert (main_status(raw)["started"], main_status(raw)["ready"]) == (False, False)
    await wait_until(here.event_reasons, lambda found: "Startup probe failed" in found.get("Unhealthy", ""))
    assert not is_ready(await here.pod())
    (here.working_directory() / "up").touch()
    raw = await wait_until(here.pod, is_ready)
    assert main_status(raw)["started"] is True


async def test_a_crashing_container_backs_off(here: ClusterClient) -> None:
    await here.create("pods", pod(command=["sh", "-c", "echo crash; exit 7"]))

    def backs_off(raw: Any) -> bool:
        return get_text(main_status(raw), "state", "waiting", "reason") == "CrashLoopBackOff"

    raw = await wait_until(
        here.pod, lambda found: backs_off(found) and get_number(main_status(found), "restartCount") >= 2
    )
    assert get_number(main_status(raw), "lastState", "terminated", "exitCode") == 7
    assert not is_ready(raw)
    assert "BackOff" in await wait_until(here.event_reasons, lambda found: "BackOff" in found)
    await here.delete_pod()
    await wait_until(lambda: is_gone(here), bool)


async def test_a_pod_that_is_not_to_restart_ends_in_its_final_phase(here: ClusterClient) -> None:
    await here.create("pods", pod("good", policy="Never", command=["sh", "-c", "exit 0"]))
    await here.create("pods", pod("bad", policy="Never", command=["sh", "-c", "exit 3"]))
    good = await wait_until(lambda: here.pod("good"), lambda raw: get_text(raw, "status", "phase") == "Succeeded")
    await wait_until(lambda: here.pod("bad"), lambda raw: get_text(raw, "status", "phase") == "Failed")
    assert get_text(main_status(good), "state", "terminated", "reason") == "Completed"
    await here.delete_pod("good")
    await wait_until(lambda: is_gone(here, "good"), bool)


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"command": []}, "CreateContainerConfigError", "no command specified"),
        ({"command": ["/no/such/program"]}, "RunContainerError", "No such file"),
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "CreateContainerConfigError",
            "env X",
        ),
    ],
)
async def test_what_cannot_be_started_says_why_and_can_be_deleted(
    here: ClusterClient, changes: dict[str, Any], reason: str, message: str
) -> None:
    await here.create("pods", pod(**changes))
    raw = await wait_until(here.pod, lambda found: get_text(main_status(found), "state", "waiting", "reason") == reason)
    assert message in get_text(main_status(raw), "state", "waiting", "message")
    await here.delete_pod()
    await wait_until(lambda: is_gone(here), bool)


async def test_the_node_is_ready(here: ClusterClient) -> None:
    path = f"/api/v1/nodes/{here.node}"

    async def node() -> Any:
        try:
            return await here.cluster.http.request_json("GET", path)
        except ClusterError:
            return {}

    await wait_until(node, is_ready)


async def test_killed_kubelet_takes_its_pods_along_and_the_next_one_restarts_them(tmp_path: Path) -> None:
    async with make_cluster(tmp_path, kubelet=False) as here:
        await here.create("pods", pod())
        first = await _start(here)
        raw = await wait_until(here.pod, is_ready)
        first.send_signal(signal.SIGKILL)
        await first.wait()

        async def lives() -> bool:
            return alive(pid_of(raw))

        await wait_until(lives, lambda found: not found)
        second = await _start(here)
        again = await wait_until(here.pod, lambda found: is_ready(found) and pid_of(found) != pid_of(raw))
        assert main_status(again)["restartCount"] == 1
        second.send_signal(signal.SIGTERM)
        assert await second.wait() == 0
        assert not alive(pid_of(again))


async def _start(here: ClusterClient) -> asyncio.subprocess.Process:
    options = ["--kubeconfig", here.kubeconfig, "--dir", str(here.folder), "--node", here.node]
    options += ["--bind", "--advertise", "10"] if REAL_KUBECONFIG else []
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "zdd_tui.testbed.kubelet", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    text = json.loads(await process.stdout.readline())
    assert text["node"] == here.node
    return process


async def test_the_process_sees_nothing_of_our_environment(
    here: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    await here.create("pods", pod(command=["sh", "-c", "env; exec sleep 60"], readinessProbe=None))
    await wait_until(here.pod, is_ready)
    names = {line.partition("=")[0] for line in here.log()}
    assert "DATABASE_URL" not in names
    assert {"POD_NAME", "POD_IP", "IMAGE", "PORT", "NODE"} <= names


async def test_a_connection_refused_is_told_in_the_kubelets_words(here: ClusterClient) -> None:
    await here.create("pods", pod(command=["sleep", "60"]))
    reasons = await wait_until(here.event_reasons, lambda found: "Unhealthy" in found)
    assert reasons["Unhealthy"].endswith("connect: connection refused")
    raw = await here.pod()
    with pytest.raises(aiohttp.ClientConnectorError):
        await here.ask(get_text(raw, "status", "podIP"))


async def test_the_first_probe_leaves_the_container_time_to_listen_and_readiness_follows_at_once() -> None:
    clock = asyncio.get_running_loop().time
    requested: list[float] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested.append(clock())
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
        probe = {"tcpSocket": {"port": server.sockets[0].getsockname()[1]}, "periodSeconds": 60}
        became = asyncio.Event()
        prober = ContainerProber(
            {"startupProbe": probe, "readinessProbe": probe},
            ProbeTarget("127.0.0.1", {}, None),  # type: ignore[arg-type]  # no exec
            session,
            lambda: became.set() if prober.is_ready else None,
            lambda kind, why: pytest.fail(f"{kind}: {why}"),
        )
        began = clock()
        prober.start()
        try:
            await asyncio.wait_for(became.wait(), 30)
        finally:
            await prober.stop()
    assert INITIAL_DELAY - 0.01 < requested[0] - began <= requested[1] - began


def test_no_two_kubelets_share_their_pods_addresses() -> None:
    taken = [PodAddressAllocator() for _ in range(40)]
    try:
        networks = {each.allocate(8080).rsplit(".", 2)[0] for each in taken}
        assert len(networks) == len(taken)
    finally:
        for each in taken:
            each.close()
