"""The description of each guard rule that a screen shows beside its reading: source, query, limit, and when it acts.

The rules are evaluated by :mod:`zdd_tui.engine.guard.loop` and :mod:`zdd_tui.model.guard.rules`.
"""

from urllib.parse import urlsplit

from zdd_tui.model.duration import format_duration
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.plan.guard import Guard, GuardRule, Metric, Source
from zdd_tui.model.queries import RuleView

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
