"""A local cluster: API server and controllers in one event loop."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers.manager import ControllerManager
from zdd_tui.testbed.cluster.server import ApiServer
from zdd_tui.testbed.cluster.store import ObjectStore
from zdd_tui.testbed.cluster.tls import self_signed, server_context, write_kubeconfig

ADDRESS = "127.0.0.1"
NAMESPACES = ("default", "kube-node-lease", "kube-system")


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A running cluster. `url` is https on loopback; the kubeconfig holds its certificate and the token."""

    url: str
    kubeconfig: Path
    token: str = field(repr=False)
    certificate: bytes = field(repr=False)
    api: Api = field(repr=False)


@asynccontextmanager
async def local_cluster(directory: Path, *, port: int = 0, log_root: Path | None = None) -> AsyncIterator[LocalCluster]:
    """Serve a cluster on loopback until the context ends; port 0 takes a free one.

    Writes `directory`/kubeconfig. `log_root` is the folder below which pod logs may be served (`directory`
    unless given). Raises OSError where the port is taken.
    """
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - once, before anything is served
    token, identity = secrets.token_urlsafe(24), self_signed(ADDRESS)
    api = Api(ObjectStore())
    for name in NAMESPACES:
        api.create(kinds.NAMESPACE, "", {"metadata": {"name": name}})
    server = ApiServer(api, token, log_root or directory)
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, ADDRESS, port, ssl_context=server_context(identity, directory))
        await site.start()
        url = f"https://{ADDRESS}:{runner.addresses[0][1]}"
        path = directory / "kubeconfig"
        write_kubeconfig(path, url, identity.certificate, token)
        async with ControllerManager(api):
            try:
                yield LocalCluster(url, path, token, identity.certificate, api)
            finally:
                server.close()
    finally:
        await runner.cleanup()
