-- Regions: a plan may go through several, one after the other; each has its release in its own database.

ALTER TABLE zdd.release ADD COLUMN region text NOT NULL DEFAULT '';
COMMENT ON COLUMN zdd.release.region IS 'of a plan with several regions: which one this release is for; else empty';
CREATE INDEX release_plan ON zdd.release (plan_hash, id);
COMMENT ON INDEX zdd.release_plan IS 'later regions ask for the release of their plan here';
