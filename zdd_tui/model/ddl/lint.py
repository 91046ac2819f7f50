"""What the plan's SQL may do: additive DDL, and expressions over the columns of one row. Pure; the server judges later.

Whatever is not understood is refused: an error names the key of the plan and the mend.
"""

from difflib import get_close_matches
from typing import Any

from zdd_tui.model.ddl import lint_ddl
from zdd_tui.model.ddl.expand import CreatedObjects
from zdd_tui.model.ddl.tokens import called_functions, tokens, unsafe_token
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Plan

NON_IMMUTABLE_FUNCTIONS = {
    *("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"),
    *("random", "gen_random_uuid", "uuid_generate_v4", "nextval", "currval", "lastval", "txid_current"),
}
"""Functions that give another answer tomorrow: rows computed with them could never be verified."""

_NON_IMMUTABLE_KEYWORDS = {
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
}
_EXPRESSION_HINT = "write one expression over the columns of the row, such as first_name || ' ' || last_name"


def lint_plan_sql(plan: Plan) -> None:
    """Checks every SQL text of the plan.

    Raises:
        PlanError: naming the key (``change.expand statement 2``, ``change.up.full_name``) and the mend.
    """
    for side, expressions, table in (
        ("up", plan.change.up, plan.change.table.name),
        ("down", plan.change.down, plan.change.target_table.name),
    ):
        for column, expression in expressions.items():
            check_expression(f"change.{side}.{column}", expression, table)
    taken = [name for name in plan.change.key if name in plan.change.up or name in plan.change.down]
    if taken:
        raise PlanError(
            f"change.key: {taken[0]} is also in up or down",
            "a key is the same on both sides: leave it out of up and down",
        )
    lint_ddl.check_expand(plan)
    for number, statement in enumerate(plan.change.indexes, 1):
        lint_ddl.check_index(plan, f"change.indexes statement {number}", statement)


def check_expression(plan_key: str, expression: str, table: str) -> tuple[str, ...]:
    """The columns that an expression reads, in the order of their first mention.

    Raises:
        PlanError: not exactly one expression over one row.
    """
    if found := unsafe_token(expression):
        raise PlanError(f"{plan_key}: not a plain expression: {found}", _EXPRESSION_HINT)
    tree = _parse_expression(plan_key, expression)
    import sqlglot.expressions as exp  # noqa: PLC0415  it takes a tenth of a second, and most commands need none of it

    refused = (
        ((exp.Query, exp.Subquery, exp.Exists), "a subquery", "an expression may read only the row that it is for"),
        ((exp.AggFunc, exp.Window), "an aggregate or window function", "it would read more than one row"),
        ((exp.Alias, exp.Aliases), "AS", "leave the alias out: the key in the plan is the column's name"),
        ((exp.Star,), "*", "name the columns"),
        ((exp.DDL, exp.DML, exp.Command, exp.Drop, exp.Set), "a statement", _EXPRESSION_HINT),
    )
    for node in tree.walk():
        for kinds, what, mend in refused:
            if isinstance(node, kinds):
                raise PlanError(f"{plan_key}: {what} cannot stand in it", mend)
    called = {*called_functions(expression), *_forbidden_keywords(expression, _NON_IMMUTABLE_KEYWORDS)}
    if unsteady := sorted(called & (NON_IMMUTABLE_FUNCTIONS | _NON_IMMUTABLE_KEYWORDS)):
        raise PlanError(
            f"{plan_key}: {unsteady[0]} gives another answer each time, so the rows could never be verified",
            "compute it from columns alone",
        )
    columns = list(tree.find_all(exp.Column))
    for column in columns:
        if column.table and lint_ddl.fold_identifier(column.args["table"]) != table:
            raise PlanError(
                f"{plan_key}: {column.sql(dialect='postgres')} is not a column of {table}", _EXPRESSION_HINT
            )
    return tuple(dict.fromkeys(lint_ddl.fold_identifier(column.this) for column in columns))


def up_source_columns(plan: Plan) -> tuple[str, ...]:
    """Columns of the old table that ``up`` reads."""
    return _source_columns(plan, "up", plan.change.up, plan.change.table.name)


def down_source_columns(plan: Plan) -> tuple[str, ...]:
    """Columns of the new side that ``down`` reads."""
    return _source_columns(plan, "down", plan.change.down, plan.change.target_table.name)


def created_objects(plan: Plan) -> CreatedObjects:
    """What the expand DDL makes.

    Raises:
        PlanError: the DDL is not additive.
    """
    return lint_ddl.check_expand(plan)


def new_column_types(plan: Plan) -> dict[str, str]:
    """The types of the columns that the expand DDL makes in ``change.target``, as SQL."""
    return lint_ddl.column_types(plan)


def suggest_name(name: str, names: tuple[str, ...] | list[str]) -> str:
    """``; did you mean x?``, or nothing."""
    found = get_close_matches(name, names, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _source_columns(plan: Plan, side: str, expressions: dict[str, str], table: str) -> tuple[str, ...]:
    read = (
        name
        for column, expression in expressions.items()
        for name in check_expression(f"change.{side}.{column}", expression, table)
    )
    return tuple(dict.fromkeys(read))


def _forbidden_keywords(expression: str, wanted: set[str]) -> set[str]:
    return {lexeme.lower() for kind, lexeme, _ in tokens(expression) if kind == "word"} & wanted


def _parse_expression(plan_key: str, expression: str) -> Any:
    trees = lint_ddl.parse_sql(plan_key, expression, _EXPRESSION_HINT)
    if len(trees) != 1:
        raise PlanError(f"{plan_key}: expected one expression", _EXPRESSION_HINT)
    return trees[0]
