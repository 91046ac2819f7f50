"""The weight of a canary: what the release wants, and what the users really get."""

from dataclasses import dataclass

from zdd_tui.model.release.state import Release, ReleaseState


@dataclass(frozen=True, slots=True)
class CanaryWeight:
    """
    Attributes:
        wanted: percent.
        real: percent; None where it is not known.
        of: what the real share is a share of.
    """

    wanted: int
    real: float | None
    of: str

    @property
    def text(self) -> str:
        """``weight 25%, real 24% of serving pods``."""
        return f"weight {self.wanted}%, real {self.real_text} of {self.of}"

    @property
    def short_text(self) -> str:
        """``weight 25% real 24%``."""
        return f"weight {self.wanted}% real {self.real_text}"

    @property
    def real_text(self) -> str:
        return "?" if self.real is None else f"{self.real:.0f}%"

    def differs(self, points: float) -> bool:
        """The real share is known and misses the wanted one by more than so many percentage points."""
        return self.real is not None and abs(self.real - self.wanted) > points


def wanted_weight(release: Release) -> int | None:
    """The weight that the steps so far have set; None before the first step, and of a release that has ended."""
    if release.state is ReleaseState.PLANNED or release.state.has_ended:
        return None
    steps = release.strategy.steps
    weights = [step for step in steps if step.registry_key == "set-weight"]
    if not weights:
        return None
    weight = max((step.value or 0 for step in weights if release.status(step.name).has_effect), default=0)
    rollouts = [step for step in steps if step.registry_key == "rollout-new"]
    # By a flag the new image is rolled out first, and the last weight is 100: there both say the same.
    is_promoted = any(release.status(step.name).has_effect for step in rollouts)
    return 100 if is_promoted and weight == max(step.value or 0 for step in weights) else weight
