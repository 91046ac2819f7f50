"""The second Deployment and the switched Service against a living cluster: fenced, refused to others, removed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubelet import NAME, ClusterClient, deployment, make_cluster, service
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    acquire_service,
    create_owned,
    get_raw_object,
    get_service,
    release_service,
    remove_owned,
    set_service_selector,
)
from zdd_tui.backends.metrics.probe import run_smoke_checks
from zdd_tui.checks.cluster import check_service_switch, require_not_owned_by_others
from zdd_tui.model.errors import ClusterError, Refused, StaleEpoch
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.strategies import BlueGreenPlan, SmokeCheck
from zdd_tui.model.workload.second_deployment import build_preview_service, build_second_deployment, choose_switch_label

GREEN, PREVIEW = f"{NAME}-green", f"{NAME}-preview"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    """A cluster where no pod runs: enough for reads and writes."""
    async with make_cluster(tmp_path, kubelet=False) as made:
        await made.create("deployments", deployment(2))
        await made.create("services", service())
        yield made


async def raw(api: ClusterClient, kind: tuple[str, str], name: str) -> Any:
    found = await get_raw_object(api.cluster, kind, name)
    assert found is not None
    return found


async def make_green(api: ClusterClient, owner: str = "one", epoch: int = 7) -> None:
    first = await raw(api, DEPLOYMENTS, NAME)
    switch = choose_switch_label(first, await get_service(api.cluster, NAME), "green")
    manifest = build_second_deployment(
        first, switch, name=GREEN, container="app", image="shop/users:2", owner=owner, epoch=epoch
    )
    await create_owned(api.cluster, DEPLOYMENTS, manifest, owner=owner)
    preview = build_preview_service(await raw(api, SERVICES, NAME), switch, name=PREVIEW, owner=owner, epoch=epoch)
    await create_owned(api.cluster, SERVICES, preview, owner=owner)


async def test_green_is_a_copy_that_no_service_selects(api: ClusterClient) -> None:
    await make_green(api)
    first, green = await raw(api, DEPLOYMENTS, NAME), await raw(api, DEPLOYMENTS, GREEN)
    containers = green["spec"]["template"]["spec"]["containers"]
    assert [each["image"] for each in containers] == ["shop/users:2"]
    for spec in (first["spec"], green["spec"]):
        spec["template"]["spec"]["containers"][0].pop("image")
        spec["template"].pop("metadata")
        spec.pop("selector")
    assert green["spec"] == first["spec"]
    async with asyncio.timeout(10):
        while len(pods := await api.cluster.list_pods(f"app={NAME}-green")) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    found = {pod.name for pod in await api.cluster.list_pods(f"app={NAME}")}
    assert not found & {pod.name for pod in pods}
    assert (await raw(api, SERVICES, PREVIEW))["spec"]["selector"] == {"app": f"{NAME}-green"}
    assert (await raw(api, SERVICES, PREVIEW))["spec"]["ports"] == (await raw(api, SERVICES, NAME))["spec"]["ports"]


async def test_creating_green_is_idempotent_and_another_release_is_refused(api: ClusterClient) -> None:
    await make_green(api)
    uid = (await raw(api, DEPLOYMENTS, GREEN))["metadata"]["uid"]
    await make_green(api, epoch=8)
    assert (await raw(api, DEPLOYMENTS, GREEN))["metadata"]["uid"] == uid
    with pytest.raises(Refused, match="is held by release 'one'"):
        await make_green(api, owner="two")
    assert await remove_owned(api.cluster, DEPLOYMENTS, GREEN, owner="two", epoch=9), "there is none of theirs"
    assert (await raw(api, DEPLOYMENTS, GREEN))["metadata"]["uid"] == uid


async def test_an_object_without_owner_is_not_changed(api: ClusterClient) -> None:
    stranger = service()
    stranger["metadata"]["name"] = PREVIEW
    await api.create("services", stranger)
    with pytest.raises(Refused, match="belongs to no release"):
        await make_green(api)
    assert await remove_owned(api.cluster, SERVICES, PREVIEW, owner="one", epoch=9)
    await raw(api, SERVICES, PREVIEW)


async def test_a_service_is_switched_in_one_patch_and_released_unchanged(api: ClusterClient) -> None:
    before = (await raw(api, SERVICES, NAME))["metadata"].get("annotations"), await get_service(api.cluster, NAME)
    await acquire_service(api.cluster, NAME, owner="one", epoch=7)
    first = await get_service(api.cluster, NAME)
    switched = await set_service_selector(api.cluster, NAME, {"app": f"{NAME}-green"}, owner="one", epoch=8)
    assert (switched.selector, switched.owner, switched.epoch) == ({"app": f"{NAME}-green"}, "one", 8)
    again = await set_service_selector(api.cluster, NAME, {"app": f"{NAME}-green"}, owner="one", epoch=8)
    assert again.resource_version == switched.resource_version != first.resource_version
    await set_service_selector(api.cluster, NAME, {"app": NAME}, owner="one", epoch=8)
    after = await release_service(api.cluster, NAME, owner="one", epoch=8)
    assert after.selector == before[1].selector
    assert (await raw(api, SERVICES, NAME))["metadata"].get("annotations") in (before[0], {})


async def test_a_service_of_one_release_is_refused_to_a_second(api: ClusterClient) -> None:
    await acquire_service(api.cluster, NAME, owner="one", epoch=7)
    for write in (
        acquire_service(api.cluster, NAME, owner="two", epoch=9),
        set_service_selector(api.cluster, NAME, {"app": "elsewhere"}, owner="two", epoch=9),
        release_service(api.cluster, NAME, owner="two", epoch=9),
    ):
        with pytest.raises(Refused, match="is held by release 'one'"):
            await write
    view = await get_service(api.cluster, NAME)
    assert (view.owner, view.epoch, view.selector) == ("one", 7, {"app": NAME})


async def test_an_older_epoch_is_refused_and_changes_nothing(api: ClusterClient) -> None:
    await make_green(api, epoch=8)
    await acquire_service(api.cluster, NAME, owner="one", epoch=8)
    for write in (
        acquire_service(api.cluster, NAME, owner="one", epoch=7),
        set_service_selector(api.cluster, NAME, {"app": "elsewhere"}, owner="one", epoch=7),
        release_service(api.cluster, NAME, owner="one", epoch=7),
    ):
        with pytest.raises(StaleEpoch, match="epoch 8"):
            await write
    with pytest.raises(StaleEpoch, match="epoch 8"):
        await remove_owned(api.cluster, DEPLOYMENTS, GREEN, owner="one", epoch=7)
    assert (await get_service(api.cluster, NAME)).selector == {"app": NAME}
    await raw(api, DEPLOYMENTS, GREEN)


async def test_a_write_between_read_and_patch_is_detected(api: ClusterClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release acquires the Service between our read and our patch: the patch must fail."""
    send = api.cluster.http.request_json
    raced = False

    async def racing(method: str, path: str, **options: Any) -> Any:
        nonlocal raced
        if method == "PATCH" and not raced:
            raced = True
            await acquire_service(api.cluster, NAME, owner="two", epoch=3)
        return await send(method, path, **options)

    monkeypatch.setattr(api.cluster.http, "request_json", racing)
    with pytest.raises(Refused, match="'two'"):
        await set_service_selector(api.cluster, NAME, {"app": "elsewhere"}, owner="one", epoch=9)
    assert raced
    assert (await get_service(api.cluster, NAME)).selector == {"app": NAME}


