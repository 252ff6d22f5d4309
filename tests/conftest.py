import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from spaarsist.artefacts import SCORE_METADATA, TRIAL_COLUMNS, WEIGHTS_HASH, sealed
from spaarsist.config import Augmentation, BackendConfig, Stage, TrainingRecipe
from spaarsist.evaluation.evaluate import RESULT_COLUMNS
from spaarsist.evaluation.metrics import METRICS
from spaarsist.evaluation.summary import IDENTITY, RUN, SIZE
from spaarsist.names import System

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
        python.write_text('#!/bin/sh\\necho "$0 $@" | tee $CONDA_STUB_LOGS\\n')
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


# ---------------------------------------------------------------- made-up files, as the verbs write them

PAPER_SIZE = {"n_frames": 201, "feature_dim": 1024, "n_layers": 24, "embedding_dim": 1024}
"""What sizes are counted with, for the paper's numbers."""


def write_tsv(path, rows, **usual):
    """Rows as mappings; `usual` are the cells that a row does not name."""
    pd.DataFrame([usual | row for row in rows]).to_csv(path, sep="\t", index=False, float_format="%.10g")
    return path


def write_trials(path, trial_ids, labels, **columns):
    """A trial list, which also comes back; what is not named is the same of every trial."""
    usual = {"path": "x.flac", "speaker_id": "s", "attack_id": "-", "codec": "-", "n_samples": 64_600}
    table = pd.DataFrame({"trial_id": trial_ids, "label": labels} | usual | columns)[[*TRIAL_COLUMNS]]
    table.to_csv(path, sep="\t", index=False)
    return table


def write_metrics(path, rows):
    """A file of `metrics`: rows of cells in the order of its columns."""
    pd.DataFrame(rows, columns=RESULT_COLUMNS).to_csv(path, sep="\t", index=False)
    return path


def write_sizes(path, sizes):
    """A file of `complexity`: system -> (n_params, n_macs), at the paper's size."""
    rows = [{"system": name, "n_params": n_params, "n_macs": n_macs} for name, (n_params, n_macs) in sizes.items()]
    return write_tsv(path, rows, n_macs_linear=195_045_376, n_macs_frontend=72e9, counter="fvcore", **PAPER_SIZE)


def write_results(folder, systems, corpora, seeds=(1, 2)):
    """Random metrics in `<corpus>-<seed>.metrics.tsv`, which come back in one frame; sizes in `complexity.tsv`."""
    rng = np.random.default_rng(0)
    rows = [
        (system, seed, System.parse(system).column, corpus, condition, metric, *rng.uniform(0.05, 0.4, 3), 90, 90)
        for corpus in corpora
        for seed in seeds
        for system in systems
        for condition in ("pooled", "attack:A17")
        for metric in METRICS
    ]
    results = pd.DataFrame(rows, columns=RESULT_COLUMNS)
    for (corpus, seed), part in results.groupby(["corpus", "seed"]):
        write_metrics(folder / f"{corpus}-{seed}.metrics.tsv", part)
    sizes = {name: (611_784 - 100 * i, 713_000_000 - 1_000_000 * i) for i, name in enumerate(systems)}
    write_sizes(folder / "complexity.tsv", sizes)
    return results


def pooled(results, system, corpus, metric):
    """A system's rows of `write_results`, by seed."""
    chosen = results[["system", "corpus", "condition", "metric"]].eq([system, corpus, "pooled", metric])
    return results[chosen.all(axis=1)].sort_values("seed")


def write_record(path, **record):
    """The record of a training, sealed; it fits no weights, unless it names their hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sealed({WEIGHTS_HASH: ""} | record)))
    return path


def write_summary(path, systems):
    """A file of `summary`: system -> its cells. What is not named is the paper's size, or empty."""
    rows = [{"system": name, "trained": System.parse(name).trained} | cells for name, cells in systems.items()]
    empty = dict.fromkeys((*IDENTITY, *SIZE, *RUN))
    return write_tsv(path, rows, **empty | PAPER_SIZE | {"counter": "fvcore"})


def write_scores(path, columns, **about):
    """A score file: name of a column -> its values, with the trial ids first; `about` is what it says of itself."""
    table = pa.table({name: columns[name] for name in columns})
    pq.write_table(table.replace_schema_metadata({SCORE_METADATA: json.dumps(about)}), path)
    return path


