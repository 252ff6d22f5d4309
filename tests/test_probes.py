"""Probes: nothing but the stretch is planted, its nodes are the ones counted, and edges are told from speech."""

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import misplace
from spaarsist.audit import probes
from spaarsist.audit.probes import COLUMNS, FADE, PLANTS, STRETCH, places, plant, probe
from spaarsist.config import Excerpt
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.models.backend import POOLING, GraphPool
from spaarsist.models.detector import load_checkpoint, save_checkpoint
from spaarsist.names import ConfigError

SECOND = 16_000


def burst(*spans, seconds=3.0, seed=0):
    """Noise within these spans of seconds, near silence elsewhere."""
    rng = np.random.default_rng(seed)
    wave = 1e-4 * rng.standard_normal(int(seconds * SECOND))
    for start, end in spans:
        loud = slice(round(start * SECOND), round(end * SECOND))
        wave[loud] += 0.1 * rng.standard_normal(loud.stop - loud.start)
    return wave.astype(np.float32)


# What is planted


def test_a_stretch_lies_in_speech_with_room_around_it():
    found = places(burst((0.0, 0.5), (1.0, 2.0))) / SECOND
    # 0.3 s from the beginning on; a tenth of the stretch may be quiet
    assert found.min() == pytest.approx(0.97) and found.max() == pytest.approx(1.73)
    assert np.diff(found).max() == pytest.approx(0.01) and len(found) == 77
    whole = places(burst((0, 1.0), seconds=1.0)) / SECOND
    assert (whole.min(), whole.max()) == pytest.approx((0.3, 0.4))
    for without in (burst((0, 0.8), seconds=0.8), np.zeros(SECOND, np.float32), np.zeros(0, np.float32)):
        assert len(places(without)) == 0


