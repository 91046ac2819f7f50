"""Every SQL statement of a schema change, built from the plan and the catalog.

The engine runs these statements, and the screens show them before they are confirmed: what is shown is what runs.
"""

from zdd_tui.model.ddl.archive import archive_statements, drop_archive_statements, restore_archive_statements
from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, KeySequence, Table
from zdd_tui.model.ddl.expand import CreatedObjects, expand_statements, index_statements, undo_expand_statements
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, Direction, archived_name, search_path, sync_name
from zdd_tui.model.ddl.rows import batch_statement
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements, undo_reverse_statements

__all__ = [
    "ARCHIVE_SCHEMA",
    "Catalog",
    "CatalogColumn",
    "CreatedObjects",
    "Direction",
    "KeySequence",
    "Table",
    "archive_statements",
    "archived_name",
    "batch_statement",
    "drop_archive_statements",
    "drop_sync_statements",
    "expand_statements",
    "index_statements",
    "restore_archive_statements",
    "search_path",
    "sync_name",
    "sync_statements",
    "undo_expand_statements",
    "undo_reverse_statements",
]
