"""What code a result rests on, by meaning.

From a root, such as a verb or the function that trains, every definition of this package is found that it names, and
that these name in turn: functions, classes and assignments, across modules, one by one. A hash over their syntax trees
says whether two results were made by code of the same meaning: comments, docstrings, formatting, annotations of
functions, and whatever is not reached leave it as it is. Sources are read, each once in a process; nothing is executed.

A local name of an inner function is taken for the module's definition of that name, if there is one: rather too much is
hashed than too little. What is found by no name, as in a registry, is not found.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from spaarsist.names import ConfigError

BACKENDS = ("models.backend", "models.pooling")
"""Modules of which only the back-end in use counts, where one is given."""

SIZES = ("feature_dim", "n_layers", "embedding_dim")
"""Keywords of back-ends that come from the front-end and the recipe."""

COMMAND_LINE = "__main__"
"""Its functions count by their bodies and defaults: help texts decide no result."""

EFFECTS = "<effects>"
"""Stands for what a module does on import besides defining: calls, loops, conditions."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_SCOPES = (ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_UNWRITTEN, _ANNOTATIONS = ("ctx", "type_comment", "kind"), ("annotation", "returns")

Found = set[tuple[str, str]]
"""(module, name) of definitions, data files and `EFFECTS`."""


@cache
def meaning(*roots: str, backend: str | None = None) -> str:
    """Hash of everything that the roots can reach: 16 hex digits, the same on every supported Python.

    Args:
        roots: `experiments.score.score`: module within the package and name. Without roots and back-end: all there is.
        backend: class of the back-end in use, such as `AASIST` or `MHFA`. It is one more root, and nothing else of the
            two modules of back-ends counts. None: they are modules like any other.

    Raises:
        ConfigError: there is no such back-end.
        ValueError: there is no such root.
    """
    return _package().meaning(*roots, backend=backend)


def closure(*roots: str, backend: str | None = None) -> dict[str, set[str]]:
    """What `meaning` is made of: module -> names of definitions and data files. Arguments and errors as there."""
    return _package().closure(*roots, backend=backend)


def backends() -> list[str]:
    """Classes that `backend.kind` may name: AASIST, and the public classes of `models.pooling`."""
    return [*_package().backends]


def keywords(backend: str) -> dict[str, tuple[str, bool]]:
    """What a back-end's class takes beside its sizes: keyword -> source of its annotation, whether it must be given."""
    return _package().keywords(backend)


@cache
def _package() -> Package:
    return Package(Path(__file__).parent)


