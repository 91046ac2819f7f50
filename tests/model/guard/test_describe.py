"""The words beside a rule's reading: of every kind of rule, and without a secret."""

import pytest

from tests.model.plan.test_guard import GOOD, load
from zdd_tui.model.guard.rules import describe_rules
from zdd_tui.model.plan.guard import Guard

VIEWS = {view.name: view for view in describe_rules(load(GOOD).guard)}


@pytest.mark.parametrize(
    ("rule", "word", "text"),
    [
        ("errors", "source", "each pod, every 1.0s: GET /metrics"),
        ("errors", "metric", "the share of http_requests_total whose code is 5.."),
        ("errors", "scope", "each version separately; the worst counts"),
        ("errors", "limit", "breached above 1%"),
        ("errors", "minimum", "50 samples; fewer are inconclusive"),
        ("errors", "for", "acts once breached for 5.0s"),
        ("errors", "no data", "unknown: never a pass, no action"),
        ("p99", "metric", "p99 of the histogram http_request_duration_seconds"),
        ("p99", "for", "acts at the first breach"),
        ("p99", "no data", "unknown; after 1m00s: rollback"),
        ("slower", "scope", "the new version compared with the old one"),
        ("slower", "limit", "breached when new is worse with p-value below 0.01 (Mann-Whitney)"),
        ("budget", "limit", "1.44%: 14.4 times the budget of 0.1%, in both windows"),
        ("budget", "window", "1h00m and 5m00s"),
        ("crashes", "source", "Kubernetes, every 1.0s: restart counts of the Deployment’s pods"),
        ("probes", "source", "zdd’s own probe, every 1.0s: GET /ready of each ready endpoint"),
        ("probes", "metric", "responses whose status is not [23].."),
        ("orders", "source", "Prometheus at prometheus.example.com, every 1.0s"),
        ("orders", "query", "sum(rate(orders_failed_total[1m]))"),
        ("orders", "age", "of the query; its samples may be older by Prometheus’ scrape interval"),
    ],
)
def test_every_kind_of_rule_is_described(rule: str, word: str, text: str) -> None:
    assert (word, text) in VIEWS[rule].properties


def test_no_user_name_password_or_token_of_an_address_is_shown() -> None:
    guard = Guard.model_validate(
        {
            "sources": {
                "prometheus": {"url": "https://ana:pa55word@prom.example.com:9090/x?token=t0ken", "token": "t0ken"},
                "probe": {"url": "https://ana:pa55word@shop.example.com/ready?key=t0ken"},
            },
            "rules": [
                {"name": "q", "metric": "query", "query": "up", "limit": 3},
                {"name": "p", "metric": "error-rate", "source": "probe", "limit": "50%", "version": "all"},
            ],
        }
    )
    text = repr(describe_rules(guard))
    assert "prom.example.com:9090" in text
    assert "shop.example.com" in text
    assert "pa55word" not in text
    assert "t0ken" not in text
    assert "ana" not in text


def test_a_plan_without_a_guard_has_no_descriptions() -> None:
    assert describe_rules(None) == ()
