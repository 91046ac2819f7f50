"""A column that takes the place of another one: its constraints, and the transaction in which they swap.

Everything is read from the catalog in the transaction that changes it, so that what was added meanwhile is not lost.
The copy of an index or constraint is named ``zdd_next_`` and the OID of its original.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Iterable
from typing import TypeAlias

from zdd_tui.model.operations.generated import block
from zdd_tui.model.operations.rights import recreated_rights_query
from zdd_tui.model.sql import quote_literal

ColumnNames: TypeAlias = tuple[str, str, bool]
"""Table as SQL, the name of its column, and whether the two columns keep their own defaults."""

_PROPERTIES = """
  zdd_table := {table}::regclass;
  zdd_views := {views};
  EXECUTE format('CREATE TEMP TABLE zdd_probe (LIKE %s INCLUDING ALL)', zdd_table);
  FOR zdd_one IN SELECT i.indexrelid::regclass AS name FROM pg_index i WHERE i.indrelid = 'pg_temp.zdd_probe'::regclass
    AND split_part(pg_get_indexdef(i.indexrelid), 'zdd_probe USING ', 2) IN (
      SELECT substr(o.text, strpos(o.text, o.head) + length(o.head)) FROM (
        SELECT pg_get_indexdef(x.indexrelid) AS text, format(' ON %I.%I USING ', n.nspname, c.relname) AS head
        FROM unnest({removed}) AS gone (name) JOIN pg_index x ON x.indexrelid = to_regclass(gone.name)
        JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE x.indrelid = zdd_table) AS o)
  LOOP
    EXECUTE format('DROP INDEX %s', zdd_one.name);
  END LOOP;
  EXECUTE {on_probe};
  DROP TABLE pg_temp.zdd_probe;
  {{qualified}}
  SELECT * INTO zdd_column FROM pg_attribute
  WHERE attrelid = zdd_table AND attname = {column} AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN RAISE EXCEPTION '% has no column %', zdd_table, {column}; END IF;
  IF (SELECT relkind FROM pg_class WHERE oid = zdd_table) <> 'r' THEN
    RAISE EXCEPTION '% is partitioned, or no table: indexes of its partitions cannot be swapped', zdd_table;
  END IF;
  IF EXISTS (SELECT FROM pg_inherits WHERE zdd_table IN (inhparent, inhrelid)) THEN
    RAISE EXCEPTION '% inherits, or is inherited: its children have no trigger', zdd_table;
  END IF;
  IF zdd_column.attgenerated <> '' THEN RAISE EXCEPTION 'column % is generated', {column}; END IF;
  SELECT string_agg(DISTINCT coalesce(
    (SELECT 'view ' || ev_class::regclass FROM pg_rewrite w
     WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid),
    pg_describe_object(classid, objid, objsubid)), ', ') INTO zdd_text
  FROM pg_depend d LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
  LEFT JOIN pg_attrdef v ON d.classid = 'pg_attrdef'::regclass AND v.oid = d.objid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = zdd_table AND d.refobjsubid = zdd_column.attnum
    AND c.relkind IS DISTINCT FROM 'i' AND c.relkind IS DISTINCT FROM 'S'
    AND NOT coalesce(k.contype IN ('c', 'f', 'n') OR k.contype IN ('p', 'u') AND NOT k.condeferrable, false)
    AND v.adnum IS DISTINCT FROM zdd_column.attnum
    AND NOT EXISTS (SELECT FROM pg_rewrite w WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
                    AND w.ev_class = ANY (zdd_views))
    AND NOT EXISTS (SELECT FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
                    AND g.tgname = ANY ({triggers}));
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'column % is used by: %', {column}, zdd_text
      USING HINT = 'drop them in a release before, and create them again in one after it';
  END IF;
  SELECT string_agg(format('%s of %s', conname, conrelid::regclass), ', ') INTO zdd_text FROM pg_constraint k
  WHERE contype = 'f' AND (conrelid = zdd_table AND zdd_column.attnum = ANY (conkey)
                           OR confrelid = zdd_table AND zdd_column.attnum = ANY (confkey))
    AND EXISTS (SELECT FROM pg_class WHERE oid IN (conrelid, confrelid) AND (relkind = 'p' OR relispartition));
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'column % is used by a foreign key with a partitioned table: %', {column}, zdd_text;
  END IF;
  EXECUTE (SELECT string_agg(format('ALTER TABLE %s ALTER COLUMN %I ', zdd_table, {new}) || setting, '; ') FROM (
    SELECT 'SET STATISTICS ' || zdd_column.attstattarget WHERE zdd_column.attstattarget >= 0
    UNION ALL SELECT format('SET (%s)', array_to_string(zdd_column.attoptions, ', '))
    WHERE zdd_column.attoptions <> '{}'
    UNION ALL SELECT 'SET STATISTICS -1') AS s (setting)
    WHERE setting <> 'SET STATISTICS -1' OR zdd_column.attstattarget IS NULL OR zdd_column.attstattarget < 0);
  EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', zdd_table, {new}, col_description(zdd_table, zdd_column.attnum));
  FOR zdd_one IN SELECT * FROM aclexplode(zdd_column.attacl) LOOP
    EXECUTE format('GRANT %s (%I) ON %s TO %s%s', zdd_one.privilege_type, {new}, zdd_table,
      CASE zdd_one.grantee WHEN 0 THEN 'PUBLIC' ELSE zdd_one.grantee::regrole::text END,
      CASE WHEN zdd_one.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
"""


def copy_properties(
    table: str,
    column: str,
    new: str,
    on_probe: str,
    removed_indexes: Iterable[str],
    removed_views: Iterable[str],
    removed_triggers: Iterable[str],
) -> str:
    """Refuses what the plain statement would refuse and what cannot be swapped; copies comment, rights and statistics.

    Args:
        on_probe: the plain statement, on ``pg_temp.zdd_probe``.
        removed_indexes, removed_views: those that the migration drops before, as SQL: they are still there.
        removed_triggers: the same, by their names.
    """
    values = {
        "triggers": names_sql(removed_triggers),
        "removed": f"ARRAY[{', '.join(map(quote_literal, removed_indexes))}]::text[]",
        "views": oids_sql(removed_views),
        "table": quote_literal(table),
        "column": quote_literal(column),
        "new": quote_literal(new),
        "on_probe": quote_literal(on_probe),
    }
    body = _PROPERTIES
    for name, value in values.items():
        body = body.replace("{" + name + "}", value)
    return block(
        body,
        "  zdd_table regclass;\n  zdd_column pg_attribute;\n  zdd_text text;\n  zdd_one record;\n  zdd_views oid[];\n",
    )


def oids_sql(names: Iterable[str]) -> str:
    """An array of the relations that there are.

    Args:
        names: as SQL.
    """
    return f"ARRAY[{', '.join(f'to_regclass({quote_literal(name)})::oid' for name in names)}]::oid[]"


def used_by_views_query(table: str, column: str, removed_views: Iterable[str]) -> str:
    """What uses a column as a view does, for :class:`zdd_tui.model.operations.base.Requirement`.

    A plain view that the migration drops is created again when the columns swap; a materialized one would be computed
    under a lock.
    """
    what = quote_literal(f"column {column} of {table}")
    return f"""
WITH RECURSIVE used (oid) AS (
  SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass({quote_literal(table)})
    AND a.attname = {quote_literal(column)}
  UNION
  SELECT r.ev_class FROM used u JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
)
SELECT {what} || CASE c.relkind WHEN 'm' THEN ' is used by materialized view ' ELSE ' is used by view ' END
  || c.oid::regclass
FROM used u JOIN pg_class c USING (oid) WHERE c.relkind = 'm' OR c.oid <> ALL ({oids_sql(removed_views)})
ORDER BY 1"""


def names_sql(names: Iterable[str]) -> str:
    """An array of names."""
    return f"ARRAY[{', '.join(map(quote_literal, names))}]::name[]"


def used_by_triggers_query(table: str, column: str, removed_triggers: Iterable[str]) -> str:
    """The triggers that name a column, for :class:`zdd_tui.model.operations.base.Requirement`.

    One that the migration drops names the column of the old type, as long as it is there; one that it creates is
    created again when the columns swap.
    """
    return f"""
SELECT format('column %s of %s is named by trigger %I', a.attname, {quote_literal(table)}, t.tgname)
FROM pg_attribute a JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
  AND d.refobjsubid = a.attnum AND d.classid = 'pg_trigger'::regclass
JOIN pg_trigger t ON t.oid = d.objid AND NOT t.tgisinternal AND t.tgname <> ALL ({names_sql(removed_triggers)})
WHERE a.attrelid = to_regclass({quote_literal(table)}) AND a.attname = {quote_literal(column)} AND NOT a.attisdropped
ORDER BY 1"""


def recreate_views(views: Iterable[tuple[str, str]], only_if: str) -> tuple[str, ...]:
    """Creates the migration's views again, on the columns that have the names now; with their rights and comments.

    Args:
        views: name as SQL and CREATE VIEW of each.
        only_if: a condition, as SQL.
    """
    found = list(views)
    if not found:
        return ()
    rights = ", ".join(f"({recreated_rights_query('VIEW', quote_literal(name))})" for name, _ in found)
    drops = [f"DROP VIEW {name}" for name, _ in reversed(found)]
    each = "\n".join(f"    EXECUTE {quote_literal(sql)};" for sql in (*drops, *(sql for _, sql in found)))
    body = (
        f"  IF {only_if} THEN\n    zdd_rights := concat_ws(' ', {rights});\n{each}\n"
        "    IF zdd_rights <> '' THEN EXECUTE zdd_rights; END IF;\n  END IF;\n"
    )
    return (block(body, "  zdd_rights text;\n"),)


def recreate_triggers(triggers: Iterable[tuple[str, str]], only_if: str) -> tuple[str, ...]:
    """Creates the migration's triggers again, on the columns that have the names now.

    Args:
        triggers: DROP TRIGGER and CREATE TRIGGER of each.
        only_if: a condition, as SQL.
    """
    each = "\n".join(f"    EXECUTE {quote_literal(sql)};" for pair in triggers for sql in pair)
    return (block(f"  IF {only_if} THEN\n{each}\n  END IF;"),) if each else ()


def drop_and_create_views(views: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Statements that drop the migration's views, and those that create them again in the same transaction.

    Args:
        views: as of :func:`recreate_views`.
    """
    found = list(views)
    if not found:
        return (), ()
    rights = ", ".join(f"({recreated_rights_query('VIEW', quote_literal(name))})" for name, _ in found)
    keep = block(f"  PERFORM set_config('zdd.view_rights', concat_ws(' ', {rights}), true);")
    drops = [f"DROP VIEW {name}" for name, _ in reversed(found)]
    restore = block(
        "  IF current_setting('zdd.view_rights') <> '' THEN EXECUTE current_setting('zdd.view_rights'); END IF;"
    )
    return (keep, *drops), (*(sql for _, sql in found), restore)


# --- the columns of a swap

_FIND_SWAPS = """
  zdd_swaps := (
    SELECT jsonb_agg(jsonb_build_object('rel', a.attrelid, 'name', v.name, 'num', a.attnum, 'next', n.attnum,
                                        'is_kept', v.is_kept)
                     ORDER BY a.attrelid, a.attnum)
    FROM (VALUES {columns}) AS v (relation, name, is_kept)
    JOIN pg_attribute a ON a.attrelid = to_regclass(v.relation) AND a.attname = v.name AND NOT a.attisdropped
    JOIN pg_attribute n ON n.attrelid = a.attrelid AND n.attname = {arriving} || v.name AND NOT n.attisdropped);
  IF zdd_swaps IS NULL THEN RETURN; END IF;
  {{qualified}}
"""
_LOCK = """
  FOR r IN SELECT DISTINCT rel FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid) ORDER BY 1 LOOP
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', r.rel::regclass);
  END LOOP;
"""
_RENAME = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, name text) LOOP
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', r.rel::regclass, r.name, {departing} || r.name);
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', r.rel::regclass, {arriving} || r.name, r.name);
  END LOOP;
