"""What code a result rests on, by meaning.

From a root, such as a verb or the function that trains, every definition of this package is found that it can reach:
functions, classes and assignments, across modules, one by one. A hash over their syntax trees then says whether two
results were made by code of the same meaning. Comments, docstrings, formatting, annotations of functions and
whatever is not reached leave it as it is. Nothing is executed: sources are read, each once in a process.

What is found by name counts, and the classes that annotations name, whose methods are called through arguments. So a
function that others find by a registry has to stand in an assignment that is reached.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spaarsist.names import ConfigError

GRAPH_BACKEND, POOLING_BACKENDS = "models.backend", "models.pooling"
"""Modules of which only the back-end in use counts, where one is given."""

COMMAND_LINE = "__main__"
"""Module whose functions count by their bodies alone: help texts, signatures and registration decide no result."""

ITSELF = "code"
"""This module; how the hash is made is no part of what it is made of."""

STATEMENTS = "<statements>"
"""Stands for what a module does on import, beside its definitions: calls, loops, conditions."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def meaning(*roots: str, backend: str | None = None) -> str:
    """Hash of everything that the roots can reach: 16 hex digits, the same on every supported Python.

    Args:
        roots: `experiments.score.score`: module within the package and name, or a module for all of it. Without roots
            and back-end: every definition of every module.
        backend: class of the back-end in use, such as `AASIST` or `MHFA`. It is one more root, and nothing else of the
            two modules of back-ends counts. None: they are modules like any other.

    Raises:
        ConfigError: there is no such back-end.
        ValueError: there is no such root.
    """
    return _package().meaning(roots, backend)


def closure(*roots: str, backend: str | None = None) -> dict[str, set[str]]:
    """What `meaning` is made of: module -> names of its definitions and of data files that they name.

    `STATEMENTS` stands for what a module does on import. Arguments and errors are those of `meaning`.
    """
    return _package().closure(roots, backend)


def backends() -> list[str]:
    """Classes that `backend.kind` may name: AASIST, then the public classes of `models.pooling`, sorted."""
    return [*_package().backends()]


class _Part(NamedTuple):
    """A definition: hash of its canonical form, and (module, name) of what it refers to; the name None: all of it."""

    digest: str
    references: frozenset[tuple[str, str | None]]


