"""What real migration directories hold: each form done as the plain migration does it, and undone from every phase."""

from contextlib import nullcontext
from typing import Any

import asyncpg
import pytest

from tests.support.operations import (
    SCHEMA,
    assert_done_and_undone,
    dump,
    handle,
    open_context,
    plan_of,
    run_phases,
)
from zdd_tui.backends.postgres.operations import find_dependents
from zdd_tui.checks.operations import check_operation_locks, check_operation_rows
from zdd_tui.cli.measurement import lock_measurement
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.errors import PlanError, StepFailed
from zdd_tui.model.operations.base import fit_name_sql, old_object_name
from zdd_tui.model.operations.registry import dropped_indexes, numbered_steps, plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.testbed.servers import PostgresServer

LONG = "c63" + "a" * 59

FORMS: dict[str, tuple[str, Any]] = {
    "names": (
        f"""
        CREATE TABLE "Odd ""Table" (id int PRIMARY KEY, "select" int, "Üñ" text);
        CREATE TABLE long (id int, {LONG}1 int, {LONG}2 int, {LONG}3 int, {LONG}4 int);
        CREATE VIEW v{LONG} AS SELECT 1; CREATE VIEW w{LONG} AS SELECT 1;
        """,
        f"""
        ALTER TABLE "Odd ""Table" ADD COLUMN "a b" int CHECK ("a b" > 0), ALTER "select" SET NOT NULL;
        CREATE INDEX ON "Odd ""Table" ("Üñ"); ALTER TABLE "Odd ""Table" DROP COLUMN "Üñ";
        COMMENT ON COLUMN "Odd ""Table"."select" IS 'it''s \\ "x"';
        ALTER TABLE long ALTER {LONG}1 SET NOT NULL, ALTER {LONG}2 SET NOT NULL;
        ALTER TABLE long DROP COLUMN {LONG}3, DROP COLUMN {LONG}4;
        DROP VIEW v{LONG}, w{LONG};
        """,
    ),
    "a file of pg_dump": (
        "",
        """
        SET statement_timeout = 0; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;
        SELECT pg_catalog.set_config('search_path', '', false);
        SET check_function_bodies = false; SET default_tablespace = ''; SET default_table_access_method = heap;
        CREATE TABLE public.zz (id integer NOT NULL, a text DEFAULT 'x'::text);
        ALTER TABLE public.zz OWNER TO postgres;
        CREATE SEQUENCE public.zz_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;
        ALTER SEQUENCE public.zz_id_seq OWNED BY public.zz.id;
        ALTER TABLE ONLY public.zz ALTER COLUMN id SET DEFAULT nextval('public.zz_id_seq'::regclass);
        SELECT pg_catalog.setval('public.zz_id_seq', 1, false);
        ALTER TABLE ONLY public.zz ADD CONSTRAINT zz_pkey PRIMARY KEY (id);
        CREATE INDEX zz_a ON public.zz USING btree (a);
        CREATE TRIGGER zt BEFORE INSERT ON public.zz FOR EACH ROW EXECUTE FUNCTION public.touch();
        INSERT INTO public.zz VALUES (1, 'a');
        """,
    ),
    "a search_path of its own": (
        "CREATE SCHEMA s; CREATE TABLE s.u (id int, b int); CREATE INDEX ub ON s.u (b)",
        """
        BEGIN; SET LOCAL search_path = s, public;
        ALTER TABLE u ADD COLUMN a int UNIQUE, ALTER b SET NOT NULL; CREATE INDEX ON u (a); CREATE TABLE w (id int);
        COMMIT; ALTER TABLE s.u DROP COLUMN b; COMMENT ON TABLE s.w IS 'x';
        """,
    ),
    "a type that is a domain without constraints": (
        "CREATE TABLE d (id int PRIMARY KEY, at timestamptz); INSERT INTO d SELECT 1, now()",
        "CREATE DOMAIN moment AS timestamptz DEFAULT now(); ALTER TABLE d ALTER at TYPE moment",
    ),
    "a renamed column with views, functions and triggers": (
        """
        CREATE DOMAIN key AS text CHECK (value <> ''); CREATE TABLE sites (id int PRIMARY KEY, owner key, town text);
        INSERT INTO sites SELECT i, 'o' || i, 't' FROM generate_series(1, 30) i;
        CREATE VIEW owners AS SELECT owner, town FROM sites;
        CREATE FUNCTION unchanged() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF to_jsonb(new) -> tg_argv[0] <> to_jsonb(old) -> tg_argv[0] THEN RAISE EXCEPTION ''changed''; END IF;
           RETURN new; END';
        CREATE TRIGGER kept BEFORE UPDATE ON sites FOR EACH ROW EXECUTE FUNCTION unchanged('owner');
        CREATE FUNCTION owned() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF new.owner IS NULL THEN RAISE EXCEPTION ''no owner''; END IF; RETURN new; END';
        CREATE TRIGGER owned BEFORE INSERT ON sites FOR EACH ROW EXECUTE FUNCTION owned();
        """,
        """
        ALTER TABLE sites RENAME owner TO company; ALTER TABLE sites RENAME town TO city; DROP TRIGGER kept ON sites;
        CREATE TRIGGER kept BEFORE UPDATE ON sites FOR EACH ROW EXECUTE FUNCTION unchanged('company');
        CREATE TRIGGER named BEFORE UPDATE OF city ON sites FOR EACH ROW WHEN (new.city <> old.city)
          EXECUTE FUNCTION unchanged('id');
        CREATE OR REPLACE FUNCTION owned() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF new.company IS NULL THEN RAISE EXCEPTION ''no company''; END IF; RETURN new; END';
        DROP VIEW owners; CREATE VIEW owners AS SELECT id, company, city, company AS owner, city AS town FROM sites;
        COMMENT ON VIEW owners IS 'shown'; GRANT SELECT ON owners TO pg_monitor;
        CREATE VIEW firms AS SELECT company FROM owners;
        CREATE VIEW ids AS SELECT id FROM sites; COMMENT ON FUNCTION owned IS 'a company is required';
        """,
    ),
    "constraints of one name on several tables": (
        "CREATE TABLE e (id int PRIMARY KEY, a int, b int, CONSTRAINT ab UNIQUE (a, b)); CREATE TABLE f (a int, b int,"
        "CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES e (a, b)); CREATE TABLE g (a int CONSTRAINT fk REFERENCES e)",
        "ALTER TABLE g DROP CONSTRAINT fk, ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES e ON DELETE CASCADE;"
        "ALTER TABLE f DROP CONSTRAINT fk; ALTER TABLE e DROP CONSTRAINT ab",
    ),
    "an index that a foreign key needed": (
        "CREATE UNIQUE INDEX tn ON teams (name); CREATE TABLE c (t text CONSTRAINT by_name REFERENCES teams (name))",
        "ALTER TABLE c DROP CONSTRAINT by_name; DROP INDEX tn",
    ),
    "a table with its trigger and the function of that": (
        "CREATE TABLE td (id int); CREATE FUNCTION of_td() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
        "CREATE TRIGGER tt BEFORE INSERT ON td FOR EACH ROW EXECUTE FUNCTION of_td()",
        "DROP TRIGGER tt ON td; DROP FUNCTION of_td(); DROP TABLE td",
    ),
    "tables that refer to each other": (
        "CREATE TABLE ta (id int PRIMARY KEY); CREATE TABLE tb (id int PRIMARY KEY REFERENCES ta)",
        "DROP TABLE IF EXISTS ta CASCADE; DROP TABLE IF EXISTS tb CASCADE; DROP TABLE IF EXISTS tc CASCADE",
    ),
    "a function with other arguments, then named without": (
        "CREATE FUNCTION many(a int) RETURNS int LANGUAGE sql AS 'SELECT a'",
        "DROP FUNCTION many; CREATE FUNCTION many(a text) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "COMMENT ON FUNCTION many IS 'new'; GRANT EXECUTE ON FUNCTION many TO pg_monitor;"
        "ALTER FUNCTION many IMMUTABLE",
    ),
    "a function with another argument that has a default": (
        "CREATE FUNCTION f(a text, b date) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION g(a text, b date)"
        " RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION h(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION IF EXISTS f(text, date); CREATE OR REPLACE FUNCTION f(a text, b date, c int DEFAULT 3)"
        " RETURNS int LANGUAGE sql AS 'SELECT 2'; DROP FUNCTION g; CREATE FUNCTION g(a text, b date DEFAULT NULL,"
        " c int DEFAULT 3) RETURNS int LANGUAGE sql AS 'SELECT 2'; DROP FUNCTION h;"
        "CREATE FUNCTION h(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
    ),
    "names with a percent sign": (
        """
        CREATE SCHEMA "My %s"; CREATE TABLE "My %s"."T%d" (a int, "b%" int NOT NULL) WITH (fillfactor = 70);
        CREATE TABLE "p%s" (id int NOT NULL, g int GENERATED ALWAYS AS (id * 2) STORED, CHECK (id > -5))
          PARTITION BY RANGE (id);
        CREATE TABLE "q%s" (id int NOT NULL, g int GENERATED ALWAYS AS (id * 2) STORED,
          CONSTRAINT "p%s_id_check" CHECK (id > -5));
        """,
        """
        ALTER TABLE "My %s"."T%d" RENAME a TO "c%s"; ALTER TABLE "My %s"."T%d" SET (fillfactor = 80);
        ALTER TABLE "My %s"."T%d" OWNER TO pg_database_owner; ALTER TABLE "My %s"."T%d" ALTER "b%" DROP NOT NULL;
        ALTER TABLE "My %s"."T%d" ADD UNIQUE ("b%"), ADD CHECK ("b%" > 0), ADD COLUMN "d%s" serial;
        ALTER TABLE "p%s" ATTACH PARTITION "q%s" FOR VALUES FROM (0) TO (10); GRANT SELECT ON "q%s" TO pg_monitor;
        """,
    ),
    "functions with a body of SQL": (
        "CREATE TABLE logged (id int)",
        "CREATE FUNCTION more(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT id + x FROM logged; SELECT 1; END;"
        "CREATE PROCEDURE add_one() LANGUAGE sql BEGIN ATOMIC INSERT INTO logged VALUES (1); END",
    ),
    "an index that only the new type of its column has": (
        """
        CREATE TABLE docs (id int PRIMARY KEY, n int, v text, d text DEFAULT '{}');
        INSERT INTO docs SELECT i, i, 'v' || i, '{"a": 1}' FROM generate_series(1, 30) i; CREATE INDEX dv ON docs (v);
        """,
        """
        ALTER TABLE docs ALTER v TYPE varchar(30); ALTER TABLE docs ALTER d DROP DEFAULT;
        CREATE UNIQUE INDEX du ON docs (v); COMMENT ON INDEX du IS 'u'; CREATE INDEX ON docs (v varchar_pattern_ops);
        ALTER TABLE docs ALTER d TYPE jsonb USING d::jsonb; ALTER TABLE docs ALTER d SET DEFAULT '{}'::jsonb;
        CREATE INDEX ON docs USING gin (d jsonb_path_ops); COMMENT ON INDEX docs_d_idx IS 'g';
        CREATE INDEX dp ON docs (n) WHERE d ? 'a'; CREATE INDEX de ON docs ((d ->> 'a')); DROP INDEX dv;
        """,
    ),
    "a function that a constraint of a domain calls": (
        "CREATE FUNCTION ok(t text) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE FUNCTION no(t text) RETURNS bool"
        " LANGUAGE sql AS 'SELECT true'; CREATE DOMAIN named AS text CONSTRAINT nc CHECK (ok(value) OR no(value));"
        "CREATE TABLE of_named (n named)",
        "ALTER DOMAIN named DROP CONSTRAINT nc; DROP FUNCTION ok; DROP FUNCTION no(text); CREATE FUNCTION ok(t text)"
        " RETURNS bool LANGUAGE sql AS 'SELECT t > $$$$'; ALTER DOMAIN named ADD CONSTRAINT nc CHECK (ok(value))",
    ),
    "a column that owns the sequence of before and a new one": (
        "CREATE TABLE runs (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n smallserial)",
        """
        CREATE SEQUENCE spare OWNED BY runs.id; ALTER TABLE runs ALTER id TYPE bigint; CREATE SEQUENCE runs_order;
        ALTER TABLE runs ALTER n TYPE bigint; ALTER SEQUENCE runs_order OWNED BY runs.n;
        ALTER TABLE runs ALTER n SET DEFAULT nextval('runs_order');
        """,
    ),
    "an index that partitions have already": (
        """
        CREATE TABLE wal (id int NOT NULL, tenant int NOT NULL, off int) PARTITION BY LIST (tenant);
        CREATE TABLE wal_0 PARTITION OF wal FOR VALUES IN (0); CREATE TABLE wal_2 PARTITION OF wal FOR VALUES IN (2);
        CREATE TABLE wal_1 PARTITION OF wal FOR VALUES IN (1) PARTITION BY RANGE (id);
        CREATE TABLE wal_1_a PARTITION OF wal_1 FOR VALUES FROM (0) TO (9);
        CREATE TABLE wal_3 PARTITION OF wal FOR VALUES IN (3) PARTITION BY RANGE (id);
        CREATE TABLE wal_3_a PARTITION OF wal_3 FOR VALUES FROM (0) TO (9);
        CREATE INDEX wal_2_old ON wal_2 (tenant, off DESC) WITH (fillfactor = 80);
        CREATE INDEX wal_3_old ON wal_3 (tenant, off); CREATE INDEX wal_1_other ON wal_1 (tenant, off) WHERE off > 0;
        """,
        """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS wal_0_poll ON wal_0 (tenant, off);
        CREATE INDEX IF NOT EXISTS wal_poll ON wal (tenant, off);
        CREATE INDEX wal_alone ON ONLY wal USING brin (off);
        """,
    ),
    "an index that does not suit the new type is dropped before": (
        """
        CREATE TABLE caches (id int PRIMARY KEY, config int, other text, version text);
        CREATE UNIQUE INDEX caches_key ON caches (config, md5(version)); CREATE INDEX ON caches (md5(other), version);
        INSERT INTO caches SELECT i, i, 'o', '{"n": ' || i || '}' FROM generate_series(1, 30) i;
        """,
        """
        DROP INDEX caches_key; ALTER TABLE caches ALTER COLUMN version TYPE jsonb USING version::jsonb;
        CREATE UNIQUE INDEX caches_uniq ON caches (config, md5(version::text));
        CREATE UNIQUE INDEX one_row ON unused ((TRUE));
        """,
    ),
    "views around a change of a type": (
        """
        CREATE TABLE pages (id int PRIMARY KEY, title varchar(20), config text);
        CREATE VIEW titles AS SELECT id, title FROM pages; CREATE VIEW configs AS SELECT id, config FROM pages;
        CREATE VIEW of_titles AS SELECT title FROM titles; GRANT SELECT ON titles TO pg_monitor;
        INSERT INTO pages SELECT i, 't' || i, '{"n": ' || i || '}' FROM generate_series(1, 30) i;
        """,
        """
        DROP VIEW of_titles; DROP VIEW titles; DROP VIEW IF EXISTS configs;
        ALTER TABLE pages ALTER title TYPE varchar(40), ALTER config TYPE jsonb USING config::jsonb;
        CREATE VIEW titles AS SELECT title, id FROM pages; CREATE VIEW of_titles AS SELECT title FROM titles;
        CREATE VIEW configs AS SELECT id, config, config::text AS plain FROM pages;
        CREATE OR REPLACE VIEW others AS SELECT * FROM configs;
        GRANT SELECT ON configs TO pg_monitor; COMMENT ON VIEW titles IS 'x'; COMMENT ON COLUMN titles.title IS 'y';
        CREATE VIEW counted AS SELECT count(*) AS n FROM pages; CREATE MATERIALIZED VIEW kept AS SELECT n FROM counted;
        """,
    ),
    "views that show every column, around changes of types and removed columns": (
        """
        CREATE TABLE pages (id int PRIMARY KEY, "Odd" int, legacy int, title varchar(20), config text);
        CREATE TABLE authors (id int, title text, page int);
        CREATE VIEW all_pages AS SELECT config, title, id, "Odd" FROM pages;
        CREATE VIEW of_all AS SELECT * FROM all_pages; CREATE VIEW wide AS SELECT id FROM authors;
        INSERT INTO pages SELECT i, i, i, 't' || i, '{"n": ' || i || '}' FROM generate_series(1, 30) i;
        """,
        """
        DROP VIEW of_all; DROP VIEW all_pages; DROP VIEW wide;
        ALTER TABLE pages ALTER title TYPE varchar(40), ALTER config TYPE jsonb USING config::jsonb;
        ALTER TABLE pages DROP legacy, ADD COLUMN added int;
        CREATE VIEW all_pages AS SELECT * FROM pages; CREATE VIEW of_all AS SELECT *, 1 AS one FROM all_pages;
        CREATE VIEW wide AS SELECT a.*, p.config AS c, q.* FROM authors a
          LEFT JOIN (SELECT p.*, count(*) OVER () AS n FROM pages p, LATERAL (SELECT a.* FROM authors a) x) p USING (id)
          JOIN LATERAL (SELECT pages.title AS t FROM public.pages UNION SELECT title FROM authors) q ON true;
        CREATE VIEW "both" (a, b, c, d, e, f) AS WITH pages AS (SELECT 1 AS one) SELECT * FROM pages, public.pages p;
        ALTER TABLE pages ADD COLUMN last int; COMMENT ON VIEW all_pages IS 'x';
        """,
    ),
    "views that lose columns, in contract": (
        """
        CREATE TABLE pages (id int PRIMARY KEY, legacy int, title text); INSERT INTO pages VALUES (1, 2, 'x');
        CREATE VIEW all_pages AS SELECT * FROM pages; CREATE VIEW of_all AS SELECT * FROM all_pages;
        GRANT SELECT ON all_pages TO pg_monitor; COMMENT ON VIEW all_pages IS 'old';
        CREATE VIEW numbers AS SELECT id FROM pages;
        """,
        [
            {"sql": "DROP VIEW of_all; DROP VIEW all_pages, numbers", "phase": "contract"},
            "ALTER TABLE pages DROP legacy, ADD COLUMN added int",
            {
                "sql": """CREATE VIEW all_pages AS SELECT * FROM pages; CREATE VIEW of_all AS SELECT * FROM all_pages;
                CREATE VIEW numbers AS SELECT id::text FROM pages;
                GRANT SELECT ON of_all TO pg_monitor; COMMENT ON VIEW all_pages IS 'new'""",
                "phase": "contract",
            },
        ],
    ),
    "columns that are dropped and added again": (
        """
        CREATE TYPE color AS ENUM ('red', 'blue'); CREATE INDEX notes_code_index ON notes (code, n);
        CREATE TABLE empty (id int PRIMARY KEY, a int UNIQUE, b text NOT NULL); DROP VIEW note_bodies;
        """,
        """
        ALTER TABLE notes DROP COLUMN legacy, ADD COLUMN legacy color NOT NULL DEFAULT 'blue';
        ALTER TABLE notes DROP body, DROP IF EXISTS code, ADD IF NOT EXISTS code int UNIQUE REFERENCES teams;
        ALTER TABLE notes ADD COLUMN body int CHECK (body > 0);
        CREATE INDEX notes_code_index ON notes (code); COMMENT ON COLUMN notes.legacy IS 'x';
        ALTER TABLE notes ALTER body SET DEFAULT 3; GRANT SELECT (legacy) ON notes TO pg_monitor;
        ALTER TABLE empty DROP COLUMN a; ALTER TABLE empty ADD COLUMN a text NOT NULL, DROP COLUMN b;
        """,
    ),
    "another table under the name of one that nobody uses": (
        """
        CREATE TABLE logs (
          id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY UNIQUE, note text, CONSTRAINT logs_id CHECK (id > 0)
        );
        CREATE INDEX logs_note ON logs (note); CREATE STATISTICS logs_statistics ON id, note FROM logs;
        CREATE VIEW of_logs AS SELECT id FROM logs; CREATE TABLE of_log (log int REFERENCES logs);
        INSERT INTO logs (note) SELECT i FROM generate_series(1, 9) i;
        CREATE MATERIALIZED VIEW stored AS SELECT 1 AS n; CREATE UNIQUE INDEX stored_n ON stored (n);
        CREATE TABLE parts (id int) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9); INSERT INTO part VALUES (1);
        """,
        """
        ALTER TABLE of_log DROP CONSTRAINT of_log_log_fkey; DROP VIEW of_logs; DROP TABLE logs, part;
        CREATE TABLE logs (id serial PRIMARY KEY, note text, CONSTRAINT logs_n_key UNIQUE (note));
        CREATE INDEX logs_note ON logs (note, id); CREATE STATISTICS logs_statistics ON note, id FROM logs;
        CREATE VIEW of_logs AS SELECT id, note FROM logs; COMMENT ON TABLE logs IS 'new';
        ALTER TABLE of_log ADD FOREIGN KEY (log) REFERENCES logs; INSERT INTO logs (note) VALUES ('x');
        CREATE TABLE part (LIKE parts INCLUDING ALL);
        CREATE TABLE new (id int CONSTRAINT new_key PRIMARY KEY); DROP TABLE IF EXISTS unused;
        ALTER TABLE new RENAME TO unused; DROP SEQUENCE old_sequence; CREATE SEQUENCE old_sequence INCREMENT 2;
        DROP TABLE IF EXISTS nothing; CREATE TABLE IF NOT EXISTS nothing (id int);
        DROP MATERIALIZED VIEW stored; CREATE TABLE stored (n int); CREATE UNIQUE INDEX stored_n ON stored (n);
        DROP INDEX notes_kind; CREATE TABLE kinds (kind kind); CREATE INDEX notes_kind ON kinds (kind);
        """,
    ),
    "an index of a dropped column, and one of its name": (
        """
        CREATE TABLE sessions (id int PRIMARY KEY, team int, worker int, note text, UNIQUE (team, worker));
        CREATE INDEX sessions_note ON sessions (lower(note));
        """,
        """
        ALTER TABLE sessions DROP COLUMN team, DROP COLUMN note;
        CREATE UNIQUE INDEX sessions_team_worker_key ON sessions (worker);
        CREATE INDEX sessions_note ON sessions (worker, id);
        """,
    ),
    "what CASCADE drops, and the migration creates again": (
        """
        CREATE VIEW base AS SELECT id, n FROM notes; CREATE VIEW over_base AS SELECT id FROM base;
        CREATE MATERIALIZED VIEW stored AS SELECT n FROM base; CREATE UNIQUE INDEX stored_n ON stored (n);
        """,
        """
        DROP VIEW base CASCADE; CREATE VIEW base AS SELECT id, n, code FROM notes;
        CREATE VIEW over_base AS SELECT id, code FROM base;
        CREATE MATERIALIZED VIEW stored AS SELECT n, code FROM base; CREATE UNIQUE INDEX stored_n ON stored (n);
        DROP FUNCTION touch CASCADE;
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.n := 3; RETURN new; END';
        CREATE TRIGGER notes_touch AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch();
        """,
    ),
    "functions that are dropped without their arguments": (
        """
        CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql AS 'SELECT a'; CREATE SCHEMA s;
        CREATE FUNCTION s.h(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
        """,
        """
        DROP FUNCTION IF EXISTS f; CREATE OR REPLACE FUNCTION f(a text) RETURNS text LANGUAGE sql AS 'SELECT a';
        DROP FUNCTION g; CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
        DROP FUNCTION s.h; DROP FUNCTION IF EXISTS missing; CREATE FUNCTION missing() RETURNS int LANGUAGE sql RETURN 1;
        """,
    ),
    "objects that are replaced": (
        """
        GRANT SELECT ON note_bodies TO pg_monitor; COMMENT ON VIEW note_bodies IS 'x';
        CREATE MATERIALIZED VIEW m AS SELECT n FROM notes; CREATE UNIQUE INDEX m_n ON m (n);
        CREATE POLICY p ON notes FOR SELECT TO pg_monitor USING (n > 1); COMMENT ON POLICY p ON notes IS 'x';
        ALTER TABLE notes ENABLE ALWAYS TRIGGER notes_touch;
        """,
        """
        DROP VIEW IF EXISTS note_bodies; DROP VIEW IF EXISTS nv;
        CREATE VIEW note_bodies AS SELECT code::varchar(9) AS body, id FROM notes;
        CREATE VIEW nv AS SELECT id FROM notes;
        DROP TRIGGER IF EXISTS notes_touch ON notes; DROP FUNCTION IF EXISTS touch();
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.n := 3; RETURN new; END';
        CREATE TRIGGER notes_touch BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch();
        DROP FUNCTION f(int); CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
        DROP POLICY IF EXISTS p ON notes; CREATE POLICY p ON notes USING (n > 3);
        DROP MATERIALIZED VIEW m; CREATE MATERIALIZED VIEW m AS SELECT n, kind FROM notes;
        CREATE UNIQUE INDEX m_n ON m (n);
        DROP INDEX notes_kind; CREATE INDEX notes_kind ON notes (kind, n);
        DROP TYPE old_type; CREATE TYPE old_type AS ENUM ('a');
        DROP TABLE IF EXISTS nn; CREATE TABLE nn (id int);
        ALTER TABLE notes DROP CONSTRAINT n_pos, ADD CONSTRAINT n_pos CHECK (n >= 0);
        ALTER TABLE notes DROP CONSTRAINT notes_code; ALTER TABLE notes ADD CONSTRAINT notes_code UNIQUE (code, n);
        """,
    ),
    "new tables": (
        "",
        """
        CREATE TABLE a1 (id int PRIMARY KEY, b int); CREATE TABLE b1 (id int PRIMARY KEY, a int REFERENCES a1);
        ALTER TABLE a1 ADD FOREIGN KEY (b) REFERENCES b1;
        CREATE FUNCTION imm(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
        CREATE INDEX a1i ON a1 (imm(b)); ALTER TABLE a1 ADD CONSTRAINT ck CHECK (imm(b) > 0);
        ALTER TABLE a1 ADD COLUMN zz serial, ADD COLUMN g int GENERATED ALWAYS AS (id * 2) STORED;
        CREATE POLICY p ON a1 USING (imm(b) > 0); ALTER TABLE a1 ALTER zz TYPE bigint;
        CREATE VIEW av AS SELECT 1 AS a; DROP VIEW av;
        ALTER TABLE a1 RENAME TO a2; INSERT INTO a2 (id) VALUES (3); UPDATE a2 SET id = 4;
        CREATE UNLOGGED TABLE u1 (a int); ALTER TABLE u1 SET LOGGED;
        CREATE TABLE pa (a int) PARTITION BY LIST (a); CREATE TABLE pa1 PARTITION OF pa FOR VALUES IN (1);
        CREATE INDEX ON pa (a); CREATE TABLE ta AS SELECT 1 AS a; CREATE TABLE tl (LIKE notes INCLUDING ALL);
        """,
    ),
    "keys": (
        """
        CREATE TABLE p2 (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE c2 (a int, b int, x int PRIMARY KEY, up int);
        ALTER TABLE notes CLUSTER ON notes_code; CREATE UNIQUE INDEX ui ON notes (user_id, n);
        CREATE TABLE k (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, b int UNIQUE NULLS NOT DISTINCT);
        """,
        """
        ALTER TABLE unused ADD PRIMARY KEY (id);
        CREATE TABLE refs (id int PRIMARY KEY, n int REFERENCES unused, m int, FOREIGN KEY (m) REFERENCES unused);
        ALTER TABLE c2 ADD FOREIGN KEY (a, b) REFERENCES p2;
        ALTER TABLE c2 ADD FOREIGN KEY (up) REFERENCES c2 ON DELETE SET NULL (up);
        ALTER TABLE notes ADD COLUMN q int CONSTRAINT q1 CHECK (q > 0) CHECK (q < 10) UNIQUE
            REFERENCES teams ON DELETE CASCADE ON UPDATE SET NULL DEFERRABLE INITIALLY DEFERRED;
        ALTER TABLE notes ADD CHECK (n > 0), ADD CHECK (n > -1), ADD CONSTRAINT i CHECK (n > -2) NO INHERIT;
        ALTER TABLE notes DROP CONSTRAINT notes_code; ALTER TABLE k DROP CONSTRAINT k_pkey, DROP CONSTRAINT k_b_key;
        ALTER TABLE notes ADD CONSTRAINT uc UNIQUE USING INDEX ui DEFERRABLE;
        ALTER TABLE notes DROP COLUMN user_id CASCADE;
        """,
    ),
    "partitions": (
        """
        CREATE TABLE par (id int, a int) PARTITION BY RANGE (id);
        CREATE TABLE par1 PARTITION OF par FOR VALUES FROM (0) TO (10);
        CREATE TABLE par2 PARTITION OF par FOR VALUES FROM (10) TO (20) PARTITION BY LIST (a);
        CREATE TABLE par2a PARTITION OF par2 FOR VALUES IN (1);
        CREATE INDEX pi ON par (id, a); INSERT INTO par VALUES (1, 1), (11, 1);
        """,
        """
        CREATE INDEX ON par (a); DROP INDEX pi;
        CREATE TABLE par3 PARTITION OF par FOR VALUES FROM (20) TO (30);
        CREATE TABLE par4 (LIKE par); ALTER TABLE par ATTACH PARTITION par4 FOR VALUES FROM (30) TO (40);
        ALTER TABLE par DETACH PARTITION par1; ALTER TABLE par ADD CHECK (a > 0);
        """,
    ),
    "partitions that exist": (
        """
        CREATE TABLE par (id int PRIMARY KEY, a int NOT NULL, b text) PARTITION BY RANGE (id);
        CREATE TABLE par1 PARTITION OF par FOR VALUES FROM (0) TO (10);
        CREATE TABLE par2 PARTITION OF par FOR VALUES FROM (10) TO (20);
        CREATE INDEX ON par (a) WHERE b > 'x'; INSERT INTO par SELECT i, i FROM generate_series(1, 19) i;
        CREATE TABLE "P x" (id int PRIMARY KEY, a int NOT NULL, b text); CREATE INDEX ON "P x" (a) WHERE b > 'x';
        INSERT INTO "P x" SELECT i, i FROM generate_series(20, 300) i;
        CREATE TABLE h (id int) PARTITION BY HASH (id); CREATE TABLE h1 (id int); INSERT INTO h1 VALUES (1);
        CREATE TABLE l (id text) PARTITION BY LIST (id); CREATE TABLE l1 (id text);
        INSERT INTO l1 VALUES (NULL), ('%s');
        """,
        """
        ALTER TABLE par ATTACH PARTITION "P x" FOR VALUES FROM (20) TO (1000);
        ALTER TABLE h ATTACH PARTITION h1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        ALTER TABLE l ATTACH PARTITION l1 FOR VALUES IN (NULL, '%s');
        ALTER TABLE par DETACH PARTITION par2 CONCURRENTLY; DROP TABLE par1, unused; DROP TABLE IF EXISTS nothing;
        """,
    ),
    "keys of partitioned tables": (
        """
        CREATE TABLE par (id int, a int, b text, x int) PARTITION BY RANGE (id);
        CREATE TABLE par1 PARTITION OF par FOR VALUES FROM (0) TO (10);
        CREATE TABLE par2 PARTITION OF par FOR VALUES FROM (10) TO (20) PARTITION BY LIST (a);
        CREATE TABLE par2a PARTITION OF par2 FOR VALUES IN (1, 2); INSERT INTO par VALUES (1, 1, 'x'), (11, 1, 'y');
        CREATE TABLE old (id int, b text, PRIMARY KEY (id), CONSTRAINT uu UNIQUE (id, b)) PARTITION BY RANGE (id);
        CREATE TABLE old1 PARTITION OF old FOR VALUES FROM (0) TO (10); INSERT INTO old VALUES (1, 'x');
        """,
        """
        ALTER TABLE par ADD PRIMARY KEY (id, a);
        ALTER TABLE par ADD CONSTRAINT u UNIQUE (id, a, b), ALTER b SET NOT NULL;
        ALTER TABLE par ADD CHECK (x > 0); ALTER TABLE old DROP CONSTRAINT uu; ALTER TABLE old DROP CONSTRAINT old_pkey;
        """,
    ),
    "indexes": (
        "CREATE TABLE geo (p point, j jsonb, a int[], t text); CREATE TABLE a_rather_long_name_of_a_table (b int)",
        f"""
        CREATE INDEX ON geo USING gist (p); CREATE INDEX ON geo USING gin (j jsonb_path_ops) WITH (fastupdate = off);
        CREATE INDEX ON geo (t COLLATE "C" text_pattern_ops) INCLUDE (a) WHERE t <> 'x'; CREATE INDEX ON geo (t);
        CREATE INDEX ON geo ((j ->> 'a'), (t || 'x'), coalesce(t, 'a'), (t::varchar), lower(t), nullif(t, ''));
        CREATE INDEX ON geo (t); CREATE UNIQUE INDEX CONCURRENTLY un ON notes (user_id) WHERE n > 10;
        ALTER TABLE a_rather_long_name_of_a_table ADD COLUMN {LONG}1 int;
        CREATE INDEX ON a_rather_long_name_of_a_table ({LONG}1, b);
        ALTER TABLE a_rather_long_name_of_a_table ADD UNIQUE (b, {LONG}1);
        REINDEX INDEX notes_kind; VACUUM notes; ANALYZE notes; ALTER INDEX notes_kind RENAME TO renamed;
        """,
    ),
    "routines, views and triggers": (
        """
        CREATE FUNCTION h(a int, b text DEFAULT 'x') RETURNS int LANGUAGE sql AS 'SELECT a';
        CREATE FUNCTION h(a text) RETURNS int LANGUAGE sql AS 'SELECT 1';
        GRANT EXECUTE ON FUNCTION f(int) TO pg_monitor; COMMENT ON FUNCTION f(int) IS 'c';
        CREATE VIEW opt WITH (security_barrier = true) AS SELECT id, n FROM notes;
        GRANT SELECT (id) ON opt TO pg_monitor; COMMENT ON COLUMN opt.id IS 'i';
        CREATE RULE ru AS ON UPDATE TO teams DO ALSO NOTIFY x; ALTER TABLE teams DISABLE RULE ru;
        CREATE POLICY p ON notes AS RESTRICTIVE FOR UPDATE TO pg_monitor USING (n > 1) WITH CHECK (n > 2);
        """,
        """
        CREATE OR REPLACE FUNCTION f(a int DEFAULT 4) RETURNS int LANGUAGE sql STABLE AS $x$ SELECT a; $x$;
        ALTER FUNCTION h(text) STRICT COST 5 SET search_path = public; DROP FUNCTION h(int, text);
        CREATE OR REPLACE VIEW opt AS SELECT id, n, body FROM notes;
        ALTER VIEW note_bodies ALTER COLUMN body SET DEFAULT 'x'; ALTER VIEW note_bodies RENAME TO bodies;
        CREATE OR REPLACE TRIGGER notes_touch AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE CONSTRAINT TRIGGER ct AFTER INSERT ON notes DEFERRABLE FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER TABLE notes DISABLE TRIGGER notes_touch; COMMENT ON TRIGGER ct ON notes IS 'x';
        DROP RULE ru ON teams; ALTER POLICY p ON notes USING (n > 5); ALTER POLICY p ON notes RENAME TO p9;
        DROP FUNCTION IF EXISTS nothing(int); DROP POLICY IF EXISTS nothing ON notes; DROP SCHEMA IF EXISTS nothing;
        """,
    ),
    "rights": (
        """
        CREATE SCHEMA sg; CREATE TABLE sg.t (a int); CREATE SEQUENCE sg.s; GRANT SELECT (n) ON notes TO pg_monitor;
        GRANT SELECT ON teams TO pg_monitor WITH GRANT OPTION;
        """,
        """
        GRANT ALL ON ALL TABLES IN SCHEMA sg, public TO pg_monitor; GRANT USAGE ON SCHEMA sg TO pg_monitor;
        GRANT SELECT (body), INSERT (body) ON notes TO pg_monitor; GRANT USAGE ON ALL SEQUENCES IN SCHEMA sg TO PUBLIC;
        GRANT USAGE ON TYPE kind TO pg_monitor; REVOKE EXECUTE ON FUNCTION f(int) FROM PUBLIC;
        REVOKE SELECT ON teams FROM pg_monitor; REVOKE ALL ON SCHEMA public FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES IN SCHEMA sg GRANT SELECT ON TABLES TO pg_monitor;
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        ALTER TABLE notes OWNER TO pg_monitor; ALTER FUNCTION f(int) OWNER TO pg_monitor;
        ALTER TYPE kind OWNER TO pg_monitor; ALTER SCHEMA sg OWNER TO pg_monitor;
        """,
    ),
    "an identity in the place of a default": (
        "CREATE TABLE serials (id serial PRIMARY KEY, other serial)",
        """
        ALTER TABLE notes ALTER id DROP DEFAULT; DROP SEQUENCE notes_id_seq;
        ALTER TABLE notes ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 1000);
        ALTER TABLE serials ALTER id DROP DEFAULT, ALTER other DROP DEFAULT, ALTER other SET DEFAULT 7;
        DROP SEQUENCE serials_id_seq, serials_other_seq;
        ALTER TABLE serials ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (RESTART 1000);
        """,
    ),
    "a key in the place of a column": (
        "CREATE TABLE owners (id serial PRIMARY KEY, a int NOT NULL, b int NOT NULL)",
        "ALTER TABLE owners DROP COLUMN id; ALTER TABLE owners ADD PRIMARY KEY (a, b)",
    ),
    "domains with constraints as the types of columns": (
        """
        CREATE DOMAIN filled AS text CHECK (value <> ''); CREATE DOMAIN word AS filled NOT NULL;
        CREATE TABLE codes (code text PRIMARY KEY);
        CREATE TABLE terms (
          id int PRIMARY KEY, term text COLLATE "C" DEFAULT 'none' CHECK (term <> 'x') REFERENCES codes, n filled UNIQUE
        );
        CREATE INDEX terms_term ON terms (lower(term)); CREATE VIEW ids AS SELECT id FROM terms;
        CREATE VIEW shown WITH (security_barrier) AS SELECT coalesce(n, 'none') AS n FROM terms;
        CREATE VIEW above AS SELECT n || 'x' AS n FROM shown; COMMENT ON VIEW shown IS 'them';
        GRANT SELECT (n) ON above TO pg_monitor;
        COMMENT ON COLUMN terms.term IS 'the term'; GRANT UPDATE (term) ON terms TO pg_monitor;
        INSERT INTO codes VALUES ('a'), ('b'), ('none'); INSERT INTO terms VALUES (1, 'a', 'm'), (2, 'b', 'n');
        """,
        """
        ALTER TABLE terms ADD COLUMN about text, ADD COLUMN more text;
        UPDATE terms SET about = term, more = n; DROP VIEW above, shown;
        ALTER TABLE terms ALTER about TYPE word, ALTER more TYPE filled;
        CREATE DOMAIN fresh AS filled CHECK (value <> 'y') CHECK (value < 'z');
        ALTER TABLE terms ALTER term TYPE fresh; ALTER TABLE terms ALTER n TYPE word;
        ALTER TABLE terms ALTER term SET DEFAULT 'some', ALTER n SET DEFAULT 'what'::filled;
        DROP VIEW ids; CREATE VIEW ids AS SELECT id, term, about FROM terms; COMMENT ON VIEW ids IS 'what is shown';
        CREATE VIEW abouts AS SELECT about FROM ids; GRANT SELECT ON abouts TO pg_monitor;
        CREATE VIEW shown AS SELECT coalesce(n, 'nothing') AS n FROM terms;
        """,
    ),
    "types of columns that triggers name": (
        """
        CREATE TABLE priced (id int PRIMARY KEY, price int, n int, kind varchar(9));
        INSERT INTO priced VALUES (1, 2, 3);
        CREATE TRIGGER first BEFORE UPDATE OF price ON priced FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER second AFTER UPDATE OF n, kind ON priced FOR EACH ROW EXECUTE FUNCTION touch();
        """,
        """
        DROP TRIGGER first ON priced; DROP TRIGGER IF EXISTS second ON public.priced;
        ALTER TABLE priced ALTER price TYPE float8; ALTER TABLE priced ALTER n TYPE bigint, ALTER kind TYPE text;
        CREATE TRIGGER first BEFORE INSERT OR UPDATE OF price, kind ON priced FOR EACH ROW
          WHEN (new.price > 1) EXECUTE FUNCTION touch();
        CREATE TRIGGER third AFTER UPDATE ON priced FOR EACH ROW WHEN (old.n <> new.n) EXECUTE FUNCTION touch();
        """,
    ),
    "functions and the triggers that execute them": (
        """
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TABLE par (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF par FOR VALUES FROM (0) TO (9);
        CREATE TRIGGER par_guard BEFORE UPDATE ON par FOR EACH ROW EXECUTE FUNCTION guard();
        CREATE TRIGGER unused_guard AFTER INSERT ON unused FOR EACH ROW EXECUTE FUNCTION guard('a');
        CREATE TRIGGER named BEFORE DELETE ON unused FOR EACH ROW EXECUTE FUNCTION guard();
        CREATE TRIGGER again BEFORE UPDATE ON unused FOR EACH ROW EXECUTE FUNCTION guard();
        ALTER TABLE unused ENABLE ALWAYS TRIGGER unused_guard; ALTER TABLE p1 DISABLE TRIGGER par_guard;
        """,
        """
        DROP TRIGGER named ON unused; DROP FUNCTION guard CASCADE;
        CREATE TRIGGER again BEFORE UPDATE ON unused FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
        DROP FUNCTION IF EXISTS touch(), none_of_this_name() CASCADE;
        """,
    ),
    "required columns": (
        "CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1)",
        [
            "ALTER TABLE unused ADD a text NOT NULL, ADD COLUMN IF NOT EXISTS b int CONSTRAINT b_there NOT NULL UNIQUE",
            {"sql": "DELETE FROM gone", "undo": "INSERT INTO gone VALUES (1) ON CONFLICT DO NOTHING"},
            "ALTER TABLE gone ADD COLUMN id2 int NOT NULL REFERENCES teams",
        ],
    ),
    "a fill that reads what is removed or renamed": (
        "UPDATE notes SET user_id = n",
        """
        ALTER TABLE notes ADD COLUMN email text, ADD COLUMN mail text;
        UPDATE notes SET email = (SELECT name FROM teams WHERE teams.id = notes.user_id), mail = notes.code;
        UPDATE notes SET email = user_id::text;
        ALTER TABLE notes DROP COLUMN user_id, ALTER COLUMN email SET NOT NULL;
        ALTER TABLE notes RENAME code TO tag; ALTER TABLE notes ALTER COLUMN mail SET NOT NULL;
        """,
    ),
    "sequences and domains": (
        "CREATE SEQUENCE so START 5 INCREMENT 2 MAXVALUE 100 CYCLE; CREATE DOMAIN dd AS int DEFAULT 3 CONSTRAINT c1"
        " CHECK (value > 0); CREATE TABLE dt (d dd)",
        """
        ALTER SEQUENCE so INCREMENT BY 5 NO MAXVALUE CACHE 10 NO CYCLE; ALTER SEQUENCE old_sequence OWNED BY notes.n;
        ALTER DOMAIN dd ADD CONSTRAINT c2 CHECK (value < 100); ALTER DOMAIN dd SET DEFAULT 4;
        ALTER DOMAIN dd DROP CONSTRAINT c1; ALTER DOMAIN dd SET NOT NULL; ALTER DOMAIN dd RENAME CONSTRAINT c2 TO c3;
        ALTER SEQUENCE notes_id_seq RESTART WITH 1000; ALTER SEQUENCE IF EXISTS nothing RESTART;
        SELECT setval('so', (SELECT max(n) FROM notes)); SELECT setval(pg_get_serial_sequence('notes', 'id'), 2000);
        CREATE SEQUENCE brand START 100; SELECT setval('brand', 200); DROP DOMAIN IF EXISTS old_domain;
        """,
    ),
}


