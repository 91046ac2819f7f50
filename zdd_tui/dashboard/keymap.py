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

NO_KEY = "no-key"
"""What a binding without a key is bound to; no terminal sends it."""

KEPT = ("zdd.rollback", "app.leave")
"""Bindings that may get other keys, but not none."""


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """The keys of one dashboard.

    Attributes:
        keymap: binding id to keys, for Textual; empty where all are the defaults.
        names: what each action's key is called, by the action's id.
        notice: what was not taken from the file, in words.
    """

    keymap: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=default_keys)
    notice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding of a screen or a widget.

    Attributes:
        keys: the default ones.
        help: what it does.
        place: where it works, in words: ``everywhere``, ``main screen``, ``table``.
        owner: the class that has it, to tell which bindings can be had at the same time.
    """

    id: str
    keys: tuple[str, ...]
    help: str
    place: str
    owner: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a keymap comes to.

    Attributes:
        keys: of every binding, by its id; defaults where the file says nothing that can be taken.
        changed: ids that the file has changed.
        problems: what could not be taken; each one text with place and mend.
    """

    keys: Mapping[str, tuple[str, ...]]
    changed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


Together = Callable[[Bound, Bound], bool]
"""Whether two bindings can be had at the same time, so that one key for both would hide one of them."""


def choose(
    document: object,
    known: Sequence[Bound],
    *,
    source: str,
    lines: Mapping[str, int],
    key_problem: Callable[[str], str],
    together: Together,
    long_name: Callable[[str], str] = str,
) -> Chosen:
    """Takes from a keymap file what can be taken.

    Args:
        document: the parsed file.
        known: every binding that there is.
        source: the file's name, for messages.
        lines: line of each id in the file.
        key_problem: what is wrong with the name of a key, with a mend; empty for a good one.
        long_name: the name by which bindings know a key.
    """
    by_id = {each.id: each for each in known}
    defaults = {each.id: each.keys for each in known}
    if document is None:
        return Chosen(defaults)
    if not isinstance(document, Mapping):
        return Chosen(
            defaults, problems=(f"{source}: a keymap is a list of `id: key` (see config/keymap.example.yaml)",)
        )
    wanted: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    places: dict[str, int] = {}
    for name, value in document.items():
        place = f"{source}:{lines.get(str(name), 1)}: {name}"
        found = _id_of(str(name), by_id)
        if found is None:
            problems.append(f"{place}: there is no such action or binding{_nearest(str(name), by_id)}")
            continue
        keys, wrong = _keys_of(value, found, key_problem)
        keys = tuple(long_name(each) for each in keys)
        if wrong:
            problems.append(f"{place}: {wrong}")
        elif found in wanted:
            problems.append(f"{place}: {_short(found)} is there twice; the first holds")
        else:
            wanted[found], places[found] = keys, lines.get(str(name), 1)
    return _without_clashes(defaults, wanted, places, known, problems, source, together)


def _id_of(name: str, by_id: Mapping[str, Bound]) -> str | None:
    """A binding's id, from that id or from an action's."""
    of_action = {each.id: each.binding_id for each in ACTIONS}
    return name if name in by_id else of_action.get(name) if of_action.get(name) in by_id else None


def _short(binding_id: str) -> str:
    return binding_id.removeprefix("zdd.")


def _nearest(name: str, by_id: Mapping[str, Bound]) -> str:
    names = [*(each.id for each in ACTIONS), *(_short(each) for each in by_id), *by_id]
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else "; `zdd keys` lists them all"


def _keys_of(value: Any, found: str, key_problem: Callable[[str], str]) -> tuple[tuple[str, ...], str]:
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
    if not keys and found in KEPT:
        return (), "it needs a key: it is the way out"
    return tuple(keys), ""


def _without_clashes(
    defaults: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, tuple[str, ...]],
    places: Mapping[str, int],
    known: Sequence[Bound],
    problems: list[str],
    source: str,
    together: Together,
) -> Chosen:
    """Gives defaults back to what clashes, until nothing does."""
    taken = dict(wanted)
    while True:
        keys = {**defaults, **taken}
        clash = next(clashes([replace(each, keys=keys[each.id]) for each in known], frozenset(taken), together), None)
        if clash is None:
            changed = frozenset(each for each, chosen in taken.items() if chosen != defaults[each])
            return Chosen(keys, changed, tuple(problems))
        key, first, second = clash
        loser, winner = (second, first) if second.id in taken else (first, second)
        kept = ", ".join(key_name(each) for each in defaults[loser.id]) or "none"
        problems.append(
            f"{source}:{places[loser.id]}: {_short(loser.id)}: {key_name(key)} is the key of {_short(winner.id)} too"
            f" ({winner.place}); {_short(loser.id)} keeps {kept}; give one of them another key"
        )
        del taken[loser.id]


def clashes(known: Iterable[Bound], changed: frozenset[str], together: Together) -> Iterator[tuple[str, Bound, Bound]]:
    """Pairs of bindings on one key that can be had at the same time, one of which was changed."""
    return (
        (key, first, second)
        for first, second in combinations(known, 2)
        if first.id in changed or second.id in changed
        for key in first.keys
        if key in second.keys and not _take_turns(first, second) and together(first, second)
    )


def _take_turns(first: Bound, second: Bound) -> bool:
    """Two actions that share their default key are never there at the same time."""
    shared = {each.binding_id: each.key for each in ACTIONS}
    return first.id in shared and shared[first.id] == shared.get(second.id)


def key_choice(chosen: Chosen) -> KeyChoice:
    """What the dashboard needs: all keys where some are changed, so that none is lost to a neighbour on its key."""
    if not chosen.changed:
        return KeyChoice(notice=_notice(chosen))
    names = dict(default_keys()) | {
        each.id: key_name(chosen.keys[each.binding_id][0]) if chosen.keys[each.binding_id] else "-"
        for each in ACTIONS
        if each.binding_id in chosen.changed
    }
    keymap = {binding: ",".join(keys) or NO_KEY for binding, keys in chosen.keys.items()}
    return KeyChoice(keymap, names, _notice(chosen))


def _notice(chosen: Chosen) -> tuple[str, ...]:
    if not chosen.problems:
        return ()
    more = f" (and {len(chosen.problems) - 1} more: zdd keys --check FILE)" if len(chosen.problems) > 1 else ""
    return (f"keymap: {chosen.problems[0]}{more}",)
