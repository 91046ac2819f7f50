"""Every gate of a strategy in the order of its phases, with what is known of it: a line each."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.strategy import GateSpec

# --- What each gate asks, of whom, and what must come back: the words beside its reading on the screen.
#
# The work itself is in :mod:`zdd_tui.engine.gates.registry`; a test holds that every gate of
# every strategy has its words here.


@dataclass(frozen=True, slots=True)
class GateDescription:
    """A gate's question.

    Attributes:
        system: who is asked.
        query: what is asked.
        expected: what passes.
    """

    system: str
    query: str
    expected: str


_PODS = "GET Deployment, its pods by selector, the EndpointSlices of the Service"
_NEW_PODS = "GET Deployment and its pods by selector; the containers' statuses"
_SHADOW = "GET /metrics of every serving pod: shadow_comparisons_total, shadow_duration_seconds, since the phase began"

GATE_DESCRIPTIONS: Mapping[str, GateDescription] = {
    "guard": GateDescription(
        "the guard", "the newest reading of each rule that demands something (zdd.guard)", "every one passes"
    ),
    REGION_GATE: GateDescription(
        "PostgreSQL of every region before it",
        "zdd.release of this plan's hash: the newest one's state and end, and whether any was rolled back",
        "all are done, the last for regions.soak, and none was rolled back",
    ),
    "schema-valid": GateDescription(
        "PostgreSQL",
        "pg_attribute for the new columns, pg_index.indisvalid and indisready for the new indexes, pg_trigger",
        "all are there and valid",
    ),
    "no-waiters": GateDescription(
        "PostgreSQL",
        "pg_locks not granted, whose pg_blocking_pids hold a lock of an agent's on the plan's tables",
        "no session",
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
        "rows whose xmin is newer than the write flag, at the table's end and here and there; each compared with `up`",
        "none disagrees, and at least gates.min_recent_rows agree",
    ),
    "backfill-complete": GateDescription(
        "the store",
        "zdd.backfill: status, rows, failed_rows",
        "all ranges done, no more failed rows than max_failed_rows",
    ),
    "no-mismatch": GateDescription(
        "the store", "zdd.backfill: verified, mismatches of the last verification", "verified, 0 mismatches"
    ),
    "soak-passed": GateDescription("the store", "zdd.step: the phase's soak", "it is over"),
    "no-older-pod": GateDescription(
        "Kubernetes",
        "GET Deployment, its ReplicaSets and pods, terminating ones included",
        "no pod of an older template, and the rollout is done",
    ),
    "no-old-snapshot": GateDescription(
        "PostgreSQL",
        "pg_stat_activity.backend_xmin, backend_xid and xact_start, and pg_prepared_xacts, against the cutover's xid",
        "no transaction is older, and no session is hidden from us",
    ),
    "cleanup-complete": GateDescription(
        "PostgreSQL, Redis, Kubernetes",
        "pg_trigger, pg_proc, columns and tables kept aside; both flags; the Deployment's annotations",
        "nothing of the release",
    ),
    "capacity-kept": GateDescription(
        "Kubernetes",
        "GET Deployment: strategy, maxUnavailable, maxSurge, replicas",
        "no pod goes before its heir is ready",
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
        "Kubernetes", "GET Deployment, the canary's objects, the annotations", "nothing of the release"
    ),
    "smoke-passed": GateDescription(
        "the store", "zdd.step: answers that the smoke checks got from every green pod", "all as expected"
    ),
    "green-healthy": GateDescription(
        "Kubernetes", "GET the green Deployment and its pods", "new image, ready, no restart, as many as desired"
    ),
    "serving-green": GateDescription(
        "Kubernetes", "GET the EndpointSlices of the Service", "every endpoint is a green pod, and all of them"
    ),
    "stable-ready": GateDescription(
        "Kubernetes", "GET the first Deployment", "the old image, as many available as before"
    ),
    "green-removed": GateDescription(
        "Kubernetes",
        "GET the green Deployment, the preview Service, the Service's selector and marks",
        "nothing of the release",
    ),
    "shadow-agrees": GateDescription("the application", _SHADOW, "no more than dark.max_mismatch percent went badly"),
    "shadow-fast": GateDescription(
        "the application", _SHADOW, "the new path's latency is at most dark.max_latency_ratio times the old's"
    ),
    "read-held": GateDescription("Redis", "GET of the read flag", "the phase's share"),
    "dark-launch-removed": GateDescription(
        "Redis, Kubernetes",
        "GET of both flags; the Deployment's annotations",
        "the read flag is on, the shadow flag is gone",
    ),
}


def describe_gate(gate: str) -> GateDescription | None:
    """None for a gate that nobody has put into words."""
    return GATE_DESCRIPTIONS.get(gate)


# --- end


BEFORE_FIRST_PHASE = "start"
"""In place of a phase's name, for what must hold before the first one."""

