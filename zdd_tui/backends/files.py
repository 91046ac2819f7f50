"""Reading of files that the user names: regular files only, up to a size."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from zdd_tui.model.errors import PlanError, ZddError

MAX_TEXT_BYTES = 1_048_576
"""Of a plan, a migration, a manifest or a keymap. The largest real ones are a twentieth of it."""

MAX_SQL_BYTES = 8 * MAX_TEXT_BYTES
"""Of a migration, which may hold rows."""


def open_regular(file: str | Path, *, missing_hint: str, error_type: type[ZddError] = PlanError) -> BinaryIO:
    """Opens a file for reading, and nothing that is no file: a pipe would block, a device may have no end.

    Raises:
        PlanError: it cannot be read; or `error_type`.
    """
    try:
        # Without O_NONBLOCK the open of a FIFO waits for a writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise error_type(f"there is no file {file}", missing_hint) from None
    except OSError as error:
        raise error_type(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    except ValueError:
        raise error_type(f"{str(file)!r} is not a file name", "check the path") from None
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise error_type(f"{file} is a directory", "name a file in it")
        raise error_type(f"{file} is no regular file, but {_kind_name(kind)}", "copy its content to a file")
    return os.fdopen(descriptor, "rb")


def _kind_name(mode: int) -> str:
    names = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for is_kind, name in names if is_kind(mode)), "something else")


def read_text(
    file: str | Path,
    *,
    missing_hint: str = "check the path",
    error_type: type[ZddError] = PlanError,
    max_bytes: int = MAX_TEXT_BYTES,
) -> str:
    """Reads a text file in UTF-8, with or without a byte order mark.

    Raises:
        PlanError: it cannot be read, is no regular file or longer than `max_bytes`; or `error_type`.
    """
    with open_regular(file, missing_hint=missing_hint, error_type=error_type) as stream:
        try:
            content = stream.read(max_bytes + 1)
        except OSError as error:
            raise error_type(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    if len(content) > max_bytes:
        raise error_type(
            f"{file} is larger than {max_bytes // 1024:,} kB", "check that it is the right file, or split it"
        )
    if (at := content.find(b"\0")) >= 0:  # a C library would read the text only up to it
        raise error_type(f"{file} is no text: it has a NUL at byte {at}", "save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise error_type(f"{file} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
