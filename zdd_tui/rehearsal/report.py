"""The verdict of a rehearsal, and what its figures mean for the full size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zdd_tui.model.duration import human_duration
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.rehearsal.scenario import Walk
from zdd_tui.rehearsal.step_metrics import LOOK_EVERY, Measure
from zdd_tui.rehearsal.workload import Tally

ROW_BOUND = frozenset({"create-indexes", "backfill-rows", "verify-rows"})
"""Steps whose time grows with the table; the others change the catalog, flags or pods."""

TOO_SHORT = 1.0
"""Seconds below which a figure is mostly start and end, and says little about a larger table."""

SLOWER, FASTER, FASTER_IF_SHORT = 3.0, 1.5, 5.0
"""How far the full size may be from a straight line: a table that memory does not hold, other disks, other load."""

LIMITS = (
    "no pods were rolled out and no other service was asked: rollouts were answered at once, probes and drains are"
    " not part of this",
    "WAL and waits are with this rehearsal's own writers, not with production's traffic",
    f"locks are told by the transactions that held them, and from outside every {LOOK_EVERY * 1000:.0f} ms",
)


@dataclass(slots=True)
class Outcome:
    """Everything that was found.

    Attributes:
        rows, full_rows: of the plan's table, rehearsed and in production.
        reasons: why it failed; empty where it passed.
        warnings: what an operator should know all the same.
        notes: what could not be brought over or made up.
        wait_limit: seconds that a write may wait for a lock before the rehearsal fails.
        ceiling: rows a second that the plan allows its backfill; None for no ceiling.
    """

    name: str
    plan_hash: str
    strategy: Strategy
    rows: int
    full_rows: int
    with_data: bool
    versions: tuple[int, int]
    wait_limit: float
    ceiling: int | None
    seconds: float = 0.0
    walks: list[Walk] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def scale(self) -> float:
        """Share of production's rows."""
        return self.rows / self.full_rows if self.full_rows else 1.0

    def judge(self) -> None:
        """Adds the reasons that the walks and the writers give."""
        for walk in self.walks:
            place = f"after the way back from {walk.back_from}" if walk.back_from else "at the end"
            if walk.losses.lost:
                self.reasons.append(f"{place} {_told(walk)}")
            if walk.differences:
                self.reasons.append(f"{place} it is not as it was: {'; '.join(walk.differences[:3])}")
        for text, count in sorted(self.tally.failures.items(), key=lambda item: -item[1])[:3]:
            self.reasons.append(f"{count} writes of the application failed: {text}")
        for measure in self.measures:
            if measure.blocked > self.wait_limit:
                self.reasons.append(
                    f"{measure.step} kept a write waiting for {human_duration(measure.blocked)};"
                    f" allowed is {human_duration(self.wait_limit)}"
                )

    def to_json(self) -> dict[str, Any]:
        """The report as data; it is stored so."""
        return {
            "plan": self.name,
            "plan_hash": self.plan_hash,
            "passed": self.passed,
            "reasons": self.reasons,
            "warnings": self.warnings,
            "notes": self.notes,
            "rows": self.rows,
            "full_rows": self.full_rows,
            "scale": round(self.scale, 6),
            "with_data": self.with_data,
            "postgres": {"production": self.versions[0], "rehearsal": self.versions[1]},
            "seconds": round(self.seconds, 2),
            "steps": self.steps(),
            "walks": [
                {
                    "back_from": walk.back_from,
                    "back_seconds": round(walk.back_seconds, 3),
                    "rows": walk.losses.rows,
                    "lost": walk.losses.lost,
                    "differences": list(walk.differences),
                }
                for walk in self.walks
            ],
            "writers": {key: value for key, value in asdict(self.tally).items() if key != "slowest"},
            "limits": list(LIMITS),
        }

    def steps(self) -> list[dict[str, Any]]:
        """One entry for each step, in the order of the strategy: the worst of all its runs."""
        found = []
        for spec in self.strategy.steps:
            runs = [m for m in self.measures if m.step == spec.name and m.direction == "run"]
            undos = [m for m in self.measures if m.step == spec.name and m.direction == "undo"]
            if runs:
                found.append(self._step(spec.name, runs, undos))
        return found

    def _step(self, name: str, runs: Sequence[Measure], undos: Sequence[Measure]) -> dict[str, Any]:
        worst = Measure(name, "run")
        for measure in (*runs, *undos):
            for mode, seconds in measure.locks.items():
                worst.held(mode, seconds)
        low, high = self._full(name, [measure.seconds for measure in runs])
        return {
            "step": name,
            "runs": len(runs),
            "seconds": round(max(measure.seconds for measure in runs), 3),
            "undo_seconds": round(max(measure.seconds for measure in undos), 3) if undos else None,
            "lock": worst.strongest[0] if worst.strongest else None,
            "lock_seconds": round(worst.strongest[1], 3) if worst.strongest else None,
            "blocked_seconds": round(max(measure.blocked for measure in (*runs, *undos)), 3),
            "slowest_write_seconds": round(max(measure.slowest for measure in (*runs, *undos)), 3),
            "wal_bytes": max(measure.wal for measure in runs),
            "full_seconds": [round(low, 2), round(high, 2)],
        }

    def _full(self, name: str, seconds: Sequence[float]) -> tuple[float, float]:
        """From and to how many seconds the step may take at the full size."""
        ratio = max(1.0, self.full_rows / self.rows) if self.rows else 1.0
        if name not in ROW_BOUND:
            return min(seconds), 2 * max(seconds)
        low, high = min(seconds), max(seconds)
        if ratio > 1:
            low /= FASTER_IF_SHORT if low < TOO_SHORT else FASTER
        high *= SLOWER
        low, high = low * ratio, high * ratio
        if name == "backfill-rows" and self.ceiling:
            least = self.full_rows / self.ceiling
            return max(low, least), max(high, least)
        return low, high


