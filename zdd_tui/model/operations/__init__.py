"""Operations: the statements of a migration in their online form, each with its steps in the phases and its undo.

An operation is derived from one statement, or from one command of an ALTER TABLE, by the reader of its kind in
:mod:`zdd_tui.model.operations.registry`. A new kind is a module here and an entry there.
"""
