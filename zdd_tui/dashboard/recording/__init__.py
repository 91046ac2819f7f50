"""Recordings of a dashboard: its states over time.

A recording is JSON lines, compressed if its name ends in ``.gz``. The first line is a header; each other line has the
seconds since the start (``t``) and either the whole state by field (``all``) or the changes since the line before
(``d``, see :mod:`.delta`), and may add points to the charts of the guard (``points``, by rule). A last line that a
crash has truncated is ignored.
"""
