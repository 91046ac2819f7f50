"""What every section of a plan is built from."""

from datetime import date
from functools import partial
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints

from zdd_tui.model.duration import Duration

FlagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Strings = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
"""A list of texts; a plan may write a single one without a list."""


class PlanSection(BaseModel):
    """A mapping in a plan file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FlagSection(PlanSection):
    """Feature flags in Redis, `ff:<key>` each; the strategies add their keys."""

    url: SecretStr = Field(description="redis:// address; take it from the environment: ${REDIS_URL}")
    max_staleness: Duration = Field(1.0, description="how long a pod may use a value after it was changed")
    owner: str | None = Field(None, min_length=1, description="who owns the flags: a person or a team")
    expires: date | None = Field(None, description="the date by which the flags must be removed, such as 2027-01-31")


def _require_growing_shares(shares: tuple[int, ...], *, maximum: int) -> tuple[int, ...]:
    for share in shares:
        if not 0 < share <= maximum:
            raise ValueError(f"a share lies between 1 and {maximum} percent, got {share}")
    for lower, higher in pairwise(shares):
        if higher <= lower:
            raise ValueError(f"shares must grow, and {higher} follows {lower}")
    return shares


PartialShares = Annotated[tuple[int, ...], AfterValidator(partial(_require_growing_shares, maximum=99))]
"""Percentages from 1 to 99, each larger than the one before it."""
Shares = Annotated[tuple[int, ...], AfterValidator(partial(_require_growing_shares, maximum=100))]
"""The same, up to 100."""
