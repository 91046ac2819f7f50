"""Every gate of a strategy in the order of its phases, with its description and its reading: one row each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from zdd_tui.model.release.claims import count_verdicts
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.strategy import WITNESS_GATE, GateSpec, Strategy

# --- descriptions ------------------------------------------------------------------------------------------------
#
# The gates themselves are in :mod:`zdd_tui.engine.gates.registry`. A test requires a description of every gate.


@dataclass(frozen=True, slots=True)
class GateDescription:
    """What a gate checks, as a screen shows it.

    Attributes:
        system: the system that is queried.
        query: what is queried there.
        expected: the result that passes.
    """

    system: str
    query: str
    expected: str


_PODS = "GET Deployment, its pods by selector, the EndpointSlices of the Service"
_NEW_PODS = "GET Deployment and its pods by selector; the containers' statuses"
_SHADOW = "GET /metrics of every serving pod: shadow_comparisons_total, shadow_duration_seconds, since the phase began"

GATE_DESCRIPTIONS: Mapping[str, GateDescription] = {
    "guard": GateDescription(
        "the guard", "the newest reading of each rule that does more than alert (zdd.guard)", "every rule passes"
    ),
    REGION_GATE: GateDescription(
        "PostgreSQL of every earlier region",
        "zdd.release of this plan's hash: state and end of the newest one, and whether any was rolled back",
        "all are done, the last one for regions.soak, and none was rolled back",
    ),
    "schema-valid": GateDescription(
        "PostgreSQL",
        "pg_attribute for the new columns, pg_index.indisvalid and indisready for the new indexes, pg_trigger",
        "all exist and are valid",
    ),
    "catalog-diff": GateDescription(
        "PostgreSQL",
        "pg_catalog: constraints, indexes, types, defaults, sequences, policies, rights, publications, triggers,"
        " dependents and settings of both sides",
        "the new side has all that the old side has, or `accept:` names it; in contract nothing keeps the old side",
    ),
    "no-waiters": GateDescription(
        "PostgreSQL",
        "pg_locks not granted that are blocked (pg_blocking_pids) by the agent's locks on the plan's tables",
        "no blocked session",
    ),
    "serving-v2": GateDescription(
        "Kubernetes", _PODS, "every ready endpoint is a pod with the image of V2, as many as desired"
    ),
    "serving-v3": GateDescription(
        "Kubernetes", _PODS, "every ready endpoint is a pod with the image of V3, as many as desired"
    ),
    "serving-new": GateDescription(
        "Kubernetes", _PODS, "every ready endpoint is a pod with the new image, as many as desired"
    ),
    "recent-rows-agree": GateDescription(
        "PostgreSQL",
        "rows whose xmin is newer than the write flag, at the table's end and sampled; each compared with `up`",
        "none differs, and at least gates.min_recent_rows agree",
    ),
    "backfill-complete": GateDescription(
        "PostgreSQL",
        "zdd.backfill: status, rows, failed_rows",
        "all ranges done, no more failed rows than max_failed_rows",
    ),
    "operations-valid": GateDescription(
        "PostgreSQL",
        "zdd.step; pg_index of every index that the operations have built",
        "every step has run, every index is valid and ready",
    ),
    "removed-unused": GateDescription(
        "PostgreSQL",
        "pg_stat_statements and pg_stat_activity, parsed; scans of indexes; bodies of functions; pg_depend: since the"
        " old version left, or since the gate was first evaluated",
        "no session has used what the next phase removes for gates.soak, or `accept:` names what cannot be seen",
    ),
    "fills-complete": GateDescription(
        "the store",
        "zdd.step and zdd.backfill of every table that is filled: status, failed_rows",
        "every fill has ended with no row left, no more failed rows than max_failed_rows",
    ),
    "no-mismatch": GateDescription(
        "PostgreSQL", "zdd.backfill: verified, mismatches of the last verification", "verified, 0 mismatches"
    ),
    WITNESS_GATE: GateDescription(
        "PostgreSQL",
        "zdd.witness_row and zdd.witness_record: rows that differ after a commit; pg_trigger of the witness",
        "no such row, and every writer of one side quiet for gates.soak",
    ),
    "soak-passed": GateDescription("PostgreSQL", "zdd.step: the phase's soak", "the soak time has passed"),
    "no-older-pod": GateDescription(
        "Kubernetes",
        "GET Deployment, its ReplicaSets and pods, terminating ones included",
        "no pod of an older template, and the rollout is done",
    ),
    "no-old-snapshot": GateDescription(
        "PostgreSQL",
        "pg_stat_activity.backend_xmin, backend_xid and xact_start, and pg_prepared_xacts, against the cutover's xid",
        "no transaction is older, and zdd may see every session",
    ),
    "cleanup-complete": GateDescription(
        "PostgreSQL, Redis, Kubernetes",
        "pg_trigger, pg_proc, archived columns and tables; both flags; the Deployment's annotations",
        "nothing of the release is left",
    ),
    "capacity-kept": GateDescription(
        "Kubernetes",
        "GET Deployment: strategy, maxUnavailable, maxSurge, replicas",
        "no pod is removed before its successor is ready",
    ),
    "pods-healthy": GateDescription(
        "Kubernetes", _NEW_PODS, "every pod with the new image is ready, none has restarted"
    ),
    "weight-held": GateDescription(
        "Kubernetes or Redis",
        "the share of serving pods with the new image, the weights of the HTTPRoute, or the flag's percentage",
        "the phase's weight, within canary.tolerance",
    ),
    "annotations-removed": GateDescription(
        "Kubernetes", "GET Deployment, the canary's objects, the annotations", "nothing of the release is left"
    ),
    "smoke-passed": GateDescription(
        "PostgreSQL", "zdd.step: responses of every green pod to the smoke checks", "all as expected"
    ),
    "green-healthy": GateDescription(
        "Kubernetes", "GET the green Deployment and its pods", "new image, ready, no restart, as many as desired"
    ),
    "serving-green": GateDescription(
        "Kubernetes",
        "GET the EndpointSlices of the Service",
        "every endpoint is a green pod, and no green pod is missing",
    ),
    "stable-ready": GateDescription(
        "Kubernetes", "GET the first Deployment", "the old image, as many available as before"
    ),
    "green-removed": GateDescription(
        "Kubernetes",
        "GET the green Deployment, the preview Service, the Service's selector and annotations",
        "nothing of the release is left",
    ),
    "shadow-agrees": GateDescription("the application", _SHADOW, "at most dark.max_mismatch percent differ or failed"),
    "shadow-fast": GateDescription(
        "the application", _SHADOW, "the new path's latency is at most dark.max_latency_ratio times the old's"
    ),
    "read-held": GateDescription("Redis", "GET of the read flag", "the phase's percentage"),
    "dark-launch-removed": GateDescription(
        "Redis, Kubernetes",
        "GET of both flags; the Deployment's annotations",
        "the read flag is on, the shadow flag is gone",
    ),
}


# --- rows --------------------------------------------------------------------------------------------------------

BEFORE_FIRST_PHASE = "start"
"""In place of a phase's name, for the gates before the first one."""

