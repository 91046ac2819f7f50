"""What is measured, against what. `python -m benchmarks` runs all; README.md has the last figures."""
