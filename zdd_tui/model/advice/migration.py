"""An SQL migration, read by PostgreSQL's own parser into the actions that matter for a release."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan import TableName


class Kind(StrEnum):
    """What a statement, or one action of an ALTER TABLE, does."""

    DROP_TABLE = "DROP TABLE"
    DROP_COLUMN = "DROP COLUMN"
    DROP_OTHER = "DROP of a view, type, function or schema"
    TRUNCATE = "TRUNCATE"
    RENAME_TABLE = "RENAME TABLE"
    SET_SCHEMA = "SET SCHEMA"
    RENAME_COLUMN = "RENAME COLUMN"
    RENAME_OTHER = "RENAME"
    CHANGE_TYPE = "ALTER COLUMN TYPE"
    SET_NOT_NULL = "SET NOT NULL"
    ADD_REQUIRED_COLUMN = "ADD COLUMN NOT NULL without DEFAULT"

    ADD_COLUMN = "ADD COLUMN"
    ADD_COLUMN_REWRITE = "ADD COLUMN with a volatile DEFAULT or a stored expression"
    ADD_CHECK = "ADD CHECK"
    ADD_FOREIGN_KEY = "ADD FOREIGN KEY"
    ADD_NOT_VALID = "ADD CHECK NOT VALID"
    ADD_FOREIGN_KEY_NOT_VALID = "ADD FOREIGN KEY NOT VALID"
    ADD_UNIQUE = "ADD UNIQUE or PRIMARY KEY"
    ADD_UNIQUE_USING_INDEX = "ADD UNIQUE or PRIMARY KEY USING INDEX"
    VALIDATE = "VALIDATE CONSTRAINT"
    DROP_CONSTRAINT = "DROP CONSTRAINT"
    DROP_NOT_NULL = "DROP NOT NULL"
    SET_DEFAULT = "SET or DROP DEFAULT"
    ALTER_OTHER = "another ALTER TABLE"
    REWRITE_OTHER = "SET LOGGED, TABLESPACE or ACCESS METHOD"
    CREATE = "CREATE"
    CREATE_INDEX = "CREATE INDEX"
    CREATE_INDEX_CONCURRENTLY = "CREATE INDEX CONCURRENTLY"
    DROP_INDEX = "DROP INDEX"
    DROP_INDEX_CONCURRENTLY = "DROP INDEX CONCURRENTLY"
    REINDEX = "REINDEX"
    REINDEX_CONCURRENTLY = "REINDEX CONCURRENTLY"
    CREATE_TRIGGER = "CREATE TRIGGER"
    DROP_TRIGGER = "DROP TRIGGER, RULE or POLICY"
    VACUUM_FULL = "VACUUM FULL or CLUSTER"
    REFRESH = "REFRESH MATERIALIZED VIEW"
    LOCK = "LOCK TABLE"
    WRITE_ROWS = "INSERT, UPDATE or DELETE"
    HARMLESS = "nothing that anybody waits for"
    UNKNOWN = "nothing that the adviser knows"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a statement does to one object.

    Attributes:
        table: None where no table is concerned.
        column: the column that it is about.
        name: the new name, or the name of the constraint or index.
        type: the new type, as SQL.
        using: the expression that fills the new type, as SQL.
        columns: of a new table, name and type.
        definition: of a new column, the ALTER TABLE that adds it alone.
        fresh: the table was made by the same migration, so nobody uses it yet.
    """

    kind: Kind
    table: TableName | None = None
    column: str = ""
    name: str = ""
    type: str = ""
    using: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    definition: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its place, ``migration.sql:12``."""

    place: str
    text: str
    actions: tuple[Action, ...]

    @property
    def line(self) -> str:
        """The statement in one line, for screens."""
        return " ".join(self.text.split())


def read_migration(text: str, source: str) -> tuple[Statement, ...]:
    """The statements of a migration.

    Args:
        source: the file's name, for messages.

    Raises:
        PlanError: it does not parse; names the line.
    """
    import postgast  # noqa: PLC0415  it takes a fifth of a second, and most commands need none of it

    from zdd_tui.model.advice.parse_tree import actions_of  # noqa: PLC0415

    if "\0" in text:
        raise PlanError(f"{source}: it holds a NUL", "save it as UTF-8 text")
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError as error:
        line = text.count("\n", 0, max(error.cursorpos - 1, 0)) + 1
        raise PlanError(
            f"{source}:{line}: PostgreSQL cannot read it: {error.message}",
            "plain SQL for PostgreSQL, without psql's \\commands and COPY data",
        ) from None
    raw, statements = text.encode(), []
    for found in tree.stmts:
        end = found.stmt_location + found.stmt_len if found.stmt_len else len(raw)
        lead, body = _without_lead(raw[found.stmt_location : end].decode(errors="replace"))
        line = raw.count(b"\n", 0, found.stmt_location) + lead + 1
        statements.append(Statement(f"{source}:{line}", body, tuple(actions_of(found.stmt))))
    if not statements:
        raise PlanError(f"{source}: there is no SQL statement in it", "name the migration's file")
    return tuple(statements)


def freshened(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The same, with every action on a table marked that an earlier statement has made."""
    made: set[str] = set()
    result = []
    for statement in statements:
        actions = tuple(
            replace(action, fresh=action.fresh or (action.table is not None and str(action.table) in made))
            for action in statement.actions
        )
        made |= {str(a.table) for a in statement.actions if a.kind is Kind.CREATE and a.table is not None and a.columns}
        result.append(replace(statement, actions=actions))
    return tuple(result)


def all_actions(statements: tuple[Statement, ...]) -> Iterator[Action]:
    """Every action, in order."""
    for statement in statements:
        yield from statement.actions


def _without_lead(text: str) -> tuple[int, str]:
    """How many lines of blanks and comments come first, and the rest."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text.startswith("--", position):
            position = _after(text, "\n", position)
        elif text.startswith("/*", position):
            position = _after(text, "*/", position + 2)
        else:
            break
    return text.count("\n", 0, position), text[position:]


def _after(text: str, mark: str, start: int) -> int:
    found = text.find(mark, start)
    return len(text) if found < 0 else found + len(mark)
