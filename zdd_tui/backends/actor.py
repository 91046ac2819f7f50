"""The user who sends commands. Imports no client library: the dashboard needs it before its first paint."""

import getpass
import os
import socket

from zdd_tui.model.release.records import Actor


def this_actor() -> Actor:
    """Returns the user of this terminal, also behind sudo."""
    name = os.environ.get("SUDO_USER") or _login_name()
    return Actor(_as_name(name), _as_name(socket.gethostname()))


def _as_name(text: str) -> str:
    """At most 60 characters that PostgreSQL accepts; a variable may hold bytes that are no UTF-8."""
    return text[:60].encode("utf-8", "replace").decode()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry, as in many containers
        return f"uid{os.getuid()}"