def _told(walk: Walk) -> str:
    losses = walk.losses
    parts = [
        f"{count:,} rows {what}"
        for count, what in (
            (losses.missing, "are missing"),
            (losses.changed, "hold something else than was written"),
            (losses.strange, "are there that nobody wrote"),
        )
        if count
    ]
    return f"{' and '.join(parts)}, such as key {losses.sample}"


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    size = f"{report['rows']:,} of {report['full_rows']:,} rows"
    kind = "production's own rows" if report["with_data"] else "made-up rows"
    lines = [
        f"{'✔ passed' if report['passed'] else '✗ failed'}: rehearsal of {report['plan']}, {size}, {kind},"
        f" {human_duration(report['seconds'])}",
        f"  PostgreSQL {report['postgres']['production']} in production, {report['postgres']['rehearsal']} here",
    ]
    lines += [f"  ✗ {reason}" for reason in report["reasons"]]
    lines += [f"  ! {warning}" for warning in report["warnings"]]
    if report["steps"]:
        lines += ["", f"  {'STEP':<17}{'TIME':>7}{'UNDO':>7}  {'LONGEST LOCK':<32}{'BLOCKED':>8}{'WAL':>9}  FULL SIZE"]
        lines += [_line(step) for step in report["steps"]]
    lines.append("")
    for walk in report["walks"]:
        place = f"back from {walk['back_from']} in {walk['back_seconds']:.1f}s" if walk["back_from"] else "to the end"
        lines.append(f"  {place}: {walk['rows']:,} rows compared, {walk['lost']:,} lost")
    writers = report["writers"]
    lines.append(
        f"  writers: {writers['writes']:,} writes, {sum(writers['failures'].values())} failed,"
        f" {writers['retried']} retried after a deadlock, {writers['refused']} refused by an index or key"
    )
    lines += [f"  note: {note}" for note in report["notes"]]
    lines += [f"  not rehearsed: {report['limits'][0]}", *(f"  how: {limit}" for limit in report["limits"][1:])]
    return "\n".join(lines) + "\n"


def _line(step: dict[str, Any]) -> str:
    undo = f"{step['undo_seconds']:.2f}s" if step["undo_seconds"] is not None else "-"
    lock = f"{step['lock'].removesuffix('Lock')} {_short(step['lock_seconds'])}" if step["lock"] else "-"
    low, high = step["full_seconds"]
    return (
        f"  {step['step']:<17}{step['seconds']:>6.2f}s{undo:>7}  {lock:<32}{_short(step['blocked_seconds']):>8}"
        f"{_bytes(step['wal_bytes']):>9}  {human_duration(low)} to {human_duration(high)}"
    )


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _bytes(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
