"""What the Kubernetes API refuses, in words that name place and mend."""

from typing import TYPE_CHECKING, Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_text

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.auth import ApiSession

_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete", "WATCH": "watch"}


class KubeApiError(ClusterError):
    """The API server answered with an error status.

    Args:
        status: of HTTP. reason: of the API, such as AlreadyExists or Conflict.
    """

    def __init__(self, title: str, hint: str = "", *, status: int, reason: str = "") -> None:
        super().__init__(title, hint)
        self.status = status
        self.reason = reason

    @property
    def is_expired(self) -> bool:
        """The resource version asked for is too old: list again."""
        return self.status == 410 or self.reason in ("Gone", "Expired")


class ApiUnreachable(ClusterError):
    """The API server did not answer, or the connection broke."""


def build_api_error(status: int, body: Any, method: str, path: str, session: "ApiSession") -> KubeApiError:
    """The error for an answer of `status` to a request."""
    verb, reason, message = _VERBS[method], get_text(body, "reason"), get_text(body, "message")
    namespace, resource, name = parse_api_path(path)
    if method == "GET" and not name:
        verb = "list"
    what = f"{resource.removesuffix('s')} {name!r}" if name else resource
    where = f" in namespace {namespace!r}" if namespace else ""
    flag = f" -n {namespace}" if namespace else ""
    if status == 401:
        title = f"{session.server} does not accept the credentials of {session.source}"
        mend = "log in to the cluster again"
    elif status == 403:
        title = f"not allowed to {verb} {what}{where}"
        mend = f"ask for it: kubectl create role zdd --verb={verb} --resource={resource}{flag}"
    elif status == 404:
        title = f"no {what}{where}"
        mend = f"check the name with: kubectl get {resource.split('/')[0]}{flag}"
    else:
        title, mend = f"cannot {verb} {what}{where}: {message or f'HTTP {status}'}", ""
    return KubeApiError(title, mend, status=status, reason=reason)


def build_stream_error(body: Any, path: str) -> KubeApiError:
    """The error that a watch stream carries in an ERROR event."""
    return KubeApiError(
        f"the watch of {parse_api_path(path)[1]} ended: {get_text(body, 'message') or get_text(body, 'reason')}",
        status=get_number(body, "code"),
        reason=get_text(body, "reason"),
    )


def parse_api_path(path: str) -> tuple[str, str, str]:
    """Namespace, resource (with subresource) and name that a path of the API means; empty where it has none."""
    parts = [part for part in path.split("/") if part]
    parts = parts[2:] if parts[:1] == ["api"] else parts[3:]
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    if not parts:
        return namespace, "the API", ""
    resource = parts[0] if len(parts) < 3 else f"{parts[0]}/{parts[2]}"
    return namespace, resource, parts[1] if len(parts) > 1 else ""
