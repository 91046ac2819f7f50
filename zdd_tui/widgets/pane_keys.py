"""The registry's keys in a pane, and how a pane is called beside the key that leads to it."""

from collections.abc import Mapping

from textual.binding import Binding

from zdd_tui.board import PlanView
from zdd_tui.model.action import ACTIONS


def bindings_in(place: str) -> tuple[Binding, ...]:
    """Bindings of a kind of pane: ``pane`` for every one, ``table`` for tables."""
    return tuple(
        Binding(each.key, each.id, each.help.removesuffix("."), show=False, id=each.binding_id)
        for each in ACTIONS
        if each.binding.startswith(f"{place}.")
    )


def name_with_key(name: str, keys: Mapping[str, str]) -> str:
    """``1:pods``; the name alone where no key leads to it.

    Args:
        keys: what each action's key is called, by the action's id.
    """
    key = keys.get(f"to-{name}", "-")
    return name if key == "-" else f"{key}:{name}"


def missing(plan: PlanView, pane: str) -> str:
    """Why a plan's release has no such pane; empty where it has."""
    there = {"backfill": plan.backfills, "flags": plan.flagged, "guard": bool(plan.rules)}
    return "" if there.get(pane, True) else f"this plan has no {pane}"
