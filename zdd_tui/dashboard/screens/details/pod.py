"""A pod: its state by the API, its events, and the end of its log."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.details.log import LogNews, LogScreen, log_line, log_status_line
from zdd_tui.dashboard.screens.details.yaml import YamlScreen
from zdd_tui.dashboard.state import Clock, DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, dim, fit, format_age, sanitize, truncate
from zdd_tui.dashboard.widgets.panes.pod_rows import POD_GLYPHS, cluster_time, is_old
from zdd_tui.model.counting import count_noun
from zdd_tui.model.json_access import JsonObject, get_bool, get_number, get_object, get_objects, get_text
from zdd_tui.model.json_access import get_timestamp as seconds_of
from zdd_tui.model.queries import LogQuery, LogTail, ObjectDetail, ObjectQuery
from zdd_tui.model.release.claims import format_silence, uncounted_seconds
from zdd_tui.model.workload.rollout import EventView

LOG_TAIL_LINES = 200
"""Lines of the log that are fetched."""

SHOWN_LOG_LINES = 4
"""Lines of the log that are shown; `l` opens all of it."""


class PodScreen(DetailScreen):
    """One pod, by name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Follow the log", show=False, id="pod.log"),
        Binding("v", "yaml", "The object as YAML", show=False, id="pod.yaml"),
    ]

    hints = (("l", "log"), ("v", "YAML"))

    def __init__(self, source: StateSource, get_context: ContextSource, pod: str) -> None:
        super().__init__(source, get_context)
        self._pod = pod
        self._query = self.add_query(ObjectQuery("Pod", pod), f"pod {pod}")
        self._tail: LogTail | None = None
        self._news = LogNews()

    def on_mount(self) -> None:
        self._tail = self._source.follow_log(LogQuery(self._pod, tail=LOG_TAIL_LINES))

    def on_unmount(self) -> None:
        if self._tail is not None:
            self._tail.close()

    def heading(self, board: DashboardState) -> str:
        return f"pod {self._pod}"

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        lines = self.query_error_lines(self._query, formatter)
        detail = self._query.value
        if detail is None:
            lines += pod_board_lines(board, self._pod, context, formatter)
        else:
            snapshot = board.workload.value
            stopped = uncounted_seconds(self._query.result.age(context.now) or 0.0)
            now = context.wall - stopped + (snapshot.clock_skew if snapshot else 0.0)
            lines += pod_lines(detail, now, formatter)
        if self._tail is not None:
            view = self._tail.snapshot()
            self._news.observe(view.total, context.now)
            watch = board.watch_of_pod(self._pod)
            silence = self._news.silence(watch, context.now, is_connecting=view.state == "connecting")
            status = log_status_line(view, silence)
            lines += [(), formatter.clip((("log  ", TextStyle.DIM), *status))]
            lines += formatter(f"✗ {view.error}", TextStyle.WARN) if view.error else []
            lines += [formatter.clip(log_line(line, context.clock)) for line in view.lines[-SHOWN_LOG_LINES:]]
        return lines + (pod_event_lines(detail, context.clock, formatter) if detail else [])

    def action_log(self) -> None:
        self.app.push_screen(LogScreen(self._source, self._get_context, self._pod))

    def action_yaml(self) -> None:
        self.app.push_screen(YamlScreen(self._source, self._get_context, ObjectQuery("Pod", self._pod)))


def pod_board_lines(board: DashboardState, name: str, context: RenderContext, formatter: TextFormatter) -> list[Line]:
    """A pod by the dashboard's state, while there is no result of the API."""
    watch = board.watch_of_pod(name)
    pods = (*watch.value.pods, *watch.value.gone) if watch.value is not None else ()
    pod = next((each for each in pods if each.name == name), None)
    if pod is None:
        return []
    glyph, style = POD_GLYPHS[pod.state]
    age = "" if pod.created_at is None else f"  {format_age(cluster_time(watch, context) - pod.created_at)} old"
    lines: list[Line] = [(), ((f"{glyph} {pod.state}", style), (age, TextStyle.NORMAL))]
    lines += formatter(f"image {pod.image}  node {pod.node or '-'}  {count_noun(pod.restarts, 'restart')}")
    lines += formatter(pod.reason, TextStyle.WARN) if pod.reason else []
    if is_old(watch, context.now):
        silent = format_silence(watch.age(context.now) or 0.0)
        lines = [
            *map(dim, lines),
            *formatter(f"as of {silent} ago: Kubernetes has not responded since", TextStyle.WARN),
        ]
    return lines


def pod_lines(detail: ObjectDetail, now: float, formatter: TextFormatter) -> list[Line]:
    """State, conditions and containers.

    Args:
        now: seconds since the epoch, by the cluster's clock.
    """
    pod = detail.document
    status, spec = get_object(pod, "status"), get_object(pod, "spec")
    created = seconds_of(pod, "metadata", "creationTimestamp")
    deadline = seconds_of(pod, "metadata", "deletionTimestamp")
    age = "" if created is None else f"  {format_age(now - created)} old"
    node, ip = sanitize(get_text(spec, "nodeName")) or "-", sanitize(get_text(status, "podIP")) or "-"
    phase = get_text(status, "phase") or "?"
    lines: list[Line] = [((phase, TextStyle.STRONG), (f"{age}  node {node}  ip {ip}", TextStyle.NORMAL))]
    owners = ", ".join(
        f"{get_text(o, 'kind')} {get_text(o, 'name')}" for o in get_objects(pod, "metadata", "ownerReferences")
    )
    lines += formatter(f"owner {owners}", TextStyle.DIM) if owners else []
    if deadline is not None:
        grace = get_number(pod, "metadata", "deletionGracePeriodSeconds")
        left = deadline - now
        when = f"{format_age(left)} left of {grace}s" if left >= 0 else f"{format_age(-left)} past its deadline"
        lines += formatter(f"▽ terminating: {when}", TextStyle.WARN)
    if reason := get_text(status, "reason"):
        lines += formatter(f"✗ {reason}: {get_text(status, 'message')}", TextStyle.BAD)
    lines += [(), (("conditions", TextStyle.DIM),)]
    lines += [line for each in get_objects(status, "conditions") for line in _condition_lines(each, now, formatter)]
    lines += [(), (("containers", TextStyle.DIM),)]
    specs = {get_text(each, "name"): each for each in get_objects(spec, "containers")}
    for each in (*get_objects(status, "initContainerStatuses"), *get_objects(status, "containerStatuses")):
        lines += _container_lines(each, specs.get(get_text(each, "name"), {}), now, formatter)
    return lines


