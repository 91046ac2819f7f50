"""Whole expand/contract releases under load in which somebody else interferes at random moments.

A seed decides all of it: the kind of release, what is done to it and when, and whether a rollback is asked for. See
:mod:`tests.chaos.saboteur.script`. Writers keep a log of what the application acknowledged; at the end
:mod:`tests.chaos.saboteur.oracle` compares the rows with that log, and the schema with the one from before. The oracle
imports nothing of zdd.

``make chaos SEEDS=200`` runs many seeds, ``make chaos SEED=17`` repeats one; ``test_seeds.py`` runs some on a
small table.
"""
