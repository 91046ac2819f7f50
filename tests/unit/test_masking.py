"""Secrets that a plan spells out all the same do not reach the store."""

import pytest

from zdd_tui.backends.records import masked


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("url: https://ana:s3cret@prometheus.example.com/x", "url: https://ana:***@prometheus.example.com/x"),
        ("url: http://prometheus:9090/a@b", "url: http://prometheus:9090/a@b"),
        ("url: https://ana:${PASSWORD}@prometheus", "url: https://ana:${PASSWORD}@prometheus"),
        ("{url: x, token: s3cret}", "{url: x, token: ***}"),
        ('token: "s3cret"', 'token: "***"'),
        ("token: ${TOKEN}", "token: ${TOKEN}"),
        ('token: "${TOKEN}"', 'token: "${TOKEN}"'),
        ({"prometheus": {"token": "s3cret"}}, {"prometheus": {"token": "***"}}),
        ({"prometheus": {"token": "${TOKEN}"}}, {"prometheus": {"token": "${TOKEN}"}}),
    ],
)
def test_a_secret_of_the_guards_sources_is_masked(given: object, kept: object) -> None:
    assert masked(given) == kept
