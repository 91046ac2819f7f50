"""Secrets that a plan spells out all the same do not reach the store."""

import pytest

from zdd_tui.model.masking import clean_object, mask_secrets, mask_text


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
    assert mask_secrets(given) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("amqp://web:s3cret@queue/x", "amqp://web:***@queue/x"),
        ('{"token":"s3cret","user":"ana"}', '{"token":"***","user":"ana"}'),
        ("--password=s3cret --user=ana", "--password=*** --user=ana"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer ***"),
        ("api-key: s3cret", "api-key: ***"),
        ("password=${PASSWORD}", "password=${PASSWORD}"),
        ("GET /users/1 200 in 2.1 ms", "GET /users/1 200 in 2.1 ms"),
    ],
)
def test_a_secret_in_what_others_wrote_is_masked(given: str, kept: str) -> None:
    assert mask_text(given) == kept


def test_an_object_of_the_cluster_is_shown_without_its_secrets() -> None:
    shown = clean_object(
        {
            "kind": "Secret",
            "metadata": {
                "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data": "s3cret"}', "a": "b"},
            },
            "data": {"key": "czNjcmV0"},
            "env": [{"name": "DB_PASSWORD", "value": "s3cret"}, {"name": "PORT", "value": "80"}, {"name": "TOKEN"}],
        }
    )
    assert shown["data"] == {"key": "***"}
    assert shown["env"] == [{"name": "DB_PASSWORD", "value": "***"}, {"name": "PORT", "value": "80"}, {"name": "TOKEN"}]
    assert shown["metadata"]["annotations"] == {
        "kubectl.kubernetes.io/last-applied-configuration": "(left out)",
        "a": "b",
    }
    assert "managedFields" not in shown["metadata"]
