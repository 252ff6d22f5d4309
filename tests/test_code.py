import ast
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from inspect import signature

import pytest

from conftest import REPOSITORY
from spaarsist import code
from spaarsist.code import Package
from spaarsist.config import BackendConfig
from spaarsist.names import ConfigError

PACKAGE = REPOSITORY / "src" / "spaarsist"
SCORES = ("experiments.train.train", "experiments.score.score")

TINY = {
    "__init__.py": "",
    "core.py": '''
"""A module."""
from __future__ import annotations
import numpy as np
from typing import TYPE_CHECKING
from tiny.data import tables
from tiny.data.tables import read as read_table
if TYPE_CHECKING:
    from tiny.other import Unseen

RATE, STEP = 16, 2
unused = 3

class Kind:
    """A class."""
    size: int = 1
    """Its size."""

    def scaled(self):
        return self.size * RATE

def run(kind: Kind, seen: Unseen = None) -> float:
    # a comment
    from tiny.other import late as lazily
    unused = [step for step in range(STEP)]
    return read_table(lazily(unused)) + np.float32(1)

def apart():
    return vars(tables)
''',
    "other.py": "class Unseen:\n    pass\n\ndef late(x):\n    return x\n\ndef never():\n    return 0\n",
    "data/__init__.py": "",
    "data/tables.py": "from pathlib import Path\nFILE = Path(__file__).with_name('t.tsv')\n"
    "def read(x):\n    return FILE, x\n",
    "data/t.tsv": "1\n",
    "models/__init__.py": "",
    "models/backend.py": "from tiny.models import pooling\n\nclass AASIST:\n    pass\n\nclass Part:\n    pass\n",
    "models/pooling.py": "class _Base:\n    pass\n\nclass Mean(_Base):\n    pass\n\nclass Max(Mean):\n    pass\n",
    "detector.py": "from tiny.models import pooling\nfrom tiny.models.backend import AASIST\n\n"
    "def build(kind):\n    return AASIST if kind == 'AASIST' else vars(pooling)[kind]\n",
    "__main__.py": "import typer\nfrom tiny.core import run\napp = typer.Typer(help='x')\n\n"
    "@app.command()\ndef verb(x: int = 1):\n    '''Help.'''\n    return _do(x)\n\n"
    "def _do(x):\n    return run(x)\n\napp()\n",
}


@pytest.fixture
def tiny(tmp_path):
    """Write the tiny package with changes: file -> (old, new) or its whole text; give it anew."""

    def write(changes=()):
        for name, text in TINY.items():
            change = dict(changes).get(name, text)
            if isinstance(change, tuple):
                assert change[0] in text
                change = text.replace(*change)
            path = tmp_path / "tiny" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(change)
        return Package(tmp_path / "tiny")

    return write


def test_what_is_reached(tiny):
    tables = {"read", "FILE", "t.tsv"}
    wanted = {"core": {"run", "Kind", "RATE", "STEP"}, "other": {"late"}, "data.tables": tables}
    assert tiny().closure("core.run") == wanted
    assert tiny().closure("core.apart")["data.tables"] == tables


@pytest.mark.parametrize(
    "change",
    [
        ("# a comment", "# another"),
        ('"""A module."""', '"""Words."""'),
        ('"""A class."""', ""),
        ('"""Its size."""', '"""How large."""'),
        ("RATE, STEP = 16, 2", "RATE, STEP = (\n    0x10,\n    2,\n)"),
        ("kind: Kind, seen: Unseen = None) -> float", "kind: 'Kind | Kind', seen=None)"),
        ("import numpy as np\nfrom typing", "import numpy as np, math\nfrom typing"),
        ("unused = 3", "unused = 4"),
        ("return vars(tables)", "return 1"),
    ],
)  # fmt: skip
def test_what_changes_nothing(tiny, change):
    roots = "core.run", "core.Kind"  # of which a quoted annotation would not tell
    before = tiny().meaning(*roots)
    assert tiny({"core.py": change}).meaning(*roots) == before


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("core.py", ("unused = [step", "steps = [step")),
        ("core.py", ("size: int = 1", "size: float = 1")),
        ("core.py", ("size * RATE", "RATE * size")),
        ("core.py", ("RATE, STEP = 16, 2", "RATE, STEP = 16.0, 2")),
        ("core.py", ("import numpy as np", "import torch as np")),
        ("core.py", ("tables import read as", "tables import FILE as")),
        ("other.py", ("return x", "return -x")),
        ("data/t.tsv", "2\n"),
        ("data/__init__.py", "print('imported')\n"),
        ("core.py", ("unused = 3", "try:\n    import scipy\nexcept ImportError:\n    scipy = None")),
    ],
)
def test_what_changes_the_meaning(tiny, file, change):
    before = tiny().meaning("core.run")
    assert tiny({file: change}).meaning("core.run") != before


