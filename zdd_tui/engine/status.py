"""`zdd status`: where a release stands, in words or as JSON, now or once it has come somewhere."""

import asyncio
import json
from typing import Any, TextIO

from zdd_tui.backends.store import Store
from zdd_tui.engine.operate import EXIT_TIMEOUT, find_release
from zdd_tui.model.duration import human_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.gate import Verdict
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.release import State, closed_gates, readings

GLYPH = {Verdict.PASS: "✔", Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "~", Verdict.UNKNOWN: "?"}


async def status(loaded: LoadedPlan, *, as_json: bool, wait: str | None, timeout: float, out: TextIO) -> int:
    """Writes the status.

    Args:
        wait: a phase that is to be ready to be left, or a final state.
        timeout: seconds to wait.

    Returns:
        0; 1 when the release failed or ended elsewhere while we waited; 4 when the wait ran out.
    """
    code = 0
    async with await Store.open(loaded.plan.database.dsn.get_secret_value()) as store:
        release_id = await find_release(store, loaded)
        record = await store.read(release_id)
        if wait is not None:
            _known(record, wait)
            record, code = await _wait(store, release_id, wait, timeout)
    out.write(json.dumps(as_document(record), indent=2) + "\n" if as_json else as_text(record))
    return code


def _known(record: ReleaseRecord, wait: str) -> None:
    places = [phase.name for phase in record.release.strategy.phases] + [State.DONE.value, State.ROLLED_BACK.value]
    if wait not in places:
        raise PlanError(f"--wait {wait}: there is no such phase or end", f"one of: {', '.join(places)}")


async def _wait(store: Store, release_id: int, wait: str, timeout: float) -> tuple[ReleaseRecord, int]:
    try:
        async with asyncio.timeout(timeout):
            async for _ in store.changes(release_id):
                record = await store.read(release_id)
                code = arrived(record, wait)
                if code is not None:
                    return record, code
    except TimeoutError:
        pass
    return await store.read(release_id), EXIT_TIMEOUT


def arrived(record: ReleaseRecord, wait: str) -> int | None:
    """0 when the release is where it is waited for, 1 when it can no longer come there by itself, else None."""
    release = record.release
    if wait == release.state.value:
        return 0
    names = [phase.name for phase in release.strategy.phases]
    if wait in names and not release.state.backwards:
        target = names.index(wait)
        if release.phase > target or release.state is State.DONE:
            return 0
        if release.phase == target and release.state is State.WAITING:
            return None if closed_gates(release, record.gates, record.now) else 0
    if release.state in (State.FAILED, State.ROLLBACK_FAILED) or release.state.ended:
        return 1
    return 1 if release.state.backwards and wait != State.ROLLED_BACK.value else None


def as_document(record: ReleaseRecord) -> dict[str, Any]:
    """The status for scripts; keys are only ever added."""
    release, lease, backfill = record.release, record.lease, record.backfill
    return {
        "name": release.name,
        "environment": record.environment,
        "strategy": release.strategy.name,
        "state": str(release.state),
        "phase": release.current.name if release.current else None,
        "next_phase": release.next.name if release.next else None,
        "paused": release.paused,
        "error": release.error or None,
        "plan_hash": release.plan_hash,
        "agent": None
        if lease is None or not lease.live
        else {"holder": lease.holder, "host": lease.host, "pid": lease.pid, "epoch": lease.epoch, "age": lease.age},
        "gates": [
            {
                "name": gate.name,
                "verdict": str(gate.verdict),
                "reason": gate.reason,
                "age": round(gate.age(record.now), 1),
            }
            for gate in readings(release, record.gates, record.now)
        ],
        "steps": [
            {"name": step.name, "status": str(step.status), "note": step.note or None, "error": step.error or None}
            for step in record.steps
        ],
        "backfill": None
        if backfill is None
        else {
            "status": backfill.status,
            "rows_done": backfill.rows_done,
            "rows_total": backfill.rows_total,
            "rows_per_second": round(backfill.rate, 1),
            "throttle": backfill.throttle or None,
            "failed_rows": backfill.failed_rows,
            "verified_rows": backfill.verified_rows,
            "mismatches": backfill.mismatches,
        },
        "created_at": record.created_at,
        "finished_at": record.finished_at,
        "now": record.now,
    }


def as_text(record: ReleaseRecord) -> str:
    """The status for people: the first line says what matters most."""
    release = record.release
    place = f" in {release.current.name}" if release.current and not release.state.ended else ""
    lines = [f"{release.name}: {release.state}{place}{' (paused)' if release.paused else ''}   [{record.environment}]"]
    if release.error:
        lines.append(f"  ✗ {release.error}")
    for gate in readings(release, record.gates, record.now):
        age = human_duration(gate.age(record.now))
        lines.append(f"  {GLYPH[gate.verdict]} {gate.name}: {gate.verdict}, {gate.reason} ({age} ago)")
    lines += [f"  … {step.name}: {step.note}" for step in record.steps if step.note]
    if (backfill := record.backfill) is not None:
        lines.append(f"  backfill {backfill.status}: {backfill.rows_done:,} of {backfill.rows_total:,} rows")
    lease = record.lease
    if lease is not None and lease.live:
        lines.append(f"  agent {lease.holder}@{lease.host}, epoch {lease.epoch}, {human_duration(lease.age)} ago")
    elif not release.state.ended:
        lines.append("  ✗ NO AGENT holds the lease: nothing will happen; start one with `zdd agent PLAN`")
    return "\n".join(lines) + "\n"
