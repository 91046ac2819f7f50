"""Which columns of the tables the operator has hidden, kept between dashboards."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 100_000
"""Of the file; a larger one is not ours."""


class ColumnChoice:
    """Hidden columns by table. Columns that a later version adds are visible.

    Args:
        file: JSON; None keeps the choice for this dashboard alone. A file that cannot be read hides nothing.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._hidden: Mapping[str, frozenset[str]] = _read(file) if file is not None else {}

    def hidden(self, table: str) -> frozenset[str]:
        return self._hidden.get(table, frozenset())

    def hide(self, table: str, columns: Iterable[str]) -> str:
        """Hides exactly these columns of a table.

        Returns:
            why the choice is not kept for the next dashboard; empty where it is.
        """
        self._hidden = {**self._hidden, table: frozenset(columns)}
        if self._file is None:
            return ""
        document = {name: sorted(keys) for name, keys in sorted(self._hidden.items()) if keys}
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return f"{self._file}: {error.strerror or type(error).__name__}"
        return ""


def _read(file: Path) -> dict[str, frozenset[str]]:
    try:
        with file.open(encoding="utf-8") as stream:
            document = json.loads(stream.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {
        table: frozenset(key for key in keys if isinstance(key, str))
        for table, keys in document.items()
        if isinstance(keys, list)
    }