class Package:
    """The sources of a package in a folder of its name."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.modules: dict[str, _Module] = {}
        self._paths = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            self._paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self._parts: dict[tuple[str, str], _Part] = {}
        self._imported: dict[str, set[str]] = {}

    def module(self, name: str) -> _Module:
        """Read a module; '' is the package's own."""
        if name not in self.modules:
            self.modules[name] = _Module(self._paths[name], name, self.name)
        return self.modules[name]

    def backends(self) -> dict[str, str]:
        """Class -> its module, of every back-end; see `spaarsist.models.detector.build_backend`."""
        found = self.module(POOLING_BACKENDS).definitions.items()
        classes = (name for name, (first, *_) in found if isinstance(first, ast.ClassDef) and name[0] != "_")
        return {"AASIST": GRAPH_BACKEND} | dict.fromkeys(sorted(classes), POOLING_BACKENDS)

    def meaning(self, roots: Sequence[str], backend: str | None) -> str:
        """See the function of that name."""
        lines = [f"{module} {name} {self._part(module, name).digest}" for module, name in self._reach(roots, backend)]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]

    def closure(self, roots: Sequence[str], backend: str | None) -> dict[str, set[str]]:
        """See the function of that name."""
        found = defaultdict(set)
        for module, name in self._reach(roots, backend):
            found[module].add(name)
        return dict(found)

    def imported(self, module: str) -> set[str]:
        """Modules of the package that run when this one is imported, itself among them."""
        if module not in self._imported:
            found, waiting = set(), [module]
            while waiting:
                name = waiting.pop()
                if name not in found:
                    found.add(name)
                    waiting += self._imported_first(name)
            self._imported[module] = found
        return self._imported[module]

    def _imported_first(self, module: str) -> Iterator[str]:
        if module:
            yield module.rpartition(".")[0]
        for path in self.module(module).imports:
            head, *parts = path.split(".")
            if head == self.name:
                yield from (name for n in range(1, len(parts) + 1) if (name := ".".join(parts[:n])) in self._paths)

    def _reach(self, roots: Sequence[str], backend: str | None) -> set[tuple[str, str]]:
        waiting: list[tuple[str, str | None]] = []
        hidden = {ITSELF}
        if backend is not None:
            if backend not in (kinds := self.backends()):
                raise ConfigError(f"backend.kind {backend!r}: no such back-end; there are {', '.join(kinds)}")
            hidden |= {GRAPH_BACKEND, POOLING_BACKENDS}
            waiting.append((kinds[backend], backend))
        elif not roots:
            waiting = [(module, None) for module in self._paths]
        for root in roots:
            waiting.append(found := self._resolve([self.name, *root.split(".")]))
            if root not in (found[0], ".".join(filter(None, found))):
                raise ValueError(f"{root}: no such definition in {self.name}")
        with _without_collector():
            return self._follow(waiting, hidden)

    def _follow(self, waiting: list[tuple[str, str | None]], hidden: set[str]) -> set[tuple[str, str]]:
        """All that can be reached; what is hidden counts only for what is hidden itself."""
        reached, seen = set(), set()
        while waiting:
            module, name = waiting.pop()
            if name is None:
                waiting += [(module, each) for each in self.module(module).names]
                continue
            if (module, name) in reached:
                continue
            reached.add((module, name))
            beyond = () if module in hidden else hidden
            if module not in seen:
                seen.add(module)
                run = self.imported(module).difference(beyond)
                waiting += [(also, STATEMENTS) for also in run if STATEMENTS in self.module(also).names]
            waiting += [found for found in self._part(module, name).references if found[0] not in beyond]
        return reached

    def _resolve(self, path: Sequence[str]) -> tuple[str, str | None] | None:
        """The (module, name) that a dotted path leads to; the name None: the whole module. None: another package's."""
        if path[0] != self.name:
            return None
        module = ""
        for n, part in enumerate(path[1:], start=1):
            own = self.module(module)
            if part in own.definitions:
                return module, part
            if own.bindings.get(part, ".".join(path[: n + 1])) != ".".join(path[: n + 1]):
                return self._resolve([*own.bindings[part].split("."), *path[n + 1 :]])
            inner = f"{module}.{part}".lstrip(".")
            if inner not in self._paths:
                break
            module = inner
        return module, None

    def _part(self, module: str, name: str) -> _Part:
        if (module, name) not in self._parts:
            own = self.module(module)
            if name == STATEMENTS or name in own.definitions:
                reader = _Reader(own, own.definitions.get(name, own.statements))
                found = {self._resolve(path) for path in reader.paths} | {(module, each) for each in reader.names}
                content = "".join(reader.text).encode()
            else:
                found, content = set(), (own.path.parent / name).read_bytes()
            self._parts[module, name] = _Part(hashlib.sha256(content).hexdigest(), frozenset(found - {None}))
        return self._parts[module, name]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees are many small objects; looking for garbage among them takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def _package() -> Package:
    return Package(Path(__file__).parent)


