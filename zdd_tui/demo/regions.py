"""Several productions on one machine, each a region of the same plan: nothing is shared between them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from zdd_tui.demo.environment import DemoOptions, Environment, ProgressCallback, start_environment

REGION_NAMES = ("eu", "us", "ap")


@asynccontextmanager
async def start_regions(
    folder: Path, options: DemoOptions, log: ProgressCallback
) -> AsyncIterator[tuple[Environment, ...]]:
    """One production for each of the options' regions, in order; one in all for a plan without regions.

    Each has its own folder, servers, cluster, pods and load, and the same plan file.

    Raises:
        ZddError: something did not come up; names its log.
    """
    async with AsyncExitStack() as stack:
        if not options.regions:
            yield (await stack.enter_async_context(start_environment(folder, options, log)),)
            return
        made: list[Environment] = []
        for name in options.regions:
            log(f"region {name}")
            own = folder / name
            own.mkdir()
            made.append(await stack.enter_async_context(start_environment(own, replace(options, region=name), log)))
        shared = {
            f"{env.options.region.upper()}_{name}": value
            for env in made
            for name, value in env.connection_variables.items()
        }
        for env in made:
            env.region_variables = shared
        yield tuple(made)
