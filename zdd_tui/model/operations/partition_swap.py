"""The SQL by which a partitioned table takes the place of an ordinary one: create it, keep both equal, swap them.

As in :mod:`zdd_tui.model.operations.type_swap`, everything is read from the catalog in the transaction that changes it.
The index or statistics object that takes the place of another one is named ``zdd_next_`` and the OID of that.

In the blocks of PL/pgSQL ``zdd_a`` is the table in use, which has the name that clients know, ``zdd_b`` the other one,
and ``r`` the row of a loop.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Iterable
from dataclasses import dataclass

from zdd_tui.model.operations.base import fit_name
from zdd_tui.model.operations.generated import FUNCTION_SCHEMA, block, derived_name, function_name, function_sql
from zdd_tui.model.operations.renames import FIRST_TRIGGER
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.sql import name_sql, quote_literal


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition.

    Attributes:
        schema: empty for that of the table.
        bound: as SQL, such as ``FOR VALUES IN (1)``, or ``DEFAULT``.
    """

    schema: str
    name: str
    bound: str


@dataclass(frozen=True, slots=True)
class Partitioning:
    """A table that becomes partitioned.

    Attributes:
        table: as SQL.
        relation: its key.
        new: the name of the partitioned table until the swap; in the same schema.
        old: the name of the old one after it.
        by: as SQL after PARTITION BY.
        columns: of the partition key.
        key: columns of the new primary key; empty to keep the primary key.
    """

    table: str
    relation: ObjectKey
    new: str
    old: str
    by: str
    columns: tuple[str, ...]
    partitions: tuple[Partition, ...]
    key: tuple[str, ...]

    @property
    def trigger(self) -> str:
        return derived_name(f"{FIRST_TRIGGER}zdd_partition", self.relation.name)

    @property
    def function(self) -> str:
        """Of the trigger."""
        return function_name("partition", self.relation)

    @property
    def copy_function(self) -> str:
        """Copies one row, by its key."""
        return function_name("copy", self.relation)

    @property
    def differing_function(self) -> str:
        """The keys of the rows that differ."""
        return function_name("differing", self.relation)

    @property
    def key_index(self) -> str:
        """On the old table, where the primary key changes."""
        return derived_name("zdd_key", self.relation.name)


def _names(columns: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(map(quote_literal, columns))}]::text[]"


_INDEX_COLUMNS = """(SELECT array_agg(a.attname::text ORDER BY k.n)
  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, n)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE k.n <= i.indnkeyatts)"""


def _key_sql(change: Partitioning, table: str) -> str:
    """The columns of the key by which rows are found on both sides.

    Args:
        table: an expression for the OID of the table that is not partitioned.
    """
    if change.key:
        return _names(change.key)
    return f"(SELECT {_INDEX_COLUMNS} FROM pg_index i WHERE i.indrelid = {table} AND i.indisprimary)"


def has_no_key_index(change: Partitioning) -> str:
    """For ``only_if``: whether the table has no unique index over the columns of the new key, in their order."""
    return (
        f"SELECT NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass({quote_literal(change.table)})"
        " AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"
        f" AND {_INDEX_COLUMNS} = {_names(change.key)})"
    )


# --- what must hold before anything starts


def key_problems(change: Partitioning) -> str:
    """A query: what the partition key does not allow."""
    columns, key = _names(change.columns), _key_sql(change, "t.oid")
    listed = quote_literal(", ".join(change.columns))
    return f"""
WITH t AS (SELECT oid, relname FROM pg_class WHERE oid = to_regclass({quote_literal(change.table)})),
k AS (SELECT t.oid, t.relname, {key} AS columns FROM t),
own AS (SELECT i.*, {_INDEX_COLUMNS} AS columns FROM pg_index i JOIN t ON i.indrelid = t.oid)
SELECT format('%s has no primary key, by which rows could be found on both sides', relname)
FROM k WHERE columns IS NULL OR NOT EXISTS (SELECT FROM own WHERE indisprimary)
UNION ALL
SELECT format('the primary key (%s) of %s does not contain the partition key (%s), and PostgreSQL makes no other one of'
              ' a partitioned table', array_to_string(columns, ', '), relname, {listed})
FROM k WHERE NOT columns @> {columns}
UNION ALL
SELECT format('key: it does not contain the present primary key (%s)', array_to_string(own.columns, ', '))
FROM k, own WHERE own.indisprimary AND NOT k.columns @> own.columns
UNION ALL
SELECT format('%s.%s of the key may be NULL, or is no column', relname, name)
FROM k, unnest(columns) AS name
WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = k.oid AND attname = name AND attnotnull)
UNION ALL
SELECT format('unique index %s does not contain the partition key (%s): PostgreSQL cannot enforce it over all'
              ' partitions', indexrelid::regclass, {listed})
FROM own WHERE indisunique AND NOT indisprimary
  AND (indexprs IS NOT NULL OR NOT columns @> {columns})
UNION ALL
SELECT format('foreign key %s of %s refers to the primary key (%s), which the new one replaces', f.conname,
              f.conrelid::regclass, array_to_string(own.columns, ', '))
FROM k JOIN own ON own.indisprimary AND own.columns <> k.columns
JOIN pg_constraint f ON f.contype = 'f' AND f.confrelid = k.oid AND f.conindid = own.indexrelid
UNION ALL
SELECT format('view %s groups by the primary key, which changes', w.ev_class::regclass)
FROM k JOIN own ON own.indisprimary AND own.columns <> k.columns
JOIN pg_constraint p ON p.conindid = own.indexrelid AND p.contype = 'p'
JOIN pg_depend d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = p.oid
JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
"""