# --- before the release ----------------------------------------------------------------------------------------

PLAN = f"""
name: one
strategy: blue-green
database: {{dsn: postgresql://localhost/x}}
kubernetes: {{deployment: {NAME}, image: "shop/users:2"}}
blue_green: {{smoke: [{{path: /ready}}]}}
"""


def plan() -> BlueGreenPlan:
    found = load_plan(PLAN, source="plan.yaml", environment={}).plan
    assert isinstance(found, BlueGreenPlan)
    return found


async def test_check_names_what_will_be_switched(api: ClusterClient) -> None:
    assert f"app={NAME}, to be switched to app={NAME}-green" in (await check_service_switch(api.cluster, plan()))[0]
    await acquire_service(api.cluster, NAME, owner="one", epoch=1)
    assert "this release" in (await check_service_switch(api.cluster, plan()))[0]


async def test_check_refuses_a_service_of_another_release_and_a_taken_name(api: ClusterClient) -> None:
    await make_green(api, owner="two")
    with pytest.raises(ClusterError, match=f"Deployment '{GREEN}' exists already"):
        await check_service_switch(api.cluster, plan())
    await acquire_service(api.cluster, NAME, owner="two", epoch=1)
    with pytest.raises(ClusterError, match="is held by release 'two'") as refused:
        await require_not_owned_by_others(api.cluster, plan())
    assert refused.value.exit_code == 2


async def test_a_service_that_shares_no_label_cannot_be_switched(api: ClusterClient) -> None:
    await api.cluster.http.request_json(
        "PATCH",
        api.cluster.path("api/v1", "services", NAME),
        body={"spec": {"selector": {"app": None, "tier": "web"}}},
        content_type="application/merge-patch+json",
    )
    with pytest.raises(ClusterError, match="no label in common"):
        await check_service_switch(api.cluster, plan())


# --- smoke checks ----------------------------------------------------------------------------------------------


async def test_smoke_checks_name_each_wrong_response_and_quote_no_body() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        if path != b"/hangs":
            status = {b"/ok": b"200 OK", b"/moved": b"302 Found"}.get(path, b"500 Oops")
            head = b"Location: /ok\r\nContent-Length: 11\r\nConnection: close\r\n\r\n"
            writer.write(b"HTTP/1.1 " + status + b"\r\n" + head + b"hello Ana!\n")
            writer.close()
            return
        await reader.read()
        writer.close()

    checks = [
        SmokeCheck(path="/ok", contains="hello"),
        SmokeCheck(path="/moved", status=302),
        SmokeCheck(path="/ok", contains="version 2"),
        SmokeCheck(path="/broken"),
        SmokeCheck(path="/hangs"),
    ]
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        wrong = await run_smoke_checks([("127.0.0.1", port)], checks, 0.5)
    assert [line.split(" ", 1)[1] for line in wrong] == [
        "GET /ok: 'version 2' is not in the body",
        "GET /broken: 500 instead of 200",
        "GET /hangs: no response within 0.5 s",
    ]
    assert (await run_smoke_checks([("127.0.0.1", port)], checks[:1], 0.5))[0].startswith(
        f"127.0.0.1:{port} GET /ok: Client"
    )
