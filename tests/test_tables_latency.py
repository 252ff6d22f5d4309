"""The tables of measured time from made-up values: changes, speed-ups and shares by hand; what is missing is named."""

import re

import numpy as np
import pandas as pd
import pytest

from conftest import markdown_cells
from spaarsist.config import call
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.latency import FORMS, read_backend, read_detector, write_detector, write_latency

ABOUT = {"device": "cpu", "threads": 2, "rounds": 15, "machine": "AMD EPYC & co. 9R14, 2 cores"}
SIZES = {"AST-05-05": (600_000, 700_000_000), "AST-03-01-Mag": (570_000, 686_000_000)}
TIMES = {  # the five forms, then the floor
    ("AST-05-05", 1): (16, 10, 8, 5, 6.4, 4.5),
    ("AST-03-01-Mag", 1): (12, 9, 7, 4, 8, 4.4),
    ("AST-05-05", 8): (120, 100, 64, 40, 50, 30),
    ("AST-03-01-Mag", 8): (99, 101, 64, 36, 45, 27),
}
PARTS = {  # parameters, MACs, milliseconds, interquartile range, number of variants
    ("frontend", "-"): (298_000_000, 69_200_000_000, 990, 15, 1),
    ("head", "-"): (1_400_000, 100_000_000, 2, 0.25, 1),
    ("backend", "AST-05-05"): (*SIZES["AST-05-05"], 8, 0.5, 1),
    ("backend", "AST-03-01-Mag"): (*SIZES["AST-03-01-Mag"], 6, 0.75, 1),
    ("one_variant", "AST-05-05"): (None, None, 1010, 12, 1),
    ("all_variants", "AST-05-05"): (None, None, 1111, 13.5, 9),
}
FILES = {("float32", "AST-05-05"): (None, None, 800, 9, 1), ("int8", "AST-05-05"): (None, None, 500, 4, 1)}
BYTES = {"float32": 1_260_000_000, "int8": 315_000_000}


def write_backend_file(folder, times=TIMES, forms=FORMS, **changed):
    """The file of `benchmark backend`; `changed`: `rows`, a function of the table, or other values of `ABOUT`."""
    rows = []
    for (system, batch_size), (*milliseconds, floor) in times.items():
        for number, (form, ms) in enumerate(zip(FORMS, milliseconds, strict=True)):
            if form in forms:
                difference = 0 if form == "plain" else number * 1e-7
                rows.append((system, form, batch_size, 201, *SIZES[system], ms, 0.25 + number / 10, floor, difference))
    columns = ["system", "form", "batch_size", "n_frames", "n_params", "n_macs", "median_ms", "iqr_ms", "floor_ms",
               "max_difference"]  # fmt: skip
    return save(folder / "backend.tsv", pd.DataFrame(rows, columns=columns), **changed)


def write_detector_file(folder, parts=PARTS | FILES, **changed):
    """The file of `benchmark detector`, likewise."""
    rows = [
        (*key, n, params, macs, BYTES.get(key[0]), ms, iqr, 1, 64_600)
        for key, (params, macs, ms, iqr, n) in parts.items()
    ]
    columns = ["part", "system", "n_variants", "n_params", "n_macs", "n_bytes", "median_ms", "iqr_ms", "batch_size",
               "n_samples"]  # fmt: skip
    return save(folder / "detector.tsv", pd.DataFrame(rows, columns=columns), **changed)


