-- An operator may stop a session that is in the way: through one function, which writes the audit. It has the rights of
-- the agent's role (pg_signal_backend, see config/postgres/roles.sql).

-- It may exist: config/postgres/roles.sql creates an empty one, to grant it before the first migration.
CREATE OR REPLACE FUNCTION zdd.stop_session(
    for_release bigint, session integer, started text, terminate boolean, reason text, actor text, host text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target record;
BEGIN
    IF octet_length(reason) > 16384 OR octet_length(actor) > 256 OR octet_length(host) > 256 THEN
        RAISE EXCEPTION 'reason (16 kB), actor or host (256 bytes) is too long' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A pid is used again; with the start of the session it is unique.
    SELECT a.usename, a.application_name, coalesce(host(a.client_addr), 'local') AS address INTO target
    FROM pg_stat_activity a
    WHERE a.pid = session AND a.datname = current_database() AND a.backend_start = started::timestamptz;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'session % has ended', session USING ERRCODE = 'no_data_found';
    END IF;
    IF target.application_name LIKE 'zdd agent %' THEN
        RAISE EXCEPTION 'session % belongs to an agent of zdd', session USING ERRCODE = 'object_in_use';
    END IF;
    INSERT INTO zdd.event (release_id, actor, host, role, kind, message, reason)
    VALUES (
        for_release,
        CASE WHEN actor IN ('guard', 'agent') THEN 'user ' ELSE '' END || coalesce(nullif(actor, ''), session_user),
        coalesce(host, ''), session_user, 'session',
        format(
            '%s pid %s (%s as %s, %s)',
            CASE WHEN terminate THEN 'terminated session' ELSE 'cancelled the statement of' END,
            session, coalesce(nullif(target.application_name, ''), 'no application_name'), target.usename, target.address
        ),
        coalesce(reason, '')
    );
    RETURN CASE WHEN terminate THEN pg_terminate_backend(session) ELSE pg_cancel_backend(session) END;
END $$;
COMMENT ON FUNCTION zdd.stop_session IS 'cancels a statement or terminates a session of this database; audited';
REVOKE ALL ON FUNCTION zdd.stop_session FROM PUBLIC;

-- Whoever may send commands may stop sessions, also where roles.sql was run before this function existed.
DO $$
DECLARE
    grantee regrole;
BEGIN
    FOR grantee IN
        SELECT a.grantee::regrole FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = 'zdd.send_command(bigint, text, jsonb, text, text, text)'::regprocedure
          AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION zdd.stop_session TO %s', grantee);
    END LOOP;
END $$;