def table_problems(change: Partitioning) -> str:
    """A query: what the table is, or has, that no partitioned table can take over while both are in use."""
    return f"""
WITH t AS (SELECT * FROM pg_class WHERE oid = to_regclass({quote_literal(change.table)}))
SELECT format('%s is no ordinary table, or has parents or children', relname) FROM t
WHERE relkind <> 'r' OR reloftype <> 0 OR relpersistence <> 'p'
  OR EXISTS (SELECT FROM pg_inherits WHERE t.oid IN (inhparent, inhrelid))
UNION ALL
SELECT format('%s is not in the default tablespace, or has another access method than heap', c.oid::regclass)
FROM t JOIN pg_class c ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
WHERE c.reltablespace <> 0 OR c.relkind = 'r' AND c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
UNION ALL
SELECT format('%s has REPLICA IDENTITY USING INDEX', relname) FROM t WHERE relreplident = 'i'
UNION ALL
SELECT format('constraint %s of %s is not validated', k.conname, k.conrelid::regclass)
FROM t JOIN pg_constraint k ON t.oid IN (k.conrelid, k.confrelid) WHERE NOT k.convalidated
UNION ALL
SELECT format('constraint %s is deferrable: rows that are copied one by one could violate it', k.conname)
FROM t JOIN pg_constraint k ON t.oid = k.conrelid WHERE k.contype IN ('p', 'u', 'x') AND k.condeferrable
UNION ALL
SELECT format('before PostgreSQL 18 a partitioned table gets foreign key %s only under a lock that blocks writes',
              k.conname)
FROM t JOIN pg_constraint k ON k.contype = 'f' AND k.confrelid = t.oid AND k.conparentid = 0
JOIN pg_class c ON c.oid = k.conrelid
WHERE current_setting('server_version_num')::int < 180000 AND (c.oid = t.oid OR c.relkind = 'p')
UNION ALL
SELECT format('publication %s: its subscribers have none of the partitions', p.pubname)
FROM t, pg_publication p WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r
  WHERE r.prpubid = p.oid AND r.prrelid = t.oid) OR EXISTS (SELECT FROM pg_publication_namespace n
  WHERE n.pnpubid = p.oid AND n.pnnspid = t.relnamespace)
UNION ALL
SELECT DISTINCT format('%s depends on %s, and would stay with the old one', coalesce(
  (SELECT pg_describe_object('pg_class'::regclass, ev_class, 0) FROM pg_rewrite WHERE oid = d.objid
   AND d.classid = 'pg_rewrite'::regclass), pg_describe_object(d.classid, d.objid, d.objsubid)), t.relname)
FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
  OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.reltype, (SELECT typarray FROM pg_type
                                                                       WHERE oid = t.reltype)) AND d.deptype = 'n'
WHERE d.deptype <> 'i' AND NOT EXISTS (
  SELECT FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('i', 'S', 't')
  UNION ALL SELECT FROM pg_constraint k WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    AND t.oid IN (k.conrelid, k.confrelid)
  UNION ALL SELECT FROM pg_attrdef v WHERE d.classid = 'pg_attrdef'::regclass AND v.oid = d.objid AND v.adrelid = t.oid
  UNION ALL SELECT FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid AND g.tgrelid = t.oid
  UNION ALL SELECT FROM pg_policy p WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND p.polrelid = t.oid
  UNION ALL SELECT FROM pg_statistic_ext s WHERE d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
  UNION ALL SELECT FROM pg_publication_rel r WHERE d.classid = 'pg_publication_rel'::regclass AND r.oid = d.objid
  UNION ALL SELECT FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
    WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN' AND c.relkind = 'v')
"""


def name_problems(change: Partitioning) -> str:
    """A query: the names of partitions that cannot be given to new tables."""
    pairs = ", ".join(f"({quote_literal(each.schema)}, {quote_literal(each.name)})" for each in change.partitions)
    table, new = quote_literal(change.table), quote_literal(change.new)
    return f"""
WITH t AS (SELECT oid, relnamespace FROM pg_class WHERE oid = to_regclass({table})),
p AS (SELECT coalesce(nullif(schema, ''), t.relnamespace::regnamespace::text) AS schema, name, t.*
  FROM t, (VALUES {pairs}) AS given (schema, name))
SELECT format('there is no schema %I for partition %I', schema, name) FROM p
WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = p.schema)
UNION ALL
SELECT format('there is a relation %I.%I, so no partition can have this name', schema, name)
FROM p JOIN pg_namespace n ON n.nspname = p.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.name
WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent WHERE i.inhrelid = c.oid
  AND parent.relnamespace = p.relnamespace AND (parent.oid = p.oid OR parent.relname = {new}))
UNION ALL
SELECT format('there are two partitions %I.%I', schema, name) FROM p GROUP BY schema, name HAVING count(*) > 1
"""