SLOW = {
    "keys of partitioned tables",
    "a file of pg_dump",
    "indexes",
    "keys",
    "names",
    "partitions",
    "rights",
    "sequences and domains",
}


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in FORMS]
)
async def test_every_form_is_done_as_the_plain_migration_does_it_and_undone(
    name: str, pg: PostgresServer, pg_dsn: str
) -> None:
    setup, migration = FORMS[name]
    statements = [migration] if isinstance(migration, str) else migration
    if "VACUUM" in migration or "CONCURRENTLY" in migration:  # in no transaction, as the plain migration has them
        statements = [f"{each};" for each in migration.split(";") if each.strip()]
    await assert_done_and_undone(pg, pg_dsn, SCHEMA + setup, statements)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("ALTER TABLE notes RENAME n TO m; ALTER TABLE notes RENAME m TO k", "it can have two names only"),
        ("INSERT INTO teams VALUES (1, 'x')", "cannot know which rows a rollback has to take back of teams"),
        ("CREATE TABLE ta AS SELECT * FROM notes", "copies rows of notes once"),
        ("CREATE TABLE ta (i int); INSERT INTO ta SELECT id FROM notes", "copies rows of notes once"),
        (
            "CREATE VIEW v AS SELECT * FROM notes; CREATE VIEW w AS SELECT id FROM v; CREATE TABLE ta AS TABLE w",
            "copies rows of notes once",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT id FROM notes; CREATE TABLE ta (i int); INSERT INTO ta TABLE v",
            "copies rows of notes once",
        ),
        ("CREATE VIEW v AS SELECT id FROM notes; SELECT id INTO ta FROM v", "copies rows of notes once"),
        ("CREATE TEMP TABLE x (a int)", "ends with its session"),
        ("COPY teams FROM stdin", "the rows of COPY are no SQL"),
        ("TRUNCATE teams", "nothing brings the rows back"),
        ("ALTER TABLE notes DROP body, ADD body serial", "adds it again with values that are computed for each row"),
        (
            "ALTER TABLE notes DROP n, ADD n int; CREATE TRIGGER t AFTER UPDATE OF n ON notes EXECUTE FUNCTION g()",
            "its name is that of the old column",
        ),
        ("ALTER TABLE notes DROP body, ADD body int; CREATE VIEW v AS SELECT * FROM notes", "create view v: the migr"),
        (
            "ALTER TABLE notes DROP body, ADD body int; ALTER TABLE notes RENAME body TO b",
            "notes.body and adds it again",
        ),
        ("ALTER TABLE notes RENAME body TO b; ALTER TABLE notes ADD body int", "renames the column and adds it again"),
        ("ALTER TABLE notes DROP n; ALTER TABLE notes RENAME code TO n", "another column has the name n before"),
        ("DROP SCHEMA s; CREATE SCHEMA s", "creates another one, and running code uses both"),
        (
            "ALTER TABLE unused DROP id; DROP TABLE unused; CREATE TABLE unused (a int)",
            "drop column unused.id: the migration drops the table after it, and another one has its name",
        ),
        (
            "CREATE DOMAIN d AS int CHECK (value > 0); ALTER TABLE notes ALTER n TYPE d USING n + 1",
            "a domain with constraints",
        ),
        ("ALTER TABLE notes SET UNLOGGED", "rewrites the whole table"),
        ("VACUUM FULL notes", "under a lock that blocks reads and writes"),
        ("SELECT my_function()", "calls functions, which may change anything"),
        ("DO $$ BEGIN END $$", "only its execution shows"),
        ("ALTER TYPE kind RENAME VALUE 'a' TO 'z'", "running code writes the value a"),
        ("ALTER TYPE kind RENAME TO k", "running code that casts to kind would fail"),
        ("ALTER SCHEMA public RENAME TO k", "running code uses the name"),
        ("ALTER TABLE notes SET SCHEMA q", "does not say in which schema"),
        ("ALTER TYPE old_type ADD ATTRIBUTE b int", "with the attributes of now"),
        ("REFRESH MATERIALIZED VIEW m", "locks m against readers"),
        ("DROP OWNED BY app", "does not name what it changes"),
        ("ROLLBACK", "holds ROLLBACK"),
        ("SET standard_conforming_strings = off", "reads strings as the standard says"),
    ],
)
def test_what_would_harm_is_refused_with_a_way_out(sql: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as refused:
        plan_operations(plan_of("postgresql://x", sql))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("setup", "sql", "reason"),
    [
        ("", "ALTER TABLE notes ADD g int NOT NULL", r"notes\.g is NULL, and it has no default; repair: g .*: 50 rows"),
        ("", "ALTER TABLE notes DROP COLUMN body", "view note_bodies would be dropped with it"),
        (
            "CREATE TRIGGER bodies INSTEAD OF INSERT ON note_bodies FOR EACH ROW EXECUTE FUNCTION touch()",
            "DROP FUNCTION touch() CASCADE",
            "drop function touch.*: trigger bodies on view note_bodies would be dropped with it",
        ),
        ("CREATE VIEW d AS SELECT * FROM note_bodies", "DROP VIEW note_bodies CASCADE", "view d would be dropped"),
        (
            "",
            "ALTER TABLE notes DROP legacy, ADD legacy int NOT NULL",
            r"notes\.legacy is NULL, and it has no default: 50 rows",
        ),
        ("", "ALTER TABLE notes DROP IF EXISTS x, ADD x int", r"notes\.x does not exist, and the migration drops it"),
        ("CREATE SCHEMA s", "DROP SCHEMA IF EXISTS s; CREATE SCHEMA s", "schema s exists, and the migration replaces"),
        (
            "CREATE UNIQUE INDEX tn ON teams (name); CREATE TABLE c (t text CONSTRAINT named REFERENCES teams (name))",
            "DROP INDEX tn CASCADE",
            "foreign key named of c would be dropped with it",
        ),
        (
            "CREATE DOMAIN positive AS int CHECK (value > 0); CREATE DOMAIN more AS positive",
            "ALTER TABLE notes ALTER body TYPE more",
            "notes.body: the new type more is a domain with constraints, .*, and the column has another type than",
        ),
        (
            "CREATE DOMAIN filled AS text NOT NULL CHECK (length(value) > 2)",
            "ALTER TABLE notes ALTER body TYPE filled",
            "notes.body: the new type filled .*, and the column is used by view note_bodies",
        ),
        (
            "CREATE DOMAIN filled AS text NOT NULL; CREATE TABLE d AS SELECT repeat('x', 1000) AS a"
            " FROM generate_series(1, 5000)",
            "ALTER TABLE d ALTER a TYPE filled",
            "the new type filled is a domain with constraints, .*, and the table has [0-9.]+ [kM]B",
        ),
        (
            "CREATE DOMAIN filled AS text CHECK (length(value) > 2); CREATE DOMAIN more AS filled NOT NULL;"
            "UPDATE notes SET code = NULL WHERE n = 7",
            "ALTER TABLE notes ALTER code TYPE more",
            r"notes\.code: domain more refuses the value: 9 rows",
        ),
        (
            "CREATE TRIGGER coded AFTER UPDATE OF code ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
            "DROP TRIGGER notes_touch ON notes; ALTER TABLE notes ALTER code TYPE varchar(9)",
            "column code of notes is named by trigger coded",
        ),
        (
            "UPDATE notes SET code = NULL WHERE n = 7",
            "CREATE DOMAIN more AS text NOT NULL CHECK (length(value) > 2); ALTER TABLE notes ALTER code TYPE more",
            r"notes\.code: domain more refuses the value: 9 rows",
        ),
        (
            "",
            "CREATE DOMAIN filled AS text NOT NULL; ALTER TABLE notes ALTER n TYPE filled",
            "the new type filled is a domain with constraints, .*, and the column has another type",
        ),
        (
            "CREATE DOMAIN filled AS text CHECK (length(value) > 2)",
            "ALTER TABLE notes ALTER legacy DROP DEFAULT, ALTER legacy TYPE filled, ALTER legacy SET DEFAULT 'xyz'",
            "the new type filled is a domain with constraints",
        ),
        (
            "ALTER TABLE notes ADD CHECK (n > -7)",
            "ALTER TABLE notes ADD CHECK (n > 0)",
            "has a constraint notes_n_check",
        ),
        ("", "CREATE TABLE IF NOT EXISTS teams (id int); INSERT INTO teams VALUES (7)", "teams exists already"),
        (
            "CREATE TABLE c (t int); INSERT INTO c VALUES (5), (NULL), (6)",
            "ALTER TABLE c ADD FOREIGN KEY (t) REFERENCES teams",
            "foreign key c_t_fkey of c: no row of teams for: 2 rows",
        ),
        (
            "CREATE TABLE p2 (a int, b int, PRIMARY KEY (a, b)); INSERT INTO p2 VALUES (1, 1);"
            "CREATE TABLE c2 (a int, b int); INSERT INTO c2 VALUES (1, NULL), (NULL, NULL), (1, 1)",
            "ALTER TABLE c2 ADD FOREIGN KEY (a, b) REFERENCES p2 MATCH FULL",
            r"no row of p2 for: 1 row\b",
        ),
        (
            "CREATE TABLE par (id int, a int) PARTITION BY RANGE (id)",
            "ALTER TABLE par ADD PRIMARY KEY (a)",
            "par is partitioned by columns that the key does not contain",
        ),
        (
            "CREATE TABLE par (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE other (id int NOT NULL)",
            "ALTER TABLE par ATTACH PARTITION other FOR VALUES FROM (0) TO (9)",
            "other has no index like par_pkey of par, and PostgreSQL would build it under a lock",
        ),
        (
            "CREATE TABLE par (id int REFERENCES teams) PARTITION BY RANGE (id); CREATE TABLE other (id int)",
            "ALTER TABLE par ATTACH PARTITION other FOR VALUES FROM (0) TO (9)",
            "other has no foreign key like par_id_fkey of par",
        ),
        (
            "CREATE TABLE par (id int) PARTITION BY RANGE (id); CREATE TABLE other (id int);"
            "CREATE TABLE rest PARTITION OF par DEFAULT",
            "ALTER TABLE par ATTACH PARTITION other FOR VALUES FROM (0) TO (9)",
            "par has the default partition rest, and PostgreSQL would read it under a lock",
        ),
        (
            "CREATE TABLE par (id int) PARTITION BY RANGE (id); CREATE TABLE rest PARTITION OF par DEFAULT;"
            "INSERT INTO par VALUES (1)",
            "CREATE TABLE new PARTITION OF par FOR VALUES FROM (7) TO (9)",
            "par has the default partition rest, and PostgreSQL would read it under a lock",
        ),
    ],
)
async def test_what_would_stop_a_later_phase_is_found_before_the_start(
    setup: str, sql: str, reason: str, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA + setup)
    plan = plan_of(pg_dsn, sql)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=reason):
            await CheckRows().run(ctx, handle(0))
    with pytest.raises(PlanError, match=reason):
        await check_operation_rows(db, plan)


