"""Regions: the plan of each, the errors of a plan file, and the rule that one starts after the other."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.states import EPOCH, FixedClock, board, record
from zdd_tui.cli.regions import format_regions, region_status_to_dict
from zdd_tui.dashboard.live_views import build_plan_view
from zdd_tui.dashboard.state import PlanView, RenderContext
from zdd_tui.dashboard.widgets.bars.gates import gate_lines
from zdd_tui.dashboard.widgets.bars.header import header_line
from zdd_tui.demo.environment import DemoOptions
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.plan.region_rules import require_region
from zdd_tui.model.plan.registry import PLAN_CLASSES
from zdd_tui.model.plan.strategies import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.regions import (
    REGION_GATE,
    RegionStatus,
    evaluate_regions,
    find_current_region,
    require_same_region,
)
from zdd_tui.model.release.state import Command, CommandKind, Release, ReleaseState, apply_command, current_readings
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.release.summary import summarize_release

CONFIG = Path(__file__).parents[3] / "config"
PLAIN = (CONFIG / "plan.example.yaml").read_text()
REGIONS = """
regions:
  soak: 2m
  order:
    - name: eu
    - name: us
      database: {dsn: "${US_DATABASE_URL}"}
      kubernetes: {context: us}
      flags: {url: "${US_REDIS_URL}"}
    - name: ap
      database: {dsn: "${AP_DATABASE_URL}"}
      kubernetes: {kubeconfig: "${AP_KUBECONFIG}", namespace: shop}
      flags: {url: "${AP_REDIS_URL}"}