def trial_partitions(change: Partitioning) -> tuple[str, ...]:
    """Statements that define the same partitions of a temporary table: the server compares their bounds."""
    parent = "pg_temp.zdd_partitioned"
    names = [fit_name("", f"{each.schema}.{each.name}" if each.schema else each.name) for each in change.partitions]
    return (
        f"CREATE TEMPORARY TABLE zdd_partitioned (LIKE {change.table} INCLUDING GENERATED) PARTITION BY {change.by}",
        *(
            f"CREATE TEMPORARY TABLE {name_sql(name)} PARTITION OF {parent} {each.bound}"
            for name, each in zip(names, change.partitions, strict=True)
        ),
    )


# --- the new table

_CREATE = """
  zdd_a := {table}::regclass;
  SELECT * INTO zdd_class FROM pg_class WHERE oid = zdd_a;
  zdd_schema := zdd_class.relnamespace::regnamespace::text;
  zdd_new := format('%s.%I', zdd_schema, {new});
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED'
    ' INCLUDING IDENTITY INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS) PARTITION BY %s',
    zdd_new, zdd_a, {by});
  zdd_b := zdd_new::regclass;
  FOR r IN SELECT * FROM (VALUES {partitions}) AS p (schema, name, bound) LOOP
    zdd_text := format('%s.%I', coalesce(quote_ident(nullif(r.schema, '')), zdd_schema), r.name);
    EXECUTE format('CREATE TABLE %s PARTITION OF %s %s', zdd_text, zdd_b, r.bound);
    zdd_parts := zdd_parts || zdd_text::regclass;
  END LOOP;
  zdd_key := {key};
  {{qualified}}
  FOREACH zdd_part IN ARRAY zdd_b || zdd_parts LOOP
    IF zdd_class.relowner <> (SELECT relowner FROM pg_class WHERE oid = zdd_part) THEN
      EXECUTE format('ALTER TABLE %s OWNER TO %s', zdd_part, zdd_class.relowner::regrole);
    END IF;
    IF zdd_class.relreplident <> 'd' THEN
      EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', zdd_part,
        CASE zdd_class.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
    END IF;
    IF zdd_part <> zdd_b THEN
      FOR r IN SELECT array_to_string(reloptions, ', ') AS list FROM pg_class WHERE oid = zdd_a AND reloptions <> '{}'
        UNION ALL SELECT 'toast.' || array_to_string(reloptions, ', toast.') FROM pg_class
        WHERE oid = zdd_class.reltoastrelid AND reloptions <> '{}'
      LOOP
        EXECUTE format('ALTER TABLE %s SET (%s)', zdd_part, r.list);
      END LOOP;
    END IF;
  END LOOP;
  -- indexes: those of constraints keep the columns, but for the primary key where the plan names another one
  FOR r IN SELECT i.indexrelid, i.indisunique, x.relname, k.oid AS constraint_oid, k.contype,
      pg_get_constraintdef(k.oid) AS definition, pg_get_indexdef(i.indexrelid) AS index_definition,
      obj_description(k.oid, 'pg_constraint') AS comment, obj_description(x.oid, 'pg_class') AS index_comment
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = zdd_a AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = zdd_a ORDER BY i.indexrelid
  LOOP
    zdd_text := 'zdd_next_' || r.indexrelid;
    IF r.constraint_oid IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', zdd_b, zdd_text,
        CASE WHEN r.contype = 'p' AND zdd_key IS NOT NULL THEN format('PRIMARY KEY (%s)',
          (SELECT string_agg(quote_ident(name), ', ' ORDER BY n) FROM unnest(zdd_key) WITH ORDINALITY AS u (name, n)))
        ELSE r.definition END);
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', zdd_text, zdd_b, r.comment);
    ELSE
      EXECUTE format('CREATE %sINDEX %I ON %s USING ', CASE WHEN r.indisunique THEN 'UNIQUE ' END, zdd_text, zdd_b)
        || substr(r.index_definition, length(format('CREATE %sINDEX %I ON %s USING ',
          CASE WHEN r.indisunique THEN 'UNIQUE ' END, r.relname, zdd_a)) + 1);
    END IF;
    EXECUTE format('COMMENT ON INDEX %s.%I IS %L', zdd_schema, zdd_text, r.index_comment);
  END LOOP;
  FOR r IN SELECT s.oid, stxkind, stxowner, obj_description(s.oid, 'pg_statistic_ext') AS comment,
      coalesce(nullif(to_jsonb(s) ->> 'stxstattarget', ''), '-1')::int AS target
    FROM pg_statistic_ext s WHERE stxrelid = zdd_a ORDER BY s.oid
  LOOP
    zdd_text := format('%s.%I', zdd_schema, 'zdd_next_' || r.oid);
    EXECUTE format('CREATE STATISTICS %s %s ON %s FROM %s', zdd_text,
      (SELECT '(' || string_agg(CASE kind WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies' ELSE 'mcv' END, ', ')
       || ')' FROM unnest(r.stxkind) AS kind WHERE kind <> 'e'), pg_get_statisticsobjdef_columns(r.oid), zdd_b);
    EXECUTE format('COMMENT ON STATISTICS %s IS %L', zdd_text, r.comment);
    IF r.target >= 0 THEN EXECUTE format('ALTER STATISTICS %s SET STATISTICS %s', zdd_text, r.target); END IF;
    IF r.stxowner <> (SELECT stxowner FROM pg_statistic_ext
                      WHERE stxrelid = zdd_b AND stxname = 'zdd_next_' || r.oid) THEN
      EXECUTE format('ALTER STATISTICS %s OWNER TO %s', zdd_text, r.stxowner::regrole);
    END IF;
  END LOOP;
  FOR r IN SELECT attname, attstattarget, attoptions FROM pg_attribute
    WHERE attrelid = zdd_a AND attnum > 0 AND NOT attisdropped
  LOOP
    IF r.attstattarget >= 0 THEN
      EXECUTE format('ALTER TABLE %s ALTER %I SET STATISTICS %s', zdd_b, r.attname, r.attstattarget);
    END IF;
    IF r.attoptions <> '{}' THEN
      EXECUTE format('ALTER TABLE %s ALTER %I SET (%s)', zdd_b, r.attname, array_to_string(r.attoptions, ', '));
    END IF;
  END LOOP;
  EXECUTE format('COMMENT ON TABLE %s IS %L', zdd_b, obj_description(zdd_a, 'pg_class'));
  -- rights: none but those of the old table, whatever the default privileges say
  FOR r IN SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a WHERE c.oid = zdd_b LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', zdd_b,
      CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END);
  END LOOP;
  IF zdd_class.relacl IS NOT NULL THEN
    EXECUTE format('REVOKE ALL ON %s FROM %s', zdd_b, zdd_class.relowner::regrole);
  END IF;
  FOR r IN SELECT a.*, '' AS columns, 1 AS part FROM aclexplode(zdd_class.relacl) WITH ORDINALITY AS a
      (grantor, grantee, privilege_type, is_grantable, n)
    UNION ALL SELECT a.*, format('(%I)', c.attname), 1 + c.attnum FROM pg_attribute c,
      aclexplode(c.attacl) WITH ORDINALITY AS a (grantor, grantee, privilege_type, is_grantable, n)
    WHERE c.attrelid = zdd_a AND c.attnum > 0 AND NOT c.attisdropped ORDER BY part, n
  LOOP
    EXECUTE format('GRANT %s %s ON %s TO %s%s', r.privilege_type, r.columns, zdd_b,
      CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END,
      CASE WHEN r.is_grantable AND r.grantee <> zdd_class.relowner THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
  -- an identity has a sequence of its own
  FOR r IN SELECT n.objid::regclass AS sequence, q.seqtypid::regtype AS type, a.*,
      obj_description(o.objid, 'pg_class') AS comment
    FROM pg_depend o JOIN pg_attribute c ON c.attrelid = zdd_a AND c.attnum = o.refobjsubid
    JOIN pg_attribute d ON d.attrelid = zdd_b AND d.attname = c.attname
    JOIN pg_depend n ON n.classid = 'pg_class'::regclass AND n.refobjid = zdd_b AND n.refobjsubid = d.attnum
      AND n.deptype = 'i'
    JOIN pg_class s ON s.oid = o.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
    LEFT JOIN aclexplode(s.relacl) AS a ON a.grantee <> s.relowner
    WHERE o.classid = 'pg_class'::regclass AND o.refobjid = zdd_a AND o.deptype = 'i'
  LOOP
    EXECUTE format('ALTER SEQUENCE %s AS %s', r.sequence, r.type);  -- LIKE makes it a bigint
    EXECUTE format('COMMENT ON SEQUENCE %s IS %L', r.sequence, r.comment);
    IF r.grantee IS NOT NULL THEN
      EXECUTE format('GRANT %s ON SEQUENCE %s TO %s%s', r.privilege_type, r.sequence,
        CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END,
        CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END IF;
  END LOOP;
  -- triggers: they fire from the swap on
  FOR r IN SELECT oid, tgname, pg_get_triggerdef(oid) AS definition, obj_description(oid, 'pg_trigger') AS comment
    FROM pg_trigger WHERE tgrelid = zdd_a AND NOT tgisinternal ORDER BY tgname
  LOOP
    zdd_text := format(' ON %s ', zdd_a);
    EXECUTE overlay(r.definition PLACING format(' ON %s ', zdd_b) FROM position(zdd_text IN r.definition)
                    FOR length(zdd_text));
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', r.tgname, zdd_b, r.comment);
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', zdd_b, r.tgname);
  END LOOP;
"""


