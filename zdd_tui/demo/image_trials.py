"""Evidence for `zdd doctor`: runs each image of the plan as a process of its own that receives no traffic.

Its database is unreachable: /ready must fail and /health succeed. After SIGTERM it must exit with code 0 within the
grace period.
"""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp

from zdd_tui.backends.actor import this_actor
from zdd_tui.cli.doctor import store_evidence
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment
from zdd_tui.model.doctor.facts import Evidence
from zdd_tui.model.doctor.pitfalls import READINESS_TRIAL, SHUTDOWN_TRIAL, list_images
from zdd_tui.model.plan.file import load_plan
from zdd_tui.testbed.processes import LOOPBACK, free_port, spawn, stop, wait_for_exit

START_TIMEOUT = 20.0
PROBE_COUNT = 3


async def run_image_trials(env: Environment) -> list[Evidence]:
    """Tries every image of the environment's plan and stores the evidence."""
    text = await asyncio.to_thread(env.plan_file.read_text)
    loaded = load_plan(text, source=str(env.plan_file), environment=env.environ)
    images = [image for _, image in list_images(loaded.plan, None)] + [manifests.image_name(1)]
    evidence = [each for image in images for each in await run_image_trial(env, image)]
    await store_evidence(loaded, this_actor(), evidence)
    return evidence


async def run_image_trial(env: Environment, image: str) -> list[Evidence]:
    """Tries one image; returns evidence of its readiness and of its shutdown."""
    port = free_port()
    pod = manifests.deployment_manifest(
        # No server listens on port 1.
        dsn=f"postgresql://nobody@{LOOPBACK}:1/unreachable",
        redis_url=env.redis.url,
        kind=env.options.kind,
        dual_write=env.options.mode,
        drain=1,
    )["spec"]["template"]["spec"]
    container = pod["containers"][0]
    settings = {each["name"]: each["value"] for each in container["env"]}
    settings |= {"IMAGE": image, "PORT": str(port), "POD_IP": LOOPBACK, "POD_NAME": "trial"}
    log = env.folder / "logs" / f"trial-{image.rpartition(':')[2]}.log"
    with log.open("wb") as out:
        process = spawn(container["command"], log=out, env=os.environ | settings)
    try:
        ready = await _check_readiness(f"http://{LOOPBACK}:{port}", log)
        began = asyncio.get_running_loop().time()
        process.send_signal(signal.SIGTERM)
        grace = float(pod["terminationGracePeriodSeconds"])
        code = await wait_for_exit(process, grace)
        seconds = asyncio.get_running_loop().time() - began
        text = f"still running after {grace:g} s" if code is None else f"exit code {code} after {seconds:.1f} s"
        return [_make_evidence(READINESS_TRIAL, image, *ready), _make_evidence(SHUTDOWN_TRIAL, image, code == 0, text)]
    finally:
        await stop(process, signal.SIGKILL, 5)


async def _check_readiness(url: str, log: Path) -> tuple[bool, str]:
    """Polls until the process responds, then some times more: the first response may come before its start is over."""
    statuses: list[tuple[int, int]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while len(statuses) < PROBE_COUNT:
            try:
                statuses.append((await _get_status(http, f"{url}/ready"), await _get_status(http, f"{url}/health")))
            except (aiohttp.ClientError, TimeoutError):
                if asyncio.get_running_loop().time() > deadline:
                    return False, f"no response within {START_TIMEOUT:g} s, see {log.name}"
            await asyncio.sleep(0.1)
    ready, health = statuses[-1]
    good = all(ready >= 500 and health == 200 for ready, health in statuses)
    return good, f"/ready returned {ready}, /health {health}"


async def _get_status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return response.status


def _make_evidence(point: str, image: str, passed: bool, text: str) -> Evidence:
    return Evidence(point, "trial", "pass" if passed else "fail", text, "", 0.0, subject=image)
