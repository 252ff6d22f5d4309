"""The figure of where multiply-adds are: sums that come out, words for modules, nothing claimed that is not so."""

import pandas as pd
import pytest

from spaarsist.names import ConfigError
from spaarsist.reporting.figures import compute as figures

LABEL = "mini corpora; not the paper's numbers, 100 % made up"
SYSTEMS = ["AST-05-05", "AST-03-01-Mag", "MHFA", "SLS"]
MODULES = {
    "AST-05-05": {
        "projection": 40, "input_norm": 2, "encoder": 800, "encoder.0": 500, "encoder.0.conv1": 300, "encoder_norm": 8,
        "map_attention": 50, "spectral_attention": 10, "temporal_attention": 20, "spectral_pool": 1,
        "temporal_pool": 2, "branches": 60, "branches.0": 60, "output": 7,
    },
    "AST-03-01-Mag": {
        "projection": 40, "input_norm": 2, "encoder": 800, "encoder_norm": 8, "map_attention": 50,
        "spectral_attention": 10, "temporal_attention": 20, "branches": 3, "output": 7,
    },
    "MHFA": {"key": 30, "value": 30, "query": 5, "output": 15},
    "SLS": {"layer_score": 4, "hidden": 90, "output": 6},
}  # fmt: skip
OPERATORS = {
    "AST-05-05": {"conv": 750, "linear": 250},
    "AST-03-01-Mag": {"conv": 750, "linear": 190},
    "MHFA": {"linear": 80, "bmm": 20},
    "SLS": {"linear": 100},
}
SHARES = {
    "AST-05-05": {
        "input projection": 0.042, "residual encoder": 0.808, "attention map": 0.05, "graph layers": 0.033,
        "heterogeneous branches": 0.06, "output": 0.007,
    },
    "AST-03-01-Mag": {
        "input projection": 42 / 940, "residual encoder": 808 / 940, "attention map": 50 / 940,
        "graph layers": 30 / 940, "heterogeneous branches": 3 / 940, "output": 7 / 940,
    },
    "MHFA": {"key": 0.3, "value": 0.3, "query": 0.05, "output": 0.15, "other": 0.2},
    "SLS": {"layer score": 0.04, "hidden": 0.9, "output": 0.06},
}  # fmt: skip
SHARES = {(system, part): share for system, parts in SHARES.items() for part, share in parts.items()}
"""By hand from the two tables above."""


def write(path, change=lambda rows: rows):
    rows = [
        (system, kind, name, n * 1_000_000)
        for kind, source in (("module", MODULES), ("operator", OPERATORS))
        for system, parts in source.items()
        for name, n in parts.items()
    ]
    table = pd.DataFrame(change(rows), columns=["system", "kind", "name", "n_macs"])
    table.to_csv(path, sep="\t", index=False)
    return path


def changed(key, n_macs):
    """The rows with another number in one of them."""
    return lambda rows: [(*row[:3], n_macs if row[:3] == key else row[3]) for row in rows]


@pytest.fixture
def breakdown(tmp_path):
    return write(tmp_path / "breakdown.tsv")


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_shares_are_those_of_the_top_modules_and_sum_to_one(breakdown, tmp_path, drawn):
    figures.macs_by_module(breakdown, SYSTEMS, tmp_path / "macs")
    shown = pd.read_csv(tmp_path / "macs.tsv", sep="\t").set_index(["system", "part"])
    assert shown["share"].to_dict() == pytest.approx(SHARES)
    assert (shown["share"].groupby("system").sum() - 1).abs().max() < 1e-12
    totals = {system: 1_000_000 * sum(parts.values()) for system, parts in OPERATORS.items()}
    assert shown["n_macs"].groupby("system").sum().to_dict() == totals


def test_bars_are_drawn_as_long_as_their_shares(breakdown, tmp_path, drawn):
    order = ["SLS", "AST-03-01-Mag", "MHFA", "AST-05-05"]
    figures.macs_by_module(breakdown, order, tmp_path / "macs")
    (axes,) = drawn[0].axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["SLS", "AST-03-01-Mag (rank 1)", "MHFA", "AASIST (AST-05-05)"] and axes.yaxis_inverted()
    lengths = {
        (order[row], bars.get_label()): bar.get_width() / 100
        for bars in axes.containers
        for row, bar in enumerate(bars)
        if bar.get_width()
    }
    assert lengths == pytest.approx(SHARES)
    for row in range(len(order)):
        segments = [bars[row] for bars in axes.containers]
        ends = [0, *(bar.get_x() + bar.get_width() for bar in segments)]
        assert [bar.get_x() for bar in segments] == pytest.approx(ends[:-1]) and ends[-1] == pytest.approx(100)
    key = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert sorted(key) == sorted({part for _, part in SHARES}) and key[-2:] == ["output", "other"]
    faces = {(*bars[0].get_facecolor(), bars[0].get_hatch()) for bars in axes.containers}
    assert len(faces) == len(key)