class Package:
    """The sources of a package in a folder of its name."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        names = {path: ".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py")}
        self.paths = {name.removesuffix("__init__").rstrip("."): path for path, name in names.items()}
        self.module = cache(lambda name: _Module(self.paths[name], self.name))
        self.definition = cache(self._read)

    @property
    def backends(self) -> dict[str, str]:
        """Class -> its module, of every back-end; see `spaarsist.models.detector.build_backend`."""
        found = self.module("models.pooling").definitions
        classes = [name for name in found if isinstance(found[name][0], ast.ClassDef) and name[0] != "_"]
        return {"AASIST": "models.backend"} | dict.fromkeys(sorted(classes), "models.pooling")

    def keywords(self, backend: str) -> dict[str, tuple[str, bool]]:
        """See the function of that name."""
        kind, *_ = self.module(self.backends[backend]).definitions[backend]
        taken = next(
            (part.args for part in kind.body if isinstance(part, _FUNCTIONS) and part.name == "__init__"), None
        )
        if taken is None:
            parents = [base.id for base in kind.bases if isinstance(base, ast.Name) and base.id in self.backends]
            return self.keywords(parents[0]) if parents else {}
        required = len(taken.args) - len(taken.defaults)
        given = [(argument, position < required) for position, argument in enumerate(taken.args)]
        given += [(a, default is None) for a, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True)]
        return {
            argument.arg: (ast.unparse(argument.annotation) if argument.annotation else "Any", needed)
            for argument, needed in given
            if argument.arg not in ("self", *SIZES)
        }

    def meaning(self, *roots: str, backend: str | None = None) -> str:
        """See the function of that name."""
        places = ((module, name) for module, names in self.closure(*roots, backend=backend).items() for name in names)
        lines = sorted(f"{module} {name} {self.definition(module, name)[0]}" for module, name in places)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def closure(self, *roots: str, backend: str | None = None) -> dict[str, set[str]]:
        """See the function of that name; definitions of closed modules are reached only from within these."""
        waiting, closed = [root.rpartition(".")[::2] for root in roots], {__name__.rpartition(".")[2]}
        for module, name in waiting:
            if module not in self.paths or name not in self.module(module).definitions:
                raise ValueError(f"{'.'.join(filter(None, (module, name)))}: no such definition in {self.name}")
        if backend is not None:
            if backend not in self.backends:
                raise ConfigError(f"backend.kind {backend!r}: no such back-end; there are {', '.join(self.backends)}")
            waiting.append((self.backends[backend], backend))
            closed |= {*BACKENDS}
        elif not roots:
            waiting = [place for module in self.paths for place in self._all(module)]
        found: dict[str, set[str]] = defaultdict(set)
        collecting = gc.isenabled()
        gc.disable()  # syntax trees are many small objects; looking for garbage among them takes a third of the time
        try:
            while waiting:
                module, name = waiting.pop()
                if name not in found[module]:
                    found[module].add(name)
                    _, reached = self.definition(module, name)
                    waiting += [to for to in reached if to[0] not in closed or module in closed]
        finally:
            if collecting:
                gc.enable()
        return dict(found)

    def _all(self, module: str) -> list[tuple[str, str]]:
        effects = [EFFECTS] if self.module(module).effects else []
        return [(module, name) for name in [*self.module(module).definitions, *effects]]

    def _read(self, module: str, name: str) -> tuple[str, Found]:
        """Hash of a definition, and what it refers to."""
        own = self.module(module)
        if name in own.files:
            return hashlib.sha256((own.path.parent / name).read_bytes()).hexdigest(), set()
        statements = own.effects if name == EFFECTS else own.definitions[name]
        bound = {name for node in statements if isinstance(node, _FUNCTIONS) for name in _bound(node)}
        if module == COMMAND_LINE:
            statements = [*chain(*(node.body if isinstance(node, _FUNCTIONS) else [node] for node in statements))]
        used, within = _uses(statements)
        imported = own.imported | within
        run = [each for each in (module, *own.used_modules) if each in self.paths and self.module(each).effects]
        found = {(each, EFFECTS) for each in run}
        text: list[str] = []
        for path in (path for path in used if path[0] not in bound):
            if path[0] in imported and imported[path[0]][0] != self.name:
                text.append(f"{path[0]} is {imported[path[0]]}")
            elif path[0] in imported:
                found |= {*self._resolve([*imported[path[0]], *path[1:]])}
            elif path[0] in own.definitions or path[0] in own.files:
                found.add((module, path[0]))
        _write(statements, text)
        return hashlib.sha256("".join(text).encode()).hexdigest(), found

    def _resolve(self, path: Sequence[str]) -> list[tuple[str, str]]:
        """What a dotted path leads to: a definition, or all of a module; nothing of other packages."""
        if path[0] != self.name:
            return []
        for end in range(len(path), 0, -1):
            if (module := ".".join(path[1:end])) in self.paths:
                own, rest = self.module(module), path[end:]
                if not rest:
                    return self._all(module)
                if rest[0] in own.definitions:
                    return [(module, rest[0])]
                if rest[0] in own.imported:
                    return self._resolve([*own.imported[rest[0]], *rest[1:]])
                return self._all(module)
        return []


class _Module:
    """A module's source, taken apart.

    Attributes:
        definitions: name -> the statements that define it.
        effects: the rest of what it does on import.
        imported: name that it imports -> dotted path; functions may import more.
        used_modules: modules of the package among these.
        files: names of data files beside it.
    """

    def __init__(self, path: Path, package: str) -> None:
        self.path = path
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.effects: list[ast.stmt] = []
        self.files = {beside.name for beside in path.parent.iterdir() if beside.suffix != ".py" and beside.is_file()}
        body = [node for node in ast.parse(path.read_bytes()).body if not _is_for_types(node)]
        self.imported = dict(pair for node in body if isinstance(node, _IMPORTS) for pair in _imports(node))
        own = [path for path in self.imported.values() if path[0] == package]
        self.used_modules = {".".join(path[1:end]) for path in own for end in (len(path) - 1, len(path))}
        for node in body:
            if names := _defined(node):
                for name in names:
                    self.definitions.setdefault(name, []).append(node)
            elif not isinstance(node, (*_IMPORTS, ast.Pass)) and not _is_text(node) and path.stem != COMMAND_LINE:
                self.effects.append(node)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, list[str]]]:
    """Names that an import statement binds, with what they stand for."""
    for alias in node.names:
        path = alias.name.split(".")
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, [*(node.module or "").split("."), *path]
        else:
            yield (alias.asname, path) if alias.asname else (path[0], path[:1])


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement defines, if that is all it does."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    targets = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [target.id for target in targets] if all(isinstance(target, ast.Name) for target in targets) else []


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def _uses(statements: Iterable[ast.AST]) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Names that statements use, with attributes taken of them, and texts, which may name files; what they import."""
    names: list[list[str]] = []
    imported: dict[str, list[str]] = {}
    waiting = [*statements]
    while waiting:
        node = waiting.pop()
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            names.append([node.id, *reversed(attributes)])
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                names.append([node.value])
        elif isinstance(node, _IMPORTS):
            imported |= _imports(node)
        else:
            waiting += ast.iter_child_nodes(node)
    return names, imported


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names that are a function's own: its arguments, and what it assigns outside of inner functions."""
    found = {arg.arg for arg in ast.walk(function.args) if isinstance(arg, ast.arg)}
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            return set()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, (*_FUNCTIONS, *_SCOPES)):
            waiting += ast.iter_child_nodes(node)
    return found


def _write(value: object, text: list[str]) -> None:
    """Add a syntax tree as text, without what means nothing; the same on every supported Python."""
    if isinstance(value, ast.JoinedStr):  # how its text is cut into constants is a matter of the version
        value = ast.JoinedStr([*_joined(value.values)])
    if isinstance(value, ast.AST):
        text.append(f"{type(value).__name__}(")
        without = _ANNOTATIONS if isinstance(value, (*_FUNCTIONS, ast.arg)) else ()
        for field in value._fields:
            content = getattr(value, field, None)
            if content is not None and content != [] and field not in _UNWRITTEN and field not in without:
                text.append(f"{field}=")
                _write(content, text)
        text.append(")")
    elif isinstance(value, list):
        for each in value:
            if not _is_text(each):
                _write(each, text)
                text.append(",")
    else:
        text.append(ascii(value))


def _joined(values: Iterable[ast.expr]) -> Iterator[ast.expr]:
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += value.value
        else:
            yield from (ast.Constant(text), value) if text else (value,)
            text = ""
    if text:
        yield ast.Constant(text)
