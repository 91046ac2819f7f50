"""Names of the objects that zdd makes in the application's database."""

from typing import Literal

from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, quote_names

SCHEMA = "zdd"
ARCHIVE_SCHEMA = "zdd_archive"
SYNC_SETTING = "zdd.sync_from"
"""Setting of a transaction: the side that the running sync trigger copies from; the other trigger then does nothing."""

WITNESS_SETTING = "zdd.witness"
"""Setting of a transaction: ``off`` in ours, whose writes need no witness."""

LEFT_OUT_SETTING = "zdd.left_out"
"""Setting of a transaction: not empty while a row is inserted whose statement leaves out the new columns."""

Direction = Literal["forward", "reverse"]
Side = Literal["old", "new"]
SIDES: tuple[Side, Side] = ("old", "new")


def sync_name(plan: Plan, direction: Direction) -> str:
    """Name of the trigger and of its function."""
    return f"zdd_{plan.name}_{'fwd' if direction == 'forward' else 'rev'}"


def lock_order_name(plan: Plan) -> str:
    """Name of the trigger that makes writers of both tables lock in one order, and of its function."""
    return f"zdd_{plan.name}_ord"


def left_out_name(plan: Plan) -> str:
    """Name of the function that is the default of the new columns while V2 and V3 both insert."""
    return f"zdd_{plan.name}_out"


def witness_functions(plan: Plan) -> tuple[str, str, str]:
    """Names of the functions of the witness: for rows of the old side, for rows of the new table, for TRUNCATE."""
    return f"zdd_{plan.name}_wo", f"zdd_{plan.name}_wn", f"zdd_{plan.name}_wt"


def witness_triggers(plan: Plan, side: Literal["old", "new"]) -> tuple[str, str]:
    """Names of the triggers of the witness for the writes of one side: for rows, and for TRUNCATE."""
    return f"zdd_{plan.name}_w{side[0]}r", f"zdd_{plan.name}_w{side[0]}t"


def archived_name(plan: Plan, column: str) -> str:
    """The name of an old column while it is archived."""
    number = list(plan.change.down).index(column) + 1
    name = f"zdd_archive_{number}_{column}"
    return name.encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore")


def old_column_name(plan: Plan, column: str, archived: bool) -> str:
    """The present name of a column of the old table."""
    if archived and plan.change.kind == "column" and column in plan.change.down:
        return archived_name(plan, column)
    return column


def search_path(plan: Plan) -> str:
    """The schemas in which names of the plan are looked up, whatever the role: the tables' own, then public."""
    schemas = dict.fromkeys([plan.change.target_table.schema_, plan.change.table.schema_, "public"])
    return f"{quote_names(schemas)}, pg_temp"