@pytest.mark.parametrize("copy", ["CREATE TABLE kept AS SELECT * FROM sums", "SELECT * INTO kept FROM sums"])
async def test_a_table_that_is_created_from_rows_comes_at_the_end_of_backfill_with_what_names_it(
    pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection, copy: str
) -> None:
    await db.execute(FUNCTIONS)
    before = dump(pg, pg_dsn)
    others = "ALTER TABLE kept ADD PRIMARY KEY (id); CREATE INDEX ON kept (a); COMMENT ON TABLE kept IS 'k'"
    with pytest.raises(PlanError, match="it copies rows of sums once") as refused:
        plan_operations(plan_of(pg_dsn, copy))
    assert "undo: [], and it runs at the end of backfill" in refused.value.hint
    update = {"sql": "UPDATE sums SET a = 6", "undo": []}
    grant = "GRANT SELECT ON kept TO pg_monitor; INSERT INTO kept VALUES (2, 2)"
    plan = plan_of(pg_dsn, update, {"sql": copy, "undo": []}, others, grant)
    assert {step.phase for _, step in numbered_steps(plan, Phase.EXPAND)} == set()
    async with open_context(plan) as ctx:
        done = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetch("SELECT id, a FROM kept ORDER BY id") == [(1, 6), (2, 2)]
        for each in reversed(done):
            await RunOperation().undo(ctx, each)
        assert dump(pg, pg_dsn) == before


