"""One run: a release, a saboteur, an operator, and the comparison at the end."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import asyncpg

from tests.chaos.saboteur.acts import Position, Saboteur
from tests.chaos.saboteur.ledger import LedgerFile, read_ledger
from tests.chaos.saboteur.oracle import NEW, OLD, find_lost_objects, find_lost_rows, read_rows, read_schema
from tests.chaos.saboteur.production import HAND_ROWS, Production
from tests.chaos.saboteur.release_operator import ReleaseOperator
from tests.chaos.saboteur.script import SIZES, Size, make_script
from tests.chaos.saboteur.writers import Writers, run_writers

DONE = "done"
ROLLED_BACK = "rolled back as asked"
STOPPED = "refused or stopped with the right cause"
NO_CAUSE = "stopped without cause"
ROWS_LOST = "rows lost"
OBJECTS_LOST = "objects lost or left behind"
BROKEN_CLIENTS = "clients broken"

OUTCOMES = (DONE, ROLLED_BACK, STOPPED, NO_CAUSE, ROWS_LOST, OBJECTS_LOST, BROKEN_CLIENTS)
GOOD = (DONE, ROLLED_BACK, STOPPED)


@dataclass
class RunResult:
    """What a run has shown.

    Attributes:
        outcome: one of :data:`OUTCOMES`.
        problems: a line for each thing that is wrong.
        stops: where, which text, and the acts that it names.
        acts: those that were done, in order.
        corrected: rows that the operator corrected because the release had named them.
        writes: counts of the application's writes.
        log: what happened, with seconds.
    """

    seed: int
    title: str
    outcome: str
    state: str
    problems: list[str] = field(default_factory=list)
    stops: list[dict[str, Any]] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    agent_exits: list[str] = field(default_factory=list)
    corrected: int = 0
    writes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.outcome in GOOD

    def report(self) -> str:
        """Everything about the run, for a person."""
        lines = [f"seed {self.seed}: {self.outcome} (release {self.state}, {self.seconds:.0f} s)", f"  {self.title}"]
        lines += [f"  ✗ {problem}" for problem in self.problems[:20]]
        lines += [
            f"  stop in {s['where']}: {s['text'][:600]}  <- {', '.join(s['acts']) or 'no act'}" for s in self.stops
        ]
        lines += [f"  {line}" for line in self.log]
        return "\n".join(lines)


async def run_seed(production: Production, seed: int, size_name: str) -> RunResult:
    """Runs one seed on a production that is up; prepares it first."""
    size = SIZES[size_name]
    script = make_script(seed, size)
    began = time.monotonic()
    log: list[str] = []

    def say(text: str) -> None:
        if not log or not log[-1].endswith(text):
            log.append(f"{time.monotonic() - began:6.1f}  {text}")

    await production.prepare(script, size)
    async with production.connect() as connection:
        before = await read_schema(connection, "public.users")
    folder = production.env.folder
    files = folder / f"ledger-{seed}.jsonl", folder / f"hand-{seed}.jsonl"
    for file in files:
        file.unlink(missing_ok=True)
    own = {row_id: content for row_id, content in production.seeded.items() if row_id > HAND_ROWS}
    hand, position = LedgerFile(files[1]), Position()
    saboteur = Saboteur(production, script.moments, hand, position, say)
    async with run_writers(production.env.kubeconfig, files[0], own, size.rate, seed) as writers:

        async def correct_rows() -> int:
            return await _correct_rows(production, writers, script.kind, files)

        operator = ReleaseOperator(production, saboteur, position, script.rollback, size.seconds, correct_rows, say)
        interfering = asyncio.create_task(saboteur.run())
        try:
            await operator.run()
            await interfering
        finally:
            interfering.cancel()
            if "agent" in production.env.processes:
                await production.env.stop("agent")
        if operator.state == "rolled-back":
            await _rename_old_column_back(saboteur, say)
        served = await writers.wait_for_writes(15, 20)
        counts = writers.counts
    hand.close()

    state = operator.state
    has_not_null = "SET NOT NULL" in production.plan_text
    expected = read_ledger(production.seeded.items(), *files)
    async with production.connect() as connection:
        rows = await find_lost_rows(connection, expected, script.kind, state)
        objects = await find_lost_objects(connection, before, script.kind, state, has_not_null=has_not_null)
    result = RunResult(
        seed,
        script.title,
        DONE,
        state,
        stops=[asdict(stop) for stop in operator.stops],
        acts=[f"{act.phase}: {act.text}" for act in saboteur.done],
        agent_exits=operator.agent_exits,
        corrected=operator.corrected,
        writes=counts,
        seconds=time.monotonic() - began,
        log=log,
    )
    broken = [*saboteur.complaints]
    if not served and state in ("done", "rolled-back"):
        broken.append("the application acknowledges no writes after the release has ended")
    _judge(result, operator, rows, objects, broken)
    return result


def _judge(
    result: RunResult, operator: ReleaseOperator, rows: list[str], objects: list[str], broken: list[str]
) -> None:
    """The worst thing decides the outcome; the others stay in the problems."""
    unexplained = [stop for stop in operator.stops if not stop.acts]
    has_ended = result.state in ("done", "rolled-back")
    result.problems = [*rows, *objects, *broken]
    result.problems += [f"stopped without cause: {stop.where}: {stop.text[:500]}" for stop in unexplained]
    if not has_ended and not operator.stops:
        result.problems.append(f"no end within the limit: {operator.status[:800]}")
    if rows:
        result.outcome = ROWS_LOST
    elif objects:
        result.outcome = OBJECTS_LOST
    elif broken:
        result.outcome = BROKEN_CLIENTS
    elif unexplained or (not has_ended and not operator.stops):
        result.outcome = NO_CAUSE
    elif not has_ended or operator.chose_rollback:
        result.outcome = STOPPED
    elif result.state == "rolled-back":
        result.outcome = ROLLED_BACK


async def _rename_old_column_back(saboteur: Saboteur, say: Callable[[str], None]) -> None:
    """The old table is the application's own. A rollback relies on none of its columns, so whoever renamed one repairs
    it; a release that is under way or done has to notice it."""
    for act in saboteur.done:
        if act.name == "rename-column" and "last_name" in act.text and act.repair and not act.is_repaired:
            with suppress(asyncpg.PostgresError):
                say(f"owner of the table: {await act.repair()}")


async def _correct_rows(production: Production, writers: Writers, kind: str, files: tuple[Any, Any]) -> int:
    """Sets both sides of every row that differs to what its writer wrote: the operator has asked the writers."""
    async with writers.paused(), production.connect("operator-psql") as connection:
        expected = read_ledger(production.seeded.items(), *files)
        old, new = await read_rows(connection, OLD), await read_rows(connection, NEW[kind])
        if old is None or new is None:
            return 0
        count = 0
        for row_id in sorted(old.keys() | new.keys()):
            sides = old.get(row_id), new.get(row_id)
            possible = expected.rows.get(row_id)
            if sides[0] == sides[1] or possible is None:
                continue
            content = next((side for side in reversed(sides) if side in possible), next(iter(possible)))
            with suppress(asyncpg.PostgresError):
                async with connection.transaction():
                    await _write_both_sides(connection, kind, row_id, content)
                count += 1
        return count


async def _write_both_sides(connection: asyncpg.Connection, kind: str, row_id: int, content: Any) -> None:
    if content is None:
        await connection.execute("DELETE FROM public.users WHERE id = $1", row_id)
        if kind == "table":
            await connection.execute("DELETE FROM public.people WHERE id = $1", row_id)
        return
    first, _, last = content[0].partition(" ")
    full = ", full_name" if kind == "column" else ""
    values = [row_id, first, last, content[1], *([content[0]] if full else [])]
    await connection.execute(
        f"INSERT INTO public.users (id, first_name, last_name, email{full})"
        f" VALUES ($1, $2, $3, $4{', $5' if full else ''})"
        " ON CONFLICT (id) DO UPDATE SET first_name = excluded.first_name, last_name = excluded.last_name,"
        f" email = excluded.email{', full_name = excluded.full_name' if full else ''}",
        *values,
    )
    if kind == "table":
        await connection.execute(
            "INSERT INTO public.people (id, full_name, email) VALUES ($1, $2, $3)"
            " ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name, email = excluded.email",
            row_id, content[0], content[1],
        )  # fmt: skip


def summary_table(results: list[RunResult], size: Size) -> str:
    """Outcomes with counts, and the acts that were done."""
    lines = [
        f"{len(results)} seeds, {sum(each.writes.get('done', 0) for each in results):,} acknowledged writes,"
        f" {sum(len(each.acts) for each in results)} acts, {size.rows} rows"
    ]
    for outcome in OUTCOMES:
        found = [each for each in results if each.outcome == outcome]
        lines.append(f"  {outcome:<42} {len(found):>5}")
    return "\n".join(lines)
