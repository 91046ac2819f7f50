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
from zdd_tui.engine.guard.targets import Pods, url_target
from zdd_tui.model.errors import BackendError, MetricsError
from zdd_tui.model.guard.reading import GuardReading, decide
from zdd_tui.model.guard.rule_state import LOOKS_MISSED, Course, resumed, step
from zdd_tui.model.guard.rules import Answer, Finding, Look, chance, judge, judge_query, sides, value_of
from zdd_tui.model.guard.series import Counts, Series, Tally, Target
from zdd_tui.model.guard.snapshot import keep_courses, keep_series, recall_courses, recall_series
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.guard import Guard, Metric, Rule, Source
from zdd_tui.model.release.state import Release

LEAST_PATIENCE = 3.0
"""Seconds without an answer that are no silence yet, however often the guard looks."""

KEPT_A_SECOND = 20_000
"""Bytes: the counters of many pods are kept more seldom than at every look, or they would fill the log."""

SHORTEST_PAUSE = 0.05
ROUNDING = 1e-6


@dataclass(slots=True)
class _Sight:
    """One source of counters: what it showed, and why it showed nothing last time."""

    series: Series
    error: str = ""
    targets: Sequence[Target] = ()
    tallied: dict[float, dict[str, Tally]] = field(default_factory=dict)
    before: float | None = None
    last: float | None = None

    def look(self, now: float, targets: Sequence[Target], found: Mapping[str, Counts | str]) -> None:
        self.error, self.targets = "", targets
        self.before, self.last = self.last, now
        self.series.look(now, targets, found)
        self.tallied.clear()

    def missed(self, now: float, error: str) -> None:
        """Nobody could look: the targets stay what they were, and grow silent."""
        self.error = error
        self.series.look(now, self.targets, {target.key: error for target in self.targets})
        self.tallied.clear()

    def recalled(self) -> None:
        """The series goes on where that of another agent stopped, and so does this."""
        self.targets = tuple(line.target for line in self.series.lines.values() if line.live)
        self.last = self.series.looked

    def tallies(self, now: float, window: float) -> dict[str, Tally]:
        if window not in self.tallied:
            self.tallied[window] = self.series.tallies(now, window)
        return self.tallied[window]


