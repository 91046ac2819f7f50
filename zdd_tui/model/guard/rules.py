"""What a rule says about what was counted: first each look by itself, then over time (`for`, `no_data`).

Too few samples are inconclusive, no data are unknown, and neither is ever a pass.
"""

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.guard.series import WindowStats, merge_stats
from zdd_tui.model.plan.guard import Compare, GuardRule, Metric, MetricUnit, Source

# --- Is the new version worse than the old one, or is that chance? The Mann-Whitney U test, by scipy.
#
# scipy is large, and only a rule with ``rank_test`` needs it: it comes with the extra ``analysis`` and is imported when
# the first such rule is judged.


def require_scipy(rule: str) -> None:
    """
    Raises:
        PlanError: scipy is not installed; names the mend.
    """
    if importlib.util.find_spec("scipy") is None:
        raise PlanError(
            f"guard.rules: rule {rule}: rank_test needs scipy, and it is not installed",
            "pip install 'zdd-tui[analysis]', or compare by ratio or difference",
        )


def p_value(new: Sequence[float], old: Sequence[float]) -> float:
    """How probable it is that values so much higher as `new` come about by chance; one-sided, 0 to 1.

    Both need at least one value. Where all values are the same, it is 1.
    """
    if len({*new, *old}) == 1:
        return 1.0
    test = importlib.import_module("scipy.stats").mannwhitneyu(list(new), list(old), alternative="greater")
    found = float(test.pvalue)
    return 1.0 if math.isnan(found) else found


def min_p_value(new: int, old: int) -> float:
    """The smallest that :func:`p_value` can be for so many values: every new one above every old one."""
    return 1 / math.comb(new + old, new)


# --- end


class RuleOutcome(IntEnum):
    """What one look found; of several versions the highest counts."""

    IDLE = 0
    FINE = 1
    THIN = 2
    DARK = 3
    OVER = 4


@dataclass(frozen=True, slots=True)
class RuleEvaluation:
    """One look: the value was fine or over the limit, there were too few samples (thin), no data (dark), or nothing
    to judge (idle)."""

    outcome: RuleOutcome
    reason: str
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    samples: int = 0


Pairs = Sequence[tuple[float, float]]
"""Values of new and old in the same moments, for a rank test."""


def format_value(value: float, unit: MetricUnit) -> str:
    """A value as people read it: ``1.2%``, ``180ms``, ``3``."""
    match unit:
        case MetricUnit.RATIO:
            return f"{value * 100:.3g}%"
        case MetricUnit.SECONDS:
            return f"{value * 1000:.3g}ms" if value < 1 else format_duration(value)
        case _:
            return f"{value:,.4g}"


# --- what was counted -----------------------------------------------------------------------------------------


def metric_value(rule: GuardRule, tally: WindowStats) -> float | None:
    """The rule's value for one version; None where nothing was counted."""
    match rule.metric:
        case Metric.LATENCY:
            return tally.quantile(rule.quantile)
        case Metric.RESTARTS:
            return tally.restarts
        case _:
            return tally.error_rate


def sample_count(rule: GuardRule, tally: WindowStats) -> int:
    """What is behind :func:`metric_value`."""
    if rule.metric is Metric.RESTARTS:
        return tally.compared_targets
    return int(tally.observations if rule.metric is Metric.LATENCY else tally.requests)


def find_newest_version(order: Sequence[str], tallies: Mapping[str, WindowStats]) -> str | None:
    """The newest version that runs, unless only what ran before is there."""
    return next((version for version in reversed(order[1:]) if version in tallies and tallies[version].is_live), None)


