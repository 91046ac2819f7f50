"""The `regions` section of a plan: the regions in order, each with its differences from the rest of the plan."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from zdd_tui.model.duration import Duration
from zdd_tui.model.plan.section import PlanSection

RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]


class RegionDatabase(PlanSection):
    """The region's own PostgreSQL."""

    dsn: SecretStr = Field(description="postgresql:// address; take it from the environment: ${EU_DATABASE_URL}")


class RegionKubernetes(PlanSection):
    """Location of the region's Deployment; its name is the same everywhere."""

    kubeconfig: str | None = Field(None, min_length=1, description="path; default: that of the plan")
    context: str | None = Field(None, min_length=1, description="context of the kubeconfig; default: that of the plan")
    namespace: str | None = Field(None, min_length=1, description="default: that of the plan")

    @model_validator(mode="after")
    def _require_override(self) -> Self:
        if not self.overrides:
            raise ValueError("it overrides nothing: set kubeconfig, context or namespace, or leave it out")
        return self

    @property
    def overrides(self) -> dict[str, str]:
        return {name: value for name, value in self.model_dump().items() if value is not None}


class RegionFlags(PlanSection):
    """The region's own Redis."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${EU_REDIS_URL}")


class Region(PlanSection):
    """One region: keys that it does not set are those of the rest of the plan."""

    name: RegionName = Field(description="such as eu-1; used with --region")
    database: RegionDatabase | None = Field(None, description="the region's own database")
    kubernetes: RegionKubernetes | None = Field(None, description="the region's own cluster, or namespace")
    flags: RegionFlags | None = Field(None, description="the region's own Redis, where the strategy has flags")


class Regions(PlanSection):
    """The regions are released one after the other: each starts when the one before it is done and has soaked."""

    soak: Duration = Field(300.0, description="how long a region must have been done before the next one starts")
    order: tuple[Region, ...] = Field(min_length=2, description="the regions, in the order of the release")

    @field_validator("order")
    @classmethod
    def _check_unique_names(cls, order: tuple[Region, ...]) -> tuple[Region, ...]:
        names = [region.name for region in order]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two regions have the name {name}")
        return order

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(region.name for region in self.order)
