"""The conda environment of the rules, as far as that can be told without conda: here is none, nor a channel to ask."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from conftest import REPOSITORY, stub_conda

RULES = REPOSITORY / "workflow" / "rules"


def test_every_rule_runs_in_the_one_environment():
    """Its pins are pyproject.toml's, and what the package imports is among these: see test_architecture.py."""
    (shared,) = re.findall(r'^ENVIRONMENT = "(.*)"$', (RULES / "common.smk").read_text(), re.MULTILINE)
    assert (RULES / shared).resolve() == REPOSITORY / "environment.yml"
    found = [
        text for path in RULES.glob("*.smk") for text in re.split(r"^ *rule\b", path.read_text(), flags=re.MULTILINE)
    ]
    rules = [text for text in found if "python -m spaarsist" in text]
    assert len(rules) > 15 and all(re.search(r"conda:\n +ENVIRONMENT\n", text) for text in rules)


def test_the_environment_is_one():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge", "nodefaults"]  # never Anaconda's own, whose terms differ
    *packages, last = environment["dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+(=[0-9.]+)?", package) for package in packages)
    assert "pip" in packages and [*last] == ["pip"]
    python = next(package for package in packages if package.startswith("python="))
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert int(supported[1]) <= int(python.split(".")[1]) < int(supported[2])
    names = [re.sub("[-_.]+", "-", re.split("[=<>!~ ]", pin)[0]).lower() for pin in packages + last["pip"]]
    assert len({*names}) == len(names), "a package is listed twice"


def test_wiring_of_use_conda_with_a_stub_in_condas_place(tmp_path):
    """Wiring only: Snakemake would have conda build environment.yml, and runs the rule in it. No conda took part."""
    root = tmp_path / "conda"
    stub_conda(root)
    targets = [f"results/synthetic/complexity/{name}.tsv" for name in ("paper_size", "paper_size_breakdown")]
    logs = [str(tmp_path / target) for target in targets]  # the call itself is what the rule makes
    path = f"{root / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CONDA_STUB_LOGS": " ".join(logs)}
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path,
         "--configfile", REPOSITORY / "config" / "synthetic.yaml", "--cores", "1", "--use-conda", targets[0]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    built = [call.split("--prefix ")[1] for call in (root / "calls").read_text().splitlines() if "env create" in call]
    assert len(built) == 1
    (copied,) = (tmp_path / ".snakemake" / "conda").glob("*.yaml")
    assert copied.read_text() == (REPOSITORY / "environment.yml").read_text()
    assert Path(logs[0]).read_text().startswith(f"{built[0]}/bin/python -m spaarsist complexity")