def create_new(change: Partitioning) -> str:
    """The partitioned table with its partitions and everything that the old one has, but for foreign keys and row
    security, which come with the swap: a row that is copied by a trigger must not be refused before the row itself."""
    rows = ", ".join(
        f"({quote_literal(each.schema)}, {quote_literal(each.name)}, {quote_literal(each.bound)})"
        for each in change.partitions
    )
    body = (
        _CREATE.replace("{table}", quote_literal(change.table))
        .replace("{new}", quote_literal(change.new))
        .replace("{by}", quote_literal(change.by))
        .replace("{partitions}", rows)
        .replace("{key}", _names(change.key) if change.key else "NULL")
    )
    declare = (
        "  zdd_a regclass;\n  zdd_b regclass;\n  zdd_part regclass;\n  zdd_parts regclass[] := '{}';\n"
        "  zdd_class pg_class;\n  zdd_schema text;\n  zdd_new text;\n  zdd_text text;\n  zdd_key text[];\n  r record;\n"
    )
    return block(body, declare)


_ADD_KEYS = """
  zdd_a := {table}::regclass;
  zdd_b := format('%s.%I', (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = zdd_a), {new})::regclass;
  {{qualified}}
  FOR r IN SELECT conname, pg_get_constraintdef(oid) AS definition, obj_description(oid, 'pg_constraint') AS comment
    FROM pg_constraint WHERE contype = 'f' AND conrelid = zdd_a ORDER BY oid
  LOOP
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', zdd_b, r.conname, r.definition);
    EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', r.conname, zdd_b, r.comment);
  END LOOP;
"""


