"""Recordings of a dashboard: what the board said, and when.

A recording is JSON lines, compressed where its name ends in ``.gz``. The first line is a header; each other one has the
seconds since the start (``t``) and either all parts of the board (``all``) or what has changed of them (``d``, see
:mod:`.delta`). A last line that was cut off by a crash is left out.
"""
