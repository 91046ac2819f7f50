"""The plans of the strategies that leave the schema alone, and which class a plan file's `strategy` asks for.

Expand/contract has its own page, :mod:`zdd_tui.model.plan`.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, TypeAdapter, field_validator, model_validator

from zdd_tui.model.duration import Duration
from zdd_tui.model.plan import BasePlan, FlagKey, OneImage, Plan, Section


class OneImagePlan(BasePlan):
    """A strategy that brings one new image."""

    kubernetes: OneImage

    def version_of(self, image: str) -> str:
        """``new``, or ``old`` for whatever ran before."""
        return "new" if image == self.kubernetes.image else "old"


class RollingPlan(OneImagePlan):
    """Rolling: pods of the new image replace those of the old one, and capacity never shrinks."""

    strategy: Literal["rolling"]


class CanaryFlag(Section):
    """The feature flag whose percentage is the weight."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${REDIS_URL}")
    key: FlagKey = Field(description="the new image takes its new path for this share of the users")
    max_staleness: Duration = Field(1.0, description="how long a pod may act on a value that was changed")


class Canary(Section):
    """How the new image's share grows."""

    by: Literal["replicas", "flag", "gateway"] = Field(
        "replicas", description="what makes a weight: the share of pods, a flag's percentage, or HTTPRoute weights"
    )
    weights: tuple[int, ...] = Field((10, 50), min_length=1, description="percent, growing; `promote` follows the last")
    tolerance: int = Field(
        5, ge=0, le=50, description="by replicas: points by which the share of pods may miss the weight"
    )
    flag: CanaryFlag | None = Field(None, description="by flag: which one")
    route: str | None = Field(None, min_length=1, description="by gateway: name of the HTTPRoute")

    @field_validator("weights")
    @classmethod
    def _growing(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        for weight in weights:
            if weight > 100:
                raise ValueError(f"a weight is a percentage, and {weight} is over 100")
            if not 0 < weight < 100:
                raise ValueError(f"{weight} is no share: weights lie between 1 and 99, and `promote` brings the rest")
        for lower, higher in pairwise(weights):
            if higher <= lower:
                raise ValueError(f"weights must grow, and {higher} follows {lower}")
        return weights

    @model_validator(mode="after")
    def _needs(self) -> Self:
        for by, name in (("flag", "flag"), ("gateway", "route")):
            if self.by == by and getattr(self, name) is None:
                raise ValueError(f"by {by} needs {name}")
            if self.by != by and getattr(self, name) is not None:
                raise ValueError(f"{name} belongs to `by: {by}`, and this plan says `by: {self.by}`")
        return self


class CanaryPlan(OneImagePlan):
    """Canary: the new image gets a growing share, with a soak and an analysis at each weight."""

    strategy: Literal["canary"]
    canary: Canary = Canary()

    @property
    def canary_deployment(self) -> str:
        """The second Deployment, by replicas and by gateway."""
        return f"{self.kubernetes.deployment}-canary"

    @property
    def canary_service(self) -> str:
        """The Service of the second Deployment, by gateway."""
        return f"{self.service}-canary"

    @property
    def redis_url(self) -> SecretStr | None:
        return self.canary.flag.url if self.canary.flag else None

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.canary.flag.key: "weight"} if self.canary.flag else {}

    @property
    def flag_staleness(self) -> float:
        return self.canary.flag.max_staleness if self.canary.flag else 0.0


PLANS: Mapping[str, type[BasePlan]] = {
    "expand/contract": Plan,
    "rolling": RollingPlan,
    "canary": CanaryPlan,
}
"""What `strategy` may say; a plan that does not say it is an expand/contract plan."""

ANY_PLAN: TypeAdapter[BasePlan] = TypeAdapter(
    Annotated[Plan | RollingPlan | CanaryPlan, Field(discriminator="strategy")]
)
"""For the JSON Schema alone: plan files are read by class, so that an error names the class's own keys."""


def plan_schema() -> dict[str, object]:
    """The JSON Schema of a plan file of any strategy."""
    return ANY_PLAN.json_schema()
