"""All bindings of screens and widgets, for keymap files and `zdd keys`."""

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys
from textual.screen import Screen

from zdd_tui.dashboard import screens, widgets
from zdd_tui.dashboard.keymap import KeyBinding
from zdd_tui.dashboard.screens.base import ActionScreen
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.model.actions import KEY_NAMES, key_name

_MODIFIERS = ("ctrl", "shift", "alt", "super")
_KEY_ALIASES = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+j": "enter", "ctrl+h": "backspace"}
"""Keys that a terminal sends as another key."""

_KEY_NAMES = frozenset(key.value for key in Keys if not key.value.startswith("<")) | frozenset(KEY_NAMES)


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
        *sorted(_is_own_class(DOMNode), key=lambda each: (each.__module__, each.__name__)),
    ]
    for owner in owners:
        for binding in _declared_bindings(owner):
            if binding.id and binding.id not in bindings:
                home = ActionScreen if binding.id in _SHARED_IDS else owner
                keys = tuple(binding_keys(binding.key))
                bindings[binding.id] = KeyBinding(
                    binding.id, keys, binding.description, _describe_place(home), _class_label(home)
                )
    return tuple(bindings.values())


def _declared_bindings(owner: type[DOMNode]) -> list[Binding]:
    return [each for each in owner.__dict__.get("BINDINGS", ()) if isinstance(each, Binding)]


_SHARED_IDS = frozenset(each.id for each in _declared_bindings(ActionScreen))


def _is_own_class(base: type[Any]) -> Iterator[type[DOMNode]]:
    for each in base.__subclasses__():
        if each.__module__.startswith("zdd_tui."):
            yield each
        yield from _is_own_class(each)


def _class_label(owner: type[DOMNode]) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _describe_place(owner: type[DOMNode]) -> str:
    """Where bindings of a class work, as shown."""
    if owner is ActionScreen or issubclass(owner, App):
        return "everywhere"
    if owner is ReleaseScreen:
        return "main screen"
    words = owner.__name__.removesuffix("Screen").removesuffix("Pane") or owner.__name__
    return f"{'screen' if issubclass(owner, Screen) else 'in'} {words.lower()}"


def can_be_active_together(first: KeyBinding, second: KeyBinding) -> bool:
    """Whether both can be active at the same time: one works everywhere, or a screen shows the other's widget."""
    if "everywhere" in (first.scope, second.scope):
        return True
    one, other = _bound_class(first), _bound_class(second)
    if issubclass(one, other) or issubclass(other, one):
        return True
    if issubclass(one, Screen) == issubclass(other, Screen):
        return False
    screen, widget = (one, other) if issubclass(one, Screen) else (other, one)
    return (screen is ReleaseScreen) is widget.__module__.startswith("zdd_tui.dashboard.widgets.")


def _bound_class(binding: KeyBinding) -> type[Any]:
    module, _, name = binding.owner.rpartition(".")
    owner = getattr(importlib.import_module(module), name)
    assert isinstance(owner, type)
    return owner


def binding_keys(keys: str) -> Iterator[str]:
    for key in keys.split(","):
        yield textual_key_name(key.strip())


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
