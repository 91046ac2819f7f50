"""No metric series, gap or restart makes the guard roll back twice, roll back a finished release, or open a gate on
unknown.

The machine below is the whole guard without its I/O: counters of pods go in, as they may come from anywhere (resets,
gaps, silence, pods that come and go, an agent that is killed), and every command of the guard goes through the
release's own rules.
"""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zdd_tui.model.errors import Refused
from zdd_tui.model.guard.reading import GuardAction, GuardReading, decide, gate_verdict
from zdd_tui.model.guard.rule_state import Course, resumed, step
from zdd_tui.model.guard.rules import Look, judge
from zdd_tui.model.guard.series import Counts, Series, Target
from zdd_tui.model.guard.snapshot import keep_courses, keep_series, recall_courses, recall_series
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    State,
    command,
    finish,
    next_work,
    step_begins,
    step_ends,
    step_fails,
)
from zdd_tui.model.release.strategies import with_guard
from zdd_tui.model.release.strategy import expand_contract

ORDER = ("v1", "v2", "v3")
GUARD = Guard.model_validate(
    {
        "interval": "1s",
        "rules": [
            {"name": "errors", "metric": "error-rate", "limit": "5%", "window": "5s", "min_samples": 5},
            {
                "name": "slow",
                "metric": "latency",
                "limit": "200ms",
                "window": "5s",
                "for": "2s",
                "min_samples": 5,
                "no_data": {"after": "4s", "action": "rollback"},
            },
            {"name": "worse", "metric": "error-rate", "compare": {"ratio": 2}, "window": "5s", "action": "pause"},
            {"name": "told", "metric": "error-rate", "limit": "1%", "window": "5s", "action": "alert"},
        ],
    }
)
MAX_AGE = 4.0

counter = st.integers(0, 400)
pods = st.lists(
    st.tuples(
        st.sampled_from([("a", "v1"), ("b", "v1"), ("c", "v2"), ("d", "v2"), ("e", "v3")]),
        st.booleans(),
        st.one_of(st.none(), st.tuples(counter, counter, counter, counter)),
    ),
    unique_by=lambda pod: pod[0][0],
    max_size=5,
)


