"""The evaluation of a rule over counters or query results at one moment, and its description for a screen.

What follows over time (`for`, `no_data`) is in :mod:`zdd_tui.model.guard.rule_state`. Too few samples are inconclusive,
missing data is unknown, and neither is ever a pass.
"""

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from urllib.parse import urlsplit

from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.guard.series import WindowStats, merge_stats
from zdd_tui.model.plan.guard import Compare, Guard, GuardRule, Metric, MetricUnit, Source
from zdd_tui.model.queries import RuleView

# --- rank test ----------------------------------------------------------------------------------------------------
#
# The Mann-Whitney U test tells whether the new version is worse or only unlucky. scipy is large, and only a rule with
# ``rank_test`` needs it: it comes with the extra ``analysis`` and is imported when the first such rule is evaluated.


def require_scipy(rule: str) -> None:
    """
    Raises:
        PlanError: scipy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise PlanError(
            f"guard.rules: rule {rule}: rank_test needs scipy, and it is not installed",
            "pip install 'zdd-tui[analysis]', or compare by ratio or difference",
        )


def p_value(new: Sequence[float], old: Sequence[float]) -> float:
    """The probability that `new` is that much higher by chance; one-sided, 0 to 1.

    Both need at least one value. It is 1 where all values are the same.
    """
    if len({*new, *old}) == 1:
        return 1.0
    test = importlib.import_module("scipy.stats").mannwhitneyu(list(new), list(old), alternative="greater")
    value = float(test.pvalue)
    return 1.0 if math.isnan(value) else value


def min_p_value(new: int, old: int) -> float:
    """The smallest possible :func:`p_value` for so many values: every new one above every old one."""
    return 1 / math.comb(new + old, new)


# --- one evaluation -----------------------------------------------------------------------------------------------


class RuleOutcome(IntEnum):
    """The result of one evaluation; of several versions the highest counts."""

    NOT_APPLICABLE = 0
    OK = 1
    TOO_FEW = 2
    NO_DATA = 3
    BREACHED = 4


@dataclass(frozen=True, slots=True)
class RuleEvaluation:
    """One evaluation of a rule, with its numbers.

    Attributes:
        value, baseline, limit: in the rule's unit; None where there is none.
    """

    outcome: RuleOutcome
    reason: str
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    samples: int = 0


Pairs = Sequence[tuple[float, float]]
"""Values of the new and the old version at the same times, for a rank test."""


def format_value(value: float, unit: MetricUnit) -> str:
    """A value in its unit: ``1.2%``, ``180ms``, ``3``."""
    match unit:
        case MetricUnit.RATIO:
            return f"{value * 100:.3g}%"
        case MetricUnit.SECONDS:
            return f"{value * 1000:.3g}ms" if value < 1 else format_duration(value)
        case _:
            return f"{value:,.4g}"


def metric_value(rule: GuardRule, stats: WindowStats) -> float | None:
    """The rule's value for one version; None without data."""
    match rule.metric:
        case Metric.LATENCY:
            return stats.quantile(rule.quantile)
        case Metric.RESTARTS:
            return stats.restarts
        case _:
            return stats.error_rate


def sample_count(rule: GuardRule, stats: WindowStats) -> int:
    """How many samples :func:`metric_value` is computed from."""
    if rule.metric is Metric.RESTARTS:
        return stats.compared_targets
    return int(stats.observations if rule.metric is Metric.LATENCY else stats.requests)


def find_newest_version(order: Sequence[str], by_version: Mapping[str, WindowStats]) -> str | None:
    """The newest running version; None while only the version before the release runs."""
    return next(
        (version for version in reversed(order[1:]) if version in by_version and by_version[version].is_live),
        None,
    )


