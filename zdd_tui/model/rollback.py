"""What an operator must know before a rollback: what users see now, what is lost, how long it took before.

Nothing here is estimated. What is not known is said to be unknown, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.operations.base import DroppedData
from zdd_tui.model.operations.generated import NEW_PREFIX
from zdd_tui.model.queries import ChangeView, Query
from zdd_tui.model.release.claims import is_current
from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord
from zdd_tui.model.release.state import Release, StepStatus, steps_to_undo
from zdd_tui.model.release.system import System, systems_of_undo


class FactTone(StrEnum):
    """How a fact looks on screen."""

    NORMAL = "normal"
    WARNING = "warning"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class RollbackFact:
    """One line of the confirmation: a label in capitals, and a text."""

    label: str
    text: str
    tone: FactTone = FactTone.NORMAL


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the screen knows about the traffic.

    Attributes:
        flag_percent: share that the flag gives to the new side, the new path or the new image; None where there is no
            such flag, or it is not known.
        flag_problem: why the flag is not known; empty where it is, or where there is none.
        serving: number of serving pods; None where it is not known.
        serving_new: of them, with the newest image of the release.
        pods_problem: why the pods are not known, else empty.
        lost: the systems of the release that do not respond now, the most needed first.
    """

    flag_percent: int | None = None
    flag_problem: str = ""
    serving: int | None = None
    serving_new: int = 0
    pods_problem: str = ""
    lost: tuple[System, ...] = ()


@dataclass(frozen=True, slots=True)
class NewSideCount:
    """Rows whose value on the new side cannot be computed from the old side.

    Attributes:
        compared: rows that were compared.
        lost: of them, those that hold such a value.
        is_complete: every row in question was compared.
        is_whole: every row of the table is in question, not only those written since the verification.
        other_columns: columns of the new side that no expression of the plan fills: they were not compared.
    """

    compared: int
    lost: int
    is_complete: bool
    is_whole: bool = False
    other_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DroppedCount:
    """How many rows of a dropped table, or values of a dropped column, are lost.

    Attributes:
        count: None where it is not known; `error` says why.
        is_complete: False where only a part of the rows was read in time: then there are at least so many.
        has_default: values that equal the default of the column were left out.
        exists: False where the database has no such column or table, because no step has added it yet.
    """

    count: int | None = None
    is_complete: bool = True
    has_default: bool = False
    exists: bool = True
    error: str = ""


