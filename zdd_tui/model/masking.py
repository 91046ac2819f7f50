"""Replaces secrets by ``***`` in everything that is shown or stored."""

import re
from collections.abc import Mapping
from typing import Any

_URL_PASSWORD = re.compile(r"""((?:postgres|postgresql|rediss?)://[^\s:/@"']*:)(?!\$\{)[^\s"']+@""")
_HTTP_PASSWORD = re.compile(r"""(https?://[^\s:/@"']*:)(?!\$\{)[^\s"'/@]+@""")  # a host:port has a slash after it
_TOKEN = re.compile(r"""(\btoken:\s*["']?)(?!\$\{)[^\s"',}]+""")
_NAMED_PASSWORD = re.compile(r"""([?&]password=)(?!\$\{)[^&\s"']+""")


def mask_secrets(value: Any) -> Any:
    """A copy with passwords in URLs and tokens masked; a ${PLACEHOLDER} stays."""
    if isinstance(value, str):
        value = _HTTP_PASSWORD.sub(r"\1***@", _URL_PASSWORD.sub(r"\1***@", value))
        return _TOKEN.sub(r"\1***", _NAMED_PASSWORD.sub(r"\1***", value))
    if isinstance(value, Mapping):
        return {key: _mask_value(item) if key == "token" else mask_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_secrets(item) for item in value]
    return value


def _mask_value(value: Any) -> Any:
    return value if isinstance(value, str) and value.startswith("${") else "***"


# Objects of a cluster and lines of a log: their secrets are recognised by name.

_SECRET_NAME = re.compile(r"pass|secret|token|credential|private|api_?key|access_?key|auth", re.IGNORECASE)
_SECRET_PAIR = re.compile(
    r"((?:(?:password|passwd|secret|token|api[-_]?key)[\"']?\s*[=:]\s*[\"']?)|bearer\s+)(?!\$\{)[^\s,;&\"']+",
    re.IGNORECASE,
)
_ANY_URL = re.compile(r"""(\w+://[^\s:/@"']*:)(?!\$\{)[^\s"'/@]+@""")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def mask_text(line: str) -> str:
    """Masks passwords in addresses, bearer tokens and ``password=…``."""
    return _SECRET_PAIR.sub(r"\1***", _ANY_URL.sub(r"\1***@", str(mask_secrets(line))))


def is_secret_name(name: str) -> bool:
    """Whether a field of that name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def clean_object(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a Kubernetes object without managedFields, with secrets masked.

    Masked are a Secret's data, environment variables with a secret name, passwords in addresses, and ``password=…`` in
    arguments. The last applied configuration repeats all of them, so it is left out.
    """
    document: dict[str, Any] = _clean_value(raw)
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict) and _LAST_APPLIED in annotations:
            annotations[_LAST_APPLIED] = "(left out)"
    if document.get("kind") == "Secret":
        for part in ("data", "stringData"):
            if isinstance(document.get(part), dict):
                document[part] = dict.fromkeys(document[part], "***")
    return document


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, list):
        return [_clean_value(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    copy = {key: _clean_value(item) for key, item in value.items()}
    name = copy.get("name")
    if isinstance(name, str) and isinstance(copy.get("value"), str) and copy["value"] and is_secret_name(name):
        copy["value"] = "***"
    return copy
