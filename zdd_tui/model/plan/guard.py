"""The plan's `guard` section: where the numbers come from, and the rules over them.

A rule that could never fire is refused here: a guard that only seems to watch is worse than none.
Burn rates: Google, The Site Reliability Workbook, chapter 5, "6: Multiwindow, Multi-Burn-Rate Alerts".
"""

import math
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from zdd_tui.model.duration import Duration, format_duration, parse_duration
from zdd_tui.model.errors import with_hint
from zdd_tui.model.plan.section import PlanSection


class GuardAction(StrEnum):
    """What the guard does when a rule fails."""

    ROLLBACK = "rollback"
    PAUSE = "pause"
    ALERT = "alert"


class MetricUnit(StrEnum):
    """The unit of a rule's value: a share of 1, seconds, a count, or whatever a query returns."""

    RATIO = "ratio"
    SECONDS = "seconds"
    COUNT = "count"
    NUMBER = "number"


_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
_QUANTILE = re.compile(r"^p(\d{1,2})(\d*)$")


def parse_amount(value: object) -> float:
    """A limit: ``1%`` is 0.01, ``200ms`` is 0.2, a bare number is itself.

    Raises:
        ValueError: not a limit.
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
        ValueError: not a quantile between 0 and 1.
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
"""A share of 1, seconds, or a plain number; the rule's metric decides which."""
Quantile = Annotated[
    float, BeforeValidator(parse_quantile), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]


class Scrape(PlanSection):
    """The pods' own metrics in Prometheus' text format; no server is needed."""

    path: str = Field("/metrics", pattern="^/", description="path of the pods' metrics")
    port: int | None = Field(None, ge=1, le=65535, description="the pods' port; default: the Service's target port")
    timeout: Duration = Field(1.0, gt=0, description="how long one pod may take to respond")
    parallel: int = Field(50, ge=1, le=500, description="pods that are read at the same time")
    requests: str = Field("http_requests_total", min_length=1, description="counter of requests, by status code")
    code: str = Field("code", min_length=1, description="the label with the status code")
    errors: str = Field("5..", min_length=1, description="regular expression: which status codes are errors")
    duration: str = Field("http_request_duration_seconds", min_length=1, description="histogram of latencies, seconds")

    @field_validator("errors")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        return _require_status_pattern(pattern, "no rule for errors could ever fire")


class PrometheusServer(PlanSection):
    """A Prometheus server, or whatever speaks its HTTP API."""

    url: SecretStr = Field(description="http(s):// address; take one with a password from the environment")
    token: SecretStr | None = Field(None, description="bearer token; take it from the environment")
    timeout: Duration = Field(5.0, gt=0, description="how long a response may take; after that the rule has no data")
    max_skew: Duration = Field(
        30.0, description="a result with a timestamp further from now than this counts as no data"
    )

    @field_validator("url")
    @classmethod
    def _check_http_url(cls, url: SecretStr) -> SecretStr:
        return _require_http_url(url, "http://prometheus:9090")


