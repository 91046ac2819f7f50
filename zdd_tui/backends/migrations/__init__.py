"""Reads directories of migrations, runs the commands of migration tools, and reads their version tables."""