def test_own_names_hide_those_of_the_module(tiny):
    text = """
def a(): return 1
def b(): return 2
def c(a):
    b = a
    return b
def d(x): return [b for _ in x]
def e():
    global a
    a = 2
class C:
    a = a()
"""
    package = tiny({"core.py": text})
    for name, also in {"c": set(), "d": {"b"}, "e": {"a"}, "C": {"a"}}.items():
        assert package.closure(f"core.{name}")["core"] - {name} == also, name


def test_ways_of_importing(tiny):
    for line, use in (
        ("import tiny.other", "tiny.other.late"),
        ("import tiny.other as o", "o.late"),
        ("from tiny import other", "other.late"),
        ("from tiny.data import late", "late"),  # handed on
    ):
        for text in (f"{line}\ndef f(): return {use}(1)", f"def f():\n    {line}\n    return {use}(1)"):
            package = tiny({"core.py": text, "data/__init__.py": "from tiny.other import late"})
            assert package.closure("core.f") == {"core": {"f"}, "other": {"late"}}, text
    package = tiny({"core.py": "from tiny import other\ndef f(): return other.unknown"})
    assert package.closure("core.f")["other"] == {"Unseen", "late", "never"}


def test_a_back_end_stands_alone(tiny):
    package, build = tiny(), {"detector": {"build"}}
    aasist, mean = {"models.backend": {"AASIST"}}, {"models.pooling": {"Mean", "_Base"}}
    assert package.closure("detector.build", backend="AASIST") == build | aasist
    assert package.closure("detector.build", backend="Mean") == build | mean
    assert package.closure("detector.build") == build | aasist | {"models.pooling": {"Mean", "Max", "_Base"}}
    with pytest.raises(ConfigError, match=r"backend\.kind 'Foo': no such back-end; there are AASIST, Max, Mean"):
        package.meaning("detector.build", backend="Foo")


def test_a_verb_counts_by_its_body(tiny):
    before, found = tiny().meaning("__main__.verb"), tiny().closure("__main__.verb")
    assert found["__main__"] == {"verb", "_do"} and found["core"] >= {"run"}
    for change in (("help='x'", "help='y'"), ("x: int = 1", "x: float = 2, y: int = 3"), ("Help.", "More help.")):
        assert tiny({"__main__.py": change}).meaning("__main__.verb") == before
    assert tiny({"__main__.py": ("_do(x)\n", "_do(-x)\n")}).meaning("__main__.verb") != before


@pytest.mark.parametrize("root", ["core.none", "none", "none.run", "core.run.more"])
def test_no_such_root(tiny, root):
    with pytest.raises(ValueError, match=f"{root}: no such definition in tiny"):
        tiny().meaning(root)


def test_the_form_is_fixed(tiny):
    """Whatever the version of Python; another form would tell every checkpoint that its code has changed."""
    assert tiny().meaning("core.run") == "9bb5ae4df0099df2"


def test_the_same_on_every_python():
    """Those at hand; the hash is of this package, so of all the syntax that it uses."""
    program = "from spaarsist import code; print(code.meaning(), *(code.meaning(b, backend=k) for b in "
    program += f"{SCORES} for k in code.backends()))"
    answers = set()
    for minor in (11, 12, 13):
        if python := shutil.which(f"python3.{minor}"):
            command = [python, "-S", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {program}"]
            ran = subprocess.run(command, capture_output=True, text=True)
            answers |= {ran.stdout} if ran.returncode == 0 else set()
    assert len(answers) == 1


def _class_of(kind):
    from spaarsist.models import backend, pooling

    return getattr(backend, kind, None) or getattr(pooling, kind)


class TestThisPackage:
    @pytest.fixture
    def changed(self, tmp_path):
        """Hashes of training and scoring by back-end, after a change of a file of a copy."""

        def hashes(file=None, old="", new=""):
            folder = tmp_path / "spaarsist"
            shutil.copytree(PACKAGE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            if file:
                text = (folder / file).read_text()
                assert old in text
                (folder / file).write_text(text.replace(old, new) if old else text + new)
            package = Package(folder)
            return {kind: package.meaning(*SCORES, backend=kind) for kind in ("AASIST", "MHFA", "CAMHFA", "SLS")}

        return hashes

    def test_a_new_back_end_leaves_the_others(self, changed):
        new = "\n\nclass New(_Pooling):\n    def pool(self, frames):\n        return frames[:, -1, 0]\n"
        assert changed() == changed("models/pooling.py", new=new)

    @pytest.mark.parametrize(
        ("file", "old", "new", "differ"),
        [
            ("models/pooling.py", "context // 2", "context // 3", {"CAMHFA"}),
            ("models/pooling.py", "self.query(keys).transpose(1, 2)", "self.query(keys)", {"MHFA", "CAMHFA"}),
            ("models/pooling.py", "frames.unsqueeze(1)", "frames[:, None]", {"MHFA", "CAMHFA", "SLS"}),
            ("models/backend.py", "gate: float = 0.3", "gate: float = 0.4", {"AASIST"}),
            ("evaluation/metrics.py", "def compute_metrics(", "def compute_metrics(more, ", {"all"}),
            ("models/detector.py", "nn.ReLU()", "nn.SELU()", {"all"}),
            ("data/mini/build.py", "SAMPLE_RATE // 4", "SAMPLE_RATE // 3", set()),
            ("evaluation/statistics.py", "def bootstrap", "def bootstraps", set()),
        ],
    )
    def test_what_a_change_reaches(self, changed, file, old, new, differ):
        before, after = changed(), changed(file, old, new)
        assert {kind for kind in before if before[kind] != after[kind]} == (differ if differ != {"all"} else {*before})

    def test_nothing_of_reporting(self, changed):
        before = changed()
        for path in sorted((PACKAGE / "reporting").rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            assert changed(name, new="\nprint('reporting')\n") == before, name

    def test_frames_rest_on_no_back_end(self):
        found = code.closure("experiments.features.make_part")
        assert not {"models.backend", "models.pooling", "experiments.train"} & set(found)
        assert {"models.frontend", "data.augment", "data.audio"} <= set(found)

    def test_how_the_hash_is_made_is_no_part_of_it(self):
        assert "code" not in code.closure(*SCORES)

    def test_back_ends_are_those_that_can_be_built(self):
        from spaarsist.models.detector import build_backend

        for kind in code.backends():
            assert type(build_backend(BackendConfig(kind, 8), 6, 1)).__name__ == kind

    def test_options_are_those_that_back_ends_take(self):
        for kind in code.backends():
            assert {*code.keywords(kind)} | {*code.SIZES} >= {*signature(_class_of(kind)).parameters}
        assert code.keywords("CAMHFA")["context"] == ("OddSize", False) and code.keywords("MeanPool") == {}

    def test_imported_modules_are_known(self):
        program = "import sys, spaarsist.experiments.score; print(*sys.modules)"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        modules = ran.stdout.split()
        names = {name.removeprefix("spaarsist.") for name in modules if name.startswith("spaarsist.")}
        rooms = {name.rpartition(".")[0] for name in names}
        # names.py and code.py come along with what is reached; of a room's own file nothing counts but what it does
        assert len(names) > 10 and names - rooms - {"code"} <= {*code.closure("experiments.score.score")}

    def test_what_is_left_out_is_not_needed(self, synthetic, recipe, tmp_path):
        """Train and score with a copy of the package in which all other definitions are empty."""
        found, package = code.closure(*SCORES, backend="MHFA"), Package(PACKAGE)
        for module, path in package.paths.items():
            lines, names = path.read_text().splitlines(), defaultdict(list)
            for name, nodes in package.module(module).definitions.items():
                for node in nodes:
                    names[node].append(name)
            for node in sorted(names, key=lambda node: -node.lineno):
                if not {*names[node]} & found.get(module, set()) and module != "code":
                    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
                    form = "class {}: pass" if isinstance(node, ast.ClassDef) else "{} = None"
                    lines[first - 1 : node.end_lineno] = [form.format(name) for name in names[node]]
            target = tmp_path / "spaarsist" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(lines) + "\n")
        program = f"""
from pathlib import Path
from spaarsist.config import Augmentation, BackendConfig, FrontendConfig, Stage, TrainingRecipe
from spaarsist.evaluation import statistics
from spaarsist.experiments.score import score
from spaarsist.experiments.train import train
assert statistics.bootstrap is None
data, out = Path({str(synthetic)!r}), Path({str(tmp_path / "out")!r})
train(data / "train.tsv", data / "dev.tsv", out, "MHFA", {replace(recipe, backend=BackendConfig("MHFA", 16))!r}, 1)
score(out, data / "eval.tsv", out / "scores.parquet")
"""
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr[-2000:]
        assert (tmp_path / "out" / "scores.parquet").exists()

    def test_quick(self):
        """The Snakefile asks for every step, and is parsed by every job of a cluster."""
        package = Package(PACKAGE)
        began = time.process_time()
        verbs = [name for name in package.module("__main__").definitions if re.match("[a-z]", name)]
        for verb in verbs:
            package.meaning(f"__main__.{verb}")
        seconds = time.process_time() - began
        assert len(verbs) > 20
        assert seconds < 3  # a second on a machine with nothing else to do


def test_needs_the_standard_library_alone():
    program = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import spaarsist.code; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    ours = {name for name in ran.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours - {"__main__"} == {"spaarsist", "spaarsist.code", "spaarsist.names"}
