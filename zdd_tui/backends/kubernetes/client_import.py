"""Imports the two parts of kubernetes_asyncio that zdd uses, without the rest.

The library reads a kubeconfig (contexts, certificates, exec and OIDC plugins) and creates its session. But importing
any part of it imports a class for every type of the API: a thousand modules, 0.6 s and 45 MB, none of which zdd uses
(objects are raw JSON here). So the `__init__` modules of its packages do not run while the parts are imported. When the
library has another layout, or is imported already, all of it is used.
"""

import importlib
import logging
import sys
import threading
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

PACKAGE = "kubernetes_asyncio"
_import_lock = threading.Lock()
_loaded: list["KubernetesClient"] = []


@dataclass(frozen=True, slots=True)
class KubernetesClient:
    """`configuration`: the class Configuration. `rest`: RESTClientObject. `config`: the module that fills the first."""

    configuration: Any
    rest: Any
    config: Any


def import_client() -> KubernetesClient:
    """Imports the parts, from any thread. Slow the first time.

    Raises:
        ImportError: the library is not installed.
    """
    with _import_lock:
        if not _loaded:
            # It logs the output of credential plugins and response bodies: neither may reach our log.
            log = logging.getLogger(PACKAGE)
            log.addHandler(logging.NullHandler())
            log.propagate = False
            _loaded.append(_import_full() if PACKAGE in sys.modules else _import_partial() or _import_full())
        return _loaded[0]


def _import_full() -> KubernetesClient:
    client, config = importlib.import_module(f"{PACKAGE}.client"), importlib.import_module(f"{PACKAGE}.config")
    return KubernetesClient(
        client.Configuration, importlib.import_module(f"{PACKAGE}.client.rest").RESTClientObject, config
    )


def _import_partial() -> KubernetesClient | None:
    """Returns None where the library has another layout."""
    try:
        _empty_package(PACKAGE, None)
        client = _empty_package(f"{PACKAGE}.client", sys.modules[PACKAGE].__path__)
        client.Configuration = importlib.import_module(f"{PACKAGE}.client.configuration").Configuration  # type: ignore[attr-defined]
        client.ApiClient = None  # type: ignore[attr-defined]  # named in signatures only
        rest = importlib.import_module(f"{PACKAGE}.client.rest").RESTClientObject
        return KubernetesClient(client.Configuration, rest, importlib.import_module(f"{PACKAGE}.config"))
    except (ImportError, AttributeError, TypeError):
        return None
    finally:
        # A later import of the library gets all of it.
        for name in [name for name in list(sys.modules) if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]


def _empty_package(name: str, path: Any) -> ModuleType:
    """Creates a package that finds its modules without running its own code."""
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"no package {name}")
    package = ModuleType(name)
    package.__path__ = spec.submodule_search_locations
    sys.modules[name] = package
    return package
