"""Weights as numbers of pods: a share is as fine as the number of pods allows, and no finer."""

from zdd_tui.model.errors import PlanError


def canary_replicas(stable: int, weight: int, tolerance: int) -> int:
    """Pods of the new image beside ``stable`` old ones, so that every pod gets as many requests as any other and the
    new image's share of them comes nearest to the weight.

    Args:
        stable: pods of the old image; they all stay.
        weight: percent, 1 to 99.
        tolerance: points by which the share may miss the weight.

    Raises:
        PlanError: no number of pods comes that near; names what the nearest gives.
    """
    if stable < 1:
        raise PlanError(
            "canary.weights: the Deployment has no pod, so there is nothing to compare with", "scale it up first"
        )
    exact = stable * weight / (100 - weight)
    low = max(1, int(exact))
    best = min((low, low + 1), key=lambda pods: abs(share(pods, stable) - weight))
    if abs(share(best, stable) - weight) > tolerance:
        raise PlanError(
            f"canary.weights: {weight}% cannot be had with {stable} pods: {best} beside them make"
            f" {share(best, stable):.0f}%, more than {tolerance} points away",
            f"use weights such as {', '.join(str(each) for each in realisable(stable))}, more replicas,"
            " a larger canary.tolerance, or `by: flag`",
        )
    return best


def share(canary: int, stable: int) -> float:
    """Percent of all pods."""
    return 100 * canary / (canary + stable)


def realisable(stable: int) -> list[int]:
    """The weights up to a half that so many pods give."""
    return sorted({round(share(pods, stable)) for pods in range(1, stable + 1)})[:6]
