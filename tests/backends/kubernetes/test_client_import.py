"""The parts of kubernetes_asyncio without the rest of it: each case in a Python of its own."""

import subprocess
import sys

import pytest

PARTS = """
import asyncio, sys
from zdd_tui.backends.kubernetes.client_import import import_client
found = import_client()
assert found is import_client()

async def session():
    rest = found.rest(found.configuration())
    await rest.close()
    return type(rest.pool_manager).__name__

assert asyncio.run(session()) == "ClientSession"
assert callable(found.config.load_kube_config) and issubclass(found.config.ConfigException, Exception)
"""


def run(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_only_the_parts_are_imported() -> None:
    heavy = "print([name for name in sys.modules if 'kubernetes_asyncio' in name or name.endswith('v1_pod')])"
    assert run(PARTS + heavy) == "[]\n"


def test_a_later_import_gets_the_whole_library() -> None:
    assert run(PARTS + "import kubernetes_asyncio.client as c; print(c.V1Pod.__name__, c.ApiClient.__name__)") == (
        "V1Pod ApiClient\n"
    )


def test_a_library_that_is_imported_already_is_used() -> None:
    code = "import kubernetes_asyncio.client as c\n" + PARTS + "print(found.configuration is c.Configuration)"
    assert run(code) == "True\n"


@pytest.mark.parametrize("missing", ["client.configuration", "client.rest", "config"])
def test_with_another_layout_the_whole_library_is_used(missing: str) -> None:
    """The first import of a part fails, as it would where that part is somewhere else."""
    code = f"""
import importlib
real, failed = importlib.import_module, []
def other(name, package=None):
    if name == "kubernetes_asyncio.{missing}" and not failed:
        failed.append(name)
        raise ImportError(name)
    return real(name, package)
importlib.import_module = other
{PARTS}
print(failed, sys.modules["kubernetes_asyncio"].client.V1Pod.__name__)
"""
    assert run(code) == f"['kubernetes_asyncio.{missing}'] V1Pod\n"
