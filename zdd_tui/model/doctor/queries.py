"""Which queries name the old side of a change."""

import re
from collections.abc import Iterable

from zdd_tui.model.ddl.text import lexemes
from zdd_tui.model.plan import BasePlan, Plan

_LEADING_COMMENT = re.compile(r"\s*(?:--[^\n]*\n|/\*.*?\*/)", re.DOTALL)
_VALUE = re.compile(
    r"""(?:\b[eE]|\b[uU]&|\b[bBxX])?'(?:[^'\\]|''|\\.)*(?:'|$) | (\$\w*\$).*?(?:\1|$)
      | (?P<number>(?<![\w$"])\d+(?:\.\d+)?\b)""",
    re.VERBOSE | re.DOTALL,
)
_READS_OR_WRITES = frozenset({"select", "insert", "update", "delete", "merge", "with", "table", "copy"})


def names_old_side(plan: BasePlan, query: str) -> bool:
    """Whether a query, as PostgreSQL shows it, reads or writes what contract takes away.

    For a change of columns it must name the table and one of the old columns; for a change of tables, the old table.
    ``SELECT *`` names no column: it survives the change, and what is done with its result is not to be seen here.
    Schema changes, such as our own, are left out.
    """
    if not isinstance(plan, Plan):
        return False
    while comment := _LEADING_COMMENT.match(query):
        query = query[comment.end() :]
    first = re.match(r"\W*(\w+)", query)
    if first is None or first[1].lower() not in _READS_OR_WRITES:
        return False
    names = _names(query)
    if plan.change.table.name not in names:
        return False
    return plan.change.into is not None or any(column in names for column in plan.change.down)


def one_line(query: str, length: int = 100) -> str:
    """A query for a line of evidence, without its strings and numbers: they are somebody's data."""
    text = " ".join(_VALUE.sub(lambda found: "…" if found["number"] else "'…'", query).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _names(query: str) -> frozenset[str]:
    def fold(kind: str, lexeme: str) -> str:
        return lexeme[1:-1].replace('""', '"') if kind == "name" else lexeme.lower()

    found: Iterable[tuple[str, str, int]] = lexemes(query)
    return frozenset(fold(kind, lexeme) for kind, lexeme, _ in found if kind in ("name", "word"))
