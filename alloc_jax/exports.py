"""What a package offers: the names in its stub, each imported when it is first used.

The stub `__init__.pyi` beside a package is the only list of its public names. Type checkers and editors read it as it is;
`exports` reads it at run time, so that importing the package loads nothing else.
"""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class FunctionModule(ModuleType):
    """A module that is called like the function whose name it bears.

    `aj.solve(problem, budget)` calls a function and `import alloc_jax.solve as s` imports a package: both mean this.
    """

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function: what `inspect.signature` shows of the module."""
        return getattr(self, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def called_as_its_function(module: str) -> None:
    """Let a module be called like the function in it that has its name."""
    sys.modules[module].__class__ = FunctionModule


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the imports in its stub.

    A package that offers a function of its own name can be called like it (`FunctionModule`).
    """
    stub = pkgutil.get_data(package, "__init__.pyi")
    assert stub is not None, f"{package} has no stub"
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    home = {name.name: node.module for node in imports for name in node.names}
    namespace = vars(sys.modules[package])
    if package.rpartition(".")[2] in home:
        called_as_its_function(package)

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(str(home[name])), name)
        return namespace.setdefault(name, value)  # a module of that name, which importing has put there, stays

    return __getattr__, lambda: sorted({*namespace, *home}), sorted(home)
