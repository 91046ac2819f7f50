"""The guard's queries against a real Prometheus (Debian's package `prometheus`, or any on PATH)."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.metric_servers import ServerAnswer, serve_answer
from zdd_tui.backends.metrics import prometheus
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.plan.guard import PrometheusServer
from zdd_tui.testbed.processes import free_port, spawn, stop

PAGE = """\
# TYPE http_requests_total counter
http_requests_total{code="200"} 90
http_requests_total{code="500"} 10
"""

RATE = 'sum(http_requests_total{code=~"5.."}) / sum(http_requests_total)'


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PrometheusServer]:
    """A Prometheus that scrapes one small page every second, once it has done so."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH: apt-get install prometheus")
    async with serve_answer(ServerAnswer(body=PAGE)) as page:
        target = page.removeprefix("http://")
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: pods, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        port = free_port()
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = spawn(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                log=log,
                env=dict(os.environ),
            )
        try:
            made = PrometheusServer.model_validate({"url": f"http://127.0.0.1:{port}"})
            await _scraped(made, process)
            yield made
        finally:
            await stop(process, signal.SIGTERM, 10.0)


async def _scraped(server: PrometheusServer, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.poll() is None, "see prometheus.log"
            try:
                await _ask(server, "sum(http_requests_total)")
            except MetricsError:
                await asyncio.sleep(0.2)
            else:
                return


async def _ask(server: PrometheusServer, query: str) -> float:
    async with aiohttp.ClientSession() as session:
        return await prometheus.query_value(session, server, query, now=time.time())


async def test_queries_that_give_a_number_and_those_that_do_not(server: PrometheusServer) -> None:
    assert await _ask(server, RATE) == pytest.approx(0.1)
    assert await _ask(server, "scalar(sum(http_requests_total))") == 100
    assert await _ask(server, "42") == 42
    for query, words in (
        ("sum(rate(http_requests_total[", "refuses the query: bad_data"),
        ("http_requests_total", "gives 2 series, not one"),
        ("http_requests_total[5m]", "gives a matrix, not one number"),
        ("sum(no_such_metric)", "the query returns no series"),
        ("0 * sum(http_requests_total) / 0", "the query returns nan"),
        ("sum(http_requests_total) / 0", "the query returns inf"),
        ('"text"', "gives a string, not one number"),
    ):
        with pytest.raises(MetricsError) as caught:
            await _ask(server, query)
        assert words in caught.value.title, query
