"""Backfill: how far it is, how fast, how long yet, and how large the next batch is. Pure; time comes in."""
