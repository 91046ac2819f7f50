"""Custom keys: a keymap file, its errors, and the keys that result.

A keymap maps the id of an action or a binding to a key or a list of keys. An invalid entry is reported with its place
and a hint, and the default is used: an invalid keymap never prevents the use of the dashboard.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from zdd_tui.model.actions import ACTIONS, default_keys, key_name

UNBOUND_KEY = "no-key"
"""Key of a binding without keys; no terminal sends it."""

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
        owner: name of the class that defines it; decides which bindings can be active at the same time.
    """

    id: str
    keys: tuple[str, ...]
    help: str
    scope: str
    owner: str


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


ConflictTest = Callable[[KeyBinding, KeyBinding], bool]
"""Whether two bindings can be active at the same time, so that one key for both would hide one of them."""


def resolve_keymap(
    document: object,
    bindings: Sequence[KeyBinding],
    *,
    source: str,
    lines: Mapping[str, int],
    key_problem: Callable[[str], str],
    conflicts: ConflictTest,
    expand_key_name: Callable[[str], str] = str,
) -> ResolvedKeymap:
    """Applies the valid entries of a keymap file to the default keys.

    Args:
        document: the parsed file.
        bindings: all bindings.
        source: the file's name, for messages.
        lines: line of each id in the file.
        key_problem: returns why the name of a key is invalid, with a hint; empty for a valid one.
        conflicts: see :data:`ConflictTest`.
        expand_key_name: returns the name that bindings use for a key.
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
        keys, problem = _parse_keys(value, binding_id, key_problem)
        keys = tuple(expand_key_name(key) for key in keys)
        if problem:
            problems.append(f"{place}: {problem}")
        elif binding_id in requested:
            problems.append(f"{place}: duplicate entry for {_action_id(binding_id)}; the first one is used")
        else:
            requested[binding_id], line_numbers[binding_id] = keys, lines.get(str(name), 1)
    return _resolve_conflicts(defaults, requested, line_numbers, bindings, problems, source, conflicts)


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


def _parse_keys(value: Any, binding_id: str, key_problem: Callable[[str], str]) -> tuple[tuple[str, ...], str]:
    """Keys, and why they are invalid."""
    entries = [] if value is None else value if isinstance(value, list) else [value]
    keys: list[str] = []
    for entry in entries:
        text = str(entry) if isinstance(entry, str | int) and not isinstance(entry, bool) else ""
        if not text:
            return (), f"{entry!r} is not a key; quote it if it is one of yes, no, on, off"
        if problem := key_problem(text):
            return (), problem
        keys.append(text)
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
    conflicts: ConflictTest,
) -> ResolvedKeymap:
    """Restores defaults until no two bindings conflict."""
    accepted = dict(requested)
    while True:
        keys = {**defaults, **accepted}
        resolved = [replace(binding, keys=keys[binding.id]) for binding in bindings]
        conflict = next(find_conflicts(resolved, frozenset(accepted), conflicts), None)
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
    bindings: Iterable[KeyBinding], changed: frozenset[str], conflicts: ConflictTest
) -> Iterator[tuple[str, KeyBinding, KeyBinding]]:
    """Pairs of bindings on one key that can be active at the same time, of which at least one was changed."""
    return (
        (key, first, second)
        for first, second in combinations(bindings, 2)
        if first.id in changed or second.id in changed
        for key in first.keys
        if key in second.keys and not _are_exclusive(first, second) and conflicts(first, second)
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
