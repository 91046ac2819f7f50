"""What the writers were acknowledged, in a file that they keep themselves; and what the rows must be after it.

One JSON line for each write that got a result::

    {"writer": "w3", "op": "create" | "update" | "delete", "id": 17, "content": ["Ana Lee", "a@b"], "result": "done"}

``content`` is the whole row as it is after the write, null after a delete. ``result`` is ``done`` where the write was
acknowledged and ``unknown`` where no result came: the row may have either content, and is not written again. A write
that was refused is not in the file. Imports nothing of zdd.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = tuple[str, str]
"""Full name and e-mail address."""


class LedgerFile:
    """Appends to the file; a line is in it before the writer goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.path = path

    def write(self, writer: str, op: str, row_id: int | None, content: Content | None, result: str) -> None:
        line = {"at": round(time.time(), 3), "writer": writer, "op": op, "id": row_id, "content": content}
        self._file.write(json.dumps(line | {"result": result}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


@dataclass
class ExpectedRows:
    """What the table must contain.

    Attributes:
        rows: by id, every content that is possible; None among them where the row may be missing.
        unconfirmed: contents of rows that may have been created, under ids that nobody was told.
        history: by id, the lines of the ledger.
    """

    rows: dict[int, set[Content | None]] = field(default_factory=dict)
    unconfirmed: set[Content] = field(default_factory=set)
    history: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def apply(self, line: dict[str, Any]) -> None:
        content: Content | None = tuple(line["content"]) if line["content"] else None  # type: ignore[assignment]
        row_id = line["id"]
        if row_id is None:
            assert content is not None
            self.unconfirmed.add(content)
            return
        self.history.setdefault(row_id, []).append(line)
        if line["result"] == "done":
            self.rows[row_id] = {content}
        else:
            self.rows[row_id] = self.rows.get(row_id, {None}) | {content}


def read_ledger(seeded: Iterable[tuple[int, Content]], *paths: Path) -> ExpectedRows:
    """The seeded rows and then every write, in the order of the files. No row is in two files."""
    expected = ExpectedRows({row_id: {content} for row_id, content in seeded})
    for path in paths:
        for text in path.read_text().splitlines():
            expected.apply(json.loads(text))
    return expected
