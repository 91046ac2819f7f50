"""Short seeds: a small table, one or two acts. ``make chaos SEEDS=200`` runs longer ones."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.chaos.saboteur.production import Production, start_production
from tests.chaos.saboteur.run import run_seed
from tests.support.release import forked_programs
from zdd_tui.testbed.processes import scratch_folder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

SEEDS = (2, 7, 13, 15, 17, 22, 24, 26, 49, 58)
"""Between them every kind of release, two rollbacks, and every act."""

SLOW_SEEDS = (1,)
"""A rollback from contract."""


@pytest.fixture(scope="module")
def runner() -> Iterator[tuple[asyncio.Runner, Production]]:
    """One production for all seeds of a process: each prepares it anew. Its servers end with the loop."""
    with scratch_folder("zdd-chaos-") as folder, forked_programs(), asyncio.Runner() as runner:
        starting = start_production(folder)
        production = runner.run(starting.__aenter__())
        try:
            yield runner, production
        finally:
            runner.run(starting.__aexit__(None, None, None))


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW_SEEDS)])
def test_no_row_is_lost_and_every_stop_has_its_cause(seed: int, runner: tuple[asyncio.Runner, Production]) -> None:
    loop, production = runner
    result = loop.run(run_seed(production, seed, "short"))
    assert result.is_good, f"{result.report()}\nrepeat it: make chaos SEED={seed} SIZE=short"