def evaluate_rule(
    rule: GuardRule, windows: Sequence[Mapping[str, WindowStats]], order: Sequence[str], pairs: Pairs = ()
) -> RuleEvaluation:
    """One look at a rule over counters.

    Args:
        windows: tallies by version for each of the rule's windows.
        order: the release's versions, the oldest first.
        pairs: of a rule with ``rank_test``.
    """
    tallies = windows[0]
    if not any(tally.is_live for tally in tallies.values()):
        return RuleEvaluation(
            RuleOutcome.DARK, "there is nothing to look at: no pod" if _is_per_pod(rule) else "not probed yet"
        )
    if rule.compare is not None:
        return _evaluate_comparison(rule, rule.compare, tallies, order, pairs)
    if rule.version == "all":
        return _evaluate_absolute(rule, [merge_stats(window.values()) for window in windows])
    if rule.version == "new":
        new = find_newest_version(order, tallies)
        if new is None:
            return RuleEvaluation(RuleOutcome.IDLE, "the new version does not run yet")
        of_new = _evaluate_absolute(rule, [window[new] for window in windows])
        if of_new.outcome is RuleOutcome.IDLE and not any(tally.in_rotation for tally in tallies.values()):
            return replace(of_new, outcome=RuleOutcome.DARK, reason="no pod takes traffic")
        return of_new
    found = [_evaluate_absolute(rule, [window[version] for window in windows]) for version in sorted(tallies)]
    worst = max(found, key=lambda one: (one.outcome, one.value or 0.0))
    if worst.outcome is RuleOutcome.IDLE:
        return replace(worst, outcome=RuleOutcome.DARK, reason="no pod takes traffic")
    return worst


def _is_per_pod(rule: GuardRule) -> bool:
    return rule.effective_source is not Source.PROBE


def _evaluate_absolute(rule: GuardRule, windows: Sequence[WindowStats]) -> RuleEvaluation:
    tally = windows[0]
    limit = rule.burn.limit if rule.burn else rule.limit
    assert limit is not None
    values = [metric_value(rule, window) for window in windows]
    samples = sample_count(rule, tally)
    lowest = min((value for value in values if value is not None), default=None)
    found = RuleEvaluation(RuleOutcome.FINE, "", lowest, None, limit, samples)
    if samples >= max(rule.required_samples, 1) and lowest is not None and None not in values and lowest > limit:
        return replace(found, outcome=RuleOutcome.OVER, reason=_format_reason(rule, tally.version, found))
    if blind := _no_data_reason(rule, tally, limit):
        return replace(found, outcome=RuleOutcome.DARK, reason=blind)
    if samples < max(rule.required_samples, 1) or None in values:
        look = RuleOutcome.THIN if tally.in_rotation else RuleOutcome.IDLE
        return replace(found, outcome=look, reason=_too_few_reason(rule, tally, samples))
    return replace(found, reason=_format_reason(rule, tally.version, found))


def _no_data_reason(rule: GuardRule, tally: WindowStats, limit: float) -> str:
    """Why this version has no data, or the rule could not see a breach; empty when it can."""
    if tally.is_live and tally.is_missing_data:
        return f"{tally.silent_targets} of {tally.targets} {tally.version} targets are silent ({tally.silent_reason})"
    wanted = {Metric.ERROR_RATE: "requests", Metric.LATENCY: "duration"}.get(rule.metric)
    if wanted and tally.available and wanted not in tally.available and tally.in_rotation:
        return f"{tally.version} shows no such metric: see guard.sources.scrape.{wanted}"
    if rule.metric is Metric.LATENCY and tally.observations > 0 and limit >= tally.highest_bound:
        top = format_value(tally.highest_bound, MetricUnit.SECONDS)
        return f"the histogram of {tally.version} ends at {top}, so it cannot tell latencies over the limit"
    return ""


def _too_few_reason(rule: GuardRule, tally: WindowStats, samples: int) -> str:
    window = format_duration(rule.windows[0])
    return f"{tally.version}: {samples:,} of {max(rule.required_samples, 1):,} samples in {window}"


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
    counted = {Metric.RESTARTS: "pods"}.get(
        rule.metric, "probes" if rule.effective_source is Source.PROBE else "requests"
    )
    return (
        f"{version} {_metric_name(rule)} {format_value(evaluation.value, unit)}{against}, limit {format_value(evaluation.limit, unit)}"
        f" ({evaluation.samples:,} {counted} in {windows})"
    )


# --- new against old --------------------------------------------------------------------------------------------


def split_new_and_old(
    order: Sequence[str], tallies: Mapping[str, WindowStats]
) -> tuple[WindowStats, WindowStats] | None:
    """New, and all that is older together; None while there are no two."""
    new = find_newest_version(order, tallies)
    if new is None:
        return None
    older = [tally for version, tally in tallies.items() if version != new]
    if not older:
        return None
    return tallies[new], merge_stats(older, " and ".join(sorted(tally.version for tally in older)))


