"""The verdict of a rehearsal, and what its figures mean for the full size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.rehearsal.scenario import ScenarioResult
from zdd_tui.rehearsal.step_metrics import SAMPLE_INTERVAL, StepMetrics
from zdd_tui.rehearsal.workload import WriterStats

SIZE_DEPENDENT_STEPS = frozenset({"create-indexes", "backfill-rows", "verify-rows"})
"""Steps whose time grows with the table; the others change the catalog, flags or pods."""

RELIABLE_SECONDS = 1.0
"""Seconds below which a figure is mostly overhead and does not scale to a larger table."""

SLOWER_FACTOR, FASTER_FACTOR, FASTER_FACTOR_IF_SHORT = 3.0, 1.5, 5.0
"""How far the full size may be from a straight line: a table that memory does not hold, other disks, other load."""

LIMITATIONS = (
    "no pods were rolled out and no other service was called: rollouts completed at once, probes and drains are"
    " not part of this",
    "WAL and waits are with this rehearsal's own writers, not with production's traffic",
    "locks are reported by the transactions that held them, and sampled from outside every"
    f" {SAMPLE_INTERVAL * 1000:.0f} ms",
)


@dataclass(slots=True)
class RehearsalReport:
    """Everything that was found.

    Attributes:
        rows, full_rows: of the plan's table, rehearsed and in production.
        reasons: why it failed; empty where it passed.
        warnings: what an operator should know all the same.
        notes: what could not be copied or generated.
        unjudged: what a rehearsal of this plan cannot judge, each with the reason.
        max_wait: seconds that a write may wait for a lock before the rehearsal fails.
        max_rows_per_second: rows a second that the plan allows its backfill; None for no ceiling.
        size_dependent: steps whose time grows with the table.
    """

    name: str
    plan_hash: str
    strategy: Strategy
    rows: int
    full_rows: int
    with_data: bool
    versions: tuple[int, int]
    max_wait: float
    max_rows_per_second: int | None
    seconds: float = 0.0
    scenarios: list[ScenarioResult] = field(default_factory=list)
    step_metrics: list[StepMetrics] = field(default_factory=list)
    writer_stats: WriterStats = field(default_factory=WriterStats)
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    size_dependent: frozenset[str] = SIZE_DEPENDENT_STEPS

    @property
    def has_passed(self) -> bool:
        return not self.reasons

    @property
    def scale(self) -> float:
        """Share of production's rows."""
        return self.rows / self.full_rows if self.full_rows else 1.0

    def evaluate(self) -> None:
        """Adds the reasons found in the scenarios and by the writers."""
        for result in self.scenarios:
            place = f"after the rollback from {result.rollback_from}" if result.rollback_from else "at the end"
            if result.row_diff.total:
                self.reasons.append(f"{place} {_describe_diff(result)}")
            if result.differences:
                self.reasons.append(f"{place} these differ: {'; '.join(result.differences[:3])}")
        for text, count in sorted(self.writer_stats.failures.items(), key=lambda item: -item[1])[:3]:
            self.reasons.append(f"{count} writes of the application failed: {text}")
        for metrics in self.step_metrics:
            if metrics.blocked_seconds > self.max_wait:
                self.reasons.append(
                    f"{metrics.step} kept a write waiting for {format_duration(metrics.blocked_seconds)};"
                    f" allowed is {format_duration(self.max_wait)}"
                )

    def to_json(self) -> dict[str, Any]:
        """The report as data; it is stored so."""
        return {
            "plan": self.name,
            "plan_hash": self.plan_hash,
            "passed": self.has_passed,
            "reasons": self.reasons,
            "warnings": self.warnings,
            "notes": self.notes,
            "unjudged": self.unjudged,
            "rows": self.rows,
            "full_rows": self.full_rows,
            "scale": round(self.scale, 6),
            "with_data": self.with_data,
            "postgres": {"production": self.versions[0], "rehearsal": self.versions[1]},
            "seconds": round(self.seconds, 2),
            "steps": self.steps(),
            "scenarios": [
                {
                    "rollback_from": result.rollback_from,
                    "rollback_seconds": round(result.rollback_seconds, 3),
                    "rows": result.row_diff.rows,
                    "row_differences": result.row_diff.total,
                    "differences": list(result.differences),
                }
                for result in self.scenarios
            ],
            "writers": {key: value for key, value in asdict(self.writer_stats).items() if key != "slowest"},
            "limits": list(LIMITATIONS),
        }

    def steps(self) -> list[dict[str, Any]]:
        """One entry for each step, in the order of the strategy: the worst of all its runs."""
        found = []
        for spec in self.strategy.steps:
            runs = [m for m in self.step_metrics if m.step == spec.name and m.direction == "run"]
            undos = [m for m in self.step_metrics if m.step == spec.name and m.direction == "undo"]
            if runs:
                found.append(self._step_report(spec.name, runs, undos))
        return found

    def _step_report(self, name: str, runs: Sequence[StepMetrics], undos: Sequence[StepMetrics]) -> dict[str, Any]:
        worst = StepMetrics(name, "run")
        for metrics in (*runs, *undos):
            for mode, seconds in metrics.locks.items():
                worst.add_lock(mode, seconds)
        low, high = self._estimate_full_size(name, [metrics.seconds for metrics in runs])
        return {
            "step": name,
            "runs": len(runs),
            "seconds": round(max(metrics.seconds for metrics in runs), 3),
            "undo_seconds": round(max(metrics.seconds for metrics in undos), 3) if undos else None,
            "lock": worst.strongest_lock[0] if worst.strongest_lock else None,
            "lock_seconds": round(worst.strongest_lock[1], 3) if worst.strongest_lock else None,
            "blocked_seconds": round(max(metrics.blocked_seconds for metrics in (*runs, *undos)), 3),
            "slowest_write_seconds": round(max(metrics.slowest_write for metrics in (*runs, *undos)), 3),
            "wal_bytes": max(metrics.wal_bytes for metrics in runs),
            "full_seconds": [round(low, 2), round(high, 2)],
        }

    def _estimate_full_size(self, name: str, seconds: Sequence[float]) -> tuple[float, float]:
        """From and to how many seconds the step may take at the full size."""
        ratio = max(1.0, self.full_rows / self.rows) if self.rows else 1.0
        if name not in self.size_dependent:
            return min(seconds), 2 * max(seconds)
        low, high = min(seconds), max(seconds)
        if ratio > 1:
            low /= FASTER_FACTOR_IF_SHORT if low < RELIABLE_SECONDS else FASTER_FACTOR
        high *= SLOWER_FACTOR
        low, high = low * ratio, high * ratio
        if name == "backfill-rows" and self.max_rows_per_second:
            least = self.full_rows / self.max_rows_per_second
            return max(low, least), max(high, least)
        return low, high


