"""`make bench`: the benchmarks of this folder, one after the other."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Runs the benchmarks named on the command line, or all."""
    others = {"__main__", "real_migrations"}  # the latter needs a directory that is not part of this repository
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in others)
    for name in sys.argv[1:] or names:
        run = getattr(importlib.import_module(f"benchmarks.{name}"), "main", None)
        if run is not None:  # a module of helpers has none
            print(f"== {name}", flush=True)
            run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