def add_foreign_keys(change: Partitioning) -> str:
    """The foreign keys of the new table while it is empty: before PostgreSQL 18 it could not get them NOT VALID."""
    body = _ADD_KEYS.replace("{table}", quote_literal(change.table)).replace("{new}", quote_literal(change.new))
    return block(body, "  zdd_a regclass;\n  zdd_b regclass;\n  r record;\n")


# --- both are kept equal

# Parameters of format() in the three templates:
#   %1$s, %2$s    the table in use, the other one
#   %3$s          the columns of the key
#   %4$s          all columns that can be written
#   %5$s, %6$s    for each column of the key: a declaration such as "zdd_k1 bigint"; the parameter $1
#   %7$s, %8$s    the key in OLD, in NEW
#   %9$s          what ON CONFLICT does: UPDATE SET, or NOTHING where every column is of the key
#   %10$s         the key of whichever row exists, of a and b
#   %11$s, %12$s  the key in a, in b
#   %13$s, %14$s  the whole row in a, in b
_COPY = """
CREATE OR REPLACE FUNCTION {copy}(%5$s) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $zdd$
#variable_conflict use_column
BEGIN
  -- The row is locked where it is written first. The statements after that see what its writer has committed.
  PERFORM FROM %1$s WHERE (%3$s) = (%6$s) FOR SHARE;
  IF NOT FOUND THEN PERFORM FROM %2$s WHERE (%3$s) = (%6$s) FOR UPDATE; END IF;
  DELETE FROM %2$s WHERE (%3$s) = (%6$s) AND NOT EXISTS (SELECT FROM %1$s WHERE (%3$s) = (%6$s));
  INSERT INTO %2$s (%4$s) OVERRIDING SYSTEM VALUE SELECT %4$s FROM %1$s WHERE (%3$s) = (%6$s)
  ON CONFLICT (%3$s) DO %9$s;
END
$zdd$
"""
_DIFFERING = """
CREATE OR REPLACE FUNCTION {differing}() RETURNS TABLE (%5$s) LANGUAGE sql STABLE AS $zdd$
  SELECT %10$s FROM %1$s AS a FULL JOIN %2$s AS b ON (%11$s) = (%12$s)
  WHERE a.tableoid IS NULL OR b.tableoid IS NULL OR ROW(%13$s)::record OPERATOR(pg_catalog.*<>) ROW(%14$s)::record
$zdd$
"""
_TRIGGER = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $zdd$
#variable_conflict use_column
BEGIN
  BEGIN
    IF TG_OP = 'TRUNCATE' THEN
      TRUNCATE %2$s;
    ELSE
      IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ROW(%7$s) IS DISTINCT FROM ROW(%8$s) THEN
        DELETE FROM %2$s WHERE (%3$s) = (%7$s) AND NOT EXISTS (SELECT FROM %1$s WHERE (%3$s) = (%7$s));
      END IF;
      IF TG_OP <> 'DELETE' THEN
        INSERT INTO %2$s (%4$s) OVERRIDING SYSTEM VALUE SELECT %4$s FROM %1$s WHERE (%3$s) = (%8$s)
        ON CONFLICT (%3$s) DO %9$s;
      END IF;
    END IF;
  EXCEPTION {caught}
  END;
  RETURN NULL;
