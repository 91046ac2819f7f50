"""Directories of migrations: which files the database has not applied, and what a migration tool keeps of those it has.

A module for each tool, and one registry.
"""
