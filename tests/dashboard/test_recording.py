"""Recordings: every state is restored, only changes are written, and damage is reported with its line."""

import gzip
import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.doctor_report import report
from tests.support.states import EPOCH, MONOTONIC, dashboard_situations, workload
from tests.support.states import pod as make_pod
from tests.support.strategy_states import guard_situations
from zdd_tui.cli.dashboard import parse_position
from zdd_tui.dashboard.recording import writer
from zdd_tui.dashboard.recording.codec import Decoder, Encoder
from zdd_tui.dashboard.recording.delta import apply_delta, compute_delta
from zdd_tui.dashboard.recording.player import PLAYBACK_SPEEDS, Player
from zdd_tui.dashboard.recording.reader import load_recording
from zdd_tui.dashboard.recording.writer import RecordingWriter
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import (
    AuditLogQuery,
    BackfillQuery,
    LogQuery,
    MetricHistory,
    MetricHistoryQuery,
    MetricPoint,
    ObjectQuery,
    PlanQuery,
    Query,
)
from zdd_tui.model.release.records import CommandRequest, Event
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.shadow import ShadowQuery
from zdd_tui.model.workload.pod import PodState

STATES = dashboard_situations() | guard_situations()
STATES["doctor"] = replace(STATES["open"], doctor_report=Observed(report(), MONOTONIC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def as_text(value: Any) -> str:
    """Distinguishes 1 from 1.0 and from True, which are equal in Python."""
    return json.dumps(value, sort_keys=True)


@given(JSON, JSON)
def test_a_change_restores_the_new_value(old: Any, new: Any) -> None:
    change = json.loads(json.dumps(compute_delta(old, new)))
    before = as_text(old)
    assert as_text(apply_delta(old, change)) == as_text(new)
    assert as_text(old) == before
    assert bool(change) == (as_text(old) != as_text(new))


@given(st.lists(st.integers(), min_size=3), st.lists(st.integers(), min_size=1))
def test_only_items_added_in_front_are_written(old: list[int], items: list[int]) -> None:
    change = compute_delta(old, [*items, *old])
    assert len(change["@"][2]) == len(items)


@pytest.mark.parametrize("change", [{"~": {"9": {"=": 1}}}, {"~": {"x": {"=": 1}}}, {"@": [1]}, {"?": 1}], ids=str)
def test_a_change_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit the value before it"):
        apply_delta([1, 2], change)


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_restored(name: str) -> None:
    parts = json.loads(json.dumps(Encoder().encode(STATES[name])))
    assert Decoder().decode(parts) == STATES[name]


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(STATES)), min_size=1, max_size=8))
def test_a_series_of_states_is_restored_from_changes(names: list[str]) -> None:
    encoder, decoder = Encoder(), Decoder()
    before: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name in names:
        parts = encoder.encode(STATES[name])
        shown = apply_delta(shown, json.loads(json.dumps(compute_delta(before, parts))))
        before = parts
        assert decoder.decode(shown) == STATES[name]


def test_unchanged_fields_stay_the_same_objects() -> None:
    encoder, decoder = Encoder(), Decoder()
    first = encoder.encode(STATES["open"])
    one = decoder.decode(first)
    second = apply_delta(first, compute_delta(first, encoder.encode(replace(STATES["open"], is_doctor_running=True))))
    other = decoder.decode(second)
    assert other.is_doctor_running
    assert other.release is one.release
    assert other.workload is one.workload


class FakeSource:
    """A state that a test sets; it waits until the recorder has read it."""

    def __init__(self, state: DashboardState) -> None:
        self.current = state
        self._was_read = threading.Event()

    def state(self) -> DashboardState:
        self._was_read.set()
        return self.current

    def set_board(self, state: DashboardState) -> None:
        self.current = state
        for _ in range(2):  # a reading in progress may have started before
            self._was_read.clear()
            assert self._was_read.wait(30)