def save(path, table, rows=lambda table: table, **about):
    rows(table.assign(**ABOUT | about)).to_csv(path, sep="\t", index=False)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of both tables, from paths as texts: what the command line passes on."""
    folder = tmp_path_factory.mktemp("speed")
    call(write_latency, {"backend": str(write_backend_file(folder)), "output_stem": f"{folder}/latency"})
    call(write_detector, {"detector": str(write_detector_file(folder)), "output_stem": f"{folder}/whole"})
    return {path.name: path for path in folder.iterdir()}


def test_the_back_end_in_every_form(written):
    heads, _, *rows = markdown_cells(written["latency.md"].read_text())
    forms = [f"Milliseconds<br>{form}" for form in ("reference", "plain", "optimised", "compiled", "ONNX Runtime")]
    assert heads == ["System", "Params", "MACs (M)", *forms, "Floor", "Compiled<br>speed-up", "Compiled<br>floor %"]
    assert rows == [
        ["*One excerpt at a time*", *[""] * 10],
        ["**AST-05-05**", "600,000", "700.0", "16.00 (0.25)", "10.00 (0.35)", "8.00 (0.45)", "5.00 (0.55)",
         "6.40 (0.65)", "4.50", "3.20", "90"],
        ["**AST-03-01-Mag**", "570,000<br>−5.00 %", "686.0<br>−2.00 %", "12.00 (0.25)<br>−25.0 %",
         "9.00 (0.35)<br>−10.0 %", "7.00 (0.45)<br>−12.5 %", "4.00 (0.55)<br>−20.0 %", "8.00 (0.65)<br>+25.0 %", "4.40",
         "3.00", "110"],
        ["*In batches of 8*", *[""] * 10],
        ["**AST-05-05**", "600,000", "700.0", "120.0 (0.25)", "100.0 (0.35)", "64.00 (0.45)", "40.00 (0.55)",
         "50.00 (0.65)", "30.00", "3.00", "75"],
        ["**AST-03-01-Mag**", "570,000<br>−5.00 %", "686.0<br>−2.00 %", "99.00 (0.25)<br>−17.5 %",
         "101.0 (0.35)<br>+1.0 %", "64.00 (0.45)<br>0.0 %", "36.00 (0.55)<br>−10.0 %", "45.00 (0.65)<br>−10.0 %",
         "27.00", "2.75", "75"],
    ]  # fmt: skip


def test_the_back_end_for_machines(written):
    table = pd.read_csv(written["latency.tsv"], sep="\t").set_index(["system", "form", "batch_size"])
    assert len(table) == 2 * 5 * 2 and {*ABOUT} <= {*table}
    row = table.loc[("AST-03-01-Mag", "onnxruntime", 8)]
    wanted = {"n_params_change": -0.05, "n_macs_change": -0.02, "median_ms_change": -0.1, "speed_up": 99 / 45,
              "floor_share": 0.6, "median_ms": 45, "floor_ms": 27, "max_difference": 4e-7}  # fmt: skip
    assert row[[*wanted]].astype(float).to_dict() == pytest.approx(wanted)
    assert table.loc["AST-05-05", [name for name in table if name.endswith("_change")]].isna().all(axis=None)
    assert (table.xs("reference", level="form")["speed_up"] == 1).all()


def test_the_whole_detector(written):
    heads, _, *rows = markdown_cells(written["whole.md"].read_text())
    costs = ("Params", "MACs (M)", "ms")
    groups = [f"{group}<br>{cost}" for group in ("Alone", "Whole detector") for cost in costs]
    assert heads == ["Part", *groups, "Whole detector<br>MB"]
    assert rows == [
        ["*The same in every detector*", *[""] * 7],
        ["Front-end", "298,000,000", "69,200.0", "990.0 (15.00)", "", "", "", ""],
        ["Head", "1,400,000", "100.0", "2.00 (0.25)", "", "", "", ""],
        ["*Back-end, compiled*", *[""] * 7],
        ["**AST-05-05**", "600,000", "700.0", "8.00 (0.50)", "300,000,000", "70,000.0", "1,000.0", ""],
        ["**AST-03-01-Mag**", "570,000<br>−5.00 %", "686.0<br>−2.00 %", "6.00 (0.75)<br>−25.0 %",
         "299,970,000<br>−0.01 %", "69,986.0<br>−0.02 %", "998.0<br>−0.20 %", ""],
        ["*A scoring pass, from samples to scores*", *[""] * 7],
        ["1 variant", *[""] * 5, "1,010.0 (12.00)", ""],
        ["9 variants", *[""] * 5, "1,111.0 (13.50)<br>+10.0 %", ""],
        ["*The same pass by ONNX Runtime, one variant*", *[""] * 7],
        ["float32", *[""] * 5, "800.0 (9.00)", "1,260.0"],
        ["front-end's linear layers in int8", *[""] * 5, "500.0 (4.00)<br>−37.5 %", "315.0<br>−75.0 %"],
    ]  # fmt: skip


def test_the_whole_detector_for_machines(written):
    table = pd.read_csv(written["whole.tsv"], sep="\t").set_index(["part", "system"])
    assert [*table.index] == [*PARTS, *FILES]
    row = table.loc[("backend", "AST-03-01-Mag")]
    wanted = {"whole_n_params": 299_970_000, "whole_n_macs": 69_986_000_000, "whole_median_ms": 998,
              "n_params_change": -0.05, "n_macs_change": -0.02, "median_ms_change": -0.25,
              "whole_n_params_change": -1e-4, "whole_n_macs_change": -2e-4,
              "whole_median_ms_change": -2e-3}  # fmt: skip
    assert row[[*wanted]].astype(float).to_dict() == pytest.approx(wanted)
    assert table.loc[("all_variants", "AST-05-05"), "median_ms_change"] == pytest.approx(0.1)
    changes = table.loc[("int8", "AST-05-05"), ["median_ms_change", "n_bytes_change"]].astype(float)
    assert [*changes] == pytest.approx([-0.375, -0.75])
    others = table.drop([("backend", "AST-03-01-Mag"), ("all_variants", "AST-05-05"), ("int8", "AST-05-05")])
    assert others[[name for name in table if name.endswith("_change")]].isna().all(axis=None)


def test_what_every_form_says(written):
    """On what machine, how, and that no corpus of a run, real or a miniature, is behind it."""
    said = {
        "latency": ("over 15 rounds", "201 frames", "at most 4e-07", "ONNX Runtime: plain, as ONNX", "textbook"),
        "whole": (
            "over 15 rounds",
            "4.04 s of speech, one excerpt at a time",
            "leave out the attention products",
            "Below int8 stands its change from float32",
            "only trained weights tell",
        ),
    }
    for name, sentences in said.items():
        for ending in ("md", "tex", "html"):
            text = re.sub(r"\\(?=[%&])|amp;", "", written[f"{name}.{ending}"].read_text())
            about = (ABOUT["machine"], "device: cpu; threads: 2", "Random weights at the paper's size: no corpus")
            for words in (*about, *sentences):
                assert words in text, f"{name}.{ending}: {words}"
    labels = [re.search(r"\\label\{(.*?)\}", written[f"{name}.tex"].read_text())[1] for name in said]
    assert labels == ["tab:latency", "tab:detector"]


def test_a_gpu_has_no_onnx_runtime(tmp_path):
    forms = [form for form in FORMS if form != "onnxruntime"]
    write_latency(write_backend_file(tmp_path, forms=forms, device="cuda", machine="NVIDIA H200"), tmp_path / "latency")
    text = (tmp_path / "latency.md").read_text()
    assert len(markdown_cells(text)[0]) == 10 and "ONNX" not in text and "NVIDIA H200; device: cuda" in text


def test_a_detector_without_onnx_runtime(tmp_path):
    """On a GPU, or without the extra."""
    write_detector(write_detector_file(tmp_path, PARTS), tmp_path / "whole")
    heads, _, *rows = markdown_cells((tmp_path / "whole.md").read_text())
    assert len(heads) == 7 and rows[-1][0] == "9 variants"
    assert (
        "MB" not in (tmp_path / "whole.md").read_text() and "n_bytes_change" not in (tmp_path / "whole.tsv").read_text()
    )


def test_same_input_same_bytes(written, tmp_path):
    write_latency(write_backend_file(tmp_path), tmp_path / "latency")
    write_detector(write_detector_file(tmp_path), tmp_path / "whole")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == written[path.name].read_bytes(), path.name


def without(**cell):
    """Drop the rows that hold all these values."""
    return lambda table: table[~np.logical_and.reduce([table[name] == value for name, value in cell.items()])]


def with_(column, value, row=3):
    """Another value in one cell."""

    def change(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


def twice(table):
    return pd.concat([table, table.iloc[3:4]])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (without(system="AST-05-05"), "holds no reference form of AST-05-05 in batches of 1; "),
        (without(form="compiled"), "holds no compiled form of AST-05-05 in batches of 1; "),
        (
            without(form="plain", system="AST-03-01-Mag", batch_size=8),
            "holds no plain form of AST-03-01-Mag in batches of 8",
        ),
        (without(form="onnxruntime", system="AST-05-05"), "holds no onnxruntime form of AST-05-05 in batches of 1"),
        (without(system="AST-03-01-Mag", batch_size=1), "holds no reference form of AST-03-01-Mag in batches of 1"),
        (with_("form", "tensorrt"), "there is no form tensorrt, but reference, plain"),
        (twice, "holds a time twice: .*'form': 'compiled', 'batch_size': 1"),
        (lambda table: table.drop(columns=["floor_ms", "machine"]), "columns missing: machine, floor_ms; "),
        (lambda table: table[:0], "has no rows"),
        (with_("median_ms", "fast"), "not a readable TSV .*fast"),
        (with_("median_ms", None), "has rows without median_ms; "),
        (with_("system", None), "has rows without system; "),
        (with_("median_ms", 0), "median_ms has to be a number above 0"),
        (with_("floor_ms", "inf"), "floor_ms has to be a number above 0"),
        (with_("iqr_ms", -0.1), "iqr_ms has to be"),
        (with_("n_macs", 0), "n_macs has to be"),
        (with_("batch_size", "one"), "not a readable TSV"),
        (with_("machine", "another"), "times of more than one machine .*AMD.*, another.* cannot be compared"),
        (with_("threads", 1), r"times of more than one threads \(2, 1\)"),
        (with_("n_frames", 49), r"times of more than one n_frames \(201, 49\)"),
    ],
)
def test_refuses_of_the_back_end(tmp_path, rows, complaint):
    path = write_backend_file(tmp_path, rows=rows)
    with pytest.raises(ConfigError, match=f"backend.tsv: {complaint}") as caught:
        write_latency(path, tmp_path / "latency")
    assert str(caught.value).endswith("; make it anew with `spaarsist benchmark backend`")
    assert not [*tmp_path.glob("latency*")]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (without(part="frontend"), "holds no frontend; "),
        (without(part="head"), "holds no head; "),
        (without(part="backend", system="AST-05-05"), "holds no backend of AST-05-05; "),
        (without(part="one_variant"), "holds no one_variant of AST-05-05"),
        (without(part="all_variants"), "holds no all_variants of AST-05-05"),
        (without(part="float32"), "holds no float32 of AST-05-05"),
        (without(part="int8"), "holds no int8 of AST-05-05"),
        (with_("n_bytes", None, row=7), "an ONNX file has no n_bytes; "),
        (with_("n_bytes", 0, row=6), "an ONNX file has no n_bytes; "),
        (lambda table: table.drop(columns="n_bytes"), "columns missing: n_bytes; "),
        (twice, "holds a time twice: .*'part': 'backend'"),
        (lambda table: table.drop(columns="n_variants"), "columns missing: n_variants; "),
        (with_("n_params", None), "a front-end, head or back-end has no n_params or n_macs"),
        (with_("n_macs", None, row=0), "a front-end, head or back-end has no n_params or n_macs"),
        (with_("n_macs", "many"), "not a readable TSV .*many"),
        (with_("median_ms", -1), "median_ms has to be"),
        (with_("batch_size", 8), r"times of more than one batch_size \(1, 8\)"),
        (with_("rounds", 5), r"times of more than one rounds \(15, 5\)"),
    ],
)
def test_refuses_of_the_detector(tmp_path, rows, complaint):
    path = write_detector_file(tmp_path, rows=rows)
    with pytest.raises(ConfigError, match=f"detector.tsv: {complaint}") as caught:
        write_detector(path, tmp_path / "whole")
    assert str(caught.value).endswith("; make it anew with `spaarsist benchmark detector`")
    assert not [*tmp_path.glob("whole*")]


def test_a_missing_file(tmp_path):
    for read in (read_backend, read_detector):
        with pytest.raises(ConfigError, match=r"none\.tsv: not a readable TSV"):
            read(tmp_path / "none.tsv")
