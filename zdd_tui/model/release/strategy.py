"""A strategy as data: phases in order, each with its steps and the gates to leave it.

The engine looks steps and gates up by name. The phases of expand/contract are here; those of the other strategies, and
the choice by plan, are in :mod:`zdd_tui.model.release.strategies`.
"""

from dataclasses import dataclass, replace

from zdd_tui.model.phase import Phase


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One idempotent effect.

    Attributes:
        name: unique in the strategy.
        label: what an operator reads.
        irreversible: once done, rollback is not possible. Its effect and its record commit together, so that a started
            or failed one is known to have had no effect.
        handler: key in the engine's registry of steps, where several steps of a strategy share one; else empty.
        value: the handler's argument, such as a weight in percent.
        table: whose rows it fills, as :func:`zdd_tui.model.plan.base.short_table_name`; else empty.
    """

    name: str
    label: str
    irreversible: bool = False
    handler: str = ""
    value: int | None = None
    table: str = ""

    @property
    def registry_key(self) -> str:
        """The key of the step in the engine and in the preview."""
        return self.handler or self.name

    @property
    def fills_rows(self) -> bool:
        """It writes the rows of a table in batches, for an operation."""
        return self.registry_key == "fill-rows"

    @property
    def moves_reads(self) -> bool:
        """It gives a larger share of reads to the new side, by a flag; its undo takes that share back at once."""
        return self.registry_key in ("read-ramp", "read-flag-on", "set-read")

    @property
    def hides_old_side(self) -> bool:
        """After it the old side cannot be read."""
        return self.registry_key == "archive-old-side"


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A condition that must hold before the phase may be left."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """Steps, then gates.

    Attributes:
        typed_confirm: the operator must type the release's name to leave this phase.
    """

    name: str
    steps: tuple[StepSpec, ...]
    gates: tuple[GateSpec, ...]
    typed_confirm: bool = False

    @property
    def writes_rows(self) -> bool:
        """Rows are written in batches, within the limits of the backfill."""
        return self.name == Phase.BACKFILL or any(step.fills_rows for step in self.steps)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A sequence of phases.

    Attributes:
        entry: the gates before the first phase.
    """

    name: str
    phases: tuple[PhaseSpec, ...]
    entry: tuple[GateSpec, ...] = ()

    @property
    def steps(self) -> tuple[StepSpec, ...]:
        return tuple(step for phase in self.phases for step in phase.steps)

    @property
    def filled_tables(self) -> tuple[str, ...]:
        """The tables whose rows steps fill, in the order of the steps."""
        return tuple(dict.fromkeys(step.table for step in self.steps if step.table))

    @property
    def undo_order(self) -> tuple[StepSpec, ...]:
        """Every step, in the order in which a rollback undoes them: newest first, but reads go back before all others.

        A flag is switched within seconds, while pods take minutes. It is safe, because both sides agree until the
        triggers between them are removed, which comes later. Only what hides the old side is undone before.
        """
        newest_first = self.steps[::-1]
        hidden = next((at for at, step in enumerate(newest_first) if step.hides_old_side), -1) + 1
        first, others = newest_first[:hidden], newest_first[hidden:]
        return (*first, *sorted(others, key=lambda step: not step.moves_reads))


def build_expand_contract(
    *,
    sync_by_trigger: bool = False,
    indexes: bool = True,
    ramp: tuple[int, ...] = (),
    new_table: bool = False,
    constrain: bool = False,
    defaults: bool = False,
    witness: bool = False,
) -> Strategy:
    """The six phases of design section 5.

    The contract phase archives the old side by renaming it, which is instant in both directions. Only cleanup drops it,
    so rollback is possible until then.

    Args:
        sync_by_trigger: a trigger, not the application, keeps both sides equal.
        indexes: the plan builds indexes.
        ramp: percentages of reads that use the new side before 100.
        new_table: the new side is a table, which may have sequences of its own.
        constrain: the plan has statements for change.constrain.
        defaults: among them defaults that V3 needs from its first INSERT on.
        witness: a trigger records who writes only one side.
    """
    optional = {
        "create-indexes": indexes,
        "sync-forward": sync_by_trigger,
        "advance-sequences": new_table,
        "constrain-new-side": constrain,
        "default-new-side": defaults,
    }
    optional |= dict.fromkeys(("create-witness", "extend-witness", "drop-witness", WITNESS_GATE), witness)
    phases = (
        replace(
            phase,
            steps=tuple(step for step in phase.steps if optional.get(step.name, True)),
            gates=tuple(gate for gate in phase.gates if optional.get(gate.name, True)),
        )
        for phase in (_EXPAND, *_AFTER_EXPAND)
    )
    return Strategy("expand-contract", tuple(_add_read_ramp(phase, ramp) for phase in phases))


