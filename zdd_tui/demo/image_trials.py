"""What the demo tries for `zdd doctor`: each image of the plan as a process of its own, which serves nobody.

Its database is away: /ready must say no and /health yes. Then SIGTERM: it must end by itself, with exit code 0, well
inside of the grace period.
"""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import aiohttp

from zdd_tui.backends.actor import this_actor
from zdd_tui.cli.doctor import store_evidence
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment
from zdd_tui.model.doctor.evidence import list_images
from zdd_tui.model.doctor.facts import Evidence
from zdd_tui.model.doctor.probes import READINESS_TRIAL, SHUTDOWN_TRIAL
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.testbed.processes import LOOPBACK, free_port, spawn, stop, wait_for_exit

START_TIMEOUT = 20.0
PROBE_COUNT = 3


async def run_image_trials(env: Environment) -> list[Evidence]:
    """Tries every image of the environment's plan, and stores what came of it."""
    text = await asyncio.to_thread(env.plan_file.read_text)
    loaded = load_plan(text, source=str(env.plan_file), environment=env.environ)
    names = [image for _, image in list_images(loaded.plan, None)] + [manifests.image_name(1)]
    found = [each for image in names for each in await run_image_trial(env, image)]
    await _save_evidence(loaded, found)
    return found


async def _save_evidence(loaded: LoadedPlan, evidence: Iterable[Evidence]) -> None:
    await store_evidence(loaded, this_actor(), list(evidence))


async def run_image_trial(env: Environment, image: str) -> list[Evidence]:
    """Tries one image: a verdict on its readiness, and one on its end."""
    port = free_port()
    pod = manifests.deployment_manifest(
        # Nobody listens on port 1.
        dsn=f"postgresql://nobody@{LOOPBACK}:1/away",
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
        text = (
            f"it ended with exit code {code} in {seconds:.1f} s" if code is not None else f"it ran on for {grace:g} s"
        )
        return [
            _make_evidence(READINESS_TRIAL, image, *ready),
            _make_evidence(SHUTDOWN_TRIAL, image, code == 0, text),
        ]
    finally:
        await stop(process, signal.SIGKILL, 5)


async def _check_readiness(url: str, log: Path) -> tuple[bool, str]:
    """Asks until the process answers, then some times more: once could be a start that is not over."""
    output: list[tuple[int, int]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while len(output) < PROBE_COUNT:
            try:
                output.append((await _get_status(http, f"{url}/ready"), await _get_status(http, f"{url}/health")))
            except (aiohttp.ClientError, TimeoutError):
                if asyncio.get_running_loop().time() > deadline:
                    return False, f"it did not answer within {START_TIMEOUT:g} s, see {log.name}"
            await asyncio.sleep(0.1)
    ready, health = output[-1]
    good = all(ready >= 500 and health == 200 for ready, health in output)
    return good, f"/ready said {ready}, /health {health}"


async def _get_status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as answer:
        return answer.status


def _make_evidence(point: str, image: str, passed: bool, text: str) -> Evidence:
    return Evidence(point, "trial", "pass" if passed else "fail", text, "", 0.0, subject=image)
