"""The sample application: a ``users`` service in several versions, chosen by the tag of its image.

| version | reads | writes |
|---|---|---|
| 1 | old | old |
| 2 | the side that the read flag says | both sides behind the write flag, or old alone beside a trigger |
| 3 | new | new |
| 4 | old, and beside it a query that puts the name together in the database: a dark launch | old |
| 5 | as 4, but that query has a mistake | old |

Two kinds of release: ``column`` (``users.full_name`` beside first and last name) and ``table`` (``people`` beside
``users``). Start reading in :mod:`zdd_tui.demo.sample.app`; each version's SQL is in its own module.
"""
