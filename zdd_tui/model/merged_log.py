"""The logs of several pods as one, in the order of time and in bounded memory."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zdd_tui.model.queries import LogLine, LogView

MAX_LINES = 5000
"""Lines that are kept of all pods together."""

MAX_PODS = 30
"""Pods whose logs are followed at once: each is a connection to the API server."""

_ERROR = re.compile(
    r"\b(error|err|fatal|critical|crit|alert|emerg|panic|exception|traceback|severe)\b|\b[EF]\d{4} ", re.IGNORECASE
)
"""A level in any of the usual forms: a word, JSON, logfmt; ``E1124`` is klog's."""


@dataclass(frozen=True, slots=True)
class PodLine:
    """A line with the pod that wrote it."""

    pod: str
    line: LogLine

    @property
    def short_name(self) -> str:
        """The end of the pod's name, which tells the pods of a version apart."""
        return self.pod.rsplit("-", 1)[-1]

    @property
    def is_error(self) -> bool:
        return _ERROR.search(self.line.text) is not None


class MergedLog:
    """Collects new lines of each pod's log.

    Attributes:
        lines: the newest lines, by time; of equal times in the order of arrival.
        total: lines that the pods wrote since it was opened, as far as they were received.
    """

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._max_lines = max_lines
        self._seen: dict[str, int] = {}
        self.lines: list[PodLine] = []
        self.total = 0

    @property
    def dropped(self) -> int:
        """Received lines that are no longer kept."""
        return self.total - len(self.lines)

    def update(self, views: Mapping[str, LogView]) -> bool:
        """Takes what is new in the views, by pod; whether there was anything."""
        new: list[PodLine] = []
        received = 0
        for pod, view in views.items():
            count = view.total - self._seen.get(pod, 0)
            self._seen[pod] = view.total
            received += count
            # Of a pod that writes faster than it is read, its buffer has dropped lines already: they count as dropped.
            new += [PodLine(pod, line) for line in view.lines[len(view.lines) - min(count, len(view.lines)) :]]
        self.total += received
        if new:
            # A line without a time, such as the rest of a traceback, belongs behind the one before it.
            self.lines = _by_time([*self.lines, *new])[-self._max_lines :]
        return received > 0


def _by_time(lines: Sequence[PodLine]) -> list[PodLine]:
    last: dict[str, float] = {}
    keyed = []
    for each in lines:
        at = last.get(each.pod, 0.0) if each.line.at is None else each.line.at
        last[each.pod] = at
        keyed.append((at, each))
    keyed.sort(key=lambda pair: pair[0])  # stable
    return [each for _, each in keyed]


def filter_lines(lines: Iterable[PodLine], text: str, *, errors_only: bool) -> list[PodLine]:
    """The lines that contain a text in any case, or whose pod's short name does; with a leading ``!`` the others."""
    wanted, negated = (text[1:], True) if text.startswith("!") else (text, False)
    wanted = wanted.casefold()

    def matches(each: PodLine) -> bool:
        found = wanted in each.line.text.casefold() or wanted in each.short_name
        return (found is not negated or not wanted) and (not errors_only or each.is_error)

    return [each for each in lines if matches(each)]


def select_pods(names: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The pods to follow, and how many are left out."""
    return tuple(names[:MAX_PODS]), max(0, len(names) - MAX_PODS)