def test_nothing_but_the_stretch_changes():
    speech = burst((0, 3))
    other = burst((0, 3), seed=1)[:STRETCH].astype(float)
    planted = plant(speech, 8000, other)
    inside = slice(8000 + FADE, 8000 + STRETCH - FADE)
    np.testing.assert_array_equal(planted[inside], other[FADE:-FADE].astype(np.float32))
    outside = np.r_[0:8000, 8000 + STRETCH : len(speech)]
    np.testing.assert_array_equal(planted[outside], speech[outside])
    ramp = plant(np.zeros(20_000, np.float32), 8000, np.ones(STRETCH))
    assert (np.diff(ramp[7999 : 8000 + FADE]) > 0).all() and ramp[7999] == 0 and ramp[8000 + FADE] == 1
    np.testing.assert_allclose(ramp[8000 : 8000 + FADE] + ramp[8000 + STRETCH - FADE : 8000 + STRETCH], 1, rtol=1e-6)
    np.testing.assert_array_equal(plant(speech, 8000, speech[8000 : 8000 + STRETCH].astype(float)), speech)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Bona fide clips: of 3 s, of 0.5 s; without speech for a stretch elsewhere; and a spoof of 3 s."""
    import soundfile

    folder = tmp_path_factory.mktemp("clips")
    waves = {
        "long": burst((0.4, 2.7)), "short": burst((0, 0.5), seconds=0.5), "once": burst((1.0, 1.32)),
        "fake": burst((0.2, 2.9), seed=3),
    }  # fmt: skip
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, SECOND, "FLOAT")
    paths = [str(folder / f"{name}.wav") for name in waves]
    return pd.DataFrame({"path": paths, "label": ["bonafide"] * 3 + ["spoof"]}, index=[4, 6, 7, 9])


def test_versions_differ_in_the_stretch_alone_and_are_as_loud(clips):
    dataset = probes._Planted(clips, Excerpt(2 * SECOND))
    versions, start = dataset[0]
    assert versions.shape == (1 + len(PLANTS), 2 * SECOND) and versions.dtype == torch.float32
    scored, *planted = versions.numpy()
    np.testing.assert_array_equal(scored, audio.crop(audio.read(clips["path"][4]), 2 * SECOND))
    within = slice(start, start + STRETCH)
    for name, version in zip(PLANTS, planted, strict=True):
        changed = np.flatnonzero(version != scored)
        if name == "unchanged":
            assert len(changed) == 0
            continue
        assert changed.min() >= start and changed.max() < start + STRETCH and len(changed) > 0.9 * STRETCH, name
        level = [np.sqrt(np.mean(wave[within] ** 2)) for wave in (version, scored)]
        assert level[0] == pytest.approx(level[1], rel=0.3), name
    again, start_again = dataset[0]
    assert torch.equal(again, versions) and start_again == start
    assert [dataset[i][1] for i in (1, 2)] == [-1, -1]
    assert torch.equal(dataset[1][0][0], dataset[1][0][3]) and not dataset[1][0][0, SECOND:].any()


def test_excerpts_move_by_the_stretch(clips):
    dataset = probes._Moved(clips, Excerpt(2 * SECOND))
    (scored, inside, shifted), kind = dataset[0]
    assert kind == 2 and torch.equal(inside[STRETCH:], shifted[:-STRETCH])
    whole = audio.read(clips["path"][4])
    np.testing.assert_array_equal(scored, audio.crop(whole, 2 * SECOND))
    at = next(i for i in range(len(whole)) if whole[i] == inside[0] and whole[i + 1] == inside[1])
    assert at == int(0.4 * SECOND) and np.array_equal(whole[at : at + 2 * SECOND], inside)
    assert [dataset[i][1] for i in (1, 2, 3)] == [0, 1, 2]


# What is counted


def seen_of(kept, scores=None):
    """One ratio, one scorer more: (seeds, clips, versions, nodes) -> what `_look` gives, stacked."""
    kept = np.asarray(kept, bool)[:, :, :, None, None].repeat(2, axis=4)
    scores = np.zeros(kept.shape[:3]) if scores is None else np.asarray(scores, float)
    return probes._Seen(kept, scores[..., None, None].repeat(2, axis=4))


def test_planted_by_hand():
    """Nodes of 0.1 s: three have their middle in the stretch."""
    kept = np.zeros((2, 2, 1 + len(PLANTS), 10))
    kept[0, 0, 0, [3, 4]] = 1  # clip 1, from 0.26 s: nodes 3, 4, 5
    kept[1, 0, 0, 3] = 1
    kept[0, 0, 1, [3, 4, 5]] = 1
    kept[:, 1, 1, [5, 6, 7, 9]] = 1  # clip 2, from 0.5 s: nodes 5, 6, 7
    kept[:, :, 1 + PLANTS.index("elsewhere"), 3] = 1  # of clip 1's nodes, not of clip 2's
    scores = np.zeros(kept.shape[:3])
    scores[:, :, 1] = [[-1, 0.5], [-2, 0.5]]
    starts = np.array([0.26, 0.5]) * SECOND
    rows = pd.DataFrame(probes._planted_rows(seen_of(kept, scores), starts.astype(int), 1600.0, [0.5], 0.95))
    rows = rows.set_index(["method", "scorer"])
    row = rows.loc[PLANTS[0], "magnitude"]
    assert (row["n_planted"], row["n_nodes"], row["n_clips"], row["chance"]) == (3, 10, 2, 0.5)
    assert row["before"] == pytest.approx((2 / 3 + 1 / 3) / 4) and row["after"] == pytest.approx(3 / 4)
    assert row["difference"] == pytest.approx(0.5)  # 1/3, 1; -1/3, 1
    assert (row["lowest_seed"], row["highest_seed"]) == pytest.approx((1 / 3, 2 / 3))
    assert (row["low"], row["high"]) == (-1, 1)  # one degree of freedom reaches beyond what shares can do
    assert row["synthesis"] == pytest.approx((2 / 3 + 1 - 1 / 3 + 1) / 4)  # after, less a third in clip 1
    assert (row["synthesis_low"], row["synthesis_high"]) == (-1, 1)
    assert rows["synthesis"].notna().sum() == 2 * len(probes.METHODS)
    assert row["score_change"] == pytest.approx(-0.5) and row["score_falls"] == 0.5
    assert rows.loc[PLANTS[1], "before"].tolist() == pytest.approx([1 / 4] * 2)
    assert rows.loc[PLANTS[1], "after"].tolist() == [0, 0]


def test_an_interval_by_hand():
    values = np.array([[1.0, 2, 3], [3, 4, 8]])
    mean, low, high = probes._mean(values, 0.95)
    error = np.sqrt(np.var([2, 3, 5.5], ddof=1) / 3 + np.var([2, 5], ddof=1) / 2)
    assert mean == pytest.approx(3.5) and high - mean == mean - low == pytest.approx(12.7062047 * error)
    one = probes._mean(values[:1], 0.95)
    assert one[2] - one[0] == pytest.approx(4.30265273 / np.sqrt(3))
    assert np.isnan(probes._mean(values[:1, :1], 0.95)[1:]).all()


def test_edges_by_hand():
    """A detector that keeps the first node whatever is heard, another that follows the speech."""
    n = 12  # nodes of 0.1 s, so that the shifted excerpt is three on
    kept = np.zeros((2, 4, 3, n))
    kept[0, :, :, 0] = 1
    kept[1, 0:2, 1, 3] = kept[1, 0:2, 2, 0] = 1  # the bona fide clips that are long enough
    kept[1, 0, 1, n - 1] = 1
    kept[:, 0:2, 2, n - 4] = 1
    kinds, labels = np.array([2, 2, 0, 1]), np.array(["bonafide", "bonafide", "bonafide", "spoof"])
    scores = np.zeros((2, 4, 3))
    scores[:, :, 1], scores[:, :, 2] = [[1], [2]], 4
    repeated = np.zeros(kept.shape)
    repeated[0, 0, 2, 0] = repeated[:, :2, 1, 3] = repeated[:, 1, 2, n - 4] = 1
    seen = seen_of(kept, scores), seen_of(repeated, scores)
    rows = pd.DataFrame(probes._edge_rows(*seen, kinds, labels, 1600.0, [0.5], 0.95))
    rows = rows[rows["scorer"] == "learned"].set_index(["label", "crop", "node"])
    assert {*rows.index.get_level_values("label")} == {"bonafide"}  # no spoof is of either kind
    of = rows.loc["bonafide"]
    assert of["n_clips"].to_dict() == {
        (c, e): 1 if c == "padded" else 2 for c in probes.CROPS for e in ("first", "last")
    }
    assert of.loc[("padded", "first"), "share"] == 0.5 and of.loc[("scored", "first"), "share"] == 0.5
    first, last = of.loc["shifted", "first"], of.loc["inside", "last"]
    assert (first["share"], first["same_speech"], first["border"]) == (1, 0.5, 0.5)
    assert (first["lowest_seed"], first["highest_seed"]) == (0, 1)
    assert (last["share"], last["same_speech"], last["border"]) == (0.25, 1, -0.75)
    assert (last["lowest_seed"], last["highest_seed"]) == (-1, -0.5)
    assert (first["repeated"], last["repeated"]) == (-0.75, -0.5)
    assert of["border"].notna().sum() == of["repeated"].notna().sum() == 2
    assert of["score_change"].xs("first", level="node").to_dict() == pytest.approx(
        {"padded": np.nan, "scored": np.nan, "inside": 1.5, "shifted": 4}, nan_ok=True
    )


def test_without_zeros_a_steady_sound_has_no_edges(twins):
    """Frames that are all alike make nodes that are all alike, but for the zeros beyond the ends."""
    detector, _ = load_checkpoint(twins[0])
    frames = torch.randn(1, 1, 120, generator=torch.Generator().manual_seed(0)).expand(2, 30, -1)
    with torch.inference_mode():
        padded = detector.backend.nodes(frames).temporal
        with probes._edges_repeated(detector.backend):
            repeated = detector.backend.nodes(frames).temporal
        again = detector.backend.nodes(frames).temporal
    assert (padded[:, 0] - padded[:, 5]).abs().max() > 1e-2 and torch.equal(padded, again)
    torch.testing.assert_close(repeated, repeated[:, :1].expand_as(repeated), rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in detector.modules())


# The whole


@pytest.fixture(scope="module")
def twins(checkpoint, tmp_path_factory):
    """The checkpoint, and another seed of it."""
    folder = tmp_path_factory.mktemp("twin") / "AST-05"
    folder.mkdir()
    detector, record = load_checkpoint(checkpoint)
    state = detector.state_dict()
    state["backend.temporal_pool.proj.weight"] = -state["backend.temporal_pool.proj.weight"]
    save_checkpoint(state, record | {"seed": 2}, folder)
    return [checkpoint, folder]


@pytest.fixture(scope="module")
def listed(synthetic):
    return synthetic / "eval.tsv"


@pytest.fixture(scope="module")
def shorter_stretches():
    """Stretches of 80 ms: the checkpoint's excerpts are of half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "STRETCH", 1280)
        yield