@pytest.mark.parametrize(
    "sql", ["ALTER TABLE a ADD b int", "CREATE INDEX ON a (b)", "COMMENT ON TABLE a IS 'x'; SELECT"]
)
@pytest.mark.parametrize("phase", ["expand", "contract"])
def test_a_phase_beside_a_statement_whose_phases_zdd_knows_is_refused(sql: str, phase: str) -> None:
    only_waiting = phase == "contract" and sql.startswith("COMMENT")
    reason = "only statements of views and functions" if only_waiting else "it has phase: and no undo:"
    with pytest.raises(PlanError, match=reason) as refused:
        plan_operations(plan_of("postgresql://x", {"sql": sql, "phase": phase}))
    assert refused.value.hint


@pytest.mark.parametrize("name", ["a", "a" * 55, "a" * 56, "ü" * 27 + "a", "ü" * 28, "a" + "ü" * 31, "€" * 21])
async def test_the_server_shortens_the_name_of_what_it_archives_as_the_plan_does(
    db: asyncpg.Connection, name: str
) -> None:
    assert await db.fetchval(f"SELECT {fit_name_sql('zdd_old_', '$1::text')}", name) == old_object_name(name)


FUNCTIONS = """
CREATE TABLE sums (id int PRIMARY KEY, a int NOT NULL); INSERT INTO sums VALUES (1, 5);
CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT sum(a) FROM sums); END';
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER log BEFORE UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION log()
"""
NEW_TOTAL = "CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT {}); END'"


