"""Replaces secrets by ``***`` in everything that is shown or stored."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Up to the last @ of the word: an unescaped password may hold any of :/?#@. More than the password may be masked.
_URL_PASSWORD = re.compile(r"""(\b[a-z][a-z0-9+.-]*://[^\s:/?#@"']*:)([^\s"']*)@""", re.IGNORECASE)
_URL_TOKEN = re.compile(r"""(\bhttps?://)([^\s:/?#@"']+)@""", re.IGNORECASE)
_TOKEN = re.compile(r"""(\btoken:\s*["']?)(?!\$\{)[^\s"',}]+""")
_NAMED_PASSWORD = re.compile(
    r"""([?&](?:password|passwd|pwd|sslpassword|token|access_token|api_?key|secret)=)(?!\$\{)[^&\s"']+""", re.IGNORECASE
)
_HTTP_HOST = re.compile(r"https?://[^:]+:", re.IGNORECASE)
_PORT = re.compile(r"\d{1,5}[/?#]")  # http://prometheus:9090/a@b has no password
_WORD = re.compile(r"\w+")
_PLACEHOLDERS = re.compile(r"(?:\$\{\w+\})+")

EXAMPLE_PASSWORD = "password"  # noqa: S105
"""In the hints that show how an address is written."""

MIN_HIDDEN_LENGTH = 4
"""Characters. A shorter value stands in too many texts by chance."""

_SQL_WORDS = frozenset({
    "case", "cast", "coalesce", "concat", "date", "else", "false", "from", "integer", "interval", "length", "like",
    "lower", "null", "numeric", "replace", "select", "split_part", "substr", "text", "then", "trim", "true", "upper",
    "varchar", "when", "where", "with",
})  # fmt: skip

_hidden_values: dict[str, str] = {}
"""Placeholder by what is hidden, in lower case; the longest first."""


def hide_values(values: Mapping[str, str], shown: str = "") -> None:
    """From now on this process shows the values of environment variables, and each word of them, as ``${NAME}``.

    For variables in the SQL of a plan: errors of the server and of SQL parsers quote it in parts, and in lower case.

    Args:
        shown: a text that is no secret, such as the plan as it is written; its words stay.
    """
    kept = _SQL_WORDS | set(_WORD.findall(shown.lower()))
    for name, value in values.items():
        parts = {value.strip().lower(), *(set(_WORD.findall(value.lower())) - kept)}
        _hidden_values.update({part: f"${{{name}}}" for part in parts if len(part) >= MIN_HIDDEN_LENGTH})
    for part in sorted(_hidden_values, key=len, reverse=True):
        _hidden_values[part] = _hidden_values.pop(part)


def mask_secrets(value: Any) -> Any:
    """A copy with passwords in URLs, tokens and hidden values masked; a ${PLACEHOLDER} stays."""
    if isinstance(value, str):
        return _TOKEN.sub(r"\1***", mask_urls(value))
    if isinstance(value, Mapping):
        return {key: _mask_value(item) if key == "token" else mask_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_secrets(item) for item in value]
    return value


def mask_urls(text: str) -> str:
    """Masks the passwords of all addresses in a text, of any scheme and however they are escaped, and hidden values.

    An address ends at a blank or a quote.
    """
    if _hidden_values:
        pattern = "|".join(re.escape(value) for value in _hidden_values)
        text = re.sub(pattern, lambda match: _hidden_values.get(match[0].lower(), "***"), text, flags=re.IGNORECASE)
    if "://" not in text:
        return text
    text = _URL_TOKEN.sub(_mask_group, _URL_PASSWORD.sub(_mask_group, text))
    return _NAMED_PASSWORD.sub(r"\1***", text)


def _mask_group(match: re.Match[str]) -> str:
    is_kept = (
        match[2] == EXAMPLE_PASSWORD
        or _PLACEHOLDERS.fullmatch(match[2])
        or (_HTTP_HOST.fullmatch(match[1]) and _PORT.match(match[2]))
    )
    return match[0] if is_kept else f"{match[1]}***@"


def mask_error(text: str, address: str) -> str:
    """An error text of a driver or server, without the password of the address that was used.

    Args:
        address: a URL with its password; its user, host and database may stay in the text.
    """
    for secret in sorted(passwords_of(address), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return mask_urls(text)


def passwords_of(address: str) -> set[str]:
    """Every text that may be the password of a URL: as written and unescaped."""
    _, _, rest = address.partition("://")
    raw = rest.rpartition("@")[0].partition(":")[2]
    found = {raw, unquote(raw), raw.partition("?")[0], raw.partition("#")[0], raw.partition("/")[0]}
    try:
        query = parse_qs(urlsplit(address).query)
    except ValueError:
        query = {}
    for name in ("password", "sslpassword"):
        found |= set(query.get(name, ()))
    return {text for text in found if text}


def is_readable_address(address: str) -> bool:
    """Whether the parts of a URL are where they should be.

    An unescaped / ? or # in the password ends the address early: host, port and path are then parts of the password.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    return not parts.fragment and "@" not in parts.path + parts.query


def _mask_value(value: Any) -> Any:
    return value if isinstance(value, str) and value.startswith("${") else "***"


# Objects of a cluster and lines of a log: their secrets are recognised by name.

_SECRET_NAME = re.compile(r"pass|secret|token|credential|private|api_?key|access_?key|auth", re.IGNORECASE)
_SECRET_PAIR = re.compile(
    r"((?:(?:password|passwd|secret|token|api[-_]?key)[\"']?\s*[=:]\s*)|bearer\s+)(?![\"']?\$\{)"
    r"(?:([\"'])[^\"']*\2|[\"']?[^\s,;&\"']+)",
    re.IGNORECASE,
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def replace_unprintable(text: str, replacement: str = " ") -> str:
    """The text without control characters, such as those of an escape sequence."""
    return "".join(letter if letter.isprintable() else replacement for letter in text)


def mask_text(line: str) -> str:
    """Masks passwords in addresses, bearer tokens and ``password=…``."""
    return _SECRET_PAIR.sub(r"\1\2***\2", str(mask_secrets(line)))


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
