"""The adviser: reads a change (migration, manifest, statistics of tables) and chooses the strategy for it.

:mod:`.rules` holds the table of strategies, :mod:`.locks` the table of PostgreSQL's locks, :mod:`.related_locks` the
tables that a statement locks beside its own, :mod:`.effects` what a statement was measured to do.
"""
