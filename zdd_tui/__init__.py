"""zdd-tui: drives zero-downtime releases from a terminal."""

__version__ = "0.1.0"
