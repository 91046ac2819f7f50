"""Samples of a dark launch: which answers differ. The service library writes them to the pods' logs.

What a line may hold is decided where it is written (:mod:`zdd_tui.service.shadow`): values only of fields that the
application says may be shown, of all others their shape. Here whatever looks like a secret is masked all the same.
A test holds the two sides together.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from zdd_tui.model.detail import Query
from zdd_tui.model.masking import mask_text, secret_name
from zdd_tui.model.untyped import Json, number, obj, text

MARK = "shadow-sample "
"""In a line of a log: a JSON object follows."""

SHOWN = 20
"""Samples that are kept and shown, the newest."""

Kind = Literal["mismatch", "error", "timeout"]
_KINDS = ("mismatch", "error", "timeout")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field whose values differ: as JSON, or their shapes, and what tells the two apart."""

    name: str
    old: str
    new: str
    how: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """One comparison that went badly.

    Attributes:
        at: seconds since 1970 by the pod's clock.
        number: how many mismatches, or failures, the pod's process had by then.
        unit: whose request it was, such as a user's id.
        more: fields that differ too and are not told.
        error: the exception's type, where the new path failed or was late.
    """

    pod: str
    at: float
    what: Kind
    number: int
    unit: str
    fields: tuple[FieldDifference, ...] = ()
    more: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSamples:
    """What the logs of all pods hold.

    Attributes:
        samples: the newest, newest first.
        known: how many went badly by what the samples say; there may have been more since.
        pods: how many logs were read.
        unread: how many were not; `why` is the first reason.
        lines: how many of each log's last lines were looked at to begin with.
    """

    samples: tuple[ShadowSample, ...] = ()
    known: int = 0
    pods: int = 0
    unread: int = 0
    why: str = ""
    lines: int = 0


@dataclass(frozen=True, slots=True)
class ShadowQuery(Query[ShadowSamples]):
    """The samples of the dark launch on the board."""


def sample_of(line: str, pod: str, path: str) -> ShadowSample | None:
    """The sample that a line of a log holds; None where it holds none, or one of another path.

    An application that logs in JSON has it in one of its texts.
    """
    found = _object(line)
    if not found or text(found, "path") != path:
        return None
    what, at = text(found, "what"), found.get("at")
    if what not in _KINDS or isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return ShadowSample(
        pod,
        float(at),
        cast(Kind, what),
        number(found, "n"),
        mask_text(text(found, "unit")),
        tuple(_fields(found.get("fields"))),
        number(found, "more"),
        text(found, "error"),
    )


def newest(samples: Iterable[ShadowSample]) -> tuple[ShadowSample, ...]:
    """The newest, each once."""
    return tuple(sorted(set(samples), key=lambda each: (each.at, each.pod, each.number), reverse=True)[:SHOWN])


def _object(line: str) -> Json:
    place = line.find(MARK)
    if place < 0:
        return {}
    try:
        return obj(json.JSONDecoder().raw_decode(line, place + len(MARK))[0])
    except (ValueError, RecursionError):
        pass
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    values = (value for value in obj(whole).values() if isinstance(value, str) and value != line)
    return next((found for value in values if (found := _object(value))), {})


def _fields(told: Any) -> Iterable[FieldDifference]:
    for each in told if isinstance(told, list) else ():
        if isinstance(each, list) and len(each) == 4 and all(isinstance(part, str) for part in each):
            name, old, new, how = each
            yield FieldDifference(name, _masked(name, old), _masked(name, new), how)


def _masked(name: str, value: str) -> str:
    """A shape holds no data and stays as it is; JSON never begins like one."""
    return "***" if secret_name(name) and not value.startswith("<") else mask_text(value)
