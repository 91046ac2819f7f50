"""Identities, sequences and expressions of columns that exist: only the catalog changes."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Operation,
    OperationOptions,
    OperationStep,
    RemovedKind,
    RemovedObject,
    default_topic,
    relation_names,
    relation_sql,
)
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, quote_literal

_ALWAYS = "a"

_SEQUENCE = """
SELECT format('{alter} ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s START WITH %s INCREMENT BY %s MINVALUE %s'
  ' MAXVALUE %s CACHE %s%s)', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, s.seqrelid::regclass,
  s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
FROM pg_attribute a JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
  AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
JOIN pg_sequence s ON s.seqrelid = d.objid
WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND a.attidentity <> ''
UNION ALL
SELECT format('SELECT setval(%L, %s)', name, pg_sequence_last_value(name::regclass))
FROM (SELECT pg_get_serial_sequence({table}, {column}) AS name) AS sequence
WHERE pg_sequence_last_value(name::regclass) IS NOT NULL
"""


_INSTEAD_OF_DEFAULT = """
SELECT sql FROM (
  SELECT 1 AS n, format('SELECT setval(%L, n, false) FROM (SELECT nextval(objid::regclass) AS n FROM pg_depend'
    ' WHERE classid = ''pg_class''::regclass AND refclassid = ''pg_class''::regclass AND deptype = ''i'''
    ' AND refobjid = %s AND refobjsubid = %s) AS identity, pg_sequence WHERE seqrelid = %s'
    ' AND n BETWEEN coalesce(pg_sequence_last_value(seqrelid), seqmin) AND seqmax',
    s.seqrelid::regclass, d.adrelid, d.adnum, s.seqrelid) AS sql
  FROM pg_attrdef d JOIN pg_depend ON classid = 'pg_attrdef'::regclass AND objid = d.oid
    AND refclassid = 'pg_class'::regclass
  JOIN pg_sequence s ON s.seqrelid = refobjid
  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  WHERE a.attrelid = to_regclass({table}) AND a.attname = {column}
  UNION ALL SELECT 2, {alter} || 'DROP IDENTITY'
  UNION ALL SELECT 3, {alter} || 'SET DEFAULT ' || pg_get_expr(adbin, adrelid)
  FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
  WHERE adrelid = to_regclass({table}) AND attname = {column}
) AS undo ORDER BY n
"""
"""The default comes back, and its sequence continues after the numbers that the identity has given."""


_CONTINUE = """
SELECT format('SELECT setval(%L, %s) FROM %s AS identity WHERE last_value <= %s', i.objid::regclass, last,
  i.objid::regclass, last)
FROM pg_attribute a JOIN pg_depend i ON i.refobjid = a.attrelid AND i.refobjsubid = a.attnum AND i.deptype = 'i'
  AND i.classid = 'pg_class'::regclass AND i.refclassid = 'pg_class'::regclass
JOIN pg_depend o ON o.refobjid = a.attrelid AND o.refobjsubid = a.attnum AND o.deptype = 'a'
  AND o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass
JOIN pg_sequence s ON s.seqrelid = o.objid, pg_sequence_last_value(o.objid::regclass) AS last
WHERE a.attrelid = to_regclass({table}) AND a.attname = {column} AND last IS NOT NULL AND seqincrement > 0
"""
"""The identity begins after the numbers of the sequence that belongs to the column, if it would begin before."""


def read_add_identity(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """In expand; in contract where it refuses the values that an older version may write.

    In the place of a default that the migration drops: both in one transaction, so that each row gets a number.
    """
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    is_always = getattr(command.alter_table_cmd, "def").constraint.generated_when == _ALWAYS
    alter_column = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)} "
    label = f"add an identity to {table}.{name_sql(column)}"
    if (options.scope.relation_key(alter.relation), column) in options.scope.dropped_defaults:
        before, then = (
            query.replace("{table}", quote_literal(table))
            .replace("{column}", quote_literal(column))
            .replace("{alter}", quote_literal(alter_column))
            for query in (_INSTEAD_OF_DEFAULT, _CONTINUE)
        )
        statements = (f"{alter_column}DROP DEFAULT", text)
        instead = OperationStep(options.last_phase, label, statements, undo_query=before, then_query=then)
        return (Operation(text, label, (instead,), topic=default_topic(table, column)),)
    step = OperationStep(_phase(options, is_late=is_always), label, (text,), (f"{alter_column}DROP IDENTITY",))
    return (Operation(text, label, (step,)),)


def read_set_identity(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """SET GENERATED. Options of the sequence: a statement of the team's own."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    settings = [each.def_elem for each in getattr(command.alter_table_cmd, "def").list.items]
    if len(settings) != 1 or settings[0].defname != "generated":
        return (read_own_statement(text, options),)
    begin = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)} SET GENERATED "
    before = (
        f"SELECT {quote_literal(begin)} || CASE attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END"
        f" FROM pg_attribute WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(column)} AND attidentity <> ''"
    )
    is_always = settings[0].arg.integer.ival == ord(_ALWAYS)
    label = f"set how {table}.{name_sql(column)} is generated"
    step = OperationStep(_phase(options, is_late=is_always), label, (text,), undo_query=before)
    return (Operation(text, label, (step,)),)


