"""Who wrote only one side of a row, as the witness recorded it. Pure; the rules of its gate and its text are here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from zdd_tui.model.counting import count_noun, count_up_to, format_list
from zdd_tui.model.duration import format_duration
from zdd_tui.model.masking import replace_unprintable
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import Release, StepStatus
from zdd_tui.model.workload.pod import PodFacts

MAX_SHOWN_WRITERS = 3
MAX_SHOWN_REPLACED = 3
MAX_COUNTED = 1000
"""New records are counted up to this number."""


class WitnessMode(StrEnum):
    """What is done about a row whose two sides differ."""

    OFF = "off"
    OLD_IS_RIGHT = "old-is-right"
    """The row is copied again, from the old side."""
    NEW_IS_RIGHT = "new-is-right"
    """V3 writes the new side: a row of which only the new side was written is copied to the old side where that is
    proved; any other is shown, and never overwritten."""
    ROLLBACK = "rollback"
    """The old side is right again soon: the side that is proved to be the newer one is copied to the other."""


Copy = Literal["up", "down", ""]
"""Up: from the old side to the new one."""


def choose_copy(mode: WitnessMode, sides: frozenset[str], *, reads_new: bool, is_proved: bool) -> Copy:
    """How a row that differs is made equal; empty where a person decides.

    Args:
        sides: the sides that were written alone since both agreed.
        reads_new: reads use the new side, wholly or in part.
        is_proved: every write of the other side alone since then is recorded.
    """
    if mode is WitnessMode.OLD_IS_RIGHT and not (reads_new and "new" in sides):
        return "up"
    if mode is WitnessMode.OFF or not is_proved:
        return ""
    if sides == {"new"}:
        return "down"
    return "up" if sides == {"old"} and mode is WitnessMode.ROLLBACK else ""


def may_lose_new_side(sides: frozenset[str], *, has_reverse: bool, has_witness: bool) -> bool:
    """Whether dropping the new side of a row that differs may lose what V3 wrote.

    Args:
        sides: the sides that are recorded as written alone since both agreed; empty where nothing is recorded.
        has_reverse: the reverse trigger has been in force without a break: it has recorded what it did not copy.
        has_witness: the same of the witness.
    """
    if "new" in sides:
        return True
    return not (has_reverse or (has_witness and sides == {"old"}))


@dataclass(frozen=True, slots=True)
class Writer:
    """A client that wrote only one side.

    Attributes:
        address: client address; empty for a local socket.
        role: the role in effect; ``session_role`` is the one that logged in.
        rows: number of rows.
        open_rows: of them, rows whose sides still differ.
        first_at, last_at: seconds since the epoch, by the database's clock.
        pod: the pod that has the address, where it is known.
    """

    application_name: str
    address: str
    role: str
    session_role: str
    rows: int
    open_rows: int
    first_at: float
    last_at: float
    pod: str = ""

    @property
    def name(self) -> str:
        """``reports-worker 10.1.4.7 as app``; a pod's name stands for its address."""
        return _describe_client(self)

    def __str__(self) -> str:
        return f"{self.name}: {count_noun(self.rows, 'row')}"


@dataclass(frozen=True, slots=True)
class ReplacedWrite:
    """A write of the old side alone that may have been overwritten: it was not copied, and then both sides agreed
    although another transaction had written the old side. V2 that reads the new side writes whole rows from there.

    Attributes:
        key: of the row, as texts.
        transaction: id (xmin) of the transaction that wrote the old side last. Who that was is not recorded.
        written_at: of the recorded write; ``found_at``: when both sides were found equal; both in seconds since the
            epoch, by the database's clock.
    """

    key: tuple[str, ...]
    transaction: str
    written_at: float
    found_at: float
    application_name: str
    address: str
    role: str
    session_role: str
    pod: str = ""

    def __str__(self) -> str:
        key = replace_unprintable(", ".join(self.key), "?")
        return (
            f"key {key}: written by {_describe_client(self)} at"
            f" {_clock(self.written_at)}, then by transaction {self.transaction} before {_clock(self.found_at)} UTC"
        )


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def _describe_client(client: Writer | ReplacedWrite) -> str:
    role = client.role if client.role == client.session_role else f"{client.role} (login {client.session_role})"
    # The name of a role may hold control characters.
    name = client.application_name or "no application_name"
    return replace_unprintable(f"{name} {client.pod or client.address or 'local'} as {role}", "?")


@dataclass(frozen=True, slots=True)
class WitnessRecord:
    """What the witness has found so far.

    Attributes:
        open_rows: rows whose two sides differ, or whose comparison is not done.
        writers: the last to write first.
        error: why a row could not be copied again; else empty.
        has_records: there are new records, perhaps only of writes that were copied at their commit.
        replaced_rows: writes that may have been overwritten; ``replaced``: the last of them.
    """

    open_rows: int = 0
    writers: tuple[Writer, ...] = ()
    error: str = ""
    has_records: bool = False
    replaced_rows: int = 0
    replaced: tuple[ReplacedWrite, ...] = ()


NOTHING_RECORDED = WitnessRecord()


