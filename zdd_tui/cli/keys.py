"""`zdd keys`, and the keymap file that `zdd open` reads: which keys there are, and what is wrong with a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import yaml

from zdd_tui.backends.files import read_text
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.keymap import DashboardKeys, KeyBinding, ResolvedKeymap, build_dashboard_keys, resolve_keymap
from zdd_tui.dashboard.screens.bindings import can_be_active_together, key_problem, known_bindings, textual_key_name
from zdd_tui.model.actions import key_name
from zdd_tui.model.errors import ZddError


class KeymapError(ZddError):
    """The keymap file cannot be read, or something in it cannot be taken."""


def default_keymap_path(environ: Mapping[str, str]) -> Path:
    """Where a keymap is looked for: in ``zdd/keymap.yaml`` of the XDG configuration folder."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "~", ".config")
    return Path(home).expanduser() / "zdd" / "keymap.yaml"


def load_dashboard_keys(file: str | None, environ: Mapping[str, str]) -> DashboardKeys:
    """The keys of a dashboard: those of the file that was named, else of the default file, else the defaults.

    What is wrong with a file is told in the dashboard, and defaults hold instead: it never keeps it from starting.
    """
    path = Path(file) if file is not None else default_keymap_path(environ)
    if file is None and not path.exists():
        return DashboardKeys()
    try:
        return build_dashboard_keys(_load_keymap(path, known_bindings(ZddApp)))
    except KeymapError as error:
        return DashboardKeys(warnings=(f"keymap: {error.title}; the default keys hold",))


def show_keys(check_file: str | None, file: str | None, environ: Mapping[str, str], out: TextIO) -> int:
    """Lists every binding, its keys and where they come from; with `check`, says whether a file can be taken as it is.

    Raises:
        KeymapError: the file cannot be read, or something in it cannot be taken.
    """
    known = known_bindings(ZddApp)
    path = (
        Path(check_file) if check_file is not None else Path(file) if file is not None else default_keymap_path(environ)
    )
    chosen = (
        _load_keymap(path, known)
        if check_file or file or path.exists()
        else ResolvedKeymap({each.id: each.keys for each in known})
    )
    if check_file is None:
        for line in format_bindings(known, chosen, str(path)):
            out.write(f"{line}\n")
    if chosen.problems:
        raise KeymapError("\n  ".join(chosen.problems), f"the defaults hold for these; mend them in {path}")
    if check_file is not None:
        count = len(chosen.changed)
        out.write(f"✔ {path}: {count} binding{'' if count == 1 else 's'} changed, no clash\n")
    return 0


def format_bindings(bindings: tuple[KeyBinding, ...], keymap: ResolvedKeymap, source: str) -> list[str]:
    """One line a binding: id, keys, where it works, where its keys come from, what it does."""
    rows = [
        (
            each.id.removeprefix("zdd."),
            " ".join(key_name(key) for key in keymap.keys[each.id]) or "none",
            each.scope,
            source if each.id in keymap.changed else "default",
            each.help,
        )
        for each in bindings
    ]
    head = ("binding", "keys", "works", "from", "does")
    sizes = [max(len(row[at]) for row in [head, *rows]) for at in range(4)]
    return ["  ".join([*(f"{row[at]:<{sizes[at]}}" for at in range(4)), row[4]]).rstrip() for row in [head, *rows]]


def _load_keymap(path: Path, bindings: tuple[KeyBinding, ...]) -> ResolvedKeymap:
    text = read_text(path, missing_hint="see config/keymap.example.yaml", error_type=KeymapError)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise KeymapError(f"{path}:{line}: not valid YAML: {error.problem}", "quote keys such as '[' or ':'") from None
    except yaml.YAMLError as error:
        raise KeymapError(f"{path}: not valid YAML: {str(error).splitlines()[0]}", "save it as UTF-8 text") from None
    lines = (
        {str(key.value): key.start_mark.line + 1 for key, _ in node.value} if isinstance(node, yaml.MappingNode) else {}
    )
    return resolve_keymap(
        document,
        bindings,
        source=str(path),
        lines=lines,
        key_problem=key_problem,
        conflicts=can_be_active_together,
        expand_key_name=textual_key_name,
    )
