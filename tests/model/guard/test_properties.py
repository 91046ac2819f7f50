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
from zdd_tui.model.guard.decisions import decide_actions, evaluate_guard_gate
from zdd_tui.model.guard.rule_state import RuleState, resume_rule_state, update_rule_state
from zdd_tui.model.guard.rules import RuleOutcome, evaluate_rule
from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget
from zdd_tui.model.guard.snapshot import load_rule_states, load_series, save_rule_states, save_series
from zdd_tui.model.plan.guard import Guard, GuardAction
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    ReleaseState,
    apply_command,
    complete_if_open,
    mark_step_failed,
    mark_step_finished,
    mark_step_started,
    next_pending_step,
)
from zdd_tui.model.release.strategies import add_guard_gate
from zdd_tui.model.release.strategy import build_expand_contract

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
            {"name": "alerting", "metric": "error-rate", "limit": "1%", "window": "5s", "action": "alert"},
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
        self.release = Release("r", "h", add_guard_gate(build_expand_contract()))
        self.stored: dict[str, GuardReading] = {}
        self.gates: dict[str, GateReading] = {}
        self.commands: list[CommandKind] = []
        self.no_data: set[str] = set()
        self.after_the_end = 0
        self.saved: tuple[float, bytes, bytes] | None = None
        self.restart()

    @initialize()
    def begin(self) -> None:
        self.move(CommandKind.ADVANCE)

    # --- the world ------------------------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """The agent is killed: the next one has the last snapshot, and its own clock."""
        self.series = MetricSeries(retention=6, silence_timeout=3)
        states: dict[str, RuleState] = {}
        if self.saved:
            at, output, counted = self.saved
            states, _ = load_rule_states(output, self.now - at, self.now)
            load_series(counted, {"scrape": self.series}, self.now - at, self.now)
        self.states = {
            one.name: resume_rule_state(self.stored.get(one.name), states.get(one.name), self.now)
            for one in GUARD.rules
        }

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 8.0, 600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seen=pods)
    def read(self, seen: list[tuple[tuple[str, str], bool, tuple[int, int, int, int] | None]]) -> None:
        self.now += 1.0
        targets, found = [], {}
        for (name, version), rotating, numbers in seen:
            targets.append(MetricTarget(name, version, rotating))
            if numbers is None:
                found[name] = "no response"
                continue
            requests, errors, fast, slow = numbers
            buckets = {0.1: float(fast), 1.0: float(fast + slow), math.inf: float(fast + slow)}
            found[name] = CounterSample(
                requests, min(errors, requests), buckets, available=frozenset({"requests", "duration"})
            )
        self.series.observe(self.now, targets, found)
        self.evaluate()

    def evaluate(self) -> None:
        self.no_data = set()
        for one in GUARD.rules:
            window = self.series.window_stats(self.now, one.window)
            finding = evaluate_rule(one, [window], ORDER)
            if finding.outcome in (RuleOutcome.NO_DATA, RuleOutcome.TOO_FEW):
                self.no_data.add(one.name)
            self.states[one.name], reading = update_rule_state(
                one, self.states[one.name], finding, self.now, GUARD.interval
            )
            self.stored[one.name] = replace(reading, observed_at=self.now, max_age=MAX_AGE)
        counted = save_series({"scrape": self.series}, [5.0], self.now)
        self.saved = self.now, save_rule_states(self.states, {}, self.now), counted
        for act in decide_actions(
            self.release, tuple(self.stored.values()), rolled_back=CommandKind.ROLLBACK in self.commands
        ):
            self.states[act.rule] = replace(self.states[act.rule], action_taken=str(act.action))
            self.stored[act.rule] = replace(self.stored[act.rule], action_taken=str(act.action))
            if act.command is not None:
                self.commands.append(act.command)
                self.after_the_end += self.release.state.has_ended
                self.release = apply_command(self.release, Command(act.command), self.gates, self.now)

    # --- the release ------------------------------------------------------------------------------------------------

    @rule(fails=st.booleans())
    def work(self, fails: bool) -> None:
        if (work := next_pending_step(self.release)) is not None:
            begun = mark_step_started(self.release, work)
            self.release = mark_step_failed(begun, work, "no") if fails else mark_step_finished(begun, work)

    @rule(kind=st.sampled_from(list(CommandKind)))
    def operate(self, kind: CommandKind) -> None:
        self.move(kind)

    @precondition(lambda self: self.release.current_phase is not None)
    @rule()
    def open_other_gates(self) -> None:
        """Everything but the guard lets the release through."""
        while (work := next_pending_step(self.release)) is not None:
            self.release = mark_step_finished(mark_step_started(self.release, work), work)
        self.move(CommandKind.ADVANCE)

    def move(self, kind: CommandKind) -> None:
        before = self.release
        output, why = evaluate_guard_gate(GUARD.rule_actions, self.stored, self.now)
        for phase in self.release.strategy.phases:
            for gate in phase.gates:
                self.gates[gate.name] = GateReading(gate.name, Verdict.PASS, "ok", self.now)
        self.gates["guard"] = GateReading("guard", output, why, self.now)
        try:
            self.release = apply_command(self.release, Command(kind, typed="r"), self.gates, self.now)
            self.release = complete_if_open(self.release, self.gates, self.now)
        except Refused:
            return
        left = before.state is ReleaseState.WAITING and kind is CommandKind.ADVANCE
        if left:
            for one in GUARD.rules:
                if one.action is GuardAction.ALERT:
                    continue
                reading = self.stored[one.name].as_of(self.now)
                assert reading.verdict is Verdict.PASS or not reading.is_applicable
                assert one.name not in self.no_data, "a gate was left on too few or no data"
                assert self.now - reading.observed_at <= MAX_AGE, "a gate was left on an old reading"

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_rollback(self) -> None:
        assert self.commands.count(CommandKind.ROLLBACK) <= 1

    @invariant()
    def an_ended_release_gets_no_command(self) -> None:
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
        name: GuardReading(name, verdict, "reason", observed_at=1000.0, max_age=10.0, is_applicable=applies)
        for name, verdict in verdicts.items()
    }
    output, _ = evaluate_guard_gate(GUARD.rule_actions, readings, 1000.0 + age)
    if output is Verdict.PASS:
        assert set(verdicts) == {"errors", "slow", "worse"}
        assert age <= 10.0
        assert not applies or set(verdicts.values()) == {Verdict.PASS}


@settings(max_examples=300, deadline=None)
@given(looks=st.lists(st.tuples(counter, counter), min_size=2, max_size=20), window=st.floats(1, 30))
def test_no_counter_makes_a_rate_outside_0_to_1(looks: list[tuple[int, int]], window: float) -> None:
    series = MetricSeries(retention=30, silence_timeout=5)
    for at, (requests, errors) in enumerate(looks):
        series.observe(float(at), [MetricTarget("a", "v1")], {"a": CounterSample(requests, errors)})
        for window_stats in series.window_stats(float(at), window).values():
            assert window_stats.requests >= 0
            assert window_stats.errors >= 0
            assert window_stats.error_rate is None or 0 <= window_stats.error_rate <= 1
