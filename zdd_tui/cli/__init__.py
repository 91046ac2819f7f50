"""The command line: a module per command, on the same core as the screens.

`parser.py` reads the arguments.
"""
