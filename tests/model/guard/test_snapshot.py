"""When an agent is killed, the next one continues the guard: verdicts come later by no more than the gap."""

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.model.guard.rule_state import RuleState, resume_rule_state, update_rule_state
from zdd_tui.model.guard.rules import RuleEvaluation, RuleOutcome, evaluate_rule
from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget
from zdd_tui.model.guard.snapshot import SNAPSHOT_FORMAT, load_rule_states, load_series, save_rule_states, save_series
from zdd_tui.model.plan.guard import GuardRule
from zdd_tui.model.release.records import GuardReading

INTERVAL = 1.0
WINDOW = 8.0
FOR_SECONDS = 3.0
LAST = 80
TARGETS = [MetricTarget("old-1", "v1"), MetricTarget("new-1", "v2"), MetricTarget("new-2", "v2")]


def rule(**keys: object) -> GuardRule:
    keys.setdefault("window", WINDOW)
    return GuardRule.model_validate({"name": "rule"} | keys)


@dataclass
class FaultyPods:
    """Pods that count requests, and a fault that begins at a second and stays."""

    fault: str
    begins: int
    a_second: int

    def counts(self, target: MetricTarget, at: int) -> CounterSample | str:
        broken = max(0, at - self.begins) if target.version == "v2" else 0
        if self.fault == "silence" and broken:
            return "status 404"
        requests = float(at * self.a_second)
        slow = float(broken * self.a_second) if self.fault == "slow" else 0.0
        return CounterSample(
            requests=requests,
            errors=float(broken * self.a_second) if self.fault == "errors" else 0.0,
            buckets={0.1: requests - slow, 1.0: requests, math.inf: requests},
            restarts=float(broken // 2) if self.fault == "crashes" else 0.0,
            available=frozenset({"requests", "duration", "restarts"}),
        )


@dataclass
class GuardProcess:
    """The guard of one process, whose clock began at `zero`."""

    rule: GuardRule
    zero: float
    series: MetricSeries = field(default_factory=lambda: MetricSeries(WINDOW + INTERVAL, FOR_SECONDS))
    state: RuleState = field(default_factory=RuleState)

    def read(self, world: FaultyPods, at: int) -> GuardReading:
        now = at + self.zero
        self.series.observe(now, TARGETS, {target.key: world.counts(target, at) for target in TARGETS})
        finding = evaluate_rule(self.rule, [self.series.window_stats(now, WINDOW)], ("v1", "v2"))
        self.state, reading = update_rule_state(self.rule, self.state, finding, now, INTERVAL)
        return reading

    def save(self, at: int) -> tuple[int, bytes, bytes]:
        now = at + self.zero
        return at, save_rule_states({"rule": self.state}, {}, now), save_series({"s": self.series}, [WINDOW], now)

    def restore(self, kept: tuple[int, bytes, bytes], at: int, stored: GuardReading) -> None:
        then, states, counters = kept
        now = at + self.zero
        load_series(counters, {"s": self.series}, at - then, now)
        self.state = resume_rule_state(stored, load_rule_states(states, at - then, now)[0]["rule"], now)


def verdict_at(a_rule: GuardRule, world: FaultyPods, *, killed: int | None = None, gap: int = 0) -> int | None:
    """The second in which the guard acts; by the way it proves that it acts once."""
    agent, acted, kept, stored = GuardProcess(a_rule, zero=1000.0), None, None, None
    for at in range(LAST):
        if killed is not None and killed < at < killed + gap:
            continue
        if killed is not None and at == killed + gap and kept is not None and stored is not None:
            agent = GuardProcess(a_rule, zero=-5.0)
            agent.restore(kept, at, stored)
        stored = agent.read(world, at)
        if stored.should_act and not stored.action_taken:
            assert acted is None, "it acts twice"
            acted = at
            # As the engine does it: what was done is stored with the doing.
            agent.state = RuleState(
                **{name: getattr(agent.state, name) for name in RuleState.__slots__} | {"action_taken": "x"}
            )
            stored = GuardReading(stored.rule, stored.verdict, stored.reason, series=stored.series, action_taken="x")
        if at == killed:
            kept = agent.save(at)
    return acted


FAULTS = {
    "errors": {"metric": "error-rate", "limit": "5%"},
    "slow": {"metric": "latency", "limit": "200ms", "quantile": "p90"},
    "crashes": {"metric": "restarts", "limit": 2},
    "silence": {"metric": "error-rate", "limit": "5%"},
}


@settings(max_examples=120, deadline=None)
@given(
    fault=st.sampled_from(sorted(FAULTS)),
    begins=st.integers(3, 20),
    lasting=st.integers(0, 12),
    killed=st.integers(1, 50),
    gap=st.integers(1, 30),
    a_second=st.sampled_from([20, 200]),
)
def test_a_restart_delays_a_verdict_by_at_most_its_gap_and_one_interval(
    fault: str, begins: int, lasting: int, killed: int, gap: int, a_second: int
) -> None:
    keys = dict(FAULTS[fault])
    if fault == "silence":
        a_rule = rule(**keys, no_data={"after": lasting + 0.5, "action": "rollback"})
    else:
        a_rule = rule(**keys, **{"for": float(lasting)})
    world = FaultyPods(fault, begins, a_second)
    undisturbed = verdict_at(a_rule, world)
    assert undisturbed is not None
    found = verdict_at(a_rule, world, killed=killed, gap=gap)
    assert found is not None
    # Restarts are rare: once the gap has slid out of the window, as many must come anew as the limit wants.
    refill = 6 if fault == "crashes" and gap > WINDOW / 2 else 0
    assert found <= undisturbed + gap + INTERVAL + refill


@settings(max_examples=100, deadline=None)
@given(killed=st.integers(30, 60), gap=st.integers(1, 7))
def test_a_restored_window_is_usable_at_once(killed: int, gap: int) -> None:
    """Few requests: an empty window would be thin for as long as it takes to fill."""
    few = rule(metric="error-rate", limit="5%", min_samples=12)
    agent, world = GuardProcess(few, zero=1000.0), FaultyPods("errors", 20, 2)
    for at in range(killed + 1):
        stored = agent.read(world, at)
    kept = agent.save(killed)
    another = GuardProcess(few, zero=7.0)
    another.restore(kept, killed + gap, stored)
    output = another.read(world, killed + gap)
    assert output.should_act
    assert output.value == 1.0


def test_a_gap_is_no_proof_of_health() -> None:
    """Longer than the window: the first look of the next agent passes nothing, and ends no breach."""
    for fault, keys in FAULTS.items():
        a_rule = rule(**keys, **{"for": "20s"})
        agent, world = GuardProcess(a_rule, zero=0.0), FaultyPods(fault, 5, 100)
        for at in range(16):
            stored = agent.read(world, at)
        another = GuardProcess(a_rule, zero=50.0)
        another.restore(agent.save(15), 45, stored)
        output = another.read(world, 45)
        assert output.verdict in ("inconclusive", "unknown"), (fault, output)
        assert another.state.breached_seconds == agent.state.breached_seconds or fault == "silence"


def test_time_without_an_agent_does_not_count() -> None:
    a_rule = rule(metric="error-rate", limit="5%", **{"for": "5s"})
    over = RuleEvaluation(RuleOutcome.BREACHED, "reason", 0.5)
    kept, _ = update_rule_state(a_rule, RuleState(), over, 0.0, INTERVAL)
    kept, _ = update_rule_state(a_rule, kept, over, 2.0, INTERVAL)
    rule_state = resume_rule_state(None, kept, 1000.0)
    rule_state, output = update_rule_state(a_rule, rule_state, over, 1000.0, INTERVAL)
    assert (rule_state.breached_seconds, output.should_act) == (2.0, False)
    for at in (1001.0, 1002.0, 1003.0):
        rule_state, output = update_rule_state(a_rule, rule_state, over, at, INTERVAL)
    assert (rule_state.breached_seconds, output.should_act) == (5.0, True)


def test_a_snapshot_restores_all_counters() -> None:
    world = FaultyPods("slow", 4, 100)
    agent = GuardProcess(rule(metric="latency", limit="200ms"), zero=0.0)
    for at in range(12):
        agent.read(world, at)
    other = MetricSeries(WINDOW + INTERVAL, FOR_SECONDS)
    load_series(
        save_series({"s": agent.series}, [WINDOW], 11.0), {"s": other, "unknown": MetricSeries(1, 1)}, 0.0, 11.0
    )
    assert other.window_stats(11.0, WINDOW) == agent.series.window_stats(11.0, WINDOW)
    pairs = {"rule": [(10.0, 0.2, 0.1)]}
    states, back = load_rule_states(save_rule_states({"rule": agent.state}, pairs, 11.0), 3.0, 100.0)
    assert back == {"rule": [(96.0, 0.2, 0.1)]}
    assert states["rule"].observed_at == 97.0


def test_a_snapshot_in_another_format_is_ignored() -> None:
    assert b'"format": %d' % SNAPSHOT_FORMAT in save_rule_states({}, {}, 0.0)
    other = save_rule_states({"rule": RuleState(breached_seconds=3.0)}, {}, 0.0).replace(
        b'"format": %d' % SNAPSHOT_FORMAT, b'"format": 0'
    )
    assert load_rule_states(other, 0.0, 0.0) == ({}, {})
