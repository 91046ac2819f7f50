"""The preview of a command is what runs: every step has its lines, made by the engine's builders."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.ddl import (
    Catalog,
    CatalogColumn,
    Table,
    archive_statements,
    batch_statement,
    drop_archive_statements,
    expand_statements,
    index_statements,
    sync_statements,
)
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.preview import describe_target, preview_command, preview_step, preview_undo
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.release.strategy import StepSpec

SECRET = "t0p-Secret"
ENVIRON = {
    "DATABASE_URL": f"postgresql://app:{SECRET}@db/shop",
    "REDIS_URL": f"redis://:{SECRET}@cache/0",
    "KUBECONFIG": "/nowhere",
}

OTHERS = {
    "rolling": "",
    "canary": "canary: {weights: [5, 50]}\n",
    "canary by flag": "canary: {by: flag, flag: {url: '${REDIS_URL}', key: checkout}}\n",
    "canary by gateway": "canary: {by: gateway, route: shop}\n",
    "blue-green": "blue_green: {smoke: [{path: /version, contains: '2'}]}\n",
    "dark-launch": "flags: {url: '${REDIS_URL}', shadow: s, read: r}\ndark: {path: search}\n",
}


def load(text: str) -> BasePlan:
    return load_plan(text, source="plan.yaml", environment=ENVIRON).plan


def other(case: str) -> BasePlan:
    return load(
        f"name: shop\nstrategy: {case.partition(' ')[0]}\ndatabase: {{dsn: '${{DATABASE_URL}}'}}\n"
        f"kubernetes: {{deployment: api, image: 'shop/api:2'}}\n{OTHERS[case]}"
    )


def change(kind: str, mode: str) -> Plan:
    plan = load(plan_yaml(kind, mode))  # type: ignore[arg-type]
    assert isinstance(plan, Plan)
    return plan


PLANS: Mapping[str, BasePlan] = {
    **{f"{kind} {mode}": change(kind, mode) for kind in ("column", "table") for mode in ("application", "trigger")},
    **{case: other(case) for case in OTHERS},
}


def catalog_of(plan: Plan, *, aside: bool = False) -> Catalog:
    key = CatalogColumn("id", "bigint", not_null=True)
    old_columns = (
        key,
        CatalogColumn("first_name", "text"),
        CatalogColumn("last_name", "text"),
        CatalogColumn("email", "text"),
    )
    new_columns = tuple(CatalogColumn(name, "text") for name in plan.change.up)
    if plan.change.into is None:
        old = new = Table("public", "users", (*old_columns, *new_columns))
    else:
        old, new = Table("public", "users", old_columns), Table("public", "people", (key, *new_columns))
    reads = ("first_name", "last_name")
    return Catalog(old, new, (key,), is_archived=aside, up_source_columns=reads, down_source_columns=("full_name",))


def run(plan: BasePlan, step: str, catalog: Catalog | None = None) -> str:
    spec = next(spec for spec in build_strategy(plan).steps if spec.registry_key == step)
    return "\n".join(preview_step(plan, spec, catalog))


def sql(*statements: str) -> str:
    return "\n".join(line for statement in statements for line in statement.strip().splitlines())


@pytest.mark.parametrize("case", PLANS)
def test_every_step_has_a_preview_of_run_and_undo(case: str) -> None:
    plan = PLANS[case]
    facts = catalog_of(plan) if isinstance(plan, Plan) else None
    for catalog in {None, facts}:
        for spec in build_strategy(plan).steps:
            lines = preview_step(plan, spec, catalog)
            assert lines or spec.registry_key == "lint-ddl", f"{spec.name} shows nothing"
            assert any(lines) or not lines
            assert "\n" not in "".join(lines), "a dialog would hide the rest of a line with a line break"
            assert preview_undo(plan, spec)


def test_by_gateway_the_route_and_the_service_are_named_too() -> None:
    plan = PLANS["canary by gateway"]
    first = build_strategy(plan).phases[0].steps
    weight = next(spec for spec in first if spec.registry_key == "set-weight")
    assert preview_step(plan, weight, None) == (
        f"scales deployment/api-canary to {weight.value}% of deployment/api",
        f"httproute/shop: {weight.value}% to service/api-canary",
    )
    removed = run(plan, "remove-canary")
    for part in ("httproute/shop: 100% to service/api", "delete service/api-canary", "delete deployment/api-canary"):
        assert part in removed
    created = next(spec for spec in first if spec.registry_key == "create-canary")
    assert preview_undo(plan, created) == "delete deployment/api-canary and service/api-canary"


@pytest.mark.parametrize("case", PLANS)
def test_a_release_is_previewed_from_its_first_step_to_its_last(case: str) -> None:
    plan = PLANS[case]
    release = Release(plan.name, "hash", build_strategy(plan))
    for index, phase in enumerate(release.strategy.phases):
        before = replace(release, phase=index - 1, state=ReleaseState.WAITING if index else ReleaseState.PLANNED)
        shown = preview_command(plan, before, CommandKind.ADVANCE)
        header_lines = [line for line in shown if not line.startswith(" ")]
        assert [head.partition(": ")[0] for head in header_lines] == [spec.name for spec in phase.steps]
        for spec, head in zip(phase.steps, header_lines, strict=True):
            assert ("CANNOT BE UNDONE" in head) == spec.irreversible
    last = replace(release, phase=len(release.strategy.phases) - 1, state=ReleaseState.WAITING)
    assert preview_command(plan, last, CommandKind.ADVANCE) == ("the release ends",)


@pytest.mark.parametrize("case", PLANS)
def test_no_preview_holds_a_secret(case: str) -> None:
    plan = PLANS[case]
    strategy = build_strategy(plan)
    done = Release(plan.name, "hash", strategy, statuses=(StepStatus.DONE,) * len(strategy.steps))
    shown = [describe_target(plan), *preview_command(plan, done, CommandKind.ROLLBACK)]
    for index in range(-1, len(strategy.phases)):
        for kind in CommandKind:
            shown += preview_command(plan, replace(done, phase=index, state=ReleaseState.WAITING), kind)
    assert SECRET not in "\n".join(shown)


@pytest.mark.parametrize("case", ["column trigger", "table trigger"])
def test_the_preview_is_the_sql_of_the_builders(case: str) -> None:
    plan = PLANS[case]
    assert isinstance(plan, Plan)
    catalog = catalog_of(plan)
    assert run(plan, "expand-schema") == sql(*expand_statements(plan))
    assert run(plan, "create-indexes") == sql(*index_statements(plan))
    assert run(plan, "sync-forward", catalog) == sql(*sync_statements(plan, catalog, "forward"))
    assert run(plan, "sync-reverse", catalog) == sql(*sync_statements(plan, catalog, "reverse"))
    assert run(plan, "backfill-rows", catalog).endswith(sql(batch_statement(plan, catalog)))
    assert run(plan, "archive-old-side", catalog) == sql(*archive_statements(plan, catalog))
    aside = catalog_of(plan, aside=True)
    assert run(plan, "drop-archive", aside) == sql(*drop_archive_statements(plan, aside))


def test_a_failed_phase_shows_only_what_is_left() -> None:
    plan = PLANS["column application"]
    release = Release(plan.name, "hash", build_strategy(plan), state=ReleaseState.FAILED, phase=0)
    first = release.strategy.phases[0].steps[0].name
    shown = preview_command(plan, release.with_status(first, StepStatus.DONE), CommandKind.ADVANCE)
    assert not any(line.startswith(f"{first}:") for line in shown)
    assert any(line.startswith("expand-schema:") for line in shown)


def test_a_rollback_previews_the_undo_of_every_step_with_an_effect() -> None:
    plan = PLANS["column application"]
    release = Release(plan.name, "hash", build_strategy(plan), phase=1, state=ReleaseState.FAILED)
    assert preview_command(plan, release, CommandKind.ROLLBACK) == ("nothing has run yet: the release ends",)
    for step, status in (
        ("lint-ddl", StepStatus.DONE),
        ("expand-schema", StepStatus.DONE),
        ("rollout-v2", StepStatus.STARTED),
        ("write-flag-on", StepStatus.UNDONE),
    ):
        release = release.with_status(step, status)
    assert preview_command(plan, release, CommandKind.ROLLBACK) == (
        "undo rollout-v2: roll deployment/users-api back to the image before the release",
        "undo expand-schema: drop full_name",
        "undo lint-ddl: nothing to undo",
    )
    # E4: what is known to be gone is named before the confirmation.
    assert preview_command(plan, release, CommandKind.ROLLBACK, missing=["users-api"])[0] == (
        "undo rollout-v2: deployment/users-api does not exist: it counts as undone once none of its pods is left"
    )


def test_a_step_without_a_preview_raises() -> None:
    with pytest.raises(KeyError):
        preview_step(PLANS["rolling"], StepSpec("brand-new", "an unknown step"))


def test_every_plan_of_the_repository_has_a_preview() -> None:
    for file in (Path(__file__).parents[3] / "config").glob("plan*.yaml"):
        plan = load(file.read_text())
        assert preview_command(plan, Release(plan.name, "hash", build_strategy(plan)), CommandKind.ADVANCE)
