"""Dense seeds: a small table, three or four acts. ``make chaos SEEDS=200`` runs longer ones."""

import asyncio
from collections.abc import Iterator
from itertools import product

import pytest

from tests.chaos.saboteur.production import Production, start_production
from tests.chaos.saboteur.run import run_seed
from tests.chaos.saboteur.script import SIZES, WEIGHTS, make_script
from tests.support.release import forked_programs
from zdd_tui.testbed.processes import scratch_folder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

SEEDS = (141, 1625, 2192, 2612, 2913)
"""Dense: between them every kind of release, two rollbacks, and every act."""

SHORT_SEEDS = (1, 2, 7, 13, 15, 17, 22, 24, 26, 49, 58)
"""The same with one or two acts for each release."""


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


def test_the_seeds_have_every_act_and_every_kind_of_release() -> None:
    scripts = [make_script(seed, SIZES["dense"]) for seed in SEEDS]
    assert {moment.act for script in scripts for moment in script.moments} == set(WEIGHTS)
    assert {(script.kind, script.mode) for script in scripts} == set(
        product(("column", "table"), ("application", "trigger"))
    )
    assert len([script for script in scripts if script.rollback]) == 2


@pytest.mark.parametrize(
    ("seed", "size"),
    [
        *((seed, "dense") for seed in SEEDS),
        *(pytest.param(seed, "short", marks=pytest.mark.slow) for seed in SHORT_SEEDS),
    ],
)
def test_no_row_is_lost_and_every_stop_has_its_cause(
    seed: int, size: str, runner: tuple[asyncio.Runner, Production]
) -> None:
    loop, production = runner
    result = loop.run(run_seed(production, seed, size))
    assert result.is_good, f"{result.report()}\nrepeat it: make chaos SEED={seed} SIZE={size}"
