"""The fleet: the releases of several databases in one list."""
