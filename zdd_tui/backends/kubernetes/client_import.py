"""The two parts of kubernetes_asyncio that we use, without the rest of it.

Reading a kubeconfig (contexts, certificates, exec and OIDC plugins) and making its session is that library's work. But
importing any part of it imports a class for every type of the API: a thousand modules, 0.6 s and 45 MB, none of which
we use (objects are raw JSON here). So its packages' own first lines are left out while the parts are imported. Where
the library is laid out in another way than we know it, or is there as a whole already, the whole is taken.
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
    """`configuration` is the class Configuration, `rest` RESTClientObject, `config` the module that fills the first."""

    configuration: Any
    rest: Any
    config: Any


def import_client() -> KubernetesClient:
    """The parts; from any thread. Slow the first time.

    Raises:
        ImportError: the library is not installed.
    """
    with _import_lock:
        if not _loaded:
            # It logs what credential plugins print, and response bodies: neither may reach a log of ours.
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
    """None where the library has another layout."""
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
        # Whoever imports the library after us gets all of it.
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]


def _empty_package(name: str, path: Any) -> ModuleType:
    """A package that finds its modules, but has not run its own code."""
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"no package {name}")
    package = ModuleType(name)
    package.__path__ = spec.submodule_search_locations
    sys.modules[name] = package
    return package
