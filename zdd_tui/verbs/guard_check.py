"""Can the guard of this plan judge here? For `zdd check`, and for an agent before it begins."""

import time

import aiohttp

from zdd_tui.backends import prometheus
from zdd_tui.model.errors import MetricsError, PlanError
from zdd_tui.model.guard_rank import require_scipy
from zdd_tui.model.plan_guard import Guard, Metric


def check_guard(guard: Guard | None) -> None:
    """
    Raises:
        PlanError: a rule needs what is not installed here.
    """
    for rule in guard.rules if guard else ():
        if rule.compare is not None and rule.compare.rank_test is not None:
            require_scipy(rule.name)


async def check_queries(guard: Guard) -> list[str]:
    """Asks every query once; returns a line for each rule with the number it gave.

    Raises:
        PlanError: a query that gives no number now.
        MetricsError: Prometheus is away.
    """
    server = guard.sources.prometheus
    if server is None:
        return []
    found = []
    async with aiohttp.ClientSession() as session:
        for rule in guard.rules:
            if rule.metric is not Metric.QUERY:
                continue
            numbers = []
            for key, query in (("query", rule.query), ("baseline", rule.baseline), ("samples", rule.samples)):
                if query is None:
                    continue
                try:
                    numbers.append(f"{key} {await prometheus.ask(session, server, query, now=time.time()):g}")
                except MetricsError as error:
                    if not error.mend:  # the server, not the query
                        raise MetricsError(error.title, "check guard.sources.prometheus, and the server") from None
                    raise PlanError(f"guard.rules: rule {rule.name}: {key}: {error.title}", error.mend) from None
            found.append(f"guard rule {rule.name}: {', '.join(numbers)}")
    return found
