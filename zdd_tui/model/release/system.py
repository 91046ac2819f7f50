"""The systems that a release depends on, and which of them the steps work on."""

from enum import StrEnum

from zdd_tui.model.release.strategy import StepSpec, Strategy


class System(StrEnum):
    """As screens name them. Each is read by itself: one that does not respond delays nothing about another."""

    POSTGRESQL = "PostgreSQL"
    REDIS = "Redis"
    KUBERNETES = "Kubernetes"
    PROMETHEUS = "Prometheus"
    AGENT = "agent"


FLAG_UNDOS = frozenset(
    ("delete-flags", "read-flag-on", "read-ramp", "rollout-new", "rollout-v2", "set-read", "set-shadow", "shadow-off",
     "write-flag-on")
)  # fmt: skip
"""Steps whose undo writes flags, where the release has flags."""

CLUSTER_UNDOS = frozenset(
    ("acquire-service", "create-canary", "create-green", "create-preview", "record-workload", "release-service",
     "rollout-new", "rollout-v2", "rollout-v3", "switch-to-green", "switch-to-stable")
)  # fmt: skip
"""Steps whose undo changes the cluster, or reads it."""


def systems_of_undo(strategy: Strategy, spec: StepSpec) -> frozenset[System]:
    """The systems that the undo of a step that has run works on; it waits for each that does not respond."""
    systems = {System.POSTGRESQL, System.AGENT}
    key = spec.registry_key
    if key == "set-weight":
        has_canary = any(step.name == "create-canary" for step in strategy.steps)  # else the flag is its weight
        systems.add(System.KUBERNETES if has_canary else System.REDIS)
    if key in FLAG_UNDOS:
        systems.add(System.REDIS)
    if key in CLUSTER_UNDOS:
        systems.add(System.KUBERNETES)
    return frozenset(systems)
