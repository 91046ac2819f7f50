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

ROOT = "kubernetes_asyncio"
_importing = threading.Lock()
_parts: list["Library"] = []


@dataclass(frozen=True, slots=True)
class Library:
    """`configuration` is the class Configuration, `rest` RESTClientObject, `config` the module that fills the first."""

    configuration: Any
    rest: Any
    config: Any


def library() -> Library:
    """The parts; from any thread. Slow the first time.

    Raises:
        ImportError: the library is not installed.
    """
    with _importing:
        if not _parts:
            # It logs what credential plugins print, and response bodies: neither may reach a log of ours.
            log = logging.getLogger(ROOT)
            log.addHandler(logging.NullHandler())
            log.propagate = False
            _parts.append(_whole() if ROOT in sys.modules else _partly() or _whole())
        return _parts[0]


def _whole() -> Library:
    client, config = importlib.import_module(f"{ROOT}.client"), importlib.import_module(f"{ROOT}.config")
    return Library(client.Configuration, importlib.import_module(f"{ROOT}.client.rest").RESTClientObject, config)


def _partly() -> Library | None:
    """None where the library has another layout."""
    try:
        _hollow(ROOT, None)
        client = _hollow(f"{ROOT}.client", sys.modules[ROOT].__path__)
        client.Configuration = importlib.import_module(f"{ROOT}.client.configuration").Configuration  # type: ignore[attr-defined]
        client.ApiClient = None  # type: ignore[attr-defined]  # named in signatures only
        rest = importlib.import_module(f"{ROOT}.client.rest").RESTClientObject
        return Library(client.Configuration, rest, importlib.import_module(f"{ROOT}.config"))
    except (ImportError, AttributeError, TypeError):
        return None
    finally:
        # Whoever imports the library after us gets all of it.
        for name in [name for name in sys.modules if name == ROOT or name.startswith(f"{ROOT}.")]:
            del sys.modules[name]


def _hollow(name: str, path: Any) -> ModuleType:
    """A package that finds its modules, but has not run its own code."""
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"no package {name}")
    package = ModuleType(name)
    package.__path__ = spec.submodule_search_locations
    sys.modules[name] = package
    return package