"""
_RENAME_BACK = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, name text) LOOP
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', r.rel::regclass, r.name, {arriving} || r.name);
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', r.rel::regclass, {departing} || r.name, r.name);
  END LOOP;
"""
_DECLARE = "  zdd_swaps jsonb;\n  r record;\n"


def _fill(template: str, columns: Iterable[ColumnNames], arriving: str = "", departing: str = "") -> str:
    rows = ", ".join(
        f"({quote_literal(table)}, {quote_literal(column)}, {str(is_kept).lower()})"
        for table, column, is_kept in columns
    )
    return (
        template.replace("{columns}", rows)
        .replace("{arriving}", quote_literal(arriving))
        .replace("{departing}", quote_literal(departing))
    )


_ADD = """
  zdd_found := (
    SELECT jsonb_agg(jsonb_build_object('rel', k.conrelid, 'oid', k.oid, 'definition', pg_get_constraintdef(k.oid))
                     ORDER BY k.contype, k.oid)
    FROM pg_constraint k WHERE k.contype IN ('c', 'f') AND k.conname !~ '^zdd_next_' AND EXISTS (
      SELECT FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, num int2)
      WHERE k.conrelid = s.rel AND s.num = ANY (k.conkey) OR k.confrelid = s.rel AND s.num = ANY (k.confkey)));
  zdd_required := (
    SELECT jsonb_agg(jsonb_build_object('rel', s.rel, 'name', s.name, 'next', s.next))
    FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, name text, num int2, next int2)
    JOIN pg_attribute a ON a.attrelid = s.rel AND a.attnum = s.num {needs});
"""
_ADD_COPIES = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_found) AS f (rel oid, oid oid, definition text) LOOP
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', r.rel::regclass, 'zdd_next_' || r.oid, r.definition,
      CASE WHEN r.definition LIKE '% NOT VALID' THEN '' ELSE ' NOT VALID' END);
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_required) AS f (rel oid, name text, next int2) LOOP
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID', r.rel::regclass,
      'zdd_next_null_' || r.next, r.name);
  END LOOP;
