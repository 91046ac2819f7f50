"""The sample application: a ``users`` service in three versions, chosen by the tag of its image.

| version | reads | writes |
|---|---|---|
| 1 | old | old |
| 2 | the side that the read flag says | both sides behind the write flag, or old alone beside a trigger |
| 3 | new | new |

Two kinds of release: ``column`` (``users.full_name`` beside first and last name) and ``table`` (``people`` beside
``users``). Start reading in :mod:`zdd_tui.demo.sample.app`; each version's SQL is in its own module.
"""