class Probe(PlanSection):
    """Requests that the agent sends, one to each target every `guard.interval`."""

    url: SecretStr | None = Field(None, description="one address that is requested, such as the public one")
    path: str | None = Field(None, pattern="^/", description="requested at each ready endpoint of the Service")
    timeout: Duration = Field(2.0, gt=0, description="a response that takes longer is an error")
    expect: str = Field("[23]..", min_length=1, description="regular expression: status codes of success")

    @field_validator("url")
    @classmethod
    def _check_http_url(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else _require_http_url(url, "https://shop.example.com/ready")

    @field_validator("expect")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        return _require_status_pattern(pattern, "every probe would be an error")

    @model_validator(mode="after")
    def _require_one_target(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("a probe needs either url or path, and not both")
        return self


def _require_status_pattern(pattern: str, consequence: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if not any(compiled.fullmatch(str(code)) for code in range(100, 600)):
        raise ValueError(f"{pattern!r} matches no HTTP status code, so {consequence}")
    return pattern


def _require_http_url(url: SecretStr, example: str) -> SecretStr:
    if not re.match(r"^https?://[^/\s]+", url.get_secret_value()):
        raise ValueError(f"expected an address such as {example}")
    return url


class Sources(PlanSection):
    """Where the numbers come from; the pods' own metrics need no entry here."""

    scrape: Scrape = Scrape()
    prometheus: PrometheusServer | None = None
    probe: Probe | None = None


MAX_FOR = 3600.0
"""Seconds. A breach that must last longer than this would end after the release that caused it."""


class Metric(StrEnum):
    """What a rule measures."""

    ERROR_RATE = "error-rate"
    LATENCY = "latency"
    RESTARTS = "restarts"
    QUERY = "query"


class Source(StrEnum):
    """Where a rule's numbers come from."""

    SCRAPE = "scrape"
    PROBE = "probe"
    PROMETHEUS = "prometheus"
    KUBERNETES = "kubernetes"


class Compare(PlanSection):
    """The new version against the old one at the same time; exactly one of the three."""

    ratio: float | None = Field(None, gt=0, description="new may be at most this many times old")
    difference: Amount | None = Field(None, ge=0, description="new may be at most this much above old")
    rank_test: float | None = Field(
        None, gt=0, lt=0.5, description="Mann-Whitney: new is worse where the p-value is below this"
    )

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Self:
        if sum(part is not None for part in (self.ratio, self.difference, self.rank_test)) != 1:
            raise ValueError("compare needs exactly one of ratio, difference and rank_test")
        if self.ratio is not None and not math.isfinite(self.ratio):
            raise ValueError("an infinite ratio can never be exceeded: this rule could never fire")
        return self


class Burn(PlanSection):
    """How fast the error budget burns, over a long and a short window; both must exceed the limit."""

    objective: Amount = Field(gt=0, lt=1, description="the promised share of good requests, such as 99.9%")
    factor: float = Field(14.4, gt=0, description="how many times faster than the budget allows")
    long: Duration = Field(3600.0, description="the window that shows that the breach matters")
    short: Duration = Field(300.0, description="the window that shows that the breach continues")

    @property
    def limit(self) -> float:
        """The error rate at which the budget burns `factor` times too fast."""
        return self.factor * (1 - self.objective)

    @model_validator(mode="after")
    def _check_can_fire(self) -> Self:
        if self.limit >= 1:
            most = 1 / (1 - self.objective)
            title = f"burning {self.factor:g} times too fast is an error rate of {self.limit:.0%}: it could never fire"
            raise ValueError(with_hint(title, f"use a factor under {most:.3g}, or a stricter objective"))
        if self.short >= self.long:
            raise ValueError("short must be shorter than long")
        return self


class NoData(PlanSection):
    """The action for a rule without data. Until then, an unknown verdict only keeps the gates closed."""

    after: Duration = Field(gt=0, description="how long there must have been no data")
    action: GuardAction = Field(GuardAction.PAUSE, description="what the guard does then")


class GuardRule(PlanSection):
    """One rule. It is breached while its value is above its limit."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")]
    metric: Metric
    source: Source | None = Field(None, description="default: scrape; prometheus for a query")
    limit: Amount | None = Field(
        None, ge=0, description="1%, 200ms or a number; with compare: values below this never breach"
    )
    quantile: Quantile = Field(0.99, description="of a latency: p99 or 0.99")
    query: str | None = Field(None, min_length=1, description="PromQL that returns one number")
    baseline: str | None = Field(None, min_length=1, description="of a query that compares: PromQL for the old version")
    samples: str | None = Field(None, min_length=1, description="of a query: PromQL that counts its samples")
    version: Literal["each", "new", "all"] = Field(
        "each", description="each version separately, and the worst counts; the new one; or all"
    )
    compare: Compare | None = None
    burn: Burn | None = None
    window: Duration = Field(60.0, gt=0, description="the time that the value covers")
    for_: Duration = Field(0.0, alias="for", le=MAX_FOR, description="how long the limit must be exceeded")
    min_samples: int | None = Field(None, ge=0, description="fewer are inconclusive; default: 20, of a query 0")
    action: GuardAction = GuardAction.ROLLBACK
    no_data: NoData | None = None

    @model_validator(mode="before")
    @classmethod
    def _parse_units(cls, raw: Any) -> Any:
        if isinstance(raw, dict):
            metric, limit = raw.get("metric"), raw.get("limit")
            if metric == Metric.ERROR_RATE and isinstance(limit, str) and re.search(r"[a-z]", limit):
                raise ValueError(f"limit: an error rate is a share such as 1%, got {limit!r}")
            if metric == Metric.LATENCY and isinstance(limit, str) and limit.strip().endswith("%"):
                raise ValueError(f"limit: a latency is a time such as 200ms, got {limit!r}")
        return raw

    @property
    def unit(self) -> MetricUnit:
        """The unit of its value and its limit."""
        by_metric = {
            Metric.ERROR_RATE: MetricUnit.RATIO,
            Metric.LATENCY: MetricUnit.SECONDS,
            Metric.RESTARTS: MetricUnit.COUNT,
        }
        return by_metric.get(self.metric, MetricUnit.NUMBER)

    @property
    def effective_source(self) -> Source:
        """Its source, with the default filled in."""
        if self.source is not None:
            return self.source
        by_metric = {Metric.QUERY: Source.PROMETHEUS, Metric.RESTARTS: Source.KUBERNETES}
        return by_metric.get(self.metric, Source.SCRAPE)

    @property
    def required_samples(self) -> int:
        """Number of samples that a verdict needs."""
        if self.min_samples is not None:
            return self.min_samples
        return 20 if self.metric in (Metric.ERROR_RATE, Metric.LATENCY) else 0

    @property
    def windows(self) -> tuple[float, ...]:
        """In seconds; two for a burn rate."""
        return (self.burn.long, self.burn.short) if self.burn else (self.window,)

    @model_validator(mode="after")
    def _check_consistent(self) -> Self:
        for check in (_check_source, _check_has_limit, _check_combination, _check_limit_reachable):
            check(self)
        return self


def _check_source(rule: GuardRule) -> None:
    allowed = {Metric.QUERY: (Source.PROMETHEUS,), Metric.RESTARTS: (Source.KUBERNETES,)}.get(
        rule.metric, (Source.SCRAPE, Source.PROBE)
    )
    if rule.effective_source not in allowed:
        title = f"source: {rule.metric} comes from {' or '.join(allowed)}, not from {rule.effective_source}"
        is_prometheus = rule.effective_source is Source.PROMETHEUS
        raise ValueError(with_hint(title, "write it as metric: query" if is_prometheus else ""))


def _check_has_limit(rule: GuardRule) -> None:
    if rule.limit is None and rule.compare is None and rule.burn is None:
        raise ValueError(with_hint("this rule could never fire: it has no limit", "add limit, compare or burn"))
    if rule.burn is not None and (rule.limit is not None or rule.compare is not None):
        raise ValueError("burn computes the limit: leave out limit and compare")
    if rule.burn is not None and rule.metric is not Metric.ERROR_RATE:
        raise ValueError("burn belongs to metric: error-rate")


def _check_combination(rule: GuardRule) -> None:
    if rule.metric is Metric.QUERY and rule.query is None:
        raise ValueError("metric: query needs query, PromQL that returns one number")
    if rule.metric is not Metric.QUERY and (rule.query or rule.baseline or rule.samples):
        raise ValueError("query, baseline and samples belong to metric: query")
    if rule.metric is Metric.QUERY:
        if (rule.compare is not None) != (rule.baseline is not None):
            raise ValueError("a query that compares needs both compare and baseline, the PromQL of the old version")
        if rule.min_samples and rule.samples is None:
            raise ValueError(
                with_hint(
                    "min_samples can never be reached: nothing counts them, so this rule could never fire",
                    "add samples, PromQL such as sum(increase(http_requests_total[1m])), or leave out min_samples",
                )
            )
        if rule.compare is not None and rule.compare.rank_test is not None:
            raise ValueError(
                with_hint("a query returns one number, and rank_test compares many", "use ratio or difference")
            )
    if rule.metric is Metric.RESTARTS and (rule.compare is not None or rule.min_samples):
        raise ValueError("restarts are counted, not sampled: leave out compare and min_samples")


def _check_limit_reachable(rule: GuardRule) -> None:
    difference = rule.compare.difference if rule.compare else None
    for key, amount in (("limit", rule.limit), ("compare.difference", difference)):
        if amount is not None and not math.isfinite(amount):
            raise ValueError(f"{key}: an infinite limit can never be exceeded: this rule could never fire")
    if rule.metric is not Metric.ERROR_RATE:
        return
    for key, amount in (("limit", rule.limit), ("compare.difference", difference)):
        if amount is not None and amount >= 1:
            title = f"{key}: an error rate never exceeds 100%, so with {amount:.0%} this rule could never fire"
            raise ValueError(with_hint(title, f"write {amount:g}% if you mean {amount:g} percent"))


class Guard(PlanSection):
    """Evaluates the release in every phase, and acts automatically."""

    interval: Duration = Field(2.0, ge=0.2, le=60, description="time between two evaluations")
    sources: Sources = Sources()
    rules: tuple[GuardRule, ...] = Field(description="one or more")

    @property
    def rule_actions(self) -> dict[str, GuardAction]:
        """Names of the rules, with their actions."""
        return {rule.name: rule.action for rule in self.rules}

    @property
    def closes_gates(self) -> bool:
        """Whether any rule does more than alert."""
        return any(rule.action is not GuardAction.ALERT for rule in self.rules)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        names = [rule.name for rule in self.rules]
        if not names:
            raise ValueError(with_hint("a guard without rules checks nothing", "add a rule, or leave out guard"))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules have the name {twice[0]}")
        checks: tuple[Callable[[Guard, GuardRule], str], ...] = (
            _missing_source_reason,
            _short_window_reason,
            _short_rank_test_reason,
            _probe_mismatch_reason,
        )
        for rule in self.rules:
            for check in checks:
                if wrong := check(self, rule):
                    raise ValueError(f"rule {rule.name}: {wrong}")
        return self


def _missing_source_reason(guard: Guard, rule: GuardRule) -> str:
    if rule.effective_source is Source.PROMETHEUS and guard.sources.prometheus is None:
        return with_hint("no Prometheus server is configured", "add guard.sources.prometheus with its url")
    if rule.effective_source is Source.PROBE and guard.sources.probe is None:
        return with_hint("no probe is configured", "add guard.sources.probe with a url or a path")
    return ""


def _short_window_reason(guard: Guard, rule: GuardRule) -> str:
    if rule.metric is Metric.QUERY or min(rule.windows) >= 2 * guard.interval:
        return ""
    return with_hint(
        f"a window of {format_duration(min(rule.windows))} holds fewer than two checks,"
        f" {format_duration(guard.interval)} apart, so this rule could never fire",
        f"use a window of {format_duration(2 * guard.interval)} or more",
    )


def _short_rank_test_reason(guard: Guard, rule: GuardRule) -> str:
    p_value = rule.compare.rank_test if rule.compare else None
    if p_value is None:
        return ""
    samples = int(rule.window / guard.interval)
    # The smallest p-value of a rank test of n against n is one order out of all: every new value above every old one.
    least = 1 / math.comb(2 * samples, samples)
    if least < p_value:
        return ""
    return with_hint(
        f"{samples} checks in a window of {format_duration(rule.window)} reach a p-value of {least:.2g} at best, never"
        f" under {p_value:g}, so this rule could never fire",
        "use a longer window, or a larger rank_test",
    )


def _probe_mismatch_reason(guard: Guard, rule: GuardRule) -> str:
    probe = guard.sources.probe
    if rule.effective_source is not Source.PROBE or probe is None:
        return ""
    difference = rule.compare.difference if rule.compare else None
    least = max(rule.limit or 0.0, difference or 0.0)
    if rule.metric is Metric.LATENCY and least >= probe.timeout:
        return with_hint(
            f"a probe times out after {format_duration(probe.timeout)}, so no latency can exceed"
            f" {format_duration(least)}: this rule could never fire",
            "use a longer guard.sources.probe.timeout",
        )
    if probe.url is None:
        return ""
    if rule.compare is not None or rule.version == "new":
        return with_hint("one address cannot tell new from old", "use guard.sources.probe with a path instead of a url")
    most = int(min(rule.windows) / guard.interval)
    if rule.required_samples > most:
        return with_hint(
            f"min_samples can never be reached: a window holds {most} probes, and {rule.required_samples} are required,"
            " so this rule could never fire",
            "use fewer min_samples, a longer window, or a shorter guard.interval",
        )
    return ""
