"""What each rule of a guard asks, of whom, and when it acts: the words beside its reading on the screen.

The work itself is in :mod:`zdd_tui.engine.guard.loop` and :mod:`zdd_tui.model.guard.rules`.
"""

from urllib.parse import urlsplit

from zdd_tui.model.duration import human_duration
from zdd_tui.model.guard.rules import show
from zdd_tui.model.plan.guard import Guard, Metric, Rule, Source
from zdd_tui.model.queries import RuleView

_JUDGED = {
    "each": "each version by itself, and the worst counts",
    "new": "the new version alone",
    "all": "all versions together",
}


def rule_views(guard: Guard | None) -> tuple[RuleView, ...]:
    """Every rule of a plan, in the plan's order; nothing secret."""
    return tuple(rule_view(rule, guard) for rule in guard.rules) if guard is not None else ()


def rule_view(rule: Rule, guard: Guard) -> RuleView:
    told = (
        *_asked(rule, guard),
        ("judges", "the new version against the old one" if rule.compare else _JUDGED[rule.version]),
        ("limit", _limit(rule)),
        ("window", " and ".join(human_duration(each) for each in rule.windows)),
        *((("needs", f"{rule.needed:,} samples, or the verdict is inconclusive"),) if rule.needed else ()),
        ("for", f"the limit broken for {human_duration(rule.for_)}" if rule.for_ else "acts at the first broken look"),
        ("no data", _no_data(rule)),
    )
    return RuleView(rule.name, told, guard.interval, rule.action)


def _asked(rule: Rule, guard: Guard) -> tuple[tuple[str, str], ...]:
    """Who is asked, and what."""
    every = f"every {human_duration(guard.interval)}"
    sources = guard.sources
    match rule.taken_from:
        case Source.PROMETHEUS:
            server = sources.prometheus
            place = _place(server.url.get_secret_value()) if server is not None else "?"
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
            target = _place(url) if url else f"{probe.path if probe is not None else ''} of each ready endpoint"
            return (("asks", f"a probe of our own, {every}: GET {target}"), ("counts", _counted(rule, guard)))
        case _:
            scrape = sources.scrape
            return (("asks", f"each pod, {every}: GET {scrape.path}"), ("counts", _counted(rule, guard)))


def _counted(rule: Rule, guard: Guard) -> str:
    scrape, probe = guard.sources.scrape, guard.sources.probe
    if rule.taken_from is Source.PROBE:
        ok = probe.expect if probe is not None else ""
        return "how long answers take" if rule.metric is Metric.LATENCY else f"answers whose status is not {ok}"
    if rule.metric is Metric.LATENCY:
        return f"p{rule.quantile * 100:g} of the histogram {scrape.duration}"
    return f"the share of {scrape.requests} whose {scrape.code} is {scrape.errors}"


def _place(url: str) -> str:
    """Host and port: a name, a password or a token in the address stays out of sight."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or '?'}{f':{port}' if port else ''}"


def _limit(rule: Rule) -> str:
    if rule.burn is not None:
        burn = rule.burn
        return (
            f"{show(burn.limit, rule.unit)}: {burn.factor:g} times the budget of {show(1 - burn.objective, rule.unit)},"
            " in both windows"
        )
    if rule.compare is None:
        return f"broken above {show(rule.limit or 0.0, rule.unit)}"
    compare = rule.compare
    least = f"; under {show(rule.limit, rule.unit)} nobody minds" if rule.limit is not None else ""
    if compare.ratio is not None:
        return f"new at most {compare.ratio:g} times old{least}"
    if compare.difference is not None:
        return f"new at most {show(compare.difference, rule.unit)} above old{least}"
    return f"new worse than old with a chance under {compare.rank_test:g} (Mann-Whitney){least}"


def _no_data(rule: Rule) -> str:
    if rule.no_data is None:
        return "unknown: never a pass, and nothing is done"
    return f"unknown; after {human_duration(rule.no_data.after)}: {rule.no_data.action}"
