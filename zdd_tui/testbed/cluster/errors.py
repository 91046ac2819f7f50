"""Errors of the API server, each with the Status object that the real one answers.

Wording and fields follow k8s.io/apimachinery/pkg/api/errors 1.34: kubectl prints the message and branches
on the reason.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json


class ApiError(Exception):
    """A request that is answered with a Status of `code`; `details` as in metav1.StatusDetails."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            body["details"] = self.details
        return {**body, "code": self.code}


@dataclass(frozen=True, slots=True)
class StatusCause:
    """One invalid field: reason such as FieldValueRequired, the dotted path and what is wrong with it."""

    reason: str
    field: str
    message: str

    def text(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, detail: str = "") -> StatusCause:
    return StatusCause("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def invalid(field: str, value: Any, detail: str) -> StatusCause:
    return StatusCause("FieldValueInvalid", field, f"Invalid value: {_format_value(value)}: {detail}")


def unsupported(field: str, value: Any, *allowed: str) -> StatusCause:
    choices = ", ".join(f'"{item}"' for item in allowed)
    message = f"Unsupported value: {_format_value(value)}: supported values: {choices}"
    return StatusCause("FieldValueNotSupported", field, message)


def forbidden_field(field: str, detail: str) -> StatusCause:
    return StatusCause("FieldValueForbidden", field, f"Forbidden: {detail}")


def duplicate(field: str, value: Any) -> StatusCause:
    return StatusCause("FieldValueDuplicate", field, f"Duplicate value: {_format_value(value)}")


def _format_value(value: Any) -> str:
    """A value as field errors print it: JSON for strings, numbers, and small objects."""
    return json.dumps(value, separators=(",", ":"))


def bad_request(message: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def object_details(kind: ResourceType, name: str) -> Json:
    """The `details` of a Status about one object."""
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}


def not_found(kind: ResourceType, name: str) -> ApiError:
    message = f'{kind.resource} "{name}" not found'
    return ApiError(HTTPStatus.NOT_FOUND, "NotFound", message, object_details(kind, name))


def no_such_path() -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message, {})


def already_exists(kind: ResourceType, name: str) -> ApiError:
    message = f'{kind.resource} "{name}" already exists'
    return ApiError(HTTPStatus.CONFLICT, "AlreadyExists", message, object_details(kind, name))


def conflict(kind: ResourceType, name: str, reason: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {reason}'
    return ApiError(HTTPStatus.CONFLICT, "Conflict", message, object_details(kind, name))


CONFLICT_MESSAGE = "the object has been modified; please apply your changes to the latest version and try again"


def expired(requested: int, oldest: int) -> ApiError:
    return ApiError(HTTPStatus.GONE, "Expired", f"too old resource version: {requested} ({oldest})")


def unsupported_media_type(supported: str) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {supported}"
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def invalid_request(message: str, details: Json | None = None) -> ApiError:
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details or {})


def unprocessable(kind: ResourceType, name: str, causes: list[StatusCause]) -> ApiError:
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    texts = list(dict.fromkeys(cause.text() for cause in causes))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    listed = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    details = {**object_details(kind, name), "kind": kind.kind, "causes": listed}
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f'{qualified} "{name}" is invalid: {joined}', details)
