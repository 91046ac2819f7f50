"""Every SQL text of a schema change, built from the plan and the catalog's facts.

The engine runs these texts and the screens show them before they are confirmed: what is shown is what runs.
"""

from zdd_tui.model.ddl.archive import drop_aside_statements, set_aside_statements, undo_aside_statements
from zdd_tui.model.ddl.catalog import Catalog, Column, Sequence, Table
from zdd_tui.model.ddl.expand import Created, expand_statements, index_statements, undo_expand_statements
from zdd_tui.model.ddl.names import ASIDE_SCHEMA, Direction, aside_name, search_path, sync_name
from zdd_tui.model.ddl.rows import batch_statement, verify_statement
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements

__all__ = [
    "ASIDE_SCHEMA",
    "Catalog",
    "Column",
    "Created",
    "Direction",
    "Sequence",
    "Table",
    "aside_name",
    "batch_statement",
    "drop_aside_statements",
    "drop_sync_statements",
    "expand_statements",
    "index_statements",
    "search_path",
    "set_aside_statements",
    "sync_name",
    "sync_statements",
    "undo_aside_statements",
    "undo_expand_statements",
    "verify_statement",
]