def _evaluate_comparison(
    rule: GuardRule, compare: Compare, tallies: Mapping[str, WindowStats], order: Sequence[str], pairs: Pairs
) -> RuleEvaluation:
    found = split_new_and_old(order, tallies)
    if found is None:
        alone = ", ".join(sorted(tallies))
        return RuleEvaluation(RuleOutcome.IDLE, f"only {alone} runs: nothing to compare")
    new, old = found
    value, baseline = metric_value(rule, new), metric_value(rule, old)
    samples, old_samples = sample_count(rule, new), sample_count(rule, old)
    needed = max(rule.required_samples, 1)
    if not old.is_live and (old_samples < needed or samples < needed):
        return RuleEvaluation(
            RuleOutcome.IDLE, f"only {new.version} runs: nothing to compare", value, None, None, samples
        )
    limit = _relative_limit(rule, compare, baseline)
    look = RuleEvaluation(RuleOutcome.FINE, "", value, baseline, limit, min(samples, old_samples))
    for tally in (new, old):
        if blind := _no_data_reason(rule, tally, limit or 0.0):
            return replace(look, outcome=RuleOutcome.DARK, reason=blind)
    for tally, count in ((new, samples), (old, old_samples)):
        if count < needed:
            return replace(
                look,
                outcome=RuleOutcome.THIN if tally.in_rotation else RuleOutcome.IDLE,
                reason=_too_few_reason(rule, tally, count),
                samples=count,
            )
    if value is None or baseline is None:
        return replace(look, outcome=RuleOutcome.THIN, reason="no value for both versions yet")
    if compare.rank_test is not None:
        return _evaluate_rank_test(rule, compare.rank_test, new.version, look, pairs)
    assert limit is not None
    return replace(
        look,
        outcome=RuleOutcome.OVER if value > limit else RuleOutcome.FINE,
        reason=_format_reason(rule, new.version, look),
    )


def _relative_limit(rule: GuardRule, compare: Compare, baseline: float | None) -> float | None:
    """What new may reach; never under the rule's own limit, under which nobody minds."""
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
        return replace(
            evaluation, outcome=RuleOutcome.THIN, reason=f"{version}: {count} moments in which both had requests"
        )
    probability = p_value([new for new, _ in pairs], [old for _, old in pairs])
    assert evaluation.value is not None
    assert evaluation.limit is not None
    worse = probability < max_p_value and evaluation.value > evaluation.limit
    told = f"{_format_reason(rule, version, evaluation)}; chance {probability:.2g} over {count} moments, allowed {max_p_value:g}"
    return replace(evaluation, outcome=RuleOutcome.OVER if worse else RuleOutcome.FINE, reason=told)


# --- a query ----------------------------------------------------------------------------------------------------

QueryResult = float | str
"""A number, or why there is none."""


def evaluate_query_rule(
    rule: GuardRule, value: QueryResult, baseline: QueryResult | None = None, samples: QueryResult | None = None
) -> RuleEvaluation:
    """One look at a rule whose numbers a server gave."""
    for given in (value, baseline, samples):
        if isinstance(given, str):
            return RuleEvaluation(RuleOutcome.DARK, given, limit=rule.limit)
    assert isinstance(value, float)
    base = baseline if isinstance(baseline, float) else None
    limit = _relative_limit(rule, rule.compare, base) if rule.compare else rule.limit
    assert limit is not None
    counted = int(samples) if isinstance(samples, float) else 0
    look = RuleEvaluation(RuleOutcome.FINE, "", value, base, limit, counted)
    if counted < rule.required_samples:
        return replace(look, outcome=RuleOutcome.THIN, reason=f"{counted:,} of {rule.required_samples:,} samples")
    against = "" if base is None else f", old {format_value(base, rule.unit)}"
    behind = f" ({counted:,} samples)" if samples is not None else ""
    told = f"{format_value(value, rule.unit)}{against}, limit {format_value(limit, rule.unit)}{behind}"
    return replace(look, outcome=RuleOutcome.OVER if value > limit else RuleOutcome.FINE, reason=told)
