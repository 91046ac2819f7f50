"""An object of the cluster as YAML, and from there up to its owners."""

from collections.abc import Sequence
from typing import ClassVar, cast, get_args

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look
from zdd_tui.dashboard.state import Board, BoardSource, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, outside
from zdd_tui.model.json_access import objects, text
from zdd_tui.model.queries import ObjectKind, ObjectQuery


class YamlScreen(DetailScreen):
    """As kubectl would write it: without managedFields, with what looks secret masked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "owner", "The object that owns this one", show=False, id="yaml.owner"),
    ]

    every = 5.0
    hints: ClassVar[tuple[tuple[str, str], ...]] = (("o", "owner"), ("y", "copy"))

    def __init__(self, source: BoardSource, look: Look, query: ObjectQuery) -> None:
        super().__init__(source, look)
        self._query = query
        self._asked = self.will_ask(query, f"{query.kind} {query.name}")
        self.wrapped = False

    def heading(self, board: Board) -> str:
        return f"{self._query.kind.lower()}/{self._query.name}  secrets masked"

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        lines = self.missing(self._asked, cells)
        detail = self._asked.value
        if detail is None:
            return lines
        if self.wrapped:
            return lines + [piece for line in detail.yaml.splitlines() for piece in self.text(line, cells)]
        return lines + [yaml_line(line) for line in detail.yaml.splitlines()]

    def action_owner(self) -> None:
        detail = self._asked.value
        for owner in objects(detail.document, "metadata", "ownerReferences") if detail else []:
            kind = text(owner, "kind")
            if kind in get_args(ObjectKind):
                query = ObjectQuery(cast(ObjectKind, kind), text(owner, "name"))
                self.app.push_screen(YamlScreen(self._source, self._look, query))
                return
        self.notify("nothing that this dashboard can read owns it", timeout=3)


def yaml_line(line: str) -> Line:
    """A key stands out from its value."""
    line = outside(line)
    key, colon, rest = line.partition(":")
    if not colon or (rest and not rest.startswith(" ")) or "'" in key or '"' in key:
        return ((line, Tone.NORMAL),)
    return ((key + colon, Tone.KEY), (rest, Tone.NORMAL))
