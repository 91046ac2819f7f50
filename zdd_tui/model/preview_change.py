"""What the steps of expand/contract will run, made by the builders that the engine runs."""

from collections.abc import Callable, Mapping

from zdd_tui.model.ddl import (
    Catalog,
    aside_name,
    batch_statement,
    drop_aside_statements,
    expand_statements,
    index_statements,
    set_aside_statements,
    sync_name,
    sync_statements,
)
from zdd_tui.model.plan import Plan

Lines = tuple[str, ...]


def _sql(statements: Lines) -> Lines:
    return tuple(line for statement in statements for line in statement.strip().splitlines())


def _lint(_plan: Plan, _catalog: Catalog | None) -> Lines:
    return ()


def _expand(plan: Plan, _catalog: Catalog | None) -> Lines:
    return _sql(expand_statements(plan))


def _indexes(plan: Plan, _catalog: Catalog | None) -> Lines:
    return _sql(index_statements(plan))


def _forward(plan: Plan, catalog: Catalog | None) -> Lines:
    if catalog is None or catalog.new is None:
        return (f"trigger {sync_name(plan, 'forward')} on {plan.change.table}",)
    return _sql(sync_statements(plan, catalog, "forward"))


def _reverse(plan: Plan, catalog: Catalog | None) -> Lines:
    if catalog is None or catalog.new is None:
        return (f"trigger {sync_name(plan, 'reverse')} on {plan.change.target}",)
    return _sql(sync_statements(plan, catalog, "reverse"))


def _image(plan: Plan, image: str) -> Lines:
    names = plan.kubernetes
    return (f"kubectl -n {names.namespace} set image deployment/{names.deployment} {names.container}={image}",)


def _v2(plan: Plan, _catalog: Catalog | None) -> Lines:
    return _image(plan, plan.kubernetes.images.v2)


def _v3(plan: Plan, _catalog: Catalog | None) -> Lines:
    return _image(plan, plan.kubernetes.images.v3)


def _write_on(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"SET ff:{plan.flags.write} true",)


def _read_on(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"SET ff:{plan.flags.read} true",)


def _prepare(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"ANALYZE {plan.change.table}",)


def _move(plan: Plan, catalog: Catalog | None) -> Lines:
    size = f"{plan.backfill.batch_rows} to {plan.backfill.batch_rows_max} rows a batch"
    if catalog is None or catalog.new is None:
        return (size,)
    return (size, *_sql((batch_statement(plan, catalog),)))


def _verify(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"reads every row of {plan.change.table}" + (f" and {plan.change.into}" if plan.change.into else ""),)


def _aside(plan: Plan, catalog: Catalog | None) -> Lines:
    if catalog is not None and catalog.new is not None:
        return _sql(set_aside_statements(plan, catalog))
    if plan.change.kind == "table":
        return (f"table {plan.change.table} moves to the schema zdd_aside",)
    return tuple(f"column {old} is renamed {aside_name(plan, old)}" for old in plan.change.down)


def _drop(plan: Plan, catalog: Catalog | None) -> Lines:
    if catalog is not None and catalog.new is not None:
        return _sql(drop_aside_statements(plan, catalog))
    return ("triggers, their functions, and the old data",)


def _flags(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"DEL ff:{plan.flags.write} ff:{plan.flags.read}",)


def _analyze(plan: Plan, _catalog: Catalog | None) -> Lines:
    return (f"ANALYZE {plan.change.target}",)


CHANGE_LINES: Mapping[str, Callable[[Plan, Catalog | None], Lines]] = {
    "lint-ddl": _lint,
    "expand-schema": _expand,
    "create-indexes": _indexes,
    "sync-forward": _forward,
    "rollout-v2": _v2,
    "write-flag-on": _write_on,
    "prepare-backfill": _prepare,
    "backfill-rows": _move,
    "verify-rows": _verify,
    "sync-reverse": _reverse,
    "read-flag-on": _read_on,
    "rollout-v3": _v3,
    "set-aside": _aside,
    "delete-flags": _flags,
    "drop-aside": _drop,
    "analyze": _analyze,
}


CHANGE_UNDO: Mapping[str, Callable[[Plan], str]] = {
    "expand-schema": lambda plan: f"drop {', '.join(plan.change.up) if plan.change.into is None else plan.change.into}",
    "create-indexes": lambda plan: f"drop {len(plan.change.indexes)} index(es)",
    "sync-forward": lambda plan: f"drop trigger {sync_name(plan, 'forward')}",
    "rollout-v2": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to the image before the release",
    "write-flag-on": lambda plan: f"ff:{plan.flags.write} as before",
    "backfill-rows": lambda _plan: "stop; the moved rows go with the new schema",
    "sync-reverse": lambda plan: f"drop trigger {sync_name(plan, 'reverse')}",
    "read-flag-on": lambda plan: f"ff:{plan.flags.read} as before",
    "rollout-v3": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to {plan.kubernetes.images.v2}",
    "set-aside": lambda plan: f"bring back the old side of {plan.change.table}",
    "delete-flags": lambda plan: f"ff:{plan.flags.write} and ff:{plan.flags.read} as before",
}