class GuardLoop:
    """Judges one release.

    Args:
        cluster: None while there is no connection yet; the guard judges what it can without.
        release: where the release stands now.
        say: takes a line for the agent's log.
    """

    def __init__(
        self,
        plan: BasePlan,
        guard: Guard,
        store: AgentStore,
        *,
        cluster: Callable[[], Cluster | None],
        release: Callable[[], Release],
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._guard = guard
        self._store = store
        self._release = release
        self._say = say
        longest = max(max(rule.windows) for rule in guard.rules)
        patience = max(LOOKS_MISSED * guard.interval + guard.sources.scrape.timeout, LEAST_PATIENCE)
        wanted = {rule.taken_from for rule in guard.rules} - {Source.PROMETHEUS}
        self._sights = {source: _Sight(Series(longest + guard.interval, patience)) for source in wanted}
        self._pods = Pods(plan, cluster)
        self._courses: dict[str, Course] = {}
        self._pairs: dict[str, deque[tuple[float, float, float]]] = {}
        self._rolled_back = False
        self._keep_again = 0.0
        self._probed = Probed(guard)

    async def run(self) -> None:
        """For ever. What a source cannot tell becomes a verdict; only a lost database or lease ends it."""
        await self.resume()
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                began = loop.time()
                await self.look(session)
                await asyncio.sleep(max(SHORTEST_PAUSE, self._guard.interval - (loop.time() - began)))

    async def resume(self) -> None:
        """Reads what a guard before this one has seen, said and done."""
        stored = {reading.rule: reading for reading in (await self._store.read()).guard}
        kept = await guard_store.recall(self._store)
        now = asyncio.get_running_loop().time()
        courses: dict[str, Course] = {}
        if "courses" in kept:
            courses, pairs = recall_courses(*kept["courses"], now)
            self._pairs = {name: deque(moments) for name, moments in pairs.items()}
        if "counters" in kept:
            recall_series(kept["counters"][0], self._series, kept["counters"][1], now)
            for sight in self._sights.values():
                sight.recalled()
        self._courses = {
            rule.name: resumed(stored.get(rule.name), courses.get(rule.name), now) for rule in self._guard.rules
        }
        self._rolled_back = await guard_store.asked_for_rollback(self._store)
        if any(rule.compare and rule.compare.rank_test for rule in self._guard.rules):
            await asyncio.to_thread(_warm_up)

    async def look(self, session: aiohttp.ClientSession) -> tuple[GuardReading, ...]:
        """One round."""
        asked = asyncio.gather(*(self._ask(session, rule) for rule in self._guard.rules))
        _, answers = await asyncio.gather(self._see(session), asked)
        now = asyncio.get_running_loop().time()
        findings = [self._judge(rule, now, answer) for rule, answer in zip(self._guard.rules, answers, strict=True)]
        readings = tuple(self._step(rule, found, now) for rule, found in zip(self._guard.rules, findings, strict=True))
        await guard_store.save(self._store, readings, self._memory(asyncio.get_running_loop().time()))
        await self._act(readings)
        return readings

    @property
    def _series(self) -> dict[str, Series]:
        return {str(source): sight.series for source, sight in self._sights.items()}

    def _memory(self, now: float) -> dict[str, bytes]:
        """What the next agent will need."""
        parts = {"courses": keep_courses(self._courses, self._pairs, now)}
        if self._sights and now >= self._keep_again:
            windows = [window for rule in self._guard.rules for window in rule.windows]
            parts["counters"] = keep_series(self._series, windows, now)
            self._keep_again = now + len(parts["counters"]) / KEPT_A_SECOND
        return parts

    def _step(self, rule: Rule, found: Finding, now: float) -> GuardReading:
        course, reading = step(rule, self._courses[rule.name], found, now, self._guard.interval)
        self._courses[rule.name] = course
        # A look may take as long as its slowest source; a reading is stale when the next ones are overdue.
        slowest = self._guard.sources.prometheus.timeout if self._guard.sources.prometheus else 0.0
        age = max(self._plan.gates.max_age, LOOKS_MISSED * self._guard.interval + slowest)
        return replace(reading, max_age=age)

    async def _act(self, readings: Sequence[GuardReading]) -> None:
        for what in decide(self._release(), readings, rolled_back=self._rolled_back):
            if not await guard_store.act(self._store, what):
                continue
            self._rolled_back |= what.command == "rollback"
            self._courses[what.rule] = replace(self._courses[what.rule], acted=str(what.action))
            self._say(f"guard: {what.command or 'alert'}: {what.reason}")

    # --- looking ------------------------------------------------------------------------------------------------

    async def _see(self, session: aiohttp.ClientSession) -> None:
        """Every source of counters, once."""
        error = ""
        if self._sights and (set(self._sights) != {Source.PROBE} or self._probed.by_path):
            try:
                async with asyncio.timeout(max(self._guard.interval, LEAST_PATIENCE)):
                    await self._pods.refresh()
            except BackendError as failure:
                error = failure.title
            except TimeoutError:
                error = "Kubernetes gives no answer"
        await asyncio.gather(*(self._see_one(session, source, sight, error) for source, sight in self._sights.items()))

    async def _see_one(self, session: aiohttp.ClientSession, source: Source, sight: _Sight, error: str) -> None:
        clock = asyncio.get_running_loop().time
        if source is Source.KUBERNETES:
            if error:
                sight.missed(clock(), error)
            else:
                sight.look(clock(), *self._pods.restarts())
            return
        if error and not self._pods.known and not self._probed.by_url:
            sight.missed(clock(), error)
            return
        # Pods that are known still can be asked while Kubernetes cannot.
        if source is Source.SCRAPE:
            targets, addresses = self._pods.to_scrape(self._guard.sources.scrape.port)
            found = await scrape_all(session, addresses, self._guard.sources.scrape)
        else:
            targets, found = await self._probed.round(session, self._pods)
        sight.look(clock(), targets, found)
        sight.error = error

    async def _ask(self, session: aiohttp.ClientSession, rule: Rule) -> tuple[Answer | None, ...]:
        """The numbers of a query rule: value, baseline, samples."""
        server = self._guard.sources.prometheus
        if rule.metric is not Metric.QUERY or server is None:
            return ()

        async def one(query: str | None) -> Answer | None:
            if query is None:
                return None
            try:
                return await prometheus.ask(session, server, query, now=time.time())
            except MetricsError as error:
                return error.title

        return tuple(await asyncio.gather(one(rule.query), one(rule.baseline), one(rule.samples)))

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self, rule: Rule, now: float, answers: tuple[Answer | None, ...]) -> Finding:
        if rule.metric is Metric.QUERY:
            value, baseline, samples = answers
            assert value is not None
            return judge_query(rule, value, baseline, samples)
        sight = self._sights[rule.taken_from]
        found = judge(
            rule, [sight.tallies(now, window) for window in rule.windows], self._plan.versions, self._paired(rule, now)
        )
        if found.look is Look.DARK and sight.error and not sight.targets:
            return replace(found, reason=sight.error)
        return found

    def _paired(self, rule: Rule, now: float) -> list[tuple[float, float]]:
        """New and old in the moments of the window in which both had a value."""
        if rule.compare is None or rule.compare.rank_test is None:
            return []
        pairs = self._pairs.setdefault(rule.name, deque())
        sight = self._sights[rule.taken_from]
        if sight.before is not None:
            latest = sight.series.tallies(now, now - sight.before + ROUNDING)
            if (both := sides(self._plan.versions, latest)) is not None:
                new, old = (value_of(rule, side) for side in both)
                if new is not None and old is not None:
                    pairs.append((now, new, old))
        while pairs and pairs[0][0] < now - rule.window:
            pairs.popleft()
        return [(new, old) for _, new, old in pairs]


class Probed:
    """The targets of the built-in prober."""

    def __init__(self, guard: Guard) -> None:
        self._spec = guard.sources.probe
        self._prober: Prober | None = None

    @property
    def by_path(self) -> bool:
        return self._spec is not None and self._spec.path is not None

    @property
    def by_url(self) -> bool:
        """One address from outside: nothing has to be asked of Kubernetes."""
        return self._spec is not None and self._spec.url is not None

    async def round(self, session: aiohttp.ClientSession, pods: Pods) -> tuple[list[Target], dict[str, Counts | str]]:
        """Probes every target once."""
        assert self._spec is not None
        if self._prober is None:
            self._prober = Prober(session, self._spec)
        if self._spec.url is not None:
            targets, addresses = url_target(self._spec.url.get_secret_value())
        else:
            targets, addresses = pods.to_probe(self._spec.path or "/")
        return targets, await self._prober.round(addresses)


def _warm_up() -> None:
    # Importing scipy takes a second, in which the agent must not stand still.
    chance([1.0, 2.0], [0.0, 1.0])
