"""The HTTP side: authentication, routing of verbs, and errors as Status objects."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from zdd_tui.testbed.cluster import discovery, kinds, patches, tables
from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.api import Api, scale_of, set_replicas
from zdd_tui.testbed.cluster.errors import (
    ApiError,
    bad_request,
    method_not_allowed,
    no_such_path,
    object_details,
    unauthorized,
)
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.managed_fields import note_client
from zdd_tui.testbed.cluster.meta import Json, deep_copy, uid_of
from zdd_tui.testbed.cluster.paging import ListPages
from zdd_tui.testbed.cluster.pod_log import serve_log
from zdd_tui.testbed.cluster.request import RequestInfo
from zdd_tui.testbed.cluster.watching import WatchStream

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def json_response(body: Any, status: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


class ApiServer:
    """The aiohttp application of one cluster. `close()` ends every watch, so that shutting down is quick."""

    def __init__(self, api: Api, token: str, log_root: Path) -> None:
        self.api = api
        self._token = token
        self._log_root = log_root
        self._pages = ListPages()
        self._closing = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate], client_max_size=requests.MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._route)
        return app

    def close(self) -> None:
        self._closing.set()
        self.api.store.wake_watchers()

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse whoever has no token; turn our errors into Status objects."""
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return json_response(unauthorized().status(), 401)
        note_client(request)
        try:
            return await handler(request)
        except ApiError as error:
            return json_response(error.status(), error.code)
        except web.HTTPException as error:
            wrapped = ApiError(error.status, error.reason or "", error.reason or "", {})
            return json_response(wrapped.status(), error.status)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if request.method == "GET":
            if path in ("/healthz", "/livez", "/readyz"):
                return web.Response(text="ok")
            document = discovery.document(path, request.host)
            if document is not None:
                return json_response(document)
        if path == discovery.REVIEW_PATH and request.method == "POST":
            return json_response(await discovery.review_access(request), 201)
        target = requests.parse_path(path)
        if target.subresource is not None:
            return await self._subresource(request, target)
        return await self._verb(request, target)

    async def _verb(self, request: web.Request, target: RequestInfo) -> web.StreamResponse:
        method = request.method
        if method == "GET":
            if requests.is_true(request, "watch"):
                return await WatchStream(self.api.store, request, target).run(self._closing)
            return self._get(request, target) if target.name else self._list(request, target)
        if method == "POST" and not target.name:
            return await self._create(request, target)
        if method == "PUT" and target.name:
            return await self._update(request, target, status=False)
        if method == "PATCH" and target.name:
            return await self._patch(request, target, status=False)
        if method == "DELETE":
            return await (self._delete(request, target) if target.name else self._delete_all(request, target))
        raise method_not_allowed()

    def _respond(self, request: web.Request, target: RequestInfo, obj: Json, status: int = 200) -> web.Response:
        if requests.wants_table(request):
            table = tables.render_table(target.storage_type, [obj], request.query.get("includeObject"))
            return json_response(table, status)
        return json_response(kinds.to_requested_kind(target.kind, obj), status)

    def _get(self, request: web.Request, target: RequestInfo) -> web.Response:
        return self._respond(request, target, self.api.get(*target.key))

    def _list(self, request: web.Request, target: RequestInfo) -> web.Response:
        match = requests.read_selectors(request)
        if request.query.get("continue"):
            items, metadata = self._pages.next(request)
        else:
            found = self.api.list(target.storage_type, target.namespace, match)
            items, metadata = self._pages.first(request, found, self.api.store.version)
        kind = target.kind
        if requests.wants_table(request):
            table = tables.render_table(target.storage_type, items, request.query.get("includeObject"))
            return json_response({**table, "metadata": metadata})
        bare = [
            {k: v for k, v in kinds.to_requested_kind(kind, item).items() if k not in ("kind", "apiVersion")}
            for item in items
        ]
        return _list_response(kind, metadata, bare)

    async def _create(self, request: web.Request, target: RequestInfo) -> web.Response:
        body = requests.decode_request_body(request, target.kind, await requests.read_object_body(request))
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed()
        body = kinds.to_stored_kind(target.kind, body)
        obj = self.api.create(target.storage_type, target.namespace or "", body, dry_run="dryRun" in request.query)
        return self._respond(request, target, obj, 201)

    async def _update(self, request: web.Request, target: RequestInfo, *, status: bool) -> web.Response:
        body = requests.decode_request_body(request, target.kind, await requests.read_object_body(request))
        return self._replace(request, target, body, status=status)

    async def _patch(self, request: web.Request, target: RequestInfo, *, status: bool) -> web.Response:
        apply = await patches.read_patch(request, target.kind.kind, custom=target.kind.custom)
        old = kinds.to_requested_kind(target.kind, self.api.get(*target.key))
        body = requests.decode_request_body(request, target.kind, apply(old))
        return self._replace(request, target, body, status=status)

    def _replace(self, request: web.Request, target: RequestInfo, body: Json, *, status: bool) -> web.Response:
        body = kinds.to_stored_kind(target.kind, body)
        obj = self.api.update(*target.key, body, status=status, dry_run="dryRun" in request.query)
        return self._respond(request, target, obj)

    async def _delete(self, request: web.Request, target: RequestInfo) -> web.Response:
        obj, gone = self.api.delete(*target.key, await requests.read_delete_options(request))
        if target.kind.returns_deleted or not gone:
            return json_response(obj)
        details = {**object_details(target.kind, target.name or ""), "uid": uid_of(obj)}
        return json_response({**SUCCESS, "details": details})

    async def _delete_all(self, request: web.Request, target: RequestInfo) -> web.Response:
        options = await requests.read_delete_options(request)
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed()
        items = self.api.list(target.storage_type, target.namespace, requests.read_selectors(request))
        for item in items:
            self.api.delete(target.storage_type, target.namespace or "", item["metadata"]["name"], options)
        return _list_response(target.kind, {"resourceVersion": str(self.api.store.version)}, items)

    async def _subresource(self, request: web.Request, target: RequestInfo) -> web.StreamResponse:
        kind, method, sub = target.kind, request.method, target.subresource
        if sub == "status" and kind.has_status:
            if method == "GET":
                return self._get(request, target)
            if method == "PUT":
                return await self._update(request, target, status=True)
            if method == "PATCH":
                return await self._patch(request, target, status=True)
            raise method_not_allowed()
        if sub == "scale" and kind.has_scale:
            return await self._scale(request, target)
        if kind is kinds.POD and sub == "log" and method == "GET":
            return await serve_log(request, self.api.get(*target.key), self._log_root, self._closing)
        if kind is kinds.POD and sub == "binding" and method == "POST":
            body = await requests.read_object_body(request)
            node = (body.get("target") or {}).get("name")
            if not node:
                raise bad_request("target.name: Required value")
            self.api.bind(target.namespace or "", target.name or "", node)
            return json_response({**SUCCESS, "code": 201}, 201)
        raise no_such_path()

    async def _scale(self, request: web.Request, target: RequestInfo) -> web.Response:
        current = scale_of(self.api.get(*target.key))
        if request.method == "GET":
            return json_response(current)
        if request.method == "PUT":
            wanted = await requests.read_object_body(request)
        elif request.method == "PATCH":
            wanted = (await patches.read_patch(request, "Scale"))(deep_copy(current))
        else:
            raise method_not_allowed()
        return json_response(set_replicas(self.api, *target.key, wanted))


def _list_response(kind: ResourceType, metadata: Json, items: list[Json]) -> web.Response:
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
    return json_response({**head, "metadata": metadata, "items": items})
