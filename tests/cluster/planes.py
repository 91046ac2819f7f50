"""The two control planes that the cases run on: the embedded one, and a real one out of KUBEBUILDER_ASSETS."""

import base64
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# kube-apiserver and etcd on two busy cores.
START_TIMEOUT = 90.0
# Only what the cases look at: the fewer controllers, the less two cores have to do.
CONTROLLERS = (
    "deployment-controller,replicaset-controller,endpointslice-controller,garbage-collector-controller,"
    "namespace-controller,serviceaccount-controller,resourcequota-controller"
)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane to talk to. `authority` is the PEM of its certificate's issuer."""

    name: str
    url: str
    token: str
    authority: str
    kubeconfig: Path

    @property
    def real(self) -> bool:
        return self.name == "real"

    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority)


def from_kubeconfig(name: str, path: Path, context: str | None = None) -> ControlPlane:
    """A plane with a token and a certificate authority in its kubeconfig."""
    config = yaml.safe_load(path.read_text())
    wanted = context or config["current-context"]
    chosen = _named(config["contexts"], wanted)["context"]
    cluster = _named(config["clusters"], chosen["cluster"])["cluster"]
    user = _named(config["users"], chosen["user"])["user"]
    data = cluster.get("certificate-authority-data")
    authority = base64.b64decode(data).decode() if data else Path(cluster["certificate-authority"]).read_text()
    return ControlPlane(name, cluster["server"], user["token"], authority, path)


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


@contextmanager
def _process(command: list[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.PIPE
        error = subprocess.STDOUT if log else None
        process = stack.enter_context(subprocess.Popen(command, stdout=output, stderr=error))
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def embedded(directory: Path) -> Iterator[ControlPlane]:
    """The embedded cluster as its own process."""
    command = [sys.executable, "-m", "zdd_tui.testbed.cluster", "--dir", str(directory)]
    with _process(command, None) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = json.loads(line)
        yield from_kubeconfig("embedded", Path(ready["kubeconfig"]))
        process.terminate()
        assert process.wait(10) == 0, "the embedded cluster did not end cleanly"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real(assets: Path, directory: Path) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager on loopback, in a folder of their own."""
    token = secrets.token_hex(16)
    _write_secrets(directory, token)
    etcd_port, peer_port, api_port = free_port(), free_port(), free_port()
    kubeconfig = directory / "kubeconfig"
    with ExitStack() as stack:
        etcd_command = _etcd(assets, directory, etcd_port, peer_port)
        etcd = stack.enter_context(_process(etcd_command, directory / "etcd.log"))
        _wait_until(lambda: _advance_etcd_revision(etcd_port), etcd, directory / "etcd.log")
        server = stack.enter_context(
            _process(_apiserver(assets, directory, etcd_port, api_port), directory / "apiserver.log")
        )
        authority = directory / "certs" / "apiserver.crt"
        url = f"https://127.0.0.1:{api_port}"
        _wait_until(authority.exists, server, directory / "apiserver.log")
        _write_kubeconfig(kubeconfig, url, authority, token)
        _wait_until(lambda: _is_ready(url, "/readyz", authority, token), server, directory / "apiserver.log")
        command = _controller_manager(assets, directory, kubeconfig)
        manager = stack.enter_context(_process(command, directory / "kcm.log"))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        _wait_until(lambda: _is_ready(url, account, authority, token), manager, directory / "kcm.log")
        yield from_kubeconfig("real", kubeconfig)


def _write_secrets(directory: Path, token: str) -> None:
    tokens = directory / "tokens.csv"
    tokens.touch(0o600)
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    key, public = directory / "sa.key", directory / "sa.pub"
    key.touch(0o600)
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)], check=True, capture_output=True)


def _etcd(assets: Path, directory: Path, port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(assets / "etcd"), "--name", "test", "--data-dir", str(directory / "etcd"),
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"test={peer}", "--unsafe-no-fsync",
    ]  # fmt: skip


def _advance_etcd_revision(port: int) -> bool:
    """Write what nobody reads, so that version 1 lies before the server's time and is refused as too old."""
    key = base64.b64encode(b"/before").decode()
    body = json.dumps({"key": key, "value": key}).encode()
    try:
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v3/kv/put", body, timeout=5) as response:
                response.read()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
    return True


def _apiserver(assets: Path, directory: Path, etcd_port: int, port: int) -> list[str]:
    return [
        str(assets / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={port}",
        f"--cert-dir={directory / 'certs'}", f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'sa.pub'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
    ]  # fmt: skip


def _controller_manager(assets: Path, directory: Path, kubeconfig: Path) -> list[str]:
    return [
        str(assets / "kube-controller-manager"), f"--kubeconfig={kubeconfig}", "--bind-address=127.0.0.1",
        "--secure-port=0", f"--service-account-private-key-file={directory / 'sa.key'}",
        f"--root-ca-file={directory / 'certs' / 'apiserver.crt'}", "--use-service-account-credentials=true",
        "--leader-elect=false", f"--cert-dir={directory / 'certs-kcm'}", f"--controllers={CONTROLLERS}",
    ]  # fmt: skip


def _write_kubeconfig(path: Path, url: str, authority: Path, token: str) -> None:
    path.touch(0o600)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "real", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "admin", "namespace": "default"}}],
        "current-context": "real",
    }
    path.write_text(yaml.safe_dump(config))


def _is_ready(url: str, path: str, authority: Path, token: str) -> bool:
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(request, context=context, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def _wait_until(check: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until `check()`: these programs have no other way to say that they are ready."""
    end = time.monotonic() + START_TIMEOUT
    while not check():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the control plane did not start; the end of {log.name}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def from_environment() -> tuple[Path | None, str | None]:
    """The assets' folder (KUBEBUILDER_ASSETS) and the kubeconfig context (ZDD_TEST_CONTEXT), where given."""
    assets, context = os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("ZDD_TEST_CONTEXT")
    return (Path(assets) if assets else None), context or None