def recorded(file: Path, *states: DashboardState) -> Path:
    source = FakeSource(states[0])
    recorder = RecordingWriter(source.state, file)
    for state in states:
        source.set_board(state)
    recorder.close(30)
    assert recorder.error == ""
    return file


@pytest.mark.parametrize("name", ["one.jsonl", "one.jsonl.gz"])
def test_the_played_states_are_the_recorded_ones(tmp_path: Path, name: str) -> None:
    shown = [STATES[each] for each in ("connecting", "planned", "backfill", "stale", "done")]
    file = recorded(tmp_path / name, *shown)
    assert file.stat().st_mode & 0o777 == 0o600
    recording = load_recording(file)
    assert recording.header.plan == "users-full-name"
    played = [recording.state_at(at) for at in recording.times]
    assert played == shown
    assert [recording.state_at(at) for at in reversed(recording.times)] == shown[::-1]
    assert recording.state_at(-5) == shown[0]
    assert recording.state_at(1e9) == shown[-1]
    assert len(recording.marks) >= 2  # from planned to backfill to done


def test_the_values_of_charts_are_recorded_once_and_played_up_to_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = STATES["guard-backfill"]
    first = [MetricPoint(EPOCH - 20.0, 0.02, 0.01), MetricPoint(EPOCH - 10.0, None, 0.01)]
    later = [*first, MetricPoint(EPOCH + 1e9, 0.5, 0.01)]
    given = [first, later, later]
    rolled: list[Future[MetricHistory]] = []

    def fetch() -> "Future[MetricHistory]":
        rolled.append(Future())
        # Points are stored as ages: one that is read again has another rounding.
        points = [replace(point, at=point.at + 0.04 * len(rolled)) for point in given[min(len(rolled), 3) - 1]]
        rolled[-1].set_result(MetricHistory({"error-rate": tuple(points)}))
        return rolled[-1]

    source, file = FakeSource(state), tmp_path / "r.jsonl"
    monkeypatch.setattr(writer, "FETCH_INTERVAL", 0.1)
    recorder = RecordingWriter(source.state, file, fetch_history=fetch)
    while len(rolled) < 4:
        source.set_board(state)
    recorder.close(30)
    recording = load_recording(file)
    assert recording.points is not None
    assert [point.new for point in recording.points["error-rate"]] == [0.02, None, 0.5]
    playing = Player(recording)
    played = playing.fetch(MetricHistoryQuery()).result()
    assert [point.new for point in played.points["error-rate"]] == [0.02, None], "a value of the future is drawn"
    without = Player(load_recording(recorded(tmp_path / "old.jsonl", state)))
    with pytest.raises(ZddError, match="no values of the guard over time"):
        without.fetch(MetricHistoryQuery()).result()


def test_the_recording_in_docs_plays() -> None:
    """A change of the format needs a new recording there."""
    recording = load_recording(Path(__file__).parents[2] / "docs" / "release.jsonl.gz")
    states = []
    for at in recording.marks:
        record = recording.state_at(at).release.value
        assert record is not None
        states.append((record.release.state.value, record.release.phase))
    assert states[0][0] == "running"
    assert states[-1] == ("done", 5)
    assert {phase for _, phase in states} == set(range(6))


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    pods = [make_pod(f"{number:03}", "2", PodState.SERVING) for number in range(200)]
    first = replace(STATES["backfill"], workload=Observed(workload(pods, ready=200), MONOTONIC))
    pods[7] = replace(pods[7], restarts=3)
    second = replace(first, workload=Observed(workload(pods, ready=200), MONOTONIC + 1))
    _, whole, change = recorded(tmp_path / "r.jsonl", first, second).read_text().splitlines()
    assert len(whole) > 50_000
    assert len(change) < 200


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("mine")
    with pytest.raises(ZddError, match="exists already"):
        RecordingWriter(lambda: STATES["open"], file)
    with pytest.raises(ZddError, match="cannot be written"):
        RecordingWriter(lambda: STATES["open"], tmp_path / "no" / "r.jsonl")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_truncated_by_a_crash_plays(tmp_path: Path, packed: bool) -> None:
    name = "r.jsonl.gz" if packed else "r.jsonl"
    file = recorded(tmp_path / name, *[STATES[each] for each in ("planned", "backfill", "done")])
    file.write_bytes(file.read_bytes()[:-40])
    recording = load_recording(file)
    assert recording.state_at(1e9) in (STATES["backfill"], STATES["done"])
    assert len(recording.times) >= 2