def read(folder):
    return {name: pd.read_csv(folder / f"{name}.tsv", sep="\t") for name in COLUMNS}


@pytest.fixture(scope="module")
def probed(twins, listed, shorter_stretches, tmp_path_factory):
    output = tmp_path_factory.mktemp("probed") / "eval"
    probe(twins, listed, output, [0.5, 0.3, 1.0], 4, corpus="heldout", batch_size=4)
    return output


def test_the_files(probed, twins):
    tables = read(probed)
    assert {path.name for path in probed.iterdir()} == {f"{name}.tsv" for name in COLUMNS}
    for name, table in tables.items():
        assert [*table] == [*COLUMNS[name]]
        assert (table["trained"] == "AST-05").all() and (table["corpus"] == "heldout").all()
        assert (table["n_seeds"] == 2).all() and {*table["k"]} == {0.5, 0.3}
    planted = tables["planted"]
    assert len(planted) == len(PLANTS) * 2 * 2 and planted["before"].between(0, 1).all()
    still = planted[planted["method"] == "unchanged"]
    zeros = ["difference", "low", "high", "lowest_seed", "highest_seed", "score_change", "score_low", "score_high"]
    assert (still[zeros] == 0).all(axis=None), "the cross-fade alone changes nothing at all"
    spoofed = planted[planted["method"].isin(probes.METHODS)]
    assert (spoofed["score_change"] != 0).all()
    np.testing.assert_allclose(planted["difference"], planted["after"] - planted["before"], atol=1e-9)