def evaluate_rule(
    rule: GuardRule, windows: Sequence[Mapping[str, WindowStats]], order: Sequence[str], pairs: Pairs = ()
) -> RuleEvaluation:
    """Evaluates a rule over counters.

    Args:
        windows: statistics by version for each of the rule's windows.
        order: the release's versions, the oldest first.
        pairs: of a rule with ``rank_test``.
    """
    by_version = windows[0]
    if not any(each.is_live for each in by_version.values()):
        return RuleEvaluation(
            RuleOutcome.NO_DATA, "no pod exists" if rule.effective_source is not Source.PROBE else "not probed yet"
        )
    if rule.compare is not None:
        if split_new_and_old(order, by_version) is None:
            return _evaluate_old_alone(rule, windows, f"only {', '.join(sorted(by_version))} runs: nothing to compare")
        return _evaluate_comparison(rule, rule.compare, by_version, order, pairs)
    if rule.version == "all":
        return _evaluate_absolute(rule, [merge_stats(window.values()) for window in windows])
    if rule.version == "new":
        new = find_newest_version(order, by_version)
        if new is None:
            return _evaluate_old_alone(rule, windows, "the new version does not run")
        evaluation = _evaluate_absolute(rule, [window[new] for window in windows])
        if evaluation.outcome is RuleOutcome.NOT_APPLICABLE and not any(one.in_rotation for one in by_version.values()):
            return replace(evaluation, outcome=RuleOutcome.NO_DATA, reason="no pod takes traffic")
        return evaluation
    evaluations = [_evaluate_absolute(rule, [window[version] for window in windows]) for version in sorted(by_version)]
    worst = max(evaluations, key=lambda one: (one.outcome, one.value or 0.0))
    if worst.outcome is RuleOutcome.NOT_APPLICABLE:
        return replace(worst, outcome=RuleOutcome.NO_DATA, reason="no pod takes traffic")
    return worst


def _evaluate_absolute(rule: GuardRule, windows: Sequence[WindowStats]) -> RuleEvaluation:
    stats = windows[0]
    limit = rule.burn.limit if rule.burn else rule.limit
    assert limit is not None
    values = [metric_value(rule, window) for window in windows]
    samples = sample_count(rule, stats)
    lowest = min((value for value in values if value is not None), default=None)
    evaluation = RuleEvaluation(RuleOutcome.OK, "", lowest, None, limit, samples)
    if unsteady := _unsteady_reason(rule, stats):
        return RuleEvaluation(RuleOutcome.TOO_FEW, unsteady, limit=limit)
    if samples >= max(rule.required_samples, 1) and lowest is not None and None not in values and lowest > limit:
        reason = _format_reason(rule, stats.version, evaluation)
        return replace(evaluation, outcome=RuleOutcome.BREACHED, reason=reason)
    if no_data := _no_data_reason(rule, stats, limit):
        return replace(evaluation, outcome=RuleOutcome.NO_DATA, reason=no_data)
    if samples < max(rule.required_samples, 1) or None in values:
        outcome = RuleOutcome.TOO_FEW if stats.in_rotation else RuleOutcome.NOT_APPLICABLE
        return replace(evaluation, outcome=outcome, reason=_too_few_reason(rule, stats, samples))
    return replace(evaluation, reason=_format_reason(rule, stats.version, evaluation))


def _evaluate_old_alone(rule: GuardRule, windows: Sequence[Mapping[str, WindowStats]], why: str) -> RuleEvaluation:
    """The result of a rule about the new version while only others run: it is not applicable. The plan says nothing
    about them, so that there is no verdict, but what is above the rule's limit is said, with its numbers.

    Args:
        why: the rule is not applicable.
    """
    nothing = RuleEvaluation(RuleOutcome.NOT_APPLICABLE, why)
    if rule.metric not in (Metric.ERROR_RATE, Metric.LATENCY) or (rule.limit is None and rule.burn is None):
        return nothing
    running = " and ".join(sorted(windows[0]))
    found = _evaluate_absolute(rule, [merge_stats(window.values(), running) for window in windows])
    if found.outcome is not RuleOutcome.BREACHED:
        return nothing
    return replace(
        nothing,
        reason=f"{found.reason}; no action: {why}",
        baseline=found.value,
        limit=found.limit,
        samples=found.samples,
    )


def _unsteady_reason(rule: GuardRule, stats: WindowStats) -> str:
    """Why the counters of this version give no verdict although they are there; empty when they do."""
    if rule.metric not in (Metric.ERROR_RATE, Metric.LATENCY) or not stats.is_unsteady:
        return ""
    if not stats.unsteady_target:
        return f"{stats.version}: waiting for more samples of {count_noun(stats.unsteady_targets, 'target')}"
    return (
        f"the counters of {stats.unsteady_target} go back and forth: several processes respond in turn."
        " Aggregate them (PROMETHEUS_MULTIPROC_DIR), or use guard.sources.prometheus"
    )