"""


def add_constraints(columns: Iterable[ColumnNames], arriving: str, departing: str) -> str:
    """Copies every CHECK, foreign key and NOT NULL of the columns to those that will take their place, not validated.

    The definitions are PostgreSQL's own text: for the moment of this transaction the names are swapped.

    Args:
        arriving: what the names of the columns that take the place begin with.
        departing: the same, of the others once they are swapped.
    """
    template = _FIND_SWAPS + _LOCK + _ADD.replace("{needs}", "AND a.attnotnull") + _RENAME + _ADD_COPIES + _RENAME_BACK
    return block(
        _fill(template, columns, arriving, departing), _DECLARE + "  zdd_found jsonb;\n  zdd_required jsonb;\n"
    )


_COPIES = """
  FOR r IN SELECT k.conrelid, k.conname FROM pg_constraint k
    WHERE k.contype IN ('c', 'f') AND k.conname ~ '^zdd_next_' {condition}
      AND EXISTS (SELECT FROM (VALUES {columns}) AS v (relation, name)
                  WHERE to_regclass(v.relation) IN (k.conrelid, k.confrelid)) ORDER BY k.oid
  LOOP
    EXECUTE format('ALTER TABLE %s {action} CONSTRAINT %I', r.conrelid::regclass, r.conname);
  END LOOP;
