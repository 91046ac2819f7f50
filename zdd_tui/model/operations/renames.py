"""RENAME COLUMN: both names exist from expand to contract, and a trigger keeps them equal.

The new name is a second column until no running code uses the old one. Then the names are swapped in one short
transaction, so that the original column, with its position, constraints, indexes, rights and statistics, has the new
name: the table is what the plain statement makes. The second column is kept up to date until cleanup for the rollback.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Fill,
    Operation,
    OperationStep,
    ReliedKind,
    ReliedObject,
    RemovedKind,
    RemovedObject,
    RenameOperation,
    StepMode,
    Violation,
    relation_names,
    relation_sql,
)
from zdd_tui.model.operations.generated import (
    OLD_PREFIX,
    RENAMED_PREFIX,
    block,
    derived_name,
    differs,
    function_name,
    function_sql,
    prefixed_column,
    trigger_function,
)
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, quote_literal

FIRST_TRIGGER = "!"
"""Triggers of one event fire in the order of their names: ours first, so that the others read both columns alike."""


REPLACED_TRIGGERS, REPLACED_FUNCTIONS = "'{}'::name[]", "'{}'::text[]"
"""In the statement that adds the column: what the migration itself replaces after it."""


def read_rename_column(statement: Any, text: str, scope: Scope) -> Operation:
    """A column under a second name.

    Raises:
        PlanError: a name is too long, or is that of another column until contract.
    """
    table, old, new = relation_sql(statement.relation), statement.subname, statement.newname
    if statement.missing_ok:
        raise PlanError(f"{' '.join(text.split())}: IF EXISTS is not supported for a rename", "leave it out")
    key = scope.relation_key(statement.relation)
    if (key, new) in scope.dropped_columns | scope.renamed_columns:
        raise PlanError(
            f"{' '.join(text.split())}: another column has the name {new} before, and running code uses both",
            f"ALTER TABLE {table} ALTER COLUMN {name_sql(new)} TYPE … USING … changes a column under its name; or"
            " rename to a new name",
        )
    if (key, old) in scope.second_names:
        first = name_sql(scope.second_names[key, old])
        raise PlanError(
            f"{' '.join(text.split())}: the migration has given the column this name, and it can have two names only",
            f"write one rename in place of both: ALTER TABLE {table} RENAME COLUMN {first} TO {name_sql(new)}",
        )
    scope.renamed_columns.add((key, old))
    scope.second_names[key, new] = old
    scope.late.add(key)
    a, b = name_sql(old), name_sql(new)
    archived = name_sql(prefixed_column(OLD_PREFIX, table, new))
    function = function_name("rename", key, old)
    trigger = name_sql(derived_name(f"{FIRST_TRIGGER}zdd_rename", key.name, old))
    what = f"{table}.{a} to {b}"
    # Of a domain the new column has the base type: both sides get the type that is common to them.
    is_different = differs(f"CASE WHEN true THEN {a} ELSE {b} END", f"CASE WHEN true THEN {b} ELSE {a} END")
    differing = f"SELECT FROM {table} WHERE {is_different}"
    lock = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
    keep_archived = trigger_function(function, f"  NEW.{archived} := NEW.{b};")
    steps = (
        OperationStep(
            Phase.EXPAND,
            f"add column {table}.{b} and keep it equal to {a}",
            (lock, _add_column(table, old, new, function, trigger)),
            (
                lock,
                f"DROP TRIGGER {trigger} ON {table}",
                f"DROP FUNCTION {function_sql(function)}()",
                f"ALTER TABLE {table} DROP COLUMN {b}",
            ),
            keeps=(
                ReliedObject(ReliedKind.COLUMN, table, new),
                ReliedObject(ReliedKind.TRIGGER, table, _plain(trigger), is_different),
            ),
        ),
        OperationStep(
            Phase.BACKFILL,
            f"fill {table}.{b} from {a}",
            (),
            mode=StepMode.FILL,
            fill=Fill(table, ((new, a),), is_different),
        ),
        OperationStep(
            Phase.BACKFILL,
            f"build the indexes of {table}.{a} for {b}",
            (),
            mode=StepMode.COPY_INDEXES,
            table=table,
            copies=((old, new),),
            copy_prefix=RENAMED_PREFIX,
        ),
        OperationStep(Phase.BACKFILL, f"analyze {table}.{b}", (f"ANALYZE {table} ({b})",)),
        OperationStep(
            Phase.CONTRACT,
            f"rename column {what}",
            (
                lock,
                _require_no_reader(table, old, new),
                f"ALTER TABLE {table} RENAME COLUMN {b} TO {archived}",
                f"ALTER TABLE {table} RENAME COLUMN {a} TO {b}",
                keep_archived,
            ),
            (
                f"ALTER TABLE {table} RENAME COLUMN {b} TO {a}",
                f"ALTER TABLE {table} RENAME COLUMN {archived} TO {b}",
            ),
            undo_query=_definition(function),
            keeps=(ReliedObject(ReliedKind.TRIGGER, table, _plain(trigger), differs(b, archived)),),
        ),
        OperationStep(
            Phase.CLEANUP,
            f"drop {table}.{archived} and its trigger",
            (
                lock,
                f"DROP TRIGGER {trigger} ON {table}",
                f"DROP FUNCTION {function_sql(function)}()",
                f"ALTER TABLE {table} DROP COLUMN {archived}",
            ),
        ),
    )
    query = f"SELECT count(*)::int FROM ({differing} LIMIT {MAX_VIOLATIONS}) AS zdd_violating"
    return RenameOperation(
        text,
        f"rename column {what}",
        tuple(replace(step, are_locks_known=True) for step in steps),
        (Violation(f"{table}: {a} and {b} differ", query, table, (new,), is_different, Phase.BACKFILL),),
        removes=(
            RemovedObject(
                RemovedKind.COLUMN,
                (*relation_names(statement.relation), old),
                f"column {table}.{a}",
                Phase.CONTRACT,
            ),
        ),
        tables=(statement.relation.relname,),
        columns=(old, new),
    )


def _definition(function: str) -> str:
    return f"SELECT pg_get_functiondef(to_regproc({quote_literal(function_sql(function))}))"


def _sync_code(a: str, b: str) -> str:
    """Both columns get what the statement has written.

    An INSERT that names only one of them leaves the other at its default, so both have the same default: the one that
    is not at its default was written, also where it is NULL. A default that is not the same twice is only on the old
    column, and there the new one was written where it is not NULL. A statement that names both: the new name counts.
    """
    return f"""  IF TG_OP = 'INSERT' THEN
    IF {differs(f"NEW.{b}", "CAST({{default}} AS {{type}})")} THEN
      NEW.{a} := NEW.{b};
    ELSE
      NEW.{b} := NEW.{a};
    END IF;
  ELSIF {differs(f"NEW.{b}", f"OLD.{b}")} THEN
    NEW.{a} := NEW.{b};
  ELSE
    NEW.{b} := NEW.{a};
  END IF;"""


COLUMN_FACTS = """
  SELECT * INTO zdd_column FROM pg_attribute
  WHERE attrelid = zdd_table AND attname = {{column}} AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN RAISE EXCEPTION '% has no column %', zdd_table, {{column}}; END IF;
  SELECT relkind INTO zdd_kind FROM pg_class WHERE oid = zdd_table;
