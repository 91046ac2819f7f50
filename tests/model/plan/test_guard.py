"""The plan's guard section: what it may say, and what is refused because it could never fire."""

from pathlib import Path

import pytest

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.guard import Guard, GuardAction, GuardRule, MetricUnit, Source, parse_amount, parse_quantile
from zdd_tui.model.release.strategies import build_strategy

EXAMPLE = (Path(__file__).parents[3] / "config" / "plan.example.yaml").read_text()
EXAMPLE = EXAMPLE.split("\nguard:")[0]
ENVIRON = {"DATABASE_URL": "postgresql://app:s3cret@db/shop", "REDIS_URL": "redis://cache/0", "PROM_TOKEN": "t0ken"}

GOOD = """
guard:
  interval: 1s
  sources:
    prometheus: {url: "https://prometheus.example.com", token: "${PROM_TOKEN}"}
    probe: {path: /ready, timeout: 2s}
  rules:
    - {name: errors, metric: error-rate, limit: 1%, for: 5s, min_samples: 50}
    - {name: p99, metric: latency, quantile: p99, limit: 200ms, no_data: {after: 1m, action: rollback}}
    - {name: slower, metric: latency, compare: {rank_test: 0.01}, window: 30s, action: pause}
    - {name: budget, metric: error-rate, burn: {objective: 99.9%, factor: 14.4, long: 1h, short: 5m}}
    - {name: crashes, metric: restarts, limit: 2}
    - {name: probes, metric: error-rate, source: probe, limit: 0.5, action: alert}
    - {name: orders, metric: query, query: "sum(rate(orders_failed_total[1m]))", limit: 3}
"""


def load(guard: str) -> BasePlan:
    return load_plan(EXAMPLE + guard, source="plan.yaml", environment=ENVIRON).plan


def test_every_kind_of_rule_can_be_written() -> None:
    plan = load(GOOD)
    assert plan.guard is not None
    errors, p99, slower, budget, crashes, probes, orders = plan.guard.rules
    assert (errors.limit, errors.for_, errors.required_samples, errors.action) == (0.01, 5.0, 50, GuardAction.ROLLBACK)
    assert (p99.quantile, p99.limit, p99.unit) == (0.99, 0.2, MetricUnit.SECONDS)
    assert p99.no_data is not None
    assert (p99.no_data.after, p99.no_data.action) == (60.0, GuardAction.ROLLBACK)
    assert (slower.compare and slower.compare.rank_test, slower.action) == (0.01, GuardAction.PAUSE)
    assert budget.burn is not None
    assert budget.burn.limit == pytest.approx(0.0144)
    assert budget.windows == (3600.0, 300.0)
    sources = [rule.effective_source for rule in (errors, crashes, probes, orders)]
    assert sources == [Source.SCRAPE, Source.KUBERNETES, Source.PROBE, Source.PROMETHEUS]
    assert "t0ken" not in repr(plan)


def test_the_guard_is_a_gate_of_every_phase() -> None:
    strategy = build_strategy(load(GOOD))
    assert all(phase.gates[-1].name == "guard" for phase in strategy.phases)
    assert all(gate.name != "guard" for phase in build_strategy(load("")).phases for gate in phase.gates)