def test_readers_change_nothing(probed, twins, listed, shorter_stretches, tmp_path):
    probe(twins, listed, tmp_path / "eval", [0.3, 0.5], 4, corpus="heldout", batch_size=4, workers=2)
    for path in probed.iterdir():
        assert path.read_bytes() == (tmp_path / "eval" / path.name).read_bytes()


def test_a_scorer_that_knows_finds_every_node(twins, listed, shorter_stretches, monkeypatch):
    """The right answer comes out where it is known: of a scorer that looks for what was changed."""
    trials = read_trials(listed)
    clips = [*map(probes._Planted(trials[trials["label"] == "bonafide"], Excerpt(8000)).__getitem__, range(6))]
    planted, starts = zip(*((versions, start) for versions, start in clips if start >= 0), strict=True)
    detector, record = load_checkpoint(twins[0])
    pool, clean = detector.backend.temporal_pool, []

    def scores(nodes, scorer):
        if scorer == "magnitude":
            return GraphPool.scores(pool, nodes, scorer)
        clean.append(nodes)
        return (nodes - clean[0]).abs().sum(dim=2, keepdim=True)

    monkeypatch.setattr(pool, "scores", scores)
    with torch.inference_mode():
        seen = probes._stack([probes._look(detector, torch.stack(planted), [0.5], 8)])
    node_samples = POOLING * 8000 / record["n_frames"]
    table = pd.DataFrame(probes._planted_rows(seen, np.array(starts), node_samples, [0.5], 0.95))
    after = table.set_index(["method", "scorer"])["after"]
    found = after.loc[[*probes.METHODS], "learned"]
    # Chance is 0.5; attention spreads a change over other nodes, more or less of it with each processor's training
    assert len(starts) > 3 and found.min() > 0.65 and found.mean() > 0.75


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_recording_is_one_line_and_leaves_nothing(twins, listed, tmp_path, workers):
    trials = misplace(listed, tmp_path / "gone.flac", tmp_path / "list.tsv")
    with pytest.raises(ConfigError, match=r"gone\.flac"):
        probe(twins, trials, tmp_path / "out" / "eval", [0.5], 1000, workers=workers)
    assert not (tmp_path / "out").exists() or not [*(tmp_path / "out").iterdir()]


def test_refuses(twins, listed, shorter_stretches, tmp_path, monkeypatch):
    def refused(message, checkpoints=twins, k=(0.5,)):
        with pytest.raises(ConfigError, match=message):
            probe(checkpoints, listed, tmp_path / "out", k, 4)
        assert not (tmp_path / "out").exists()

    refused("needs a share below 1", k=[1.0])
    refused("no checkpoints: excerpts or frames differ", checkpoints=[])
    detector, record = load_checkpoint(twins[0])
    longer = record | {"excerpt": {"crop": 9600}}
    save_checkpoint(detector.state_dict(), longer, _made(tmp_path / "longer"))
    refused(r"AST-05 and .*longer: excerpts or frames differ; probe them apart", [twins[0], tmp_path / "longer"])
    mean = record | {"system": "Mean-pool", "backend": record["backend"] | {"kind": "MeanPool"}}
    save_checkpoint(detector.state_dict(), mean, _made(tmp_path / "mean"))
    refused("Mean-pool has no graphs", [twins[0], tmp_path / "mean"])
    monkeypatch.setattr(probes, "STRETCH", 16_000)
    refused(r"eval\.tsv: no bona fide clip has room for a stretch of speech; set analysis\.probed to 0")


def _made(folder):
    folder.mkdir()
    return folder
