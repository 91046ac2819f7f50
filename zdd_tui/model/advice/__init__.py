"""The adviser: what a change is (migration, manifest, live tables), and which strategy it asks for. Pure.

:mod:`.rules` is the table of strategies, :mod:`.locks` the table of PostgreSQL's locks.
"""