NOT_CHECKED = "not checked yet"


class PhasePosition(StrEnum):
    """The position of a gate's phase relative to the current phase."""

    PAST = "past"
    PRESENT = "present"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate of one phase. A name may occur in several phases: phase and name together identify a row.

    Attributes:
        phase: its name, or ``BEFORE_FIRST_PHASE``.
        position: of that phase; none is present once the release has ended.
        number: in the strategy's order, from 0.
        reading: as it counts now; None where there is none for this phase.
        superseded_by: the later phase that has checked the gate of this name since; else empty.
    """

    phase: str
    position: PhasePosition
    number: int
    gate: GateSpec
    reading: GateReading | None = None
    superseded_by: str = ""

    @property
    def key(self) -> str:
        return f"{self.phase}/{self.gate.name}"

    @property
    def has_passed(self) -> bool:
        """It passed when its phase was left, or when the release ended; that says nothing about now."""
        if self.position is not PhasePosition.PAST:
            return False
        return bool(self.superseded_by) or (self.reading is not None and self.reading.verdict is Verdict.PASS)

    @property
    def verdict(self) -> Verdict | None:
        """The current verdict; None for a gate of another phase without a reading."""
        if self.reading is not None:
            return self.reading.verdict
        return Verdict.UNKNOWN if self.position is PhasePosition.PRESENT else None

    @property
    def status_text(self) -> str:
        """The verdict; else ``passed``, ``upcoming`` or ``no record``."""
        if self.has_passed:
            return "passed"
        if self.verdict is not None:
            return str(self.verdict)
        return "no record" if self.position is PhasePosition.PAST else "upcoming"

    @property
    def result_text(self) -> str:
        """The reading's reason; empty without a reading."""
        return self.reading.reason if self.reading is not None else ""

    @property
    def reason_text(self) -> str:
        """The reading's reason; without a reading, why there is none and what would pass."""
        if self.superseded_by:
            return f"checked again in {self.superseded_by}"
        if self.reading is not None:
            return self.result_text
        if self.position is PhasePosition.PAST:
            return "no verdict is recorded for this phase"
        description = GATE_DESCRIPTIONS.get(self.gate.name)
        if description is None:
            return NOT_CHECKED
        expected = f"expected: {description.expected}"
        # For a phase ahead the status says already that it is not checked.
        return f"{NOT_CHECKED}; {expected}" if self.position is PhasePosition.PRESENT else expected


