import shutil
import sys
from pathlib import Path

import pytest

from spaarsist.config import Augmentation, BackendConfig, Stage, TrainingRecipe

REPOSITORY = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"

CONDA = """\
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


def stub_conda(root):
    """Put an executable in conda's place: `<root>/bin/conda`."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "conda").write_text(CONDA.format(python=sys.executable, root=str(root)))
    (root / "bin" / "conda").chmod(0o755)
    (root / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """The made-up corpora and their trial lists: a folder with train.tsv, dev.tsv, eval.tsv and wild.tsv."""
    from spaarsist.data.mini.build import build_synthetic
    from spaarsist.data.protocol import make_trials

    root = tmp_path_factory.mktemp("synthetic") / "data"
    build_synthetic(root)
    five, wild = root / "asvspoof5", root / "in_the_wild" / "release_in_the_wild"
    for name, protocol, folder in (
        ("train", "ASVspoof5.train.tsv", "flac_T"),
        ("dev", "ASVspoof5.dev.track_1.tsv", "flac_D"),
        ("eval", "ASVspoof5.eval.track_1.tsv", "flac_E_eval"),
    ):
        make_trials(five / protocol, "asvspoof5", [five / folder], root.parent / f"{name}.tsv")
    make_trials(wild / "meta.csv", "in_the_wild", [wild], root.parent / "wild.tsv")
    return root.parent


@pytest.fixture(scope="session")
def moved(synthetic, tmp_path_factory):
    """The same corpora on another disk: other paths in the trial lists, and nothing else."""
    folder = tmp_path_factory.mktemp("moved") / "disk"
    shutil.copytree(synthetic, folder)
    for path in folder.glob("*.tsv"):
        text = path.read_text()
        path.write_text(text.replace(str(synthetic), str(folder)))
        assert path.read_text() != text
    return folder


@pytest.fixture(scope="session")
def relabelled(synthetic, tmp_path_factory):
    """The trial lists with the label of one trial changed."""
    folder = tmp_path_factory.mktemp("relabelled")
    for path in synthetic.glob("*.tsv"):
        (folder / path.name).write_text(path.read_text().replace("\tspoof\t", "\tbonafide\t", 1))
    return folder


@pytest.fixture(scope="session")
def recipe():
    """Two short stages with some augmentation: seconds on one core."""
    return TrainingRecipe(
        backend=BackendConfig(embedding_dim=16),
        crop=8000,
        epoch_size=16,
        stages=(Stage(2, 8, 1e-3), Stage(2, 8, 1e-3, train_frontend=True, schedule="one_cycle", crop=6400)),
        augmentation=Augmentation(0, 0.3, 0, 0, noise_filter=0.5, noise=0.9, filter=0.9),
    )


@pytest.fixture(scope="session")
def checkpoint(synthetic, recipe, tmp_path_factory):
    """A detector trained for a moment on the made-up corpora."""
    from spaarsist.experiments.train import train

    folder = tmp_path_factory.mktemp("checkpoint") / "AST-05"
    train(synthetic / "train.tsv", synthetic / "dev.tsv", folder, "AST-05", recipe, 1)
    return folder
