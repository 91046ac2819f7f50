"""Custom keys: all bindings of screens and widgets, a keymap file, its errors, and the keys that result.

A keymap maps the id of an action or a binding to a key or a list of keys. An invalid entry is reported with its place
and a hint, and the default is used: an invalid keymap never prevents the use of the dashboard.
"""

import importlib
import pkgutil
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys
from textual.screen import Screen

from zdd_tui.dashboard import screens, widgets
from zdd_tui.dashboard.screens.base import ActionScreen
from zdd_tui.dashboard.screens.fleet import FleetScreen
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.model.actions import ACTIONS, KEY_NAMES, default_keys, key_name

UNBOUND_KEY = "no-key"
"""Key of a binding without keys; no terminal sends it."""

_MODIFIERS = ("ctrl", "shift", "alt", "super")
_KEY_ALIASES = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+j": "enter", "ctrl+h": "backspace"}
"""Keys that a terminal sends as another key."""

_KEY_NAMES = frozenset(key.value for key in Keys if not key.value.startswith("<")) | frozenset(KEY_NAMES)

MUST_STAY_BOUND = ("zdd.rollback", "app.leave")
"""Bindings that may get other keys, but must have one."""


@dataclass(frozen=True, slots=True)
class DashboardKeys:
    """The keys of one dashboard.

    Attributes:
        keymap: binding id to keys, for Textual; empty if all are defaults.
        key_names: display name of each action's key, by the action's id.
        warnings: entries of the file that are not used, and why.
    """

    keymap: Mapping[str, str] = field(default_factory=dict)
    key_names: Mapping[str, str] = field(default_factory=default_keys)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """A binding of a screen or a widget.

    Attributes:
        keys: defaults.
        help: one line for the operator.
        scope: where it works: ``everywhere``, ``main screen``, ``table``.
        owner: the class that defines it; decides which bindings can be active at the same time.
    """

    id: str
    keys: tuple[str, ...]
    help: str
    scope: str
    owner: type[DOMNode]


@dataclass(frozen=True, slots=True)
class ResolvedKeymap:
    """The keys that result from a keymap.

    Attributes:
        keys: of every binding, by its id; defaults without a valid entry.
        changed: ids that the file has changed.
        problems: one text with place and hint for each invalid entry.
    """

    keys: Mapping[str, tuple[str, ...]]
    changed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def resolve_keymap(
    document: object, bindings: Sequence[KeyBinding], *, source: str, lines: Mapping[str, int]
) -> ResolvedKeymap:
    """Applies the valid entries of a keymap file to the default keys.

    Args:
        document: the parsed file.
        bindings: all bindings.
        source: the file's name, for messages.
        lines: line of each id in the file.
    """
    by_id = {binding.id: binding for binding in bindings}
    defaults = {binding.id: binding.keys for binding in bindings}
    if document is None:
        return ResolvedKeymap(defaults)
    if not isinstance(document, Mapping):
        return ResolvedKeymap(
            defaults, problems=(f"{source}: not a keymap: write one `id: key` a line (see config/keymap.example.yaml)",)
        )
    requested: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    line_numbers: dict[str, int] = {}
    for name, value in document.items():
        place = f"{source}:{lines.get(str(name), 1)}: {name}"
        binding_id = _find_binding_id(str(name), by_id)
        if binding_id is None:
            problems.append(f"{place}: unknown action or binding{_suggest_binding(str(name), by_id)}")
            continue
        keys, problem = _parse_keys(value, binding_id)
        if problem:
            problems.append(f"{place}: {problem}")
        elif binding_id in requested:
            problems.append(f"{place}: duplicate entry for {_action_id(binding_id)}; the first one is used")
        else:
            requested[binding_id], line_numbers[binding_id] = keys, lines.get(str(name), 1)
    return _resolve_conflicts(defaults, requested, line_numbers, bindings, problems, source)


def _find_binding_id(name: str, by_id: Mapping[str, KeyBinding]) -> str | None:
    """The id of a binding, from itself or from the id of an action."""
    if name in by_id:
        return name
    return next((action.binding_id for action in ACTIONS if action.id == name and action.binding_id in by_id), None)