@pytest.mark.parametrize(
    "migration",
    [
        f"{NEW_TOTAL.format('sum(b) FROM sums')}; ALTER TABLE sums RENAME COLUMN a TO b",
        f"{NEW_TOTAL.format('sum(a) FROM sums WHERE c IS NULL')}; ALTER TABLE sums ADD COLUMN c int",
        f"{NEW_TOTAL.format('count(*) FROM others')}; CREATE TABLE others (id int)",
        "DROP FUNCTION total();"
        f"{NEW_TOTAL.format('sum(a + z) FROM sums').replace(' OR REPLACE', '')}; ALTER TABLE sums ADD z int DEFAULT 0",
        "CREATE OR REPLACE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.d := 1; RETURN new; END';"
        "ALTER TABLE sums ADD COLUMN d int",
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.d := 1; RETURN new; END';"
        "CREATE TRIGGER other BEFORE UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION other();"
        "ALTER TABLE sums ADD COLUMN d int",
    ],
)
async def test_running_code_calls_a_function_between_all_statements(
    pg_dsn: str, db: asyncpg.Connection, migration: str
) -> None:
    """The server reads a body when it is called: the plain file may bring what it names after it."""
    await db.execute(FUNCTIONS)
    plan = plan_of(pg_dsn, migration)
    async with open_context(plan) as ctx:
        steps = [handle(number) for number, _ in numbered_steps(plan, Phase.EXPAND)]
        for each in [*steps, *reversed(steps)]:
            await (RunOperation().undo if "undo" in each.detail else RunOperation().run)(ctx, each)
            await db.fetchval("SELECT total()")
            await db.execute("UPDATE sums SET a = a + 1")
    assert await db.fetchval("SELECT total()") == 5 + 2 * len(steps)


