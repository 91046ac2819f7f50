"""``python -m tests.chaos.saboteur``: many seeds, some at a time, with a table at the end; or one seed with its log.

Results are kept in a file, one JSON line for each seed. A seed that is in it already is not run again, so that an
interrupted run continues; ``--again`` forgets them.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.saboteur.production import start_production
from tests.chaos.saboteur.run import RunResult, run_seed, summary_table
from tests.chaos.saboteur.script import SIZES, make_script
from zdd_tui.testbed.processes import scratch_folder

RUN_LIMIT = 420.0
"""Seconds for a whole run with start and stop of its servers."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.saboteur", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    parser.add_argument("--size", choices=sorted(SIZES), default="long")
    parser.add_argument("--out", type=Path, default=Path("chaos-results.jsonl"), help="file of results")
    parser.add_argument("--again", action="store_true", help="run seeds again that are in the file")
    parser.add_argument("--seed", type=int, help="run this one here, and print its log")
    parser.add_argument("--keep", action="store_true", help="with --seed: keep the folder with the logs")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def run_one(seed: int, size: str, folder: Path) -> RunResult:
    async with start_production(folder) as production:
        return await run_seed(production, seed, size)


async def run_many(args: argparse.Namespace) -> list[RunResult]:
    known: dict[int, RunResult] = {}
    if args.again:
        args.out.unlink(missing_ok=True)
    if args.out.exists():
        lines = [json.loads(line) for line in args.out.read_text().splitlines()]
        known = {line["seed"]: _restore(line) for line in lines if line.pop("size") == args.size}
    wanted = range(args.first, args.first + args.seeds)
    waiting = [seed for seed in wanted if seed not in known]
    total, began = len(wanted), time.monotonic()

    async def work() -> None:
        while waiting:
            seed = waiting.pop(0)
            result = await _run_in_process(seed, args.size)
            known[seed] = result
            with args.out.open("a") as file:
                file.write(json.dumps(asdict(result) | {"size": args.size}, ensure_ascii=False) + "\n")
            done = sum(each in known for each in wanted)
            mark = "✔" if result.is_good else "✗"
            print(
                f"{time.monotonic() - began:6.0f}s {done}/{total} {mark} seed {seed}: {result.outcome}"
                f" [{result.title}]",
                flush=True,
            )
            if not result.is_good:
                print("".join(f"        {problem[:300]}\n" for problem in result.problems[:5]), end="", flush=True)

    working = asyncio.gather(*(work() for _ in range(args.jobs)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)  # and the runs end their servers
    await working
    return [known[seed] for seed in wanted]


def _restore(line: dict[str, Any]) -> RunResult:
    return RunResult(**line)


async def _run_in_process(seed: int, size: str) -> RunResult:
    """In a process of its own: what it starts ends with it, whatever happens."""
    command = [sys.executable, "-m", "tests.chaos.saboteur", "--seed", str(seed), "--size", size, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), RUN_LIMIT)
        return _restore(json.loads(out))
    except TimeoutError:
        problem = f"the run did not end within {RUN_LIMIT:.0f} s"
    except ValueError:
        problem = f"the run broke off: {error.decode(errors='replace').strip()[-600:]}"
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.shield(process.wait())
    return RunResult(seed, make_script(seed, SIZES[size]).title, "stopped without cause", "unknown", [problem])


def main() -> int:
    args = parse_arguments()
    if args.seed is not None:
        with scratch_folder("zdd-chaos-", keep=args.keep) as folder:
            result = asyncio.run(run_one(args.seed, args.size, folder))
            print(json.dumps(asdict(result), ensure_ascii=False) if args.json else result.report())
            if args.keep:
                print(f"logs: {folder}")
        return 0 if result.is_good else 1
    try:
        results = asyncio.run(run_many(args))
    except asyncio.CancelledError:
        print("interrupted; the same command continues", flush=True)
        return 130
    print(summary_table(results, SIZES[args.size]))
    failed = [each for each in results if not each.is_good]
    for each in failed:
        print(f"\nseed {each.seed}: {each.outcome}; repeat it: make chaos SEED={each.seed}")
        print("\n".join(f"  {problem[:400]}" for problem in each.problems[:5]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