@dataclass(frozen=True, slots=True)
class RehearsedRollback:
    """The newest rehearsal of this version of the plan.

    Attributes:
        at: seconds since the epoch, by the database's clock.
        scale: rows that it ran with, as a share of production's.
        seconds: duration of the rollback, by the last phase before it.
    """

    at: float
    passed: bool
    scale: float
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastRollback:
    """The last rollback of a release with the same strategy in this database.

    Attributes:
        phase: the release's phase when it began.
        seconds: from the agent's acceptance of the command to the last undo.
        at: when it ended, in seconds since the epoch by the database's clock.
    """

    release: str
    phase: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class RollbackHistory:
    """What is read for the confirmation of a rollback.

    Attributes:
        count: None where nothing was counted; ``count_error`` says why.
        losses: of operations: rows with values that the rollback could not keep; None where that was not read.
        dropped: of operations: the columns and tables that the undo of each step drops; None where that is not known.
        dropped_counts: what is in them.
        problem: why nothing could be read; else empty.
    """

    rehearsal: RehearsedRollback | None = None
    last: PastRollback | None = None
    count: NewSideCount | None = None
    count_error: str = ""
    losses: tuple[str, ...] | None = None
    problem: str = ""
    dropped: Mapping[str, tuple[DroppedData, ...]] | None = None
    dropped_counts: Mapping[DroppedData, DroppedCount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RollbackQuery(Query[RollbackHistory]):
    """What is known about a rollback of the shown release."""


def describe_rollback_facts(
    strategy: str,
    change: ChangeView | None,
    record: ReleaseRecord,
    traffic: Traffic,
    history: RollbackHistory | None,
    now: float,
    history_age: float = 0.0,
) -> tuple[RollbackFact, ...]:
    """Everything that the confirmation of a rollback shows above the steps to undo, on screen and in the shell.

    Args:
        change: None for a strategy without a schema change.
        history: None while it is being read.
        now: seconds since the epoch, by the database's clock.
        history_age: seconds since the history was read.
    """
    return (
        *describe_traffic(strategy, record.release, traffic),
        *describe_waits(record.release, traffic.lost),
        *describe_loss(change, record, history, history_age),
        *describe_duration(record.release, history, now),
    )


# --- users ----------------------------------------------------------------------------------------------------------


def describe_traffic(strategy: str, release: Release, traffic: Traffic) -> tuple[RollbackFact, ...]:
    """What users see now, and which undo ends that."""
    names = [step.name for step in release.strategy.steps]
    if strategy == "expand-contract" and "expand-schema" in names:
        return _describe_reads(release, traffic)
    if strategy == "expand-contract" and "rollout-new" not in names:  # of operations
        return (RollbackFact("USERS NOW", "the running code stays as it is: this plan rolls out no image"),)
    parts = []
    if traffic.flag_percent is not None:
        parts.append(f"{traffic.flag_percent}% of users get the new path, by the flag")
    elif traffic.flag_problem:
        parts.append(f"unknown, {traffic.flag_problem}")
    parts.append(_describe_pods(traffic, "run the new image"))
    undone = [spec.name for spec in steps_to_undo(release)]
    if strategy == "expand-contract" and "rollout-new" in undone:
        parts.append(f"the image before is back with undo {undone.index('rollout-new') + 1} of {len(undone)}")
    is_unknown = bool(traffic.flag_problem or traffic.pods_problem)
    return (RollbackFact("USERS NOW", "; ".join(parts), FactTone.WARNING if is_unknown else FactTone.NORMAL),)


def _describe_pods(traffic: Traffic, what: str) -> str:
    if traffic.serving is None:
        return f"unknown, {traffic.pods_problem or 'the pods were not read yet'}"
    return f"{traffic.serving_new} of {traffic.serving} serving pods {what}"


def _describe_reads(release: Release, traffic: Traffic) -> tuple[RollbackFact, ...]:
    has_v3 = _has_effect(release, "rollout-v3")
    flag, serving = traffic.flag_percent, traffic.serving
    only_v3 = bool(serving) and traffic.serving_new == serving
    if has_v3 and serving is None:
        return (
            RollbackFact("USERS NOW", _describe_pods(traffic, ""), FactTone.WARNING),
            *_reads_return(release, None, traffic.lost),
        )
    if flag is None and not only_v3:
        if not traffic.flag_problem and not _has_effect(release, "write-flag-on"):
            return (RollbackFact("USERS NOW", "every read is from the old side: no flag moves reads yet"),)
        problem = traffic.flag_problem or "the read flag does not exist"
        pods = f"; {_describe_pods(traffic, 'are V3')}" if has_v3 else ""
        return (
            RollbackFact("USERS NOW", f"unknown, {problem}{pods}", FactTone.WARNING),
            *_reads_return(release, traffic.serving_new, traffic.lost),
        )
    share = 100.0 if only_v3 else float(flag or 0)
    if has_v3 and serving and not only_v3:
        share = (100 * traffic.serving_new + share * (serving - traffic.serving_new)) / serving
    side = (
        "every read is from the old side"
        if share == 0
        else "every read is from the new side"
        if share == 100
        else f"about {share:.0f}% of reads are from the new side"
    )
    why = [] if flag is None else [f"read flag {'off' if flag == 0 else f'{flag}%'}"]
    if has_v3:
        why.append(_describe_pods(traffic, "are V3"))
    return (
        RollbackFact("USERS NOW", f"{side} ({'; '.join(why)})" if why else side),
        *_reads_return(release, traffic.serving_new if share else 0, traffic.lost),
    )


def _reads_return(release: Release, serving_v3: int | None, lost: tuple[System, ...]) -> tuple[RollbackFact, ...]:
    """When reads are back on the old side.

    Args:
        serving_v3: None where it is not known.
        lost: see :class:`Traffic`.
    """
    names = [spec.name for spec in steps_to_undo(release)]
    moving = [at for at, spec in enumerate(steps_to_undo(release), 1) if spec.moves_reads]
    if not moving:
        return ()
    after = "" if moving[0] == 1 else ", once the old side is restored"
    wait = _find_wait(release, lost)
    is_held = wait is not None and wait[0] <= moving[0]
    when = "at once"
    if wait is not None and is_held:
        when = f"{'' if wait[2] else 'perhaps '}only once {_describe_return(wait[1])},"
    parts = [f"{when} by the read flag (undo {moving[0]} of {len(names)}{after})"]
    if "rollout-v3" in names and serving_v3 != 0:
        parts.append(f"those of V3 pods with undo {names.index('rollout-v3') + 1} (rollout-v3)")
    return (RollbackFact("READS BACK", "; ".join(parts), FactTone.WARNING if is_held else FactTone.NORMAL),)


def describe_waits(release: Release, lost: tuple[System, ...]) -> tuple[RollbackFact, ...]:
    """Which undo waits for a lost system; none runs after it before that responds.

    Args:
        lost: see :class:`Traffic`.
    """
    wait = _find_wait(release, lost)
    if wait is None:
        return ()
    at, system, is_certain = wait
    specs = steps_to_undo(release)
    undo = f"undo {at} of {len(specs)} ({specs[at - 1].name})"
    until = f"until {_describe_return(system)}"
    if not is_certain:
        text = f"{undo}, of a step that has not ended, may wait {until}, or run at once"
    else:
        text = f"{'every undo waits' if at == 1 else f'{undo} and all after it wait'} {until}"
    return (RollbackFact("WAITS", text, FactTone.WARNING),)


def _describe_return(system: System) -> str:
    return "an agent runs the release" if system is System.AGENT else f"{system} responds"


def _find_wait(release: Release, lost: tuple[System, ...]) -> tuple[int, System, bool] | None:
    """Number of the first undo that may need a lost system, from 1, the system, and whether it certainly needs it: how
    far a step has come that has not ended is not known."""
    for at, spec in enumerate(steps_to_undo(release), 1):
        has_run = release.status(spec.name) in (StepStatus.DONE, StepStatus.UNDOING, StepStatus.UNDO_FAILED)
        for system in lost:
            if system in systems_of_undo(release.strategy, spec):
                return at, system, has_run or system in (System.AGENT, System.POSTGRESQL)
    return None


def _has_effect(release: Release, step: str) -> bool:
    return any(
        spec.name == step and status.has_effect
        for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
    )


# --- what is lost ---------------------------------------------------------------------------------------------------


def describe_loss(
    change: ChangeView | None, record: ReleaseRecord, history: RollbackHistory | None, history_age: float = 0.0
) -> tuple[RollbackFact, ...]:
    """Which data of the application a rollback drops.

    Args:
        change: None for a strategy without a schema change.
        history: None while it is being read.
        history_age: seconds since it was read: rows are counted once, because counting takes seconds.
    """
    release = record.release
    counted = "" if is_current(history_age) else f" (counted {format_duration(float(int(history_age)))} ago)"
    if change is None and release.strategy.name == "expand-contract":
        return (*_describe_dropped(record, history, counted), *_describe_operation_losses(history, counted))
    if change is None:
        return (
            RollbackFact("LOST", "no data: images, traffic and flags change; what the new image has written stays"),
        )
    if not _has_effect(release, "expand-schema"):
        return (RollbackFact("LOST", "no data: the new side does not exist yet"),)
    facts = [RollbackFact("LOST", f"{_new_side(change)}, {_describe_copied(record.backfill)}")]
    if release.status("verify-rows") is not StepStatus.DONE:
        facts.append(
            RollbackFact(
                "", "whether it holds values that the old side lacks is not known until verify-rows has compared them"
            )
        )
    else:
        facts.append(_describe_count(history, counted))
        if history is not None and history.count is not None and history.count.other_columns:
            names = ", ".join(history.count.other_columns)
            facts.append(
                RollbackFact(
                    "", f"not compared, and dropped too: {names}, which change.up does not fill", FactTone.LOSS
                )
            )
    if record.witness.open_rows:
        differ = count_noun(record.witness.open_rows, "row differs", "rows differ")
        stays = "the old side’s stay"
        if _has_effect(release, "rollout-v3"):
            stays = "the newer side stays where it is proved, else the rollback stops and names them"
        facts.append(RollbackFact("", f"{differ} after a write of one side: {stays}", FactTone.WARNING))
    return tuple(facts)


def _describe_dropped(record: ReleaseRecord, history: RollbackHistory | None, counted: str) -> tuple[RollbackFact, ...]:
    """Which columns and tables, which the release has added, the undos of operations drop, and what is in each."""
    what = "columns and tables that the release has added"
    if history is None:
        return (RollbackFact("LOST", f"reading the {what}, and counting what is in them …"),)
    if history.dropped is None:
        reason = history.problem or history.count_error
        text = f"the {what}; which ones is not known{f', {reason}' if reason else ''}: see the statements below"
        return (RollbackFact("LOST", text, FactTone.WARNING),)
    found = [
        (each, history.dropped_counts.get(each, DroppedCount()), is_certain)
        for each, is_certain in _list_dropped(record, history).items()
    ]
    facts = [
        _describe_dropped_data(each, count, counted, is_certain) for each, count, is_certain in found if count.exists
    ]
    if not facts:
        return (RollbackFact("LOST", "no column and no table: no undo drops one"),)
    return (replace(facts[0], label="LOST"), *facts[1:])


def _list_dropped(record: ReleaseRecord, history: RollbackHistory) -> Mapping[DroppedData, bool]:
    """What the undos drop, and whether it is certain that the release has added it: the record of a step that has run
    says whether there was anything to do.
    """
    details = {step.name: step.detail for step in record.steps}
    found: dict[DroppedData, bool] = {}
    for spec in steps_to_undo(record.release):
        detail = details.get(spec.name, {})
        stays = detail.get("is_needed") is False or detail.get("undo") == []  # it was there before
        for each in (history.dropped or {}).get(spec.name, ()):
            if not (each.is_optional and stays):
                found.setdefault(each, not each.is_optional or "is_needed" in detail or "undo" in detail)
    return found


def _describe_dropped_data(each: DroppedData, found: DroppedCount, counted: str, is_certain: bool) -> RollbackFact:
    later = each.later or (each.column.replace(NEW_PREFIX, "", 1) if NEW_PREFIX in each.column else "")
    name = f"{each.name} ({later} from contract on)" if later else each.name
    name = name if is_certain else f"{name}, if the release has added it"
    if each.is_copy:
        return RollbackFact("", f"{name}: a copy; the other column keeps the values")
    if found.count is None:
        error = f": {found.error}" if found.error else ""
        what = "values" if each.column else "rows"
        return RollbackFact("", f"{name}, with the data in it; how many {what} is not known{error}", FactTone.LOSS)
    noun = ("value", "values") if each.column else ("row", "rows")
    notes = [
        "apart from those that equal its default" if found.has_default else "",
        "those that the release has filled included" if each.is_filled else "",
        "" if found.is_complete else "the rest was not counted in time",
    ]
    least = "" if found.is_complete else "at least "
    text = ", ".join([f"{name}, with {least}{count_noun(found.count, *noun)}{counted}", *filter(None, notes)])
    return RollbackFact("", text, FactTone.LOSS if found.count or not found.is_complete else FactTone.NORMAL)


def _describe_operation_losses(history: RollbackHistory | None, counted: str) -> tuple[RollbackFact, ...]:
    """What stops the rollback of operations: values of a new type that the old one cannot hold."""
    if history is None or (history.losses is None and not history.count_error):
        return ()
    if history.losses is None:
        text = f"whether rows hold values that the old types lack is not known: {history.count_error}"
        return (RollbackFact("", f"{text}; the rollback compares first", FactTone.WARNING),)
    return tuple(
        RollbackFact("REFUSED", f"the rollback cannot keep them: {each}{counted}", FactTone.LOSS)
        for each in history.losses
    )


def _new_side(change: ChangeView) -> str:
    if change.new_table != change.old_table:
        return f"table {change.new_table}"
    names = [name for name, _ in change.new_columns]
    return f"column{'' if len(names) == 1 else 's'} {', '.join(names)} of {change.new_table}"


def _describe_copied(backfill: BackfillRecord | None) -> str:
    if backfill is None or not backfill.rows_done:
        return "no row was copied to it yet"
    return f"with {count_noun(backfill.rows_done, 'copied row')} (the old side has them too)"


def _describe_count(history: RollbackHistory | None, counted: str) -> RollbackFact:
    what = "a value that the old side cannot give back"
    if history is None:
        return RollbackFact("", f"counting the rows with {what} …")
    count = history.count
    if count is None:
        reason = history.count_error or history.problem or "the rows are not verified"
        return RollbackFact("", f"rows with {what} could not be counted: {reason}", FactTone.WARNING)
    scope = "rows" if count.is_whole else "rows written since the verification"
    hold = "holds" if count.lost == 1 else "hold"
    if not count.is_complete:
        found = f"at least {count.lost:,} of {count.compared:,} compared {scope} {hold} {what}{counted}"
        return RollbackFact(
            "", f"{found}; the rest was not counted in time", FactTone.LOSS if count.lost else FactTone.WARNING
        )
    if not count.lost:
        return RollbackFact("", f"none of {count.compared:,} {scope} holds {what}{counted}")
    return RollbackFact("", f"{count.lost:,} of {count.compared:,} {scope} {hold} {what}{counted}", FactTone.LOSS)


# --- what becomes worse ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extent:
    """What a confirmed command would run and lose.

    Attributes:
        lines: what would run, with the statements of each step indented below it.
        rows: number of rows that differ, are lost or stop a rollback, by what they are.
    """

    lines: tuple[str, ...]
    rows: Mapping[str, int] = field(default_factory=dict)

    def growth_since(self, seen: "Extent") -> str:
        """What it adds to what was seen: ``1 more step: undo soak``; empty where it adds nothing.

        Rows count once there are more than twice as many: they may grow with every reading.
        """
        parts = []
        new = self._new_lines(seen)
        steps = [line.partition(":")[0] for line in new if not line.startswith(" ")]
        if steps:
            parts.append(f"{count_noun(len(steps), 'more step')}: {', '.join(steps)}")
        elif new:
            parts.append("other statements")
        parts += [f"{what}: {self.rows[what]:,}" for what in self._grown_rows(seen)]
        return "; ".join(parts)

    def including(self, seen: "Extent") -> "Extent":
        """Both, as far as it is new to an operator who has seen the other one."""
        grown = {what: self.rows[what] for what in self._grown_rows(seen)}
        return Extent((*seen.lines, *self._new_lines(seen)), {**seen.rows, **grown})

    def _new_lines(self, seen: "Extent") -> list[str]:
        known = set(seen.lines)  # there may be hundreds, in each paint
        return [line for line in self.lines if line not in known]

    def _grown_rows(self, seen: "Extent") -> list[str]:
        return [what for what, count in self.rows.items() if count > 2 * seen.rows.get(what, 0)]


def rollback_rows(
    change: ChangeView | None, record: ReleaseRecord, history: RollbackHistory | None
) -> Mapping[str, int]:
    """The rows of an :class:`Extent`: those of :func:`describe_loss`, as far as they are counted."""
    if change is None:
        if history is None:
            return {}
        counts = {each: history.dropped_counts.get(each) for each in _list_dropped(record, history)}
        dropped = {
            f"{'values' if each.column else 'rows'} in {each.name}": count.count or 0
            for each, count in counts.items()
            if count is not None and not each.is_copy
        }
        return {"kinds of values that the rollback cannot keep": len(history.losses or ()), **dropped}
    rows = {"rows that differ after a write of one side": record.witness.open_rows}
    if history is not None and history.count is not None and record.release.status("verify-rows") is StepStatus.DONE:
        rows["rows with a value that the old side cannot give back"] = history.count.lost
    return rows


# --- how long it takes ----------------------------------------------------------------------------------------------


def describe_duration(release: Release, history: RollbackHistory | None, now: float) -> tuple[RollbackFact, ...]:
    """How long a rollback took in the rehearsal, and the last time.

    Args:
        history: None while it is being read.
        now: seconds since the epoch, by the database's clock.
    """
    if history is None:
        return (RollbackFact("TOOK", "reading earlier rollbacks …"),)
    if history.problem:
        return (RollbackFact("TOOK", f"earlier rollbacks are not known, {history.problem}", FactTone.WARNING),)
    return (
        RollbackFact("REHEARSED", _describe_rehearsal(release, history.rehearsal, now)),
        _describe_last(history.last, now),
    )


def _describe_rehearsal(release: Release, rehearsal: RehearsedRollback | None, now: float) -> str:
    if rehearsal is None:
        return "never, in this version of the plan"
    ago = f"{format_duration(max(0.0, now - rehearsal.at))} ago"
    if not rehearsal.passed:
        return f"failed {ago}"
    phase = release.current_phase.name if release.current_phase else ""
    seconds = rehearsal.seconds.get(phase)
    if seconds is None:
        return f"{ago}, without a rollback from {phase or 'here'}"
    return (
        f"{format_duration(seconds)} from {phase}, {ago}, with {100 * rehearsal.scale:.3g}% of the rows, without pods"
    )


def _describe_last(last: PastRollback | None, now: float) -> RollbackFact:
    if last is None:
        return RollbackFact("LAST TIME", "no rollback of this strategy is recorded in this database")
    ago = format_duration(max(0.0, now - last.at))
    return RollbackFact("LAST TIME", f"{format_duration(last.seconds)} from {last.phase}, {ago} ago ({last.release})")
