"""Where the guard's numbers come from, as a plan writes it, and how it writes limits."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from zdd_tui.model.duration import Duration, parse_duration


class GuardAction(StrEnum):
    """What a rule asks for when it fails."""

    ROLLBACK = "rollback"
    PAUSE = "pause"
    ALERT = "alert"


class Unit(StrEnum):
    """What a rule's value counts: a share of 1, seconds, pieces, or whatever a query gives."""

    RATIO = "ratio"
    SECONDS = "seconds"
    COUNT = "count"
    NUMBER = "number"


_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
_QUANTILE = re.compile(r"^p(\d{1,2})(\d*)$")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def parse_amount(value: object) -> float:
    """A limit: ``1%`` is 0.01, ``200ms`` is 0.2, a bare number is itself.

    Raises:
        ValueError: none of them.
    """
    if isinstance(value, str) and (match := _PERCENT.match(value)):
        return float(match[1]) / 100
    if isinstance(value, bool):
        raise ValueError("expected a limit such as 1%, 200ms or 0.5")
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(str(value))
    except ValueError:
        pass
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(f"expected a limit such as 1%, 200ms or 0.5, got {value!r}") from None


def parse_quantile(value: object) -> float:
    """``p99`` or ``0.99``.

    Raises:
        ValueError: no quantile between 0 and 1.
    """
    if isinstance(value, str) and (match := _QUANTILE.match(value.strip().lower())):
        found = float(f"0.{match[1]:0>2}{match[2]}")
    else:
        found = parse_amount(value)
    if not 0 < found < 1:
        raise ValueError(f"a quantile lies between 0 and 1, such as p99 or 0.99, got {value!r}")
    return found


Amount = Annotated[
    float, BeforeValidator(parse_amount), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
"""A share of 1, seconds, or a plain number; what it is follows from the rule's metric."""
Quantile = Annotated[
    float, BeforeValidator(parse_quantile), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]


class Scrape(Section):
    """The pods' own metrics in Prometheus' text format; no server is needed."""

    path: str = Field("/metrics", pattern="^/", description="where a pod shows its metrics")
    port: int | None = Field(None, ge=1, le=65535, description="the pods' port; default: the Service's target port")
    timeout: Duration = Field(1.0, gt=0, description="how long one pod may take to answer")
    parallel: int = Field(50, ge=1, le=500, description="pods that are asked at the same time")
    requests: str = Field("http_requests_total", min_length=1, description="counter of requests, by status code")
    code: str = Field("code", min_length=1, description="its label that holds the status code")
    errors: str = Field("5..", min_length=1, description="regular expression: which status codes are errors")
    duration: str = Field("http_request_duration_seconds", min_length=1, description="histogram of latencies, seconds")

    @field_validator("errors")
    @classmethod
    def _matches_something(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not any(compiled.fullmatch(str(code)) for code in range(100, 600)):
            raise ValueError(f"{pattern!r} matches no HTTP status code, so no rule over errors could ever fire")
        return pattern


class PrometheusServer(Section):
    """A Prometheus server, or whatever speaks its HTTP API."""

    url: SecretStr = Field(description="http(s):// address; take one with a password from the environment")
    token: SecretStr | None = Field(None, description="bearer token; take it from the environment")
    timeout: Duration = Field(5.0, gt=0, description="how long an answer may take; then the rule is unknown")
    max_skew: Duration = Field(30.0, description="an answer for a moment further from now than this counts as none")

    @field_validator("url")
    @classmethod
    def _http(cls, url: SecretStr) -> SecretStr:
        return _http_address(url, "http://prometheus:9090")


class Probe(Section):
    """Requests of our own, one to each target every `guard.interval`."""

    url: SecretStr | None = Field(None, description="one address that is asked, such as the public one")
    path: str | None = Field(None, pattern="^/", description="asked at each ready endpoint of the Service")
    timeout: Duration = Field(2.0, gt=0, description="an answer that takes longer is an error")
    expect: str = Field("[23]..", min_length=1, description="regular expression: status codes that are no error")

    @field_validator("url")
    @classmethod
    def _http(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else _http_address(url, "https://shop.example.com/ready")

    @field_validator("expect")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not any(compiled.fullmatch(str(code)) for code in range(100, 600)):
            raise ValueError(f"{pattern!r} matches no HTTP status code, so every probe would be an error")
        return pattern

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("a probe needs either url or path, and not both")
        return self


def _http_address(url: SecretStr, example: str) -> SecretStr:
    if not re.match(r"^https?://[^/\s]+", url.get_secret_value()):
        raise ValueError(f"expected an address such as {example}")
    return url


class Sources(Section):
    """Where numbers come from; the pods' own metrics need no entry here."""

    scrape: Scrape = Scrape()
    prometheus: PrometheusServer | None = None
    probe: Probe | None = None