END
$zdd$
"""
# Raised in a SERIALIZABLE transaction: there the error does not only mean a copy that the transaction does not see, and
# a row that is left different after the rows were compared would stay so.
_STRICT = """WHEN serialization_failure THEN
    IF current_setting('transaction_isolation') <> 'repeatable read' THEN RAISE; END IF;"""
_COPY_TRIGGERS = """
  zdd_a := {source}::regclass;
  zdd_b := format('%s.%I', (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = zdd_a), {target})::regclass;
  zdd_key := {key};
  {{qualified}}
  SELECT array_agg(ARRAY[quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)] ORDER BY k.n) INTO zdd_fields
  FROM unnest(zdd_key) WITH ORDINALITY AS k (name, n)
  JOIN pg_attribute a ON a.attrelid = zdd_a AND a.attname = k.name;
  FOR r IN SELECT n, zdd_fields[n][1] AS name, zdd_fields[n][2] AS type, CASE n WHEN 1 THEN '' ELSE ', ' END AS comma
    FROM generate_series(1, cardinality(zdd_key)) AS n
  LOOP
    zdd_values[3] := concat(zdd_values[3], r.comma, r.name);
    zdd_values[5] := concat(zdd_values[5], r.comma, 'zdd_k', r.n, ' ', r.type);
    zdd_values[6] := concat(zdd_values[6], r.comma, '$', r.n);
    zdd_values[7] := concat(zdd_values[7], r.comma, 'OLD.', r.name);
    zdd_values[8] := concat(zdd_values[8], r.comma, 'NEW.', r.name);
    zdd_values[10] := concat(zdd_values[10], r.comma, format('coalesce(a.%1$s, b.%1$s)', r.name));
    zdd_values[11] := concat(zdd_values[11], r.comma, 'a.', r.name);
    zdd_values[12] := concat(zdd_values[12], r.comma, 'b.', r.name);
  END LOOP;
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns,
    'UPDATE SET ' || string_agg(format('%1$I = EXCLUDED.%1$I', attname), ', ' ORDER BY attnum)
      FILTER (WHERE attname <> ALL (zdd_key) AND attidentity <> 'a') AS changes,
    string_agg(format('a.%I', attname), ', ' ORDER BY attnum) AS a_row,
    string_agg(format('b.%I', attname), ', ' ORDER BY attnum) AS b_row INTO r
  FROM pg_attribute WHERE attrelid = zdd_a AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
  zdd_values[1] := zdd_a::text;
  zdd_values[2] := zdd_b::text;
  zdd_values[4] := r.columns;
  zdd_values[9] := coalesce(r.changes, 'NOTHING');
  zdd_values[13] := r.a_row;
  zdd_values[14] := r.b_row;
  FOREACH zdd_text IN ARRAY ARRAY[{templates}] LOOP
    EXECUTE format(zdd_text, VARIADIC zdd_values);
  END LOOP;
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = zdd_a AND tgname = {trigger}) THEN RETURN; END IF;
  EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s()',
    {trigger}, zdd_a, {function});
  EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
    {truncates}, zdd_a, {function});
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', zdd_a, {trigger});
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', zdd_a, {truncates});
"""


def create_copy_triggers(change: Partitioning, target: str, *, strict: bool = False) -> str:
    """Functions and triggers by which each row of the table that is in use is copied to the other one.

    The row is read again, so that the order in which triggers fire does not matter. One that the other table cannot
    hold fails no statement, until it is strict; the rows are compared after that. A REPEATABLE READ transaction that
    does not see a row's copy cannot write it: it leaves the row different, also when it is strict.

    Args:
        target: the name of the other table.
    """
    caught = _STRICT if strict else "WHEN OTHERS THEN NULL;"
    functions = {
        "{copy}": function_sql(change.copy_function),
        "{differing}": function_sql(change.differing_function),
        "{function}": function_sql(change.function),
        "{caught}": caught,
    }
    templates = [_COPY, _DIFFERING, _TRIGGER]
    for name, value in functions.items():
        templates = [each.replace(name, value.replace("%", "%%")) for each in templates]
    body = (
        _COPY_TRIGGERS.replace("{templates}", ", ".join(map(quote_literal, templates)))
        .replace("{source}", quote_literal(change.table))
        .replace("{target}", quote_literal(target))
        .replace("{key}", _key_sql(change, "zdd_a" if target == change.new else "zdd_b"))
        .replace("{function}", quote_literal(function_sql(change.function)))
        .replace("{trigger}", quote_literal(change.trigger))
        .replace("{truncates}", quote_literal(truncate_trigger(change)))
    )
    declare = (
        "  zdd_a regclass;\n  zdd_b regclass;\n  zdd_key text[];\n  zdd_fields text[];\n"
        "  zdd_values text[] := array_fill(NULL::text, ARRAY[14]);\n  zdd_text text;\n  r record;\n"
    )
    return block(body, declare)


def truncate_trigger(change: Partitioning) -> str:
    return derived_name(f"{FIRST_TRIGGER}zdd_truncate", change.relation.name)


def drop_copy_triggers(change: Partitioning) -> tuple[str, ...]:
    """Removes the triggers from the table that is in use, and the functions."""
    body = f"""
  FOR r IN SELECT oid::regprocedure AS signature FROM pg_proc
    WHERE pronamespace = {quote_literal(FUNCTION_SCHEMA)}::regnamespace
      AND proname IN ({", ".join(map(quote_literal, (change.copy_function, change.differing_function)))})
  LOOP
    EXECUTE format('DROP FUNCTION %s', r.signature);
  END LOOP;
