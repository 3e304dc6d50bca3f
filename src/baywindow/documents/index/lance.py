"""LanceDB, imported without its client of remote catalogues.

That client (`lance_namespace_urllib3_client`) checks the signature of each of its calls while it is imported, which takes half of the
time that LanceDB takes, and no local table and no bucket is reached through it. Here its calls are imported when one is asked for; its data
classes, which LanceDB names in its own signatures, are imported as ever.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from baywindow.uncollected import uncollected

CLIENT = "lance_namespace_urllib3_client"


class Deferred(ModuleType):
    """A package whose own code runs when something is asked of it that no submodule has given it yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or type(self) is not Deferred:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is like any other package
        spec = self.__spec__
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)


def lancedb() -> Any:
    """The module `lancedb`."""
    if "lancedb" not in sys.modules and CLIENT not in sys.modules:
        _defer(CLIENT)
    with uncollected():
        import lancedb

    return lancedb


def _defer(package: str) -> None:
    """Nothing where there is no such package: another release of LanceDB needs none."""
    if (spec := importlib.util.find_spec(package)) is None:
        return
    module = Deferred(package)
    module.__spec__, module.__loader__, module.__package__, module.__file__ = spec, spec.loader, package, spec.origin
    module.__path__ = spec.submodule_search_locations or []
    sys.modules[package] = module
