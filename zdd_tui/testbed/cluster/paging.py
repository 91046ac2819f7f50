"""Lists in pages: `limit` and `continue` of the query, as in Kubernetes documentation, "API concepts" (chunks)."""

import secrets
import time
from collections import OrderedDict
from http import HTTPStatus

from aiohttp import web

from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.meta import Json

CONTINUE_TTL = 300.0  # as long as etcd keeps a version after it was compacted, by default
MAX_CONTINUED = 100


class ListPages:
    """What is left of lists that were begun. Stored objects are never changed, so each is as of its own version.

    A page is some objects of a list, and the `metadata` of the response.
    """

    def __init__(self) -> None:
        self._remaining: OrderedDict[str, tuple[float, list[Json], int]] = OrderedDict()

    def first(self, request: web.Request, items: list[Json], version: int) -> tuple[list[Json], Json]:
        """The first page of a list as of a version; all of it where the request has no limit. Raises ApiError 400."""
        # With version 0 the real server answers from its cache, which knows no pages.
        limit = 0 if request.query.get("resourceVersion") == "0" else requests.read_int_query(request, "limit") or 0
        return self._page(request, items, version, limit)

    def next(self, request: web.Request) -> tuple[list[Json], Json]:
        """The page that a token stands for. Raises ApiError 400, 410."""
        token = request.query["continue"]
        began, items, version = self._remaining.get(token, (0.0, [], 0))
        if not version or time.monotonic() - began > CONTINUE_TTL:
            message = (
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of the results."
            )
            raise ApiError(HTTPStatus.GONE, "Expired", message)
        return self._page(request, items, version, requests.read_int_query(request, "limit") or 0)

    def _page(self, request: web.Request, items: list[Json], version: int, limit: int) -> tuple[list[Json], Json]:
        metadata: Json = {"resourceVersion": str(version)}
        if not 0 < limit < len(items):
            return items, metadata
        token = secrets.token_urlsafe(24)
        self._remaining[token] = (time.monotonic(), items[limit:], version)
        while len(self._remaining) > MAX_CONTINUED:
            self._remaining.popitem(last=False)
        metadata["continue"] = token
        if not request.query.get("labelSelector") and not request.query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(items) - limit  # the real server cannot count what it must select
        return items[:limit], metadata