def _add_read_ramp(phase: PhaseSpec, ramp: tuple[int, ...]) -> PhaseSpec:
    if phase.name != Phase.CUTOVER:
        return phase
    at = next(number for number, step in enumerate(phase.steps) if step.name == "read-flag-on")
    before, after = phase.steps[:at], phase.steps[at:]
    shares = (StepSpec(f"read-{n}", f"{n}% of reads use the new side", handler="read-ramp", value=n) for n in ramp)
    return replace(phase, steps=(*before, *shares, *after))


WITNESS_GATE = "witness-empty"

_CATALOG_DIFF = GateSpec("catalog-diff", "the new side has what the old side has")
_WITNESS_EMPTY = GateSpec(WITNESS_GATE, "no writer writes only one side")
_NO_OLDER_POD = GateSpec("no-older-pod", "no older pod is left, terminating ones included")

_EXPAND = PhaseSpec(
    Phase.EXPAND,
    (
        StepSpec("lint-ddl", "lint the DDL: additive only"),
        StepSpec("expand-schema", "add the new schema"),
        StepSpec("create-indexes", "build indexes concurrently"),
        StepSpec("sync-forward", "trigger: copy changes of the old side to the new side"),
    ),
    (
        GateSpec("schema-valid", "new objects exist and are valid"),
        _CATALOG_DIFF,
        GateSpec("no-waiters", "no blocked sessions"),
    ),
)

_AFTER_EXPAND = (
    PhaseSpec(
        Phase.DUAL_WRITE,
        (
            StepSpec("rollout-v2", "roll out V2"),
            StepSpec("create-witness", "trigger: record who writes only one side"),
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
            _WITNESS_EMPTY,
        ),
    ),
    PhaseSpec(
        Phase.CUTOVER,
        (
            StepSpec("sync-reverse", "trigger: copy changes of the new side to the old side"),
            StepSpec("extend-witness", "trigger: record who writes only one side, for both sides"),
            StepSpec("read-flag-on", "turn the read flag on"),
            StepSpec("soak", "soak"),
            StepSpec("compare-recent-writes", "compare again what was written since the verification"),
            StepSpec("advance-sequences", "set the new table's sequences past the old table's"),
            StepSpec("default-new-side", "set the defaults of the new side, which V3 needs"),
            StepSpec("rollout-v3", "roll out V3"),
        ),
        (
            GateSpec("soak-passed", "soak passed"),
            GateSpec("serving-v3", "every pod is V3"),
            _NO_OLDER_POD,
            _WITNESS_EMPTY,
        ),
    ),
    PhaseSpec(
        Phase.CONTRACT,
        (
            StepSpec(
                "compare-before-contract",
                "compare again what was written since the verification",
                handler="compare-recent-writes",
            ),
            StepSpec("constrain-new-side", "add NOT NULL, defaults and constraints to the new side"),
            StepSpec("archive-old-side", "archive the old schema and its data"),
        ),
        (
            _CATALOG_DIFF,
            GateSpec("no-old-snapshot", "no transaction is older than the cutover"),
            GateSpec("serving-v3", "every pod is V3"),
            _NO_OLDER_POD,
            _WITNESS_EMPTY,
        ),
        typed_confirm=True,
    ),
    PhaseSpec(
        Phase.CLEANUP,
        (
            StepSpec("delete-flags", "delete the flags"),
            StepSpec("drop-witness", "drop the trigger that records who writes only one side"),
            StepSpec("drop-archive", "drop triggers and the archived data", irreversible=True),
            StepSpec("analyze", "ANALYZE"),
            StepSpec("remove-annotations", "remove zdd's annotations from the Deployment"),
        ),
        (GateSpec("cleanup-complete", "nothing of the release is left behind"),),
    ),
)