def pod_event_lines(detail: ObjectDetail, clock: Clock, formatter: TextFormatter) -> list[Line]:
    """The pod's events, newest first."""
    lines: list[Line] = [(), (("events", TextStyle.DIM),)]
    lines += formatter(f"✗ {detail.events_error}", TextStyle.BAD) if detail.events_error else []
    if not detail.events and not detail.events_error:
        lines.append((("no events (expired)", TextStyle.DIM),))
    return lines + [line for event in reversed(detail.events) for line in _event_lines(event, clock, formatter)]


def _condition_lines(condition: JsonObject, now: float, formatter: TextFormatter) -> list[Line]:
    good = get_text(condition, "status") == "True"
    since = seconds_of(condition, "lastTransitionTime")
    age = "" if since is None else format_age(now - since)
    head: Line = (
        (("✔ " if good else "✗ "), TextStyle.GOOD if good else TextStyle.BAD),
        (fit(f"{get_text(condition, 'type')} {get_text(condition, 'status')}", 34), TextStyle.NORMAL),
        (f" {age:>4}", TextStyle.DIM),
    )
    why = ": ".join(part for part in (get_text(condition, "reason"), get_text(condition, "message")) if part)
    return [formatter.clip(head), *(formatter(why, indent="    ") if why and not good else [])]


def _container_lines(status: JsonObject, spec: Mapping[str, Any], now: float, formatter: TextFormatter) -> list[Line]:
    state = get_object(status, "state")
    word, detail = _container_state_text(state, now)
    good = word == "running" and get_bool(status, "ready") is True
    restarts = get_number(status, "restartCount")
    head: Line = (
        (("● " if good else "✗ " if word == "waiting" else "○ "), TextStyle.GOOD if good else TextStyle.WARN),
        (f"{sanitize(get_text(status, 'name'))}  ", TextStyle.STRONG),
        (f"{word}{detail}  {'ready' if get_bool(status, 'ready') else 'not ready'}  ", TextStyle.NORMAL),
        (count_noun(restarts, "restart"), TextStyle.WARN if restarts else TextStyle.DIM),
    )
    lines = [formatter.clip(head)]
    lines += formatter(f"image {get_text(status, 'image')}", TextStyle.DIM, indent="    ")
    waiting = get_object(state, "waiting")
    if message := get_text(waiting, "message"):
        lines += formatter(message, TextStyle.BAD, indent="    ")
    last = get_object(status, "lastState", "terminated")
    if last:
        lines += formatter(f"previous: {_termination_text(last, now)}", TextStyle.WARN, indent="    ")
    probes = [
        f"{name.removesuffix('Probe')} {_probe_text(get_object(spec, name))}"
        for name in _PROBES
        if get_object(spec, name)
    ]
    return lines + (formatter("probes " + ", ".join(probes), TextStyle.DIM, indent="    ") if probes else [])


_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def _container_state_text(state: JsonObject, now: float) -> tuple[str, str]:
    if running := get_object(state, "running"):
        since = seconds_of(running, "startedAt")
        return "running", "" if since is None else f" for {format_age(now - since)}"
    if ended := get_object(state, "terminated"):
        return "ended", f": {_termination_text(ended, now)}"
    return "waiting", f": {get_text(get_object(state, 'waiting'), 'reason') or '?'}"


def _termination_text(ended: JsonObject, now: float) -> str:
    at = seconds_of(ended, "finishedAt")
    ago = "" if at is None else f", {format_age(now - at)} ago"
    killed = f", signal {get_number(ended, 'signal')}" if get_number(ended, "signal") else ""
    return f"{get_text(ended, 'reason') or 'ended'}, exit code {get_number(ended, 'exitCode')}{killed}{ago}"


def _probe_text(probe: JsonObject) -> str:
    http = get_object(probe, "httpGet")
    what = f"GET {get_text(http, 'path')}" if http else "exec" if get_object(probe, "exec") else "tcp"
    period, failures = get_number(probe, "periodSeconds", default=10), get_number(probe, "failureThreshold", default=3)
    return f"{what} every {period}s, fails after {failures}"


def _event_lines(event: EventView, clock: Clock, formatter: TextFormatter) -> list[Line]:
    when = "--:--:--" if event.at is None else clock.time_of_day(event.at)
    count = f" ({event.count}×)" if event.count > 1 else ""
    glyph, style = ("✗ ", TextStyle.BAD) if event.warning else ("· ", TextStyle.NORMAL)
    head: Line = ((f"{when} ", TextStyle.DIM), (glyph, style))
    return formatter.beside(head, f"{truncate(event.reason, 24)}{count}: {event.message}", style)
