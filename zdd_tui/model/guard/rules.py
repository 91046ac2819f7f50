"""What a rule says about what was counted: first each look by itself, then over time (`for`, `no_data`).

Too few samples are inconclusive, no data are unknown, and neither is ever a pass.
"""

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from zdd_tui.model.duration import human_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.guard.series import Tally, together
from zdd_tui.model.plan.guard import Compare, Metric, Rule, Source, Unit

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


def chance(new: Sequence[float], old: Sequence[float]) -> float:
    """How probable it is that values so much higher as `new` come about by chance; one-sided, 0 to 1.

    Both need at least one value. Where all values are the same, it is 1.
    """
    if len({*new, *old}) == 1:
        return 1.0
    test = importlib.import_module("scipy.stats").mannwhitneyu(list(new), list(old), alternative="greater")
    found = float(test.pvalue)
    return 1.0 if math.isnan(found) else found


def least_chance(new: int, old: int) -> float:
    """The smallest that :func:`chance` can be for so many values: every new one above every old one."""
    return 1 / math.comb(new + old, new)


# --- end


class Look(IntEnum):
    """What one look found; of several versions the highest counts."""

    IDLE = 0
    FINE = 1
    THIN = 2
    DARK = 3
    OVER = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: the value was fine or over the limit, there were too few samples (thin), no data (dark), or nothing
    to judge (idle)."""

    look: Look
    reason: str
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    samples: int = 0


Pairs = Sequence[tuple[float, float]]
"""Values of new and old in the same moments, for a rank test."""


def show(value: float, unit: Unit) -> str:
    """A value as people read it: ``1.2%``, ``180ms``, ``3``."""
    match unit:
        case Unit.RATIO:
            return f"{value * 100:.3g}%"
        case Unit.SECONDS:
            return f"{value * 1000:.3g}ms" if value < 1 else human_duration(value)
        case _:
            return f"{value:,.4g}"


# --- what was counted -----------------------------------------------------------------------------------------


def value_of(rule: Rule, tally: Tally) -> float | None:
    """The rule's value for one version; None where nothing was counted."""
    match rule.metric:
        case Metric.LATENCY:
            return tally.quantile(rule.quantile)
        case Metric.RESTARTS:
            return tally.restarts
        case _:
            return tally.error_rate


def samples_of(rule: Rule, tally: Tally) -> int:
    """What is behind :func:`value_of`."""
    if rule.metric is Metric.RESTARTS:
        return tally.watched
    return int(tally.observations if rule.metric is Metric.LATENCY else tally.requests)


def newest(order: Sequence[str], tallies: Mapping[str, Tally]) -> str | None:
    """The newest version that runs, unless only what ran before is there."""
    return next((version for version in reversed(order[1:]) if version in tallies and tallies[version].live), None)


def judge(rule: Rule, windows: Sequence[Mapping[str, Tally]], order: Sequence[str], pairs: Pairs = ()) -> Finding:
    """One look at a rule over counters.

    Args:
        windows: tallies by version for each of the rule's windows.
        order: the release's versions, the oldest first.
        pairs: of a rule with ``rank_test``.
    """
    tallies = windows[0]
    if not any(tally.live for tally in tallies.values()):
        return Finding(Look.DARK, "there is nothing to look at: no pod" if _by_pod(rule) else "not probed yet")
    if rule.compare is not None:
        return _compare(rule, rule.compare, tallies, order, pairs)
    if rule.version == "all":
        return _absolute(rule, [together(window.values()) for window in windows])
    if rule.version == "new":
        new = newest(order, tallies)
        if new is None:
            return Finding(Look.IDLE, "the new version does not run yet")
        of_new = _absolute(rule, [window[new] for window in windows])
        if of_new.look is Look.IDLE and not any(tally.rotating for tally in tallies.values()):
            return replace(of_new, look=Look.DARK, reason="no pod takes traffic")
        return of_new
    found = [_absolute(rule, [window[version] for window in windows]) for version in sorted(tallies)]
    worst = max(found, key=lambda one: (one.look, one.value or 0.0))
    if worst.look is Look.IDLE:
        return replace(worst, look=Look.DARK, reason="no pod takes traffic")
    return worst


def _by_pod(rule: Rule) -> bool:
    return rule.taken_from is not Source.PROBE


def _absolute(rule: Rule, windows: Sequence[Tally]) -> Finding:
    tally = windows[0]
    limit = rule.burn.limit if rule.burn else rule.limit
    assert limit is not None
    values = [value_of(rule, window) for window in windows]
    samples = samples_of(rule, tally)
    lowest = min((value for value in values if value is not None), default=None)
    found = Finding(Look.FINE, "", lowest, None, limit, samples)
    if samples >= max(rule.needed, 1) and lowest is not None and None not in values and lowest > limit:
        return replace(found, look=Look.OVER, reason=_sentence(rule, tally.version, found))
    if blind := _blind(rule, tally, limit):
        return replace(found, look=Look.DARK, reason=blind)
    if samples < max(rule.needed, 1) or None in values:
        look = Look.THIN if tally.rotating else Look.IDLE
        return replace(found, look=look, reason=_thin(rule, tally, samples))
    return replace(found, reason=_sentence(rule, tally.version, found))


def _blind(rule: Rule, tally: Tally, limit: float) -> str:
    """Why this version has no data, or the rule could not see a breach; empty when it can."""
    if tally.live and tally.dark:
        return f"{tally.silent} of {tally.targets} {tally.version} targets are silent ({tally.why_silent})"
    wanted = {Metric.ERROR_RATE: "requests", Metric.LATENCY: "duration"}.get(rule.metric)
    if wanted and tally.known and wanted not in tally.known and tally.rotating:
        return f"{tally.version} shows no such metric: see guard.sources.scrape.{wanted}"
    if rule.metric is Metric.LATENCY and tally.observations > 0 and limit >= tally.highest:
        top = show(tally.highest, Unit.SECONDS)
        return f"the histogram of {tally.version} ends at {top}, so it cannot tell latencies over the limit"
    return ""


