"""Which commands make sense now. The command line, the screens and the agent ask here, so that they never disagree."""

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.model.errors import Refused
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.regions import REGION_GATE, REGION_ROLLED_BACK
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    ReleaseState,
    apply_command,
    find_table_pause,
    is_held_by_tables,
    requires_name,
)


@dataclass(frozen=True, slots=True)
class NextCommand:
    """A command that an operator can give now, or soon.

    Attributes:
        kind: None for starting an agent, which is no command to the release.
        label: what it does, in two or three words, to stand behind its key: ``runs cutover``.
        effect: the same as a sentence, to stand behind the command line.
        is_primary: it belongs on the summary line; the others are in footer, palette and ``zdd status`` only.
        blocked_until: what must happen before it is accepted, such as ``all gates pass``; empty where it is accepted.
        requires_name: it takes effect only with the release's name typed.
    """

    kind: CommandKind | None
    label: str
    effect: str
    is_primary: bool = False
    blocked_until: str = ""
    requires_name: bool = False


def next_commands(
    release: Release, gates: Mapping[str, GateReading], now: float, *, has_agent: bool
) -> tuple[NextCommand, ...]:
    """What an operator can do now, the most useful first; empty where the release has ended or continues by itself.

    Args:
        gates: the newest reading of each gate, by name.
        now: seconds since the epoch, by the clock that stamped the readings.
        has_agent: an agent runs the release; without one, starting it comes first.
    """
    if release.state.has_ended:
        return ()
    found: list[NextCommand] = []
    if not has_agent:
        text = "starts an agent; no step runs without one"
        found.append(NextCommand(None, text, text, is_primary=True))
    # Pausing a release that waits or failed is accepted, but nothing runs that it would stop.
    is_moving = release.state is ReleaseState.RUNNING and not is_held_by_tables(release)
    toggle = (pause_or_resume(release),) if release.paused or is_moving else ()
    for kind in (*toggle, CommandKind.ADVANCE, CommandKind.ROLLBACK):
        blocked_until = ""
        if kind is CommandKind.ADVANCE and fix_of_rolled_back_region(release, gates):
            continue
        if explain_refusal(release, kind, gates, now):
            blocked_until = _advance_blocked_until(release) if kind is CommandKind.ADVANCE else ""
            if not blocked_until:
                continue
        found.append(_build_next_command(release, kind, blocked_until))
    return tuple(found)


def pause_or_resume(release: Release | None) -> CommandKind:
    """Which one of the two is offered; they share a key."""
    return CommandKind.RESUME if release is not None and release.paused else CommandKind.PAUSE


def pause_or_resume_table(release: Release, table: str) -> CommandKind:
    """Which one of the two is offered for one table."""
    return CommandKind.PAUSE if find_table_pause(release, table) is None else CommandKind.RESUME


def explain_no_table_pause(release: Release, gates: Mapping[str, GateReading], now: float) -> str:
    """Why no table can be paused or resumed by itself, with the hint; empty where one can."""
    first = ""
    for table in release.strategy.filled_tables:
        reason = explain_refusal(release, pause_or_resume_table(release, table), gates, now, table=table)
        if not reason:
            return ""
        first = first or reason
    return first or "no step of the release fills a table"


def explain_refusal(
    release: Release,
    kind: CommandKind,
    gates: Mapping[str, GateReading],
    now: float,
    *,
    assume_typed: bool = True,
    table: str = "",
) -> str:
    """Why a command would be refused now or change nothing, with the hint; empty when it would take effect.

    Args:
        assume_typed: treat the release's name as typed, because the confirmation asks for it later.
        table: of a pause or resume of one table.
    """
    if kind is CommandKind.ROLLBACK and release.state is ReleaseState.ROLLING_BACK:
        return "the release is being rolled back already"  # the rules accept it, but it changes nothing
    try:
        apply_command(release, Command(kind, typed=release.name if assume_typed else None, table=table), gates, now)
    except Refused as error:
        return f"{error.title} ({error.hint})" if error.hint else error.title
    return ""


def fix_of_rolled_back_region(release: Release, gates: Mapping[str, GateReading]) -> str:
    """What to do where an earlier region has rolled the same plan back, so that this never starts; else empty."""
    reading = gates.get(REGION_GATE)
    if release.state is not ReleaseState.PLANNED or reading is None or reading.verdict is not Verdict.FAIL:
        return ""
    if not reading.reason.startswith(REGION_ROLLED_BACK):
        return ""
    region = reading.reason.removeprefix(REGION_ROLLED_BACK)
    return f"end this release; then change the plan and begin it again: zdd agent --new --region {region} PLAN"


def describe_closed_gates(release: Release) -> str:
    """What has to happen to the gates of the current phase before it can be left."""
    return "its gate passes" if len(release.gates) == 1 else "all gates pass"


def _advance_blocked_until(release: Release) -> str:
    """What a refused advance waits for; empty where it makes no sense in this state."""
    can_start_phase = release.state in (ReleaseState.PLANNED, ReleaseState.WAITING) and release.next_phase is not None
    if release.state is not ReleaseState.FAILED and not can_start_phase:
        return ""
    if release.paused:
        return "it is resumed"
    return "the condition holds again" if release.breach is not None else describe_closed_gates(release)


def _build_next_command(release: Release, kind: CommandKind, blocked_until: str) -> NextCommand:
    state = release.state
    match kind:
        case CommandKind.ADVANCE if state is ReleaseState.FAILED:
            label, effect = "retries the failed step", "retries the failed step; fix its cause first"
            is_primary = True
        case CommandKind.ADVANCE if release.next_phase is None:
            label = effect = "ends the release"
            is_primary = False
        case CommandKind.ADVANCE:
            label = effect = f"runs {release.next_phase.name}"  # type: ignore[union-attr]  # the case above has it
            is_primary = not release.paused
        case CommandKind.ROLLBACK if state is ReleaseState.ROLLBACK_FAILED:
            label, effect, is_primary = "retries the undo", "retries the failed undo; fix its cause first", True
        case CommandKind.ROLLBACK if not any(status.has_effect for status in release.statuses):
            label, effect = "ends the release", "ends the release: nothing has run yet"
            is_primary = state is not ReleaseState.PLANNED
        case CommandKind.ROLLBACK:
            first = "reads" if any(step.moves_reads for step in release.strategy.steps) else "the newest"
            label, effect, is_primary = "rolls back", f"undoes every step, {first} first", True
        case CommandKind.RESUME:
            label, effect, is_primary = "resumes", "continues where it was paused", True
        case _:
            label, effect, is_primary = "pauses", "no further step starts until it is resumed", True
    if blocked_until:
        label, effect = f"{label} once {blocked_until}", f"{effect}, once {blocked_until}"
    return NextCommand(kind, label, effect, is_primary, blocked_until, requires_name(release, kind))
