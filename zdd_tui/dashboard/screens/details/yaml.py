"""An object of the cluster as YAML, with a way to its owner."""

from collections.abc import Sequence
from typing import ClassVar, cast, get_args

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize
from zdd_tui.model.json_access import get_objects, get_text
from zdd_tui.model.queries import ObjectKind, ObjectQuery


class YamlScreen(DetailScreen):
    """As `kubectl get -o yaml`: without managedFields, and with secrets masked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "owner", "Open the owner", show=False, id="yaml.owner"),
    ]

    refresh_interval = 5.0
    hints = (("o", "owner"), ("y", "copy"))

    def __init__(self, source: StateSource, get_context: ContextSource, query: ObjectQuery) -> None:
        super().__init__(source, get_context)
        self._query = query
        self._polled_query = self.add_query(query, f"{query.kind} {query.name}")
        self.is_wrapped = False

    def heading(self, board: DashboardState) -> str:
        return f"{self._query.kind.lower()}/{self._query.name}  secrets masked"

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        lines = self.query_error_lines(self._polled_query, formatter)
        detail = self._polled_query.value
        return lines if detail is None else lines + yaml_lines(detail.yaml, formatter)

    def action_owner(self) -> None:
        detail = self._polled_query.value
        for owner in get_objects(detail.document, "metadata", "ownerReferences") if detail else []:
            kind = get_text(owner, "kind")
            if kind in get_args(ObjectKind):
                query = ObjectQuery(cast(ObjectKind, kind), get_text(owner, "name"))
                self.app.push_screen(YamlScreen(self._source, self._get_context, query))
                return
        self.notify("no owner that this dashboard can read", timeout=3)


def yaml_lines(text: str, formatter: TextFormatter) -> list[Line]:
    """A YAML text; keys are highlighted where lines are not wrapped."""
    return formatter(text) if formatter.is_wrapped else [yaml_line(line) for line in text.splitlines()]


def yaml_line(line: str) -> Line:
    """A line with its key highlighted."""
    line = sanitize(line)
    key, colon, rest = line.partition(":")
    if not colon or (rest and not rest.startswith(" ")) or "'" in key or '"' in key:
        return ((line, TextStyle.NORMAL),)
    return ((key + colon, TextStyle.KEY), (rest, TextStyle.NORMAL))
