"""The sample application: a ``users`` service in several versions, chosen by the tag of its image.

| version | reads | writes |
|---|---|---|
| 1 | old | old |
| 2 | old or new, by the read flag | both sides behind the write flag; only old where a trigger writes the new side |
| 3 | new | new |
| 4 | old, compared with a query that joins the name in the database: a dark launch | old |
| 5 | as 4, but that query has a bug | old |

Two kinds of release: ``column`` (``users.full_name`` beside first and last name) and ``table`` (``people`` beside
``users``). Start in :mod:`zdd_tui.demo.sample.app`; the SQL of one side is in
:mod:`zdd_tui.demo.sample.users`, that of versions 2, 4 and 5 in modules of their own.
"""