def _describe_diff(result: ScenarioResult) -> str:
    row_diff = result.row_diff
    parts = [
        f"{count:,} rows {what}"
        for count, what in (
            (row_diff.missing, "are missing"),
            (row_diff.changed, "hold something else than was written"),
            (row_diff.unexpected, "exist that no writer wrote"),
        )
        if count
    ]
    return f"{' and '.join(parts)}, such as key {row_diff.sample}"


def find_unjudged(plan: Plan) -> list[str]:
    """What a rehearsal cannot judge of a plan."""
    rules = plan.guard.rules if plan.guard is not None else ()
    found = [f"guard rule {rule.name}: there are no pods and no traffic to observe" for rule in rules]
    images = ", ".join((plan.kubernetes.images.v2, plan.kubernetes.images.v3))
    found.append(f"rollouts, probes and drains of {plan.kubernetes.deployment} ({images}): no pod runs")
    if plan.regions is not None:
        found.append("the region gate: the rehearsal is of one database")
    return found


def format_rehearsal_report(report: dict[str, Any]) -> str:
    """The report for people."""
    size = f"{report['rows']:,} of {report['full_rows']:,} rows"
    kind = "production's own rows" if report["with_data"] else "made-up rows"
    lines = [
        f"{'✔ passed' if report['passed'] else '✗ failed'}: rehearsal of {report['plan']}, {size}, {kind},"
        f" {format_duration(report['seconds'])}",
        f"  PostgreSQL {report['postgres']['production']} in production, {report['postgres']['rehearsal']} here",
    ]
    lines += [f"  ✗ {reason}" for reason in report["reasons"]]
    lines += [f"  ! {warning}" for warning in report["warnings"]]
    if report["steps"]:
        lines += ["", f"  {'STEP':<17}{'TIME':>7}{'UNDO':>7}  {'LONGEST LOCK':<32}{'BLOCKED':>8}{'WAL':>9}  FULL SIZE"]
        lines += [_step_line(step) for step in report["steps"]]
    lines.append("")
    for result in report["scenarios"]:
        place = (
            f"rollback from {result['rollback_from']} in {result['rollback_seconds']:.1f}s"
            if result["rollback_from"]
            else "to the end"
        )
        lines.append(f"  {place}: {result['rows']:,} rows compared, {result['row_differences']:,} differ")
    writers = report["writers"]
    if writers["writes"]:
        lines.append(
            f"  writers: {writers['writes']:,} writes, {sum(writers['failures'].values())} failed,"
            f" {writers['retried']} retried after a deadlock, {writers['refused']} refused by an index or key"
        )
    lines += [f"  note: {note}" for note in report["notes"]]
    if unjudged := report.get("unjudged"):  # reports of earlier versions have none
        lines.append(f"  not judged ({len(unjudged)}): {'; '.join(unjudged)}")
    lines += [f"  not rehearsed: {report['limits'][0]}", *(f"  how: {limit}" for limit in report["limits"][1:])]
    return "\n".join(lines) + "\n"


def _step_line(step: dict[str, Any]) -> str:
    undo = f"{step['undo_seconds']:.2f}s" if step["undo_seconds"] is not None else "-"
    lock = f"{step['lock'].removesuffix('Lock')} {_short_seconds(step['lock_seconds'])}" if step["lock"] else "-"
    low, high = step["full_seconds"]
    return (
        f"  {step['step']:<17}{step['seconds']:>6.2f}s{undo:>7}  {lock:<32}{_short_seconds(step['blocked_seconds']):>8}"
        f"{_format_bytes(step['wal_bytes']):>9}  {format_duration(low)} to {format_duration(high)}"
    )


def _short_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _format_bytes(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
