"""The plans of the strategies that leave the schema alone.

Expand/contract is in :mod:`zdd_tui.model.plan.base` and :mod:`zdd_tui.model.plan.operations`.
"""

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from zdd_tui.model.duration import Duration
from zdd_tui.model.plan.base import SingleImageWorkload, WorkloadPlan
from zdd_tui.model.plan.section import FlagKey, FlagSection, PartialShares, PlanSection, Shares, Strings


class SingleImagePlan(WorkloadPlan):
    """A strategy that rolls out one new image."""

    kubernetes: SingleImageWorkload
    migrations: Strings = Field(
        (),
        description="files with the SQL that ships with the release, relative to the plan file; zdd does not run them:"
        " it refuses what running code does not survive",
    )

    def version_of(self, image: str) -> str:
        """``new``, or ``old`` for any other image."""
        return "new" if self.is_image(self.kubernetes.image, image) else "old"


class RollingPlan(SingleImagePlan):
    """Rolling: pods of the new image replace those of the old one, without losing capacity."""

    strategy: Literal["rolling"]


class CanaryFlag(FlagSection):
    """The feature flag whose percentage is the weight."""

    key: FlagKey = Field(description="for this share of the users the new image takes its new path")


class Canary(PlanSection):
    """How the new image's share grows."""

    by: Literal["replicas", "flag", "gateway"] = Field(
        "replicas", description="what sets the weight: the share of pods, a flag's percentage, or HTTPRoute weights"
    )
    weights: PartialShares = Field((10, 50), min_length=1, description="percent, growing; `promote` follows the last")
    tolerance: int = Field(5, ge=0, le=50, description="by replicas: how far the share of pods may be from the weight")
    flag: CanaryFlag | None = Field(None, description="by flag: the flag")
    route: str | None = Field(None, min_length=1, description="by gateway: name of the HTTPRoute")

    @model_validator(mode="after")
    def _check_required_keys(self) -> Self:
        for by, name in (("flag", "flag"), ("gateway", "route")):
            if self.by == by and getattr(self, name) is None:
                raise ValueError(f"by {by} needs {name}")
            if self.by != by and getattr(self, name) is not None:
                raise ValueError(f"{name} belongs to `by: {by}`, and this plan has `by: {self.by}`")
        return self


class CanaryPlan(SingleImagePlan):
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
    def workloads(self) -> tuple[str, ...]:
        first = self.kubernetes.deployment
        return (first,) if self.canary.by == "flag" else (first, self.canary_deployment)

    @property
    def services(self) -> tuple[str, ...]:
        return (self.service, self.canary_service) if self.canary.by == "gateway" else (self.service,)

    @property
    def flag_section(self) -> FlagSection | None:
        return self.canary.flag

    def with_redis(self, url: SecretStr) -> Self:
        if self.canary.flag is None:
            return super().with_redis(url)
        flag = self.canary.flag.model_copy(update={"url": url})
        return self.model_copy(update={"canary": self.canary.model_copy(update={"flag": flag})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.canary.flag.key: "weight"} if self.canary.flag else {}


class SmokeCheck(PlanSection):
    """One GET request that the new pods must pass before they get traffic."""

    path: str = Field(pattern=r"^/[^\s#]*$", description="such as /version; with a query where it needs one")
    status: int = Field(200, ge=100, le=599, description="the expected status; redirects are not followed")
    contains: str | None = Field(None, min_length=1, description="text that the body must contain")

    def __str__(self) -> str:
        text = f", {self.contains!r} in the body" if self.contains else ""
        return f"GET {self.path}: {self.status}{text}"


class BlueGreen(PlanSection):
    """How the new pods are tested before the switch."""

    smoke: tuple[SmokeCheck, ...] = Field(
        min_length=1, description="requests that every new pod must pass before the Service is switched"
    )
    smoke_timeout: Duration = Field(5.0, description="how long one response may take")


class BlueGreenPlan(SingleImagePlan):
    """Blue/green: a second Deployment is tested beside the first, then gets all traffic in one patch."""

    strategy: Literal["blue-green"]
    blue_green: BlueGreen

    @property
    def workloads(self) -> tuple[str, ...]:
        return (self.kubernetes.deployment, self.green_deployment)

    @property
    def green_deployment(self) -> str:
        """The second Deployment."""
        return f"{self.kubernetes.deployment}-green"

    @property
    def preview_service(self) -> str:
        """The Service of the new pods before they get traffic."""
        return f"{self.service}-preview"


class DarkFlags(FlagSection):
    """The two flags of a dark launch."""

    shadow: FlagKey = Field(description="for this share of requests the new path runs too, and its result is dropped")
    read: FlagKey = Field(description="this share of users gets the result of the new path")

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if self.shadow == self.read:
            raise ValueError("shadow and read must be two flags: the new path is compared before it serves")
        return self


class Dark(PlanSection):
    """The shares of the new path, first compared only and then served, and its limits."""

    path: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="name of the path in the application's metrics")
    shadow: Shares = Field((1, 25, 100), min_length=1, description="percent of requests, growing")
    ramp: Shares = Field((10, 50, 100), min_length=1, description="percent of users, growing up to 100")
    max_mismatch: float = Field(
        0.1, ge=0, le=100, description="percent of comparisons that may differ, fail or time out"
    )
    min_sample: int = Field(
        200, ge=1, description="with fewer comparisons than this in a phase the gates are inconclusive"
    )
    max_latency_ratio: float = Field(
        2.0, gt=0, description="limit of the new path's latency, as a multiple of the old one's"
    )
    latency_quantile: float = Field(0.95, gt=0, lt=1, description="the compared quantile of the latency")

    @field_validator("ramp")
    @classmethod
    def _check_ends_at_100(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        if weights[-1] != 100:
            raise ValueError("the ramp must end at 100, where all users have the new path")
        return weights


class DarkLaunchPlan(SingleImagePlan):
    """Dark launch: the new path runs beside the old one and is compared, then serves a growing share of users."""

    strategy: Literal["dark-launch"]
    flags: DarkFlags
    dark: Dark

    @property
    def flag_section(self) -> FlagSection:
        return self.flags

    def with_redis(self, url: SecretStr) -> Self:
        return self.model_copy(update={"flags": self.flags.model_copy(update={"url": url})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.flags.shadow: "shadow", self.flags.read: "read"}
