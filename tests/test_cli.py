import subprocess
import sys
import time

import pytest

VERBS = [
    "mini-corpora",
    "synthetic-corpora",
    "trials",
    "train",
    "score",
    "export",
    "export-scores",
    "metrics",
    "compare",
    "calibrate",
    "inspect",
    "provenance",
    "complexity",
    "latency",
    "findings",
    "summary",
    "composite",
    "table",
    "judge",
    "claims",
    "report",
    "figure",
    "publish",
    "benchmark",
]
TABLES = ["systems", "differences", "ablation", "nodes", "stack-attention", "calibration", "latency", "detector"]
FIGURES = [
    "det",
    "histograms",
    "reliability",
    "training",
    "eer-vs-cost",
    "k-sweep",
    "attacks",
    "temperature",
    "composite",
    "macs-by-module",
    "latency",
    "differences",
    "ablation",
    "node-overlap",
    "kept-nodes",
    "stack-attention",
    "calibration",
]


def run(*arguments):
    command = [sys.executable, "-m", "spaarsist", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_answers_at_once():
    began = time.perf_counter()
    result = run("--help")
    assert time.perf_counter() - began < 3
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", [*VERBS, *(f"table {t}" for t in TABLES), *(f"figure {f}" for f in FIGURES)])
def test_every_verb_has_help(verb):
    assert run(*verb.split(), "--help").returncode == 0


def test_wrong_usage():
    assert run("train").returncode == 2
    assert run("no-such-verb").returncode == 2


def test_bad_input_is_one_line_and_exit_code_one(tmp_path):
    (tmp_path / "p.tsv").write_text("T_1 T_2 F - - - AC3 A05 fake -\n")
    result = run("trials", "--protocol", tmp_path / "p.tsv", "--format", "asvspoof5", "--audio", tmp_path,
                 "--output", tmp_path / "o.tsv")  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"spaarsist: {tmp_path}/p.tsv, line 1: label 'fake'; expected bonafide or spoof"
    ]
    assert not (tmp_path / "o.tsv").exists()
    result = run("trials", "--protocol", tmp_path / "p.tsv", "--format", "asvspoof", "--audio", tmp_path,
                 "--output", tmp_path / "o.tsv")  # fmt: skip
    assert result.returncode == 1 and "expected one of asvspoof5, in_the_wild, list" in result.stderr


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("AST-03-Mag", "'Mag' names no variant"),
        ("AST-15-05", "'15' names no variant"),
        ("MHFA", "system MHFA: no such back-end; there are none"),
    ],
)
def test_bad_systems(tmp_path, system, message):
    result = run("complexity", "--output", tmp_path / "a", "--breakdown", tmp_path / "b", "--system", system)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
