"""`zdd demo --headless`: runs the scenario that the options request, and prints its report."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import DemoOptions, start_regions
from zdd_tui.demo.release_driver import ProgressLog
from zdd_tui.demo.scenarios import Production, Report, Scenario, choose_scenario, load_summary


async def run_headless_scenario(folder: Path, options: DemoOptions, scenario: Scenario | None = None) -> Report:
    """Starts the productions, runs a scenario on them and returns its report; progress goes to stderr.

    The report's ``ok`` is true when the scenario went as it must, no response was wrong, and no request failed unless
    the scenario breaks something.

    Raises:
        ZddError: a production did not start, or the release made no progress.
    """
    scenario = scenario or choose_scenario(options)
    progress = ProgressLog()
    async with AsyncExitStack() as stack:
        productions: list[Production] = []
        for env in await stack.enter_async_context(start_regions(folder, options, progress.log)):
            store = await stack.enter_async_context(await Store.open(env.postgres.dsn, application_name="zdd demo"))
            # An agent creates the schema `zdd`, and no rollback removes it: it must exist before states are compared.
            await store.migrate()
            productions.append(Production(env, store, progress))
        result = await scenario.run(productions)
        for production in productions:
            await production.env.stop("load")
    report: Report = {"ok": False, **result}
    loads = report.get("regions", [report])
    for load, production in zip(loads, productions, strict=True):
        load.update(load_summary(production.env.read_load_report()))
    is_clean = all(load["wrong_results"] == 0 and (scenario.breaks_requests or load["failures"] == 0) for load in loads)
    report["ok"] = bool(result["ok"]) and is_clean
    return report


def as_text(report: Report, scenario: Scenario) -> str:
    """The report for a terminal: a title, and a label with a text on each line."""
    lines = [f"{'✔' if report['ok'] else '✗'} {scenario.title(report)}"]
    lines += [f"  {label:<16} {text}" for label, text in scenario.lines(report)]
    return "\n" + "\n".join(lines) + "\n"


def run_headless(folder: Path, options: DemoOptions, *, as_json: bool) -> int:
    """Runs the scenario that the options request and prints its report; returns 0 only when the report is ok."""
    scenario = choose_scenario(options)
    report = asyncio.run(run_headless_scenario(folder, options, scenario))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else as_text(report, scenario))
    return 0 if report["ok"] else 1
