"""The whitelist of additive DDL, and what it makes."""

import logging
from typing import Any

from zdd_tui.model.ddl.expand import CreatedObjects
from zdd_tui.model.ddl.tokens import called_functions, split_statements, unsafe_token
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Plan, TableName

_ADDITIVE_HINT = (
    "expand may hold ALTER TABLE … ADD COLUMN, ADD CONSTRAINT … NOT VALID, CREATE TABLE, CREATE TYPE, "
    "CREATE SEQUENCE, COMMENT ON and GRANT"
)


def parse_sql(plan_key: str, text: str, hint: str) -> list[Any]:
    """The syntax trees of a text.

    Raises:
        PlanError: sqlglot does not understand it.
    """
    import sqlglot  # noqa: PLC0415  it takes a tenth of a second, and most commands need none of it

    logger, level = logging.getLogger("sqlglot"), logging.getLogger("sqlglot").level
    logger.setLevel(logging.ERROR)  # what it falls back on is refused below, with a better message
    try:
        return [tree for tree in sqlglot.parse(text, read="postgres") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        detail = getattr(error, "errors", None)
        reason = detail[0].get("description", "") if detail else ""
        raise PlanError(f"{plan_key}: cannot be read as PostgreSQL's SQL: {reason or 'syntax error'}", hint) from None
    finally:
        logger.setLevel(level)


def fold_identifier(identifier: Any) -> str:
    """A name as PostgreSQL folds it."""
    return str(identifier.name if identifier.args.get("quoted") else identifier.name.lower())


def check_expand(plan: Plan) -> CreatedObjects:
    """What the expand DDL makes.

    Raises:
        PlanError: naming statement and mend, for everything that is not known to be additive.
    """
    expand = plan.change.expand
    if found := unsafe_token(expand, statements=True):
        raise PlanError(f"change.expand: {found}", "write plain statements, separated by semicolons")
    made = _AdditiveChecker(plan)
    for number, statement in enumerate(split_statements(expand), 1):
        place = f"change.expand statement {number}"
        trees = parse_sql(place, statement, _ADDITIVE_HINT)
        if len(trees) != 1:
            raise PlanError(f"{place}: expected one statement", _ADDITIVE_HINT)
        made.check_statement(place, trees[0])
    made.check_complete()
    return made.created()


def column_types(plan: Plan) -> dict[str, str]:
    """Name and SQL type of the columns that the DDL makes in the target table."""
    made = _AdditiveChecker(plan)
    for number, statement in enumerate(split_statements(plan.change.expand), 1):
        for tree in parse_sql(f"change.expand statement {number}", statement, _ADDITIVE_HINT):
            made.check_statement(f"change.expand statement {number}", tree)
    return made.types


def check_index(plan: Plan, plan_key: str, statement: str) -> tuple[str, str]:
    """Schema and name of the index that a statement of ``indexes`` makes.

    Raises:
        PlanError: not CREATE INDEX CONCURRENTLY with a name, on a table of the plan.
    """
    mend = f"write CREATE INDEX CONCURRENTLY name ON {plan.change.target_table} (column)"
    text = statement.strip().rstrip(";")
    if found := unsafe_token(text):
        raise PlanError(f"{plan_key}: {found}", mend)
    trees = parse_sql(plan_key, text, mend)
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or type(tree).__name__ != "Create" or tree.args.get("kind") != "INDEX":
        raise PlanError(f"{plan_key}: not a CREATE INDEX", mend)
    if not tree.args.get("concurrently"):
        raise PlanError(f"{plan_key}: without CONCURRENTLY it would block every write while it is built", mend)
    index = tree.this
    if index.this is None:
        raise PlanError(f"{plan_key}: the index has no name, so it could not be found again", mend)
    table = _resolve_table_name(plan, index.args["table"])
    if table not in (plan.change.table, plan.change.target_table):
        raise PlanError(f"{plan_key}: {table} is no table of this plan", mend)
    return table.schema_, fold_identifier(index.this)


def index_name(statement: str) -> str:
    """The name in a CREATE INDEX statement that has passed :func:`check_index`."""
    tree = parse_sql("change.indexes", statement, "write CREATE INDEX CONCURRENTLY name ON table (column)")[0]
    return fold_identifier(tree.this.this)


def _resolve_table_name(plan: Plan, table: Any) -> TableName:
    """What a table's name means under the search path that the statements run with."""
    schema = fold_identifier(table.args["db"]) if table.args.get("db") else ""
    name = fold_identifier(table.this)
    if not schema:
        known = next((known for known in (plan.change.target_table, plan.change.table) if known.name == name), None)
        schema = known.schema_ if known else plan.change.target_table.schema_
    return TableName(schema_=schema, name=name)


class _AdditiveChecker:
    """Takes the statements one by one and keeps what they make."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.types: dict[str, str] = {}
        self.columns: list[str] = []
        self.constraints: list[str] = []
        self.relations: dict[str, list[tuple[str, str]]] = {"TABLE": [], "SEQUENCE": [], "TYPE": []}

    def created(self) -> CreatedObjects:
        return CreatedObjects(
            columns=tuple(self.columns),
            constraints=tuple(self.constraints),
            tables=tuple(self.relations["TABLE"]),
            sequences=tuple(self.relations["SEQUENCE"]),
            types=tuple(self.relations["TYPE"]),
            indexes=tuple(
                check_index(self.plan, f"change.indexes statement {number}", statement)
                for number, statement in enumerate(self.plan.change.indexes, 1)
            ),
        )

    def check_statement(self, plan_key: str, tree: Any) -> None:
        kind = type(tree).__name__
        if kind == "Alter" and tree.args.get("kind") == "TABLE":
            self._alter(plan_key, tree)
        elif kind == "Create":
            self._create(plan_key, tree)
        elif kind not in ("Comment", "Grant"):
            raise PlanError(f"{plan_key}: {tree.sql(dialect='postgres')[:40]} is not additive", _ADDITIVE_HINT)

    def check_complete(self) -> None:
        target = self.plan.change.target_table
        if self.plan.change.into is not None and (target.schema_, target.name) not in self.relations["TABLE"]:
            raise PlanError(f"change.expand: nothing creates {target}", "add its CREATE TABLE, or leave into out")
        for column in self.plan.change.up:
            if column not in self.types:
                raise PlanError(
                    f"change.up.{column}: change.expand makes no column {column} in {target}",
                    f"add it there; expand makes {', '.join(self.types) or 'no column'}",
                )

    def _alter(self, plan_key: str, tree: Any) -> None:
        table = _resolve_table_name(self.plan, tree.this)
        ours = table in (self.plan.change.table, self.plan.change.target_table)
        fresh = (table.schema_, table.name) in self.relations["TABLE"]
        if not ours and not fresh:
            raise PlanError(
                f"{plan_key}: {table} is no table of this plan", f"alter {self.plan.change.target_table} only"
            )
        for action in tree.args.get("actions") or []:
            match type(action).__name__:
                case "ColumnDef":
                    self._column(plan_key, action, table, fresh)
                case "AddConstraint":
                    self._constraint(plan_key, tree, action, fresh)
                case _:
                    raise PlanError(
                        f"{plan_key}: {action.sql(dialect='postgres')[:40]} is not additive", _ADDITIVE_HINT
                    )

    def _constraint(self, plan_key: str, tree: Any, action: Any, on_new_table: bool) -> None:
        for constraint in action.expressions:
            if type(constraint).__name__ != "Constraint":
                raise PlanError(
                    f"{plan_key}: the constraint has no name", "write ADD CONSTRAINT name CHECK (…) NOT VALID"
                )
            kinds = {type(part).__name__ for part in constraint.expressions}
            if not on_new_table and (
                not tree.args.get("not_valid") or not kinds <= {"CheckColumnConstraint", "ForeignKey"}
            ):
                raise PlanError(
                    f"{plan_key}: the constraint would read the whole table under a lock",
                    "add NOT VALID to a CHECK or FOREIGN KEY; build uniqueness as an index in `indexes`",
                )
            if not on_new_table:
                self.constraints.append(fold_identifier(constraint.this))

    def _column(self, plan_key: str, column: Any, table: TableName, on_new_table: bool) -> None:
        name = fold_identifier(column.this)
        kinds = {type(part.kind).__name__: part.kind for part in column.args.get("constraints") or []}
        if column.args.get("kind") is None or column.args["kind"].sql(dialect="postgres").upper().endswith("SERIAL"):
            raise PlanError(f"{plan_key}: column {name} has a type that rewrites the table", "use a plain type")
        if column.args.get("exists"):
            raise PlanError(f"{plan_key}: IF NOT EXISTS would take over a column of somebody else", "leave it out")
        if not on_new_table:
            self._added(plan_key, name, kinds)
        if table == self.plan.change.target_table:
            self.types[name] = column.args["kind"].sql(dialect="postgres")
        if not on_new_table and table == self.plan.change.table:
            self.columns.append(name)

    def _added(self, plan_key: str, name: str, kinds: dict[str, Any]) -> None:
        default = kinds.get("DefaultColumnConstraint")
        if not set(kinds) <= {"DefaultColumnConstraint", "NotNullColumnConstraint", "CollateColumnConstraint"}:
            raise PlanError(
                f"{plan_key}: column {name} has a constraint that needs a long lock or a rewrite",
                "add the column bare; constraints as NOT VALID, uniqueness as an index in `indexes`",
            )
        not_null = "NotNullColumnConstraint" in kinds and not kinds["NotNullColumnConstraint"].args.get("allow_null")
        if name in self.plan.change.up and (default is not None or not_null):
            raise PlanError(
                f"{plan_key}: column {name} must be nullable and without a default",
                "NULL says that it is not written yet; add NOT NULL and DEFAULT after the release",
            )
        if not_null and default is None:
            raise PlanError(
                f"{plan_key}: column {name} is NOT NULL without a default", "drop NOT NULL or add a DEFAULT"
            )
        if default is not None and called_functions(default.this.sql(dialect="postgres")):
            raise PlanError(
                f"{plan_key}: the default of {name} calls a function: it could rewrite the table",
                "give a constant as default",
            )

    def _create(self, plan_key: str, tree: Any) -> None:
        kind = tree.args.get("kind")
        if kind == "INDEX":
            raise PlanError(f"{plan_key}: an index belongs to change.indexes", "CREATE INDEX CONCURRENTLY goes there")
        if kind not in self.relations or tree.args.get("replace"):
            raise PlanError(f"{plan_key}: {tree.sql(dialect='postgres')[:40]} is not additive", _ADDITIVE_HINT)
        if tree.args.get("exists"):
            raise PlanError(f"{plan_key}: IF NOT EXISTS would take over what somebody else made", "leave it out")
        schema = tree.this
        name = _resolve_table_name(self.plan, schema.this if type(schema).__name__ == "Schema" else schema)
        if kind == "TABLE":
            self._table(plan_key, tree, name)
        self.relations[kind].append((name.schema_, name.name))

    def _table(self, plan_key: str, tree: Any, name: TableName) -> None:
        if (
            tree.args.get("expression") is not None
            or tree.args.get("properties")
            or type(tree.this).__name__ != "Schema"
        ):
            raise PlanError(
                f"{plan_key}: {name} must be a plain table with a list of columns",
                "no AS SELECT, TEMPORARY, PARTITION BY, INHERITS or UNLOGGED",
            )
        if name != self.plan.change.target_table:
            return
        key = self.plan.change.key
        for column in tree.this.expressions:
            if type(column).__name__ != "ColumnDef":
                continue
            column_name = fold_identifier(column.this)
            self.types[column_name] = column.args["kind"].sql(dialect="postgres") if column.args.get("kind") else ""
            kinds = {type(part.kind).__name__ for part in column.args.get("constraints") or []}
            filled = kinds & {
                *("DefaultColumnConstraint", "GeneratedAsIdentityColumnConstraint", "PrimaryKeyColumnConstraint"),
                "ComputedColumnConstraint",
            }
            needed = "NotNullColumnConstraint" in kinds and not filled
            if needed and column_name not in self.plan.change.up and key and column_name not in key:
                raise PlanError(
                    f"{plan_key}: column {column_name} is NOT NULL, and up does not fill it",
                    f"add change.up.{column_name}, or a DEFAULT",
                )
