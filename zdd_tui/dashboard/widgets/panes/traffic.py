"""What a state says about the traffic: which flag value and which pods users get."""

from zdd_tui.dashboard.state import FLAGS_STALE_SECONDS, PODS_STALE_SECONDS, DashboardState, Observed
from zdd_tui.dashboard.widgets.panes.pod_rows import build_pod_rows
from zdd_tui.model.duration import format_duration
from zdd_tui.model.image import is_rewritten, parse_image
from zdd_tui.model.release.canary_weight import CanaryWeight, wanted_weight
from zdd_tui.model.release.claims import SourceStatus
from zdd_tui.model.rollback import Traffic
from zdd_tui.model.workload.pod import PodState

_FLAG_ROLES = ("read", "weight")


def read_traffic(board: DashboardState, now: float) -> Traffic:
    """What the state says about the traffic; what is too old is unknown."""
    percent, flag_problem = _read_flag(board, now)
    serving, new, pods_problem = _count_pods(board, now)
    silent = (SourceStatus.LOST, SourceStatus.UNKNOWN)
    lost = tuple(each.name for each in board.health(now) if each.status in silent)
    return Traffic(percent, flag_problem, serving, new, pods_problem, lost)


def read_canary_weight(board: DashboardState, now: float) -> CanaryWeight | None:
    """Wanted and real weight of a canary; None for another strategy, and where there is no weight now.

    Args:
        now: monotonic seconds.
    """
    record, source = board.release.value, board.plan.weight_source
    wanted = wanted_weight(record.release) if record is not None and source else None
    if wanted is None:
        return None
    if source == "gateway":
        stale = board.route_weight.is_stale(now, PODS_STALE_SECONDS) or bool(board.route_weight.error)
        return CanaryWeight(wanted, None if stale else board.route_weight.value, "requests, by the HTTPRoute")
    traffic = read_traffic(board, now)
    if source == "flag":
        return CanaryWeight(wanted, traffic.flag_percent, "users, by the flag")
    real = 100 * traffic.serving_new / traffic.serving if traffic.serving else None
    return CanaryWeight(wanted, real, "serving pods")


def _why_unknown(source: Observed[object], now: float, limit: float, name: str) -> str:
    age = source.age(now)
    if source.value is None or age is None:
        return source.error or f"the {name} were not read yet"
    return f"the {name} were last read {format_duration(age)} ago" if source.is_stale(now, limit) else ""


def _read_flag(board: DashboardState, now: float) -> tuple[int | None, str]:
    if not board.plan.has_flags:
        return None, ""
    if problem := _why_unknown(board.flags, now, FLAGS_STALE_SECONDS, "flags"):
        return None, problem
    flag = next((each for each in board.flags.value or () if each.role in _FLAG_ROLES), None)
    if flag is None:
        return None, ""
    return (None if flag.value is None else flag.value.percent), flag.problem


def _count_pods(board: DashboardState, now: float) -> tuple[int | None, int, str]:
    """Serving pods, those of them with the newest image, and why they are not known."""
    sources = [board.workload, *([board.second_workload] if board.second_workload.value is not None else [])]
    for source in sources:
        if problem := _why_unknown(source, now, PODS_STALE_SECONDS, "pods"):
            return None, 0, problem
    newest = board.plan.newest_image
    rows = build_pod_rows(board.plan, board.workloads)
    images = [pod.image for pod, _ in rows if pod.state is PodState.SERVING]
    for image in images:
        reference = parse_image(image)
        if image != newest and not reference.tag and reference.digest:
            return None, 0, f"image {image} does not tell its version"
    return len(images), sum(image == newest or is_rewritten(image, newest) for image in images), ""
