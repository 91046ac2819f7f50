"""Other keys than the registry's: a keymap file, what is wrong with it, and what holds in spite of it.

A keymap is a mapping of an action's or a binding's id to a key or a list of keys. What cannot be taken is told, with
place and mend, and its default holds instead: a wrong keymap never keeps an operator from the dashboard.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from zdd_tui.model.actions import ACTIONS, default_keys, key_name

UNBOUND_KEY = "no-key"
"""What a binding without a key is bound to; no terminal sends it."""

MUST_STAY_BOUND = ("zdd.rollback", "app.leave")
"""Bindings that may get other keys, but not none."""


@dataclass(frozen=True, slots=True)
class DashboardKeys:
    """The keys of one dashboard.

    Attributes:
        keymap: binding id to keys, for Textual; empty where all are the defaults.
        key_names: what each action's key is called, by the action's id.
        warnings: what was not taken from the file, in words.
    """

    keymap: Mapping[str, str] = field(default_factory=dict)
    key_names: Mapping[str, str] = field(default_factory=default_keys)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """A binding of a screen or a widget.

    Attributes:
        keys: the default ones.
        help: what it does.
        scope: where it works, in words: ``everywhere``, ``main screen``, ``table``.
        owner: the class that has it, to tell which bindings can be had at the same time.
    """

    id: str
    keys: tuple[str, ...]
    help: str
    scope: str
    owner: str


@dataclass(frozen=True, slots=True)
class ResolvedKeymap:
    """What a keymap comes to.

    Attributes:
        keys: of every binding, by its id; defaults where the file says nothing that can be taken.
        changed: ids that the file has changed.
        problems: what could not be taken; each one text with place and mend.
    """

    keys: Mapping[str, tuple[str, ...]]
    changed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


ConflictTest = Callable[[KeyBinding, KeyBinding], bool]
"""Whether two bindings can be had at the same time, so that one key for both would hide one of them."""


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
    """Takes from a keymap file what can be taken.

    Args:
        document: the parsed file.
        bindings: every binding that there is.
        source: the file's name, for messages.
        lines: line of each id in the file.
        key_problem: what is wrong with the name of a key, with a mend; empty for a good one.
        expand_key_name: the name by which bindings know a key.
    """
    by_id = {each.id: each for each in bindings}
    defaults = {each.id: each.keys for each in bindings}
    if document is None:
        return ResolvedKeymap(defaults)
    if not isinstance(document, Mapping):
        return ResolvedKeymap(
            defaults, problems=(f"{source}: a keymap is a list of `id: key` (see config/keymap.example.yaml)",)
        )
    wanted: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    places: dict[str, int] = {}
    for name, value in document.items():
        place = f"{source}:{lines.get(str(name), 1)}: {name}"
        found = _find_binding_id(str(name), by_id)
        if found is None:
            problems.append(f"{place}: there is no such action or binding{_suggest_binding(str(name), by_id)}")
            continue
        keys, wrong = _parse_keys(value, found, key_problem)
        keys = tuple(expand_key_name(each) for each in keys)
        if wrong:
            problems.append(f"{place}: {wrong}")
        elif found in wanted:
            problems.append(f"{place}: {_action_id(found)} is there twice; the first holds")
        else:
            wanted[found], places[found] = keys, lines.get(str(name), 1)
    return _resolve_conflicts(defaults, wanted, places, bindings, problems, source, conflicts)


def _find_binding_id(name: str, by_id: Mapping[str, KeyBinding]) -> str | None:
    """A binding's id, from that id or from an action's."""
    of_action = {each.id: each.binding_id for each in ACTIONS}
    return name if name in by_id else of_action.get(name) if of_action.get(name) in by_id else None


def _action_id(binding_id: str) -> str:
    return binding_id.removeprefix("zdd.")


def _suggest_binding(name: str, by_id: Mapping[str, KeyBinding]) -> str:
    names = [*(each.id for each in ACTIONS), *(_action_id(each) for each in by_id), *by_id]
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else "; `zdd keys` lists them all"


def _parse_keys(value: Any, binding_id: str, key_problem: Callable[[str], str]) -> tuple[tuple[str, ...], str]:
    """Keys, or what is wrong with them."""
    given = [] if value is None else value if isinstance(value, list) else [value]
    keys: list[str] = []
    for each in given:
        text = str(each) if isinstance(each, str | int) and not isinstance(each, bool) else ""
        if not text:
            return (), f"{each!r} is no key; quote it if it is one of yes, no, on, off"
        if wrong := key_problem(text):
            return (), wrong
        keys.append(text)
    if not keys and binding_id in MUST_STAY_BOUND:
        return (), "it needs a key: it is the way out"
    return tuple(keys), ""


def _resolve_conflicts(
    defaults: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, tuple[str, ...]],
    line_numbers: Mapping[str, int],
    bindings: Sequence[KeyBinding],
    problems: list[str],
    source: str,
    conflicts: ConflictTest,
) -> ResolvedKeymap:
    """Gives defaults back to what clashes, until nothing does."""
    taken = dict(wanted)
    while True:
        keys = {**defaults, **taken}
        clash = next(
            find_conflicts([replace(each, keys=keys[each.id]) for each in bindings], frozenset(taken), conflicts), None
        )
        if clash is None:
            changed = frozenset(each for each, chosen in taken.items() if chosen != defaults[each])
            return ResolvedKeymap(keys, changed, tuple(problems))
        key, first, second = clash
        loser, winner = (second, first) if second.id in taken else (first, second)
        kept = ", ".join(key_name(each) for each in defaults[loser.id]) or "none"
        problems.append(
            f"{source}:{line_numbers[loser.id]}: {_action_id(loser.id)}: {key_name(key)} is the key of {_action_id(winner.id)} too"
            f" ({winner.scope}); {_action_id(loser.id)} keeps {kept}; give one of them another key"
        )
        del taken[loser.id]


def find_conflicts(
    bindings: Iterable[KeyBinding], changed: frozenset[str], conflicts: ConflictTest
) -> Iterator[tuple[str, KeyBinding, KeyBinding]]:
    """Pairs of bindings on one key that can be had at the same time, one of which was changed."""
    return (
        (key, first, second)
        for first, second in combinations(bindings, 2)
        if first.id in changed or second.id in changed
        for key in first.keys
        if key in second.keys and not _are_exclusive(first, second) and conflicts(first, second)
    )


def _are_exclusive(first: KeyBinding, second: KeyBinding) -> bool:
    """Two actions that share their default key are never there at the same time."""
    shared = {each.binding_id: each.key for each in ACTIONS}
    return first.id in shared and shared[first.id] == shared.get(second.id)


def build_dashboard_keys(resolved: ResolvedKeymap) -> DashboardKeys:
    """What the dashboard needs: all keys where some are changed, so that none is lost to a neighbour on its key."""
    if not resolved.changed:
        return DashboardKeys(warnings=_format_warnings(resolved))
    names = dict(default_keys()) | {
        each.id: key_name(resolved.keys[each.binding_id][0]) if resolved.keys[each.binding_id] else "-"
        for each in ACTIONS
        if each.binding_id in resolved.changed
    }
    keymap = {binding: ",".join(keys) or UNBOUND_KEY for binding, keys in resolved.keys.items()}
    return DashboardKeys(keymap, names, _format_warnings(resolved))


def _format_warnings(keymap: ResolvedKeymap) -> tuple[str, ...]:
    if not keymap.problems:
        return ()
    more = f" (and {len(keymap.problems) - 1} more: zdd keys --check FILE)" if len(keymap.problems) > 1 else ""
    return (f"keymap: {keymap.problems[0]}{more}",)
