"""Tables and figures from small made-up score files: right numbers, label everywhere, same bytes every time."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spaarsist.config import LABELS, ConfigError, Variant, ratio_code, system_name
from spaarsist.evaluation.metrics import evaluate
from spaarsist.reporting.figures import det, eer_vs_macs
from spaarsist.reporting.tables import system_key, table1

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
SYSTEMS = [
    (k_train, Variant.from_label(k_infer, label))
    for k_train in (0.5, 0.3)
    for k_infer in (0.5, 0.3, 0.1)
    if k_infer <= k_train
    for label in ("Base", "Mag", "MagMean")
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Score files, metrics and complexity of two k_train, two seeds and two corpora."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for corpus, size in (("home", 90), ("wild", 60)):
        trials = pd.DataFrame({"trial_id": [f"{corpus}{i}" for i in range(size)], "path": "x.flac"})
        trials["label"] = ["bonafide", "spoof"] * (size // 2)
        trials = trials.assign(speaker_id="s", attack_id="-", codec="-", n_samples=64600)
        trials.to_csv(folder / f"{corpus}.trials.tsv", sep="\t", index=False)
        for k_train in (0.5, 0.3):
            for seed in (1, 2):
                columns = {"trial_id": trials["trial_id"]}
                for k, variant in SYSTEMS:
                    if k == k_train:
                        quality = np.where(trials["label"] == "bonafide", 1.2, -1.2)
                        columns[variant.column] = (quality + rng.normal(size=size)).astype(np.float32)
                metadata = {"system": f"AST-{ratio_code(k_train)}", "k_train": k_train, "seed": seed, "corpus": corpus}
                table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
                table = table.replace_schema_metadata({b"spaarsist": json.dumps(metadata).encode()})
                stem = folder / f"{corpus}-{ratio_code(k_train)}-{seed}"
                pq.write_table(table, f"{stem}.parquet")
                evaluate(f"{stem}.parquet", folder / f"{corpus}.trials.tsv", f"{stem}.metrics.tsv", n_bootstrap=20)
    rows = [
        (system_name(k, v), 611_784 - 100 * i, 713_000_000 - 1_000_000 * i, "fvcore", 201, 1024)
        for i, (k, v) in enumerate(SYSTEMS)
    ]
    complexity = pd.DataFrame(rows, columns=["system", "n_params", "n_macs", "counter", "n_frames", "feature_dim"])
    complexity.to_csv(folder / "complexity.tsv", sep="\t", index=False)
    return folder


def make_table(inputs, stem, seeds="*", **options):
    table1(sorted(inputs.glob(f"*-{seeds}.metrics.tsv")), [inputs / "complexity.tsv"], CORPORA, stem, **options)
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ("tsv", "md", "tex")]


def eers(inputs, system, corpus):
    results = pd.concat(pd.read_csv(path, sep="\t") for path in sorted(inputs.glob("*.metrics.tsv")))
    rows = results.query("system == @system and corpus == @corpus and metric == 'eer' and condition == 'pooled'")
    return rows.sort_values("seed")


def test_table_of_two_seeds(inputs, tmp_path):
    tsv, md, _ = make_table(inputs, tmp_path / "table1", label=LABEL)
    table = pd.read_csv(tsv, sep="\t", index_col="system")
    assert list(table.index) == [system_name(*s) for s in SYSTEMS]  # written in the promised order above
    values = eers(inputs, "AST-03-01-Mag", "wild")["value"]
    assert len(values) == 2
    row = table.loc["AST-03-01-Mag"]
    assert row["wild.eer.mean"] == pytest.approx(values.mean())
    assert row["wild.eer.std"] == pytest.approx(values.std(ddof=1))
    assert row["wild.n_seeds"] == 2 and np.isnan(row["wild.eer.ci_low"])
    assert {"home.act_dcf_released.mean", "home.gap_released.std"} <= set(table.columns)

    text = md.read_text()
    line = next(line for line in text.splitlines() if "AST-03-01-Mag**" in line)
    cells = [cell.strip().replace("<ins>", "").replace("</ins>", "") for cell in line.strip("|").split("|")]
    assert cells[:3] == ["**AST-03-01-Mag**‡", f"{int(row['n_params']):,}", f"{row['n_macs'] / 1e6:.1f}"]
    assert cells[8] == f"{100 * values.mean():.2f} ± {100 * values.std():.2f}"
    assert cells[9].startswith(f"{row['wild.min_dcf.mean']:.3f} ±")
    assert "(n = 2; rough)" in text and "fvcore, 201 frames of 1,024 features" in text and "† AASIST" in text

    best = table["home.cllr.mean"].idxmin()
    assert f"<ins>{table['home.cllr.mean'].min():.3f}</ins>" in next(
        line for line in text.splitlines() if line.startswith((f"| {best} ", f"| **{best}**"))
    )


def test_table_of_one_seed_has_intervals_instead(inputs, tmp_path):
    tsv, md, tex = make_table(inputs, tmp_path / "table1", seeds="2")
    row = pd.read_csv(tsv, sep="\t", index_col="system").loc["AST-05-05"]
    wanted = eers(inputs, "AST-05-05", "home").iloc[1]
    assert row[["home.eer.mean", "home.eer.ci_low", "home.eer.ci_high"]].to_list() == pytest.approx(
        wanted[["value", "ci_low", "ci_high"]].to_list()
    )
    assert np.isnan(row["home.eer.std"])
    assert " ± " not in md.read_text() and "One training seed; 95 % bootstrap" in md.read_text()
    _, md, _ = make_table(inputs, tmp_path / "other", seeds=1, confidence=0.9)
    assert "90 % bootstrap intervals" in md.read_text()
    assert r"\pm" not in tex.read_text()


def test_label_is_on_every_readable_table_or_on_none(inputs, tmp_path):
    _, md, tex = make_table(inputs, tmp_path / "with", label=LABEL)
    assert LABEL in md.read_text().splitlines()[0]
    assert LABEL.replace("%", r"\%") in tex.read_text()
    _, md, tex = make_table(inputs, tmp_path / "without")
    assert md.read_text().startswith("# Table 1\n") and "mini" not in tex.read_text()


def test_latex_is_balanced(inputs, tmp_path):
    _, _, tex = make_table(inputs, tmp_path / "table1", label=LABEL)
    text = tex.read_text()
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in bare])
    assert depth[-1] == 0 and depth.min() >= 0
    assert bare.count("$") % 2 == 0
    for environment in ("table*", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    assert len(rows) == 1 + len(SYSTEMS)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {12}
    assert r"\caption{" in text and r"\label{" in text and r"Home \& garden" in text
    text.replace("$^\\dagger$", "").encode("ascii")  # no character that plain LaTeX might lack


def test_rows_are_ordered_as_in_the_paper():
    names = [f"AST-{k}-{c}{v}" for k in ("05", "03", "01") for c in ("05", "01") for v in ("", "-Mag", "-Mean", "-Uni")]
    mixed = [*names[1::2], *names[::2]]
    assert sorted(mixed, key=system_key) == names
    assert len(LABELS) == 6
    for bad in ("MHFA", "AST-05", "AST-05-05-Best", "AST--05"):
        with pytest.raises(ConfigError, match="not a system name"):
            system_key(bad)


def test_table_refuses_what_does_not_fit_together(inputs, tmp_path):
    metrics, complexity = sorted(inputs.glob("*.metrics.tsv")), inputs / "complexity.tsv"
    small, other = tmp_path / "small.tsv", tmp_path / "other.tsv"
    table = pd.read_csv(complexity, sep="\t")
    table[1:].to_csv(small, sep="\t", index=False)
    table.assign(n_params=1).to_csv(other, sep="\t", index=False)
    for arguments, complaint in (
        ((metrics, [small], CORPORA), "missing for .*AST-05-05"),
        ((metrics, [complexity, other], CORPORA), "contradictory for .*AST-05-05"),
        ((metrics + metrics[:1], [complexity], CORPORA), "a number twice"),
        ((metrics, [complexity], [*CORPORA, ("mars", "Mars")]), "no pooled metrics of corpus 'mars'"),
        ((metrics, metrics, CORPORA), "columns missing: n_params"),
        (([], [complexity], CORPORA), "no file given"),
        (([tmp_path / "none.tsv"], [complexity], CORPORA), "not a readable"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            table1(*arguments, tmp_path / "refused")
    assert not list(tmp_path.glob("refused*"))


def draw_all(inputs, folder, label=LABEL):
    tsv, *_ = make_table(inputs, folder / "table1")
    det(
        sorted(inputs.glob("*.parquet")),
        {corpus: inputs / f"{corpus}.trials.tsv" for corpus, _ in CORPORA},
        ["AST-05-05", "AST-03-01-Mag"],
        CORPORA,
        folder / "det",
        label,
    )
    eer_vs_macs(tsv, CORPORA, folder / "macs", label)


def test_figures_are_whole_labelled_and_the_same_every_time(inputs, tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(
        "spaarsist.reporting.figures.Figure.supxlabel", lambda figure, text, **_: texts.append(" ".join(text.split()))
    )
    draw_all(inputs, tmp_path / "a")
    assert len(texts) == 2 and all(LABEL in text for text in texts)
    assert "seed 1, the lowest of 2" in texts[0] and "standard deviation over seeds" in texts[1]
    draw_all(inputs, tmp_path / "b")
    made = {path.name for path in (tmp_path / "a").iterdir()}
    assert made >= {f"{name}.{ending}" for name in ("det", "macs") for ending in ("png", "pdf", "tsv")}
    for name in made:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes(), name
        assert len(content) > (10_000 if name.endswith(("png", "pdf")) else 500)


def test_figures_tell_what_they_show(inputs, tmp_path):
    draw_all(inputs, tmp_path, label="")
    curves = pd.read_csv(tmp_path / "det.tsv", sep="\t")
    assert set(curves["seed"]) == {1} and set(curves["corpus"]) == {"home", "wild"}
    curve = curves.query("system == 'AST-03-01-Mag' and corpus == 'wild'")
    wanted = eers(inputs, "AST-03-01-Mag", "wild")["value"].iloc[0]
    assert curve["eer"].to_numpy() == pytest.approx(wanted)
    nearest = (curve["p_miss"] - curve["p_fa"]).abs().min()
    assert nearest <= 1 / 30  # the thinned curve still passes its equal error point
    points = pd.read_csv(tmp_path / "macs.tsv", sep="\t")
    assert len(points) == 2 * len(SYSTEMS) and (points["low"] <= points["eer"]).all()
    assert points["n_macs"].max() == 713_000_000
    assert not list(tmp_path.glob(".*"))


def test_figures_refuse_what_they_cannot_show(inputs, tmp_path):
    scores = sorted(inputs.glob("*.parquet"))
    trials = {corpus: inputs / f"{corpus}.trials.tsv" for corpus, _ in CORPORA}
    for systems, lists, complaint in (
        (["AST-01-01"], trials, "no scores of AST-01-01"),
        ([], trials, "1 to 7 systems"),
        (["AST-05-05"], {"home": trials["home"]}, "no trial list was given for corpus 'wild'"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            det(scores, lists, systems, CORPORA, tmp_path / "det")
    with pytest.raises(ConfigError, match="holds no EER of corpus 'home'"):
        eer_vs_macs(inputs / "complexity.tsv", CORPORA, tmp_path / "macs")
