"""The figure of the back-end's measured time: marks, bars and floors where the numbers are; what it says of itself."""

import pandas as pd
import pytest

from spaarsist.names import ConfigError
from spaarsist.reporting.figures import latency as figures
from spaarsist.reporting.tables.latency import FORMS
from test_tables_latency import TIMES, without, write_backend_file

SYSTEMS = ["AST-05-05", "AST-03-01-Mag"]


@pytest.fixture
def draw(drawn, tmp_path):
    def function(**changed):
        figures.latency(write_backend_file(tmp_path, **changed), tmp_path / "latency")
        return drawn[-1]

    return function


def marks(axes):
    """Positions of each form's marks, in the order of the forms; a mark per system."""
    return [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2 and line.get_marker() != "None"]


def ends(bars):
    return [path.vertices[:, 0].tolist() for path in bars.get_paths()]


def test_marks_bars_and_floors_stand_where_the_numbers_are(draw):
    panels = draw().axes
    assert [axes.get_title() for axes in panels] == ["One excerpt", "8 excerpts at once"]
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names == ["AASIST (AST-05-05)", "AST-03-01-Mag (rank 1)"]
    for axes, batch_size in zip(panels, (1, 8), strict=True):
        *milliseconds, floors = zip(*(TIMES[system, batch_size] for system in SYSTEMS), strict=True)
        *bars, ticks = axes.collections
        drawn = marks(axes)
        assert len(drawn) == len(bars) == len(FORMS)
        for number, (points, bar, wanted) in enumerate(zip(drawn, bars, milliseconds, strict=True)):
            assert points[:, 0] == pytest.approx(wanted)
            reach = (0.25 + number / 10) / 2
            assert ends(bar) == [pytest.approx([ms - reach, ms + reach]) for ms in wanted]
            assert abs(points[:, 1] - [0, 1]).max() < 0.45, "a mark beyond its system's line"
        heights = [points[0, 1] for points in drawn]
        assert heights == sorted(heights) and len({*heights}) == len(FORMS)
        assert ends(ticks) == [pytest.approx([floor, floor]) for floor in floors]
        low, high = axes.get_xlim()
        assert low == 0 and max(max(pair) for bar in bars for pair in ends(bar)) < high < 1.1 * max(milliseconds[0])


def test_forms_are_told_apart_without_colour(draw):
    key = draw().legends[0]
    assert [text.get_text() for text in key.get_texts()] == [*FORMS.values(), "floor"]
    looks = {(handle.get_marker(), handle.get_markerfacecolor()) for handle in key.legend_handles}
    assert len(looks) == len(FORMS) + 1


def test_what_it_says(draw):
    note = draw().note
    assert note.endswith("AMD EPYC & co. 9R14, 2 cores; device: cpu; threads: 2; medians over 15 rounds")
    assert "interquartile range" in note and "floor: the time of a system's multiply-adds" in note


def test_one_batch_size_on_a_gpu(draw):
    times = {key: values for key, values in TIMES.items() if key[1] == 8}
    figure = draw(times=times, forms=[form for form in FORMS if form != "onnxruntime"], device="cuda")
    assert len(figure.axes) == 1 and len(marks(figure.axes[0])) == 4
    assert "ONNX Runtime" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_refuses_what_the_table_refuses(tmp_path):
    path = write_backend_file(tmp_path, rows=without(form="plain"))
    with pytest.raises(ConfigError, match=r"backend\.tsv: holds no plain form of AST-05-05 in batches of 1"):
        figures.latency(path, tmp_path / "latency")
    assert not [*tmp_path.glob("latency*")]


def test_files_are_whole_and_the_same_every_time(tmp_path, drawn_twice):
    path = write_backend_file(tmp_path)
    label = "Random weights at the paper's size: no corpus has a part in these times"
    names = drawn_twice(lambda folder: figures.latency(path, folder / "latency"), f"{label} ·")
    assert names == {"latency.png", "latency.pdf", "latency.tsv"}
    shown = pd.read_csv(tmp_path / "one" / "latency.tsv", sep="\t")
    assert shown["median_ms"].tolist() == [ms for times in TIMES.values() for ms in times[:-1]]
    assert {"floor_ms", "speed_up", "machine"} <= {*shown}
