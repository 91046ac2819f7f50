"""The sample's environment and its manifests."""

import pytest

from zdd_tui.demo import manifests
from zdd_tui.demo.sample.settings import Settings
from zdd_tui.model.errors import ZddError

ENV = {
    "IMAGE": "reg.example:5000/shop/users-api:2",
    "DATABASE_URL": "postgresql://u:s3cret@h/d",
    "REDIS_URL": "redis://:s3cret@h",
}


def test_the_tag_is_the_version_and_secrets_stay_out_of_sight() -> None:
    settings = Settings.from_env(ENV)
    assert (settings.version, settings.kind, settings.dual_write, settings.port) == (2, "column", "application", 8080)
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"IMAGE": ""}, "IMAGE"),
        ({"IMAGE": "shop/users-api:9"}, "'9'"),
        ({"IMAGE": "shop/users-api"}, "tag of IMAGE"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"CHANGE_KIND": "view"}, "CHANGE_KIND"),
        ({"DUAL_WRITE": "hope"}, "DUAL_WRITE"),
    ],
)
def test_a_wrong_environment_names_the_variable(change: dict[str, str], place: str) -> None:
    with pytest.raises(ZddError, match=place):
        Settings.from_env(ENV | change)


def test_the_manifest_gives_the_pod_what_it_reads() -> None:
    made = manifests.deployment_manifest(
        dsn="postgresql://d", redis_url="redis://r", kind="table", dual_write="trigger", version=3
    )
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    env = {item["name"]: item["value"] for item in container["env"]}
    settings = Settings.from_env(env | {"IMAGE": container["image"]})
    assert (settings.version, settings.kind, settings.dual_write) == (3, "table", "trigger")
    assert (settings.database_url, settings.redis_url) == ("postgresql://d", "redis://r")
    # The wait for the routers, the drain and its grace must all fit before the kill.
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop + settings.drain_seconds + 5 < spec["terminationGracePeriodSeconds"]
    assert made["spec"]["selector"]["matchLabels"] == made["spec"]["template"]["metadata"]["labels"]
    assert manifests.service_manifest()["spec"]["selector"] == made["spec"]["template"]["metadata"]["labels"]
