"""Which standing conditions hold when, what counts as a breach, and what a breach stops and withdraws."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema_change import make_plan
from zdd_tui.model.errors import Refused
from zdd_tui.model.plan.registry import PLAN_CLASSES
from zdd_tui.model.release.condition import (
    Condition,
    ConditionFinding,
    ConditionKind,
    ConditionReading,
    ConditionStatus,
    recheck_reading,
    unmet_readings,
)
from zdd_tui.model.release.condition_findings import (
    DatabaseFacts,
    DeploymentFacts,
    SchemaObject,
    TriggerFacts,
    find_changed_schema,
    find_disabled_trigger,
    find_row_security,
    find_wrong_flag,
    find_wrong_image,
    find_wrong_pods,
    unknown_finding,
)
from zdd_tui.model.release.conditions import (
    ALL_ROWS,
    ALWAYS_ENABLED,
    ENABLED,
    NEW_SCHEMA,
    needs_comparison,
    required_conditions,
    set_verification_back,
    timed_steps,
    withhold_verdicts,
)
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    complete_if_open,
    next_pending_step,
)
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.workload.managers import find_image_manager
from zdd_tui.model.workload.pod import project_pod
from zdd_tui.model.workload.rollout import project_deployment, project_replica_set

NOW = 1000.0
BREACH = ConditionReading("image users-api", ConditionStatus.BREACHED, "wrong image", "set by argocd", "suspend it")


def at_step(plan: Any, step: str, status: StepStatus = StepStatus.DONE) -> Release:
    """A release whose steps before one are done."""
    strategy = build_strategy(plan)
    names = [spec.name for spec in strategy.steps]
    index = names.index(step)
    statuses = tuple(
        StepStatus.DONE if number < index else status if number == index else StepStatus.PENDING
        for number in range(len(names))
    )
    phase = next(number for number, each in enumerate(strategy.phases) if any(spec.name == step for spec in each.steps))
    state = ReleaseState.FAILED if status is StepStatus.FAILED else ReleaseState.RUNNING
    return Release(plan.name, "hash", strategy, state, phase, statuses)


def required(plan: Any, step: str, status: StepStatus = StepStatus.DONE, **details: Any) -> dict[str, Condition]:
    stored = {name.replace("_", "-"): detail for name, detail in details.items()}
    return {each.name: each for each in required_conditions(plan, at_step(plan, step, status), stored)}


def allowed(plan: Any, name: str, step: str, status: StepStatus = StepStatus.DONE, **details: Any) -> Any:
    found = required(plan, step, status, **details).get(name)
    return found.allowed if found else None


def test_each_condition_begins_and_ends_with_its_steps() -> None:
    plan = make_plan("table", "trigger", change={"into": "people"})
    spans: dict[str, list[str]] = {}
    for spec in build_strategy(plan).steps:
        for name in required(plan, spec.name):
            spans.setdefault(name, []).append(spec.name)
    spans = {name: [steps[0], steps[-1]] for name, steps in spans.items()}
    assert spans == {
        "image users-api": ["rollout-v2", "analyze"],
        "pods users-api": ["rollout-v2", "analyze"],
        "flag w": ["rollout-v2", "archive-old-side"],
        "flag r": ["rollout-v2", "archive-old-side"],
        "trigger zdd_users-full-name_fwd": ["sync-forward", "delete-flags"],
        "trigger zdd_users-full-name_rev": ["sync-reverse", "delete-flags"],
        "trigger zdd_users-full-name_ord": ["sync-reverse", "delete-flags"],
        NEW_SCHEMA: ["expand-schema", "remove-annotations"],
        ALL_ROWS: ["lint-ddl", "delete-flags"],
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "column",
            {"wor": ["create-witness", "sync-reverse"], "wnr": ["extend-witness", "delete-flags"]},
        ),
        (
            "table",
            {
                "wor": ["create-witness", "delete-flags"],
                "wot": ["create-witness", "delete-flags"],
                "wnr": ["extend-witness", "delete-flags"],
                "wnt": ["extend-witness", "delete-flags"],
            },
        ),
    ],
)
def test_the_triggers_of_the_witness_are_relied_on(kind: str, expected: dict[str, list[str]]) -> None:
    plan = make_plan(kind)
    spans: dict[str, list[str]] = {}
    for spec in build_strategy(plan).steps:
        for name in required(plan, spec.name):
            if name.startswith("trigger zdd_users-full-name_w"):
                spans.setdefault(name.rpartition("_")[2], []).append(spec.name)
    assert {name: [steps[0], steps[-1]] for name, steps in spans.items()} == expected
    started = required(plan, "extend-witness", StepStatus.STARTED)
    assert any("_wor" in name for name in started) == (kind == "table"), "the step replaces the one of the column kind"
    assert not any("_w" in name for name in required(plan, "drop-witness", StepStatus.STARTED))


def test_while_a_step_changes_a_value_both_are_allowed() -> None:
    plan, started, failed = make_plan(), StepStatus.STARTED, StepStatus.FAILED
    image = "image users-api"
    assert allowed(plan, image, "rollout-v2", started) is None, "the image before is not known yet"
    before = {"rollout_v2": {"image_before": "a:1"}}
    assert allowed(plan, image, "rollout-v2", started, **before) == ("a:1", "a:2")
    assert allowed(plan, image, "backfill-rows", started, **before) == ("a:2",)
    assert allowed(plan, image, "rollout-v3", failed, **before) == ("a:2", "a:3")
    assert allowed(plan, image, "rollout-v3", **before) == ("a:3",)
    assert allowed(plan, "pods users-api", "rollout-v2", started, **before) is None
    assert allowed(plan, "pods users-api", "rollout-v3", started, **before) == ("v2", "v3")
    assert allowed(plan, "flag w", "write-flag-on", started) == ("false", "true")
    assert allowed(plan, "flag w", "write-flag-on") == ("true",)
    assert allowed(plan, "flag r", "read-flag-on", started) == ("false", "true")
    assert allowed(plan, "flag w", "delete-flags", failed) is None, "the step may have deleted it"
    assert allowed(plan, "flag r", "rollout-v2", rollout_v2={"flags_before": {"r": "25%"}}) == ("25",)


def test_a_share_that_is_held_is_the_only_allowed_value() -> None:
    plan, started = make_plan(cutover={"ramp": [30, 70]}), StepStatus.STARTED
    assert allowed(plan, "flag r", "read-30", started) == ("false", "30")
    assert allowed(plan, "flag r", "read-30", started, read_30={"until": 5.0}) == ("30",)
    assert allowed(plan, "flag r", "read-70", started) == ("30", "70")
    assert required(plan, "read-70")["flag r"].restore_to == "70"


@pytest.mark.parametrize("state", [ReleaseState.PLANNED, ReleaseState.ROLLING_BACK, ReleaseState.DONE])
def test_a_rollback_relies_on_nothing(state: ReleaseState) -> None:
    plan = make_plan()
    assert required_conditions(plan, replace(at_step(plan, "soak"), state=state), {}) == ()


def test_in_a_rollback_the_read_flag_is_relied_on_from_when_reads_are_back_until_v2_is_gone() -> None:
    plan = make_plan(cutover={"ramp": [30]})
    release = replace(at_step(plan, "soak"), state=ReleaseState.ROLLING_BACK)
    created: dict[str, Any] = {"rollout-v2": {"flags_before": {"r": None, "w": None}}}

    def relied(**statuses: StepStatus) -> list[tuple[str, Any, Any]]:
        found = release
        for name, status in statuses.items():
            found = found.with_status(name.replace("_", "-"), status)
        return [(each.name, each.allowed, each.restore_to) for each in required_conditions(plan, found, created)]

    undone = StepStatus.UNDONE
    assert relied(read_flag_on=undone, read_30=StepStatus.UNDOING) == []
    back = {"read_flag_on": undone, "read_30": undone}
    assert relied(**back) == [("flag r", ("false",), "false")]
    assert relied(**back, rollout_v2=StepStatus.UNDOING) == [("flag r", ("false", None), "false")]
    assert relied(**back, rollout_v2=undone) == []
    created["rollout-v2"]["flags_before"]["r"] = "25%"
    assert relied(**back, rollout_v2=StepStatus.UNDO_FAILED) == [("flag r", ("25",), "25")]


def strategy_plan(strategy: str, **sections: Any) -> Any:
    document = {
        "name": "x",
        "strategy": strategy,
        "database": {"dsn": "postgresql://x@y/z"},
        "kubernetes": {"deployment": "web", "image": "web:2"},
        **sections,
    }
    return PLAN_CLASSES[strategy].model_validate(document)


def test_strategies_with_one_image() -> None:
    before = {"record_workload": {"image_before": "web:1"}}
    rolling = strategy_plan("rolling")
    assert allowed(rolling, "image web", "record-workload", **before) == ("web:1",)
    assert allowed(rolling, "image web", "rollout-new", StepStatus.STARTED, **before) == ("web:1", "web:2")
    assert allowed(rolling, "pods web", "soak", **before) == ("new",)

    smoke = {"smoke": [{"path": "/"}]}
    blue_green, switch = strategy_plan("blue-green", blue_green=smoke), {"switch": ["app", "web", "web-green"]}
    more = {**before, "acquire_service": switch}
    assert allowed(blue_green, "selector web", "create-green", **more) == ("app=web",)
    assert allowed(blue_green, "selector web", "switch-to-green", StepStatus.STARTED, **more) == (
        "app=web",
        "app=web-green",
    )
    assert allowed(blue_green, "selector web", "soak", **more) == ("app=web-green",)
    assert allowed(blue_green, "image web-green", "soak", **more) == ("web:2",)
    assert allowed(blue_green, "image web-green", "remove-green", **more) is None

    canary = strategy_plan("canary", canary={"weights": [10, 50]})
    assert allowed(canary, "weight web-canary", "weight-10", **before) == ("10",)
    assert allowed(canary, "weight web-canary", "weight-50", StepStatus.STARTED, **before) is None
    assert allowed(canary, "image web-canary", "soak-50", **before) == ("web:2",)

    dark = strategy_plan("dark-launch", dark={"path": "p"}, flags={"url": "redis://x", "shadow": "s", "read": "r"})
    assert allowed(dark, "flag s", "rollout-new", **before) == ("false",)
    assert allowed(dark, "flag s", "soak-shadow-25", **before) == ("25",)
    assert allowed(dark, "flag r", "remove-annotations", **before) == ("true",)
    assert allowed(dark, "flag s", "shadow-off", **before) is None


# --- findings -------------------------------------------------------------------------------------------------------


def deployment(image: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "app", "image": image}
    return {
        "metadata": {"name": "users-api", "uid": "d", **metadata},
        "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [container]}}},
    }


def managed(manager: str, time: str, container: str = "app", **more: Any) -> dict[str, Any]:
    fields = {"f:containers": {f'k:{{"name":"{container}"}}': {"f:image": {}}}}
    return {
        "manager": manager,
        "time": time,
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": fields}}},
        **more,
    }


def test_the_newest_manager_of_the_image_is_named() -> None:
    raw = deployment(
        "a:1",
        managedFields=[
            managed("kubectl-set", "2026-11-29T10:00:00Z"),
            managed("argocd-controller", "2026-11-29T11:00:00Z"),
            managed("kubelet", "2026-11-29T12:00:00Z", subresource="status"),
            managed("injector", "2026-11-29T12:00:00Z", container="proxy"),
            {"manager": "broken", "fieldsV1": {"f:spec": "?"}},
        ],
    )
    assert str(find_image_manager(raw, "app")) == "argocd-controller at 2026-11-29 11:00:00 UTC"
    plan = make_plan(kubernetes={"container": "app"})
    condition = Condition("image users-api", ConditionKind.IMAGE, "users-api", ("a:2",))
    finding = find_wrong_image(plan, condition, DeploymentFacts(project_deployment(raw)))
    assert finding is not None
    assert finding.text == "Deployment users-api has image a:1, expected a:2"
    assert finding.who == "set by argocd-controller at 2026-11-29 11:00:00 UTC"
    assert "suspend its sync" in finding.hint
    assert find_wrong_image(plan, condition, DeploymentFacts(project_deployment(deployment("a:2")))) is None
    gone = find_wrong_image(plan, condition, DeploymentFacts(None))
    assert gone is not None
    assert "does not exist" in gone.text


def test_pods_are_judged_by_the_template_that_they_come_from() -> None:
    """A webhook may pin another name in the pod; an evicted pod stays and runs nothing."""
    plan = make_plan(kubernetes={"container": "app"})
    owner = [{"uid": "d", "controller": True, "kind": "Deployment", "name": "users-api"}]
    sets = tuple(
        project_replica_set(
            {
                "metadata": {"uid": tag, "labels": {"pod-template-hash": tag}, "ownerReferences": owner},
                "spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
            }
        )
        for tag, image in (("one", "a:1"), ("two", "a:2"))
    )

    def make(name: str, tag: str, phase: str = "Running") -> Any:
        raw = {
            "metadata": {
                "name": name,
                "uid": name,
                "labels": {"pod-template-hash": tag},
                "ownerReferences": [{"uid": tag, "controller": True, "kind": "ReplicaSet", "name": tag}],
            },
            "spec": {"containers": [{"name": "app", "image": "mirror/a@sha256:1234"}]},
            "status": {"phase": phase},
        }
        return project_pod(raw, "app")

    view = project_deployment(deployment("a:2"))
    condition = Condition("pods users-api", ConditionKind.PODS, "users-api", ("v2",))
    pods = (make("p1", "two"), make("p2", "one", "Failed"))
    assert find_wrong_pods(plan, condition, DeploymentFacts(view, sets, pods)) is None
    finding = find_wrong_pods(plan, condition, DeploymentFacts(view, sets, (*pods, make("p3", "one"))))
    assert finding is not None
    assert finding.text == "1 of 2 pods of users-api run V1, expected V2: p3"
    assert "rollout status" in finding.hint, "the image is right: these pods are older"
    wrong = DeploymentFacts(project_deployment(deployment("a:1")), sets, (make("p3", "one"),))
    told = find_wrong_pods(plan, condition, wrong)
    assert told is not None
    assert told.hint == "", "the condition about the image says what to do: one cause, one advice"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("true", None),
        ("100%", None),
        (None, "flag ff:w is missing, expected true"),
        ("false", "flag ff:w is 'false', expected true"),
        ("nonsense", "flag ff:w is 'nonsense', expected true"),
    ],
)
def test_flags(raw: str | None, text: str | None) -> None:
    finding = find_wrong_flag(Condition("flag w", ConditionKind.FLAG, "w", ("true",), "true"), raw)
    assert (finding.text if finding else None) == text


def facts(**changes: Any) -> DatabaseFacts:
    return replace(DatabaseFacts((), (), (), (), {}), **changes)


def test_a_condition_that_holds_again_still_says_what_was_broken_and_by_whom() -> None:
    waiting = recheck_reading(BREACH, "waiting for the pods")
    assert waiting is not None
    comparing = recheck_reading(waiting, "the rows are compared again")
    assert comparing is not None
    assert comparing.title == "wrong image; it holds again: the rows are compared again; set by argocd"
    assert comparing.status.stops_progress
    assert recheck_reading(comparing, "the rows are compared again") is None


def test_triggers() -> None:
    sync = Condition("trigger t", ConditionKind.TRIGGER, "t", ENABLED)
    witness = Condition("trigger t", ConditionKind.TRIGGER, "t", ALWAYS_ENABLED)

    def text(enabled: str | None, *replica: str, condition: Condition = sync) -> str | None:
        triggers = (TriggerFacts("t", "public.users", enabled),) if enabled else ()
        finding = find_disabled_trigger(condition, facts(triggers=triggers, replica_settings=replica))
        return finding.text if finding else None

    assert text(None) == "trigger t is missing"
    assert text("D") == "trigger t on public.users is disabled"
    assert text("R") == "trigger t on public.users is enabled for replica sessions only"
    assert text("O") is None
    assert text("A", "role app") is None
    assert text("O", "role app") == ("session_replication_role is replica for role app: trigger t does not fire there")
    assert text("A", condition=witness) is None
    assert "not enabled for sessions" in str(text("O", condition=witness))


def test_objects_that_were_changed_by_hand() -> None:
    column = SchemaObject("column", "7.3", "full_name", "public.users", "text")
    old = SchemaObject("column", "7.1", "first_name", "public.users", "text", is_old=True)
    index = SchemaObject("index", "public.i", "i", "public.users", "digest")
    baseline = [column, old, index]

    def text(*objects: SchemaObject, old_side_needed: bool = True) -> str | None:
        finding = find_changed_schema(
            baseline,
            facts(objects=objects),
            archived={"first_name": "zdd_archive_1_first_name"},
            old_side_needed=old_side_needed,
        )
        return finding.text if finding else None

    assert text(*baseline) is None
    assert text(column, old) == "index i of public.users is missing"
    assert text(column, old, replace(index, shape="digest other")) is None, "noted by an earlier zdd"
    assert text(column, old, replace(index, shape="other digest")) == "index i of public.users was changed"
    assert text(column, old, replace(index, is_valid=False)) == "index i of public.users is not valid"
    assert text(replace(column, name="x"), old, index) == "column full_name of public.users was renamed to x"
    assert text(replace(column, shape="varchar(9)"), old, index) == (
        "column full_name of public.users is varchar(9) now, it was text"
    )
    assert text(column, replace(old, name="zdd_archive_1_first_name"), index) is None, "our own archive"
    assert text(column, index) == "column first_name of public.users is missing"
    assert text(column, index, old_side_needed=False) is None, "our own drop"
    again = replace(column, key="7.9")
    assert text(again, old, index) is None, "a column that was created again has another number"
    assert text(replace(again, shape="int"), old, index) == "column full_name of public.users is int now, it was text"


def test_a_column_that_was_created_again_must_be_as_it_was() -> None:
    column = SchemaObject("column", "7.3", "c", "public.t", "text", by_names="digest", statement="ALTER TABLE t ADD c")

    def find(*objects: SchemaObject) -> ConditionFinding | None:
        return find_changed_schema([column], facts(objects=objects), archived={}, old_side_needed=True, made="as x")

    assert find(replace(column, key="7.9", statement="")) is None
    missing, other = find(), find(replace(column, key="7.9", by_names="without NOT NULL"))
    assert missing is not None
    assert missing.hint.startswith("restore it in psql as x: ALTER TABLE t ADD c; the release continues then")
    assert other is not None
    assert other.text == "column c of public.t was created again, but not as it was"
    assert find(replace(column, by_names="without NOT NULL")) is None, "its steps may change that"

    index = SchemaObject("index", "public.i", "i", "public.t", "numbers", by_names="names")
    found = facts(objects=(replace(index, shape="other numbers"),))
    assert find_changed_schema([index], found, archived={}, old_side_needed=True) is None, "over columns created again"


def test_what_cannot_be_checked_names_the_system_since_when_and_what_to_do() -> None:
    flag = Condition("flag w", ConditionKind.FLAG, "w")
    silent = unknown_finding(flag, 1.0)
    assert silent.text == "flag w cannot be checked since 00:00:01 UTC: Redis does not respond"
    assert silent.hint == "check that Redis runs and that the agent reaches it"
    refused = unknown_finding(flag, 1.0, "Redis a:1 requires a password", "put it into flags.url")
    assert refused.text == "flag w cannot be checked since 00:00:01 UTC: Redis a:1 requires a password"
    assert refused.hint == "put it into flags.url"
    late = unknown_finding(Condition("image a", ConditionKind.IMAGE, "a"), 1.0, "no response within 5 s")
    assert late.text.endswith("UTC: Kubernetes: no response within 5 s")


def test_hidden_rows() -> None:
    assert find_row_security(facts()) is None
    finding = find_row_security(facts(hidden_tables=("public.users",)))
    assert finding is not None
    assert "may not see every row" in finding.text


# --- what a breach does ---------------------------------------------------------------------------------------------


def passing(release: Release) -> dict[str, GateReading]:
    return {gate.name: GateReading(gate.name, Verdict.PASS, "ok", NOW) for gate in release.gates}


def test_a_breach_stops_steps_and_refuses_advance_but_not_pause_and_rollback() -> None:
    running = replace(at_step(make_plan(), "backfill-rows", StepStatus.STARTED), unmet=(BREACH,))
    assert next_pending_step(running) is None
    assert next_pending_step(replace(running, unmet=())) is not None
    with pytest.raises(Refused, match="set by argocd") as refusal:
        apply_command(running, Command(CommandKind.ADVANCE), {}, NOW)
    assert refusal.value.hint == "suspend it"
    assert apply_command(running, Command(CommandKind.PAUSE), {}, NOW).paused
    rolling_back = apply_command(running, Command(CommandKind.ROLLBACK), {}, NOW)
    assert rolling_back.state is ReleaseState.ROLLING_BACK
    pending = next_pending_step(rolling_back)
    assert pending is not None
    assert pending.direction == "undo"
    failed = replace(running, state=ReleaseState.FAILED)
    with pytest.raises(Refused):
        apply_command(failed, Command(CommandKind.ADVANCE), {}, NOW)


def test_unknown_opens_nothing_and_stops_no_step() -> None:
    unknown = ConditionReading("flag w", ConditionStatus.UNKNOWN, "Redis cannot be reached")
    running = replace(at_step(make_plan(), "verify-rows", StepStatus.STARTED), unmet=(unknown,))
    assert next_pending_step(running) is not None
    waiting = replace(at_step(make_plan(), "verify-rows"), state=ReleaseState.WAITING, unmet=(unknown,))
    with pytest.raises(Refused, match="Redis cannot be reached"):
        apply_command(waiting, Command(CommandKind.ADVANCE), passing(waiting), NOW)
    last = replace(at_step(make_plan(), "remove-annotations"), state=ReleaseState.WAITING)
    assert complete_if_open(last, passing(last), NOW).state is ReleaseState.DONE
    assert complete_if_open(replace(last, unmet=(unknown,)), passing(last), NOW).state is ReleaseState.WAITING


def test_verdicts_are_withheld() -> None:
    waiting = replace(at_step(make_plan(), "verify-rows"), state=ReleaseState.WAITING)
    readings = [*passing(waiting).values(), GateReading("x", Verdict.FAIL, "no", NOW)]
    assert withhold_verdicts(readings, waiting) == readings
    withheld = withhold_verdicts(readings, replace(waiting, unmet=(BREACH,)))
    assert [each.verdict for each in withheld] == [*[Verdict.PENDING] * len(waiting.gates), Verdict.FAIL]
    assert withheld[0].reason == "withdrawn: wrong image"
    unknown = replace(BREACH, status=ConditionStatus.UNKNOWN)
    assert withhold_verdicts(readings, replace(waiting, unmet=(unknown,)))[0].verdict is Verdict.UNKNOWN


def test_breaches_come_first() -> None:
    unknown = replace(BREACH, name="a", status=ConditionStatus.UNKNOWN)
    held = replace(BREACH, name="b", status=ConditionStatus.HOLDS)
    again = replace(BREACH, name="c", status=ConditionStatus.RECHECKING)
    assert [each.name for each in unmet_readings([unknown, held, again, BREACH])] == ["image users-api", "c", "a"]


def test_the_verification_is_set_back_in_its_phase_and_compared_again_later() -> None:
    plan = make_plan()
    waiting = replace(at_step(plan, "verify-rows"), state=ReleaseState.WAITING)
    back = set_verification_back(waiting)
    assert back is not None
    assert back.state is ReleaseState.RUNNING
    pending = next_pending_step(back)
    assert pending is not None
    assert pending.step.name == "verify-rows"
    assert set_verification_back(at_step(plan, "backfill-rows")) is None, "nothing is verified yet"
    failed = at_step(plan, "verify-rows", StepStatus.FAILED)
    assert set_verification_back(failed) == failed, "an operator decides about a failed step"
    assert not needs_comparison(waiting)
    soaking = at_step(plan, "soak", StepStatus.STARTED)
    assert set_verification_back(soaking) is None
    assert needs_comparison(soaking)
    assert not needs_comparison(at_step(plan, "archive-old-side")), "the old side is archived"
    assert not needs_comparison(at_step(strategy_plan("rolling"), "soak"))
    assert timed_steps(soaking, {"soak": {"until": 7.0}}) == ("soak",)
    assert timed_steps(at_step(plan, "soak"), {"soak": {"until": 7.0}}) == ()