class _Module:
    """A module's source, taken apart.

    Attributes:
        definitions: name -> the statements that define it.
        statements: the rest of what it does.
        bindings: imported name -> dotted path.
        imports: every dotted path that its import statements name, outside functions.
        files: names of data files beside it.
    """

    def __init__(self, path: Path, name: str, package: str) -> None:
        self.path, self.name = path, name
        self.package = [package, *name.split(".")] if name else [package]
        if path.name != "__init__.py":
            self.package.pop()
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.statements: list[ast.stmt] = []
        self.bindings: dict[str, str] = {}
        self.imports: list[str] = []
        self.files = {beside.name for beside in path.parent.iterdir() if beside.suffix != ".py" and beside.is_file()}
        self._sort(ast.parse(path.read_bytes()).body)

    @property
    def names(self) -> list[str]:
        """All that counts where the whole module counts."""
        return [*self.definitions, *([STATEMENTS] if self.statements and self.name != COMMAND_LINE else [])]

    def imported(self, node: ast.Import | ast.ImportFrom) -> dict[str, str]:
        """Name that an import statement binds -> dotted path of what it stands for."""
        if isinstance(node, ast.Import):
            return {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        return {a.asname or a.name: ".".join(filter(None, (*above, node.module, a.name))) for a in node.names}

    def _sort(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._add_import(node)
            elif isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
                self._sort(node.orelse)
            elif names := _defined(node):
                for name in names:
                    self.definitions.setdefault(name, []).append(node)
            elif not _does_nothing(node):
                self.statements.append(node)
                for inner in ast.walk(node):
                    if isinstance(inner, (ast.Import, ast.ImportFrom)):
                        self._add_import(inner)

    def _add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.bindings |= self.imported(node)
        self.imports += [a.name for a in node.names] if isinstance(node, ast.Import) else self.imported(node).values()


class _Scope:
    """Where names are looked up: a function, lambda or comprehension (local names hide outer ones), a class, a module.

    Attributes:
        bound: local name -> dotted path, None where it is not imported.
        elsewhere: names declared global or nonlocal.
        pending: names read so far, as (place in the text or None, name, attributes); only the end tells what is local.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.bound: dict[str, str | None] = {}
        self.elsewhere: set[str] = set()
        self.pending: list[tuple[int | None, str, list[str]]] = []


class _Reader:
    """Writes statements of a module in a canonical form, and notes what they refer to.

    Attributes:
        text: the form, in pieces. What a name is imported from stands for the name.
        names: of this module's definitions and data files, as far as they occur.
        paths: of what is imported, with the attributes that are taken of it.
    """

    def __init__(self, module: _Module, statements: Iterable[ast.stmt]) -> None:
        self.module = module
        self.text: list[str] = []
        self.names: set[str] = set()
        self.paths: set[tuple[str, ...]] = set()
        self.scopes = [_Scope("module")]
        for node in statements:
            if module.name == COMMAND_LINE and isinstance(node, _FUNCTIONS):
                self._read_within("function", node.body, node.args)
            else:
                self._read(node)
        for place, name, attributes in self.scopes[0].pending:
            if name in module.definitions:
                self.names.add(name)
            if name in module.bindings:
                self._stand_for(place, module.bindings[name], attributes)

    def _read(self, value: object) -> None:
        if isinstance(value, ast.AST):
            _SPECIAL.get(type(value), _Reader._read_node)(self, value)
        elif isinstance(value, list):
            self.text.append("[")
            for each in value:
                if not _does_nothing(each):
                    self._read(each)
                    self.text.append(",")
            self.text.append("]")
        else:
            self.text.append(ascii(value))  # not repr: what is printable depends on the version's Unicode

    def _read_node(self, node: ast.AST, *without: str) -> None:
        self.text.append(f"{type(node).__name__}(")
        for field in node._fields:
            value = getattr(node, field, None)
            if value is not None and value != [] and field != "ctx" and field not in without:
                self.text.append(f"{field}=")
                self._read(value)
        self.text.append(")")

    def _read_unwritten(self, annotation: ast.expr | None) -> None:
        pending = self.scopes[-1].pending
        length, known = len(self.text), len(pending)
        self._read(annotation)
        del self.text[length:]
        pending[known:] = [(None, name, attributes) for _, name, attributes in pending[known:]]

    def _read_within(self, kind: str, value: object, arguments: ast.arguments | None = None) -> None:
        scope = _Scope(kind)
        if arguments:
            scope.bound = {arg.arg: None for arg in ast.walk(arguments) if isinstance(arg, ast.arg)}
        self.scopes.append(scope)
        self._read_node(value) if kind == "comprehension" else self._read(value)
        self.scopes.pop()
        for place, name, attributes in scope.pending:
            if name not in scope.bound or name in scope.elsewhere:
                self.scopes[-1].pending.append((place, name, attributes))
            elif path := scope.bound[name]:
                self._stand_for(place, path, attributes)

    def _stand_for(self, place: int | None, path: str, attributes: list[str]) -> None:
        self.paths.add((*path.split("."), *attributes))
        if place is not None:
            self.text[place] = ".".join((f"<{path}>", *attributes))

    def _bind(self, name: str | None, path: str | None = None) -> None:
        scope = self.scopes[-1]
        # Names of a class do not hide the module's from its methods; what a class imports is for itself
        if name and (scope.kind in ("function", "comprehension") or (scope.kind == "class" and path)):
            scope.bound[name] = path or scope.bound.get(name)

    def _read_name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
        self._read_chain(node.id, [])

    def _read_attribute(self, node: ast.Attribute) -> None:
        attributes, base = [], node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self._read_chain(base.id, attributes)
        else:
            self._read_node(node)

    def _read_chain(self, name: str, attributes: list[str]) -> None:
        self.scopes[-1].pending.append((len(self.text), name, attributes))
        self.text.append(".".join((name, *attributes)))

    def _read_constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value in self.module.files:
            self.names.add(node.value)
        self.text.append(ascii(node.value))

    def _read_joined(self, node: ast.JoinedStr) -> None:
        # How literal text is cut into constants is a matter of the version
        pending, values = "", []
        for value in node.values:
            if isinstance(value, ast.Constant):
                pending += value.value
                continue
            values += [ast.Constant(pending), value] if pending else [value]
            pending = ""
        self.text.append("JoinedStr")
        self._read([*values, ast.Constant(pending)] if pending else values)

    def _read_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._bind(getattr(node, "name", None))
        self._read_node(node, "body", "returns")
        self._read_unwritten(getattr(node, "returns", None))
        self._read_within("function", node.body, node.args)

    def _read_argument(self, node: ast.arg) -> None:
        self._read_unwritten(node.annotation)
        self.text.append(node.arg)

    def _read_class(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._read_node(node, "body")
        self._read_within("class", node.body)

    def _read_annotated(self, node: ast.AnnAssign) -> None:
        if self.scopes[-1].kind == "class":  # a field: its type may decide how it is read
            self._read_node(node)
            return
        self._read_unwritten(node.annotation)
        if node.value:
            self._read_node(ast.Assign([node.target], node.value))
        elif isinstance(node.target, ast.Name):
            self._bind(node.target.id)

    def _read_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self._read(node.generators[0].iter)  # the names in it are looked up outside
        self._read_within("comprehension", node)

    def _read_named(self, node: ast.NamedExpr) -> None:
        inner = []
        while self.scopes[-1].kind == "comprehension":  # it binds the name outside
            inner.append(self.scopes.pop())
        self._bind(node.target.id)
        self.scopes += reversed(inner)
        self._read_node(node, "target")
        self.text.append(node.target.id)

    def _read_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, path in self.module.imported(node).items():
            self._bind(name, path)
        self._read_node(node)

    def _read_declared(self, node: ast.Global | ast.Nonlocal) -> None:
        self.scopes[-1].elsewhere |= {*node.names}
        self._read_node(node)

    def _read_captured(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        self._bind(node.rest if isinstance(node, ast.MatchMapping) else node.name)
        self._read_node(node)


_SPECIAL = {
    ast.Name: _Reader._read_name,
    ast.Attribute: _Reader._read_attribute,
    ast.Constant: _Reader._read_constant,
    ast.JoinedStr: _Reader._read_joined,
    ast.arg: _Reader._read_argument,
    ast.ClassDef: _Reader._read_class,
    ast.AnnAssign: _Reader._read_annotated,
    ast.NamedExpr: _Reader._read_named,
    **dict.fromkeys((*_FUNCTIONS, ast.Lambda), _Reader._read_function),
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), _Reader._read_comprehension),
    **dict.fromkeys((ast.Import, ast.ImportFrom), _Reader._read_import),
    **dict.fromkeys((ast.Global, ast.Nonlocal), _Reader._read_declared),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _Reader._read_captured),
}


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement defines, if that is all it does."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return []
    targets = [*node.targets] if isinstance(node, ast.Assign) else [node.target]
    names = []
    while targets:
        target = targets.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            targets += target.elts
        elif isinstance(target, ast.Starred):
            targets.append(target.value)
        elif isinstance(target, ast.Name):
            names.append(target.id)
        else:
            return []
    return names


def _does_nothing(node: object) -> bool:
    """Whether it is a docstring, another literal alone, or `pass`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _last_name(node: ast.expr) -> str | None:
    return getattr(node, "attr", getattr(node, "id", None))
