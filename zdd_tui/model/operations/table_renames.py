"""RENAME and SET SCHEMA of tables: both names exist from expand to cleanup, one of them as a view."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    ObjectAddress,
    Operation,
    OperationStep,
    ReliedKind,
    ReliedObject,
    RemovedKind,
    RemovedObject,
    RenameOperation,
    relation_names,
    relation_sql,
)
from zdd_tui.model.operations.generated import block
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, quote_literal


def read_rename_table(statement: Any, text: str, scope: Scope) -> Operation:
    """A table under a new name, with a view under the other one.

    Raises:
        PlanError: the migration gives it two names.
    """
    relation = statement.relation
    old, names = relation_sql(relation), (*relation_names(relation)[:-1], statement.newname)
    new = name_sql(*names)
    _refuse_if_exists(statement, text)
    key = scope.relation_key(relation)
    after = replace(key, name=statement.newname)
    if any(before == key and name != after for name, before in scope.tables_before.items()):
        raise PlanError(
            f"{' '.join(text.split())}: the migration renames the table twice",
            "write one rename, to the last name; or release what is before this one first",
        )
    scope.tables_before[after] = key
    scope.renamed_tables.add(after)
    forth = f"ALTER TABLE {old} RENAME TO {name_sql(statement.newname)}"
    back = f"ALTER TABLE {new} RENAME TO {name_sql(relation.relname)}"
    return _move_table(text, relation, names, forth, back, (relation.relname, statement.newname))


def read_move_table(statement: Any, text: str) -> Operation:
    """A table in another schema, with a view in the other one.

    Raises:
        PlanError: the statement does not name the schema of now.
    """
    relation = statement.relation
    if not relation.schemaname:
        raise PlanError(
            f"{' '.join(text.split())}: it does not say in which schema the table is now", "write schema.table"
        )
    _refuse_if_exists(statement, text)
    old, names = relation_sql(relation), (statement.newschema, relation.relname)
    forth = f"ALTER TABLE {old} SET SCHEMA {name_sql(statement.newschema)}"
    back = f"ALTER TABLE {name_sql(*names)} SET SCHEMA {name_sql(relation.schemaname)}"
    return _move_table(text, relation, names, forth, back, (relation.relname,))


def _refuse_if_exists(statement: Any, text: str) -> None:
    if statement.missing_ok:
        raise PlanError(f"{' '.join(text.split())}: IF EXISTS is not supported for a rename", "leave it out")


def _move_table(
    text: str, relation: Any, new_names: tuple[str, ...], forth: str, back: str, tables: tuple[str, ...]
) -> Operation:
    """Both names work from expand to cleanup: one is the table, the other one a view that PostgreSQL writes through.

    Args:
        forth: the statement that moves the table.
        back: the statement that moves it back.
        relation: the old name.
        new_names: the new one, dotted.
        tables: the names without a schema.
    """
    old, new = relation_sql(relation), name_sql(*new_names)
    steps = (
        OperationStep(
            Phase.EXPAND,
            f"create view {new} over table {old}",
            (_create_view(new, old),),
            (f"DROP VIEW {new}",),
            keeps=(ReliedObject(ReliedKind.VIEW, new, tables[-1], reads=old),),
        ),
        OperationStep(
            Phase.CONTRACT,
            f"rename table {old} to {new}, and leave a view {old}",
            # The view first: a writer through it locks it before the table.
            (f"DROP VIEW {new}", forth, _create_view(old, new)),
            (f"DROP VIEW {old}", back, _create_view(new, old)),
            keeps=(ReliedObject(ReliedKind.VIEW, old, tables[0], reads=new),),
        ),
        OperationStep(Phase.CLEANUP, f"drop view {old}", (f"DROP VIEW {old}",)),
    )
    known = tuple(replace(step, are_locks_known=True) for step in steps)
    summary = f"rename table {old} to {new}"
    # The name is a view from contract on.
    removed = RemovedObject(RemovedKind.RELATION, relation_names(relation), f"table {old}", Phase.CLEANUP)
    # What depends on a column that the migration drops is not the view, whichever of the two it is.
    views = tuple(ObjectAddress("view", each) for each in (relation_names(relation), new_names))
    return RenameOperation(text, summary, known, removes=(removed,), drops=views, tables=tables, moved=(old, new))


def _create_view(view: str, table: str) -> str:
    """A view with the columns, the owner and the rights of a table.

    With security_invoker (PostgreSQL 15) row security and rights are those of whoever asks. An older server would
    evaluate the policies for the owner of the view, so a table that has row security is refused there.
    """
    body = f"""
  zdd_table := {quote_literal(table)}::regclass;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = zdd_table) THEN
    RAISE EXCEPTION '% is not a table', zdd_table;
  END IF;
  IF current_setting('server_version_num')::int < 150000
     AND (SELECT relrowsecurity FROM pg_class WHERE oid = zdd_table) THEN
    RAISE EXCEPTION '% has row security, which a view keeps from PostgreSQL 15 on', zdd_table;
  END IF;
  EXECUTE format('CREATE VIEW %s%s AS SELECT %s FROM %s', {quote_literal(view)},
    CASE WHEN current_setting('server_version_num')::int >= 150000 THEN ' WITH (security_invoker = true)' ELSE '' END,
    (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
     WHERE attrelid = zdd_table AND attnum > 0 AND NOT attisdropped), zdd_table);
  zdd_view := {quote_literal(view)}::regclass;
  {{{{qualified}}}}
  FOR zdd_right IN SELECT acl.*, NULL::name AS attname, relowner FROM pg_class, aclexplode(relacl) AS acl
    WHERE oid = zdd_table UNION ALL SELECT acl.*, attname, 0 FROM pg_attribute, aclexplode(attacl) AS acl
    WHERE attrelid = zdd_table AND attnum > 0 AND NOT attisdropped
  LOOP
    IF zdd_right.grantee <> zdd_right.relowner AND zdd_right.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    THEN
      EXECUTE format('GRANT %s%s ON %s TO %s%s', zdd_right.privilege_type,
        (SELECT format(' (%I)', zdd_right.attname) WHERE zdd_right.attname IS NOT NULL), zdd_view,
        CASE zdd_right.grantee WHEN 0 THEN 'PUBLIC' ELSE zdd_right.grantee::regrole::text END,
        CASE WHEN zdd_right.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END IF;
  END LOOP;
  EXECUTE format('ALTER VIEW %s OWNER TO %s', zdd_view,
    (SELECT relowner::regrole FROM pg_class WHERE oid = zdd_table));
"""
    return block(body, "  zdd_table regclass;\n  zdd_view regclass;\n  zdd_right record;\n")