"""
"""Statements of PL/pgSQL that find the column ``{{column}}`` of ``zdd_table``; see :data:`COLUMN_VARIABLES`."""

COLUMN_VARIABLES = '  zdd_table regclass;\n  zdd_kind "char";\n  zdd_column pg_attribute;\n'


def _add_column(table: str, old: str, new: str, function: str, trigger: str) -> str:
    literal, column, b = quote_literal(table), quote_literal(old), name_sql(new)
    code = quote_literal(trigger_function(function, _sync_code(name_sql(old), b)))
    word = quote_literal(rf"\m{_regex(old)}\M")
    named = function_sql(function).replace("%", "%%")
    create = f"CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION {named}()"
    in_code = quote_literal(_field_regex(old))
    body = rf"""
  zdd_table := {literal}::regclass;
  {{{{qualified}}}}{COLUMN_FACTS.replace("{{column}}", column)}
  IF zdd_kind NOT IN ('r', 'p') THEN RAISE EXCEPTION '% is not a table', zdd_table; END IF;
  IF zdd_column.attgenerated <> '' THEN
    RAISE EXCEPTION 'column % is generated: no trigger can fill it', {column};
  END IF;
  IF zdd_column.attinhcount > 0 OR zdd_kind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = zdd_table) THEN
    RAISE EXCEPTION '% inherits, or is inherited: its children have no trigger', zdd_table;
  END IF;
  IF zdd_kind = 'p' AND EXISTS (
    SELECT FROM pg_index WHERE indrelid = zdd_table AND zdd_column.attnum = ANY (indkey::int2[])
  ) THEN
    RAISE EXCEPTION 'column % has an index on a partitioned table: none can be built for the new name concurrently',
      {column};
  END IF;
  SELECT string_agg(tgname, ', ') INTO zdd_text FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
  WHERE tgrelid = zdd_table AND NOT tgisinternal AND (
    zdd_column.attnum = ANY (tgattr::int2[]) OR encode(tgargs, 'escape') ~ {word}
    OR tgtype & 2 = 2 AND prosrc ~* {in_code})
    AND tgenabled <> 'D' AND NOT tgname = ANY ({REPLACED_TRIGGERS}) AND NOT proname = ANY ({REPLACED_FUNCTIONS});
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'column % is named by trigger %, which knows only one of the two names', {column}, zdd_text;
  END IF;
  zdd_type := zdd_column.atttypid;
  zdd_typmod := zdd_column.atttypmod;
  zdd_default := (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                  WHERE adrelid = zdd_table AND adnum = zdd_column.attnum);
  LOOP
    SELECT typtype, typbasetype, typtypmod, typdefault INTO zdd_base FROM pg_type WHERE oid = zdd_type;
    EXIT WHEN zdd_base.typtype <> 'd';
    zdd_default := coalesce(zdd_default, zdd_base.typdefault);
    zdd_type := zdd_base.typbasetype;
    zdd_typmod := zdd_base.typtypmod;
  END LOOP;
  zdd_is_volatile := zdd_column.attidentity <> '' OR EXISTS (
    SELECT FROM regexp_matches(zdd_default, '([[:alnum:]_]+)"?\(', 'g') AS called
    JOIN pg_proc ON proname = called[1] WHERE provolatile = 'v');
  IF zdd_is_volatile AND NOT zdd_column.attnotnull THEN
    RAISE EXCEPTION 'column % may be NULL and has a default that differs each time: an INSERT of NULL could not be'
      ' distinguished from one that does not name the column', {column};
  END IF;
  zdd_text := format_type(zdd_type, zdd_typmod);
  EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s %s', zdd_table, {quote_literal(new)}, zdd_text,
    (SELECT format('COLLATE %s', oid::regcollation) FROM pg_collation WHERE oid = zdd_column.attcollation));
  IF zdd_default IS NOT NULL AND NOT zdd_is_volatile THEN
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', zdd_table, {quote_literal(new)}, zdd_default);
  END IF;
  FOR zdd_base IN SELECT * FROM aclexplode(zdd_column.attacl) LOOP
    EXECUTE format('GRANT %s (%I) ON %s TO %s%s', zdd_base.privilege_type, {quote_literal(new)}, zdd_table,
      CASE zdd_base.grantee WHEN 0 THEN 'PUBLIC' ELSE zdd_base.grantee::regrole::text END,
      CASE WHEN zdd_base.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
  EXECUTE replace(replace({code}, '{{{{default}}}}',
    CASE WHEN zdd_is_volatile THEN 'NULL' ELSE coalesce(zdd_default, 'NULL') END), '{{{{type}}}}', zdd_text);
  EXECUTE format({quote_literal(create)},
    {quote_literal(_plain(trigger))}, zdd_table);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', zdd_table, {quote_literal(_plain(trigger))});
"""
    declare = COLUMN_VARIABLES + (
        "  zdd_text text;\n  zdd_type oid;\n  zdd_typmod int;\n  zdd_default text;\n  zdd_base record;\n"
        "  zdd_is_volatile boolean;\n"
    )
    return block(body, declare)


def _require_no_reader(table: str, old: str, new: str) -> str:
    """Refuses the swap while a trigger's function still knows only the old name: every statement would fail."""
    body = f"""
  SELECT string_agg(tgname, ', ') INTO zdd_text FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
  WHERE tgrelid = {quote_literal(table)}::regclass AND NOT tgisinternal AND tgname NOT LIKE '!zdd%'
    AND tgenabled <> 'D' AND prosrc ~* {quote_literal(_field_regex(old))};
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'the function of trigger % reads column %, which is now %', zdd_text,
      {quote_literal(old)}, {quote_literal(new)};
  END IF;
"""
    return block(body, "  zdd_text text;\n")


def _plain(quoted: str) -> str:
    """The name that an SQL name means."""
    return quoted[1:-1].replace('""', '"') if quoted.startswith('"') else quoted


def _field_regex(column: str) -> str:
    """Where a trigger's function reads or writes a column, as a regular expression of PostgreSQL."""
    return rf'\m(new|old)\."?{_regex(column)}\M'


def _regex(name: str) -> str:
    """A name as a regular expression of PostgreSQL."""
    return "".join(char if char.isalnum() or char == "_" else f"\\{char}" for char in name)
