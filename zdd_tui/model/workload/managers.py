"""Who wrote a field of an API object, by its managedFields.

Rules: Kubernetes documentation, "Server-Side Apply" (field management).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from zdd_tui.model.json_access import get_object, get_objects, get_text, get_timestamp


@dataclass(frozen=True, slots=True)
class FieldManager:
    """The client that wrote a field last.

    Attributes:
        name: as the client calls itself, such as ``argocd-controller`` or ``kubectl-set``.
        at: seconds since 1970; None where the object does not say.
    """

    name: str
    at: float | None

    def __str__(self) -> str:
        if self.at is None:
            return self.name
        return f"{self.name} at {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def find_manager(raw: Any, *path: str) -> FieldManager | None:
    """The newest writer of the field at a path of fieldsV1 keys, such as ``f:spec``, ``f:replicas``; None: unknown."""
    found = [
        FieldManager(get_text(entry, "manager"), get_timestamp(entry, "time"))
        for entry in get_objects(raw, "metadata", "managedFields")
        if not get_text(entry, "subresource") and _has_path(get_object(entry, "fieldsV1"), path)
    ]
    return max(found, key=lambda manager: manager.at or 0.0, default=None)


def find_image_manager(raw: Any, container: str) -> FieldManager | None:
    """The newest writer of a container's image in a Deployment."""
    key = f'k:{{"name":"{container}"}}'
    return find_manager(raw, "f:spec", "f:template", "f:spec", "f:containers", key, "f:image")


def _has_path(fields: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(fields, dict) or key not in fields:
            return False
        fields = fields[key]
    return True