def _thin(rule: Rule, tally: Tally, samples: int) -> str:
    window = human_duration(rule.windows[0])
    return f"{tally.version}: {samples:,} of {max(rule.needed, 1):,} samples in {window}"


def _what(rule: Rule) -> str:
    if rule.metric is Metric.LATENCY:
        return f"p{rule.quantile * 100:g}"
    return {Metric.ERROR_RATE: "errors", Metric.RESTARTS: "restarts"}.get(rule.metric, "")


def _sentence(rule: Rule, version: str, found: Finding) -> str:
    assert found.value is not None
    assert found.limit is not None
    unit = rule.unit
    against = "" if found.baseline is None else f", old {show(found.baseline, unit)}"
    windows = " and ".join(human_duration(window) for window in rule.windows)
    counted = {Metric.RESTARTS: "pods"}.get(rule.metric, "probes" if rule.taken_from is Source.PROBE else "requests")
    return (
        f"{version} {_what(rule)} {show(found.value, unit)}{against}, limit {show(found.limit, unit)}"
        f" ({found.samples:,} {counted} in {windows})"
    )


# --- new against old --------------------------------------------------------------------------------------------


def sides(order: Sequence[str], tallies: Mapping[str, Tally]) -> tuple[Tally, Tally] | None:
    """New, and all that is older together; None while there are no two."""
    new = newest(order, tallies)
    if new is None:
        return None
    older = [tally for version, tally in tallies.items() if version != new]
    if not older:
        return None
    return tallies[new], together(older, " and ".join(sorted(tally.version for tally in older)))


def _compare(rule: Rule, compare: Compare, tallies: Mapping[str, Tally], order: Sequence[str], pairs: Pairs) -> Finding:
    found = sides(order, tallies)
    if found is None:
        alone = ", ".join(sorted(tallies))
        return Finding(Look.IDLE, f"only {alone} runs: nothing to compare")
    new, old = found
    value, baseline = value_of(rule, new), value_of(rule, old)
    samples, old_samples = samples_of(rule, new), samples_of(rule, old)
    needed = max(rule.needed, 1)
    if not old.live and (old_samples < needed or samples < needed):
        return Finding(Look.IDLE, f"only {new.version} runs: nothing to compare", value, None, None, samples)
    limit = _relative_limit(rule, compare, baseline)
    look = Finding(Look.FINE, "", value, baseline, limit, min(samples, old_samples))
    for tally in (new, old):
        if blind := _blind(rule, tally, limit or 0.0):
            return replace(look, look=Look.DARK, reason=blind)
    for tally, count in ((new, samples), (old, old_samples)):
        if count < needed:
            return replace(
                look, look=Look.THIN if tally.rotating else Look.IDLE, reason=_thin(rule, tally, count), samples=count
            )
    if value is None or baseline is None:
        return replace(look, look=Look.THIN, reason="no value for both versions yet")
    if compare.rank_test is not None:
        return _rank(rule, compare.rank_test, new.version, look, pairs)
    assert limit is not None
    return replace(look, look=Look.OVER if value > limit else Look.FINE, reason=_sentence(rule, new.version, look))


def _relative_limit(rule: Rule, compare: Compare, baseline: float | None) -> float | None:
    """What new may reach; never under the rule's own limit, under which nobody minds."""
    if baseline is None:
        return None
    ratio, difference = compare.ratio, compare.difference or 0.0
    allowed = baseline + difference if ratio is None else baseline * ratio
    return max(allowed, rule.limit or 0.0)


def _rank(rule: Rule, allowed: float, version: str, look: Finding, pairs: Pairs) -> Finding:
    count = len(pairs)
    if count == 0 or least_chance(count, count) >= allowed:
        return replace(look, look=Look.THIN, reason=f"{version}: {count} moments in which both had requests")
    probability = chance([new for new, _ in pairs], [old for _, old in pairs])
    assert look.value is not None
    assert look.limit is not None
    worse = probability < allowed and look.value > look.limit
    told = f"{_sentence(rule, version, look)}; chance {probability:.2g} over {count} moments, allowed {allowed:g}"
    return replace(look, look=Look.OVER if worse else Look.FINE, reason=told)


# --- a query ----------------------------------------------------------------------------------------------------

Answer = float | str
"""A number, or why there is none."""


def judge_query(rule: Rule, value: Answer, baseline: Answer | None = None, samples: Answer | None = None) -> Finding:
    """One look at a rule whose numbers a server gave."""
    for given in (value, baseline, samples):
        if isinstance(given, str):
            return Finding(Look.DARK, given, limit=rule.limit)
    assert isinstance(value, float)
    base = baseline if isinstance(baseline, float) else None
    limit = _relative_limit(rule, rule.compare, base) if rule.compare else rule.limit
    assert limit is not None
    counted = int(samples) if isinstance(samples, float) else 0
    look = Finding(Look.FINE, "", value, base, limit, counted)
    if counted < rule.needed:
        return replace(look, look=Look.THIN, reason=f"{counted:,} of {rule.needed:,} samples")
    against = "" if base is None else f", old {show(base, rule.unit)}"
    behind = f" ({counted:,} samples)" if samples is not None else ""
    told = f"{show(value, rule.unit)}{against}, limit {show(limit, rule.unit)}{behind}"
    return replace(look, look=Look.OVER if value > limit else Look.FINE, reason=told)
