import pandas as pd

from spaarsist.reporting.figures import timeline as figures

PARTS = pd.DataFrame({
    "start_s": [0.0, 2.0, 3.0],
    "end_s": [4.0, 6.0, 7.0],
    "score": [1.5, -0.5, 2.0],
    "verdict": ["bona fide", "spoof", "no signal"],
})  # fmt: skip


def test_windows_lie_where_they_hear(tmp_path, drawn):
    figures.timeline(PARTS, tmp_path / "a$b.wav", "a$b.wav", threshold=0.25)
    (axes,) = drawn[0].axes
    bars = axes.collections[0].get_segments()
    assert [bar.tolist() for bar in bars] == [[[0, 1.5], [4, 1.5]], [[2, -0.5], [6, -0.5]], [[3, 2.0], [7, 2.0]]]
    sound, silent, threshold = axes.lines
    assert sound.get_xdata().tolist() == [2, 4, 5] and sound.get_ydata()[:2].tolist() == [1.5, -0.5]
    assert pd.isna(sound.get_ydata()[2]) and silent.get_xydata().tolist() == [[5, 2]]
    assert [*threshold.get_ydata()] == [0.25, 0.25] and "+0.250 nats" in drawn[0].note
    assert axes.get_xlim() == (0, 7) and axes.get_title() == "a$b.wav"


def test_without_threshold(tmp_path, drawn):
    figures.timeline(PARTS, tmp_path / "a", "a")
    assert len(drawn[0].axes[0].lines) == 2 and "threshold" not in drawn[0].note


def test_files(drawn_twice):
    names = drawn_twice(lambda folder: figures.timeline(PARTS, folder / "a.wav", "a.wav", 0.25, "mini"), "mini")
    assert names == {"a.wav.png", "a.wav.pdf", "a.wav.tsv"}
