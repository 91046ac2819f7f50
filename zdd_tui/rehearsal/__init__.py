"""A release on a copy of production's schema, before production: durations, locks, and whether rollback restores all.

run            the whole rehearsal
dependencies   which objects belong to the tables of a plan
pg_dump        copies their definitions and, on request, their rows
table_stats    sizes and distributions, from the statistics; never values
value_sql      SQL that makes up a value from its number
generator      which number each column of a row is made from
populate       makes the rows
copy           all of these: the copy of production
statements     what V1, V2 and V3 write, as SQL
workload       runs these statements all the time
expected_rows  what every row must hold, and what does not
step_metrics   locks, waits, WAL and time of each step
fake_cluster   a Deployment without pods
scenario       the real engine's steps, forward, and back from every phase
report         the verdict, and what it means for the full size
"""