def build_gate_rows(record: ReleaseRecord, now: float) -> tuple[GateRow, ...]:
    """All gates in the order of their phases, those before the first phase first.

    A stale reading is unknown, as for the rules, and so is each while no agent is known to work. Two kinds are shown as
    they were: the readings with which a phase was left, and all readings of a release that has ended.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release, counted = record.release, count_verdicts(record, now)
    phases = [(-1, BEFORE_FIRST_PHASE, release.strategy.entry)]
    phases += [(at, phase.name, phase.gates) for at, phase in enumerate(release.strategy.phases)]
    owners = {gate.name: (at, name) for at, name, gates in phases if at <= release.phase for gate in gates}
    rows: list[GateRow] = []
    for at, name, gates in phases:
        position = _phase_position(at, release.phase, has_ended=release.state.has_ended)
        for gate in gates:
            owner, owner_name = owners.get(gate.name, (at, name))
            reading = record.gates.get(gate.name) if at <= release.phase and owner == at else None
            if reading is not None and not release.state.has_ended:
                has_passed = position is PhasePosition.PAST and reading.verdict is Verdict.PASS
                reading = reading if has_passed else counted.gates[gate.name].as_of(now)
            rows.append(GateRow(name, position, len(rows), gate, reading, owner_name if at < owner else ""))
    return tuple(rows)


def complete_gate_rows(rows: Iterable[GateRow], strategy: Strategy, events: Sequence[Event]) -> tuple[GateRow, ...]:
    """The rows; those of past phases whose reading was replaced since have the last verdict that the audit has of them.

    Args:
        events: the audit, oldest first.
    """
    names = [BEFORE_FIRST_PHASE, *(phase.name for phase in strategy.phases)]
    begins = {event.message: event.at for event in reversed(events) if event.kind == "phase"}
    ends = {name: begins.get(f"{after} begins") for name, after in pairwise(names)}
    return tuple(
        replace(row, reading=reading, superseded_by="")
        if row.position is PhasePosition.PAST
        and row.reading is None
        and (reading := _find_past_reading(row.gate.name, ends.get(row.phase), events)) is not None
        else row
        for row in rows
    )


def _find_past_reading(gate: str, until: float | None, events: Sequence[Event]) -> GateReading | None:
    """The last verdict of a gate up to a time, from the audit; None where it has none, or the time is not known."""
    prefix = f"{gate}: "
    for event in reversed(events):
        if until is not None and event.at <= until and event.kind == "gate" and event.message.startswith(prefix):
            verdict = event.message.removeprefix(prefix)
            if verdict in set(Verdict):
                return GateReading(gate, Verdict(verdict), event.reason, event.at, since=event.at)
    return None


def _phase_position(index: int, current: int, *, has_ended: bool) -> PhasePosition:
    if index == current and not has_ended:
        return PhasePosition.PRESENT
    return PhasePosition.AHEAD if index > current else PhasePosition.PAST
