"""The tour of the demo: six steps through an expand/contract release. Pure: the release says which step it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.model.release.state import Release, ReleaseState
from zdd_tui.model.release.strategy import Phase


@dataclass(frozen=True, slots=True)
class TourStep:
    """What the tour shows now.

    Attributes:
        number: from 1; 0 for a text outside of the steps.
        text: what to look at, and which key to press; ``{a}`` stands for the key of the action `a`.
    """

    number: int
    text: str

    def format(self, key_names: Mapping[str, str]) -> str:
        """The text with the operator's own keys.

        Args:
            key_names: name of each action's key, by the action's id.
        """
        text = self.text
        for action, key in key_names.items():
            text = text.replace(f"{{{action}}}", key)
        return text


TOUR_STEPS = (
    TourStep(
        1,
        "This is a release that has not started. The line below its name lists the phases, the line with → says what"
        " to press. Press {advance}: a dialog shows exactly what will run. Enter confirms.",
    ),
    TourStep(
        2,
        "Expand adds the new column; the application does not see it yet. {gates} shows the gates that must pass before"
        " the next phase, Esc goes back. When the → line offers it: {advance}, Enter.",
    ),
    TourStep(
        3,
        "Dual-write rolls out version 2, which writes both columns. Pods at the left: new ones start, old ones drain;"
        " the guard at the right counts failed requests. When the → line offers it: {advance}, Enter.",
    ),
    TourStep(
        4,
        "The backfill copies old rows in batches. {pause} pauses it and continues it; {slower} and {faster} change its"
        " speed; {backfill-detail} shows rate and SQL, Esc goes back. When all rows are verified: {advance}, Enter.",
    ),
    TourStep(
        5,
        "Cutover reads the new column. {charts} compares the new version with the old one. {rollback} shows what a"
        " rollback would undo; Esc closes it without one. When the → line offers it: {advance}, Enter.",
    ),
    TourStep(
        6,
        "Contract has archived the old columns: a rollback still restores them. Cleanup drops them, no rollback is"
        " possible after that, and its dialog asks for the release’s name. {advance}, type the name, Enter.",
    ),
)

NOT_READ = TourStep(0, "The tour begins when the release has been read.")
FINISHED = TourStep(0, "The tour is finished: the release is done. {timeline} shows its history, {quit} ends the demo.")
ROLLED_BACK = TourStep(
    0,
    "The release is rolled back: the same is possible in every phase before cleanup. {quit} ends the demo;"
    " `zdd demo --tour` begins again.",
)

_STEP_OF_PHASE = {Phase.EXPAND: 1, Phase.DUAL_WRITE: 2, Phase.BACKFILL: 3, Phase.CUTOVER: 4}


def current_tour_step(release: Release | None) -> TourStep:
    """The step for the state that the release has got to."""
    if release is None:
        return NOT_READ
    if release.state is ReleaseState.DONE:
        return FINISHED
    if release.state.is_rolling_back or release.state is ReleaseState.ROLLED_BACK:
        return ROLLED_BACK
    phase = release.current_phase
    if phase is None:
        return TOUR_STEPS[0]
    return next((TOUR_STEPS[at] for name, at in _STEP_OF_PHASE.items() if phase.name == name), TOUR_STEPS[-1])
