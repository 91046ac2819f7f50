"""`zdd keys`, and the keymap file that `zdd open` reads."""

from pathlib import Path
from typing import TextIO

import yaml
from platformdirs import user_config_path

from zdd_tui.backends.files import read_text
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.keymap import (
    DashboardKeys,
    KeyBinding,
    ResolvedKeymap,
    build_dashboard_keys,
    known_bindings,
    resolve_keymap,
)
from zdd_tui.model.actions import key_name
from zdd_tui.model.errors import ZddError
from zdd_tui.model.yaml_limits import CONSTRUCTION_ERRORS, LimitedLoader, load_yaml


class KeymapError(ZddError):
    """The keymap file cannot be read, or an entry of it is invalid."""


def default_keymap_path() -> Path:
    """``keymap.yaml`` in the user's configuration folder of zdd."""
    return user_config_path("zdd", appauthor=False) / "keymap.yaml"


def load_dashboard_keys(file: str | None) -> DashboardKeys:
    """The keys of a dashboard: from the named file, else from the default file, else the defaults.

    An invalid file never prevents the start: the dashboard shows the problems and uses the default keys.
    """
    path = Path(file) if file is not None else default_keymap_path()
    if file is None and not path.exists():
        return DashboardKeys()
    try:
        return build_dashboard_keys(_load_keymap(path, known_bindings(ZddApp)))
    except KeymapError as error:
        return DashboardKeys(warnings=(f"keymap: {error.title}; the default keys apply",))


def show_keys(check_file: str | None, file: str | None, out: TextIO) -> int:
    """Lists every binding with its keys and their source; with ``check_file``, only validates that file.

    Raises:
        KeymapError: the file cannot be read, or an entry of it is invalid.
    """
    known = known_bindings(ZddApp)
    named = check_file if check_file is not None else file
    path = Path(named) if named is not None else default_keymap_path()
    if named is not None or path.exists():
        keymap = _load_keymap(path, known)
    else:
        keymap = ResolvedKeymap({binding.id: binding.keys for binding in known})
    if check_file is None:
        for line in format_bindings(known, keymap, str(path)):
            out.write(f"{line}\n")
    if keymap.problems:
        raise KeymapError("\n  ".join(keymap.problems), f"correct them in {path}; the default keys apply until then")
    if check_file is not None:
        count = len(keymap.changed)
        out.write(f"✔ {path}: {count} binding{'' if count == 1 else 's'} changed, no clash\n")
    return 0


def format_bindings(bindings: tuple[KeyBinding, ...], keymap: ResolvedKeymap, source: str) -> list[str]:
    """One line for each binding: id, keys, scope, source of its keys, description."""
    rows = [
        (
            binding.id.removeprefix("zdd."),
            " ".join(key_name(key) for key in keymap.keys[binding.id]) or "none",
            binding.scope,
            source if binding.id in keymap.changed else "default",
            binding.help,
        )
        for binding in bindings
    ]
    table = [("binding", "keys", "scope", "source", "action"), *rows]
    widths = [max(len(row[at]) for row in table) for at in range(4)]
    return ["  ".join([*(f"{row[at]:<{widths[at]}}" for at in range(4)), row[4]]).rstrip() for row in table]


def _load_keymap(path: Path, bindings: tuple[KeyBinding, ...]) -> ResolvedKeymap:
    text = read_text(path, missing_hint="see config/keymap.example.yaml", error_type=KeymapError)
    try:
        node = yaml.compose(text, Loader=LimitedLoader)
        document = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise KeymapError(f"{path}:{line}: not valid YAML: {error.problem}", "quote keys such as '[' or ':'") from None
    except CONSTRUCTION_ERRORS as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KeymapError(f"{path}: not valid YAML: {what}", "save it as UTF-8 text") from None
    lines = (
        {str(key.value): key.start_mark.line + 1 for key, _ in node.value} if isinstance(node, yaml.MappingNode) else {}
    )
    return resolve_keymap(document, bindings, source=str(path), lines=lines)
