"""EER by attack: means and intervals stand in their rows, under their kind; bad input is refused."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t

from conftest import write_metrics
from spaarsist.names import METHODS, ConfigError
from spaarsist.reporting.figures import attacks as figures

CORPORA = [("home", "mini, seen voices"), ("wild", "In-the-Wild, which does not name how its spoofs were made")]
SYSTEMS = ["MHFA", "AST-05-01-Mag", "AST-05-05"]
ATTACKS = {"speak": 1234, "psola": 40, "world_copy": 40, "griffin_lim_linear": 41}
LABEL = "mini corpora, 100 % made up"


def write(folder, attacks=ATTACKS, seeds=(1, 2, 3)):
    """A file per seed and corpus; the corpus out of domain has no attacks."""
    rng, files = np.random.default_rng(0), []
    for seed, (corpus, _) in itertools.product(seeds, CORPORA):
        conditions = {"pooled": 1300} | ({f"attack:{a}": n for a, n in attacks.items()} if corpus == "home" else {})
        rows = []
        for system, (condition, n) in itertools.product(SYSTEMS, conditions.items()):
            eer = rng.uniform(0.05, 0.15)
            rows.append((system, seed, "score", corpus, condition, "eer", eer, eer - 0.02, eer + 0.03, 100, n))
            rows.append((system, seed, "score", corpus, condition, "cllr", 3.0, 2.0, 4.0, 100, n))
        files.append(write_metrics(folder / f"{corpus}.{seed}.tsv", rows))
    return files


def names(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_every_attack_stands_under_its_kind_with_mean_and_interval(tmp_path, drawn):
    files = write(tmp_path)
    figures.attacks(files, SYSTEMS, CORPORA, tmp_path / "x")
    (axes,) = drawn[0].axes  # the other corpus has no attacks
    assert axes.get_title("right") == "mini, seen voices"
    assert names(axes) == [
        *("Copy-synthesis", "Griffin–Lim, full spectrum (41)", "WORLD (40)", "Voice conversion", "PSOLA (40)"),
        *("Text-to-speech", "espeak-ng (1,234)", "all attacks pooled (1,300)"),
    ]
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t")
    order = ["griffin_lim_linear", "world_copy", "psola", "speak", "all attacks pooled"]
    assert [*zip(table["attack"], table["system"], strict=True)] == [*itertools.product(order, SYSTEMS)]
    held = pd.concat(pd.read_csv(path, sep="\t") for path in files[::2]).query("metric == 'eer'")
    held["condition"] = held["condition"].str.removeprefix("attack:").replace("pooled", "all attacks pooled")
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None)]
    bars = [path.vertices for bars in axes.collections for path in bars.get_paths()]
    heights = dict(zip(names(axes), axes.get_yticks(), strict=True))
    for row, mark, bar in zip(table.itertuples(), marks, bars, strict=True):
        of_seeds = held[(held["condition"] == row.attack) & (held["system"] == row.system)]["value"]
        mean = of_seeds.mean()
        # Trials are the same for all seeds, so that their variance does not shrink with the seeds
        error = math.sqrt((0.025 / 1.959964) ** 2 + of_seeds.var(ddof=1) / 3)
        reach = t.ppf(0.975, 2) * error / mean / (1 - mean)
        assert (row.eer, row.n_seeds) == (pytest.approx(mean), 3)
        assert (row.ci_low, row.ci_high) == pytest.approx(expit([logit(mean) - reach, logit(mean) + reach]))
        assert mark.get_xdata()[0] == pytest.approx(100 * mean)
        assert bar[:, 0] == pytest.approx([100 * row.ci_low, 100 * row.ci_high])
        name = f"{METHODS.get(row.attack, ['', row.attack])[1]} ({row.n_spoof:,})"
        assert abs(mark.get_ydata()[0] - heights[name]) < 0.5 and bar[0, 1] == mark.get_ydata()[0]
    places = [line.get_ydata()[0] for line in marks]
    assert places == sorted({*places}), "no mark hides another"
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is on top"
    assert 100 * table["ci_high"].max() <= axes.get_xlim()[1] <= 100 and axes.get_xlim()[0] == 0


def test_attacks_of_no_known_kind_have_no_headings(tmp_path, drawn):
    figures.attacks(write(tmp_path, {"A18": 5, "A17": 4}), SYSTEMS, CORPORA, tmp_path / "x")
    assert names(drawn[0].axes[0]) == ["A17 (4)", "A18 (5)", "all attacks pooled (1,300)"]
    figures.attacks(write(tmp_path, {"A18": 5, "speak": 4}), SYSTEMS, CORPORA, tmp_path / "x")
    assert names(drawn[1].axes[0])[:4] == ["Text-to-speech", "espeak-ng (4)", "Other", "A18 (5)"]


def test_an_attack_that_is_always_found_out(tmp_path, drawn):
    files = write(tmp_path, {"speak": 40})
    for path in files:
        table = pd.read_csv(path, sep="\t")
        table.loc[table["condition"] == "attack:speak", ["value", "ci_low", "ci_high"]] = 0.0
        table.to_csv(path, sep="\t", index=False)
    figures.attacks(files, SYSTEMS, CORPORA, tmp_path / "x")
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t").query("attack == 'speak'")
    assert (table["eer"] == 0).all() and table["ci_low"].isna().all()
    assert np.isfinite(drawn[0].axes[0].get_xlim()).all()


def test_one_seed_and_no_bootstrap(tmp_path, drawn):
    files = write(tmp_path, seeds=(1,))
    figures.attacks(files, SYSTEMS, CORPORA, tmp_path / "x")
    one = pd.read_csv(tmp_path / "x.tsv", sep="\t")
    assert (one["ci_low"] < one["eer"]).all() and (one["eer"] < one["ci_high"]).all()
    for path in files:
        table = pd.read_csv(path, sep="\t").assign(ci_low=None, ci_high=None)
        table.to_csv(path, sep="\t", index=False)
    figures.attacks(files, SYSTEMS, CORPORA, tmp_path / "x")
    assert pd.read_csv(tmp_path / "x.tsv", sep="\t")["ci_low"].isna().all()
    assert np.isfinite(drawn[1].axes[0].get_xlim()).all()


def test_says_in_words_that_no_corpus_names_its_attacks(tmp_path, drawn):
    figures.attacks(write(tmp_path)[1::2], SYSTEMS, CORPORA[1:], tmp_path / "x")
    text = " ".join(drawn[0].get_suptitle().split())
    assert text.startswith("No corpus of this run names its attacks: In-the-Wild, which does")
    assert not drawn[0].axes and drawn[0].get_figheight() < 2
    assert (tmp_path / "x.tsv").read_text().split()[:4] == ["corpus", "kind", "attack", "system"]


def test_names_of_methods_fit(tmp_path, drawn):
    files = write(tmp_path, dict.fromkeys(METHODS, 80))
    for path in files[1::2]:
        table = pd.read_csv(path.with_name(path.name.replace("wild", "home")), sep="\t")
        table.assign(corpus="wild").to_csv(path, sep="\t", index=False)
    figures.attacks(files, SYSTEMS, CORPORA, tmp_path / "x")
    left, right = drawn[0].axes
    drawn[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in right.get_yticklabels()]
    assert min(box.x0 for box in boxes) > left.get_window_extent().x1
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(boxes))


def test_files_are_whole_labelled_and_the_same_every_time(tmp_path, drawn_twice):
    files = write(tmp_path)

    def draw(folder):
        figures.attacks(files, SYSTEMS, CORPORA, folder / "attacks", LABEL)
        figures.attacks(files[1::2], SYSTEMS, CORPORA[1:], folder / "no_attacks", LABEL)

    names = drawn_twice(draw, LABEL)
    assert names == {f"{stem}.{ending}" for stem in ("attacks", "no_attacks") for ending in ("png", "pdf", "tsv")}


def test_refuses_what_it_cannot_show(tmp_path):
    files = write(tmp_path)
    home = pd.read_csv(files[0], sep="\t")
    paths = {}
    for name, table in {
        "bad": home.assign(value="much"),
        "grown": home.assign(seed=4, n_spoof=home["n_spoof"] + 1),
        "holed": home[(home["system"] != "MHFA") | (home["condition"] != "attack:speak")],
    }.items():
        paths[name] = tmp_path / f"{name}.tsv"
        table.to_csv(paths[name], sep="\t", index=False)
    for arguments, complaint in (
        ((files[1::2], ["MHFA"], CORPORA), "no EER of MHFA on corpus 'home'"),
        ((files[1::2], ["AST-07-07"], CORPORA[1:]), "no EER of AST-07-07 on corpus 'wild'"),
        (([], ["MHFA"], CORPORA), "no EER of MHFA on corpus 'home'"),
        ((files, [], CORPORA), "1 to 7 systems; got 0"),
        ((files, ["MHFA"] * 8, CORPORA), "got 8"),
        (([paths["holed"]], SYSTEMS, CORPORA[:1]), "no EER of MHFA on attack speak of corpus 'home'"),
        ((files + files[:1], ["MHFA"], CORPORA), "a number twice"),
        (
            ([*files, paths["grown"]], ["MHFA"], CORPORA),
            "contradict each other on the number of spoofs of attack all",
        ),
        (([paths["bad"]], ["MHFA"], CORPORA), "bad.tsv.*value.*a finite number"),
        (([tmp_path / "none.tsv"], ["MHFA"], CORPORA), "none.tsv: not a readable TSV"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            figures.attacks(*arguments, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))
