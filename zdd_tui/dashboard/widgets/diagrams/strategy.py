"""The topology of a release: where its traffic goes, and what is next."""

from collections.abc import Sequence

from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.diagrams.schema import draw_box, schema_diagram_lines
from zdd_tui.dashboard.widgets.diagrams.sources import aged_lines, flag_sources, pod_sources, read_flag_percent
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS, describe_step_status
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, sanitize, truncate, wrap
from zdd_tui.dashboard.widgets.panes.pod_rows import POD_GLYPHS
from zdd_tui.dashboard.widgets.panes.traffic import read_canary_weight
from zdd_tui.model.counting import count_noun
from zdd_tui.model.release.claims import Activity, assess_progress, withdraw_verdicts
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import Release, StepStatus
from zdd_tui.model.release.strategy import StepSpec
from zdd_tui.model.release.summary import summarize_release
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot


def diagram_lines(
    board: DashboardState, context: RenderContext, cells: int, samples: Sequence[Line] = ()
) -> list[Line]:
    """The diagram of the release's strategy, below the release's state.

    Args:
        samples: of a dark launch: the different results.
    """
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        error = board.release.error
        return wrap(f"✗ {error}", cells, TextStyle.BAD) if error else [(("… connecting", TextStyle.DIM),)]
    activity = board.activity(context.now)
    summary = summarize_release(record, now, activity=activity)
    lines = [*wrap(f"{summary.glyph} {summary.state_label}  {summary.text}", cells, TextStyle.STRONG), ()]
    record = withdraw_verdicts(record, activity, now)
    match board.plan.strategy:
        case "expand-contract":
            drawn = schema_diagram_lines(board, record, context, cells)
        case "blue-green":
            drawn = _blue_green_diagram(board, record, context, cells)
        case "canary":
            drawn = _canary_diagram(board, record, context, cells)
        case "dark-launch":
            drawn = _dark_launch_diagram(board, record, context, cells, samples)
        case _:
            drawn = _rolling_diagram(board, record, context, cells)
    return lines + aged_lines(drawn, [("release", board.release)], context.now, cells)


# --- rolling ---------------------------------------------------------------------------------------------------------


_ROLLING_GATES = ("capacity-kept", "serving-new", "no-older-pod", "guard")


def _rolling_diagram(board: DashboardState, record: ReleaseRecord, context: RenderContext, cells: int) -> list[Line]:
    activity, now = board.activity(context.now), board.server_now(context.now) or record.now
    moving = [step for step in record.release.strategy.steps if step.registry_key in ("rollout-new", "soak")]
    steps: list[Line] = [
        (),
        (("steps", TextStyle.DIM),),
        *(_step_line(step, record, activity, cells) for step in moving),
    ]
    output = [(), *_gate_reason_lines(record, _ROLLING_GATES, now, cells), *_soak_lines(record, activity, cells)]
    return [*aged_lines(_pods_diagram(board, cells), pod_sources(board), context.now, cells), *steps, *output]


def _pods_diagram(board: DashboardState, cells: int) -> list[Line]:
    """Old pods above new pods, one glyph each."""
    snapshot = board.workload.value
    if snapshot is None:
        return wrap(f"✗ {board.workload.error or 'no pods known'}", cells, TextStyle.WARN)
    old, new = _split_by_image(board, snapshot.pods)
    lines = [*_pod_row("old", old, cells), *_pod_row("new", new, cells), (), *wrap(_LEGEND, cells, TextStyle.DIM), ()]
    if snapshot.rollout is not None:
        lines += wrap(f"{'✗ ' if snapshot.rollout.is_degraded else 'rollout: '}{snapshot.rollout.message}", cells)
    view = snapshot.deployment
    if view is not None:
        text = f"{view.ready} of {view.desired} ready; at most {view.max_surge} more, {view.max_unavailable} fewer"
        lines += wrap(text, cells, TextStyle.DIM)
    return lines


_LEGEND = "● Serving  ◐ Warming  ○ Starting  ▽ Draining  ▼ Stopping  ✗ Not ready, Overdue"


