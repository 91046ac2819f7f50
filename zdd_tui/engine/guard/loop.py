"""The guard at work: it looks, judges, writes down what it saw, and acts, for as long as the agent holds the lease.

It is a loop of its own, beside the steps and the gates: it judges while a rollout runs, while a gate waits for a person
and while the release is paused.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.metrics import prometheus
from zdd_tui.backends.metrics.probe import Prober
from zdd_tui.backends.metrics.scrape import scrape_all
from zdd_tui.backends.store import guard as guard_store
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.guard.targets import PodTargets, build_url_target
from zdd_tui.model.errors import BackendError, MetricsError
from zdd_tui.model.guard.reading import GuardReading, decide_actions
from zdd_tui.model.guard.rule_state import MAX_MISSED_INTERVALS, RuleState, resume_rule_state, update_rule_state
from zdd_tui.model.guard.rules import (
    QueryResult,
    RuleEvaluation,
    RuleOutcome,
    evaluate_query_rule,
    evaluate_rule,
    metric_value,
    p_value,
    split_new_and_old,
)
from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget, WindowStats
from zdd_tui.model.guard.snapshot import load_rule_states, load_series, save_rule_states, save_series
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.guard import Guard, GuardRule, Metric, Source
from zdd_tui.model.release.state import Release

MIN_SILENCE_TIMEOUT = 3.0
"""Seconds without an answer that are no silence yet, however often the guard looks."""

SNAPSHOT_BYTES_PER_SECOND = 20_000
"""Bytes: the counters of many pods are kept more seldom than at every look, or they would fill the log."""

MIN_PAUSE = 0.05
TIME_TOLERANCE = 1e-6


@dataclass(slots=True)
class _MetricSource:
    """One source of counters: what it showed, and why it showed nothing last time."""

    series: MetricSeries
    error: str = ""
    targets: Sequence[MetricTarget] = ()
    cached_stats: dict[float, dict[str, WindowStats]] = field(default_factory=dict)
    previous_at: float | None = None
    last_at: float | None = None

    def observe(self, now: float, targets: Sequence[MetricTarget], results: Mapping[str, CounterSample | str]) -> None:
        self.error, self.targets = "", targets
        self.previous_at, self.last_at = self.last_at, now
        self.series.observe(now, targets, results)
        self.cached_stats.clear()

    def observe_failure(self, now: float, error: str) -> None:
        """Nobody could look: the targets stay what they were, and grow silent."""
        self.error = error
        self.series.observe(now, self.targets, {target.key: error for target in self.targets})
        self.cached_stats.clear()

    def restore_from_series(self) -> None:
        """The series goes on where that of another agent stopped, and so does this."""
        self.targets = tuple(line.target for line in self.series.histories.values() if line.is_live)
        self.last_at = self.series.observed_at

    def window_stats(self, now: float, window: float) -> dict[str, WindowStats]:
        if window not in self.cached_stats:
            self.cached_stats[window] = self.series.window_stats(now, window)
        return self.cached_stats[window]


class GuardLoop:
    """Judges one release.

    Args:
        cluster: None while there is no connection yet; the guard judges what it can without.
        release: where the release stands now.
        log: takes a line for the agent's log.
    """

    def __init__(
        self,
        plan: BasePlan,
        guard: Guard,
        store: AgentStore,
        *,
        cluster: Callable[[], Cluster | None],
        release: Callable[[], Release],
        log: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._guard = guard
        self._store = store
        self._release = release
        self._log = log
        longest = max(max(rule.windows) for rule in guard.rules)
        patience = max(MAX_MISSED_INTERVALS * guard.interval + guard.sources.scrape.timeout, MIN_SILENCE_TIMEOUT)
        wanted = {rule.effective_source for rule in guard.rules} - {Source.PROMETHEUS}
        self._sources = {source: _MetricSource(MetricSeries(longest + guard.interval, patience)) for source in wanted}
        self._pods = PodTargets(plan, cluster)
        self._rule_states: dict[str, RuleState] = {}
        self._pairs: dict[str, deque[tuple[float, float, float]]] = {}
        self._rolled_back = False
        self._next_save_at = 0.0
        self._probe_source = ProbeSource(guard)

    async def run(self) -> None:
        """For ever. What a source cannot tell becomes a verdict; only a lost database or lease ends it."""
        await self.resume()
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                began = loop.time()
                await self.evaluate_once(session)
                await asyncio.sleep(max(MIN_PAUSE, self._guard.interval - (loop.time() - began)))

    async def resume(self) -> None:
        """Reads what a guard before this one has seen, said and done."""
        stored = {reading.rule: reading for reading in (await self._store.read()).guard}
        kept = await guard_store.load_snapshot(self._store)
        now = asyncio.get_running_loop().time()
        courses: dict[str, RuleState] = {}
        if "rule_states" in kept:
            courses, pairs = load_rule_states(*kept["rule_states"], now)
            self._pairs = {name: deque(moments) for name, moments in pairs.items()}
        if "counters" in kept:
            load_series(kept["counters"][0], self._series, kept["counters"][1], now)
            for sight in self._sources.values():
                sight.restore_from_series()
        self._rule_states = {
            rule.name: resume_rule_state(stored.get(rule.name), courses.get(rule.name), now)
            for rule in self._guard.rules
        }
        self._rolled_back = await guard_store.has_requested_rollback(self._store)
        if any(rule.compare and rule.compare.rank_test for rule in self._guard.rules):
            await asyncio.to_thread(_import_scipy)

    async def evaluate_once(self, session: aiohttp.ClientSession) -> tuple[GuardReading, ...]:
        """One round."""
        asked = asyncio.gather(*(self._run_queries(session, rule) for rule in self._guard.rules))
        _, answers = await asyncio.gather(self._read_sources(session), asked)
        now = asyncio.get_running_loop().time()
        findings = [
            self._evaluate_rule(rule, now, answer) for rule, answer in zip(self._guard.rules, answers, strict=True)
        ]
        readings = tuple(
            self._update_rule(rule, found, now) for rule, found in zip(self._guard.rules, findings, strict=True)
        )
        await guard_store.save_readings(self._store, readings, self._build_snapshot(asyncio.get_running_loop().time()))
        await self._execute_decisions(readings)
        return readings

    @property
    def _series(self) -> dict[str, MetricSeries]:
        return {str(source): sight.series for source, sight in self._sources.items()}

    def _build_snapshot(self, now: float) -> dict[str, bytes]:
        """What the next agent will need."""
        parts = {"rule_states": save_rule_states(self._rule_states, self._pairs, now)}
        if self._sources and now >= self._next_save_at:
            windows = [window for rule in self._guard.rules for window in rule.windows]
            parts["counters"] = save_series(self._series, windows, now)
            self._next_save_at = now + len(parts["counters"]) / SNAPSHOT_BYTES_PER_SECOND
        return parts

    def _update_rule(self, rule: GuardRule, evaluation: RuleEvaluation, now: float) -> GuardReading:
        course, reading = update_rule_state(rule, self._rule_states[rule.name], evaluation, now, self._guard.interval)
        self._rule_states[rule.name] = course
        # A look may take as long as its slowest source; a reading is stale when the next ones are overdue.
        slowest = self._guard.sources.prometheus.timeout if self._guard.sources.prometheus else 0.0
        age = max(self._plan.gates.max_age, MAX_MISSED_INTERVALS * self._guard.interval + slowest)
        return replace(reading, max_age=age)

    async def _execute_decisions(self, readings: Sequence[GuardReading]) -> None:
        for what in decide_actions(self._release(), readings, rolled_back=self._rolled_back):
            if not await guard_store.execute_decision(self._store, what):
                continue
            self._rolled_back |= what.command == "rollback"
            self._rule_states[what.rule] = replace(self._rule_states[what.rule], action_taken=str(what.action))
            self._log(f"guard: {what.command or 'alert'}: {what.reason}")

    # --- looking ------------------------------------------------------------------------------------------------

    async def _read_sources(self, session: aiohttp.ClientSession) -> None:
        """Every source of counters, once."""
        error = ""
        if self._sources and (set(self._sources) != {Source.PROBE} or self._probe_source.is_per_pod):
            try:
                async with asyncio.timeout(max(self._guard.interval, MIN_SILENCE_TIMEOUT)):
                    await self._pods.refresh()
            except BackendError as failure:
                error = failure.title
            except TimeoutError:
                error = "Kubernetes gives no answer"
        await asyncio.gather(
            *(self._read_source(session, source, sight, error) for source, sight in self._sources.items())
        )

    async def _read_source(
        self, session: aiohttp.ClientSession, source: Source, metric_source: _MetricSource, error: str
    ) -> None:
        clock = asyncio.get_running_loop().time
        if source is Source.KUBERNETES:
            if error:
                metric_source.observe_failure(clock(), error)
            else:
                metric_source.observe(clock(), *self._pods.restart_counts())
            return
        if error and not self._pods.has_listed and not self._probe_source.is_single_url:
            metric_source.observe_failure(clock(), error)
            return
        # Pods that are known still can be asked while Kubernetes cannot.
        if source is Source.SCRAPE:
            targets, addresses = self._pods.scrape_targets(self._guard.sources.scrape.port)
            found = await scrape_all(session, addresses, self._guard.sources.scrape)
        else:
            targets, found = await self._probe_source.probe_all(session, self._pods)
        metric_source.observe(clock(), targets, found)
        metric_source.error = error

    async def _run_queries(self, session: aiohttp.ClientSession, rule: GuardRule) -> tuple[QueryResult | None, ...]:
        """The numbers of a query rule: value, baseline, samples."""
        server = self._guard.sources.prometheus
        if rule.metric is not Metric.QUERY or server is None:
            return ()

        async def one(query: str | None) -> QueryResult | None:
            if query is None:
                return None
            try:
                return await prometheus.query_value(session, server, query, now=time.time())
            except MetricsError as error:
                return error.title

        return tuple(await asyncio.gather(one(rule.query), one(rule.baseline), one(rule.samples)))

    # --- judging ------------------------------------------------------------------------------------------------

    def _evaluate_rule(
        self, rule: GuardRule, now: float, query_results: tuple[QueryResult | None, ...]
    ) -> RuleEvaluation:
        if rule.metric is Metric.QUERY:
            value, baseline, samples = query_results
            assert value is not None
            return evaluate_query_rule(rule, value, baseline, samples)
        sight = self._sources[rule.effective_source]
        found = evaluate_rule(
            rule,
            [sight.window_stats(now, window) for window in rule.windows],
            self._plan.versions,
            self._collect_pairs(rule, now),
        )
        if found.outcome is RuleOutcome.DARK and sight.error and not sight.targets:
            return replace(found, reason=sight.error)
        return found

    def _collect_pairs(self, rule: GuardRule, now: float) -> list[tuple[float, float]]:
        """New and old in the moments of the window in which both had a value."""
        if rule.compare is None or rule.compare.rank_test is None:
            return []
        pairs = self._pairs.setdefault(rule.name, deque())
        sight = self._sources[rule.effective_source]
        if sight.previous_at is not None:
            latest = sight.series.window_stats(now, now - sight.previous_at + TIME_TOLERANCE)
            if (both := split_new_and_old(self._plan.versions, latest)) is not None:
                new, old = (metric_value(rule, side) for side in both)
                if new is not None and old is not None:
                    pairs.append((now, new, old))
        while pairs and pairs[0][0] < now - rule.window:
            pairs.popleft()
        return [(new, old) for _, new, old in pairs]


class ProbeSource:
    """The targets of the built-in prober."""

    def __init__(self, guard: Guard) -> None:
        self._config = guard.sources.probe
        self._prober: Prober | None = None

    @property
    def is_per_pod(self) -> bool:
        return self._config is not None and self._config.path is not None

    @property
    def is_single_url(self) -> bool:
        """One address from outside: nothing has to be asked of Kubernetes."""
        return self._config is not None and self._config.url is not None

    async def probe_all(
        self, session: aiohttp.ClientSession, pods: PodTargets
    ) -> tuple[list[MetricTarget], dict[str, CounterSample | str]]:
        """Probes every target once."""
        assert self._config is not None
        if self._prober is None:
            self._prober = Prober(session, self._config)
        if self._config.url is not None:
            targets, addresses = build_url_target(self._config.url.get_secret_value())
        else:
            targets, addresses = pods.probe_targets(self._config.path or "/")
        return targets, await self._prober.probe_all(addresses)


def _import_scipy() -> None:
    # Importing scipy takes a second, in which the agent must not stand still.
    p_value([1.0, 2.0], [0.0, 1.0])
