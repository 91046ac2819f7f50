-- A command is stored once, however often its sender retries, and not after its sender has given it up.

CREATE UNIQUE INDEX command_request ON zdd.command (release_id, (args ->> 'request_id')) WHERE args ? 'request_id';
COMMENT ON COLUMN zdd.command.args IS 'expected (what was seen when confirming), confirmed_at, typed, targets (frozen'
    ' list), request_id (the same in every retry of the sender)';

-- As before, and: the same request_id again returns the row that is there; after `valid_until` (seconds since the epoch,
-- by this server's clock) nothing is stored. So a statement that waited in a frozen server has no late effect.
CREATE OR REPLACE FUNCTION zdd.send_command(
    for_release bigint, kind text, args jsonb, reason text, actor text, host text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    sent bigint;
    wanted_id text := send_command.args ->> 'request_id';
BEGIN
    IF send_command.kind IS NULL OR send_command.kind !~ '^[a-z][a-z-]{0,39}$' THEN
        RAISE EXCEPTION 'the kind of a command is a short word' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF send_command.args IS NULL OR jsonb_typeof(send_command.args) <> 'object'
        OR octet_length(send_command.args::text) > 262144 THEN
        RAISE EXCEPTION 'the arguments of a command are a JSON object of at most 256 kB'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(send_command.reason) > 16384 OR octet_length(send_command.actor) > 256
        OR octet_length(send_command.host) > 256 OR octet_length(wanted_id) > 64 THEN
        RAISE EXCEPTION 'reason (16 kB), actor or host (256 bytes) or request_id (64 bytes) of the command is too long'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO zdd.command (release_id, kind, args, reason, actor, host)
    VALUES (
        for_release, send_command.kind, send_command.args - 'valid_until', coalesce(send_command.reason, ''),
        -- These two names are the program's own: a unique index allows the guard one rollback of a release.
        CASE WHEN send_command.actor IN ('guard', 'agent') THEN 'user ' ELSE '' END
            || coalesce(nullif(send_command.actor, ''), session_user),
        coalesce(send_command.host, '')
    )
    ON CONFLICT (release_id, (args ->> 'request_id')) WHERE args ? 'request_id' DO NOTHING
    RETURNING id INTO sent;
    IF sent IS NULL THEN
        SELECT id INTO STRICT sent FROM zdd.command
        WHERE release_id = for_release AND args ? 'request_id' AND args ->> 'request_id' = wanted_id;
    END IF;
    -- At the end, because the insert may have waited for a lock.
    IF (send_command.args ->> 'valid_until')::float8 < extract(epoch FROM clock_timestamp()) THEN
        RAISE EXCEPTION 'it arrived after its sender had given it up' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN sent;
END $$;
