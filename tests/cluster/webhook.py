"""A mutating admission webhook that rewrites images: a real one on the real plane.

The embedded cluster has no webhooks. There a proxy in front of it rewrites what the client writes; pods that its
controllers create are not seen by it.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster.rest import Json, KubernetesClient
from tests.support import mutating_proxy
from zdd_tui.testbed.cluster.tls import self_signed, server_context

Rewrite = Callable[[str], str]
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


@asynccontextmanager
async def mutating_webhook(
    api: KubernetesClient, folder: Path, rewrite: Rewrite, *, resource: str = "deployments"
) -> AsyncIterator[str]:
    """Yields the kubeconfig to work with while the webhook is in effect for the case's namespace.

    Args:
        rewrite: from the image that was written to the image that is stored.
        resource: ``deployments`` or ``pods``.
    """
    if not api.plane.real:
        async with mutating_proxy.mutating_webhook(
            str(api.plane.kubeconfig), folder, rewrite, resource=resource
        ) as kubeconfig:
            yield kubeconfig
        return
    identity = self_signed("127.0.0.1")
    app = web.Application()
    app.router.add_post("/", _make_handler(rewrite))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(identity, folder)).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        name = f"{api.namespace}-{resource}"
        await asyncio.to_thread(
            api.create, CONFIGURATIONS, _configuration(api, name, resource, url, identity.certificate)
        )
        try:
            await _wait_until_in_effect(api, resource, rewrite)
            yield str(api.plane.kubeconfig)
        finally:
            await asyncio.to_thread(api.delete, f"{CONFIGURATIONS}/{name}")
    finally:
        await runner.cleanup()


def _configuration(api: KubernetesClient, name: str, resource: str, url: str, certificate: bytes) -> Json:
    group = "apps" if resource == "deployments" else ""
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
    webhook = {
        "name": "images.example.com",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(certificate).decode()},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 5,
    }
    return {"metadata": {"name": name}, "webhooks": [webhook]}


def _make_handler(rewrite: Rewrite) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        review = await request.json()
        body = review["request"]["object"]
        is_pod = body["kind"] == "Pod"
        spec, path = (body["spec"], "/spec") if is_pod else (body["spec"]["template"]["spec"], "/spec/template/spec")
        patch = [
            {"op": "replace", "path": f"{path}/containers/{number}/image", "value": rewrite(container["image"])}
            for number, container in enumerate(spec["containers"])
            if container["image"] != rewrite(container["image"])
        ]
        response = {"uid": review["request"]["uid"], "allowed": True}
        if patch:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    return handle


async def _wait_until_in_effect(api: KubernetesClient, resource: str, rewrite: Rewrite) -> None:
    """The server reads configurations through a watch of its own: a dry run shows when it has seen this one."""
    pod = {"containers": [{"name": "probe", "image": "probe:1"}]}
    labels = {"app": "probe"}
    spec: Json = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    body: Json = {"metadata": {"name": "probe"}, "spec": pod if resource == "pods" else spec}
    async with asyncio.timeout(20):
        while True:
            made = await asyncio.to_thread(api.create, f"{resource}?dryRun=All", body)
            found = made["spec"] if resource == "pods" else made["spec"]["template"]["spec"]
            if found["containers"][0]["image"] == rewrite("probe:1"):
                return
            await asyncio.sleep(0.1)