@pytest.mark.parametrize(
    "between",
    [
        {"sql": "INSERT INTO sums VALUES (2, 1)", "undo": "DELETE FROM sums WHERE id = 2"},
        "ALTER TABLE sums ADD COLUMN b int DEFAULT total()",
    ],
)
def test_a_function_that_is_needed_before_what_it_names_is_refused(between: Any) -> None:
    add = [] if isinstance(between, str) else ["ALTER TABLE sums ADD COLUMN b int"]
    plan = plan_of("postgresql://x", NEW_TOTAL.format("sum(b) FROM sums"), between, *add)
    with pytest.raises(PlanError, match=r"names what .* sums.b.* makes later, so that running code would fail"):
        plan_operations(plan)


ONE_ROW = """
CREATE TABLE uploads (at timestamptz, n int); CREATE INDEX uploads_n ON uploads (n);
CREATE UNIQUE INDEX one_row ON uploads ((at IS NOT NULL)); INSERT INTO uploads VALUES (now(), 1)
"""


@pytest.mark.parametrize("index", ["one_row", "uploads_n"])
@pytest.mark.parametrize(
    ("sql", "is_refused"),
    [
        ("INSERT INTO uploads VALUES ('-infinity', 2)", True),
        ("WITH a AS (INSERT INTO uploads VALUES ('-infinity', 2)) SELECT", True),
        ("UPDATE uploads SET at = NULL WHERE n = 1", True),
        ("UPDATE uploads SET n = 3 WHERE n = 1", False),
        ("DELETE FROM uploads", False),
    ],
)
async def test_rows_that_need_a_dropped_unique_index_to_be_gone_are_refused_before_the_start(
    pg_dsn: str, db: asyncpg.Connection, index: str, sql: str, is_refused: bool
) -> None:
    await db.execute(ONE_ROW)
    reason = "uploads.*: unique index one_row may refuse the rows until contract, where the migration drops it"
    is_refused = is_refused and index == "one_row"
    plan = plan_of(pg_dsn, f"DROP INDEX {index}", {"sql": sql, "undo": []})
    with pytest.raises(PlanError, match=reason) if is_refused else nullcontext():
        await check_operation_rows(db, plan)
    for phase in ("expand", "contract"):
        await check_operation_rows(db, plan_of(pg_dsn, f"DROP INDEX {index}", {"sql": sql, "undo": [], "phase": phase}))


async def test_rows_run_after_the_drop_of_a_unique_index_and_after_the_key_that_they_name(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(f"{ONE_ROW}; ALTER TABLE uploads ADD code text")
    insert = "INSERT INTO uploads (at, code) VALUES (now(), 'a')"
    plan = plan_of(
        pg_dsn,
        {"sql": "UPDATE uploads SET at = now()", "undo": []},
        "DROP INDEX one_row; ALTER TABLE uploads ADD CONSTRAINT by_code UNIQUE (code)",
        {"sql": insert, "undo": "DELETE FROM uploads WHERE code = 'a'", "phase": "contract"},
        {"sql": f"{insert} ON CONFLICT (code) DO NOTHING", "undo": []},
        {"sql": f"{insert} ON CONFLICT ON CONSTRAINT by_code DO UPDATE SET n = 7", "undo": []},
        {"sql": f"{insert} ON CONFLICT (code) DO NOTHING; {insert} ON CONFLICT DO NOTHING", "undo": []},
    )
    await check_operation_rows(db, plan)
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetchval("SELECT count(*) FROM uploads") == 1
        await run_phases(ctx, plan, [Phase.CONTRACT])
    assert await db.fetch("SELECT n, code FROM uploads ORDER BY n") == [(1, None), (7, "a")]


def test_rows_that_a_view_of_the_migration_reads_are_filled_before_they_are_copied() -> None:
    fill = {"sql": "UPDATE notes SET n = 2 WHERE n IS NULL", "undo": []}
    view = "CREATE VIEW v AS SELECT n FROM notes; CREATE VIEW w AS SELECT n FROM v"
    copy = {"sql": "INSERT INTO unused SELECT n FROM w", "undo": []}
    *_, last = plan_operations(plan_of("postgresql://x", fill, view, copy))
    assert [step.phase for step in last.steps] == [Phase.BACKFILL]
    *_, last = plan_operations(plan_of("postgresql://x", fill, view, copy | {"sql": "INSERT INTO unused SELECT 1"}))
    assert [step.phase for step in last.steps] == [Phase.EXPAND]


async def test_a_composite_key_with_a_null_refers_to_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        SCHEMA + "CREATE TABLE p2 (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE c2 (a int, b int);"
        "INSERT INTO c2 VALUES (1, NULL)"
    )
    async with open_context(plan_of(pg_dsn, "ALTER TABLE c2 ADD FOREIGN KEY (a, b) REFERENCES p2")) as ctx:
        await CheckRows().run(ctx, handle(0))


async def test_the_undo_of_a_step_that_has_not_committed_drops_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    plan = plan_of(pg_dsn, "CREATE TABLE teams (id int)")
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match="already exists"):
            await RunOperation().run(ctx, step := handle(0))
        await RunOperation().undo(ctx, step)
    assert await db.fetchval("SELECT to_regclass('teams') IS NOT NULL")


REQUIRED = "ALTER TABLE notes ALTER n SET NOT NULL; ALTER TABLE notes DROP CONSTRAINT n_pos"


async def test_a_rollback_fills_a_removed_not_null_column_with_down(
    pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA + REQUIRED)
    before = dump(pg, pg_dsn)
    plan = plan_of(pg_dsn, {"sql": "ALTER TABLE notes DROP COLUMN n", "down": {"n": "length(body)"}})
    assert not any("once V2 has written rows" in line for line in await check_operation_rows(db, plan))
    async with open_context(plan) as ctx:
        steps = await run_phases(ctx, plan, [Phase.EXPAND, Phase.CONTRACT])
        await db.execute("INSERT INTO notes (body) SELECT repeat('x', i) FROM generate_series(1, 6000) i")
        for each in reversed(steps):
            await RunOperation().undo(ctx, each)
    assert dump(pg, pg_dsn) == before
    assert await db.fetchval("SELECT count(*) FROM notes WHERE n = length(body)") >= 6000


