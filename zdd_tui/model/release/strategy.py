"""A strategy is data: phases in order, each with its steps and the gates to leave it.

The engine looks a step's or gate's work up by name; nothing here knows how it is done. The phases of expand/contract
are below; those of the others, and which plan has which, are in :mod:`zdd_tui.model.release.strategies`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """The six phases of expand/contract."""

    EXPAND = "expand"
    DUAL_WRITE = "dual-write"
    BACKFILL = "backfill"
    CUTOVER = "cutover"
    CONTRACT = "contract"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One idempotent effect.

    Attributes:
        name: unique in the strategy.
        label: what an operator reads.
        irreversible: once done there is no way back. Its effect and its record must commit together, so that one
            that has begun or failed is known to have had no effect.
        handler: key in the engine's registry of steps, where several steps of a strategy do the same work; else empty.
        value: what that work is done with, such as a weight in percent.
    """

    name: str
    label: str
    irreversible: bool = False
    handler: str = ""
    value: int | None = None

    @property
    def registry_key(self) -> str:
        """Under which the engine and the preview know the step."""
        return self.handler or self.name


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A condition that must hold before the phase may be left."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """Steps, then gates.

    Attributes:
        typed_confirm: to leave this phase the operator types the release's name.
    """

    name: str
    steps: tuple[StepSpec, ...]
    gates: tuple[GateSpec, ...]
    typed_confirm: bool = False


@dataclass(frozen=True, slots=True)
class Strategy:
    """A sequence of phases.

    Attributes:
        entry: what must hold before the first phase.
    """

    name: str
    phases: tuple[PhaseSpec, ...]
    entry: tuple[GateSpec, ...] = ()

    @property
    def steps(self) -> tuple[StepSpec, ...]:
        return tuple(step for phase in self.phases for step in phase.steps)

    def phase_index_of(self, step_name: str) -> int:
        """Index of the phase that a step belongs to."""
        for index, phase in enumerate(self.phases):
            if any(step.name == step_name for step in phase.steps):
                return index
        raise KeyError(step_name)


def build_expand_contract(
    *, sync_by_trigger: bool = False, indexes: bool = True, ramp: tuple[int, ...] = ()
) -> Strategy:
    """The six phases of design section 5.

    The contract phase moves the old side out of the way by renaming it (instant, and back again as fast);
    only cleanup drops it, so the way back stays open until then.

    Args:
        sync_by_trigger: a trigger, not the application, keeps both sides in step.
        indexes: the plan builds some.
        ramp: percent of reads that use the new side before all of them do.
    """
    optional = {"create-indexes": indexes, "sync-forward": sync_by_trigger}
    steps = tuple(step for step in _EXPAND.steps if optional.get(step.name, True))
    phases = (replace(_EXPAND, steps=steps), *_AFTER_EXPAND)
    return Strategy("expand-contract", tuple(_add_read_ramp(phase, ramp) for phase in phases))


def _add_read_ramp(phase: PhaseSpec, ramp: tuple[int, ...]) -> PhaseSpec:
    if phase.name != Phase.CUTOVER:
        return phase
    before, *after = phase.steps
    shares = (StepSpec(f"read-{n}", f"{n}% of reads use the new side", handler="read-ramp", value=n) for n in ramp)
    return replace(phase, steps=(before, *shares, *after))


_NO_OLDER_POD = GateSpec("no-older-pod", "no older pod is left, terminating ones included")

_EXPAND = PhaseSpec(
    Phase.EXPAND,
    (
        StepSpec("lint-ddl", "lint the DDL: additive only"),
        StepSpec("expand-schema", "add the new schema"),
        StepSpec("create-indexes", "build indexes concurrently"),
        StepSpec("sync-forward", "trigger: changes of the old side reach the new side"),
    ),
    (
        GateSpec("schema-valid", "new objects exist and are valid"),
        GateSpec("no-waiters", "no session waits behind us"),
    ),
)

_AFTER_EXPAND = (
    PhaseSpec(
        Phase.DUAL_WRITE,
        (
            StepSpec("rollout-v2", "roll out V2"),
            StepSpec("write-flag-on", "turn the write flag on"),
        ),
        (
            GateSpec("serving-v2", "every serving pod is V2"),
            GateSpec("recent-rows-agree", "recent rows agree on both sides"),
        ),
    ),
    PhaseSpec(
        Phase.BACKFILL,
        (
            StepSpec("prepare-backfill", "ANALYZE, fix the upper bound, check the batch's plan"),
            StepSpec("backfill-rows", "move old rows in batches"),
            StepSpec("verify-rows", "compare every row on both sides"),
        ),
        (
            GateSpec("backfill-complete", "all ranges done"),
            GateSpec("no-mismatch", "zero mismatches"),
        ),
    ),
    PhaseSpec(
        Phase.CUTOVER,
        (
            StepSpec("sync-reverse", "trigger: changes of the new side reach the old side"),
            StepSpec("read-flag-on", "turn the read flag on"),
            StepSpec("soak", "soak"),
            StepSpec("rollout-v3", "roll out V3"),
        ),
        (
            GateSpec("soak-passed", "soak passed"),
            GateSpec("serving-v3", "every pod is V3"),
            _NO_OLDER_POD,
        ),
    ),
    PhaseSpec(
        Phase.CONTRACT,
        (StepSpec("archive-old-side", "take the old schema away, keeping its data aside"),),
        (
            GateSpec("no-old-snapshot", "no transaction is older than the cutover"),
            GateSpec("serving-v3", "every pod is V3"),
            _NO_OLDER_POD,
        ),
        typed_confirm=True,
    ),
    PhaseSpec(
        Phase.CLEANUP,
        (
            StepSpec("delete-flags", "delete the flags"),
            StepSpec("drop-archive", "drop triggers and the data kept aside", irreversible=True),
            StepSpec("analyze", "ANALYZE"),
            StepSpec("remove-annotations", "remove our marks from the Deployment"),
        ),
        (GateSpec("cleanup-complete", "nothing of the release is left behind"),),
    ),
)
