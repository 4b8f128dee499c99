"""Code of the user's own: importing the modules that a job names, and digesting their source.

Nothing is imported that the job does not name (and the packages that it lies in). The digest is
taken of the source: the code runs inside the model, so it decides the predictions as much as the
weights do. So does the user's code that it imports in turn: such files are found by reading import
statements, and nothing is run for it. Installed packages are versions, and no part of the digest.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


def digest_imports(modules: Iterable[str]) -> str:
    """SHA-256 over the source of the modules that a job imports, without importing them.

    Raises:
        ModelError: A module cannot be found.
    """
    digest = hashlib.sha256()
    named: list[Path] = []
    for module in modules:
        source = _source_of(module)
        files = sorted(source.parent.rglob("*.py")) if source.name == "__init__.py" else [source]
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        named += files
    for file in _also_imported(named):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _also_imported(files: Iterable[Path]) -> list[Path]:
    """The user's other files that some import, and those that these import, sorted by name."""
    seen = {file.resolve() for file in files}
    found: list[Path] = []
    waiting = list(seen)
    while waiting:
        importing = waiting.pop()
        for name, root in _imports(importing):
            for file in _files_of(name, root):
                if file.resolve() not in seen and Path(__file__).parent not in file.parents:
                    seen.add(file.resolve())
                    found.append(file)
                    waiting.append(file)
    return sorted(found, key=lambda file: (file.name, file.read_bytes()))


def _imports(source: Path) -> Iterator[tuple[str, Path]]:
    """What a file may import: dotted names, each with a folder in which it may lie."""
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):  # importing it says it better
        return
    package = source.parent
    while (package / "__init__.py").is_file():
        package = package.parent
    own = source.relative_to(package).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, level = [alias.name for alias in node.names], 0
        elif isinstance(node, ast.ImportFrom):
            base, level = node.module or "", node.level
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
        else:
            continue
        for name in names:
            if level:
                yield ".".join([*own[: len(own) - level], name]), package
                continue
            if len(own) > 1 and name.split(".")[0] == own[0]:  # its own package, installed or not
                yield name, package
            yield from ((name, root) for root in _users_folders())


def _users_folders() -> list[Path]:
    """Where modules are imported from, but for the folders of Python and of installed packages."""
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    folders = [Path.cwd(), *map(Path, sys.path)]
    return [
        folder
        for folder in dict.fromkeys(folder.resolve() for folder in folders)
        if folder not in installed
        and not {"site-packages", "dist-packages", "lib-dynload"} & set(folder.parts)
    ]


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """The files that run when a dotted name is imported from a folder, as far as they are there."""
    place = root
    for part in name.split("."):
        module = place / f"{part}.py"
        place /= part
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
        elif module.is_file():
            yield module


def _source_of(module: str) -> Path:
    if module.endswith(".py"):
        source = Path(module)
        if not source.is_file():
            raise ModelError("the module to import does not exist", path=module)
        return source
    with _importing_from_here():
        try:
            spec = importlib.util.find_spec(module)
        # Looking for pkg.module imports pkg, which is the user's and may raise anything.
        except (Exception, SystemExit) as error:
            raise _import_failed(module, error) from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise ModelError(
            f"the module {module!r} cannot be found",
            hint="--import takes a module that Python can import from here, or a .py file",
        )
    return Path(spec.origin)


def load_hook(hook: str) -> Callable[..., Any]:
    """The function that a job names as `module:function` or `path/to/file.py:function`.

    Raises:
        ModelError: The module cannot be imported, or has no such function.
    """
    module, _, name = hook.rpartition(":")
    found = getattr(import_module(module), name, None)
    if not callable(found):
        raise ModelError(
            f"the module {module!r} has no function {name!r}",
            received=hook,
            hint="a hook is named as module:function, or path/to/file.py:function",
        )
    return found  # type: ignore[no-any-return] # what getattr gives has no type


def import_module(module: str) -> ModuleType:
    """Imports a module by its dotted name or the path of its file.

    Raises:
        ModelError: It failed.
    """
    try:
        if module.endswith(".py"):
            loaded = _import_file(Path(module).absolute())
        else:
            with _importing_from_here():
                loaded = importlib.import_module(module)
    # The module is the user's: it may raise anything, and a script ends by leaving the process.
    except (Exception, SystemExit) as error:
        raise _import_failed(module, error) from error
    _refuse_stale(module, loaded)
    return loaded


_imported: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""Digest of each module's code, its imports included, when it was first imported here."""


def _refuse_stale(module: str, loaded: ModuleType) -> None:
    """Raises ModelError if a module's code has changed since this process imported it: what would
    run is the code of then, and what would be recorded the digest of now."""
    now = digest_imports([module])
    if _imported.setdefault(loaded, now) != now:
        raise ModelError(
            f"the code of the module {module!r} was changed since this process imported it",
            received=getattr(loaded, "__file__", None),
            hint="start Python anew (restart the notebook's kernel): imported modules stay as "
            "they were",
        )


def _import_failed(module: str, error: BaseException) -> ModelError:
    return ModelError(
        f"the module {module!r} failed while it was imported",
        received=f"{type(error).__name__}: {error}",
        hint="import it in Python to see the whole error",
    )


def _import_file(path: Path) -> ModuleType:
    name = path.stem
    if name in sys.stdlib_module_names or not _is_of(path, sys.modules.get(name)):
        # Another module has that name, which whoever imports it from now on must still get.
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]  # half a module is none, as in Python's own import
        raise
    return loaded


def _is_of(path: Path, module: ModuleType | None) -> bool:
    """Whether a file may be imported under a name that leads to a module, or to None."""
    return module is None or getattr(module, "__file__", None) == str(path)


@contextmanager
def _importing_from_here() -> Iterator[None]:
    """Puts the current folder on the import path, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        # The user's module may have changed the path itself.
        with suppress(ValueError):
            sys.path.remove(here)