def test_a_guard_that_only_alerts_closes_no_gate() -> None:
    plan = load("\nguard:\n  rules:\n    - {name: a, metric: error-rate, limit: 1%, action: alert}\n")
    assert all(gate.name != "guard" for phase in build_strategy(plan).phases for gate in phase.gates)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("metric: error-rate, limit: 1", "never exceeds 100%, so with 100% this rule could never fire"),
        ("metric: error-rate, limit: 100%", "could never fire"),
        ("metric: error-rate, limit: .inf", "can never be exceeded"),
        ("metric: error-rate, limit: 200ms", "a share such as 1%"),
        ("metric: latency, limit: 5%", "a time such as 200ms"),
        ("metric: error-rate", "it has no limit"),
        ("metric: error-rate, compare: {difference: 100%}", "could never fire"),
        ("metric: error-rate, limit: 1%, window: 1s", "fewer than two checks"),
        ("metric: error-rate, limit: 1%, for: 2h", "less than or equal to 3600"),
        (
            "metric: latency, compare: {rank_test: 0.01}, window: 6s",
            "3 checks in a window of 6.0s reach a p-value of 0.05 at best",
        ),
        ("metric: latency, compare: {ratio: 2, difference: 1s}", "exactly one of"),
        ("metric: error-rate, burn: {objective: 90%}", "an error rate of 144%"),
        ("metric: error-rate, burn: {objective: 99%, long: 1m, short: 5m}", "short must be shorter"),
        ("metric: error-rate, burn: {objective: 99.9%}, limit: 1%", "burn computes the limit"),
        ("metric: latency, burn: {objective: 99.9%}", "belongs to metric: error-rate"),
        ("metric: query, query: up, limit: 1", "no Prometheus server is configured"),
        ("metric: query, limit: 1", "needs query"),
        ("metric: query, query: up, limit: 1, min_samples: 5", "min_samples can never be reached"),
        ("metric: query, query: up, limit: 1, compare: {ratio: 2}", "needs both compare and baseline"),
        ("metric: error-rate, source: prometheus, limit: 1%", "write it as metric: query"),
        ("metric: error-rate, source: probe, limit: 1%", "no probe is configured"),
        ("metric: error-rate, limit: 1%, query: up", "belong to metric: query"),
        ("metric: restarts, limit: 1, min_samples: 5", "leave out compare and min_samples"),
        ("metric: errorrate, limit: 1%", "did you mean error-rate?"),
        ("metric: error-rate, limit: 1%, widow: 1m", "did you mean window?"),
        ("metric: latency, limit: 1s, quantile: p0", "a quantile lies between 0 and 1"),
        ("metric: latency, limit: -1", "greater than or equal to 0"),
        ("metric: latency, limit: .nan", "greater than or equal to 0"),
        ("metric: latency, compare: {difference: .inf}", "compare.difference: an infinite limit"),
        ("metric: latency, compare: {ratio: .inf}", "an infinite ratio"),
        ("metric: error-rate, limit: 1%, window: .inf", "a duration must be finite"),
        ("metric: error-rate, limit: 1%, for: .inf", "a duration must be finite"),
        ("metric: error-rate, limit: 1%, no_data: {after: .nan}", "a duration must be finite"),
        ("metric: error-rate, burn: {objective: 99.9%, long: .inf}", "a duration must be finite"),
        ("metric: error-rate, burn: {objective: 99.9%, factor: .inf}", "could never fire"),
        ("metric: error-rate, compare: {ratio: 2}, limit: 100%", "could never fire"),
        ("metric: restarts, limit: 1, compare: {ratio: 2}", "leave out compare and min_samples"),
        ("metric: restarts, limit: 1, source: scrape", "restarts comes from kubernetes, not from scrape"),
    ],
)
def test_a_rule_that_could_never_fire_or_makes_no_sense_is_refused_with_its_place(rule: str, words: str) -> None:
    text = f"\nguard:\n  rules:\n    - {{name: bad, {rule}}}\n"
    with pytest.raises(PlanError) as caught:
        load(text)
    assert words in str(caught.value)
    line = (EXAMPLE + text).splitlines().index(f"    - {{name: bad, {rule}}}") + 1
    assert any(f"plan.yaml:{near}: guard" in str(caught.value) for near in (line, line - 2))


@pytest.mark.parametrize(
    ("sources", "rule", "words"),
    [
        (
            "probe: {url: 'http://shop/ready'}",
            "metric: error-rate, source: probe, limit: 1%, min_samples: 31",
            "30 probes",
        ),
        ("probe: {url: 'http://shop/ready'}", "metric: latency, source: probe, limit: 3s", "times out after 2.0s"),
        (
            "probe: {url: 'http://shop/ready'}",
            "metric: error-rate, source: probe, compare: {ratio: 2}",
            "cannot tell new from old",
        ),
        (
            "probe: {path: /ready}",
            "metric: latency, source: probe, compare: {difference: 2s}",
            "no latency can exceed 2.0s: this rule could never fire",
        ),
        (
            "prometheus: {url: 'http://x'}",
            "metric: query, query: up, baseline: up, compare: {rank_test: 0.01}",
            "use ratio or difference",
        ),
        ("probe: {path: /ready, url: 'http://shop'}", "metric: restarts, limit: 1", "either url or path"),
        ("probe: {path: /ready, expect: '9..'}", "metric: restarts, limit: 1", "every probe would be an error"),
        ("scrape: {errors: '9..'}", "metric: error-rate, limit: 1%", "matches no HTTP status code"),
        ("scrape: {errors: '5(.'}", "metric: error-rate, limit: 1%", "not a regular expression"),
        ("prometheus: {url: prometheus}", "metric: error-rate, limit: 1%", "http://prometheus:9090"),
    ],
)
def test_sources_that_leave_a_rule_blind_are_refused(sources: str, rule: str, words: str) -> None:
    with pytest.raises(PlanError, match=r"plan.yaml:\d+: guard") as caught:
        load(f"\nguard:\n  sources:\n    {sources}\n  rules:\n    - {{name: bad, {rule}}}\n")
    assert words in str(caught.value)


def test_names_are_unique_and_there_is_a_rule() -> None:
    rule = {"name": "a", "metric": "restarts", "limit": 1}
    with pytest.raises(ValueError, match="two rules have the name a"):
        Guard.model_validate({"rules": [rule, rule]})
    with pytest.raises(ValueError, match="checks nothing"):
        Guard.model_validate({"rules": []})


@pytest.mark.parametrize(
    ("text", "value"), [("1%", 0.01), ("0.5 %", 0.005), ("200ms", 0.2), ("2", 2.0), (3, 3.0), ("1m", 60.0)]
)
def test_amounts(text: object, value: float) -> None:
    assert parse_amount(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("p99", 0.99), ("p999", 0.999), ("P50", 0.5), (0.95, 0.95), ("p5", 0.05)])
def test_quantiles(text: object, value: float) -> None:
    assert parse_quantile(text) == pytest.approx(value)


def test_rules_have_sensible_defaults() -> None:
    rule = GuardRule.model_validate({"name": "a", "metric": "error-rate", "limit": "1%"})
    assert (rule.required_samples, rule.window, rule.for_, rule.action, rule.version) == (
        20,
        60.0,
        0.0,
        "rollback",
        "each",
    )
