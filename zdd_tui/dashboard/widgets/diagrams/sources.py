"""The sources of a topology: what is drawn of one that is not current is greyed, below its age."""

from collections.abc import Sequence

from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, dim, format_age, wrap
from zdd_tui.model.release.claims import is_current

NamedSource = tuple[str, Observed[object]]


def pod_sources(board: DashboardState) -> tuple[NamedSource, ...]:
    """Of each Deployment, by the name of its side where there are two."""
    if not board.plan.has_workload:
        return ()
    if len(board.plan.deployment_roles) < 2:
        return (("pods", board.workload),)
    (first, _), (second, _), *_ = board.plan.deployment_roles
    return (first, board.workload), (second, board.second_workload)


def flag_sources(board: DashboardState) -> tuple[NamedSource, ...]:
    return (("flags", board.flags),) if board.plan.has_flags else ()


def oldest_source(board: DashboardState, now: float) -> Observed[object]:
    """The one whose age a title shows: never read comes first.

    Args:
        now: monotonic seconds.
    """
    sources = [board.release, *(source for _, source in (*pod_sources(board), *flag_sources(board)))]
    return max(sources, key=lambda source: float("inf") if (age := source.age(now)) is None else age)


def aged_lines(lines: Sequence[Line], sources: Sequence[NamedSource], now: float, cells: int) -> list[Line]:
    """The lines; where a source of them is not current, greyed below its name and age.

    Args:
        now: monotonic seconds.
    """
    old = [(name, source) for name, source in sources if not is_current(source.age(now), source.error)]
    if not old:
        return list(lines)
    text = ", ".join(_describe_age(name, source, now) for name, source in old)
    return [*wrap(f"? {text}", cells, TextStyle.WARN), *map(dim, lines)]


def _describe_age(name: str, source: Observed[object], now: float) -> str:
    age, error = source.age(now), f" ({source.error})" if source.error else ""
    return f"{name} not read yet{error}" if age is None else f"{name} STALE {format_age(age)}{error}"


def read_flag_percent(board: DashboardState, role: str, *, was_set: bool) -> int | None:
    """The percentage of a flag, as it was read last; None where it is not known: it was not read, or is invalid.

    Args:
        was_set: the release has set it. Where it is missing all the same, pods keep what they have read last.
    """
    flag = next((each for each in board.flags.value or () if each.role == role), None)
    if flag is None or flag.problem:
        return None
    if flag.value is None:
        return None if was_set else 0
    return flag.value.percent