async def test_without_down_a_rollback_says_which_rows_have_no_value(
    pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA + REQUIRED)
    before = dump(pg, pg_dsn)
    plan = plan_of(pg_dsn, "ALTER TABLE notes DROP COLUMN n")
    assert any("once V2 has written rows" in line for line in await check_operation_rows(db, plan))
    async with open_context(plan) as ctx:
        relax, archive = [
            each
            for each in await run_phases(ctx, plan, [Phase.EXPAND, Phase.CONTRACT])
            if each.detail.get("is_needed", True)
        ]
        await db.execute("INSERT INTO notes (body) VALUES ('no value')")
        await RunOperation().undo(ctx, archive)
        with pytest.raises(
            StepFailed, match=r"notes\.n was NOT NULL, and rows that the new version wrote have no value"
        ):
            await RunOperation().undo(ctx, relax)
        await db.execute("UPDATE notes SET n = 1 WHERE n IS NULL")
        await RunOperation().undo(ctx, relax)
    assert dump(pg, pg_dsn) == before


async def test_a_column_that_is_dropped_and_added_again_gets_what_is_written_meanwhile(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "CREATE TYPE kind AS ENUM ('web', 'app'); CREATE TABLE surveys (id int PRIMARY KEY, kind text NOT NULL, n int);"
        "INSERT INTO surveys VALUES (1, 'app'), (2, 'app'), (3, 'app')"
    )
    plan = plan_of(pg_dsn, "ALTER TABLE surveys DROP kind, ADD kind kind NOT NULL DEFAULT 'web'")

    async def kinds() -> dict[int, str]:
        return dict(await db.fetch("SELECT id, kind::text FROM surveys"))

    async with open_context(plan) as ctx:
        expand = await run_phases(ctx, plan, [Phase.EXPAND])
        await db.execute("UPDATE surveys SET kind = 'other' WHERE id = 1; UPDATE surveys SET n = 1 WHERE id = 2")
        await db.execute(
            "INSERT INTO surveys VALUES (4, 'app'), (5, 'other'); UPDATE surveys SET kind = 'web' WHERE id = 4"
        )
        await db.execute("UPDATE surveys SET kind = 'app' WHERE id = 4")
        assert await kinds() == {1: "other", 2: "app", 3: "app", 4: "app", 5: "other"}, "the old column"
        contract = await run_phases(ctx, plan, [Phase.CONTRACT])
        assert await kinds() == {1: "web", 2: "web", 3: "web", 4: "app", 5: "web"}, (
            "nothing of before, as far as it fits"
        )
        await db.execute("INSERT INTO surveys (id, kind) VALUES (6, 'app'); INSERT INTO surveys (id) VALUES (7)")
        await db.execute("UPDATE surveys SET kind = 'app' WHERE id = 1; UPDATE surveys SET n = 2 WHERE id = 2")
        for each in reversed([*expand, *contract]):
            await RunOperation().undo(ctx, each)
    assert await kinds() == {1: "app", 2: "app", 3: "app", 4: "app", 5: "other", 6: "app", 7: "web"}
    with pytest.raises(asyncpg.NotNullViolationError):
        await db.execute("INSERT INTO surveys (id) VALUES (8)")


async def test_a_new_partition_that_holds_rows_stays(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE par (id int) PARTITION BY RANGE (id)")
    plan = plan_of(pg_dsn, "CREATE TABLE par1 PARTITION OF par FOR VALUES FROM (0) TO (9)")
    async with open_context(plan) as ctx:
        (step,) = await run_phases(ctx, plan, [Phase.EXPAND])
        await db.execute("INSERT INTO par VALUES (1)")
        await RunOperation().undo(ctx, step)
    assert await db.fetchval("SELECT count(*) FROM par") == 1


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ("VIEW v AS SELECT p.id FROM (SELECT * FROM pages JOIN pages o USING (id)) AS p", r"\* shows every column"),
        ("VIEW v AS SELECT row_to_json(ROW(p.*)) FROM pages AS p", r"\* shows every column"),
        ("VIEW v AS SELECT * FROM pages AS p (a)", r"\* shows every column"),
        ("MATERIALIZED VIEW v AS SELECT title FROM pages", "would be computed again"),
        ("VIEW w AS SELECT * FROM pages; CREATE MATERIALIZED VIEW v AS SELECT id FROM w", "would be computed again"),
    ],
)
def test_a_view_that_cannot_change_with_a_type_is_refused(view: str, reason: str) -> None:
    change = "ALTER TABLE pages ALTER title TYPE jsonb USING title::jsonb"
    with pytest.raises(PlanError, match=reason):
        plan_operations(plan_of("postgresql://localhost/x", change, f"CREATE {view}"))
    if "shows" in reason:
        with pytest.raises(PlanError, match=reason):
            plan_operations(plan_of("postgresql://localhost/x", "ALTER TABLE pages DROP title", f"CREATE {view}"))
    others = "CREATE VIEW v AS SELECT count(*) FROM pages; CREATE MATERIALIZED VIEW w AS SELECT * FROM v"
    assert plan_operations(plan_of("postgresql://localhost/x", change, others))


REFUSED_BEFORE_THE_START = {
    "ALTER TABLE pages ALTER title TYPE text": "column title of pages is used by view titles",
    "DROP VIEW titles; ALTER TABLE pages ALTER title TYPE varchar(5)": "is used by materialized view stored",
    "DROP VIEW base CASCADE; CREATE VIEW base AS SELECT 1 AS one; CREATE VIEW titles AS SELECT 1 AS one": "titles: it"
    " exists already, and nothing that the migration drops by CASCADE has it",
    "DROP FUNCTION longer(int, int); CREATE FUNCTION longer(a int) RETURNS int LANGUAGE sql RETURN 1": "calls would fit"
    " public.longer\\(int, int\\), which goes in contract, and the new public.longer\\(int\\)",
    "DROP FUNCTION missing; CREATE FUNCTION missing() RETURNS int LANGUAGE sql RETURN 1": "missing does not exist",
}


@pytest.mark.parametrize("migration", REFUSED_BEFORE_THE_START)
async def test_what_would_stop_in_the_middle_is_refused_before_the_start(
    pg_dsn: str, db: asyncpg.Connection, migration: str
) -> None:
    await db.execute(
        "CREATE TABLE pages (id int PRIMARY KEY, title varchar(20)); CREATE VIEW titles AS SELECT title FROM pages;"
        "CREATE MATERIALIZED VIEW stored AS SELECT title FROM titles; CREATE VIEW base AS SELECT id FROM pages;"
        "CREATE FUNCTION longer(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql RETURN 1"
    )
    with pytest.raises(StepFailed, match=REFUSED_BEFORE_THE_START[migration]):
        async with open_context(plan_of(pg_dsn, migration)) as ctx:
            await CheckRows().run(ctx, handle(0))