"""
_WAS_VALID = """AND NOT k.convalidated
      AND NOT EXISTS (SELECT FROM pg_constraint o WHERE k.conname = 'zdd_next_' || o.oid AND NOT o.convalidated)"""


def validate_constraints(columns: Iterable[ColumnNames]) -> str:
    """Validates every copy whose original is valid."""
    return _each_copy(columns, "VALIDATE", _WAS_VALID)


def drop_constraints(columns: Iterable[ColumnNames]) -> str:
    return _each_copy(columns, "DROP", "")


def _each_copy(columns: Iterable[ColumnNames], action: str, condition: str) -> str:
    body = _COPIES.replace("{action}", action).replace("{condition}", condition)
    return block(_fill(body, columns), "  r record;\n")


_READ = """
  zdd_copies := (
    SELECT jsonb_agg(jsonb_build_object('rel', n.conrelid, 'copy', n.conname, 'name', o.conname,
                                        'comment', obj_description(o.oid, 'pg_constraint')) ORDER BY o.contype DESC)
    FROM pg_constraint n JOIN pg_constraint o ON n.conname = 'zdd_next_' || o.oid AND n.conrelid = o.conrelid
    WHERE n.contype IN ('c', 'f') AND EXISTS (
      SELECT FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid) WHERE s.rel IN (n.conrelid, n.confrelid)));
  zdd_indexes := (
    SELECT jsonb_agg(jsonb_build_object(
      'rel', i.indrelid, 'index', n.oid, 'copy', n.relname, 'old', o.oid, 'name', o.relname, 'constraint', k.conname,
      'type', k.contype, 'clustered', oi.indisclustered, 'identity', oi.indisreplident,
      'comment', obj_description(o.oid, 'pg_class'), 'noted', obj_description(k.oid, 'pg_constraint')))
    FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid JOIN pg_class o ON n.relname = 'zdd_next_' || o.oid
    JOIN pg_index oi ON oi.indexrelid = o.oid AND oi.indrelid = i.indrelid
    LEFT JOIN pg_constraint k ON k.conindid = o.oid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u')
    WHERE i.indrelid IN (SELECT rel FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid)));
  zdd_columns := (
    SELECT jsonb_agg(jsonb_build_object(
      'rel', a.attrelid, 'name', s.name, 'next', s.next, 'required', a.attnotnull, 'identity', a.attidentity,
      'default', (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = a.attrelid AND adnum = a.attnum
                  AND NOT s.is_kept),
      'null_name', (SELECT conname FROM pg_constraint
                    WHERE conrelid = a.attrelid AND contype = 'n' AND conkey = ARRAY[a.attnum]),
      'sequence', (SELECT d.objid FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
                   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                     AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'),
      'owned', (SELECT jsonb_agg(d.objid::bigint) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                  AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'a')))
    FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, name text, num int2, next int2, is_kept boolean)
    JOIN pg_attribute a ON a.attrelid = s.rel AND a.attnum = s.num);
  -- What has no copy was made after the copies.
  SELECT string_agg(i.indexrelid::regclass::text, ', ') INTO zdd_text FROM pg_index i
  WHERE EXISTS (
      SELECT FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, num int2)
      WHERE i.indrelid = s.rel AND (s.num = ANY (i.indkey::int2[]) OR EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.rel AND d.refobjsubid = s.num)))
    AND NOT EXISTS (SELECT FROM pg_class n JOIN pg_index ni ON ni.indexrelid = n.oid
                    WHERE n.relname = 'zdd_next_' || i.indexrelid AND ni.indrelid = i.indrelid AND ni.indisvalid);
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'indexes have no valid copy for the other type: %', zdd_text
      USING HINT = 'roll back, and begin again';
  END IF;
  SELECT string_agg(conname, ', ') INTO zdd_text FROM pg_constraint k
  WHERE k.contype IN ('c', 'f') AND k.conname !~ '^zdd_next_' AND EXISTS (
      SELECT FROM jsonb_to_recordset(zdd_swaps) AS s (rel oid, num int2)
      WHERE k.conrelid = s.rel AND s.num = ANY (k.conkey) OR k.confrelid = s.rel AND s.num = ANY (k.confkey))
    AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conname = 'zdd_next_' || k.oid);
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION 'constraints were added since the copies were made: %', zdd_text
      USING HINT = 'roll back, and begin again';
  END IF;
