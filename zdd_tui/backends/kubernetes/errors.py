"""Errors of the Kubernetes API, with the place and a hint."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_text

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.auth import ApiSession

_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete", "WATCH": "watch"}


_KINDS = {"deployments": "Deployment", "services": "Service", "httproutes": "HTTPRoute", "namespaces": "Namespace"}
"""Kinds are written as in manifests; ``kubectl`` commands have the resource's name."""


def kind_name(resource: str) -> str:
    """The kind of a resource in a sentence: ``Deployment`` of ``deployments``, ``log of pod`` of ``pods/log``."""
    kind, _, part = resource.partition("/")
    name = _KINDS.get(kind, kind.removesuffix("s"))
    return f"{part} of {name}" if part else name


class KubeApiError(ClusterError):
    """The API server responded with an error status.

    Args:
        status: of HTTP.
        reason: of the API, such as AlreadyExists or Conflict.
    """

    def __init__(self, title: str, hint: str = "", *, status: int, reason: str = "") -> None:
        super().__init__(title, hint)
        self.status = status
        self.reason = reason

    @property
    def is_expired(self) -> bool:
        """Whether the requested resource version is too old: list again."""
        return self.status == HTTPStatus.GONE or self.reason in ("Gone", "Expired")


class ApiUnreachable(ClusterError):
    """The API server did not respond, or the connection broke."""


def build_api_error(status: int, body: Any, method: str, path: str, session: "ApiSession") -> KubeApiError:
    """Builds the error for the response to a request."""
    verb, reason, message = _VERBS[method], get_text(body, "reason"), get_text(body, "message")
    namespace, resource, name = parse_api_path(path)
    if method == "GET" and not name:
        verb = "list"
    target = f"{kind_name(resource)} {name!r}" if name else resource
    where = f" in namespace {namespace!r}" if namespace else ""
    flag = f" -n {namespace}" if namespace else ""
    match status:
        case HTTPStatus.UNAUTHORIZED:
            title = f"{session.server} does not accept the credentials of {session.source}"
            hint = "log in to the cluster again"
        case HTTPStatus.FORBIDDEN if not _is_missing_permission(message):
            # Admission (a quota, a policy, a webhook) forbids it: only its message says why.
            title, hint = f"cannot {verb} {target}{where}: {message}", ""
        case HTTPStatus.FORBIDDEN:
            title = f"not allowed to {verb} {target}{where}"
            hint = _permission_hint(verb, resource, namespace)
        case HTTPStatus.NOT_FOUND:
            title = f"no {target}{where}"
            hint = f"check the name with: kubectl get {resource.split('/')[0]}{flag}"
        case _:
            title, hint = f"cannot {verb} {target}{where}: {message or f'HTTP {status}'}", ""
    return KubeApiError(title, hint, status=status, reason=reason)


def _is_missing_permission(message: str) -> bool:
    """Whether a refusal comes from authorization: `… is forbidden: User "x" cannot patch resource "deployments" …`.

    Admission gives another reason, or says that a webhook or policy denied the request.
    """
    reason = message if "denied" in message else message.partition(" is forbidden: ")[2]
    return not reason or " cannot " in reason


def _permission_hint(verb: str, resource: str, namespace: str) -> str:
    """Commands for a role of its own for this permission, bound to the account that the agent uses."""
    if not namespace:
        return f"request the permission to {verb} {resource}; config/kubernetes/ has the roles that a release needs"
    name, flag = f"zdd-{verb}-{resource.replace('/', '-')}", f" -n {namespace}"
    return (
        f"request the permission: kubectl create role {name} --verb={verb} --resource={resource}{flag};"
        f" kubectl create rolebinding {name} --role={name} --user=USER{flag}"
    )


def build_stream_error(body: Any, path: str) -> KubeApiError:
    """Builds the error of an ERROR event in a watch stream."""
    return KubeApiError(
        f"the watch of {parse_api_path(path)[1]} ended: {get_text(body, 'message') or get_text(body, 'reason')}",
        status=get_number(body, "code"),
        reason=get_text(body, "reason"),
    )


def parse_api_path(path: str) -> tuple[str, str, str]:
    """Returns namespace, resource (with subresource) and name of an API path; empty where it has none."""
    parts = [part for part in path.split("/") if part]
    parts = parts[2:] if parts[:1] == ["api"] else parts[3:]
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    if not parts:
        return namespace, "the API", ""
    resource = parts[0] if len(parts) < 3 else f"{parts[0]}/{parts[2]}"
    return namespace, resource, parts[1] if len(parts) > 1 else ""
