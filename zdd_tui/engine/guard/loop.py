"""The guard's loop: reads the sources, evaluates the rules, stores the readings and acts, while the lease is held.

It runs beside the steps and the gates: also during a rollout, while the release waits for approval, and while it is
paused.
"""

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import aiohttp

from zdd_tui.backends.kubernetes.workload_cache import WorkloadCache
from zdd_tui.backends.metrics import prometheus
from zdd_tui.backends.metrics.probe import Prober
from zdd_tui.backends.metrics.scrape import scrape_all
from zdd_tui.backends.store import guard as guard_store
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.guard.targets import PodTargets, build_url_target
from zdd_tui.model.errors import BackendError, MetricsError, ZddError
from zdd_tui.model.guard.decisions import decide_actions
from zdd_tui.model.guard.history import HISTORY_POINTS, add_point
from zdd_tui.model.guard.rule_state import MAX_MISSED_INTERVALS, RuleState, resume_rule_state, update_rule_state
from zdd_tui.model.guard.rules import (
    QueryResult,
    RuleEvaluation,
    RuleOutcome,
    evaluate_query_rule,
    evaluate_rule,
    metric_value,
    new_and_old_values,
    p_value,
    split_new_and_old,
)
from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget, WindowStats
from zdd_tui.model.guard.snapshot import load_histories, load_rule_states, load_series, save_rule_states, save_series
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.guard import Guard, GuardRule, Metric, Source
from zdd_tui.model.queries import MetricPoint
from zdd_tui.model.release.claims import is_current
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import CommandKind, Release

MIN_SILENCE_TIMEOUT = 3.0
"""Seconds without a response before a source counts as silent, however short the interval is."""

SNAPSHOT_BYTES_PER_SECOND = 20_000
"""The counters of many pods are stored less often than every interval, to limit the WAL that they cost."""

PROBE_SECONDS = 2.0
"""Seconds between two probes of the metrics server, where rules are evaluated less often."""

PROBE_QUERY = "vector(1)"

MIN_PAUSE = 0.05
TIME_TOLERANCE = 1e-6


@dataclass(slots=True)
class _MetricSource:
    """One source of counters: its series, and the error of its last read.

    Attributes:
        read_at: when the last counters were read, in monotonic seconds; None before the first.
    """

    series: MetricSeries
    error: str = ""
    targets: Sequence[MetricTarget] = ()
    cached_stats: dict[float, dict[str, WindowStats]] = field(default_factory=dict)
    previous_at: float | None = None
    last_at: float | None = None
    read_at: float | None = None

    def observe(
        self,
        now: float,
        targets: Sequence[MetricTarget],
        results: Mapping[str, CounterSample | str],
        read_at: float | None,
    ) -> None:
        self.error, self.targets, self.read_at = "", targets, read_at
        self.previous_at, self.last_at = self.last_at, now
        self.series.observe(now, targets, results)
        self.cached_stats.clear()

    def observe_failure(self, now: float, error: str) -> None:
        """The source could not be read: the targets stay, and become silent."""
        self.error = error
        self.series.observe(now, self.targets, {target.key: error for target in self.targets})
        self.cached_stats.clear()

    def restore_from_series(self) -> None:
        """Continues the restored series of an earlier agent."""
        self.targets = tuple(line.target for line in self.series.histories.values() if line.is_live)
        self.last_at = self.read_at = self.series.observed_at

    def window_stats(self, now: float, window: float) -> dict[str, WindowStats]:
        if window not in self.cached_stats:
            self.cached_stats[window] = self.series.window_stats(now, window)
        return self.cached_stats[window]