"""
_DROP = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_copies) AS c (rel oid, name text) LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.rel::regclass, r.name);
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_indexes) AS i (rel oid, old oid, "constraint" text) LOOP
    IF r."constraint" IS NULL THEN
      EXECUTE format('DROP INDEX %s', r.old::regclass);
    ELSE
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.rel::regclass, r."constraint");
    END IF;
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_columns)
    AS c (rel oid, name text, required boolean, identity text, "default" text, "sequence" oid, owned jsonb,
          "next" int2)
  LOOP
    zdd_sequence := NULL;
    IF r.identity <> '' THEN
      -- The sequence of an identity cannot change its owner: another one continues where it is.
      EXECUTE format('SELECT last_value, is_called FROM %s', r."sequence"::regclass) INTO zdd_last, zdd_is_called;
      SELECT jsonb_build_object('last', zdd_last, 'called', zdd_is_called, 'owner', '', 'options', format(
        'SEQUENCE NAME %s START WITH %s INCREMENT BY %s%s%s CACHE %s%s', s.seqrelid::regclass, s.seqstart,
        s.seqincrement,
        CASE WHEN s.seqmin NOT IN (-32768, -2147483648, -9223372036854775808) THEN format(' MINVALUE %s', s.seqmin) END,
        CASE WHEN s.seqmax NOT IN (32767, 2147483647, 9223372036854775807) THEN format(' MAXVALUE %s', s.seqmax) END,
        s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' END), 'name', s.seqrelid::regclass::text, 'grants', (
          SELECT jsonb_agg(format('GRANT %s ON SEQUENCE %s TO %s%s', acl.privilege_type, s.seqrelid::regclass,
            CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
            CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
          FROM aclexplode(c.relacl) AS acl WHERE acl.grantee <> c.relowner))
      INTO zdd_sequence FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE s.seqrelid = r."sequence";
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', r.rel::regclass, r.name);
    ELSIF r."default" IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', r.rel::regclass, r.name);
    END IF;
    IF r.required THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', r.rel::regclass, r.name);
    END IF;
    zdd_kept := zdd_kept || jsonb_build_array(to_jsonb(r) || jsonb_build_object('counter', zdd_sequence));
  END LOOP;
"""
_RESTORE = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_kept) AS c (rel oid, name text, required boolean, identity text,
    "default" text, owned jsonb, next int2, counter jsonb)
  LOOP
    zdd_alter := format('ALTER TABLE %s ALTER COLUMN %I ', r.rel::regclass, r.name);
    IF r.required THEN
      zdd_text := (SELECT null_name FROM jsonb_to_recordset(zdd_columns) AS c (rel oid, name text, null_name text)
                   WHERE c.rel = r.rel AND c.name = r.name);
      IF zdd_text IS NULL THEN
        EXECUTE zdd_alter || 'SET NOT NULL';
      ELSE
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I NOT NULL %I', r.rel::regclass, zdd_text, r.name);
      END IF;
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.rel::regclass, 'zdd_next_null_' || r.next);
    END IF;
    IF r.identity <> '' THEN
      EXECUTE zdd_alter || format('ADD GENERATED %s AS IDENTITY (%s)',
        CASE r.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, r.counter ->> 'options');
      PERFORM setval((r.counter ->> 'name')::regclass, (r.counter ->> 'last')::bigint,
                     (r.counter ->> 'called')::boolean);
      FOR zdd_text IN SELECT jsonb_array_elements_text(nullif(r.counter -> 'grants', 'null')) LOOP
        EXECUTE zdd_text;
      END LOOP;
    ELSIF r."default" IS NOT NULL THEN
      EXECUTE zdd_alter || 'SET DEFAULT ' || r."default";
    END IF;
    FOR zdd_text IN SELECT jsonb_array_elements_text(nullif(r.owned, 'null')) LOOP
      EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.%I', zdd_text::oid::regclass, r.rel::regclass, r.name);
    END LOOP;
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_indexes) AS i (rel oid, index oid, copy text, name text,
    "constraint" text, type text, clustered boolean, identity boolean, comment text, noted text)
  LOOP
    IF r."constraint" IS NULL THEN
      EXECUTE format('ALTER INDEX %s RENAME TO %I', r.index::regclass, r.name);
    ELSE
      EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I', r.rel::regclass, r."constraint",
        CASE r.type WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, r.copy);
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', r."constraint", r.rel::regclass, r.noted);
    END IF;
    EXECUTE format('COMMENT ON INDEX %s IS %L', r.index::regclass, r.comment);
    IF r.clustered THEN
      EXECUTE format('ALTER TABLE %s CLUSTER ON %I', r.rel::regclass, r.name);
    END IF;
    IF r.identity THEN
      EXECUTE format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', r.rel::regclass, r.name);
    END IF;
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_copies) AS c (rel oid, copy text, name text, comment text) LOOP
    EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', r.rel::regclass, r.copy, r.name);
    EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', r.name, r.rel::regclass, r.comment);
  END LOOP;
"""


def swap_columns(columns: Iterable[ColumnNames], arriving: str, departing: str) -> str:
    """Gives the names, defaults, identities, NOT NULL, indexes and constraints of columns to those beside them.

    The columns that depart lose them. Nothing is read or built: indexes exist, constraints are valid.

    Args:
        arriving: what the names of the columns that take the place begin with.
        departing: what the names of the others begin with afterwards.
    """
    template = _FIND_SWAPS + _LOCK + _READ + _DROP + _RENAME + _RESTORE
    declare = _DECLARE + (
        "  zdd_copies jsonb;\n  zdd_indexes jsonb;\n  zdd_columns jsonb;\n  zdd_kept jsonb := '[]';\n"
        "  zdd_sequence jsonb;\n  zdd_last bigint;\n  zdd_is_called boolean;\n  zdd_text text;\n  zdd_alter text;\n"
    )
    return block(_fill(template, columns, arriving, departing), declare)
