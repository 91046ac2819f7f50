"""REINDEX, VACUUM, ANALYZE and CLUSTER: they change no definition, so there is nothing to undo."""

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, StepMode, shorten
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, parse_sql


def _outside(text: str, statement: str) -> tuple[Operation, ...]:
    step = OperationStep(Phase.EXPAND, shorten(text), (statement,), mode=StepMode.AUTOCOMMIT)
    return (Operation(text, step.label, (step,)),)


def _read_reindex(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """Always concurrently."""
    if enum_name(statement, "kind") == "REINDEX_OBJECT_SYSTEM":
        raise PlanError(f"{shorten(text)}: it locks the catalog", "run it in a maintenance window")
    if any(each.def_elem.defname == "concurrently" for each in statement.params):
        return _outside(text, text)
    tree = parse_sql("REINDEX TABLE CONCURRENTLY a")
    reindex = tree.stmts[0].stmt.reindex_stmt
    concurrently = type(reindex.params[0])()
    concurrently.CopyFrom(reindex.params[0])
    reindex.CopyFrom(statement)
    reindex.params.add().CopyFrom(concurrently)
    return _outside(text, deparse(tree))


def _read_vacuum(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    if any(each.def_elem.defname == "full" for each in statement.options):
        raise _rewrites(text)
    return _outside(text, text)


def _read_cluster(_statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    raise _rewrites(text)


def _rewrites(text: str) -> PlanError:
    return PlanError(
        f"{shorten(text)}: it rewrites the table under a lock that blocks reads and writes",
        "leave it out; pg_repack does it online",
    )


MAINTENANCE_READERS: Mapping[str, Any] = {
    "cluster_stmt": _read_cluster,
    "reindex_stmt": _read_reindex,
    "repack_stmt": _read_cluster,
    "vacuum_stmt": _read_vacuum,
}