class GuardLoop:
    """Evaluates the rules of one release.

    Args:
        workloads: returns None while there is no connection; rules that need no cluster are evaluated all the same.
        release: returns the current state of the release.
        log: writes a line to the agent's log.
    """

    def __init__(
        self,
        plan: BasePlan,
        guard: Guard,
        store: AgentStore,
        *,
        workloads: Callable[[], WorkloadCache | None],
        release: Callable[[], Release],
        log: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._guard = guard
        self._store = store
        self._release = release
        self._log = log
        longest = max(max(rule.windows) for rule in guard.rules)
        silence = max(MAX_MISSED_INTERVALS * guard.interval + guard.sources.scrape.timeout, MIN_SILENCE_TIMEOUT)
        needed = {rule.effective_source for rule in guard.rules} - {Source.PROMETHEUS}
        self._sources = {source: _MetricSource(MetricSeries(longest + guard.interval, silence)) for source in needed}
        self._pods = PodTargets(plan, workloads)
        self._rule_states: dict[str, RuleState] = {}
        self._pairs: dict[str, deque[tuple[float, float, float]]] = {}
        self._histories: dict[str, deque[MetricPoint]] = {
            rule.name: deque(maxlen=HISTORY_POINTS) for rule in guard.rules
        }
        self._rolled_back = False
        self._next_save_at = 0.0
        self._probe_source = ProbeSource(guard)

    async def run(self) -> None:
        """Runs until cancelled. An unavailable source is a verdict; only a lost database or lease ends the loop."""
        await self.resume()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            probing = asyncio.create_task(self._probe_metrics(session)) if self._needs_probe else None
            try:
                await self._evaluate_rules(session)
            finally:
                if probing is not None:
                    probing.cancel()
                    await asyncio.wait([probing])

    async def _evaluate_rules(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            await self.evaluate_once(session)
            await asyncio.sleep(max(MIN_PAUSE, self._guard.interval - (loop.time() - started_at)))

    @property
    def _needs_probe(self) -> bool:
        """Rules that query the metrics server tell too rarely that it has gone."""
        return self._guard.interval > PROBE_SECONDS and any(
            rule.effective_source is Source.PROMETHEUS for rule in self._guard.rules
        )

    async def _probe_metrics(self, session: aiohttp.ClientSession) -> None:
        """Asks the metrics server for a constant, which costs it nothing, and stores whether it has answered."""
        server = self._guard.sources.prometheus
        assert server is not None
        loop = asyncio.get_running_loop()
        while True:
            started_at, error = loop.time(), ""
            try:
                await prometheus.query_value(session, server, PROBE_QUERY, now=time.time())
            except MetricsError as failure:
                error = failure.title
            with suppress(ZddError):  # a lost database or lease ends the evaluation, and this with it
                await guard_store.save_probe(self._store, error)
            await asyncio.sleep(max(MIN_PAUSE, PROBE_SECONDS - (loop.time() - started_at)))

    async def resume(self) -> None:
        """Loads the readings, rule states and counters that an earlier agent stored."""
        readings = {reading.rule: reading for reading in (await self._store.read()).guard}
        snapshot = await guard_store.load_snapshot(self._store)
        now = asyncio.get_running_loop().time()
        states: dict[str, RuleState] = {}
        try:
            if "rule_states" in snapshot:
                states, pairs = load_rule_states(*snapshot["rule_states"], now)
                self._pairs = {name: deque(samples) for name, samples in pairs.items()}
                saved, seconds_ago = snapshot["rule_states"]
                for name, points in load_histories(saved, now - seconds_ago).items():
                    if name in self._histories:
                        self._histories[name].extend(points)
            if "counters" in snapshot:
                load_series(snapshot["counters"][0], self._series, snapshot["counters"][1], now)
                for source in self._sources.values():
                    source.restore_from_series()
        except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as error:
            # Its windows are filled again within a minute; a snapshot that ends the agent would end every next one.
            self._log(f"the saved state of the guard cannot be used ({type(error).__name__}); it starts again")
        self._rule_states = {
            rule.name: resume_rule_state(readings.get(rule.name), states.get(rule.name), now)
            for rule in self._guard.rules
        }
        self._rolled_back = await guard_store.has_requested_rollback(self._store)
        if any(rule.compare and rule.compare.rank_test for rule in self._guard.rules):
            await asyncio.to_thread(_import_scipy)

    async def evaluate_once(self, session: aiohttp.ClientSession) -> tuple[GuardReading, ...]:
        """Reads every source, evaluates every rule once, stores the readings and acts on them."""
        began = asyncio.get_running_loop().time()
        queries = asyncio.gather(*(self._run_queries(session, rule) for rule in self._guard.rules))
        _, results = await asyncio.gather(self._read_sources(session), queries)
        now = asyncio.get_running_loop().time()
        evaluations = [
            self._evaluate_rule(rule, now, result) for rule, result in zip(self._guard.rules, results, strict=True)
        ]
        for rule, evaluation in zip(self._guard.rules, evaluations, strict=True):
            add_point(self._histories[rule.name], self._build_point(rule, evaluation, now))
        readings = tuple(
            self._update_rule(rule, evaluation, now)
            for rule, evaluation in zip(self._guard.rules, evaluations, strict=True)
        )
        saved_at = asyncio.get_running_loop().time()
        ages = {
            rule.name: saved_at - (self._data_time(rule, evaluation) or began)
            for rule, evaluation in zip(self._guard.rules, evaluations, strict=True)
        }
        await guard_store.save_readings(self._store, readings, ages, self._build_snapshot(saved_at))
        await self._execute_decisions(readings)
        return readings

    def _data_time(self, rule: GuardRule, evaluation: RuleEvaluation) -> float | None:
        """Time of the oldest data that a verdict rests on, in monotonic seconds; None for the time of the evaluation.

        A breach is one whatever other pods there are by now; that no version is worse is so only for the pods of the
        last list, once that does not count as current any more.
        """
        if rule.metric is Metric.QUERY or evaluation.outcome is RuleOutcome.NO_DATA:
            return None
        times = [self._sources[rule.effective_source].read_at]
        is_of_pods = rule.effective_source is not Source.PROBE or self._probe_source.is_per_pod
        if is_of_pods and evaluation.outcome is not RuleOutcome.BREACHED:
            is_listed = self._pods.read_at is not None
            if is_listed and not is_current(asyncio.get_running_loop().time() - (self._pods.read_at or 0.0)):
                times.append(self._pods.read_at)
        return min((at for at in times if at is not None), default=None)

    @property
    def _series(self) -> dict[str, MetricSeries]:
        return {str(name): source.series for name, source in self._sources.items()}

    def _build_snapshot(self, now: float) -> dict[str, bytes]:
        """The state that the next agent loads."""
        parts = {"rule_states": save_rule_states(self._rule_states, self._pairs, now, self._histories)}
        if self._sources and now >= self._next_save_at:
            windows = [window for rule in self._guard.rules for window in rule.windows]
            parts["counters"] = save_series(self._series, windows, now)
            self._next_save_at = now + len(parts["counters"]) / SNAPSHOT_BYTES_PER_SECOND
        return parts

    def _update_rule(self, rule: GuardRule, evaluation: RuleEvaluation, now: float) -> GuardReading:
        state, reading = update_rule_state(rule, self._rule_states[rule.name], evaluation, now, self._guard.interval)
        self._rule_states[rule.name] = state
        # An evaluation takes as long as its slowest source; a reading is stale when the next ones are overdue.
        slowest = self._guard.sources.prometheus.timeout if self._guard.sources.prometheus else 0.0
        age = max(self._plan.gates.max_age, MAX_MISSED_INTERVALS * self._guard.interval + slowest)
        return replace(reading, max_age=age)

    async def _execute_decisions(self, readings: Sequence[GuardReading]) -> None:
        for decision in decide_actions(self._release(), readings, rolled_back=self._rolled_back):
            if not await guard_store.execute_decision(self._store, decision):
                continue
            self._rolled_back |= decision.command is CommandKind.ROLLBACK
            state = self._rule_states[decision.rule]
            self._rule_states[decision.rule] = replace(state, action_taken=str(decision.action))
            self._log(f"guard: {decision.command or 'alert'}: {decision.reason}")

    async def _read_sources(self, session: aiohttp.ClientSession) -> None:
        """Reads every source of counters once."""
        error = ""
        if self._sources and (set(self._sources) != {Source.PROBE} or self._probe_source.is_per_pod):
            try:
                async with asyncio.timeout(max(self._guard.interval, MIN_SILENCE_TIMEOUT)):
                    await self._pods.refresh()
            except BackendError as failure:
                error = failure.title
            except TimeoutError:
                error = "Kubernetes does not respond"
        await asyncio.gather(
            *(self._read_source(session, name, source, error) for name, source in self._sources.items())
        )

    async def _read_source(
        self, session: aiohttp.ClientSession, name: Source, source: _MetricSource, cluster_error: str
    ) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        if name is Source.KUBERNETES:
            if cluster_error:
                source.observe_failure(clock(), cluster_error)
            else:
                source.observe(clock(), *self._pods.restart_counts(), self._pods.read_at)
            return
        if cluster_error and self._pods.read_at is None and not self._probe_source.is_single_url:
            source.observe_failure(clock(), cluster_error)
            return
        # The pods of the last list are read even while Kubernetes is unreachable.
        if name is Source.SCRAPE:
            targets, addresses = self._pods.scrape_targets(self._guard.sources.scrape.port)
            samples = await scrape_all(session, addresses, self._guard.sources.scrape)
        else:
            targets, samples = await self._probe_source.probe_all(session, self._pods)
        source.observe(clock(), targets, samples, began)
        source.error = cluster_error

    async def _run_queries(self, session: aiohttp.ClientSession, rule: GuardRule) -> tuple[QueryResult | None, ...]:
        """The results of a rule's queries: value, baseline, samples."""
        server = self._guard.sources.prometheus
        if rule.metric is not Metric.QUERY or server is None:
            return ()

        async def run_query(query: str | None) -> QueryResult | None:
            if query is None:
                return None
            try:
                return await prometheus.query_value(session, server, query, now=time.time())
            except MetricsError as error:
                return error.title

        return tuple(await asyncio.gather(*map(run_query, (rule.query, rule.baseline, rule.samples))))

    def _evaluate_rule(
        self, rule: GuardRule, now: float, query_results: tuple[QueryResult | None, ...]
    ) -> RuleEvaluation:
        if rule.metric is Metric.QUERY:
            value, baseline, samples = query_results
            assert value is not None
            return evaluate_query_rule(rule, value, baseline, samples)
        source = self._sources[rule.effective_source]
        stats = [source.window_stats(now, window) for window in rule.windows]
        evaluation = evaluate_rule(rule, stats, self._plan.versions, self._collect_pairs(rule, now))
        if evaluation.outcome is RuleOutcome.NO_DATA and source.error and not source.targets:
            return replace(evaluation, reason=source.error)
        return evaluation

    def _build_point(self, rule: GuardRule, evaluation: RuleEvaluation, now: float) -> MetricPoint:
        """The values of both versions, whatever the rule evaluates: a chart compares them also where the rule has an
        absolute limit."""
        if rule.metric is Metric.QUERY:
            return MetricPoint(now, evaluation.value, evaluation.baseline)
        stats = self._sources[rule.effective_source].window_stats(now, rule.windows[0])
        return MetricPoint(now, *new_and_old_values(rule, self._plan.versions, stats))

    def _collect_pairs(self, rule: GuardRule, now: float) -> list[tuple[float, float]]:
        """The values of the new and the old version, from the samples of the window in which both had a value."""
        if rule.compare is None or rule.compare.rank_test is None:
            return []
        pairs = self._pairs.setdefault(rule.name, deque())
        source = self._sources[rule.effective_source]
        if source.previous_at is not None:
            latest = source.series.window_stats(now, now - source.previous_at + TIME_TOLERANCE)
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
        """One URL from outside the cluster: Kubernetes is not needed."""
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
    # The import takes a second; the caller runs it in a thread so that it does not block the event loop.
    p_value([1.0, 2.0], [0.0, 1.0])