async def test_a_function_that_is_dropped_by_cascade_takes_the_triggers_that_execute_it(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE a (id int)")
    for name in ("f", "g", "h", "unused"):
        await db.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
            f"CREATE TRIGGER a_{name} BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    await db.execute("DROP TRIGGER a_unused ON a")
    plan = plan_of(pg_dsn, "DROP FUNCTION f, g CASCADE; DROP FUNCTION unused")
    notes = [line for line in await check_operation_rows(db, plan) if line.startswith("note: drop")]
    assert notes == [f"note: drop function {each} CASCADE drops, too: trigger a_{each} on a" for each in ("f", "g")]
    assert await check_operation_locks(plan, lock_measurement())
    with pytest.raises(PlanError, match="drop function f: trigger a_f on table a would be dropped with it"):
        await check_operation_rows(db, plan_of(pg_dsn, "DROP FUNCTION f"))
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        await run_phases(ctx, plan, [Phase.CONTRACT])
        await db.execute("INSERT INTO a VALUES (1)")  # no trigger executes an archived function
        await run_phases(ctx, plan, [Phase.CLEANUP])
    assert [row[0] for row in await db.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = 'a'::regclass")] == ["a_h"]


async def test_a_trigger_that_has_been_archived_does_not_keep_its_function_nor_does_one_of_the_new_function(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA)
    plan = plan_of(
        pg_dsn,
        "DROP TRIGGER notes_touch ON notes; CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE TRIGGER notes_touch BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION other();"
        "DROP FUNCTION touch();"
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
        "CREATE TRIGGER again BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        assert await find_dependents(db, plan_operations(plan), lambda _: True) == []


async def test_a_view_that_has_been_archived_does_not_keep_a_dropped_column(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE pages (id int, title text); CREATE VIEW titles AS SELECT title FROM pages")
    plan = plan_of(pg_dsn, "DROP VIEW titles; ALTER TABLE pages DROP title; CREATE VIEW titles AS SELECT '' AS title")
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        assert await find_dependents(db, plan_operations(plan), lambda _: True) == []
        await db.execute("CREATE VIEW another AS SELECT title FROM pages")
        (found,) = await find_dependents(db, plan_operations(plan), lambda _: True)
        assert "another" in found


LOSSES = {
    "DROP VIEW v; CREATE VIEW v AS SELECT id FROM pages": "title, n",
    "DROP VIEW v; CREATE OR REPLACE VIEW v AS SELECT id, title, n AS m FROM pages": "n",
    "DROP VIEW v; CREATE VIEW v AS SELECT n::bigint, title, id FROM pages": "n",
    "DROP VIEW IF EXISTS v; CREATE MATERIALIZED VIEW v AS SELECT id, n FROM pages": "title",
    "DROP MATERIALIZED VIEW m; CREATE MATERIALIZED VIEW m AS SELECT title AS t FROM pages": "title",
}


@pytest.mark.parametrize("migration", LOSSES)
async def test_a_view_that_loses_what_the_old_version_reads_is_refused(
    pg_dsn: str, db: asyncpg.Connection, migration: str
) -> None:
    await db.execute(
        "CREATE TABLE pages (id int, title text, n int); CREATE VIEW v AS SELECT id, title, n FROM pages;"
        "CREATE MATERIALIZED VIEW m AS SELECT title FROM pages"
    )
    plan, lost = plan_of(pg_dsn, migration), f"lacks columns .*: {LOSSES[migration]}; keep them"
    await check_operation_rows(db, plan)
    with pytest.raises(PlanError, match=lost):
        await check_operation_locks(plan, lock_measurement())
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=lost):
            await run_phases(ctx, plan, [Phase.EXPAND])
    await db.fetch("SELECT id, title, n FROM v")
    await db.fetch("SELECT title FROM m")


CALLED = """
CREATE TYPE pair AS (a int, b text);
CREATE FUNCTION f(n int, m int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT n';
CREATE FUNCTION listed(n int) RETURNS TABLE (a int, b text) LANGUAGE sql AS $$SELECT 1, 'x'$$;
CREATE FUNCTION paired() RETURNS pair LANGUAGE sql AS $$SELECT row(1, 'x')::pair$$;
CREATE PROCEDURE p(n int, INOUT o int) LANGUAGE sql AS 'SELECT 1'
"""
CALLS = {
    "f(n int, m int DEFAULT 1) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$": "it returns text, no longer integer",
    "f(n int, m int DEFAULT 1) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1'": "it returns SETOF integer, no longer",
    "f(n int, m int) RETURNS int LANGUAGE sql AS 'SELECT 1'": "an argument has no default any more",
    "f(n int, k int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'": "its argument m has another name",
    "listed(n int) RETURNS TABLE (b text, c text) LANGUAGE sql AS $$SELECT 'x', 'y'$$": "its column a is gone, or has",
    "listed(n int) RETURNS TABLE (a int, b int) LANGUAGE sql AS 'SELECT 1, 2'": "its column b is gone, or has",
    "p(n int, INOUT o int) LANGUAGE sql AS 'SELECT 1'": "it is a function instead of a procedure, or the reverse",
    # These are called as before.
    "f(n int, m int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 2'": "",
    "listed(n int) RETURNS TABLE (c int, a int, b varchar) LANGUAGE sql AS $$SELECT 1, 2, 'x'::varchar$$": "",
    "paired() RETURNS pair LANGUAGE sql AS $$SELECT row(1, 'x', 2)::pair$$": "",
}


@pytest.mark.parametrize("is_named_alone", [False, True])
@pytest.mark.parametrize("function", CALLS)
async def test_a_function_that_the_old_version_calls_keeps_its_arguments_and_its_result(
    pg_dsn: str, db: asyncpg.Connection, function: str, *, is_named_alone: bool
) -> None:
    await db.execute(CALLED)
    name, reason = function.partition("(")[0], CALLS[function]
    arguments = {"f": "(int, int)", "listed": "(int)", "paired": "()", "p": "(int, int)"}[name]
    drop = f"DROP ROUTINE {name}{'' if is_named_alone else arguments}"
    changed = "DROP TYPE pair; CREATE TYPE pair AS (a int, b text, c int);" if name == "paired" else ""
    plan = plan_of(pg_dsn, f"{drop}; {changed} CREATE FUNCTION {function}")
    refused = f"running code may call .*, and the new one differs: {reason}"
    with pytest.raises(PlanError, match=refused) if reason else nullcontext():
        await check_operation_locks(plan, lock_measurement())
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=refused) if reason else nullcontext():
            await run_phases(ctx, plan, [Phase.EXPAND])
    await db.fetch("SELECT f(1), (listed(1)).a, (paired()).b")


async def test_both_versions_call_a_function_that_returns_another_type_in_contract(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(CALLED)
    drop = {"sql": "DROP FUNCTION f(int, int)", "phase": "contract"}
    create = {"sql": "CREATE FUNCTION f(n int, m int) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$", "phase": "contract"}
    plan = plan_of(pg_dsn, drop, create)
    assert await check_operation_locks(plan, lock_measurement())
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        assert await db.fetchval("SELECT f(1)") == 1
        contract = await run_phases(ctx, plan, [Phase.CONTRACT])
        assert await db.fetchval("SELECT f(1, 2)") == "x"
        for each in reversed(contract):
            await RunOperation().undo(ctx, each)
        assert await db.fetchval("SELECT f(1)") == 1
        await run_phases(ctx, plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname ~ '^zdd_old'") == 0


async def test_both_versions_read_a_view_that_loses_columns_in_contract(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE pages (id int, legacy int); INSERT INTO pages VALUES (1, 2);")
    await db.execute("CREATE VIEW v AS SELECT * FROM pages")
    plan = plan_of(
        pg_dsn,
        {"sql": "DROP VIEW v", "phase": "contract"},
        "ALTER TABLE pages DROP legacy",
        {"sql": "CREATE VIEW v AS SELECT * FROM pages", "phase": "contract"},
    )
    assert await check_operation_locks(plan, lock_measurement())
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        await run_phases(ctx, plan, [Phase.EXPAND])
        assert await db.fetchval("SELECT legacy FROM v") == 2, "the old version runs until contract"
        contract = [handle(number) for number, _ in numbered_steps(plan, Phase.CONTRACT)]
        for each in contract:
            await RunOperation().run(ctx, each)
            assert await db.fetchval("SELECT id FROM v") == 1
        for each in reversed(contract):
            await RunOperation().undo(ctx, each)
            assert await db.fetchval("SELECT id FROM v") == 1
        assert await db.fetchval("SELECT legacy FROM v") == 2


def test_the_statements_of_a_view_that_waits_for_contract_are_an_operation_of_their_own() -> None:
    mixed = {"sql": "DROP VIEW v; ALTER TABLE pages DROP n; CREATE VIEW v AS SELECT 1 AS id", "phase": "contract"}
    with pytest.raises(PlanError, match="only statements of views and functions") as refused:
        plan_operations(plan_of("postgresql://localhost/x", mixed))
    assert "operation of its own" in refused.value.hint


def test_a_view_of_contract_cannot_read_a_column_that_changes_there() -> None:
    view = {"sql": "CREATE VIEW v AS SELECT title FROM pages", "phase": "contract"}
    with pytest.raises(PlanError, match="is created there, too"):
        plan_operations(plan_of("postgresql://localhost/x", "ALTER TABLE pages ALTER title TYPE int", view))
    with pytest.raises(PlanError, match="waits for contract, where a column"):
        plan_operations(plan_of("postgresql://localhost/x", "ALTER TABLE pages RENAME t TO title", view))


async def test_every_column_of_a_view_keeps_its_place_while_types_change(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE pages (id int, title text, n int); INSERT INTO pages VALUES (1, '2', 3)")
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE pages ALTER title TYPE int USING title::int; CREATE VIEW v AS SELECT pages.*, 4 AS m FROM pages",
    )
    shown = []
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        shown.append(await db.fetchrow("SELECT * FROM v"))
        contract = await run_phases(ctx, plan, [Phase.CONTRACT])
        shown.append(await db.fetchrow("SELECT * FROM v"))
        for each in reversed(contract):
            await RunOperation().undo(ctx, each)
        shown.append(await db.fetchrow("SELECT * FROM v"))
    assert [list(row.items()) for row in shown if row] == [
        [("id", 1), ("title", title), ("n", 3), ("m", 4)] for title in ("2", 2, "2")
    ]


def test_indexes_that_are_built_and_dropped_again_are_no_longer_expected() -> None:
    plan = plan_of(
        "postgresql://localhost/x",
        "ALTER TABLE a ADD CONSTRAINT gone UNIQUE (n), ADD CONSTRAINT kept UNIQUE (m); CREATE INDEX i ON a (n)",
        "ALTER TABLE a DROP CONSTRAINT gone; DROP INDEX i; DROP INDEX other; CREATE INDEX other ON a (m)",
    )
    assert dropped_indexes(plan) == {"gone", "i"}


async def test_a_materialized_view_can_be_refreshed_while_it_is_replaced(pg_dsn: str, db: asyncpg.Connection) -> None:
    """As by triggers of running code: every step leaves one with a unique index, and is undone likewise."""
    await db.execute(
        "CREATE TABLE pages (id int PRIMARY KEY); INSERT INTO pages VALUES (1);"
        "CREATE MATERIALIZED VIEW stored AS SELECT id FROM pages; CREATE UNIQUE INDEX stored_id ON stored (id)"
    )
    plan = plan_of(
        pg_dsn,
        "DROP MATERIALIZED VIEW stored; CREATE MATERIALIZED VIEW stored AS SELECT id, 2 AS n FROM pages",
        "CREATE UNIQUE INDEX stored_id ON stored (id)",
    )

    async def refresh() -> None:
        await db.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY stored")
        assert await db.fetchval("SELECT id FROM stored") == 1

    async with open_context(plan) as ctx:
        handles = [handle(number) for number, _ in numbered_steps(plan, Phase.EXPAND)]
        for each in handles:
            await RunOperation().run(ctx, each)
            await refresh()
        assert await db.fetchval("SELECT n FROM stored") == 2
        for each in reversed(handles):
            await RunOperation().undo(ctx, each)
            await refresh()


@pytest.mark.parametrize("before", ["DROP TABLE children", "ALTER TABLE children DROP CONSTRAINT c"])
async def test_a_truncated_table_is_referenced_until_cleanup(pg_dsn: str, db: asyncpg.Connection, before: str) -> None:
    await db.execute(
        "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int CONSTRAINT c REFERENCES parents)"
    )
    reason = "TRUNCATE of parents: children references it"
    async with open_context(plan_of(pg_dsn, before, {"sql": "TRUNCATE parents", "undo": []})) as ctx:
        with pytest.raises(StepFailed, match=reason) if before.startswith("DROP") else nullcontext():
            await CheckRows().run(ctx, handle(0))


async def test_truncate_cascade_names_what_it_empties_and_keeps_the_rows_of_a_table_that_is_dropped(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int PRIMARY KEY REFERENCES parents);"
        "CREATE TABLE toys (child int REFERENCES children); CREATE TABLE pets (parent int);"
        "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1); INSERT INTO toys VALUES (1)"
    )
    truncate = {"sql": "TRUNCATE parents CASCADE", "undo": []}
    for before, reason in {
        "DROP TABLE toys": "CASCADE empties toys, which the migration drops before",
        "ALTER TABLE pets ADD FOREIGN KEY (parent) REFERENCES parents": "a foreign key to parents comes in contract",
    }.items():
        async with open_context(plan_of(pg_dsn, before, truncate, name=f"first-{len(before)}")) as ctx:
            with pytest.raises(StepFailed, match=reason):
                await CheckRows().run(ctx, handle(0))
    plan = plan_of(pg_dsn, truncate)
    note = "note: TRUNCATE of parents CASCADE empties, too: children, toys"
    assert note in await check_operation_rows(db, plan)
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        await run_phases(ctx, plan, list(Phase))
    assert await db.fetchval("SELECT count(*) FROM toys") == 0


async def test_both_versions_write_a_column_until_it_gets_its_domain_and_a_rollback_keeps_every_value(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "CREATE DOMAIN short AS text CHECK (length(value) < 5); CREATE DOMAIN filled AS text CHECK (value <> '');"
        "CREATE TABLE terms (id int PRIMARY KEY, term short); INSERT INTO terms VALUES (1, 'a')"
    )
    plan = plan_of(pg_dsn, "ALTER TABLE terms ALTER term TYPE filled")
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        early = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        await db.execute("INSERT INTO terms VALUES (2, 'old'), (3, '')")  # as the older version may write it
        with pytest.raises(StepFailed, match="violates check constraint"):
            await run_phases(ctx, plan, [Phase.CONTRACT])
        await db.execute("DELETE FROM terms WHERE id = 3")
        late = await run_phases(ctx, plan, [Phase.CONTRACT])
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute("INSERT INTO terms VALUES (4, '')")
        await db.execute("INSERT INTO terms VALUES (5, 'longer')")
        with pytest.raises(StepFailed, match="short_check"):
            await RunOperation().undo(ctx, late[-1])
        await db.execute("UPDATE terms SET term = 'long' WHERE id = 5")
        for each in reversed([*early, *late]):
            await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT string_agg(term, ',' ORDER BY id) FROM terms") == "a,old,long"
    assert await db.fetchval("SELECT pg_typeof(term)::text FROM terms LIMIT 1") == "short"


async def test_a_table_that_has_grown_is_not_rewritten(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE DOMAIN filled AS text NOT NULL; CREATE TABLE terms (term text)")
    plan = plan_of(pg_dsn, "ALTER TABLE terms ALTER term TYPE filled")
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        await db.execute("INSERT INTO terms SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        with pytest.raises(StepFailed, match=r"terms: too large to be tested under a lock: [0-9.]+ [kM]B"):
            await run_phases(ctx, plan, list(Phase))