def _no_data_reason(rule: GuardRule, stats: WindowStats, limit: float) -> str:
    """Why this version has no data, or the rule could not detect a breach; empty when it can."""
    if stats.is_live and stats.is_missing_data:
        return f"{stats.silent_targets} of {stats.targets} {stats.version} targets without data ({stats.silent_reason})"
    wanted = {Metric.ERROR_RATE: "requests", Metric.LATENCY: "duration"}.get(rule.metric)
    if wanted and stats.available and wanted not in stats.available and stats.in_rotation:
        return f"{stats.version} exposes no such metric: check guard.sources.scrape.{wanted}"
    if rule.metric is Metric.LATENCY and stats.observations > 0 and limit >= stats.highest_bound:
        top = format_value(stats.highest_bound, MetricUnit.SECONDS)
        return f"the histogram of {stats.version} ends at {top}, so latencies above the limit cannot be measured"
    return ""


def _too_few_reason(rule: GuardRule, stats: WindowStats, samples: int) -> str:
    window = format_duration(rule.windows[0])
    return f"{stats.version}: {samples:,} of {count_noun(max(rule.required_samples, 1), 'sample')} in {window}"


def _metric_name(rule: GuardRule) -> str:
    if rule.metric is Metric.LATENCY:
        return f"p{rule.quantile * 100:g}"
    return {Metric.ERROR_RATE: "errors", Metric.RESTARTS: "restarts"}.get(rule.metric, "")


def _format_reason(rule: GuardRule, version: str, evaluation: RuleEvaluation) -> str:
    assert evaluation.value is not None
    assert evaluation.limit is not None
    unit = rule.unit
    against = "" if evaluation.baseline is None else f", old {format_value(evaluation.baseline, unit)}"
    windows = " and ".join(format_duration(window) for window in rule.windows)
    counted = "probe" if rule.effective_source is Source.PROBE else "request"
    counted = "pod" if rule.metric is Metric.RESTARTS else counted
    value, limit = format_value(evaluation.value, unit), format_value(evaluation.limit, unit)
    samples = f"{count_noun(evaluation.samples, counted)} in {windows}"
    return f"{version} {_metric_name(rule)} {value}{against}, limit {limit} ({samples})"


# --- new against old --------------------------------------------------------------------------------------------


def split_new_and_old(
    order: Sequence[str], by_version: Mapping[str, WindowStats]
) -> tuple[WindowStats, WindowStats] | None:
    """The new version, and all older ones merged; None while there is only one."""
    new = find_newest_version(order, by_version)
    if new is None:
        return None
    older = [stats for version, stats in by_version.items() if version != new]
    if not older:
        return None
    return by_version[new], merge_stats(older, " and ".join(sorted(stats.version for stats in older)))


def new_and_old_values(
    rule: GuardRule, order: Sequence[str], by_version: Mapping[str, WindowStats]
) -> tuple[float | None, float | None]:
    """The values of the newest running version and of all older ones together, for a chart.

    None for a side without data, or with data that do not represent it.
    """
    new = find_newest_version(order, by_version)
    older = [by_version[version] for version in order if version in by_version and version != new]
    sides = (by_version[new] if new is not None else None), (merge_stats(older) if older else None)
    first, second = (
        None if side is None or side.is_missing_data or side.is_unsteady else metric_value(rule, side) for side in sides
    )
    return first, second