"""
TEXT = PLAIN + REGIONS
ENVIRON = {
    "DATABASE_URL": "postgresql://app:s3cret@eu/shop",
    "REDIS_URL": "redis://:s3cret@eu/0",
    "US_DATABASE_URL": "postgresql://app:s3cret@us/shop",
    "US_REDIS_URL": "redis://:s3cret@us/0",
    "AP_DATABASE_URL": "postgresql://app:s3cret@ap/shop",
    "AP_REDIS_URL": "redis://:s3cret@ap/0",
    "AP_KUBECONFIG": "/etc/ap",
}
SOAK = 120.0


def load(text: str = TEXT, region: str = "", *, without: tuple[str, ...] = (), **environ: str) -> LoadedPlan:
    given = {name: value for name, value in (ENVIRON | environ).items() if name not in without}
    return load_plan(text, source="plan.yaml", environment=given, region=region)


def line_of(fragment: str, text: str = TEXT) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if fragment in line)


# --- the plan -------------------------------------------------------------------------------------------------


def test_a_region_overrides_what_it_names_and_nothing_else() -> None:
    whole = load().plan
    eu, us, ap = (whole.for_region(name) for name in ("eu", "us", "ap"))
    assert [plan.database.dsn.get_secret_value() for plan in (eu, us, ap)] == [
        ENVIRON[name] for name in ("DATABASE_URL", "US_DATABASE_URL", "AP_DATABASE_URL")
    ]
    assert (us.kubernetes.context, us.kubernetes.namespace) == ("us", "default")
    assert (ap.kubernetes.kubeconfig, ap.kubernetes.context, ap.kubernetes.namespace) == ("/etc/ap", None, "shop")
    assert ap.redis_url is not None
    assert ap.redis_url.get_secret_value() == ENVIRON["AP_REDIS_URL"]
    assert isinstance(ap, Plan)
    assert (ap.change, ap.gates, ap.database.lock_tries) == (whole.change, whole.gates, whole.database.lock_tries)
    assert ap.for_region("eu").database == whole.database, "from one region to another goes by the whole plan"
    assert [plan.earlier_regions for plan in (whole, eu, us, ap)] == [(), (), ("eu",), ("eu", "us")]
    assert [plan.region for plan in (whole, eu, us, ap)] == ["", "eu", "us", "ap"]
    alone = ap.without_regions()
    assert (alone.database, alone.region, alone.earlier_regions) == (ap.database, "", ())
    assert build_strategy(alone).entry == (), "a rehearsal is of one region and waits for no other"


def test_the_hash_is_that_of_the_whole_file_in_every_region() -> None:
    assert {load(region=name).hash for name in ("", "eu", "us", "ap")} == {load().hash}
    assert load(region="us").command_line_name == "plan.yaml --region us"
    assert load().command_line_name == "plan.yaml"
    assert load(TEXT.replace("soak: 2m", "soak: 3m")).hash != load().hash


def test_no_secret_of_any_region_is_shown() -> None:
    for loaded in (load(), load(region="ap")):
        for shown in (repr(loaded), str(loaded.plan), loaded.plan.model_dump_json(), repr(loaded.document)):
            assert "s3cret" not in shown


def test_a_machine_needs_only_its_own_secrets_and_the_databases_before_it() -> None:
    load(region="eu", without=("US_DATABASE_URL", "US_REDIS_URL", "AP_DATABASE_URL", "AP_REDIS_URL", "AP_KUBECONFIG"))
    load(region="us", without=("REDIS_URL", "AP_DATABASE_URL", "AP_REDIS_URL", "AP_KUBECONFIG"))
    needed = [("us", "DATABASE_URL"), ("us", "US_REDIS_URL"), ("ap", "US_DATABASE_URL"), ("", "AP_REDIS_URL")]
    for region, name in needed:
        with pytest.raises(PlanError, match=rf"the environment variable {name} is not set"):
            load(region=region, without=(name,))


@pytest.mark.parametrize(
    ("old", "new", "at", "key", "hint"),
    [
        ("soak: 2m", "soke: 2m", "soke", "regions.soke", "did you mean soak?"),
        ("soak: 2m", "soak: soon", "soak: soon", "regions.soak", "500ms, 10s, 2m"),
        ("- name: us", "- name: eu", "  order:", "regions.order", "two regions have the name eu"),
        ("- name: us\n", "- name: US East\n", "US East", "regions.order[1].name", "does not match"),
        ("{context: us}", "{contxt: us}", "contxt", "regions.order[1].kubernetes.contxt", "did you mean context?"),
        ("{context: us}", "{}", "kubernetes: {}", "regions.order[1].kubernetes", "overrides nothing"),
        ("      kubernetes: {context: us}\n", "", "- name: us", "regions.order[1]", "the same cluster and namespace"),
        ('{url: "${US_REDIS_URL}"}', '{url: "${REDIS_URL}"}', 'flags: {url: "${RED', "regions.order[1].flags", "Redis"),
        ('      flags: {url: "${US_REDIS_URL}"}\n', "", "- name: us", "regions.order[1]", "the same Redis"),
        ("US_DATABASE_URL", "DATABASE_URL", 'dsn: "${DAT', "regions.order[1].database", "the same database"),
        ('{dsn: "${US_DATABASE_URL}"}', "{}", "database: {}", "regions.order[1].database.dsn", "missing"),
    ],
)
def test_an_error_names_file_line_key_and_hint(old: str, new: str, at: str, key: str, hint: str) -> None:
    text = TEXT.replace(old, new)
    assert text != TEXT
    with pytest.raises(PlanError) as caught:
        load(text)
    message = str(caught.value)
    assert f"plan.yaml:{line_of(at, text)}: {key}" in message
    assert hint in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://other:pw@eu/shop",
        "postgres://app:s3cret@EU:5432/shop?sslmode=require",
        "postgresql:///shop?host=eu&port=5432",
    ],
)
def test_the_same_database_by_another_address_is_detected(dsn: str) -> None:
    with pytest.raises(PlanError, match="regions eu and us have the same database"):
        load(US_DATABASE_URL=dsn)


def test_one_region_alone_is_an_error() -> None:
    one = PLAIN + "\nregions:\n  order:\n    - name: eu\n"
    with pytest.raises(PlanError, match=r"regions\.order: Tuple should have at least 2"):
        load(one)


def test_a_plan_without_flags_has_none_to_override() -> None:
    text = (CONFIG / "examples" / "rolling.yaml").read_text() + REGIONS
    with pytest.raises(PlanError) as caught:
        load(text)
    assert f"plan.yaml:{line_of('US_REDIS', text)}: regions.order[1].flags: this rolling plan has no flags" in str(
        caught.value
    )


@pytest.mark.parametrize("name", ["canary-by-flag", "dark-launch"])
def test_the_flags_of_every_strategy_are_the_regions_own(name: str) -> None:
    loaded = load((CONFIG / "examples" / f"{name}.yaml").read_text() + REGIONS, "us", without=("REDIS_URL",))
    assert isinstance(loaded.plan, CanaryPlan | DarkLaunchPlan)
    assert loaded.plan.redis_url is not None
    assert loaded.plan.redis_url.get_secret_value() == ENVIRON["US_REDIS_URL"]


@pytest.mark.parametrize("strategy", [*PLAN_CLASSES, "canary by flag"])
def test_the_demos_plan_is_one_for_every_region(strategy: str) -> None:
    strategy, _, by = strategy.partition(" by ")
    options = DemoOptions(strategy=strategy, canary_by=by or "replicas", has_guard=True, regions=("eu", "us"))
    names = [f"{name}_{what}" for name in ("EU", "US") for what in ("DATABASE_URL", "REDIS_URL", "KUBECONFIG")]
    environ = {name: f"postgresql://{name.lower()}/x" for name in (*names, "DATABASE_URL", "REDIS_URL", "KUBECONFIG")}
    plan = load_plan(options.plan_text(), source="plan.yaml", environment=environ).plan
    assert plan.regions is not None
    eu, us = (plan.for_region(name) for name in plan.regions.names)
    assert (us.kubernetes.kubeconfig, eu.kubernetes.kubeconfig) == (environ["US_KUBECONFIG"], environ["EU_KUBECONFIG"])
    assert (us.redis_url is None) == (eu.redis_url is None) == (not options.uses_flags)


def test_an_unknown_region_is_one_error_with_the_nearest_name() -> None:
    with pytest.raises(PlanError, match=r"--region uss: plan\.yaml has no such region\n.*did you mean us\?"):
        load(region="uss")
    with pytest.raises(PlanError, match=r"its regions: eu, us, ap"):
        load(region="nowhere")
    with pytest.raises(PlanError, match=r"plan\.yaml has no regions"):
        load(PLAIN, "eu")
    with pytest.raises(PlanError, match=r"one of: eu, us, ap"):
        require_region(load().plan, "plan.yaml")
    require_region(load(region="us").plan, "plan.yaml")


def test_the_release_of_another_region_is_refused() -> None:
    require_same_region(load(region="us").plan, "us")
    with pytest.raises(PlanError, match="the database of region us holds the release of region eu"):
        require_same_region(load(region="us").plan, "eu")


# --- the rule ---------------------------------------------------------------------------------------------------


def done(region: str, ended_for: float = 1000.0) -> RegionStatus:
    return RegionStatus(region, ReleaseState.DONE, "cleanup", seconds_since_end=ended_for)


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [
        (RegionStatus("eu"), Verdict.PENDING, "region eu is not started"),
        (RegionStatus("eu", ReleaseState.PLANNED), Verdict.PENDING, "region eu is not started"),
        (RegionStatus("eu", ReleaseState.RUNNING, "backfill"), Verdict.PENDING, "region eu is running in backfill"),
        (RegionStatus("eu", ReleaseState.RUNNING, "backfill", is_paused=True), Verdict.PENDING, "in backfill, PAUSED"),
        (RegionStatus("eu", ReleaseState.FAILED, "cutover"), Verdict.FAIL, "region eu is failed in cutover"),
        (done("eu", 20.0), Verdict.PENDING, "region eu is done, soaking: 1m40s left"),
        (done("eu", 119.9), Verdict.PENDING, "soaking: 0.1s left"),
        (done("eu", 120.0), Verdict.PASS, "region eu is done and has soaked 2m00s"),
        (
            RegionStatus("eu", ReleaseState.ROLLING_BACK, "cutover", was_rolled_back=True),
            Verdict.FAIL,
            "stops at region eu",
        ),
        (
            RegionStatus("eu", ReleaseState.ROLLED_BACK, was_rolled_back=True),
            Verdict.FAIL,
            "ROLLED BACK: the release stops at region",
        ),
        (replace(done("eu"), was_rolled_back=True), Verdict.FAIL, "ROLLED BACK"),
        (RegionStatus("eu", error="app@eu:5432/shop: refused"), Verdict.UNKNOWN, "unreachable: app@eu:5432/shop"),
    ],
)
def test_the_verdict_about_the_region_before(status: RegionStatus, verdict: Verdict, reason: str) -> None:
    result, text = evaluate_regions([status], SOAK)
    assert result is verdict
    assert reason in text


def test_every_region_before_counts_and_only_the_last_must_soak() -> None:
    assert evaluate_regions([done("eu", 1.0), done("us", 130.0)], SOAK)[0] is Verdict.PASS
    assert evaluate_regions([done("eu"), RegionStatus("us", error="away")], SOAK)[0] is Verdict.UNKNOWN
    assert evaluate_regions([RegionStatus("eu", error="away"), done("us")], SOAK)[0] is Verdict.UNKNOWN
    stopped = [RegionStatus("eu", error="away"), RegionStatus("us", ReleaseState.ROLLED_BACK, was_rolled_back=True)]
    assert evaluate_regions(stopped, SOAK) == (Verdict.FAIL, "ROLLED BACK: the release stops at region us")
    assert evaluate_regions([], SOAK)[0] is Verdict.PASS


def test_the_current_region_is_the_first_that_is_not_done_and_soaked() -> None:
    eu, us = done("eu"), RegionStatus("us")
    assert find_current_region([eu, us], SOAK).region == "us"
    assert find_current_region([done("eu", 5.0), us], SOAK).region == "eu"
    assert find_current_region([RegionStatus("eu", error="away"), us], SOAK).region == "eu"
    assert find_current_region([eu, done("us")], SOAK).region == "us"


@dataclass
class RegionsModel:
    """Regions that each have a release, moved by the real rules at one time."""

    releases: list[Release]
    now: float = 0.0

    def __post_init__(self) -> None:
        self.ended: list[float | None] = [None] * len(self.releases)
        self.given_up: list[bool] = [False] * len(self.releases)
        self.away: list[bool] = [False] * len(self.releases)

    def region_status(self, index: int) -> RegionStatus:
        if self.away[index]:
            return RegionStatus(str(index), error="away")
        ended = self.ended[index]
        return RegionStatus(
            str(index),
            self.releases[index].state,
            seconds_since_end=None if ended is None else self.now - ended,
            was_rolled_back=self.given_up[index],
        )

    def advance(self, index: int) -> bool:
        verdict, reason = evaluate_regions([self.region_status(before) for before in range(index)], SOAK)
        gates = {REGION_GATE: GateReading(REGION_GATE, verdict, reason, self.now)}
        release = self.releases[index]
        if release.state is not ReleaseState.PLANNED:
            return False
        try:
            self.releases[index] = apply_command(release, Command(CommandKind.ADVANCE), gates, self.now)
        except Refused:
            return False
        return True

    def end_release(self, index: int, state: ReleaseState) -> None:
        if self.releases[index].state is ReleaseState.RUNNING:
            self.releases[index] = replace(self.releases[index], state=state)
            self.ended[index] = self.now
            self.given_up[index] |= state is ReleaseState.ROLLED_BACK

    def start_again(self, index: int) -> None:
        release = self.releases[index]
        if release.state.has_ended:
            self.releases[index] = Release(release.name, release.plan_hash, release.strategy)
            self.ended[index] = None


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["advance", "done", "back", "away", "again", "wait"]), st.integers(0, 2), st.floats(0, 200)
    ),
    max_size=40,
)


STRATEGIES = [build_strategy(load().plan.for_region(name)) for name in ("eu", "us", "ap")]


@settings(deadline=None)
@given(MOVES)
def test_no_order_of_events_lets_a_later_region_start_early(moves: list[tuple[str, int, float]]) -> None:
    world = RegionsModel([Release("r", "hash", strategy) for strategy in STRATEGIES])
    for what, index, seconds in moves:
        match what:
            case "wait":
                world.now += seconds
            case "away":
                world.away[index] = not world.away[index]
            case "again":
                world.start_again(index)
            case "done":
                world.end_release(index, ReleaseState.DONE)
            case "back":
                world.end_release(index, ReleaseState.ROLLED_BACK)
            case "advance" if world.advance(index):
                before = range(index)
                assert all(world.releases[each].state is ReleaseState.DONE for each in before)
                assert not any(world.given_up[each] or world.away[each] for each in before)
                if index:
                    ended = world.ended[index - 1]
                    assert ended is not None
                    assert world.now - ended >= SOAK


# --- where it is shown ------------------------------------------------------------------------------------------


def test_only_later_regions_have_the_gate_before_the_first_phase() -> None:
    assert [spec.name for spec in build_strategy(load(region="us").plan).entry] == [REGION_GATE]
    assert build_strategy(load(region="eu").plan).entry == ()
    assert build_strategy(load(PLAIN).plan).entry == ()
    later = Release("r", "hash", build_strategy(load(region="us").plan))
    (unread,) = current_readings(later, {}, 0.0)
    assert unread.verdict is Verdict.UNKNOWN
    with pytest.raises(Refused, match="region unknown: not checked yet"):
        apply_command(later, Command(CommandKind.ADVANCE), {}, 0.0)
    old = GateReading(REGION_GATE, Verdict.PASS, "region eu is done", 0.0)
    with pytest.raises(Refused, match="STALE"):
        apply_command(later, Command(CommandKind.ADVANCE), {REGION_GATE: old}, 11.0)
    assert apply_command(later, Command(CommandKind.ADVANCE), {REGION_GATE: old}, 1.0).state is ReleaseState.RUNNING


def test_the_dashboard_shows_the_region_and_what_it_waits_for() -> None:
    plan = load(region="us").plan
    reason = "region eu is done, soaking: 3m12s left"
    gates = {REGION_GATE: GateReading(REGION_GATE, Verdict.PENDING, reason, EPOCH)}
    release = Release(plan.name, "hash", build_strategy(plan))
    made = replace(board(record(release, gates=gates, region="us")), plan=build_plan_view(plan))
    context = RenderContext.at_clock(FixedClock())

    def flat(lines: list[tuple[tuple[str, object], ...]]) -> str:
        return "\n".join("".join(part for part, _ in line) for line in lines)

    assert "region us 2/3" in flat([header_line(made, context, 100)])
    assert reason in flat(gate_lines(made, context, 100))
    assert made.release.value is not None
    text = summarize_release(made.release.value, EPOCH)
    assert text.notes == (reason,)
    assert "once its gate passes" in text.next_action
    assert "region" not in flat([header_line(replace(made, plan=PlanView("n", "s", "e", "t")), context, 100)])


def test_all_regions_are_shown_in_order() -> None:
    statuses = [done("eu", 60.0), RegionStatus("us"), RegionStatus("ap-south", error="app@ap:5432/shop: refused")]
    assert format_regions("users", statuses, SOAK, "eu").splitlines() == [
        "users: 3 regions, one after the other",
        "▶ ◆ 1 eu        done, soaking: 1m00s left",
        "  ○ 2 us        not started",
        "  ? 3 ap-south  unreachable: app@ap:5432/shop: refused",
        "",
    ]
    assert region_status_to_dict(statuses[0], SOAK)["soak_left"] == 60.0
    assert region_status_to_dict(statuses[2], SOAK)["error"] == "app@ap:5432/shop: refused"