NOT_EVALUATED = "not asked yet"


class PhasePosition(StrEnum):
    """Where the gate's phase lies, seen from where the release stands."""

    PAST = "past"
    PRESENT = "present"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate of one phase. A name may come again in a later phase: phase and name together tell one from another.

    Attributes:
        phase: its name, or ``BEFORE``.
        position: of that phase; of a release that has ended none is present.
        number: in the strategy's order, from 0.
        reading: as it counts now; None where none is known that was taken for this phase.
        superseded_by: the phase that has asked the gate of this name since; else empty.
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
        """It did while its phase, or the release, was not over: that says nothing of now."""
        if self.position is not PhasePosition.PAST:
            return False
        return bool(self.superseded_by) or (self.reading is not None and _is_pass(self.reading))

    @property
    def verdict(self) -> Verdict | None:
        """What counts now; None for a gate of another phase of which no reading is known."""
        if self.reading is not None:
            return self.reading.verdict
        return Verdict.UNKNOWN if self.position is PhasePosition.PRESENT else None

    @property
    def status_text(self) -> str:
        """``pass``, ``fail``, ``inconclusive`` or ``unknown``; else ``passed``, ``not asked`` or ``none``."""
        if self.has_passed:
            return "passed"
        if self.verdict is not None:
            return str(self.verdict)
        return "none" if self.position is PhasePosition.PAST else "not asked"

    @property
    def result_text(self) -> str:
        """What came back, in the gate's own words; empty where nothing did."""
        return self.reading.reason if self.reading is not None else ""

    @property
    def reason_text(self) -> str:
        """The answer, or why there is none, with what would pass."""
        if self.superseded_by:
            return f"asked again since, in {self.superseded_by}"
        if self.reading is not None:
            return self.result_text
        if self.position is PhasePosition.PAST:
            return "no reading is known"
        ask = describe_gate(self.gate.name)
        wants = f"wants: {ask.expected}" if ask is not None else ""
        # Where the word tells that it is not asked, the room is for what it will want.
        told = (NOT_EVALUATED, wants) if self.position is PhasePosition.PRESENT or not wants else (wants,)
        return "; ".join(text for text in told if text)


def build_gate_rows(record: ReleaseRecord, now: float) -> tuple[GateRow, ...]:
    """All gates in the order of their phases, those before the first phase at the head.

    A stale reading is unknown, as it is to the rules. Only two are told as they were: those by which a phase was left,
    which count no more, and all those of a release that has ended.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phases = [(-1, BEFORE_FIRST_PHASE, release.strategy.entry)]
    phases += [(at, phase.name, phase.gates) for at, phase in enumerate(release.strategy.phases)]
    owners = {gate.name: (at, name) for at, name, gates in phases if at <= release.phase for gate in gates}
    rows: list[GateRow] = []
    for at, name, gates in phases:
        place = _phase_position(at, release.phase, has_ended=release.state.has_ended)
        for gate in gates:
            owner, again = owners.get(gate.name, (at, name))
            mine = at <= release.phase and owner == at
            reading = record.gates.get(gate.name) if mine else None
            kept = release.state.has_ended or (
                place is PhasePosition.PAST and reading is not None and _is_pass(reading)
            )
            shown = reading if reading is None or kept else reading.as_of(now)
            rows.append(GateRow(name, place, len(rows), gate, shown, again if at < owner else ""))
    return tuple(rows)


def _is_pass(reading: GateReading) -> bool:
    return reading.verdict is Verdict.PASS


def _phase_position(index: int, current: int, *, has_ended: bool) -> PhasePosition:
    if index == current and not has_ended:
        return PhasePosition.PRESENT
    return PhasePosition.AHEAD if index > current else PhasePosition.PAST
