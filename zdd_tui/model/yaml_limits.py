"""A YAML loader with limits: a short text can stand for a document without end.

Depth, number of nodes (an alias counts as all that it repeats) and the length of numbers are limited while the document
is read, so that a hostile one is refused at once.
"""

from typing import Any

import yaml

MAX_DEPTH = 60
MAX_NODES = 50_000
MAX_NUMBER = 400
"""Characters of a number or a date; Python's conversion of longer ones takes quadratic time."""

CONSTRUCTION_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises for a value that is not of its tag, such as ``!!timestamp x`` or ``!!bool x``."""


class YamlLimitError(yaml.MarkedYAMLError):
    """The document is larger or deeper than any that zdd reads, or refers to itself; `problem` says which."""


class LimitedLoader(yaml.SafeLoader):
    """SafeLoader with limits; for ``yaml.compose`` and ``yaml.load``."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._anchor_sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth >= MAX_DEPTH:
            raise self._limit_error(event, f"it is nested more than {MAX_DEPTH} levels deep")
        anchor: Any = event.anchor
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._anchor_sizes:
                raise self._limit_error(event, "it refers to itself")
            self._count_nodes(event, self._anchor_sizes.get(anchor, 1))
            return super().compose_node(parent, index)
        before = self._nodes
        self._count_nodes(event, 1)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._anchor_sizes[anchor] = self._nodes - before
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if len(node.value) > MAX_NUMBER and node.tag != "tag:yaml.org,2002:str":
            raise YamlLimitError(problem=f"a value of type {node.tag!r} is too long", problem_mark=node.start_mark)
        return node

    def _count_nodes(self, event: Any, count: int) -> None:
        self._nodes += count
        if self._nodes > MAX_NODES:
            raise self._limit_error(event, f"it has more than {MAX_NODES:,} values, those that aliases repeat included")

    def _limit_error(self, event: Any, problem: str) -> YamlLimitError:
        return YamlLimitError(problem=problem, problem_mark=event.start_mark)


def load_yaml(text: str) -> Any:
    """The first document of a text.

    Raises:
        YamlLimitError: it is too large, too deep, or refers to itself.
        yaml.YAMLError: it is not valid.
    """
    return yaml.load(text, Loader=LimitedLoader)  # noqa: S506  a SafeLoader
