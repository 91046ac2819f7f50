"""The arithmetic of a rollout, as pkg/controller/deployment 1.34 does it. Pure: numbers in, numbers out."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ReplicaSetSize:
    """One ReplicaSet as the rollout sees it.

    `replicas` is the desired number, `available` what serves; `created` orders them (RFC 3339 sorts).
    `desired_annotation` and `max_annotation` are its desired-replicas and max-replicas annotations.
    """

    name: str
    replicas: int
    available: int
    created: str = ""
    desired_annotation: int | None = None
    max_annotation: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutBounds:
    """What a Deployment allows: replicas, and pods above and below that number while it rolls."""

    replicas: int
    surge: int
    unavailable: int


def resolve_percentage(value: int | str, total: int, *, up: bool) -> int:
    """A number, or a percentage of `total` rounded up or down."""
    if isinstance(value, int):
        return value
    share = total * int(value.removesuffix("%")) / 100
    return math.ceil(share) if up else math.floor(share)


def resolve_bounds(replicas: int, surge: int | str | None, unavailable: int | str | None) -> RolloutBounds:
    """maxSurge rounds up, maxUnavailable down; if both come to nothing, one pod may be unavailable."""
    above = resolve_percentage(surge or 0, replicas, up=True)
    below = resolve_percentage(unavailable or 0, replicas, up=False)
    if above == 0 and below == 0:
        below = 1
    return RolloutBounds(replicas, above, 0 if replicas == 0 else min(below, replicas))


def next_new_size(limit: RolloutBounds, new: ReplicaSetSize, every: Iterable[ReplicaSetSize]) -> int:
    """How many replicas the new ReplicaSet may have now; `every` includes it."""
    room = limit.replicas + limit.surge - sum(item.replicas for item in every)
    if room <= 0:
        return new.replicas
    return new.replicas + min(room, limit.replicas - new.replicas)


def next_old_sizes(limit: RolloutBounds, new: ReplicaSetSize, old: list[ReplicaSetSize]) -> dict[str, int]:
    """The old ReplicaSets to scale down now, with their new sizes: unhealthy pods first, then by age."""
    active = [item for item in old if item.replicas > 0]
    total = sum(item.replicas for item in active) + new.replicas
    least = limit.replicas - limit.unavailable
    spare = total - least - (new.replicas - new.available)
    if not active or spare <= 0:
        return {}
    ordered = sorted(active, key=lambda item: (item.created, item.name))
    cleaned = _shrink(ordered, spare, lambda item: item.replicas - item.available)
    surplus = new.available + sum(item.available for item in cleaned) - least
    final = _shrink(cleaned, surplus, lambda item: item.replicas)
    return {item.name: item.replicas for item, before in zip(final, ordered, strict=True) if item != before}


def _shrink(
    ordered: list[ReplicaSetSize], surplus: int, removable: Callable[[ReplicaSetSize], int]
) -> list[ReplicaSetSize]:
    """Take `surplus` pods away, as many from each as are `removable`."""
    result = []
    for item in ordered:
        drop = max(0, min(surplus, removable(item)))
        surplus -= drop
        result.append(replace(item, replicas=item.replicas - drop))
    return result


def proportional_sizes(limit: RolloutBounds, every: list[ReplicaSetSize], status_replicas: int) -> dict[str, int]:
    """Sizes of all active ReplicaSets when the Deployment is scaled in the middle of a rollout."""
    active = [item for item in every if item.replicas > 0]
    if not active:
        return {}
    allowed = limit.replicas + limit.surge if limit.replicas > 0 else 0
    to_add = allowed - sum(item.replicas for item in active)
    if to_add > 0:
        # Larger first, and of equals the newer: it is the one that should grow.
        active.sort(key=lambda item: item.name)
        active.sort(key=lambda item: item.created, reverse=True)
    elif to_add < 0:
        active.sort(key=lambda item: (item.created, item.name))
    if to_add:
        active.sort(key=lambda item: item.replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for item in active:
        share = _proportion(item, limit, status_replicas, to_add, added) if to_add else 0
        sizes[item.name] = item.replicas + share
        added += share
    if to_add:
        first = active[0].name
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _proportion(item: ReplicaSetSize, limit: RolloutBounds, status_replicas: int, to_add: int, added: int) -> int:
    if to_add == added:
        return 0
    fraction = _fraction(item, limit, status_replicas)
    left = to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(item: ReplicaSetSize, limit: RolloutBounds, status_replicas: int) -> int:
    if limit.replicas == 0:
        return -item.replicas
    before = item.max_annotation or status_replicas
    if before == 0:
        return 0
    share = item.replicas * (limit.replicas + limit.surge) / before
    return math.floor(share + 0.5) - item.replicas


def is_saturated(limit: RolloutBounds, new: ReplicaSetSize | None) -> bool:
    """Whether the new ReplicaSet runs everything, and believes that it should."""
    return (
        new is not None
        and new.replicas == limit.replicas
        and new.desired_annotation == limit.replicas
        and new.available == limit.replicas
    )


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0


def is_complete(wanted: int, counts: ReplicaCounts) -> bool:
    return counts.updated == counts.replicas == counts.available == wanted


def has_progressed(before: ReplicaCounts, after: ReplicaCounts) -> bool:
    """More new pods, fewer old ones, or more that are ready or available."""
    return (
        after.updated > before.updated
        or after.replicas - after.updated < before.replicas - before.updated
        or after.ready > before.ready
        or after.available > before.available
    )
