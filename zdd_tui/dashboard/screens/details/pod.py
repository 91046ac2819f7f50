"""A pod: what the API says of it, what happened to it, and the end of its log."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look, Told
from zdd_tui.dashboard.screens.details.log import LogScreen, log_line, log_state
from zdd_tui.dashboard.screens.details.yaml import YamlScreen
from zdd_tui.dashboard.state import Board, BoardSource, Clock, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, cut, fit, human_age, outside
from zdd_tui.dashboard.widgets.panes.pod_rows import MARKS
from zdd_tui.model.json_access import Json, flag, number, obj, objects, text
from zdd_tui.model.json_access import moment as seconds_of
from zdd_tui.model.queries import LogQuery, LogTail, ObjectDetail, ObjectQuery
from zdd_tui.model.workload.rollout import EventView

TAIL = 200
"""Lines of the log that are fetched for its end."""

SHOWN = 4
"""Lines of the log's end that are shown here; `l` shows all of it."""


class PodScreen(DetailScreen):
    """One pod, by name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "The whole log, followed", show=False, id="pod.log"),
        Binding("v", "yaml", "The object as YAML", show=False, id="pod.yaml"),
    ]

    hints: ClassVar[tuple[tuple[str, str], ...]] = (("l", "log"), ("v", "YAML"))

    def __init__(self, source: BoardSource, look: Look, pod: str) -> None:
        super().__init__(source, look)
        self._pod = pod
        self._asked = self.will_ask(ObjectQuery("Pod", pod), f"pod {pod}")
        self._tail: LogTail | None = None

    def on_mount(self) -> None:
        self._tail = self._source.follow(LogQuery(self._pod, tail=TAIL))

    def on_unmount(self) -> None:
        if self._tail is not None:
            self._tail.close()

    def heading(self, board: Board) -> str:
        return f"pod {self._pod}"

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        lines = self.missing(self._asked, cells)
        detail = self._asked.value
        if detail is None:
            lines += board_lines(board, self._pod, moment, self.text, cells)
        else:
            snapshot = board.pods.value
            now = moment.wall + (snapshot.clock_skew if snapshot else 0.0)
            lines += pod_lines(detail, now, self.text, cells)
        if self._tail is not None:
            view = self._tail.view()
            lines += [(), clip((("log  ", Tone.DIM), *log_state(view)), cells)]
            lines += self.text(f"✗ {view.error}", cells, Tone.WARN) if view.error else []
            lines += [clip(log_line(line, moment.clock), cells) for line in view.lines[-SHOWN:]]
        return lines + (event_lines(detail, moment.clock, self.text, cells) if detail else [])

    def action_log(self) -> None:
        self.app.push_screen(LogScreen(self._source, self._look, self._pod))

    def action_yaml(self) -> None:
        self.app.push_screen(YamlScreen(self._source, self._look, ObjectQuery("Pod", self._pod)))


def board_lines(board: Board, name: str, moment: Moment, told: Told, cells: int) -> list[Line]:
    """What the board has of a pod, until the API has answered, or where it cannot be asked."""
    snapshots = [source.value for source in (board.pods, board.twin) if source.value is not None]
    for snapshot in snapshots:
        for pod in (*snapshot.pods, *snapshot.gone):
            if pod.name == name:
                glyph, tone = MARKS[pod.state]
                age = (
                    ""
                    if pod.created_at is None
                    else f"  {human_age(moment.wall + snapshot.clock_skew - pod.created_at)} old"
                )
                lines: list[Line] = [(), ((f"{glyph} {pod.state}", tone), (age, Tone.NORMAL))]
                lines += told(f"image {pod.image}  node {pod.node or '-'}  {pod.restarts} restarts", cells)
                return lines + (told(pod.reason, cells, Tone.WARN) if pod.reason else [])
    return []


def pod_lines(detail: ObjectDetail, now: float, told: Told, cells: int) -> list[Line]:
    """State, conditions and containers.

    Args:
        now: by the cluster's clock.
        told: makes lines of a text: (text, cells, tone, indent=…).
    """
    pod = detail.document
    status, spec = obj(pod, "status"), obj(pod, "spec")
    created, deadline = (
        seconds_of(pod, "metadata", "creationTimestamp"),
        seconds_of(pod, "metadata", "deletionTimestamp"),
    )
    age = "" if created is None else f"  {human_age(now - created)} old"
    lines: list[Line] = [
        (
            (text(status, "phase") or "?", Tone.STRONG),
            (
                f"{age}  node {outside(text(spec, 'nodeName')) or '-'}  ip {outside(text(status, 'podIP')) or '-'}",
                Tone.NORMAL,
            ),
        )
    ]
    owners = ", ".join(f"{text(o, 'kind')} {text(o, 'name')}" for o in objects(pod, "metadata", "ownerReferences"))
    lines += told(f"owner {owners}", cells, Tone.DIM) if owners else []
    if deadline is not None:
        grace = number(pod, "metadata", "deletionGracePeriodSeconds")
        left = deadline - now
        when = f"{human_age(left)} left of {grace}s" if left >= 0 else f"{human_age(-left)} past its deadline"
        lines += told(f"▽ is being deleted: {when}", cells, Tone.WARN)
    if reason := text(status, "reason"):
        lines += told(f"✗ {reason}: {text(status, 'message')}", cells, Tone.BAD)
    lines += [(), (("conditions", Tone.DIM),)]
    lines += [line for each in objects(status, "conditions") for line in _condition(each, now, told, cells)]
    lines += [(), (("containers", Tone.DIM),)]
    specs = {text(each, "name"): each for each in objects(spec, "containers")}
    for each in (*objects(status, "initContainerStatuses"), *objects(status, "containerStatuses")):
        lines += _container(each, specs.get(text(each, "name"), {}), now, told, cells)
    return lines


def event_lines(detail: ObjectDetail, clock: Clock, told: Told, cells: int) -> list[Line]:
    """What happened to it, newest first."""
    lines: list[Line] = [(), (("events", Tone.DIM),)]
    lines += told(f"✗ {detail.events_error}", cells, Tone.BAD) if detail.events_error else []
    if not detail.events and not detail.events_error:
        lines.append((("none is kept any more", Tone.DIM),))
    return lines + [line for event in reversed(detail.events) for line in _event(event, clock, told, cells)]


def _condition(each: Json, now: float, told: Told, cells: int) -> list[Line]:
    good = text(each, "status") == "True"
    since = seconds_of(each, "lastTransitionTime")
    age = "" if since is None else human_age(now - since)
    head: Line = (
        (("✔ " if good else "✗ "), Tone.GOOD if good else Tone.BAD),
        (fit(f"{text(each, 'type')} {text(each, 'status')}", 34), Tone.NORMAL),
        (f" {age:>4}", Tone.DIM),
    )
    why = ": ".join(part for part in (text(each, "reason"), text(each, "message")) if part)
    return [clip(head, cells), *(told(why, cells, Tone.NORMAL, indent="    ") if why and not good else [])]


def _container(each: Json, spec: Mapping[str, Any], now: float, told: Told, cells: int) -> list[Line]:
    state = obj(each, "state")
    word, detail = _state(state, now)
    good = word == "running" and flag(each, "ready") is True
    restarts = number(each, "restartCount")
    lines: list[Line] = [
        clip(
            (
                (("● " if good else "✗ " if word == "waiting" else "○ "), Tone.GOOD if good else Tone.WARN),
                (f"{outside(text(each, 'name'))}  ", Tone.STRONG),
                (f"{word}{detail}  {'ready' if flag(each, 'ready') else 'not ready'}  ", Tone.NORMAL),
                (f"{restarts} restarts", Tone.WARN if restarts else Tone.DIM),
            ),
            cells,
        )
    ]
    lines += told(f"image {text(each, 'image')}", cells, Tone.DIM, indent="    ")
    waiting = obj(state, "waiting")
    if message := text(waiting, "message"):
        lines += told(message, cells, Tone.BAD, indent="    ")
    last = obj(each, "lastState", "terminated")
    if last:
        lines += told(f"before: {_ended(last, now)}", cells, Tone.WARN, indent="    ")
    probes = [f"{name.removesuffix('Probe')} {_probe(obj(spec, name))}" for name in _PROBES if obj(spec, name)]
    return lines + (told("probes " + ", ".join(probes), cells, Tone.DIM, indent="    ") if probes else [])


_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def _state(state: Json, now: float) -> tuple[str, str]:
    if running := obj(state, "running"):
        since = seconds_of(running, "startedAt")
        return "running", "" if since is None else f" for {human_age(now - since)}"
    if ended := obj(state, "terminated"):
        return "ended", f": {_ended(ended, now)}"
    return "waiting", f": {text(obj(state, 'waiting'), 'reason') or '?'}"


def _ended(ended: Json, now: float) -> str:
    at = seconds_of(ended, "finishedAt")
    ago = "" if at is None else f", {human_age(now - at)} ago"
    killed = f", signal {number(ended, 'signal')}" if number(ended, "signal") else ""
    return f"{text(ended, 'reason') or 'ended'}, exit code {number(ended, 'exitCode')}{killed}{ago}"


def _probe(probe: Json) -> str:
    http = obj(probe, "httpGet")
    what = f"GET {text(http, 'path')}" if http else "exec" if obj(probe, "exec") else "tcp"
    return (
        f"{what} every {number(probe, 'periodSeconds', default=10)}s, {number(probe, 'failureThreshold', default=3)}×"
    )


def _event(event: EventView, clock: Clock, told: Told, cells: int) -> list[Line]:
    when = "--:--:--" if event.at is None else clock.time_of_day(event.at)
    many = f" ({event.count}×)" if event.count > 1 else ""
    mark, tone = ("✗ ", Tone.BAD) if event.warning else ("· ", Tone.NORMAL)
    first, *rest = told(f"{cut(event.reason, 24)}{many}: {event.message}", max(10, cells - 11), tone)
    return [((f"{when} ", Tone.DIM), (mark, tone), *first), *(((" " * 11, Tone.NORMAL), *line) for line in rest)]
