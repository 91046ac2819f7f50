"""What a seed decides: the kind of release, the acts and their moments, and whether a rollback is asked for. Pure."""

import random
from dataclasses import dataclass

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
ROLLBACK = "rollback"
"""In place of a phase: the moment is counted from the start of the rollback."""

WEIGHTS = {
    "revert-image": 4,
    "set-third-image": 1,
    "delete-flags": 3,
    "flush-redis": 2,
    "disable-trigger": 3,
    "drop-trigger": 2,
    "write-by-hand": 5,
    "drop-index": 2,
    "rename-column": 2,
    "scale": 2,
    "end-sessions": 3,
    "kill-agent": 3,
    "kill-postgres": 2,
    "kill-redis": 2,
    "freeze-kubernetes": 1,
}
"""How often each act is chosen."""

SINCE = {
    "revert-image": PHASES[1:5],
    "set-third-image": PHASES[:5],
    "delete-flags": PHASES[1:5],
    "flush-redis": PHASES[1:5],
    "disable-trigger": PHASES[:5],
    "drop-trigger": PHASES[:5],
    "write-by-hand": PHASES[:5],
    "drop-index": PHASES[:5],
    "rename-column": PHASES[:5],
    "scale": PHASES[:5],
}
"""The phases in which an act can be done at all. What changes objects is not done in cleanup, the last phase: the
release could end before anybody can notice it. All others are possible in every phase, and every act in a rollback."""


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        rows: seeded rows.
        soaks: milliseconds, of which a plan has one.
        rate: write requests a second of all writers.
        replicas: pods of the application before anybody changes that.
        acts: fewest and most acts.
        seconds: limit for the whole run, from the first advance.
    """

    rows: int
    rate: float
    acts: tuple[int, int]
    seconds: float
    replicas: int
    soaks: tuple[int, ...]


SIZES = {
    "short": Size(300, 20, (1, 2), 75, replicas=1, soaks=(200, 400)),
    "long": Size(1500, 40, (2, 5), 180, replicas=2, soaks=(200, 1000, 2000)),
}


@dataclass(frozen=True)
class Moment:
    """An act and when it is done.

    Attributes:
        phase: the phase, or ``rollback``, from whose start the delay is counted.
        after_steps: the delay is counted from the end of the phase's steps instead.
        delay: seconds.
        is_awaited: the operator does not leave the phase before the act.
        draw: a number from 0 to 1 that decides what is left to decide, such as which trigger.
    """

    act: str
    phase: str
    after_steps: bool
    delay: float
    is_awaited: bool
    draw: float


@dataclass(frozen=True)
class Script:
    """Everything that a seed decides.

    Attributes:
        soak: of the plan, in milliseconds.
        rows_per_second: limit of the backfill; None for none.
        rollback: phase and seconds after its start at which the operator asks for a rollback; None for never.
    """

    seed: int
    kind: str
    mode: str
    soak: int
    rows_per_second: int | None
    rollback: tuple[str, float] | None
    moments: tuple[Moment, ...]

    @property
    def title(self) -> str:
        acts = ", ".join(
            f"{each.act} in {each.phase}{' at its end' if each.after_steps else ''} +{each.delay:.1f}s"
            for each in self.moments
        )
        way = f"; rollback in {self.rollback[0]} +{self.rollback[1]:.1f}s" if self.rollback else ""
        return f"{self.kind}, {self.mode}: {acts}{way}"


def make_script(seed: int, size: Size) -> Script:
    """The same seed and size give the same script."""
    rng = random.Random(f"saboteur:{seed}")
    kind, mode = rng.choice(("column", "table")), rng.choice(("application", "trigger"))
    rollback = None
    if rng.random() < 0.3:
        rollback = (rng.choice(PHASES[1:]), round(rng.uniform(0.2, 4.0), 2))
    moments = [_moment(rng, rollback[0] if rollback else None) for _ in range(rng.randint(*size.acts))]
    order = {phase: number for number, phase in enumerate((*PHASES, ROLLBACK))}
    moments.sort(key=lambda each: (order[each.phase], each.after_steps, each.delay))
    return Script(
        seed,
        kind,
        mode,
        rng.choice(size.soaks),
        rng.choice((None, size.rows // 2)),
        rollback,
        tuple(moments),
    )


def _moment(rng: random.Random, last: str | None) -> Moment:
    """`last` is the phase in which the rollback is asked for."""
    act = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    phases = [phase for phase in SINCE.get(act, PHASES) if last is None or PHASES.index(phase) <= PHASES.index(last)]
    if last is not None:
        phases += [ROLLBACK] * 2
    phase = rng.choice(phases)
    after_steps = phase != ROLLBACK and rng.random() < 0.6
    delay = rng.uniform(0.0, 1.0 if after_steps else 4.0)
    return Moment(act, phase, after_steps, round(delay, 2), rng.random() < 0.7, rng.random())
