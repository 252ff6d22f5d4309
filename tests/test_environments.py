"""Each rule's conda environment, as far as that can be told without conda: here is none, nor a channel to ask."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
import yaml

from conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "spaarsist"
RULES = REPOSITORY / "workflow" / "rules"
DISTRIBUTIONS = packages_distributions()  # of an importable name


def written_rules():
    """File and text of every rule that says itself what it does; `use rule` takes environment and command from one."""
    for path in sorted(RULES.glob("*.smk")):
        for name, text in re.findall(r"^ *rule (\w+):\n((?: +.*\n|\n)+)", path.read_text(), re.MULTILINE):
            yield pytest.param(text, id=name)


def environment_of(text):
    """The environment file that a rule names; ENVIRONMENT and paths are as common.smk and Snakemake take them."""
    (named,) = re.findall(r"^ +conda:\n +(\S+)$", text, re.MULTILINE)
    (shared,) = re.findall(r'^ENVIRONMENT = "(.*)"$', (RULES / "common.smk").read_text(), re.MULTILINE)
    return (RULES / (shared if named == "ENVIRONMENT" else named.strip('"'))).resolve()


def provided(environment):
    """Names of the packages that an environment lists, conda's and pip's."""
    for entry in environment["dependencies"]:
        for pin in entry["pip"] if isinstance(entry, dict) else [entry]:
            yield normal(re.split("[=<>!~ ]", pin)[0])


def normal(name):
    return re.sub("[-_.]+", "-", name).lower()


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def verbs():
    """Verb -> what its part of the command line imports; `figure` has that of all its figures."""
    tree = ast.parse((PACKAGE / "__main__.py").read_text())
    found, everyone = {}, set()
    for node in tree.body:
        names = {*imported(node)}
        if not isinstance(node, ast.FunctionDef) or not node.decorator_list:
            everyone |= names
            continue
        command = node.decorator_list[0]
        given = [arg.value for arg in command.args]
        group = command.func.value.id
        verb = group if group != "app" else given[0] if given else node.name.replace("_", "-")
        found.setdefault(verb, set()).update(names)
    return {verb: names | everyone for verb, names in found.items()}


def third_party(names, seen):
    """Top-level modules from elsewhere that these imports bring along, through the package's own modules."""
    for name in names:
        parts = name.split(".")
        if parts[0] != "spaarsist":
            if parts[0] not in sys.stdlib_module_names:
                yield parts[0]
            continue
        for end in range(2, len(parts) + 1):  # a.b.c may be a module or a name in module a.b
            path = PACKAGE.joinpath(*parts[1:end])
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.exists() and file not in seen:
                    seen.add(file)
                    yield from third_party(imported(ast.parse(file.read_text())), seen)


@pytest.mark.parametrize("rule", written_rules())
def test_a_rules_imports_lie_within_its_environment(rule):
    environment = yaml.safe_load(environment_of(rule).read_text())
    (verb,) = re.findall(r"python -m spaarsist (\S+)", rule)
    known = verbs()
    names = known[verb] if verb in known else set().union(*known.values())  # a verb that the config chooses
    assert verb in known or verb.startswith("{params.")
    needed = {*third_party(names, set())}
    missing = {name for name in needed if not {*map(normal, DISTRIBUTIONS[name])} & {*provided(environment)}}
    assert not missing, f"{verb} imports {missing}"
    assert {"typer", "pydantic"} <= needed  # that imports are followed at all


def test_verbs_differ_in_what_they_import():
    """The search follows a verb, not the whole package."""
    needed = {verb: {*third_party(names, set())} for verb, names in verbs().items()}
    assert {"torch", "transformers"} <= needed["train"] and "transformers" not in needed["table"]
    assert "matplotlib" in needed["figure"] and "matplotlib" not in needed["train"]


@pytest.mark.parametrize("rule", written_rules())
def test_a_rules_environment_is_one(rule):
    path = environment_of(rule)
    environment = yaml.safe_load(path.read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge", "nodefaults"]  # never Anaconda's own, whose terms differ
    *packages, last = environment["dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+(=[0-9.]+)?", package) for package in packages)
    assert "pip" in packages and [*last] == ["pip"]
    python = next(package for package in packages if package.startswith("python="))
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert int(supported[1]) <= int(python.split(".")[1]) < int(supported[2])
    assert len({*provided(environment)}) == len([*provided(environment)]), "a package is listed twice"


STUB = """\
#!{python}
# Stands in for conda: answers what Snakemake asks, and makes an environment whose python only writes down its call.
import json, pathlib, sys
root = pathlib.Path({root!r})
with open(root / "calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
match sys.argv[1:]:
    case ["--version"]:
        print("conda 25.1.0")
    case ["info", "--json"]:
        print(json.dumps({{"conda_prefix": str(root), "platform": "linux-64"}}))
    case ["config", "--get", "channel_priority", "--json"]:
        print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
    case ["env", "create", *rest]:
        python = pathlib.Path(rest[rest.index("--prefix") + 1], "bin", "python")
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\\necho "$0 $@" > "$CONDA_STUB_LOG"\\n')
        python.chmod(0o755)
    case ["clean", *_]:
        pass
    case other:
        sys.exit(f"the stub knows no conda {{other}}")
"""


def test_wiring_of_use_conda_with_a_stub_in_condas_place(tmp_path):
    """Wiring only: Snakemake would have conda build environment.yml, and runs the rule in it. No conda took part."""
    root = tmp_path / "conda"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "conda").write_text(STUB.format(python=sys.executable, root=str(root)))
    (root / "bin" / "conda").chmod(0o755)
    (root / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    target = "results/synthetic/complexity/latency.tsv"
    log = tmp_path / target  # the call itself is what the rule makes
    path = f"{root / 'bin'}:{os.environ['PATH']}"
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path,
         "--configfile", REPOSITORY / "config" / "synthetic.yaml", "--cores", "1", "--use-conda", target],
        env={**os.environ, "PATH": path, "CONDA_STUB_LOG": str(log)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    built = [call.split("--prefix ")[1] for call in (root / "calls").read_text().splitlines() if "env create" in call]
    assert len(built) == 1
    (copied,) = (tmp_path / ".snakemake" / "conda").glob("*.yaml")
    assert copied.read_text() == (REPOSITORY / "environment.yml").read_text()
    assert log.read_text().startswith(f"{built[0]}/bin/python -m spaarsist latency")
