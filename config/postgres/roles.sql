-- Database roles of least privilege for zdd. Run it with psql as a superuser, once for each database, before the first
-- `zdd check`; running it again is harmless:
--
--   psql -v owner=shop_owner -v schema=public -f roles.sql "$ADMIN_DATABASE_URL"
--
--   owner     owns the tables that releases change
--   schema    of these tables (default: public)
--   agent     role of `zdd agent`, `zdd rehearse` and `zdd doctor --answer` (default: zdd_agent)
--   operator  group of those who send commands (default: zdd_operator)
--   viewer    group of those who only look (default: zdd_viewer)
--
-- Then give the agent a password (\password zdd_agent) and each person a role of their own, which the audit shows:
--
--   CREATE ROLE ana LOGIN IN ROLE zdd_operator;
--
-- Only the owner of a table may alter it, and PostgreSQL has no smaller right for that: the agent's role is a member of
-- `owner`. It is no superuser, bypasses no row security and creates no roles. Tables that a release creates belong to
-- `owner` too.

\set ON_ERROR_STOP on
\if :{?owner}
\else
    \warn 'set the owner of the tables: psql -v owner=NAME -f roles.sql'
    \quit 3
\endif
\if :{?schema}
\else
    \set schema public
\endif
\if :{?agent}
\else
    \set agent zdd_agent
\endif
\if :{?operator}
\else
    \set operator zdd_operator
\endif
\if :{?viewer}
\else
    \set viewer zdd_viewer
\endif

BEGIN;

SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', :'agent')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'agent') \gexec
SELECT format('CREATE ROLE %I NOLOGIN', name) FROM unnest(ARRAY[:'operator', :'viewer']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- The agent: owner of the schema zdd; with the owner's rights on the tables; it sees who holds a lock or an old snapshot.
GRANT :"owner" TO :"agent";
GRANT pg_read_all_stats TO :"agent";
-- It stops the sessions that an operator has chosen (zdd.stop_session). No right over sessions of superusers.
GRANT pg_signal_backend TO :"agent";
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"agent";
-- The owner creates the tables of a release.
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"owner";
-- CREATE is for the schema zdd_archive, where the old table is kept between contract and cleanup; TEMPORARY for the
-- copies on which `zdd check` tries the plan's DDL.
SELECT format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO %I', current_database(), :'agent') \gexec
-- What the agent creates is for its own use: functions get no EXECUTE for PUBLIC.
ALTER DEFAULT PRIVILEGES FOR ROLE :"agent" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The schema zdd, also one that another role has created before.
SELECT format('CREATE SCHEMA zdd AUTHORIZATION %I', :'agent')
WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'zdd') \gexec
SELECT format('ALTER SCHEMA zdd OWNER TO %I', :'agent') \gexec
SELECT format('ALTER %s %s OWNER TO %I', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass, :'agent')
FROM pg_class c
WHERE relnamespace = 'zdd'::regnamespace AND relkind IN ('r', 'S') AND relowner <> :'agent'::regrole
  -- The sequence of an identity column follows its table.
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'i')
\gexec
SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, :'agent')
FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proowner <> :'agent'::regrole \gexec
REVOKE ALL ON SCHEMA zdd FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA zdd FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA zdd FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA zdd FROM PUBLIC;

-- The viewer reads. The operator reads, too, sends commands and stops sessions: by two functions and in no other way.
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'viewer') \gexec
GRANT USAGE ON SCHEMA zdd TO :"viewer";
GRANT SELECT ON ALL TABLES IN SCHEMA zdd TO :"viewer";
ALTER DEFAULT PRIVILEGES FOR ROLE :"agent" IN SCHEMA zdd GRANT SELECT ON TABLES TO :"viewer";
GRANT :"viewer" TO :"operator";
-- The operator sees who blocks a release, and with which statement.
GRANT pg_read_all_stats TO :"operator";
-- The agent's first migration replaces this body; it keeps owner and rights, so that no second run is needed.
SELECT 'CREATE FUNCTION zdd.send_command('
    'for_release bigint, kind text, args jsonb, reason text, actor text, host text) RETURNS bigint LANGUAGE plpgsql AS '
    '$body$BEGIN RAISE EXCEPTION ''no agent has created the zdd schema yet''; END$body$'
WHERE NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proname = 'send_command') \gexec
SELECT 'CREATE FUNCTION zdd.stop_session(for_release bigint, session integer, started text, terminate boolean,'
    ' reason text, actor text, host text) RETURNS boolean LANGUAGE plpgsql AS '
    '$body$BEGIN RAISE EXCEPTION ''no agent has created the zdd schema yet''; END$body$'
WHERE NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proname = 'stop_session') \gexec
SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, :'agent')
FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proname IN ('send_command', 'stop_session')
  AND proowner <> :'agent'::regrole \gexec
REVOKE ALL ON FUNCTION zdd.send_command, zdd.stop_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION zdd.send_command, zdd.stop_session TO :"operator";

COMMIT;
