"""Recordings: every board comes back as it was, only changes are written, and damage is told with its line."""

import gzip
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.doctor_report import report
from tests.support.states import MONOTONIC, dashboard_situations, workload
from tests.support.states import pod as make_pod
from tests.support.strategy_states import guard_situations
from zdd_tui.cli.replay import parse_position
from zdd_tui.dashboard.recording.codec import Decoder, Encoder
from zdd_tui.dashboard.recording.delta import apply_delta, compute_delta
from zdd_tui.dashboard.recording.player import PLAYBACK_SPEEDS, Player
from zdd_tui.dashboard.recording.reader import load_recording
from zdd_tui.dashboard.recording.writer import RecordingWriter
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import AuditLogQuery, BackfillQuery, LogQuery, ObjectQuery, PlanQuery, Query
from zdd_tui.model.release.records import CommandRequest, Event
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.shadow import ShadowQuery
from zdd_tui.model.workload.pod import PodState

BOARDS = dashboard_situations() | guard_situations()
BOARDS["doctor"] = replace(BOARDS["open"], doctor_report=Observed(report(), MONOTONIC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def as_text(value: Any) -> str:
    """Tells 1 from 1.0 and from True, which Python calls equal."""
    return json.dumps(value, sort_keys=True)


@given(JSON, JSON)
def test_a_change_makes_the_new_value_of_the_old(old: Any, new: Any) -> None:
    change = json.loads(json.dumps(compute_delta(old, new)))
    before = as_text(old)
    assert as_text(apply_delta(old, change)) == as_text(new)
    assert as_text(old) == before
    assert bool(change) == (as_text(old) != as_text(new))


@given(st.lists(st.integers(), min_size=3), st.lists(st.integers(), min_size=1))
def test_what_a_list_gains_in_front_is_all_that_is_written(old: list[int], items: list[int]) -> None:
    change = compute_delta(old, [*items, *old])
    assert len(change["@"][2]) == len(items)


@pytest.mark.parametrize("change", [{"~": {"9": {"=": 1}}}, {"~": {"x": {"=": 1}}}, {"@": [1]}, {"?": 1}], ids=str)
def test_a_change_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        apply_delta([1, 2], change)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_comes_back_as_it_was(name: str) -> None:
    parts = json.loads(json.dumps(Encoder().encode(BOARDS[name])))
    assert Decoder().decode(parts) == BOARDS[name]


@given(st.lists(st.sampled_from(sorted(BOARDS)), min_size=1, max_size=8))
def test_boards_one_after_the_other_come_back_by_their_changes(names: list[str]) -> None:
    encoder, decoder = Encoder(), Decoder()
    before: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name in names:
        parts = encoder.encode(BOARDS[name])
        shown = apply_delta(shown, json.loads(json.dumps(compute_delta(before, parts))))
        before = parts
        assert decoder.decode(shown) == BOARDS[name]


def test_what_has_not_changed_stays_the_same_object() -> None:
    encoder, decoder = Encoder(), Decoder()
    first = encoder.encode(BOARDS["open"])
    one = decoder.decode(first)
    second = apply_delta(first, compute_delta(first, encoder.encode(replace(BOARDS["open"], is_doctor_running=True))))
    other = decoder.decode(second)
    assert other.is_doctor_running
    assert other.release is one.release
    assert other.workload is one.workload


class FakeSource:
    """A board that a test sets, and the moment at which the recorder has seen it."""

    def __init__(self, board: DashboardState) -> None:
        self.current = board
        self._was_read = threading.Event()

    def state(self) -> DashboardState:
        self._was_read.set()
        return self.current

    def set_board(self, board: DashboardState) -> None:
        self.current = board
        for _ in range(2):  # the look that is under way may have begun before
            self._was_read.clear()
            assert self._was_read.wait(30)


def recorded(file: Path, *boards: DashboardState) -> Path:
    source = FakeSource(boards[0])
    recorder = RecordingWriter(source.state, file)
    for board in boards:
        source.set_board(board)
    recorder.close(30)
    assert recorder.error == ""
    return file


@pytest.mark.parametrize("name", ["one.jsonl", "one.jsonl.gz"])
def test_what_was_recorded_is_what_is_played(tmp_path: Path, name: str) -> None:
    shown = [BOARDS[each] for each in ("connecting", "planned", "backfill", "stale", "done")]
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


def test_the_recording_of_a_whole_release_still_plays() -> None:
    """Recordings are kept: what an older zdd has written is read by this one."""
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
    first = replace(BOARDS["backfill"], workload=Observed(workload(pods, ready=200), MONOTONIC))
    pods[7] = replace(pods[7], restarts=3)
    second = replace(first, workload=Observed(workload(pods, ready=200), MONOTONIC + 1))
    _, whole, change = recorded(tmp_path / "r.jsonl", first, second).read_text().splitlines()
    assert len(whole) > 50_000
    assert len(change) < 200


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("mine")
    with pytest.raises(ZddError, match="exists already"):
        RecordingWriter(lambda: BOARDS["open"], file)
    with pytest.raises(ZddError, match="cannot be written"):
        RecordingWriter(lambda: BOARDS["open"], tmp_path / "no" / "r.jsonl")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_that_a_crash_has_cut_plays_to_there(tmp_path: Path, packed: bool) -> None:
    name = "r.jsonl.gz" if packed else "r.jsonl"
    file = recorded(tmp_path / name, *[BOARDS[each] for each in ("planned", "backfill", "done")])
    file.write_bytes(file.read_bytes()[:-40])
    recording = load_recording(file)
    assert recording.state_at(1e9) in (BOARDS["backfill"], BOARDS["done"])
    assert len(recording.times) >= 2


BAD_LINES = {
    "no json": ("{", "is not part of a recording"),
    "no change": ('{"t": 1}', "no 'd'"),
    "back in time": ('{"t": -1, "d": {}}', "time runs backwards"),
    "no fit": ('{"t": 1, "d": {"~": {"release": {"~": {"value": {"@": [1]}}}}}}', "does not fit"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_damaged_line_is_told_by_its_number(tmp_path: Path, case: str) -> None:
    bad, text = BAD_LINES[case]
    file = recorded(tmp_path / "r.jsonl", BOARDS["planned"], BOARDS["done"])
    header, first, last = file.read_text().splitlines()
    file.write_text("\n".join([header, first, bad, last]))
    with pytest.raises(ZddError, match="line 3") as caught:
        load_recording(file)
    assert text in caught.value.title


def test_a_value_that_no_board_can_hold_is_told_by_its_line(tmp_path: Path) -> None:
    file = recorded(tmp_path / "r.jsonl", BOARDS["planned"])
    header, first = file.read_text().splitlines()
    file.write_text("\n".join([header, first, '{"t": 1, "d": {"~": {"examining": {"=": "perhaps"}}}}']))
    with pytest.raises(ZddError, match=r"line 3 cannot be shown: examining"):
        load_recording(file).state_at(2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1 is not the header"),
        ("kind: plan\n", "line 1 is not the header"),
        ('{"zdd": "recording", "version": 9, "plan": "x", "wall": 0, "monotonic": 0}', "version 9"),
        ('{"zdd": "recording", "version": 1, "plan": "x", "wall": 0, "monotonic": 0}\n', "holds no board"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "r"
    file.write_text(text)
    with pytest.raises(ZddError, match=told):
        load_recording(file)
    (tmp_path / "z.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ZddError, match=told):
        load_recording(tmp_path / "z.gz")
    with pytest.raises(ZddError, match="there is no recording"):
        load_recording(tmp_path / "nowhere")


def recorded_player(tmp_path: Path) -> tuple[Player, list[float]]:
    """A recording of 100 s with marks at 30 and 60, and the machine's clock."""
    file = recorded(tmp_path / "r.jsonl", BOARDS["planned"])
    header, first = file.read_text().splitlines()
    record = BOARDS["planned"].release.value
    assert record is not None
    event = {"id": 900, "at": 1.0, "actor": {"name": "x", "host": "y"}, "kind": "step", "what": "w", "why": ""}
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


def test_a_recording_takes_no_command(tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    with pytest.raises(ZddError, match="this is a recording"):
        player.send_command(CommandRequest(CommandKind.PAUSE)).result(0)
    tail = player.follow_log(LogQuery("pod"))
    assert tail.snapshot().state == "ended"
    assert "a recording holds no logs" in tail.snapshot().error
    tail.close()


@pytest.mark.parametrize("query", [ObjectQuery("Pod", "x"), BackfillQuery(), ShadowQuery(), PlanQuery()])
def test_what_was_on_no_board_is_plainly_not_there(query: Query[Any], tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    with pytest.raises(ZddError, match=r"a recording holds no .*: it has what the board said"):
        player.fetch(query).result(0)


def test_the_audit_and_the_plan_are_those_of_the_boards(tmp_path: Path) -> None:
    """Every event that some board had, though each board keeps but the last ones; and none from later."""
    record = BOARDS["open"].release.value
    assert record is not None
    boards = []
    for first in range(1, 7):
        events = tuple(
            Event(number, 5.0, record.events[0].actor, "step", f"did {number}") for number in (first, first + 1)
        )
        boards.append(
            replace(BOARDS["open"], release=Observed(replace(record, events=events, plan_text="name: x"), MONOTONIC))
        )
    recording = load_recording(recorded(tmp_path / "r.jsonl", *boards))
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


def test_a_time_to_begin_at(tmp_path: Path) -> None:
    player, _ = recorded_player(tmp_path)
    recording = player.recording
    assert parse_position("1m", recording) == 60
    assert parse_position(player.time_of_day(recording.header.wall + 40), recording) == pytest.approx(40, abs=1)
    with pytest.raises(ZddError, match="is no time"):
        parse_position("soon", recording)
    with pytest.raises(ZddError, match="is not in") as caught:
        parse_position("2h", recording)
    assert "1m40s" in caught.value.hint


def test_a_recording_that_began_late_says_from_when_on_it_has_the_audit(tmp_path: Path) -> None:
    record = BOARDS["open"].release.value
    assert record is not None
    for kind, since in (("release", None), ("step", 5.0)):
        events = (Event(9, 5.0, record.events[0].actor, kind, "did it"),)
        board = replace(BOARDS["open"], release=Observed(replace(record, events=events), MONOTONIC))
        player = Player(load_recording(recorded(tmp_path / f"{kind}.jsonl", board)))
        assert player.fetch(AuditLogQuery()).result(0).recorded_since == since