def test_a_system_without_operations_has_an_empty_bar(tmp_path, drawn):
    path = write(tmp_path / "none.tsv", lambda rows: [*rows, ("Mean-pool", "operator", "none", 0)])
    figures.macs_by_module(path, ["MHFA", "Mean-pool", "AST-05-05"], tmp_path / "macs")
    figures.macs_by_module(path, ["Mean-pool"], tmp_path / "alone")
    for figure, row in zip(drawn, (1, 0), strict=True):
        axes = figure.axes[0]
        totals = [text for text in axes.texts if text.get_text().endswith(" M")]
        assert totals[row].get_text() == "0 M" and totals[row].get_position() == (101, row)
        bars = [bar for bars in axes.containers for bar in bars if round(bar.get_y() + bar.get_height() / 2) == row]
        assert all(not bar.get_fill() for bar in bars if bar.get_width()) and any(bar.get_width() for bar in bars)
    key = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert "none" not in key and len(key) == 10
    shown = pd.read_csv(tmp_path / "macs.tsv", sep="\t")
    assert shown[shown["system"] == "Mean-pool"].to_numpy().tolist() == [["Mean-pool", "none", 0, 0]]


def test_numbers_stand_where_there_is_room(breakdown, tmp_path, drawn):
    figures.macs_by_module(breakdown, SYSTEMS, tmp_path / "macs")
    written = words(drawn[0])
    wanted = [f"{100 * share:.0f}" for share in SHARES.values() if share >= 0.03]
    assert sorted(w for w in written if w.isdigit()) == sorted(wanted)
    assert [w for w in written if w.endswith(" M")] == ["1,000.0 M", "940.0 M", "100.0 M", "100.0 M"]


def test_the_bracket_says_what_no_variant_touches(breakdown, tmp_path, drawn):
    figures.macs_by_module(breakdown, ["MHFA", *SYSTEMS[:2]], tmp_path / "macs")
    assert words(drawn[0])[-1] == "convolutions, the same number in every variant: 75 to 80 %"
    bracket = drawn[0].axes[0].lines[0]
    assert bracket.get_xdata()[[0, -1]] == pytest.approx([4.2, 79.2]) and 0 < bracket.get_ydata()[0] < 1
    # One variant alone, or one with fewer convolutions, supports no such sentence.
    figures.macs_by_module(breakdown, [SYSTEMS[0], "MHFA"], tmp_path / "alone")
    swap = changed(("AST-03-01-Mag", "operator", "conv"), 740_000_000)
    fewer = write(tmp_path / "fewer.tsv", lambda rows: [*swap(rows), ("AST-03-01-Mag", "operator", "bmm", 10_000_000)])
    figures.macs_by_module(fewer, SYSTEMS, tmp_path / "fewer")
    assert not any("convolutions" in word for figure in drawn[1:] for word in words(figure))


def test_refuses_what_does_not_add_up(breakdown, tmp_path):
    key = ("AST-05-05", "module", "output")
    wrong = {
        "much": (changed(key, "much"), "much.tsv: not a readable TSV"),
        "empty": (changed(key, ""), "empty.tsv: not a readable TSV"),
        "nan": (changed(key, "nan"), "nan.tsv: not a readable TSV"),
        "negative": (changed(key, -1), "n_macs has to be a number of 0 or more"),
        "infinite": (changed(key, "inf"), "n_macs has to be a number of 0 or more"),
        "more": (changed(key, 7_000_001), "modules of AST-05-05 have more multiply-adds than its operators"),
        "twice": (lambda rows: rows + rows[:1], "holds a number twice: .*projection"),
        "parts": (lambda rows: [row for row in rows if row[1] == "module"], "no operators of AST-05-05, AST-03-01-Mag"),
    }
    for name, (change, complaint) in wrong.items():
        with pytest.raises(ConfigError, match=complaint):
            figures.macs_by_module(write(tmp_path / f"{name}.tsv", change), SYSTEMS, tmp_path / "refused")
    (tmp_path / "other.tsv").write_text("system\tn_macs\nMHFA\t1\n")
    for path, systems, complaint in (
        (breakdown, [], "no system"),
        (breakdown, [*SYSTEMS, "Mean-pool"], "holds no operators of Mean-pool"),
        (tmp_path / "none.tsv", SYSTEMS, "none.tsv: not a readable"),
        (tmp_path / "other.tsv", SYSTEMS, "other.tsv: columns missing: kind, name"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            figures.macs_by_module(path, systems, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_files_are_whole_labelled_and_the_same_every_time(breakdown, drawn_twice):
    names = drawn_twice(lambda folder: figures.macs_by_module(breakdown, SYSTEMS, folder / "macs", LABEL), LABEL)
    assert names == {"macs.png", "macs.pdf", "macs.tsv"}