def _action_id(binding_id: str) -> str:
    return binding_id.removeprefix("zdd.")


def _suggest_binding(name: str, by_id: Mapping[str, KeyBinding]) -> str:
    names = [*(action.id for action in ACTIONS), *(_action_id(binding_id) for binding_id in by_id), *by_id]
    matches = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else "; `zdd keys` lists them all"


def _parse_keys(value: Any, binding_id: str) -> tuple[tuple[str, ...], str]:
    """Keys, and why they are invalid."""
    entries = [] if value is None else value if isinstance(value, list) else [value]
    keys: list[str] = []
    for entry in entries:
        text = str(entry) if isinstance(entry, str | int) and not isinstance(entry, bool) else ""
        if not text:
            return (), f"{entry!r} is not a key; quote it if it is one of yes, no, on, off"
        if problem := key_problem(text):
            return (), problem
        keys.append(textual_key_name(text))
    if not keys and binding_id in MUST_STAY_BOUND:
        return (), "it must have a key"
    return tuple(keys), ""


def _resolve_conflicts(
    defaults: Mapping[str, tuple[str, ...]],
    requested: Mapping[str, tuple[str, ...]],
    line_numbers: Mapping[str, int],
    bindings: Sequence[KeyBinding],
    problems: list[str],
    source: str,
) -> ResolvedKeymap:
    """Restores defaults until no two bindings conflict."""
    accepted = dict(requested)
    while True:
        keys = {**defaults, **accepted}
        resolved = [replace(binding, keys=keys[binding.id]) for binding in bindings]
        conflict = next(find_conflicts(resolved, frozenset(accepted)), None)
        if conflict is None:
            changed = frozenset(name for name, chosen in accepted.items() if chosen != defaults[name])
            return ResolvedKeymap(keys, changed, tuple(problems))
        key, first, second = conflict
        loser, winner = (second, first) if second.id in accepted else (first, second)
        default = ", ".join(key_name(default_key) for default_key in defaults[loser.id]) or "none"
        name = _action_id(loser.id)
        problems.append(
            f"{source}:{line_numbers[loser.id]}: {name}: {key_name(key)} is also the key of {_action_id(winner.id)}"
            f" ({winner.scope}); {name} keeps {default}; give one of them another key"
        )
        del accepted[loser.id]


def find_conflicts(
    bindings: Iterable[KeyBinding], changed: frozenset[str]
) -> Iterator[tuple[str, KeyBinding, KeyBinding]]:
    """Pairs of bindings on one key that can be active at the same time, of which at least one was changed."""
    return (
        (key, first, second)
        for first, second in combinations(bindings, 2)
        if first.id in changed or second.id in changed
        for key in first.keys
        if key in second.keys and not _are_exclusive(first, second) and can_be_active_together(first, second)
    )


def _are_exclusive(first: KeyBinding, second: KeyBinding) -> bool:
    """Two actions that share their default key are never active at the same time."""
    default_key = {action.binding_id: action.key for action in ACTIONS}
    return first.id in default_key and default_key[first.id] == default_key.get(second.id)


def build_dashboard_keys(resolved: ResolvedKeymap) -> DashboardKeys:
    """Keys for the dashboard. If one is changed all are listed: Textual would drop a default that shares its key."""
    if not resolved.changed:
        return DashboardKeys(warnings=_format_warnings(resolved))
    names = dict(default_keys()) | {
        action.id: key_name(resolved.keys[action.binding_id][0]) if resolved.keys[action.binding_id] else "-"
        for action in ACTIONS
        if action.binding_id in resolved.changed
    }
    keymap = {binding: ",".join(keys) or UNBOUND_KEY for binding, keys in resolved.keys.items()}
    return DashboardKeys(keymap, names, _format_warnings(resolved))


def _format_warnings(keymap: ResolvedKeymap) -> tuple[str, ...]:
    if not keymap.problems:
        return ()
    more = f" (and {len(keymap.problems) - 1} more: zdd keys --check FILE)" if len(keymap.problems) > 1 else ""
    return (f"keymap: {keymap.problems[0]}{more}",)


