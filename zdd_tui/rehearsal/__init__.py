"""A release on a copy of production's schema, before production: durations, locks, and whether rollback restores all.

closure    which objects belong to the tables of a plan
transfer   copies their definitions and, on request, their rows
shape      sizes and distributions, from the statistics; never values
values     SQL that makes up a row from its number
fill       makes the rows
writers    V1, V2 and V3 as SQL, at work all the time
ledger     what every row must hold, and what does not
meter      locks, waits, WAL and time of each step
course     the real engine steps, forward, and back from every phase
report     the verdict, and what it means for the full size
"""
