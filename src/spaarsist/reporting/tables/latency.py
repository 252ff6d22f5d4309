"""Tables of measured time: the back-end in each of its forms, and what a system saves in a whole detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.config import SAMPLE_RATE
from spaarsist.names import BASELINE, ConfigError
from spaarsist.reporting.tables.layout import SECTION, known, number, write

FORMS = {
    "reference": "reference",
    "plain": "plain",
    "optimised": "optimised",
    "compiled": "compiled",
    "onnxruntime": "ONNX Runtime",
}
"""Forms of a back-end, by their names in the file; only the last may be missing, on a GPU."""

SHIPPED = "compiled"
"""The form that a detector is timed with, and whose gains are told."""

SUBJECT = "Random weights at the paper's size: no corpus has a part in these times."
"""What has to stand beside every one of these times, in place of a remark on corpora."""

_CONDITIONS = ("device", "threads", "rounds", "machine")
_COSTS = ("n_params", "n_macs", "median_ms")
_ALIKE = ("frontend", "head")  # parts that all detectors share
_PASSES = ("one_variant", "all_variants")
_FILES = ("float32", "int8")  # by ONNX Runtime, where it was at hand
_OF_FILES = ("n_bytes", "median_ms")
_MAY_BE_ZERO = ("iqr_ms", "max_difference")


def read_backend(path: Path) -> pd.DataFrame:
    """Read the file of `audit.speed.write_backend`, and set every time beside those that it is measured against.

    Returns:
        The file's rows and columns, and `n_params_change, n_macs_change, median_ms_change` from the baseline in the
        same form and batch, as shares (of the baseline itself NaN); `speed_up`, how often the time fits into the
        reference's; `floor_share`, that of the floor in the time.

    Raises:
        ConfigError: the file is unreadable, lacks the baseline, or a form of a system at a batch size, has one twice,
            an impossible number, or rows of different conditions.
    """
    keys = ["system", "form", "batch_size"]
    numbers = [*_COSTS, "iqr_ms", "floor_ms", "max_difference"]
    table = _read(path, keys, ["n_frames", *_CONDITIONS], numbers)
    if unknown := {*table["form"]} - {*FORMS}:
        forms = f"there is no form {', '.join(sorted(unknown))}, but {', '.join(FORMS)}"
        raise ConfigError(f"{path}: {forms}; {_anew(path)}")
    forms = [form for form in FORMS if form in {*list(FORMS)[:-1], *table["form"]}]
    measured = table.set_index(keys)
    systems = dict.fromkeys([BASELINE, *table["system"]])
    for key in product(systems, forms, table["batch_size"].unique()):
        if key not in measured.index:
            system, form, batch_size = key
            raise ConfigError(f"{path}: holds no {form} form of {system} in batches of {batch_size}; {_anew(path)}")

    def of(**changed: str) -> pd.DataFrame:
        """The row that each is measured against."""
        return measured.loc[pd.MultiIndex.from_frame(table[keys].assign(**changed))].set_axis(table.index)

    for cost in _COSTS:
        changes = table[cost] / of(system=BASELINE)[cost] - 1
        table[f"{cost}_change"] = changes.where(table["system"] != BASELINE)
    table["speed_up"] = of(form="reference")["median_ms"] / table["median_ms"]
    table["floor_share"] = table["floor_ms"] / table["median_ms"]
    return table


def read_detector(path: Path) -> pd.DataFrame:
    """Read the file of `audit.speed.write_detector`, and put its parts together to one detector per system.

    Returns:
        Index `part, system`; the file's other columns; of each back-end `whole_n_params, whole_n_macs,
        whole_median_ms` of front-end, back-end and head together, and the change of each cost from the baseline's as
        a share (of the baseline itself NaN): `n_params_change`, ..., `whole_n_params_change`, ...; the change in
        `median_ms` also of the pass for all variants, from that for one, and in `median_ms` and `n_bytes` of the
        ONNX file in int8, from that in float32.

    Raises:
        ConfigError: the file is unreadable, lacks a part (both ONNX files may be missing), the baseline or a part's
            size, has one twice, an impossible number, or rows of different conditions.
    """
    constant = ["batch_size", "n_samples", *_CONDITIONS]
    partial = ["n_params", "n_macs", "n_bytes", "n_variants"]  # a pass has no size
    table = _read(path, ["part", "system"], constant, ["median_ms", "iqr_ms"], partial).set_index(["part", "system"])
    alike, baseline = [(part, "-") for part in _ALIKE], ("backend", BASELINE)
    files = _FILES if {*_FILES} & {*table.index.get_level_values("part")} else ()
    for part, system in [*alike, baseline, *((part, BASELINE) for part in (*_PASSES, *files))]:
        if (part, system) not in table.index:
            of = "" if system == "-" else f" of {system}"
            raise ConfigError(f"{path}: holds no {part}{of}; {_anew(path)}")
    backends = table.loc[["backend"], [*_COSTS]]
    if not (pd.concat([backends, table.loc[alike, [*_COSTS]]]) > 0).all(axis=None):
        raise ConfigError(f"{path}: a front-end, head or back-end has no n_params or n_macs; {_anew(path)}")
    if not all(table.loc[(part, BASELINE), "n_bytes"] > 0 for part in files):
        raise ConfigError(f"{path}: an ONNX file has no n_bytes; {_anew(path)}")
    whole = backends + table.loc[alike, [*_COSTS]].sum()
    others = table.index.get_level_values("system") != BASELINE
    for cost in _COSTS:
        table[f"{cost}_change"] = (backends[cost] / backends.loc[baseline, cost] - 1).reindex(table.index[others])
        table[f"whole_{cost}"] = whole[cost]
        changes = whole[cost] / whole.loc[baseline, cost] - 1
        table[f"whole_{cost}_change"] = changes.reindex(table.index[others])
    for first, other, cost in [(*_PASSES, "median_ms"), *((*files, cost) for cost in _OF_FILES if files)]:
        change = table.loc[(other, BASELINE), cost] / table.loc[(first, BASELINE), cost] - 1
        table.loc[(other, BASELINE), f"{cost}_change"] = change
    return table


def write_latency(backend: Path, output_stem: Path) -> None:
    """Write the table of the back-end's time as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html`.

    A section for each batch size, in it a row per system: parameters, multiply-adds, the time in each form, below each
    its change from the baseline; the floor; and of the compiled form how many times it is faster than the reference,
    and the floor's share. The TSV has all that `read_backend` returns.

    Args:
        backend: file of `audit.speed.write_backend`.
        output_stem: as in `layout.write`.

    Raises:
        ConfigError: see `read_backend`.
    """
    table = read_backend(backend)
    forms = [form for form in FORMS if form in {*table["form"]}]
    heads = [("", "System"), ("", "Params"), ("", "MACs (M)")]
    heads += [("Milliseconds", FORMS[form]) for form in forms]
    heads += [("", "Floor"), (SHIPPED.capitalize(), "speed-up"), (SHIPPED.capitalize(), "floor %")]
    rows = []
    for batch_size, section in table.groupby("batch_size", sort=False):
        rows.append([f"{SECTION}{_batch(batch_size)}", *[""] * (len(heads) - 1)])
        for system, own in section.groupby("system", sort=False):
            in_form = own.set_index("form")
            shipped = in_form.loc[SHIPPED]
            rows.append([system, *(_cell(shipped, cost, 2) for cost in ("n_params", "n_macs"))])
            rows[-1] += [_cell(in_form.loc[form], "median_ms", 1) for form in forms]
            rows[-1] += [_milliseconds(shipped["floor_ms"]), number(shipped["speed_up"], 2)]
            rows[-1].append(number(100 * shipped["floor_share"], 0))
    difference = table["max_difference"].max()
    as_onnx = "; ONNX Runtime: plain, as ONNX" if "onnxruntime" in forms else ""
    write(
        output_stem,
        table,
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Time of the back-end",
        subject=f"One forward pass of the back-end in several forms. {SUBJECT}",
        notes=f"{conditions(table)}, in brackets interquartile ranges; input: {table['n_frames'].iloc[0]} frames. "
        f"Below a value is its change from {BASELINE} in the same column. Reference: a textbook back-end, written "
        "after the paper and sharing no line with ours; plain: ours as exported, run by PyTorch as it is; optimised: "
        f"the same function in cheaper arithmetic; compiled: that, through PyTorch's compiler{as_onnx}. The embeddings "
        f"differ from plain's by at most {difference:.1g}. Floor: the time that a system's multiply-adds (MACs) would "
        "take at the rate that this machine reaches on the back-end's convolutions alone; a form that computes less "
        f"than is counted can be faster. Speed-up: how many times faster {SHIPPED} is than the reference; floor %: "
        "the floor's share in its time.",
        tex_label="tab:latency",
        marked=known(rows),
    )


def write_detector(detector: Path, output_stem: Path) -> None:
    """Write the table of a whole detector's time as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html`.

    Rows are the parts that all detectors share, then the systems' back-ends; left what each takes alone, right, for
    back-ends, a detector with them, below each value its change from the baseline. Last the measured scoring passes,
    with one variant and with many, and by ONNX Runtime in float32 and int8. The TSV has all that `read_detector`
    returns.

    Args:
        detector: file of `audit.speed.write_detector`.
        output_stem: as in `layout.write`.

    Raises:
        ConfigError: see `read_detector`.
    """
    table = read_detector(detector)
    heads = [("", "Part"), *product(("Alone", "Whole detector"), ("Params", "MACs (M)", "ms"))]
    rows = [[f"{SECTION}The same in every detector"]]
    for part, title in zip(_ALIKE, ("Front-end", "Head"), strict=True):
        rows.append([title, *(_cell(table.loc[(part, "-")], cost, 1) for cost in _COSTS)])
    rows.append([f"{SECTION}Back-end, {SHIPPED}"])
    for system, row in table.loc["backend"].iterrows():
        alone = [_cell(row, cost, 1 if cost == "median_ms" else 2) for cost in _COSTS]
        rows.append([system, *alone, *(_cell(row, f"whole_{cost}", 2) for cost in _COSTS)])
    rows.append([f"{SECTION}A scoring pass, from samples to scores"])
    for part in _PASSES:
        row = table.loc[(part, BASELINE)]
        n = int(row["n_variants"])
        rows.append([f"{n} variant{'s' * (n > 1)}", *[""] * 5, _cell(row, "median_ms", 1)])
    about_files = ""
    if _FILES[0] in table.index:
        heads.append(("Whole detector", "MB"))
        rows.append([f"{SECTION}The same pass by ONNX Runtime, one variant"])
        for part, title in zip(_FILES, ("float32", "front-end's linear layers in int8"), strict=True):
            row = table.loc[(part, BASELINE)]
            rows.append([title, *[""] * 5, _cell(row, "median_ms", 1), _cell(row, "n_bytes", 1)])
        about_files = (
            " MB: of the ONNX file, with AASIST as exported. Below int8 stands its change from float32; what it "
            "does to scores, only trained weights tell (spaarsist export --int8)."
        )
    rows = [[*row, *[""] * (len(heads) - len(row))] for row in rows]
    seconds = float(table["n_samples"].iloc[0]) / SAMPLE_RATE
    write(
        output_stem,
        table.reset_index(),
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Time of the whole detector",
        subject=f"What a back-end saves alone, and in a detector with XLS-R 300M at its full size. {SUBJECT}",
        notes=f"{conditions(table)}, in brackets interquartile ranges; input: {seconds:.2f} s of speech, "
        f"{_batch(table['batch_size'].iloc[0]).lower()}. Below a value is its change from {BASELINE}, below the "
        "pass for many variants that from the pass for one. A whole detector is the sum of front-end, back-end and "
        "head. Multiply-adds (MACs) leave out the attention products of the front-end, which the counter does not "
        f"know. Scoring passes were measured as a whole, on back-ends as they are trained, not {SHIPPED}; one pass "
        f"serves all variants of a checkpoint.{about_files}",
        tex_label="tab:detector",
        marked=known(rows),
    )


def conditions(table: pd.DataFrame) -> str:
    """Where and how the rows of one file were timed."""
    device, threads, rounds, machine = table[[*_CONDITIONS]].iloc[0]
    return f"{machine}; device: {device}; threads: {threads}; medians over {rounds} rounds"


def _read(
    path: Path, keys: Sequence[str], constant: Sequence[str], numbers: Sequence[str], partial: Sequence[str] = ()
) -> pd.DataFrame:
    """A file of `audit.speed`: each of `keys` once, one value of each `constant`; `partial` columns have gaps."""
    whole = dict.fromkeys((*keys, *constant), str) | dict.fromkeys(numbers, float)
    types = whole | dict.fromkeys(partial, float) | {"batch_size": int}
    try:
        table = read_table(path, [*types], dtype=types)
    except ConfigError as error:
        raise ConfigError(f"{error}; {_anew(path)}") from None
    if table.empty:
        raise ConfigError(f"{path}: has no rows; {_anew(path)}")
    if gaps := [column for column in whole if table[column].isna().any()]:
        raise ConfigError(f"{path}: has rows without {', '.join(gaps)}; {_anew(path)}")
    for column in numbers:
        fits = table[column] >= 0 if column in _MAY_BE_ZERO else table[column] > 0
        if not (fits & np.isfinite(table[column])).all():
            raise ConfigError(f"{path}: {column} has to be a number above 0 in every row; {_anew(path)}")
    if len(twice := table[table.duplicated([*keys])]):
        raise ConfigError(f"{path}: holds a time twice: {twice.iloc[0][[*keys]].to_dict()}; {_anew(path)}")
    for column in constant:
        if len(found := table[column].unique()) > 1:
            several = ", ".join(map(str, found))
            raise ConfigError(f"{path}: times of more than one {column} ({several}) cannot be compared; {_anew(path)}")
    return table


def _anew(path: Path) -> str:
    return f"make it anew with `spaarsist benchmark {path.stem}`"


def _batch(size: int) -> str:
    return "One excerpt at a time" if size == 1 else f"In batches of {size}"


def _cell(row: pd.Series, cost: str, digits: int) -> str:
    """A cost, of a time its interquartile range behind it, and on the next line its change with so many decimals."""
    kind = cost.removeprefix("whole_")
    if kind == "median_ms":
        text = _milliseconds(row[cost])
        text += f" ({_milliseconds(row['iqr_ms'])})" if kind == cost else ""
    else:
        text = number(row[cost], 0) if kind == "n_params" else number(row[cost] / 1e6, 1)
    change = row[f"{cost}_change"]
    return text if math.isnan(change) else f"{text}\n{number(100 * change, digits, '+')} %"


def _milliseconds(value: float) -> str:
    return number(value, 2 if value < 100 else 1)
