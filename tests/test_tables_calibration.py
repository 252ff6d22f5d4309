"""The table on calibration from made-up values: right numbers in right cells, words for what is out of the ordinary."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from conftest import markdown_cells
from spaarsist.config import call
from spaarsist.evaluation.calibration import COLUMNS
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.calibration import write_calibration

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
SYSTEMS = ["AST-05-05", "AST-05-05-Mag", "AST-03-01-Mag", "MHFA", "Mean-pool"]
QUANTITIES = (
    "min_dcf", "act_dcf", "act_dcf_calibrated", "cllr", "cllr_calibrated", "p_miss_at_dev_eer", "p_fa_at_dev_eer",
)  # fmt: skip
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
ENDINGS = ("tsv", "md", "tex", "html")
FOOTER = "Scores by code 0123abcd; seeds 1 and 2."


def value(system, seed, corpus, quantity):
    """Made up, but not at random: every cell has a number of its own, and the seeds are 0.02 apart."""
    places = SYSTEMS.index(system), ["dev", "home", "wild"].index(corpus), [*QUANTITIES, "slope"].index(quantity)
    return 0.1 * places[0] + 0.01 * places[1] + 0.003 * places[2] + 0.02 * seed


def files(folder, seeds=(1, 2), slopes=(), systems=SYSTEMS, quantities=QUANTITIES, value=value):
    """A file per seed; `slopes`: (system, seed) -> slope."""
    paths = []
    for seed in seeds:
        rows = []
        for system in systems:
            slope = dict(slopes).get((system, seed), value(system, seed, "dev", "slope"))
            rows.append((system, seed, "x", "dev", "slope", slope))
            for corpus, quantity in product(("dev", "home", "wild"), quantities):
                lost = np.isnan(slope) and quantity.endswith("calibrated")
                number = np.nan if lost else value(system, seed, corpus, quantity)
                rows.append((system, seed, "x", corpus, quantity, number))
        paths.append(folder / f"seed{seed}.tsv")
        pd.DataFrame(rows, columns=COLUMNS).to_csv(paths[-1], sep="\t", index=False)
    return paths


def rows(path):
    """First cell -> the others, of a Markdown table."""
    return {first: cells for first, *cells in markdown_cells(path.read_text())}


def write(folder, paths, systems=SYSTEMS, corpora=CORPORA, label=LABEL):
    write_calibration(paths, systems, folder / "calibration", corpora, label, FOOTER)
    return [folder / f"calibration.{ending}" for ending in ENDINGS]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """From settings as JSON has them, paths as texts and pairs as lists: what the command line passes on."""
    folder = tmp_path_factory.mktemp("calibration")
    settings = {"calibration": [*map(str, files(folder))], "corpora": [[*pair] for pair in CORPORA]}
    settings |= {"systems": SYSTEMS, "output_stem": f"{folder}/calibration", "label": LABEL, "footer": FOOTER}
    call(write_calibration, settings)
    return [folder / f"calibration.{ending}" for ending in ENDINGS]


def test_every_number_in_its_cell(written):
    table = rows(written[1])
    assert [name.strip("*") for name in table if name.strip(":-")] == [
        "System", "Variants of AST-05", *SYSTEMS[:2], "Variants of AST-03", SYSTEMS[2], "Other back-ends", *SYSTEMS[3:],
    ]  # fmt: skip
    assert [name for name in table if name.startswith("**")] == ["**AST-05-05**", "**AST-03-01-Mag**"]
    heads = ["minDCF", "actDCF", "calibrated", "Cllr", "calibrated", "miss %", "FA %"]
    assert table["System"] == ["Slope", *(f"{title}<br>{head}" for _, title in CORPORA for head in heads)]
    for system in SYSTEMS:
        cells = iter(table.get(system) or table[f"**{system}**"])
        assert next(cells) == f"{value(system, 1.5, 'dev', 'slope'):.2f} ± 0.01"  # seeds 1 and 2, 0.02 / sqrt 2
        for corpus, _ in CORPORA:
            for quantity in QUANTITIES:
                mean = value(system, 1.5, corpus, quantity)
                shown = f"{mean:.3f}"
                if quantity.startswith("p_"):
                    shown = f"{100 * mean:.1f} ± 1.4"
                elif quantity.endswith("calibrated"):
                    shown += " ± 0.014"
                assert next(cells) == shown, (system, corpus, quantity)


def test_for_machines(written):
    table = pd.read_csv(written[0], sep="\t").set_index(["system", "corpus"])
    assert [*table.index] == [(system, corpus) for system in SYSTEMS for corpus, _ in CORPORA]
    assert (table["n_seeds"] == 2).all()
    for system, corpus in table.index:
        for quantity in QUANTITIES:
            row = table.loc[system, corpus]
            assert row[f"{quantity}.mean"] == pytest.approx(value(system, 1.5, corpus, quantity))
            assert row[f"{quantity}.std"] == pytest.approx(0.02 / 2**0.5)


def test_what_every_form_says(written):
    for path in written[1:]:
        text = re.sub(r"\\(?=[%&])|amp;", "", path.read_text())
        for words in (LABEL, FOOTER, "Home & garden", "has also chosen", "Cllr is in bits", "(n = 2)"):
            assert words in text, f"{path.name}: {words}"
        assert "negative slope" not in text and "no finite answer" not in text
    assert r"\label{tab:calibration}" in written[2].read_text()


def test_one_seed_has_no_spread(tmp_path):
    text = write(tmp_path, files(tmp_path, seeds=(1,)))[1].read_text()
    assert "±" not in text and "One training seed." in text and "standard deviation" not in text


def test_separable_seeds_and_negative_slopes(tmp_path):
    slopes = {("MHFA", 2): np.nan, ("AST-05-05", 1): -3.0, ("AST-05-05", 2): -1.0}
    _, markdown, tex, _ = write(tmp_path, files(tmp_path, slopes=slopes))
    table = rows(markdown)
    lost = [i for i, cell in enumerate(table["MHFA"]) if cell == "–"]
    assert lost == [0, 3, 5, 10, 12]  # a mean of the other seed alone would flatter
    assert table["**AST-05-05**"][0] == "−2.00 ± 1.41"
    text = markdown.read_text()
    assert "A negative slope (AST-05-05): on the development" in text
    assert "– (MHFA): with at least one seed a threshold separates" in text
    assert r"$-$2.00$_{\pm1.41}$" in tex.read_text()


def test_many_of_them_are_not_all_named(tmp_path):
    systems = [*SYSTEMS, "SLS", "CA-MHFA"]
    paths = files(tmp_path, slopes=dict.fromkeys(product(systems, (1, 2)), -1.0), systems=systems, value=lambda *_: 0.5)
    text = write(tmp_path, paths, systems)[1].read_text()
    assert "(AST-05-05, AST-05-05-Mag, AST-03-01-Mag, MHFA, Mean-pool and 2 more)" in text


def test_same_input_same_bytes(written, tmp_path):
    for old, new in zip(written, write(tmp_path, files(tmp_path)), strict=True):
        assert old.read_bytes() == new.read_bytes()


def test_refuses(tmp_path):
    paths = files(tmp_path)
    for given, systems, corpora, complaint in (
        (paths, ["SLS"], CORPORA, "nothing of SLS on home, SLS on wild"),
        (paths, SYSTEMS, [("else", "Elsewhere")], "nothing of AST-05-05 on else"),
        (paths, ["AST-05-Best"], CORPORA, "AST-05-Best on home"),
        ([], SYSTEMS, CORPORA, "no calibration file"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            write(tmp_path, given, systems, corpora)
    assert not [*tmp_path.glob("calibration.*")]
