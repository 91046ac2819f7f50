"""The files of a directory of migrations, within limits."""

import os
from collections.abc import Iterator
from pathlib import Path

from zdd_tui.backends.files import MAX_SQL_BYTES, open_regular
from zdd_tui.model.errors import PlanError
from zdd_tui.model.migrations.base import DirectoryFile

MAX_FILES = 20_000
"""Files of a directory and all below it."""

MAX_TOTAL_BYTES = 16 * MAX_SQL_BYTES
"""Of the content that is read."""

_SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv"}


def list_directory(folder: str) -> tuple[str, ...]:
    """The paths of all files below a directory, with ``/``, sorted.

    Hidden files and folders are left out, and links to directories are not followed; a link to a file counts as the
    file (a mounted ConfigMap consists of such links).

    Raises:
        PlanError: it is no directory, cannot be read, or has too many files.
    """
    if not os.path.isdir(folder):
        kind = "a file" if os.path.exists(folder) else "not there"
        raise PlanError(f"--from: {folder} is {kind}", "name the directory with the migrations")
    found = []
    for path in _walk(folder):
        found.append(path)
        if len(found) > MAX_FILES:
            raise PlanError(
                f"{folder} has more than {MAX_FILES:,} files", "name the directory with the migrations, not the project"
            )
    return tuple(sorted(found))


def _walk(folder: str) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise PlanError(f"{error.filename} cannot be read: {error.strerror}", "check its permissions")

    for root, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        below = os.path.relpath(root, folder)
        for name in names:
            if not name.startswith("."):
                yield name if below == "." else f"{below}/{name}".replace(os.sep, "/")


def read_directory(folder: str, paths: tuple[str, ...], suffixes: tuple[str, ...]) -> tuple[DirectoryFile, ...]:
    """The files, with the content of those that have one of the suffixes.

    Raises:
        PlanError: a file cannot be read or is no regular file, a name is not UTF-8, or they are too large.
    """
    total, files = 0, []
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise PlanError(f"{folder}: the name {path!r} is not UTF-8", "rename the file") from None
        if not path.isprintable():  # it would end a comment of the plan
            raise PlanError(f"{folder}: the name {path!r} has control characters", "rename the file")
        content = b""
        if path.endswith(suffixes):
            content = _read_bytes(Path(folder, path))
            total += len(content)
            if total > MAX_TOTAL_BYTES:
                raise PlanError(
                    f"{folder}: the files have more than {MAX_TOTAL_BYTES // 2**20} MB",
                    "name the directory with the migrations alone",
                )
        files.append(DirectoryFile(path, content))
    return tuple(files)


def _read_bytes(file: Path) -> bytes:
    with open_regular(file, missing_hint="it is a link to a file that is not there: remove or correct it") as stream:
        try:
            content = stream.read(MAX_SQL_BYTES + 1)
        except OSError as error:
            raise PlanError(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    if len(content) > MAX_SQL_BYTES:
        raise PlanError(f"{file} is larger than {MAX_SQL_BYTES // 1024:,} kB", "split it")
    return content
