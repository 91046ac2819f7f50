"""Benchmarks. `python -m benchmarks` runs all of them; README.md has the latest figures and the budgets."""
