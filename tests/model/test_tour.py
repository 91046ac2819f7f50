"""The tour of the demo follows the release."""

import re

import pytest

from tests.support.states import PHASES, release
from zdd_tui.model.actions import ACTIONS, default_keys
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.tour import FINISHED, NOT_READ, ROLLED_BACK, TOUR_STEPS, TourStep, current_tour_step


def test_the_six_steps_follow_the_phases() -> None:
    planned = release(ReleaseState.PLANNED)
    steps = [current_tour_step(planned), *(current_tour_step(release(ReleaseState.WAITING, name)) for name in PHASES)]
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6, 6]
    assert current_tour_step(None) is NOT_READ
    assert current_tour_step(release(ReleaseState.DONE, PHASES[-1])) is FINISHED
    for state in (ReleaseState.ROLLING_BACK, ReleaseState.ROLLED_BACK, ReleaseState.ROLLBACK_FAILED):
        assert current_tour_step(release(state, "backfill")) is ROLLED_BACK


@pytest.mark.parametrize("step", [*TOUR_STEPS, FINISHED, ROLLED_BACK, NOT_READ])
def test_every_step_names_keys_that_exist(step: TourStep) -> None:
    assert set(re.findall(r"{([^}]*)}", step.text)) <= {action.id for action in ACTIONS}
    assert "{" not in step.format(default_keys())
    assert not step.number or re.search(r"{\w", step.text)
