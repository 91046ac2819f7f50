-- Roles of least privilege: operators send commands through one function, which records their database role; nobody but
-- the owner of this schema, the agent's role, writes any table of it.

ALTER TABLE zdd.command ADD COLUMN role text NOT NULL DEFAULT '';
ALTER TABLE zdd.event ADD COLUMN role text NOT NULL DEFAULT '';
COMMENT ON COLUMN zdd.command.actor IS 'name that the sender gave; see role';
COMMENT ON COLUMN zdd.command.role IS 'session_user of the sender, set by the server; empty before this column existed';
COMMENT ON COLUMN zdd.event.role IS 'database role behind the actor of a command; empty for the agent''s own lines';

-- Also for a direct INSERT of the owner: the role cannot be claimed.
CREATE FUNCTION zdd.stamp_role() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.role := session_user;
    RETURN NEW;
END $$;
CREATE TRIGGER stamp_role BEFORE INSERT ON zdd.command FOR EACH ROW EXECUTE FUNCTION zdd.stamp_role();
ALTER TABLE zdd.command ENABLE ALWAYS TRIGGER stamp_role;

-- It may exist: config/postgres/roles.sql creates an empty one, to grant it before the first migration.
CREATE OR REPLACE FUNCTION zdd.send_command(
    for_release bigint, kind text, args jsonb, reason text, actor text, host text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sent bigint;
BEGIN
    IF kind IS NULL OR kind !~ '^[a-z][a-z-]{0,39}$' THEN
        RAISE EXCEPTION 'the kind of a command is a short word' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF args IS NULL OR jsonb_typeof(args) <> 'object' OR octet_length(args::text) > 262144 THEN
        RAISE EXCEPTION 'the arguments of a command are a JSON object of at most 256 kB'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(reason) > 16384 OR octet_length(actor) > 256 OR octet_length(host) > 256 THEN
        RAISE EXCEPTION 'reason (16 kB), actor or host (256 bytes) of the command is too long'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO zdd.command (release_id, kind, args, reason, actor, host)
    VALUES (
        for_release, send_command.kind, send_command.args, coalesce(send_command.reason, ''),
        -- These two names are the program's own: a unique index allows the guard one rollback of a release.
        CASE WHEN send_command.actor IN ('guard', 'agent') THEN 'user ' ELSE '' END
            || coalesce(nullif(send_command.actor, ''), session_user),
        coalesce(send_command.host, '')
    )
    RETURNING id INTO sent;
    RETURN sent;
END $$;
COMMENT ON FUNCTION zdd.send_command IS 'queues a command for the agent; the only write of operators to this schema';
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA zdd FROM PUBLIC;