def write_replicates(path, trials, speakers=None, **about):
    """Resamples of `metrics`: `<column>:<metric>` -> its draws over trials, and over speakers where these are known."""
    kinds = {"trials": trials} | ({"speakers": speakers} if speakers else {})
    n = len(next(iter(trials.values())))
    columns = {"resampling": np.repeat([*kinds], n), "replicate": [*range(n)] * len(kinds)}
    columns |= {name: np.concatenate([kind[name] for kind in kinds.values()]).astype(float) for name in trials}
    known = {"n_speakers": 6, "speaker_degrees_of_freedom": 4} if speakers else {}
    usual = {"trial_list": "x", "resampling_seed": 0, "n_speakers": 0, "speaker_degrees_of_freedom": 0}
    return write_scores(path, columns, **usual | known | about)


def write_comparisons(path, pairs, speakers, changes=(), **usual):
    """A file of `compare`: nothing is significant but what `changes` says of a (system, reference, corpus, metric).

    `speakers`: corpus -> their number.
    """
    rows = []
    for pair, corpus, metric in itertools.product(pairs, speakers, ("eer", "min_dcf", "cllr")):
        row = dict(zip(("system", "reference", "corpus", "metric"), (*pair, corpus, metric), strict=True))
        row |= {"n_speakers": speakers[corpus], "p_holm": None if metric == "cllr" else 0.05}
        rows.append(row | dict(changes).get((*pair, corpus, metric), {}))
    usual = {"n_seeds": 2, "difference": 0.01, "ci_low": -0.02, "ci_high": 0.04, "p": 0.001} | usual
    return write_tsv(path, rows, **usual)


# ---------------------------------------------------------------- tables


def markdown_cells(text):
    """Rows of a Markdown table, split at the bars that are not escaped."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def compile_pdf(folder, name, width="80cm"):
    """Compile `document.tex` of that table alone, on a page whose text is that wide; gives the log."""
    document = r"\documentclass[twocolumn]{article}\usepackage[T1]{fontenc}\usepackage{booktabs}"
    document += r"\usepackage[nosetpagesize]{graphicx}"
    document += rf"\setlength{{\pdfpagewidth}}{{90cm}}\setlength{{\textwidth}}{{{width}}}\begin{{document}}"
    (folder / "document.tex").write_text(rf"{document}\input{{{name}}}See \ref{{tab:{name}}}.\end{{document}}")
    for _ in range(2):  # the second time for references
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


# ---------------------------------------------------------------- figures: the test file calls their module `figures`


@pytest.fixture
def drawn(request, monkeypatch):
    """Every figure in order, as it is about to be saved, with its note; only its TSV is written, which is quick."""
    kept = []

    def save(figure, shown, stem, note, label):
        kept.append(figure)
        figure.note = note
        shown.to_csv(f"{stem}.tsv", sep="\t", index=False)

    monkeypatch.setattr(request.module.figures, "save", save)
    return kept


@pytest.fixture
def drawn_twice(request, monkeypatch, tmp_path):
    """Draws into two folders; the files are whole, labelled and the same: gives their names."""

    def check(draw, label):
        texts, supxlabel = [], Figure.supxlabel

        def listen(figure, text, **style):
            texts.append(" ".join(text.split()))
            return supxlabel(figure, text, **style)

        monkeypatch.setattr(Figure, "supxlabel", listen)
        monkeypatch.setitem(request.module.figures.STYLE, "savefig.dpi", 60)
        one, two = tmp_path / "one", tmp_path / "two"
        draw(one)
        draw(two)
        names = {path.name for path in one.iterdir()}
        assert len(texts) == 2 * len(names) / 3 and all(label in text for text in texts)
        for name in names:
            content = (one / name).read_bytes()
            assert content == (two / name).read_bytes() and len(content) > (20 if name.endswith("tsv") else 5_000), name
        return names

    return check


# ---------------------------------------------------------------- corpora and a training


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On tensors this small, threads of PyTorch take longer to wait for each other than to work."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


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


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of so many KiB: gives its folder. Only root may."""
    mounted = []

    def mount(size, options=""):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k{options}", "tmpfs", folder]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


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


def state(folder):
    """What a folder holds: name -> when it was written, and what."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def misplace(trial_list, place, output):
    """The trial list with another place for its fourth recording."""
    trials = pd.read_csv(trial_list, sep="\t", dtype=str, keep_default_na=False)
    trials.loc[3, "path"] = str(place)
    trials.to_csv(output, sep="\t", index=False)
    return output


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