def read_drop_identity(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """In contract: an older version relies on it. The undo makes a sequence that continues where this one was."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    label = f"drop the identity of {table}.{name_sql(column)}"
    alter_column = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)}".replace("'", "''").replace("%", "%%")
    before = (
        _SEQUENCE.replace("{alter}", alter_column)
        .replace("{table}", quote_literal(table))
        .replace("{column}", quote_literal(column))
    )
    step = OperationStep(_phase(options, is_late=True), label, (text,), undo_query=before)
    names = (*relation_names(alter.relation), column)
    removed = RemovedObject(RemovedKind.DEFAULT, names, f"identity of {table}.{name_sql(column)}", step.phase)
    return (Operation(text, label, (step,), removes=(removed,)),)


def read_drop_expression(alter: Any, command: Any, _text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: always; a plan may run it with an undo of its own.
    """
    what = f"{relation_sql(alter.relation)}.{name_sql(command.alter_table_cmd.name)}"
    raise PlanError(
        f"{what}: DROP EXPRESSION: the column cannot be generated again without a rewrite of the table under a lock",
        "add a plain column, fill it, let V2 use it, then drop this one; or accept that a rollback keeps it plain:"
        " write the operation as a mapping with sql:, undo: [] and phase: contract",
    )


def restore_position_query(sequence: str) -> str:
    """A query of the statement that takes back where a sequence continues: no number is given twice.

    Args:
        sequence: as an SQL expression.
    """
    return (
        "SELECT format('SELECT setval(%1$L, %2$s(pg_sequence_last_value(%1$L), %3$s))', seqrelid::regclass,"
        " CASE WHEN seqincrement > 0 THEN 'greatest' ELSE 'least' END, last)"
        f" FROM pg_sequence, pg_sequence_last_value(seqrelid::regclass) AS last"
        f" WHERE seqrelid = ({sequence})::text::regclass AND last IS NOT NULL"
    )


def read_sequence_type(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """ALTER SEQUENCE AS type, alone. It locks only the sequence, and no number is lost."""
    sequence = relation_sql(statement.sequence)
    before = (
        f"SELECT {quote_literal(f'ALTER SEQUENCE {sequence} AS ')} || format_type(seqtypid, NULL)"
        f" FROM pg_sequence WHERE seqrelid = to_regclass({quote_literal(sequence)})"
    )
    label = f"change the type of sequence {sequence}"
    return (Operation(text, label, (OperationStep(Phase.EXPAND, label, (text,), undo_query=before),)),)


def _phase(options: OperationOptions, *, is_late: bool) -> Phase:
    return Phase.CONTRACT if is_late and options.has_rollout else Phase.EXPAND
