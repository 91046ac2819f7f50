"""What each rule of a guard asks, of whom, and when it acts: the words beside its reading on the screen.

The work itself is in :mod:`zdd_tui.engine.guard.loop` and :mod:`zdd_tui.model.guard.rules`.
"""

from urllib.parse import urlsplit

from zdd_tui.model.duration import format_duration
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.plan.guard import Guard, GuardRule, Metric, Source
from zdd_tui.model.queries import RuleView

_VERSION_SCOPES = {
    "each": "each version by itself, and the worst counts",
    "new": "the new version alone",
    "all": "all versions together",
}


def describe_rules(guard: Guard | None) -> tuple[RuleView, ...]:
    """Every rule of a plan, in the plan's order; nothing secret."""
    return tuple(describe_rule(rule, guard) for rule in guard.rules) if guard is not None else ()


def describe_rule(rule: GuardRule, guard: Guard) -> RuleView:
    told = (
        *_describe_source(rule, guard),
        ("judges", "the new version against the old one" if rule.compare else _VERSION_SCOPES[rule.version]),
        ("limit", _describe_limit(rule)),
        ("window", " and ".join(format_duration(each) for each in rule.windows)),
        *(
            (("needs", f"{rule.required_samples:,} samples, or the verdict is inconclusive"),)
            if rule.required_samples
            else ()
        ),
        ("for", f"the limit broken for {format_duration(rule.for_)}" if rule.for_ else "acts at the first broken look"),
        ("no data", _describe_no_data(rule)),
    )
    return RuleView(rule.name, told, guard.interval, rule.action)


def _describe_source(rule: GuardRule, guard: Guard) -> tuple[tuple[str, str], ...]:
    """Who is asked, and what."""
    every = f"every {format_duration(guard.interval)}"
    sources = guard.sources
    match rule.effective_source:
        case Source.PROMETHEUS:
            server = sources.prometheus
            place = _host_and_port(server.url.get_secret_value()) if server is not None else "?"
            queries = (("query", rule.query), ("old", rule.baseline), ("samples", rule.samples))
            return (
                ("asks", f"Prometheus at {place}, {every}"),
                *((name, text) for name, text in queries if text is not None),
            )
        case Source.KUBERNETES:
            return (("asks", f"Kubernetes, {every}: the restart counts of the Deployment’s pods"),)
        case Source.PROBE:
            probe = sources.probe
            url = probe.url.get_secret_value() if probe is not None and probe.url is not None else ""
            target = _host_and_port(url) if url else f"{probe.path if probe is not None else ''} of each ready endpoint"
            return (("asks", f"a probe of our own, {every}: GET {target}"), ("counts", _describe_metric(rule, guard)))
        case _:
            scrape = sources.scrape
            return (("asks", f"each pod, {every}: GET {scrape.path}"), ("counts", _describe_metric(rule, guard)))


def _describe_metric(rule: GuardRule, guard: Guard) -> str:
    scrape, probe = guard.sources.scrape, guard.sources.probe
    if rule.effective_source is Source.PROBE:
        ok = probe.expect if probe is not None else ""
        return "how long answers take" if rule.metric is Metric.LATENCY else f"answers whose status is not {ok}"
    if rule.metric is Metric.LATENCY:
        return f"p{rule.quantile * 100:g} of the histogram {scrape.duration}"
    return f"the share of {scrape.requests} whose {scrape.code} is {scrape.errors}"


def _host_and_port(url: str) -> str:
    """Host and port: a name, a password or a token in the address stays out of sight."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or '?'}{f':{port}' if port else ''}"


def _describe_limit(rule: GuardRule) -> str:
    if rule.burn is not None:
        burn = rule.burn
        return (
            f"{format_value(burn.limit, rule.unit)}: {burn.factor:g} times the budget of {format_value(1 - burn.objective, rule.unit)},"
            " in both windows"
        )
    if rule.compare is None:
        return f"broken above {format_value(rule.limit or 0.0, rule.unit)}"
    compare = rule.compare
    least = f"; under {format_value(rule.limit, rule.unit)} nobody minds" if rule.limit is not None else ""
    if compare.ratio is not None:
        return f"new at most {compare.ratio:g} times old{least}"
    if compare.difference is not None:
        return f"new at most {format_value(compare.difference, rule.unit)} above old{least}"
    return f"new worse than old with a chance under {compare.rank_test:g} (Mann-Whitney){least}"


def _describe_no_data(rule: GuardRule) -> str:
    if rule.no_data is None:
        return "unknown: never a pass, and nothing is done"
    return f"unknown; after {format_duration(rule.no_data.after)}: {rule.no_data.action}"
