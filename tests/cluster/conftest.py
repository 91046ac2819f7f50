"""Every case here runs twice: on the embedded cluster, and on a real control plane where one is given.

KUBEBUILDER_ASSETS names a folder with etcd, kube-apiserver and kube-controller-manager, which are started for the
session; or ZDD_TEST_CONTEXT names a context (with a token) of the present kubeconfig. That cluster must have neither
scheduler nor nodes (envtest, say): the cases bring a node of their own, which they take away again.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import planes
from tests.cluster.fake_node import FakeNode
from tests.cluster.planes import ControlPlane
from tests.cluster.rest import Json, KubernetesClient, RequestRefused

# Started at most once each, and both at once where a test compares them.
_STACK = ExitStack()
_RUNNING: dict[str, ControlPlane] = {}


def _start(name: str) -> ControlPlane:
    assets, context = planes.from_environment()
    if name == "real" and assets is None and context is None:
        pytest.skip("no real control plane: set KUBEBUILDER_ASSETS (or ZDD_TEST_CONTEXT)")
    if name not in _RUNNING:
        directory = Path(_STACK.enter_context(tempfile.TemporaryDirectory(prefix=f"zdd-{name}-")))
        if name == "embedded":
            plane = _STACK.enter_context(planes.embedded(directory))
        elif context is not None:
            file = Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
            plane = planes.from_kubeconfig("real", file, context)
        else:
            assert assets is not None
            plane = _STACK.enter_context(planes.real(assets, directory))
        _STACK.enter_context(FakeNode(plane).running())
        _RUNNING[name] = plane
    return _RUNNING[name]


@pytest.fixture(scope="session", autouse=True)
def _stop_planes() -> Iterator[None]:
    yield
    _RUNNING.clear()
    _STACK.close()


@pytest.fixture(scope="session", params=["embedded", "real"])
def plane(request: pytest.FixtureRequest) -> ControlPlane:
    return _start(request.param)


def namespace_on(plane: ControlPlane) -> KubernetesClient:
    """A client with a fresh namespace, ready to take pods."""
    client = KubernetesClient(plane, f"case-{secrets.token_hex(3)}")
    client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": client.namespace}})
    if plane.real:  # pods are refused until the controller has made the namespace's account
        client.until("serviceaccounts", lambda items: any(i["metadata"]["name"] == "default" for i in items))
    return client


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[KubernetesClient]:
    client = namespace_on(plane)
    yield client
    with suppress(RequestRefused):  # a case may have deleted it
        client.delete(f"namespaces/{client.namespace}")


@pytest.fixture
def both_planes() -> Iterator[tuple[KubernetesClient, KubernetesClient]]:
    """The embedded and the real plane, side by side."""
    clients = (namespace_on(_start("embedded")), namespace_on(_start("real")))
    yield clients
    for client in clients:
        client.delete(f"namespaces/{client.namespace}")


def _find_kubectl() -> str:
    assets, _ = planes.from_environment()
    if assets is not None and (assets / "kubectl").exists():
        return str(assets / "kubectl")
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl: neither in KUBEBUILDER_ASSETS nor on PATH")
    return found


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl against the case's plane and namespace."""

    program: str
    environment: dict[str, str]
    namespace: str

    def command(self, *arguments: str) -> list[str]:
        return [self.program, "--namespace", self.namespace, *arguments]

    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        """Run to the end; the output, with errors appended. Fails on another exit code than `code`."""
        done = subprocess.run(
            self.command(*arguments),
            check=False,
            input=text,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, f"kubectl {' '.join(arguments)}: exit {done.returncode}\n{output}"
        return output

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, text=True, env=self.environment)


@pytest.fixture(scope="session")
def kubectl_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ControlPlane], dict[str, str]]:
    """An environment by plane: no cache of discovery may leak from one plane, or one run, into another."""

    def environment(plane: ControlPlane) -> dict[str, str]:
        home = tmp_path_factory.getbasetemp() / f"kubectl-{plane.name}"
        home.mkdir(exist_ok=True)
        return {"HOME": str(home), "PATH": os.environ["PATH"], "KUBECONFIG": str(plane.kubeconfig)}

    return environment


@pytest.fixture
def kubectl(api: KubernetesClient, kubectl_home: Callable[[ControlPlane], dict[str, str]]) -> Kubectl:
    return Kubectl(_find_kubectl(), kubectl_home(api.plane), api.namespace)


def manifest(
    name: str = "web", *, image: str = "shop/web:1", replicas: int = 3, pod: Json | None = None, **spec: object
) -> Json:
    """A Deployment; `pod` holds annotations of its pods, further keywords go into its spec."""
    container = {"name": "web", "image": image, "ports": [{"containerPort": 8080}]}
    template: Json = {
        "metadata": {"labels": {"app": name}, **({"annotations": pod} if pod else {})},
        "spec": {"containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def service(name: str = "web") -> Json:
    port = {"port": 80, "targetPort": 8080}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }
