"""Break single places of the code at random and see which breaks the tests let pass: `make mutants`.

cosmic-ray makes the mutants; each module of `ROOMS` meets its own tests, `tests/test_<module>*.py`, in a copy of the
checkout. Which places are drawn follows from SEED and the module's text. Annotations are left alone, since nothing
evaluates them. Ends with the survivors' diffs: each asks for a test, or is another way to write the same.
"""

import ast
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cosmic_ray.commands
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome
from tqdm import tqdm

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("data", "experiments", "evaluation")
SEED = 0
PATIENCE = 4
"""A mutant is caught as well if the tests take so many times as long as without it."""


def main() -> None:
    """Take the number of mutants a module, then names of modules; without names, all."""
    number, *wanted = sys.argv[1:]
    package = REPOSITORY / "src/spaarsist"
    modules = {path.stem: path for room in ROOMS for path in sorted((package / room).glob("[!_]*.py"))}
    if unknown := {*wanted} - {*modules}:
        sys.exit(f"no module {', '.join(sorted(unknown))}; there are {', '.join(modules)}")
    with tempfile.TemporaryDirectory() as folder:
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
        for name in filter(None, listed.split("\0")):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, Path(folder) / name)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = f"{folder}/src"
        survivors = [diff for name in wanted or modules for diff in try_module(modules[name], int(number))]
    print(*survivors, sep="\n\n")


def try_module(module: Path, number: int) -> list[str]:
    """Try so many mutants of a module; gives the diffs of those that its tests let pass."""
    path = module.relative_to(REPOSITORY)
    tests = sorted(map(str, Path("tests").glob(f"test_{module.stem}*.py")))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    began = time.monotonic()
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"{path}: {' '.join(tests)} fails without any mutant; mend that first")
    patience = PATIENCE * (time.monotonic() - began)
    places = mutants(path)
    random.Random(SEED).shuffle(places)
    bar = tqdm(places[:number], desc=module.stem, unit="mutant")
    results = [mutate_and_test([place], shlex.join(command), patience) for place in bar]
    passed = [result.diff for result in results if result.test_outcome == TestOutcome.SURVIVED]
    caught = sum(result.test_outcome == TestOutcome.KILLED for result in results)
    print(f"{path}: {caught} caught, {len(passed)} survived, of {len(places):,} possible", flush=True)
    return passed


def mutants(path: Path) -> list[MutationSpec]:
    """Every place where cosmic-ray would change a module, and how, in an order that is always the same."""
    asides = [
        annotation
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if annotation
    ]
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in asides]
    with use_db(":memory:") as database:
        cosmic_ray.commands.init([path], database, {})
        found = [item.mutations[0] for item in database.work_items]
    found = [place for place in found if not any(start <= place.start_pos < end for start, end in spans)]
    return sorted(found, key=lambda place: (place.start_pos, place.operator_name, place.occurrence))


if __name__ == "__main__":
    main()
