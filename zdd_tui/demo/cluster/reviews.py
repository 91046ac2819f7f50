"""What a client may do, asked by itself (SelfSubjectAccessReview). Whoever has the token may do everything here.

k9s asks before every view, and `kubectl auth can-i` is nothing else. Both send protobuf, which we do not read: the
answer would be the same. Only a question in JSON is answered with what was asked in it, and refused where it is none.
"""

from typing import Any

from aiohttp import web

from zdd_tui.demo.cluster import request as requests
from zdd_tui.demo.cluster.errors import ApiError
from zdd_tui.demo.cluster.meta import Json

PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_WHAT = ("resourceAttributes", "nonResourceAttributes")


async def review(request: web.Request) -> Json:
    """The review with its answer. Raises ApiError 400, 415, 422 (it does not ask about exactly one thing)."""
    answer: Json = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
    if request.content_type == PROTOBUF:
        return {**answer, "spec": {}, "status": {"allowed": True}}
    spec: dict[str, Any] = (await requests.read_object(request)).get("spec") or {}
    if sum(bool(spec.get(name)) for name in _WHAT) != 1:
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise ApiError(422, "Invalid", f'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: {message}', {})
    return {**answer, "spec": spec, "status": {"allowed": True}}
