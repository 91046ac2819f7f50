"""The plans of the strategies that leave the schema alone, and which class a plan file's `strategy` asks for.

Expand/contract has its own page, :mod:`zdd_tui.model.plan.base`.
"""

import re
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, TypeAdapter, field_validator, model_validator

from zdd_tui.model.duration import Duration
from zdd_tui.model.plan.base import BasePlan, FlagKey, Plan, SingleImageWorkload
from zdd_tui.model.plan.guard import PlanSection


class SingleImagePlan(BasePlan):
    """A strategy that brings one new image."""

    kubernetes: SingleImageWorkload
    migrations: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (),
        description="files with the SQL that ships with the release, relative to the plan file; zdd does not run them:"
        " it refuses what running code does not survive",
    )

    @field_validator("migrations", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def version_of(self, image: str) -> str:
        """``new``, or ``old`` for whatever ran before."""
        return "new" if image == self.kubernetes.image else "old"


class RollingPlan(SingleImagePlan):
    """Rolling: pods of the new image replace those of the old one, and capacity never shrinks."""

    strategy: Literal["rolling"]


class CanaryFlag(PlanSection):
    """The feature flag whose percentage is the weight."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${REDIS_URL}")
    key: FlagKey = Field(description="the new image takes its new path for this share of the users")
    max_staleness: Duration = Field(1.0, description="how long a pod may act on a value that was changed")
    owner: str | None = Field(None, min_length=1, description="who answers for the flag: a person or a team")
    expires: date | None = Field(None, description="the day on which it should be gone, such as 2027-01-31")


class Canary(PlanSection):
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
    def _check_growing(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
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
    def _check_required_keys(self) -> Self:
        for by, name in (("flag", "flag"), ("gateway", "route")):
            if self.by == by and getattr(self, name) is None:
                raise ValueError(f"by {by} needs {name}")
            if self.by != by and getattr(self, name) is not None:
                raise ValueError(f"{name} belongs to `by: {by}`, and this plan says `by: {self.by}`")
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
    def redis_url(self) -> SecretStr | None:
        return self.canary.flag.url if self.canary.flag else None

    def with_redis(self, url: SecretStr) -> Self:
        if self.canary.flag is None:
            return super().with_redis(url)
        flag = self.canary.flag.model_copy(update={"url": url})
        return self.model_copy(update={"canary": self.canary.model_copy(update={"flag": flag})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.canary.flag.key: "weight"} if self.canary.flag else {}

    @property
    def flag_staleness(self) -> float:
        return self.canary.flag.max_staleness if self.canary.flag else 0.0


class SmokeCheck(PlanSection):
    """One GET request that the new pods must answer as told before they get traffic."""

    path: str = Field(pattern=r"^/[^\s#]*$", description="such as /version; with a query where it needs one")
    status: int = Field(200, ge=100, le=599, description="the expected status; redirects are not followed")
    contains: str | None = Field(None, min_length=1, description="text that must stand in the body")

    def __str__(self) -> str:
        text = f", {self.contains!r} in the body" if self.contains else ""
        return f"GET {self.path}: {self.status}{text}"


class BlueGreen(PlanSection):
    """How the new pods are tried before the switch."""

    smoke: tuple[SmokeCheck, ...] = Field(
        min_length=1, description="requests that every new pod must answer before the Service is switched"
    )
    smoke_timeout: Duration = Field(5.0, description="how long one answer may take")


class BlueGreenPlan(SingleImagePlan):
    """Blue/green: a second Deployment is tried beside the first, then takes all traffic in one patch."""

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
        """The Service by which the new pods are found before they get traffic."""
        return f"{self.service}-preview"


class DarkFlags(PlanSection):
    """The two flags of a dark launch in Redis, `ff:<key>` each."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${REDIS_URL}")
    shadow: FlagKey = Field(description="for this share of requests the new path runs too, and nobody sees it")
    read: FlagKey = Field(description="this share of users is answered by the new path")
    max_staleness: Duration = Field(1.0, description="how long a pod may act on a value that was changed")
    owner: str | None = Field(None, min_length=1, description="who answers for the flags: a person or a team")
    expires: date | None = Field(None, description="the day on which they should be gone, such as 2027-01-31")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.shadow == self.read:
            raise ValueError("shadow and read must be two flags: the new path is compared before it answers")
        return self