class GuardedRelease(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.release = Release("r", "h", with_guard(expand_contract()))
        self.stored: dict[str, GuardReading] = {}
        self.gates: dict[str, GateReading] = {}
        self.asked: list[CommandKind] = []
        self.dark: set[str] = set()
        self.after_the_end = 0
        self.kept: tuple[float, bytes, bytes] | None = None
        self.restart()

    @initialize()
    def begin(self) -> None:
        self.move(CommandKind.ADVANCE)

    # --- the world ------------------------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """The agent is killed: the next one has what was kept at the last look, and its own clock."""
        self.series = Series(keep=6, patience=3)
        courses: dict[str, Course] = {}
        if self.kept:
            at, said, counted = self.kept
            courses, _ = recall_courses(said, self.now - at, self.now)
            recall_series(counted, {"scrape": self.series}, self.now - at, self.now)
        self.courses = {
            one.name: resumed(self.stored.get(one.name), courses.get(one.name), self.now) for one in GUARD.rules
        }

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 8.0, 600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seen=pods)
    def look(self, seen: list[tuple[tuple[str, str], bool, tuple[int, int, int, int] | None]]) -> None:
        self.now += 1.0
        targets, found = [], {}
        for (name, version), rotating, numbers in seen:
            targets.append(Target(name, version, rotating))
            if numbers is None:
                found[name] = "no answer"
                continue
            requests, errors, fast, slow = numbers
            buckets = {0.1: float(fast), 1.0: float(fast + slow), math.inf: float(fast + slow)}
            found[name] = Counts(requests, min(errors, requests), buckets, known=frozenset({"requests", "duration"}))
        self.series.look(self.now, targets, found)
        self.judge()

    def judge(self) -> None:
        self.dark = set()
        for one in GUARD.rules:
            window = self.series.tallies(self.now, one.window)
            finding = judge(one, [window], ORDER)
            if finding.look in (Look.DARK, Look.THIN):
                self.dark.add(one.name)
            self.courses[one.name], reading = step(one, self.courses[one.name], finding, self.now, GUARD.interval)
            self.stored[one.name] = replace(reading, observed_at=self.now, max_age=MAX_AGE)
        counted = keep_series({"scrape": self.series}, [5.0], self.now)
        self.kept = self.now, keep_courses(self.courses, {}, self.now), counted
        for act in decide(self.release, tuple(self.stored.values()), rolled_back=CommandKind.ROLLBACK in self.asked):
            self.courses[act.rule] = replace(self.courses[act.rule], acted=str(act.action))
            self.stored[act.rule] = replace(self.stored[act.rule], acted=str(act.action))
            if act.command is not None:
                self.asked.append(act.command)
                self.after_the_end += self.release.state.ended
                self.release = command(self.release, Command(act.command), self.gates, self.now)

    # --- the release ------------------------------------------------------------------------------------------------

    @rule(fails=st.booleans())
    def work(self, fails: bool) -> None:
        if (work := next_work(self.release)) is not None:
            begun = step_begins(self.release, work)
            self.release = step_fails(begun, work, "no") if fails else step_ends(begun, work)

    @rule(kind=st.sampled_from(list(CommandKind)))
    def operate(self, kind: CommandKind) -> None:
        self.move(kind)

    @precondition(lambda self: self.release.current is not None)
    @rule()
    def walk(self) -> None:
        """Everything but the guard lets the release through."""
        while (work := next_work(self.release)) is not None:
            self.release = step_ends(step_begins(self.release, work), work)
        self.move(CommandKind.ADVANCE)

    def move(self, kind: CommandKind) -> None:
        before = self.release
        said, why = gate_verdict(GUARD.demanded, self.stored, self.now)
        for phase in self.release.strategy.phases:
            for gate in phase.gates:
                self.gates[gate.name] = GateReading(gate.name, Verdict.PASS, "ok", self.now)
        self.gates["guard"] = GateReading("guard", said, why, self.now)
        try:
            self.release = command(self.release, Command(kind, typed="r"), self.gates, self.now)
            self.release = finish(self.release, self.gates, self.now)
        except Refused:
            return
        left = before.state is State.WAITING and kind is CommandKind.ADVANCE
        if left:
            for one in GUARD.rules:
                if one.action is GuardAction.ALERT:
                    continue
                reading = self.stored[one.name].at(self.now)
                assert reading.verdict is Verdict.PASS or not reading.applies
                assert one.name not in self.dark, "a gate was left on too few or no data"
                assert self.now - reading.observed_at <= MAX_AGE, "a gate was left on an old reading"

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def one_rollback_at_most(self) -> None:
        assert self.asked.count(CommandKind.ROLLBACK) <= 1

    @invariant()
    def nothing_is_asked_of_a_release_that_has_ended(self) -> None:
        assert self.after_the_end == 0


TestGuardedRelease = GuardedRelease.TestCase
TestGuardedRelease.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(max_examples=300, deadline=None)
@given(
    verdicts=st.dictionaries(st.sampled_from(["errors", "slow", "worse"]), st.sampled_from(list(Verdict))),
    age=st.floats(0, 100),
    applies=st.booleans(),
)
def test_the_gate_passes_only_when_every_rule_was_seen_to_pass(
    verdicts: dict[str, Verdict], age: float, applies: bool
) -> None:
    readings = {
        name: GuardReading(name, verdict, "told", observed_at=1000.0, max_age=10.0, applies=applies)
        for name, verdict in verdicts.items()
    }
    said, _ = gate_verdict(GUARD.demanded, readings, 1000.0 + age)
    if said is Verdict.PASS:
        assert set(verdicts) == {"errors", "slow", "worse"}
        assert age <= 10.0
        assert not applies or set(verdicts.values()) == {Verdict.PASS}


@settings(max_examples=300, deadline=None)
@given(looks=st.lists(st.tuples(counter, counter), min_size=2, max_size=20), window=st.floats(1, 30))
def test_no_counter_makes_a_rate_outside_0_to_1(looks: list[tuple[int, int]], window: float) -> None:
    series = Series(keep=30, patience=5)
    for at, (requests, errors) in enumerate(looks):
        series.look(float(at), [Target("a", "v1")], {"a": Counts(requests, errors)})
        for tally in series.tallies(float(at), window).values():
            assert tally.requests >= 0
            assert tally.errors >= 0
            assert tally.error_rate is None or 0 <= tally.error_rate <= 1
