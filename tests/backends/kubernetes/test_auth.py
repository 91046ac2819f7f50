"""Reaching a cluster: every way in which that fails has one clear error, which shows no secret."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.kubelet import ClusterClient, api_server, make_cluster, read, serving, write_config
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.errors import ClusterError

NAME = "users"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    async with make_cluster(tmp_path, kubelet=False) as made:
        yield made


def test_importing_the_backend_imports_no_client() -> None:
    """The dashboard paints before it imports what takes half a second."""
    module = "zdd_tui.backends.kubernetes.deployment_watch"
    script = f"import sys, {module}; print({{'aiohttp', 'kubernetes_asyncio'}} & set(sys.modules))"
    text = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert text.stdout == "set()\n"


async def test_the_active_context_is_named(tmp_path: Path) -> None:
    path = write_config(tmp_path, "https://127.0.0.1:1", token="x")
    async with Cluster.connect(path, None, "shop", check=False) as cluster:
        assert (cluster.context, cluster.namespace, cluster.http.server) == ("x", "shop", "https://127.0.0.1:1")


async def test_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no kubeconfig at .*nowhere") as caught:
        async with Cluster.connect(str(tmp_path / "nowhere"), None, "default"):
            pass
    assert caught.value.hint


async def test_no_such_context(tmp_path: Path) -> None:
    path = write_config(tmp_path, "https://127.0.0.1:1", token="t0p-secret")
    with pytest.raises(ClusterError, match="no context 'prod' in") as caught:
        async with Cluster.connect(path, "prod", "default"):
            pass
    assert "get-contexts" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{", "clusters: 7", "current-context: x\ncontexts: []"])
async def test_a_file_that_is_not_a_kubeconfig(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ClusterError, match=str(path)):
        async with Cluster.connect(str(path), None, "default"):
            pass


async def test_a_failing_credential_plugin_is_named_and_its_output_is_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh"}
    plugin["args"] = ["-c", "echo t0p-secret; echo t0p-secret >&2; exit 1"]
    path = write_config(tmp_path, "https://127.0.0.1:1", exec=plugin)
    with pytest.raises(ClusterError, match=f"credential plugin named in {path} failed") as caught:
        async with Cluster.connect(path, None, "default"):
            pass
    assert "t0p-secret" not in "".join(traceback.format_exception(caught.value))
    assert "t0p-secret" not in caplog.text


async def test_connection_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, "https://127.0.0.1:1", token="t0p-secret")
    with pytest.raises(ClusterError, match=r"https://127\.0\.0\.1:1 refuses the connection") as caught:
        async with Cluster.connect(path, None, "default"):
            pass
    assert "t0p-secret" not in str(caught.value)


async def test_an_untrusted_certificate(tmp_path: Path) -> None:
    async with api_server(tmp_path) as kubeconfig:
        path = write_config(tmp_path, read(kubeconfig)["clusters"][0]["cluster"]["server"], token="x")
        with pytest.raises(ClusterError, match=r"certificate .* is not trusted") as caught:
            async with Cluster.connect(path, None, "default"):
                pass
        assert "certificate-authority" in caught.value.hint


async def test_credentials_that_are_not_accepted(tmp_path: Path) -> None:
    async with api_server(tmp_path) as kubeconfig:
        path = write_config(tmp_path, read(kubeconfig)["clusters"][0]["cluster"], token="wr0ng-secret")
        with pytest.raises(ClusterError, match="does not accept the credentials") as caught:
            async with Cluster.connect(path, None, "default") as cluster:
                await cluster.get_deployment(NAME)
        assert "wr0ng-secret" not in str(caught.value)


async def test_a_deployment_that_does_not_exist(api: ClusterClient) -> None:
    with pytest.raises(KubeApiError, match="no Deployment 'nobody' in namespace") as caught:
        await api.cluster.get_deployment("nobody")
    assert caught.value.status == 404
    assert f"kubectl get deployments -n {api.cluster.namespace}" in caught.value.hint


async def test_a_forbidden_request_names_verb_resource_and_hint(tmp_path: Path) -> None:
    """A server that refuses: RBAC with users of few rights is beyond the embedded cluster."""

    async def refuse(_: web.Request) -> web.Response:
        status = {"kind": "Status", "reason": "Forbidden", "message": "deployments is forbidden", "code": 403}
        return web.json_response(status, status=403)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    async with serving(application) as url:
        path = write_config(tmp_path, url)
        async with Cluster.connect(path, None, "shop") as cluster:
            with pytest.raises(
                KubeApiError, match="not allowed to get Deployment 'users' in namespace 'shop'"
            ) as caught:
                await cluster.get_deployment("users")
            name = "zdd-get-deployments"
            assert caught.value.hint == (
                f"request the permission: kubectl create role {name} --verb=get --resource=deployments -n shop;"
                f" kubectl create rolebinding {name} --role={name} --user=USER -n shop"
            )
            with pytest.raises(KubeApiError, match="not allowed to list pods"):
                await cluster.list_pods("app=users")


async def test_expired_credentials_are_read_again(tmp_path: Path) -> None:
    """A token that an exec plugin made expires during a release of hours."""
    accepted = {"Bearer second"}

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in accepted:
            return web.json_response({"kind": "Status", "reason": "Unauthorized"}, status=401)
        return web.json_response({"metadata": {"name": "users"}})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    async with serving(application) as url:
        path = write_config(tmp_path, url, token="first")
        async with Cluster.connect(path, None, "shop", check=False) as cluster:
            write_config(tmp_path, url, token="second")
            views = await asyncio.gather(*(cluster.get_deployment("users") for _ in range(5)))
    assert {view.name for view in views} == {"users"}


@pytest.mark.parametrize(
    "message",
    [
        'pods "api-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4',
        'admission webhook "policy.example" denied the request: images must be signed',
    ],
)
async def test_a_refusal_by_admission_says_why(tmp_path: Path, message: str) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "reason": "Forbidden", "message": message, "code": 403}, status=403)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    async with serving(application) as url, Cluster.connect(write_config(tmp_path, url), None, "shop") as cluster:
        with pytest.raises(KubeApiError) as caught:
            await cluster.get_deployment("users")
    assert message in caught.value.title


@pytest.mark.parametrize("command", ["no-such-auth-plugin", "/nowhere/aws-iam-authenticator"])
async def test_d_a_credential_plugin_that_is_not_installed_is_named(tmp_path: Path, command: str) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command}
    path = write_config(tmp_path, "https://127.0.0.1:1", exec=plugin)
    with pytest.raises(ClusterError, match=command) as caught:
        async with Cluster.connect(path, None, "default"):
            pass
    assert path in caught.value.title
    assert "install" in caught.value.hint