def _pod_row(name: str, pods: Sequence[Pod], cells: int) -> list[Line]:
    """One glyph per pod, as many as fit."""
    head = f"{name:<7}"
    count = f" {count_noun(len(pods), 'pod')}, {sum(pod.state is PodState.SERVING for pod in pods)} serving"
    room = max(1, (cells - len(head) - len(count)) // 2)
    glyphs: Line = tuple((f"{POD_GLYPHS[pod.state][0]} ", POD_GLYPHS[pod.state][1]) for pod in pods[:room])
    more = f"+{len(pods) - room} " if len(pods) > room else ""
    return [((head, TextStyle.STRONG), *glyphs, (more + count, TextStyle.NORMAL))]


def _split_by_image(board: DashboardState, pods: Sequence[Pod]) -> tuple[list[Pod], list[Pod]]:
    """Without the pods in a terminal phase, which serve nothing."""
    running = [pod for pod in pods if not pod.is_terminal]
    new = [pod for pod in running if pod.image == board.plan.new_image]
    return [pod for pod in running if pod.image != board.plan.new_image], new


# --- blue/green ------------------------------------------------------------------------------------------------------


_BLUE_GREEN_GATES = ("smoke-passed", "serving-green", "green-healthy", "stable-ready", "guard")


def _blue_green_diagram(board: DashboardState, record: ReleaseRecord, context: RenderContext, cells: int) -> list[Line]:
    sides = board.plan.deployment_roles
    if len(sides) < 2:
        return _rolling_diagram(board, record, context, cells)
    activity, now = board.activity(context.now), board.server_now(context.now) or record.now
    boxes = aged_lines(_deployment_boxes(board, cells), pod_sources(board), context.now, cells)
    output = _gate_reason_lines(record, _BLUE_GREEN_GATES, now, cells)
    return [*boxes, (), *_soak_lines(record, activity, cells), *_switch_lines(record, activity, cells), (), *output]


def _deployment_boxes(board: DashboardState, cells: int) -> list[Line]:
    """A box for each Deployment, below the arrow of the requests."""
    sides, sources = board.plan.deployment_roles, (board.workload, board.second_workload)
    second = f"{sides[1][1]}-"
    room = (cells - 3) // 2
    boxes = []
    for number, ((colour, name), source) in enumerate(zip(sides, sources, strict=False)):
        pods = source.value.pods if source.value else ()
        own = [pod for pod in pods if pod.name.startswith(second) is (number == 1)]
        boxes.append(_deployment_box(colour, name, source, own, room))
    serving = [sum(pod.state is PodState.SERVING for pod in workload.pods) for workload in board.workloads]
    lines: list[Line] = [_traffic_arrow(boxes[0][1], boxes[1][1], room, sum(serving) > 0)]
    height = max(len(box) for box, _ in boxes)
    for at in range(height):
        pair = [box[at] if at < len(box) else ((" " * room, TextStyle.NORMAL),) for box, _ in boxes]
        lines.append((*pair[0], ("   ", TextStyle.NORMAL), *pair[1]))
    return lines


def _deployment_box(
    colour: str, name: str, source: Observed[WorkloadSnapshot], pods: Sequence[Pod], room: int
) -> tuple[list[Line], bool]:
    """A box for one Deployment, and whether it has traffic."""
    serving = sum(pod.state is PodState.SERVING for pod in pods)
    ready = sum(pod.state in (PodState.SERVING, PodState.WARMING) for pod in pods)
    view = source.value.deployment if source.value else None
    body: list[tuple[str, TextStyle]] = [(f"{colour.upper()}  {sanitize(name)}", TextStyle.STRONG)]
    if view is None:
        text = "? not read yet" if source.observed_at is None else "○ not found"
        return draw_box([*body, (text, TextStyle.DIM)], room), False
    body += [(sanitize(image), TextStyle.DIM) for image in sorted({pod.image for pod in pods})]
    body.append((f"{ready} of {view.desired} pods ready", TextStyle.NORMAL))
    if serving:
        body.append((f"● traffic: {serving} pods serving", TextStyle.GOOD))
    elif ready >= view.desired > 0:
        body.append(("◇ standby: ready, no traffic", TextStyle.NORMAL))
    else:
        body.append(("○ not ready, no traffic", TextStyle.WARN))
    return draw_box(body, room), serving > 0


def _traffic_arrow(left: bool, right: bool, room: int, known: bool) -> Line:
    """The arrow of requests above the side that receives them."""
    if not known:
        return (("requests: no serving pod known", TextStyle.WARN),)
    arrow = "▼ requests ▼"
    return (
        (f"{arrow if left else '':^{room}}", TextStyle.GOOD),
        ("   ", TextStyle.NORMAL),
        (f"{arrow if right else '':^{room}}", TextStyle.GOOD),
    )


# --- canary and dark launch ------------------------------------------------------------------------------------------


def _canary_diagram(board: DashboardState, record: ReleaseRecord, context: RenderContext, cells: int) -> list[Line]:
    activity, now = board.activity(context.now), board.server_now(context.now) or record.now
    weights = _steps(record.release, "set-weight")
    weight = _reached_share(record.release, weights)
    promotion = _steps(record.release, "rollout-new")
    last = max((step.value or 0 for step in weights), default=0)
    # With flags the new image is rolled out first, so the last weight must be reached too.
    promoted = any(record.release.status(step.name) is StepStatus.DONE for step in promotion) and weight == last
    share = 100 if promoted else weight
    lines = [share_bar("new image, set by the release", share, cells)]
    if (real := read_canary_weight(board, context.now)) is not None:
        lines += wrap(f"real {real.real_text} of {real.of}", cells)
    lines += [(), (("weights", TextStyle.DIM),)]
    lines += [_step_line(step, record, activity, cells) for step in (*weights, *promotion)]
    pods = [pod for workload in board.workloads for pod in workload.pods]
    old, new = _split_by_image(board, list({pod.uid: pod for pod in pods}.values()))
    rows = [*_pod_row("old", old, cells), *_pod_row("new", new, cells)] if board.workloads else []
    lines += [(), *aged_lines(rows, pod_sources(board), context.now, cells), ()]
    return [
        *lines,
        *_gate_reason_lines(record, ("weight-held", "pods-healthy", "guard"), now, cells),
        *_soak_lines(record, activity, cells),
    ]


def _dark_launch_diagram(
    board: DashboardState, record: ReleaseRecord, context: RenderContext, cells: int, samples: Sequence[Line]
) -> list[Line]:
    """Comparison results above the shares that follow."""
    activity, now = board.activity(context.now), board.server_now(context.now) or record.now
    shadows, ramps = _steps(record.release, "set-shadow"), _steps(record.release, "set-read")
    shadow, read = (
        read_flag_percent(board, role, was_set=any(record.release.status(step.name).has_effect for step in steps))
        for role, steps in (("shadow", shadows), ("read", ramps))
    )
    bars = [
        share_bar("shadow reads (compared, not served)", shadow, cells),
        share_bar("users served by the new path", read, cells),
    ]
    lines = [
        *aged_lines(bars, flag_sources(board), context.now, cells),
        (),
        (("comparison results since the phase started", TextStyle.DIM),),
        *_gate_reason_lines(record, ("shadow-agrees", "shadow-fast"), now, cells),
        *_soak_lines(record, activity, cells),
    ]
    lines += [(), *samples] if samples else []
    lines += [(), (("shares", TextStyle.DIM),)]
    return lines + [_step_line(step, record, activity, cells) for step in (*shadows, *ramps)]


def share_bar(name: str, percent: int | None, cells: int) -> Line:
    """``██████░░░░ 25% new image``; without a bar where the share is not known."""
    room = 20 if cells < 100 else 40
    if percent is None:
        unknown = (f"{'unknown':<{room}}    ? ", TextStyle.WARN)
        return (unknown, (truncate(name, max(4, cells - room - 6)), TextStyle.NORMAL))
    full = max(1, room * percent // 100) if percent else 0
    return (
        ("█" * full, TextStyle.GOOD),
        ("░" * (room - full), TextStyle.DIM),
        (f" {percent:>3}% ", TextStyle.STRONG),
        (truncate(name, max(4, cells - room - 6)), TextStyle.NORMAL),
    )


def _steps(release: Release, key: str) -> list[StepSpec]:
    return [step for step in release.strategy.steps if step.registry_key == key]


def _reached_share(release: Release, steps: Sequence[StepSpec]) -> int:
    """The highest share in percent whose step is done."""
    return max((step.value or 0 for step in steps if release.status(step.name) is StepStatus.DONE), default=0)


def _step_line(step: StepSpec, record: ReleaseRecord, activity: Activity, cells: int) -> Line:
    glyph, style, text = describe_step_status(record.release, record.release.status(step.name), activity)
    return (
        (f"{glyph} ", style),
        (truncate(step.label, cells - 14), TextStyle.NORMAL),
        (f"  {text}", TextStyle.DIM),
    )


def _gate_reason_lines(record: ReleaseRecord, names: Sequence[str], now: float, cells: int) -> list[Line]:
    """Verdicts and reasons of gates."""
    lines: list[Line] = []
    for name in names:
        reading = record.gates.get(name)
        if reading is None:
            continue
        shown = reading if record.release.state.has_ended else reading.as_of(now)
        glyph, style = VERDICT_GLYPHS[shown.verdict]
        lines += wrap(f"{glyph} {name}: {shown.reason} ({format_age(reading.age(now))} old)", cells, style)
    return lines or [(("no gate result yet", TextStyle.DIM),)]


def _soak_lines(record: ReleaseRecord, activity: Activity, cells: int) -> list[Line]:
    """Progress of the running soak."""
    step = _running_step(record, "soak")
    if step is None:
        return []
    progress = assess_progress(record.release, activity, step.status)
    if progress.moves:
        return wrap(f"soak: {step.note or 'started'}", cells, TextStyle.RUNNING)
    last = f"last: {step.note or 'started'}"
    return wrap(f"soak, {'; '.join(filter(None, (last, progress.reason)))}", cells, TextStyle.WARN)


def _running_step(record: ReleaseRecord, key: str) -> StepRecord | None:
    names = {step.name for step in _steps(record.release, key)}
    return next((step for step in record.steps if step.name in names and step.status is StepStatus.STARTED), None)


def _switch_lines(record: ReleaseRecord, activity: Activity, cells: int) -> list[Line]:
    """The steps that move traffic."""
    moving = [step for step in record.release.strategy.steps if step.name.startswith(("switch-", "remove-green"))]
    return [(("switches", TextStyle.DIM),), *(_step_line(step, record, activity, cells) for step in moving)]