"""
    return (
        *(f"DROP TRIGGER {name_sql(each)} ON {change.table}" for each in (change.trigger, truncate_trigger(change))),
        f"DROP FUNCTION {function_sql(change.function)}()",
        block(body, "  r record;\n"),
    )


# --- the swap

# What the swap moves is read under the locks, before the first change; it stops where the tables differ by more.
_LOCK_AND_READ = """
  zdd_a := {table}::regclass;
  zdd_schema := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = zdd_a);
  zdd_b := format('%s.%I', zdd_schema, {successor})::regclass;
  {{qualified}}
  -- In the order of writers; then those that refer to the table or that it refers to: their foreign keys move.
  EXECUTE format('LOCK TABLE %s, %s IN ACCESS EXCLUSIVE MODE', zdd_a, zdd_b);
  FOR r IN SELECT DISTINCT v.oid FROM pg_constraint k, unnest(ARRAY[k.conrelid, k.confrelid]) AS v (oid)
    WHERE k.contype = 'f' AND zdd_a IN (k.conrelid, k.confrelid) AND v.oid <> zdd_a ORDER BY 1
  LOOP
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', r.oid::regclass);
  END LOOP;
  SELECT string_agg(what, ', ') INTO zdd_text FROM (
    (SELECT format('column %s', attname), attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
       attgenerated, attcollation, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                                    WHERE adrelid = attrelid AND adnum = attnum), attacl::text
     FROM pg_attribute WHERE attrelid = zdd_a AND attnum > 0 AND NOT attisdropped
     EXCEPT
     SELECT format('column %s', attname), attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
       attgenerated, attcollation, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                                    WHERE adrelid = attrelid AND adnum = attnum), attacl::text
     FROM pg_attribute WHERE attrelid = zdd_b AND attnum > 0 AND NOT attisdropped)
    UNION ALL SELECT format('index %s', i.indexrelid::regclass), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = zdd_a AND x.relname <> {key_index}
      AND NOT EXISTS (SELECT FROM pg_index n JOIN pg_class c ON c.oid = n.indexrelid WHERE n.indrelid = zdd_b
        AND n.indisvalid AND (c.relname = 'zdd_next_' || x.oid OR x.relname = 'zdd_next_' || c.oid))
    UNION ALL SELECT format('CHECK %s', conname), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_constraint a
    WHERE conrelid = zdd_a AND contype = 'c' AND NOT EXISTS (SELECT FROM pg_constraint b WHERE b.conrelid = zdd_b
      AND b.conname = a.conname AND pg_get_constraintdef(b.oid) = pg_get_constraintdef(a.oid))
    UNION ALL SELECT format('trigger %s', tgname), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_trigger a
    WHERE tgrelid = zdd_a AND NOT tgisinternal AND tgname NOT IN ({ours})
      AND NOT EXISTS (SELECT FROM pg_trigger b WHERE b.tgrelid = zdd_b AND b.tgname = a.tgname)
    UNION ALL SELECT 'rights or owner', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_class a, pg_class b
    WHERE a.oid = zdd_a AND b.oid = zdd_b AND (a.relowner <> b.relowner
      OR coalesce(a.relacl, acldefault('r', a.relowner))::text <> coalesce(b.relacl, acldefault('r', b.relowner))::text)
  ) AS changed (what);
  IF zdd_text IS NOT NULL THEN
    RAISE EXCEPTION '% has changed since the other table was made: %', {table}, zdd_text
      USING HINT = 'roll back, and begin again';
  END IF;
  zdd_keys := (SELECT jsonb_agg(jsonb_build_object('rel', k.conrelid, 'name', k.conname,
      'definition', pg_get_constraintdef(k.oid), 'comment', obj_description(k.oid, 'pg_constraint')) ORDER BY k.oid)
    FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND zdd_a IN (k.conrelid, k.confrelid));
  zdd_views := (SELECT jsonb_agg(jsonb_build_object('rel', v.oid, 'definition', pg_get_viewdef(v.oid),
      'options', ' WITH (' || array_to_string(v.reloptions, ', ') || ')') ORDER BY v.oid)
    FROM pg_class v WHERE v.relkind = 'v' AND EXISTS (
      SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
      WHERE w.ev_class = v.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = zdd_a));
  zdd_triggers := (SELECT jsonb_agg(jsonb_build_object('name', tgname, 'state', CASE tgenabled WHEN 'D' THEN 'DISABLE'
      WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END))
    FROM pg_trigger WHERE tgrelid = zdd_a AND NOT tgisinternal AND tgname NOT IN ({ours}));
  zdd_policies := (SELECT jsonb_agg(jsonb_build_object('name', polname, 'comment', obj_description(p.oid, 'pg_policy'),
      'definition', format(' AS %s FOR %s TO %s%s%s', CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
          ELSE 'ALL' END,
        (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', ')
         FROM unnest(polroles) AS o),
        ' USING (' || pg_get_expr(polqual, polrelid) || ')',
        ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')))
    FROM pg_policy p WHERE polrelid = zdd_a);
  zdd_names := (
    SELECT jsonb_agg(jsonb_build_object('kind', 'INDEX', 'a', a.oid, 'b', b.oid, 'name', a.relname))
    FROM pg_index i JOIN pg_class a ON a.oid = i.indexrelid
    JOIN pg_index j ON j.indrelid = zdd_b JOIN pg_class b ON b.oid = j.indexrelid AND b.relname = 'zdd_next_' || a.oid
    WHERE i.indrelid = zdd_a);
  SELECT relrowsecurity, relforcerowsecurity, relname INTO zdd_has_security, zdd_is_forced, zdd_name
  FROM pg_class WHERE oid = zdd_a;
"""
_REMOVE_AND_RENAME = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_keys) AS k (rel oid, name text) LOOP
    IF r.rel <> zdd_a OR current_setting('server_version_num')::int >= 180000
       OR (SELECT relkind FROM pg_class WHERE oid = zdd_a) = 'r' THEN
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.rel::regclass, r.name);
    END IF;
  END LOOP;
  EXECUTE format('DROP TRIGGER %I ON %s', {trigger}, zdd_a);
  EXECUTE format('DROP TRIGGER %I ON %s', {truncates}, zdd_a);
  IF zdd_triggers IS NOT NULL THEN EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', zdd_a); END IF;
  EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', zdd_a);
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_names) AS n (a oid, b oid, name text) LOOP
    EXECUTE format('ALTER INDEX %s RENAME TO %I', r.a::regclass, 'zdd_next_' || r.b);
    EXECUTE format('ALTER INDEX %s RENAME TO %I', r.b::regclass, r.name);
  END LOOP;
  FOR r IN SELECT a.oid AS a, a.stxname AS name, b.oid AS b, b.stxname AS next,
      a.stxnamespace::regnamespace AS a_schema, b.stxnamespace::regnamespace AS b_schema
    FROM pg_statistic_ext a JOIN pg_statistic_ext b ON b.stxrelid = zdd_b AND b.stxname = 'zdd_next_' || a.oid
    WHERE a.stxrelid = zdd_a
  LOOP
    EXECUTE format('ALTER STATISTICS %s.%I RENAME TO %I', r.a_schema, r.name, 'zdd_next_' || r.b);
    EXECUTE format('ALTER STATISTICS %s.%I RENAME TO %I', r.b_schema, r.next, r.name);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', zdd_a, {archived});
  EXECUTE format('ALTER TABLE %s RENAME TO %I', zdd_b, zdd_name);
  FOR r IN SELECT d.deptype, c.attname, d.objid AS a, s.relname AS name, e.objid AS b
    FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_attribute c ON c.attrelid = zdd_a AND c.attnum = d.refobjsubid
    JOIN pg_attribute f ON f.attrelid = zdd_b AND f.attname = c.attname
    LEFT JOIN pg_depend e ON e.classid = 'pg_class'::regclass AND e.refobjid = zdd_b AND e.refobjsubid = f.attnum
      AND e.deptype = 'i'
    WHERE d.classid = 'pg_class'::regclass AND d.refobjid = zdd_a AND d.deptype IN ('a', 'i')
  LOOP
    IF r.deptype = 'a' THEN
      EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.%I', r.a::regclass, zdd_b, r.attname);
    ELSE
      EXECUTE format('ALTER SEQUENCE %s RENAME TO %I', r.a::regclass, 'zdd_next_' || r.b);
      EXECUTE format('ALTER SEQUENCE %s RENAME TO %I', r.b::regclass, r.name);
      EXECUTE format('SELECT setval(%s, last_value, is_called) FROM %s', r.b, r.a::regclass);
    END IF;
  END LOOP;
"""
_ADD_AGAIN = """
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_triggers) AS t (name text, state text) LOOP
    EXECUTE format('ALTER TABLE %s %s TRIGGER %I', zdd_b, r.state, r.name);
  END LOOP;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_policies) AS p (name text, comment text, definition text)
    WHERE NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = zdd_b AND polname = p.name)
  LOOP
    EXECUTE format('CREATE POLICY %I ON %s %s', r.name, zdd_b, r.definition);
    EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', r.name, zdd_b, r.comment);
  END LOOP;
  IF zdd_has_security THEN EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', zdd_b); END IF;
  IF zdd_is_forced THEN EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', zdd_b); END IF;
  FOR r IN SELECT * FROM jsonb_to_recordset(zdd_views) AS v (rel oid, definition text, options text) LOOP
    EXECUTE format('CREATE OR REPLACE VIEW %s%s AS %s', r.rel::regclass, r.options, r.definition);
  END LOOP;
  FOR r IN SELECT CASE rel WHEN zdd_a THEN zdd_b::oid ELSE rel END AS rel, name, definition, comment
    FROM jsonb_to_recordset(zdd_keys) AS k (rel oid, name text, definition text, comment text)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = r.rel AND conname = r.name) THEN
      EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', r.rel::regclass, r.name, r.definition);
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', r.name, r.rel::regclass, r.comment);
    END IF;
  END LOOP;
"""


def swap_tables(change: Partitioning, successor: str, archived: str) -> str:
    """Gives the name of the table that is in use, its foreign keys, triggers, sequences and views to the other one.

    Nothing is read or built: the other one has every row and every index.

    Args:
        successor: the present name of the table that takes the place.
        archived: the name that the table in use has afterwards.
    """
    ours = ", ".join(map(quote_literal, (change.trigger, truncate_trigger(change))))
    body = (
        (_LOCK_AND_READ + _REMOVE_AND_RENAME + _ADD_AGAIN)
        .replace("{table}", quote_literal(change.table))
        .replace("{successor}", quote_literal(successor))
        .replace("{archived}", quote_literal(archived))
        .replace("{key_index}", quote_literal(change.key_index))
        .replace("{ours}", ours)
        .replace("{trigger}", quote_literal(change.trigger))
        .replace("{truncates}", quote_literal(truncate_trigger(change)))
    )
    declare = (
        "  zdd_a regclass;\n  zdd_b regclass;\n  zdd_schema text;\n  zdd_name text;\n  zdd_text text;\n"
        "  zdd_keys jsonb;\n  zdd_views jsonb;\n  zdd_triggers jsonb;\n  zdd_policies jsonb;\n  zdd_names jsonb;\n"
        "  zdd_has_security boolean;\n  zdd_is_forced boolean;\n  r record;\n"
    )
    return block(body, declare)


def validate_foreign_keys(change: Partitioning) -> str:
    """Reads the rows of every foreign key that the swap has moved; writers continue."""
    body = f"""
  zdd_a := {quote_literal(change.table)}::regclass;
  {{{{qualified}}}}
  FOR r IN SELECT conrelid, conname FROM pg_constraint
    WHERE contype = 'f' AND conparentid = 0 AND NOT convalidated AND zdd_a IN (conrelid, confrelid) ORDER BY oid
  LOOP
    EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', r.conrelid::regclass, r.conname);
  END LOOP;
"""
    return block(body, "  zdd_a regclass;\n  r record;\n")