BAD_LINES = {
    "no json": ("{", "is not part of a recording"),
    "no change": ('{"t": 1}', "no 'd'"),
    "back in time": ('{"t": -1, "d": {}}', "time runs backwards"),
    "no fit": ('{"t": 1, "d": {"~": {"release": {"~": {"value": {"@": [1]}}}}}}', "does not fit"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_damaged_line_is_reported_with_its_number(tmp_path: Path, case: str) -> None:
    bad, text = BAD_LINES[case]
    file = recorded(tmp_path / "r.jsonl", STATES["planned"], STATES["done"])
    header, first, last = file.read_text().splitlines()
    file.write_text("\n".join([header, first, bad, last]))
    with pytest.raises(ZddError, match="line 3") as caught:
        load_recording(file)
    assert text in caught.value.title


def test_an_invalid_value_is_reported_with_its_line(tmp_path: Path) -> None:
    file = recorded(tmp_path / "r.jsonl", STATES["planned"])
    header, first = file.read_text().splitlines()
    file.write_text("\n".join([header, first, '{"t": 1, "d": {"~": {"is_doctor_running": {"=": "perhaps"}}}}']))
    with pytest.raises(ZddError, match=r"line 3 cannot be shown: is_doctor_running"):
        load_recording(file).state_at(2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "line 1 is not the header"),
        ("kind: plan\n", "line 1 is not the header"),
        ('{"zdd": "recording", "version": 9, "plan": "x", "wall": 0, "monotonic": 0}', "in format 9"),
        ('{"zdd": "recording", "version": 2, "plan": "x", "wall": 0, "monotonic": 0}\n', "holds no state"),
        (
            '{"zdd": "recording", "version": 1, "plan": "x", "wall": 0, "monotonic": 0}\n',
            "in format 1; this zdd reads format 2",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "r"
    file.write_text(text)
    with pytest.raises(ZddError, match=error):
        load_recording(file)
    (tmp_path / "z.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ZddError, match=error):
        load_recording(tmp_path / "z.gz")
    with pytest.raises(ZddError, match="there is no file"):
        load_recording(tmp_path / "nowhere")


def recorded_player(tmp_path: Path) -> tuple[Player, list[float]]:
    """A recording of 100 s with marks at 30 and 60, and the machine's clock."""
    file = recorded(tmp_path / "r.jsonl", STATES["planned"])
    header, first = file.read_text().splitlines()
    record = STATES["planned"].release.value
    assert record is not None
    event = {"id": 900, "at": 1.0, "actor": {"name": "x", "host": "y"}, "kind": "step", "message": "w", "reason": ""}
    lines = [header, json.dumps(json.loads(first) | {"t": 0.0})]
    for at in (30, 60, 100):
        count = len(record.events)
        change: dict[str, Any] = {"@": [0, count, [event | {"id": 900 + min(at, 60)}]]} if at != 100 else {}
        whole = {"~": {"release": {"~": {"value": {"~": {"events": change}}}}}} if change else {}
        lines.append(json.dumps({"t": float(at), "d": whole}))
    file.write_text("\n".join(lines))
    now = [5000.0]
    return Player(load_recording(file), now=lambda: now[0]), now


def test_the_clock_follows_the_recording(tmp_path: Path) -> None:
    player, now = recorded_player(tmp_path)
    start = player.recording.header
    now[0] += 7
    player.start_clock()
    assert player.recording.marks == [30.0, 60.0]
    now[0] += 10
    assert (player.position, player.monotonic(), player.wall()) == (10, start.monotonic + 10, start.wall + 10)
    player.faster()
    now[0] += 10
    assert player.position == 30
    player.toggle()
    now[0] += 50
    assert player.position == 30
    player.toggle()
    player.slower()
    player.slower()
    now[0] += 10
    assert player.position == 35
    player.seek(1e9)
    assert player.is_ended
    player.toggle()
    assert (player.position, player.playing) == (0, True)
    for _ in range(20):
        player.faster()
    assert player.speed == PLAYBACK_SPEEDS[-1]


def test_it_jumps_from_event_to_event(tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    text: list[float] = []
    player.subscribe(lambda: text.append(player.position))
    for jump in [player.next_mark] * 3 + [player.previous_mark] * 3:
        jump()
    assert text == [30, 60, 100, 60, 30, 0]
    record = player.state().release.value
    assert record is not None
    assert all(isinstance(event, Event) for event in record.events)


def test_a_recording_accepts_no_command(tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    with pytest.raises(ZddError, match="this is a recording"):
        player.send_command(CommandRequest(CommandKind.PAUSE)).result(0)
    tail = player.follow_log(LogQuery("pod"))
    assert tail.snapshot().state == "ended"
    assert "the recording has no logs" in tail.snapshot().error
    tail.close()


@pytest.mark.parametrize("query", [ObjectQuery("Pod", "x"), BackfillQuery(), ShadowQuery(), PlanQuery()])
def test_other_queries_are_not_recorded(query: Query[Any], tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    with pytest.raises(ZddError, match="the recording has no "):
        player.fetch(query).result(0)


def test_the_audit_log_and_the_plan_come_from_the_states(tmp_path: Path) -> None:
    """Every event of an earlier state, though each state holds the newest only; none from later."""
    record = STATES["open"].release.value
    assert record is not None
    states = []
    for first in range(1, 7):
        events = tuple(
            Event(number, 5.0, record.events[0].actor, "step", f"did {number}") for number in (first, first + 1)
        )
        states.append(
            replace(STATES["open"], release=Observed(replace(record, events=events, plan_text="name: x"), MONOTONIC))
        )
    recording = load_recording(recorded(tmp_path / "r.jsonl", *states))
    player = Player(recording)
    player.seek(recording.times[-1])
    assert [event.id for event in player.fetch(AuditLogQuery()).result(0).events] == [1, 2, 3, 4, 5, 6, 7]
    short = player.fetch(AuditLogQuery(limit=2)).result(0)
    assert ([event.id for event in short.events], short.earlier_count) == ([6, 7], 5)
    assert player.fetch(PlanQuery()).result(0).stored == "name: x"
    player.toggle()
    player.seek(recording.times[1])
    assert [event.id for event in player.fetch(AuditLogQuery()).result(0).events] == [1, 2, 3]
    recording.events[1] = {"id": "one"}
    with pytest.raises(ZddError, match="has an event that cannot be shown"):
        player.fetch(AuditLogQuery()).result(0)


def test_start_positions(tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    recording = player.recording
    assert parse_position("1m", recording) == 60
    assert parse_position(player.time_of_day(recording.header.wall + 40), recording) == pytest.approx(40, abs=1)
    with pytest.raises(ZddError, match="is not a time"):
        parse_position("soon", recording)
    with pytest.raises(ZddError, match="is not in") as caught:
        parse_position("2h", recording)
    assert "1m40s" in caught.value.hint


def test_a_recording_that_started_late_has_the_audit_log_from_then_on(tmp_path: Path) -> None:
    record = STATES["open"].release.value
    assert record is not None
    for kind, since in (("release", None), ("step", 5.0)):
        events = (Event(9, 5.0, record.events[0].actor, kind, "did it"),)
        state = replace(STATES["open"], release=Observed(replace(record, events=events), MONOTONIC))
        player = Player(load_recording(recorded(tmp_path / f"{kind}.jsonl", state)))
        assert player.fetch(AuditLogQuery()).result(0).recorded_since == since