def _evaluate_comparison(
    rule: GuardRule, compare: Compare, by_version: Mapping[str, WindowStats], order: Sequence[str], pairs: Pairs
) -> RuleEvaluation:
    both = split_new_and_old(order, by_version)
    assert both is not None, "the caller has checked it"
    new, old = both
    value, baseline = metric_value(rule, new), metric_value(rule, old)
    samples, old_samples = sample_count(rule, new), sample_count(rule, old)
    needed = max(rule.required_samples, 1)
    if not old.is_live and (old_samples < needed or samples < needed):
        return RuleEvaluation(
            RuleOutcome.NOT_APPLICABLE, f"only {new.version} runs: nothing to compare", value, None, None, samples
        )
    limit = _relative_limit(rule, compare, baseline)
    evaluation = RuleEvaluation(RuleOutcome.OK, "", value, baseline, limit, min(samples, old_samples))
    for each in (new, old):
        if unsteady := _unsteady_reason(rule, each):
            return RuleEvaluation(RuleOutcome.TOO_FEW, unsteady)
        if no_data := _no_data_reason(rule, each, limit or 0.0):
            return replace(evaluation, outcome=RuleOutcome.NO_DATA, reason=no_data)
    for each, count in ((new, samples), (old, old_samples)):
        if count < needed:
            outcome = RuleOutcome.TOO_FEW if each.in_rotation else RuleOutcome.NOT_APPLICABLE
            return replace(evaluation, outcome=outcome, reason=_too_few_reason(rule, each, count), samples=count)
    if value is None or baseline is None:
        return replace(evaluation, outcome=RuleOutcome.TOO_FEW, reason="no value for both versions yet")
    if compare.rank_test is not None:
        return _evaluate_rank_test(rule, compare.rank_test, new.version, evaluation, pairs)
    assert limit is not None
    outcome = RuleOutcome.BREACHED if value > limit else RuleOutcome.OK
    return replace(evaluation, outcome=outcome, reason=_format_reason(rule, new.version, evaluation))


def _relative_limit(rule: GuardRule, compare: Compare, baseline: float | None) -> float | None:
    """The limit of the new version; never below the rule's own limit, below which a difference does not matter."""
    if baseline is None:
        return None
    ratio, difference = compare.ratio, compare.difference or 0.0
    allowed = baseline + difference if ratio is None else baseline * ratio
    return max(allowed, rule.limit or 0.0)


def _evaluate_rank_test(
    rule: GuardRule, max_p_value: float, version: str, evaluation: RuleEvaluation, pairs: Pairs
) -> RuleEvaluation:
    count = len(pairs)
    if count == 0 or min_p_value(count, count) >= max_p_value:
        reason = f"{version}: {count_noun(count, 'point')} at which both versions had requests"
        return replace(evaluation, outcome=RuleOutcome.TOO_FEW, reason=reason)
    probability = p_value([new for new, _ in pairs], [old for _, old in pairs])
    assert evaluation.value is not None
    assert evaluation.limit is not None
    worse = probability < max_p_value and evaluation.value > evaluation.limit
    reason = f"{_format_reason(rule, version, evaluation)}; p-value {probability:.2g} over {count_noun(count, 'point')}"
    return replace(
        evaluation,
        outcome=RuleOutcome.BREACHED if worse else RuleOutcome.OK,
        reason=f"{reason}, breached below {max_p_value:g}",
    )


# --- query results ----------------------------------------------------------------------------------------------------

QueryResult = float | str
"""A number, or why there is none."""


def evaluate_query_rule(
    rule: GuardRule, value: QueryResult, baseline: QueryResult | None = None, samples: QueryResult | None = None
) -> RuleEvaluation:
    """Evaluates a rule whose numbers come from Prometheus."""
    for given in (value, baseline, samples):
        if isinstance(given, str):
            return RuleEvaluation(RuleOutcome.NO_DATA, given, limit=rule.limit)
    assert isinstance(value, float)
    base = baseline if isinstance(baseline, float) else None
    limit = _relative_limit(rule, rule.compare, base) if rule.compare else rule.limit
    assert limit is not None
    counted = int(samples) if isinstance(samples, float) else 0
    evaluation = RuleEvaluation(RuleOutcome.OK, "", value, base, limit, counted)
    if counted < rule.required_samples:
        reason = f"{counted:,} of {count_noun(rule.required_samples, 'sample')}"
        return replace(evaluation, outcome=RuleOutcome.TOO_FEW, reason=reason)
    against = "" if base is None else f", old {format_value(base, rule.unit)}"
    behind = f" ({count_noun(counted, 'sample')})" if samples is not None else ""
    reason = f"{format_value(value, rule.unit)}{against}, limit {format_value(limit, rule.unit)}{behind}"
    return replace(evaluation, outcome=RuleOutcome.BREACHED if value > limit else RuleOutcome.OK, reason=reason)


# --- descriptions -----------------------------------------------------------------------------------------------------