class Dark(PlanSection):
    """How far the new path goes unseen and then seen, and what it may do wrong on the way."""

    path: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="name of the path, as the application's metrics say")
    shadow: tuple[int, ...] = Field((1, 25, 100), min_length=1, description="percent of requests, growing")
    ramp: tuple[int, ...] = Field((10, 50, 100), min_length=1, description="percent of users, growing up to 100")
    max_mismatch: float = Field(
        0.1, ge=0, le=100, description="percent of comparisons that may differ, fail or time out"
    )
    min_sample: int = Field(200, ge=1, description="fewer comparisons than this in a phase are inconclusive")
    max_latency_ratio: float = Field(2.0, gt=0, description="the new path's latency may be so many times the old's")
    latency_quantile: float = Field(0.95, gt=0, lt=1, description="which latency is compared")

    @field_validator("shadow", "ramp")
    @classmethod
    def _check_growing(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        for weight in weights:
            if not 0 < weight <= 100:
                raise ValueError(f"a share lies between 1 and 100 percent, and {weight} does not")
        for lower, higher in pairwise(weights):
            if higher <= lower:
                raise ValueError(f"shares must grow, and {higher} follows {lower}")
        return weights

    @field_validator("ramp")
    @classmethod
    def _check_ends_at_100(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        if weights[-1] != 100:
            raise ValueError("the ramp ends at 100: until then not everybody has the new path")
        return weights


class DarkLaunchPlan(SingleImagePlan):
    """Dark launch: the new path runs unseen beside the old one and is compared, then answers more and more users."""

    strategy: Literal["dark-launch"]
    flags: DarkFlags
    dark: Dark

    @property
    def redis_url(self) -> SecretStr | None:
        return self.flags.url

    def with_redis(self, url: SecretStr) -> Self:
        return self.model_copy(update={"flags": self.flags.model_copy(update={"url": url})})

    @property
    def flag_roles(self) -> dict[str, str]:
        return {self.flags.shadow: "shadow", self.flags.read: "read"}

    @property
    def flag_staleness(self) -> float:
        return self.flags.max_staleness


PLAN_CLASSES: Mapping[str, type[BasePlan]] = {
    "expand-contract": Plan,
    "rolling": RollingPlan,
    "canary": CanaryPlan,
    "blue-green": BlueGreenPlan,
    "dark-launch": DarkLaunchPlan,
}
"""What `strategy` may say; a plan that does not say it is an expand/contract plan."""


_TITLES = {
    "expand-contract": "Expand/Contract",
    "rolling": "Rolling",
    "canary": "Canary",
    "blue-green": "Blue/Green",
    "dark-launch": "Dark launch",
}


def strategy_title(name: str) -> str:
    """A strategy's name as screens and reports show it: ``Blue/Green`` for ``blue-green``."""
    return _TITLES.get(name, name)


def normalize_strategy(text: str) -> str:
    """The name that plans, command line and code use, from any form that is shown: ``Blue/Green``, ``blue/green``."""
    return "-".join(re.split(r"[/\s]+", text.strip().lower()))


def build_plan_schema() -> dict[str, object]:
    """The JSON Schema of a plan file of any strategy.

    A plan file itself is read by class, so that an error names the class's own keys.
    """
    either = Plan | RollingPlan | CanaryPlan | BlueGreenPlan | DarkLaunchPlan
    return TypeAdapter(Annotated[either, Field(discriminator="strategy")]).json_schema()