# --- the bindings of all screens and widgets -------------------------------------------------------------------------


def known_bindings(app: type[App[Any]]) -> tuple[KeyBinding, ...]:
    """Every binding with an id, the registry's first; each id once, from its first declaration."""
    for package in (widgets, screens):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    bindings: dict[str, KeyBinding] = {}
    owners: list[type[DOMNode]] = [
        ReleaseScreen,
        ActionScreen,
        app,
        # Of several applications only this one: a replay has other keys.
        *sorted(
            (each for each in _own_classes(DOMNode) if not issubclass(each, App)),
            key=lambda each: (each.__module__, each.__name__),
        ),
    ]
    for owner in owners:
        for binding in _declared_bindings(owner):
            if binding.id and binding.id not in bindings:
                home = ActionScreen if binding.id in _SHARED_IDS else owner
                place = _RELEASE_AND_DETAILS if binding.id in _DETAIL_IDS else _describe_place(home)
                keys = tuple(textual_key_name(key.strip()) for key in binding.key.split(","))
                bindings[binding.id] = KeyBinding(binding.id, keys, binding.description, place, home)
    return tuple(bindings.values())


def _declared_bindings(owner: type[DOMNode]) -> list[Binding]:
    return [each for each in owner.__dict__.get("BINDINGS", ()) if isinstance(each, Binding)]


_RELEASE_AND_DETAILS = "main and detail screens"
_DETAIL_IDS = frozenset(each.binding_id for each in ACTIONS if each.opens_detail)
_SHARED_IDS = frozenset(each.id for each in _declared_bindings(ActionScreen))


def _own_classes(base: type[Any]) -> Iterator[type[DOMNode]]:
    for each in base.__subclasses__():
        if each.__module__.startswith("zdd_tui."):
            yield each
        yield from _own_classes(each)


def _describe_place(owner: type[DOMNode]) -> str:
    """Where bindings of a class work, as shown."""
    if owner is ActionScreen or issubclass(owner, App):
        return "everywhere"
    if owner is ReleaseScreen:
        return "main screen"
    name = owner.__name__.removesuffix("Screen").removesuffix("Pane") or owner.__name__
    words = re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()
    if not issubclass(owner, Screen):
        return f"in {words}"
    return words if words.endswith("dialog") else f"{words} screen"


def can_be_active_together(first: KeyBinding, second: KeyBinding) -> bool:
    """Whether both can be active at the same time: one works everywhere, or a screen shows the other's widget."""
    one, other = first.owner, second.owner
    if {one, other} == {ActionScreen, FleetScreen}:
        return False  # the list of releases has no action of a release
    if {"everywhere", _RELEASE_AND_DETAILS} & {first.scope, second.scope}:
        return True
    if issubclass(one, other) or issubclass(other, one):
        return True
    if issubclass(one, Screen) == issubclass(other, Screen):
        return False
    screen, widget = (one, other) if issubclass(one, Screen) else (other, one)
    return (screen in (ReleaseScreen, FleetScreen)) is widget.__module__.startswith("zdd_tui.dashboard.widgets.")


def textual_key_name(key: str) -> str:
    """Textual's name of a key: ``question_mark`` for ``?``."""
    if len(key) != 1 or key.isalnum():
        return key
    name = unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)


def key_problem(key: str) -> str:
    """Why a key's name is invalid, and the correct form; empty for a key that a terminal can send."""
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    unknown = next((each for each in modifiers if each not in _MODIFIERS), None)
    if unknown is not None or not last:
        return f"{key!r} is not a key; write modifiers as ctrl+x or shift+f3"
    if key in _KEY_ALIASES:
        return f"a terminal sends {key} as {_KEY_ALIASES[key]}; choose another key"
    if last in _KEY_NAMES or (key_name(textual_key_name(last)) == last if len(last) == 1 else key_name(last) != last):
        return ""
    near = get_close_matches(last, _KEY_NAMES, n=1, cutoff=0.5)
    return f"{key!r} is not a key" + (f"; did you mean {near[0]}?" if near else "; write it as x, ctrl+x, f5 or pageup")
