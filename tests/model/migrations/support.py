"""Directories and version tables for the tests of tools' rules."""

from collections.abc import Mapping, Sequence
from typing import Any

from zdd_tui.model.migrations.base import DirectoryFile, MigrationSet, MigrationSource, VersionTable
from zdd_tui.model.migrations.registry import find_tool


def files_of(files: Mapping[str, str | bytes]) -> tuple[DirectoryFile, ...]:
    return tuple(
        DirectoryFile(path, content.encode() if isinstance(content, str) else content)
        for path, content in sorted(files.items())
    )


def find_pending(
    tool: str, files: Mapping[str, str | bytes], rows: Sequence[Mapping[str, Any]] = (), **options: Any
) -> MigrationSet:
    """What the tool's rules find in these files and rows."""
    table = VersionTable("public.versions", tuple(rows), exists=options.pop("exists", True))
    return find_tool(tool).find_pending(MigrationSource("dir", files_of(files), table, **options))


def names(found: MigrationSet) -> list[str]:
    return [each.name for each in found.pending]
