-- Rehearsals: what came of walking a plan forward and back on a copy of this database's schema.

CREATE TABLE zdd.rehearsal (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_hash text NOT NULL,
    name      text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    verdict   text NOT NULL CHECK (verdict IN ('passed', 'failed')),
    scale     double precision NOT NULL CHECK (scale > 0),
    report    jsonb NOT NULL,
    actor     text NOT NULL,
    host      text NOT NULL
);
CREATE INDEX rehearsal_plan ON zdd.rehearsal (plan_hash, at DESC);
COMMENT ON TABLE zdd.rehearsal IS 'a production plan does not start without a fresh one of the very same plan that passed';
COMMENT ON COLUMN zdd.rehearsal.name IS 'of the plan';
COMMENT ON COLUMN zdd.rehearsal.scale IS 'share of production''s rows that it ran with';