def witness_mode(release: Release) -> WitnessMode:
    """What the agent does about recorded rows now.

    During dual-write nothing is repaired: the backfill copies every row, and ``recent-rows-agree`` must see what the
    application does.
    """
    statuses = dict(zip((step.name for step in release.strategy.steps), release.statuses, strict=True))
    # A sync trigger records the rows that it could not copy, without a witness.
    first, last = (
        ("create-witness", "drop-witness") if "create-witness" in statuses else ("sync-forward", "drop-archive")
    )
    phases = [phase.name for phase in release.strategy.phases]
    if release.state.is_rolling_back and not release.state.has_ended:
        # Without the witness on both sides, or both sync triggers, nothing is proved; without them, V3 is gone.
        watchers = ("extend-witness",) if "extend-witness" in statuses else ("sync-forward", "sync-reverse")
        is_watched = (
            all(statuses.get(name) is StepStatus.DONE for name in watchers) and not statuses["drop-archive"].has_effect
        )
        return WitnessMode.ROLLBACK if is_watched else WitnessMode.OFF
    if (
        statuses.get(first) is not StepStatus.DONE
        or release.state.has_ended
        or release.phase < phases.index(Phase.BACKFILL)
        or statuses[last].has_effect
    ):
        return WitnessMode.OFF
    return WitnessMode.NEW_IS_RIGHT if statuses["rollout-v3"].has_effect else WitnessMode.OLD_IS_RIGHT


def accepts_down(release: Release) -> bool:
    """Whether a row also agrees when ``down`` gives its old side: from the trigger on that writes the old side so."""
    names = [step.name for step in release.strategy.steps]
    return "sync-reverse" in names and release.status("sync-reverse").has_effect


def may_read_old(release: Release) -> bool:
    """Whether, in a rollback, V2 may read the old side again, and write whole rows from it."""
    return release.status("read-flag-on") is not StepStatus.DONE


def find_pods(addresses: Iterable[str], pods: Iterable[PodFacts]) -> dict[str, str]:
    """The name of the pod that has each address; empty where none has it, or several that share their node's."""
    names: dict[str, list[str]] = {}
    for pod in pods:
        names.setdefault(pod.ip, []).append(pod.name)
    found = {address: names.get(address, []) if address else [] for address in addresses}
    return {address: each[0] if len(each) == 1 else "" for address, each in found.items()}


def describe_writers(writers: Sequence[Writer]) -> str:
    """``reports-worker 10.1.4.7 as app: 12 rows``, the last writer first."""
    return format_list(writers, MAX_SHOWN_WRITERS)


def describe_replaced(found: WitnessRecord) -> str:
    """``2 writes of the old side may have been overwritten: key 7: written by …``; empty where there is none."""
    if not found.replaced_rows:
        return ""
    count = count_noun(found.replaced_rows, "write")
    more = found.replaced_rows - len(found.replaced)
    return (
        f"{count} of the old side may have been overwritten: {'; '.join(map(str, found.replaced))}"
        f"{f'; and {more:,} more' if more > 0 else ''}"
    )


def reads_new_side(release: Release) -> bool:
    """Whether reads use the new side, wholly or in part."""
    return any(
        status.has_effect
        for step, status in zip(release.strategy.steps, release.statuses, strict=True)
        if step.moves_reads
    )


def evaluate_witness(
    found: WitnessRecord, *, mode: WitnessMode, now: float, quiet: float, missing: Sequence[str]
) -> tuple[Verdict, str]:
    """The verdict of the gate ``witness-empty``.

    A writer whose rows were copied is not corrected yet: it passes only after it has been quiet for a while.

    Args:
        now: seconds since the epoch, by the database's clock.
        quiet: seconds.
        missing: triggers of the witness that do not exist, or are disabled.
    """
    if missing:
        return Verdict.FAIL, (
            f"trigger {missing[0]} is missing or disabled: writes of one side are not recorded; the agent creates it"
            " again, and compares what was written meanwhile"
        )
    verdict, reason = _evaluate_writers(found, mode=mode, now=now, quiet=quiet)
    return verdict, "; ".join(part for part in (reason, describe_replaced(found)) if part)


def _evaluate_writers(found: WitnessRecord, *, mode: WitnessMode, now: float, quiet: float) -> tuple[Verdict, str]:
    writers = describe_writers(found.writers)
    if found.open_rows:
        rows = count_up_to(min(found.open_rows, MAX_COUNTED), MAX_COUNTED, "row")
        what = f"{rows} {'differs' if found.open_rows == 1 else 'differ'} after a write of one side"
        if mode is WitnessMode.NEW_IS_RIGHT:
            what += "; V3 writes the new side, so they are not overwritten"
        # The writer comes first: the end of a reason may be cut.
        parts = (writers, what, found.error and f"not copied again: {found.error}")
        return (Verdict.FAIL if writers or found.error else Verdict.PENDING), "; ".join(filter(None, parts))
    if not writers:
        return Verdict.PASS, "every writer writes both sides"
    left = quiet - (now - max(writer.last_at for writer in found.writers))
    if left > 0:
        return (
            Verdict.PENDING,
            f"{writers}; written on one side, copied to the other; passes when quiet for {format_duration(quiet)}",
        )
    since = format_duration(now - max(writer.last_at for writer in found.writers))
    return Verdict.PASS, f"no row differs; quiet for {since}: {writers}"