_VERSION_SCOPES = {
    "each": "each version separately; the worst counts",
    "new": "the new version only",
    "all": "all versions together",
}


def describe_rules(guard: Guard | None) -> tuple[RuleView, ...]:
    """Every rule of a plan, in the plan's order, without secrets."""
    return tuple(describe_rule(rule, guard) for rule in guard.rules) if guard is not None else ()


def describe_rule(rule: GuardRule, guard: Guard) -> RuleView:
    properties = (
        *_describe_source(rule, guard),
        ("scope", "the new version compared with the old one" if rule.compare else _VERSION_SCOPES[rule.version]),
        ("limit", _describe_limit(rule)),
        ("window", " and ".join(format_duration(each) for each in rule.windows)),
        *(
            (("minimum", f"{rule.required_samples:,} samples; fewer are inconclusive"),)
            if rule.required_samples
            else ()
        ),
        ("for", f"acts once breached for {format_duration(rule.for_)}" if rule.for_ else "acts at the first breach"),
        ("no data", _describe_no_data(rule)),
    )
    return RuleView(rule.name, properties, guard.interval, rule.action)


def _describe_source(rule: GuardRule, guard: Guard) -> tuple[tuple[str, str], ...]:
    """The system that is queried, and the query."""
    every = f"every {format_duration(guard.interval)}"
    sources = guard.sources
    match rule.effective_source:
        case Source.PROMETHEUS:
            server = sources.prometheus
            place = _host_and_port(server.url.get_secret_value()) if server is not None else "?"
            queries = (("query", rule.query), ("old", rule.baseline), ("samples", rule.samples))
            return (
                ("source", f"Prometheus at {place}, {every}"),
                *((name, text) for name, text in queries if text is not None),
                ("age", "of the query; its samples may be older by Prometheus’ scrape interval"),
            )
        case Source.KUBERNETES:
            return (("source", f"Kubernetes, {every}: restart counts of the Deployment’s pods"),)
        case Source.PROBE:
            probe = sources.probe
            url = probe.url.get_secret_value() if probe is not None and probe.url is not None else ""
            target = _host_and_port(url) if url else f"{probe.path if probe is not None else ''} of each ready endpoint"
            return (("source", f"zdd’s own probe, {every}: GET {target}"), ("metric", _describe_metric(rule, guard)))
        case _:
            scrape = sources.scrape
            return (("source", f"each pod, {every}: GET {scrape.path}"), ("metric", _describe_metric(rule, guard)))


def _describe_metric(rule: GuardRule, guard: Guard) -> str:
    scrape, probe = guard.sources.scrape, guard.sources.probe
    if rule.effective_source is Source.PROBE:
        ok = probe.expect if probe is not None else ""
        return "response time" if rule.metric is Metric.LATENCY else f"responses whose status is not {ok}"
    if rule.metric is Metric.LATENCY:
        return f"p{rule.quantile * 100:g} of the histogram {scrape.duration}"
    return f"the share of {scrape.requests} whose {scrape.code} is {scrape.errors}"


def _host_and_port(url: str) -> str:
    """Host and port only: the user name, password or token of the address is not shown."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or '?'}{f':{port}' if port else ''}"


def _describe_limit(rule: GuardRule) -> str:
    if rule.burn is not None:
        burn, budget = rule.burn, format_value(1 - rule.burn.objective, rule.unit)
        return f"{format_value(burn.limit, rule.unit)}: {burn.factor:g} times the budget of {budget}, in both windows"
    if rule.compare is None:
        return f"breached above {format_value(rule.limit or 0.0, rule.unit)}"
    compare = rule.compare
    least = f"; never below {format_value(rule.limit, rule.unit)}" if rule.limit is not None else ""
    if compare.ratio is not None:
        return f"new at most {compare.ratio:g} times old{least}"
    if compare.difference is not None:
        return f"new at most {format_value(compare.difference, rule.unit)} above old{least}"
    return f"breached when new is worse with p-value below {compare.rank_test:g} (Mann-Whitney){least}"


def _describe_no_data(rule: GuardRule) -> str:
    if rule.no_data is None:
        return "unknown: never a pass, no action"
    return f"unknown; after {format_duration(rule.no_data.after)}: {rule.no_data.action}"
