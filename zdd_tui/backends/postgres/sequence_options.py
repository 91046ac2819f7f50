"""SQL that reads the options of a sequence."""

# Limits are options only where they are not those of the type and the direction.
SEQUENCE_OPTIONS = """array_remove(ARRAY[
    CASE WHEN q.seqstart <> CASE WHEN q.seqincrement > 0 THEN q.seqmin ELSE q.seqmax END
         THEN 'START WITH ' || q.seqstart END,
    CASE WHEN q.seqmin <> CASE WHEN q.seqincrement > 0 THEN 1 ELSE CASE q.seqtypid WHEN 'int2'::regtype THEN -32768
         WHEN 'int4'::regtype THEN -2147483648 ELSE -9223372036854775808 END END THEN 'MINVALUE ' || q.seqmin END,
    CASE WHEN q.seqmax <> CASE WHEN q.seqincrement < 0 THEN -1 ELSE CASE q.seqtypid WHEN 'int2'::regtype THEN 32767
         WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END END THEN 'MAXVALUE ' || q.seqmax END,
    CASE WHEN q.seqcache <> 1 THEN 'CACHE ' || q.seqcache END,
    CASE WHEN q.seqcycle THEN 'CYCLE' END], NULL)"""
"""An array of those that are not the defaults of the sequence's type, without INCREMENT. ``q``: row of pg_sequence."""
