import dataclasses
import json
import re
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch

from conftest import misplace, write_scores
from spaarsist.artefacts import read_metadata
from spaarsist.config import BackendConfig
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.evaluate import evaluate, read_scored_trials
from spaarsist.experiments import score as scoring
from spaarsist.experiments.score import export_scores, import_scores, score
from spaarsist.experiments.train import train
from spaarsist.models.detector import Detector, load_checkpoint
from spaarsist.names import LABELS, ConfigError, Variant

VARIANTS = [Variant.from_label(k, label) for k in (0.5, 0.1) for label in LABELS]


@pytest.fixture(scope="module")
def scored(checkpoint, synthetic, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "eval.parquet"
    score(checkpoint, synthetic / "eval.tsv", path, VARIANTS, batch_size=8)
    return path


def first_excerpt(synthetic, crop):
    waveform = audio.read(read_trials(synthetic / "eval.tsv")["path"][0])
    return torch.from_numpy(audio.pad(audio.crop(waveform, crop), crop))[None]


def test_contract(scored, synthetic):
    table = pyarrow.parquet.read_table(scored)
    trials = read_trials(synthetic / "eval.tsv")
    assert table.column_names == ["trial_id", *(v.column for v in VARIANTS)]
    assert table["trial_id"].to_pylist() == trials["trial_id"].tolist()
    assert {str(field.type) for field in table.schema if field.name != "trial_id"} == {"float"}
    metadata = json.loads(table.schema.metadata[b"spaarsist"])
    assert metadata["system"] == "AST-05" and metadata["seed"] == 1 and metadata["corpus"] == "eval"
    assert metadata["polarity"].startswith("higher = more bona fide")
    assert metadata["provenance"]["code_hash"]


@torch.inference_mode()
def test_one_pass_equals_each_variant_shipped_alone(scored, checkpoint, synthetic):
    """Score one trial with each exported back-end: log-odds of the head's softmax, in nats."""
    detector, record = load_checkpoint(checkpoint)
    frames = detector.frontend(first_excerpt(synthetic, record["recipe"]["crop"]))
    table = pd.read_parquet(scored)
    for variant in VARIANTS:
        logits = detector.head(detector.backend.export(variant)(frames))
        bonafide, spoof = torch.log_softmax(logits.double(), 1)[0]
        assert table[variant.column][0] == pytest.approx((bonafide - spoof).item(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_does_not_matter(scored, checkpoint, synthetic, tmp_path, batch_size):
    score(checkpoint, synthetic / "eval.tsv", tmp_path / "a.parquet", VARIANTS, batch_size=batch_size)
    a, b = (pd.read_parquet(p).set_index("trial_id") for p in (scored, tmp_path / "a.parquet"))
    assert np.abs(a - b).to_numpy().max() < 1e-5


def test_same_run_same_bytes(scored, checkpoint, synthetic, tmp_path):
    score(checkpoint, synthetic / "eval.tsv", tmp_path / "eval.parquet", VARIANTS, batch_size=8, workers=1)
    assert (tmp_path / "eval.parquet").read_bytes() == scored.read_bytes()


class TestAgain:
    """What is there is not computed again."""

    @pytest.fixture
    def there(self, scored, tmp_path):
        shutil.copy(scored, tmp_path / "eval.parquet")
        return tmp_path / "eval.parquet"

    @pytest.fixture
    def passes(self, monkeypatch):
        """Columns that each pass over the audio computes."""
        made, scores = [], scoring.score_excerpts

        def counting(detector, excerpts, variants, *rest):
            made.append([variant.column for variant in variants])
            return scores(detector, excerpts, variants, *rest)

        monkeypatch.setattr(scoring, "score_excerpts", counting)
        return made

    @staticmethod
    def rewrite(path, **changes):
        """Zeros under changed metadata."""
        table = pyarrow.parquet.read_table(path)
        metadata = json.loads(table.schema.metadata[b"spaarsist"])
        for key, value in changes.items():
            metadata[key] = metadata[key] | value if isinstance(value, dict) else value
        zeros = {name: table[name] if name == "trial_id" else np.zeros(len(table), "f4") for name in table.column_names}
        table = pyarrow.table(zeros).replace_schema_metadata({b"spaarsist": json.dumps(metadata)})
        pyarrow.parquet.write_table(table, path)

    def test_in_two_goes(self, scored, checkpoint, synthetic, passes, tmp_path):
        """The same bytes as in one, and each column is computed once."""
        path = tmp_path / "eval.parquet"
        first, rest = VARIANTS[::3], [v for v in VARIANTS if v not in VARIANTS[::3]]
        for variants in (first, VARIANTS):
            score(checkpoint, synthetic / "eval.tsv", path, variants, batch_size=8)
        assert passes == [[v.column for v in first], [v.column for v in rest]]
        assert path.read_bytes() == scored.read_bytes()

    @pytest.mark.parametrize("place", ["synthetic", "moved"])
    def test_all_there(self, there, checkpoint, passes, place, request, capsys):
        before = there.stat().st_mtime_ns, there.read_bytes()
        score(checkpoint, request.getfixturevalue(place) / "eval.tsv", there, VARIANTS, batch_size=4, workers=1)
        assert (there.stat().st_mtime_ns, there.read_bytes()) == before and passes == []
        assert capsys.readouterr().err == f"{there}: already holds these scores; kept\n"

    def test_fewer_in_another_order(self, there, scored, checkpoint, synthetic, passes):
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS[4:1:-1])
        columns = ["trial_id", *(v.column for v in VARIANTS[4:1:-1])]
        pd.testing.assert_frame_equal(pd.read_parquet(there), pd.read_parquet(scored)[columns])
        assert [*pd.read_parquet(there)] == columns and passes == []

    def test_another_name_for_the_corpus(self, there, scored, checkpoint, synthetic, passes):
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, corpus="E")
        table = pyarrow.parquet.read_table(there)
        assert json.loads(table.schema.metadata[b"spaarsist"])["corpus"] == "E" and passes == []
        pd.testing.assert_frame_equal(table.to_pandas(), pd.read_parquet(scored))

    @pytest.mark.parametrize(
        "changes",
        [
            {"checkpoint": "other"}, {"trial_list": "other"}, {"crop": "centre 1 samples"}, {"seed": 2},
            {"provenance": {"code_hash": "other"}}, {"provenance": {"torch": "1.0"}},
            {"trained_with": {"code_hash": "other"}},
        ],
    )  # fmt: skip
    def test_made_otherwise_is_made_anew(self, there, scored, checkpoint, synthetic, changes):
        self.rewrite(there, **changes)
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=8)
        assert there.read_bytes() == scored.read_bytes()

    def test_of_another_list_is_made_anew(self, there, checkpoint, relabelled, passes):
        score(checkpoint, relabelled / "eval.tsv", there, VARIANTS[:2])
        assert passes == [[v.column for v in VARIANTS[:2]]]

    @pytest.mark.parametrize(
        "damage", [lambda t: t[:5], lambda t: t[::-1], lambda t: pyarrow.concat_tables([t, t[:1]])]
    )
    def test_with_other_rows_is_made_anew(self, there, scored, checkpoint, synthetic, damage):
        pyarrow.parquet.write_table(damage(pyarrow.parquet.read_table(there)), there)
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=8)
        assert there.read_bytes() == scored.read_bytes()

    def test_with_a_nan_is_made_anew(self, there, scored, checkpoint, synthetic):
        table = pd.read_parquet(there)
        table.loc[2, "05-Mag"] = np.nan
        metadata = pyarrow.parquet.read_schema(there).metadata
        pyarrow.parquet.write_table(pyarrow.table(dict(table)).replace_schema_metadata(metadata), there)
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=8)
        assert there.read_bytes() == scored.read_bytes()

    @pytest.mark.parametrize("n_bytes", [0, 100, -1, -2000])
    def test_damaged_is_made_anew(self, there, scored, checkpoint, synthetic, n_bytes):
        there.write_bytes(there.read_bytes()[:n_bytes])
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=8)
        assert there.read_bytes() == scored.read_bytes()

    def test_a_failed_pass_leaves_what_was_there(self, there, checkpoint, synthetic, monkeypatch):
        before = there.read_bytes()
        monkeypatch.setattr(Detector, "scores", lambda _, inputs, variants: torch.full((len(inputs), 1), torch.nan))
        with pytest.raises(ConfigError, match="column 03: score is not finite"):
            score(checkpoint, synthetic / "eval.tsv", there, [*VARIANTS, Variant(k_infer=0.3)])
        assert there.read_bytes() == before


class TestParts:
    """A pass lays its scores aside now and then, and goes on there after a kill."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(scoring, "PART", 4)  # of 16 trials

    @pytest.fixture
    def passes(self, monkeypatch):
        """Rows that were scored, a list per part; `kill` ends the n-th part's pass before it is laid aside."""
        score_excerpts, kept = scoring.score_excerpts, []

        def counting(detector, excerpts, *others):
            kept.append([*excerpts.indices])
            if len(kept) == counting.kill:
                raise KeyboardInterrupt
            return score_excerpts(detector, excerpts, *others)

        counting.kill = 0
        monkeypatch.setattr(scoring, "score_excerpts", counting)
        return kept, counting

    def test_killed_again_and_again(self, scored, checkpoint, synthetic, passes, tmp_path):
        kept, counting = passes
        there, n = tmp_path / "eval.parquet", len(read_trials(synthetic / "eval.tsv"))
        for counting.kill in (2, 3, 5):
            with pytest.raises(KeyboardInterrupt):
                score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=4)
            assert not there.exists()
        counting.kill = 0
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=4)
        done = [rows for number, rows in enumerate(kept, 1) if number not in (2, 3, 5)]
        assert sorted(chain(*done)) == [*range(n)], "no part twice"
        score(checkpoint, synthetic / "eval.tsv", tmp_path / "whole.parquet", VARIANTS, batch_size=4)
        assert there.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == {"eval.parquet", "whole.parquet"}, "nothing else stays"

    def test_a_damaged_part_and_those_of_something_else_are_made_anew(self, checkpoint, synthetic, passes, tmp_path):
        kept, counting = passes
        there, counting.kill = tmp_path / "eval.parquet", 3
        with pytest.raises(KeyboardInterrupt):
            score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=4)
        first = min(tmp_path.rglob("*.npy"))
        first.write_bytes(first.read_bytes()[:-1] + b"x")
        counting.kill = 5
        with pytest.raises(KeyboardInterrupt):
            score(checkpoint, synthetic / "eval.tsv", there, VARIANTS, batch_size=4)
        assert kept[3] == kept[0] and kept[4] == kept[2]
        counting.kill = 0
        score(checkpoint, synthetic / "eval.tsv", there, VARIANTS[:1], batch_size=4)  # other columns: nothing fits
        assert kept[5] == kept[0]


def test_scores_do_not_saturate(checkpoint, synthetic, tmp_path):
    """Released: float32 probabilities, exactly 1.0 from a logit gap of 17 on. Here 40 and 41 nats stay apart."""
    detector, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        detector.head[-1].weight.mul_(0)
        detector.head[-1].bias.copy_(torch.tensor([41.0, 0.0]))
        scores = detector.scores(torch.randn(2, 8000), [Variant()])
    assert scores.flatten().tolist() == [41.0, 41.0]
    assert torch.sigmoid(torch.tensor(40.0)) == torch.sigmoid(torch.tensor(41.0)) == 1.0


def test_official_file(scored, tmp_path):
    export_scores(scored, tmp_path / "scores.tsv", "01-Mag")
    lines = (tmp_path / "scores.tsv").read_text().splitlines()
    assert lines[0] == "filename\tcm-score"
    name, value = lines[1].split("\t")
    table = pd.read_parquet(scored)
    assert name == table["trial_id"][0] and np.float32(value) == table["01-Mag"][0]
    assert len(lines) == len(table) + 1


def write_official(tmp_path, scores, key):
    (tmp_path / "s.tsv").write_text("filename\tcm-score\n" + "".join(f"{row}\n" for row in scores))
    (tmp_path / "k.tsv").write_text("filename\tcm-label\n" + "".join(f"{row}\n" for row in key))
    return tmp_path / "s.tsv", tmp_path / "k.tsv", tmp_path / "s.parquet", tmp_path / "l.tsv"


class TestImport:
    KEY = ("E_2\tspoof", "E_1\tbonafide", "E_3\tspoof")

    def test_by_hand_and_back(self, tmp_path):
        """Scores come in another order than the key."""
        paths = write_official(tmp_path, ("E_1\t2.5", "E_2\t-1e-3", "E_3\t0.1234567890123"), self.KEY)
        import_scores(*paths, "Mine", seed=2)
        about, trials, frame = read_scored_trials(*paths[2:])
        assert (about["system"], about["seed"], about["corpus"]) == ("Mine", 2, "l")
        assert trials["trial_id"].tolist() == ["E_2", "E_1", "E_3"], "the key's order"
        assert frame["score"].tolist() == [-1e-3, 2.5, 0.1234567890123]
        evaluate(*paths[2:], tmp_path / "m.tsv", tmp_path / "r.parquet", n_bootstrap=0)
        metrics = pd.read_csv(tmp_path / "m.tsv", sep="\t").set_index("metric")["value"]
        assert metrics["eer"] == metrics["min_dcf"] == 0
        export_scores(paths[2], tmp_path / "back.tsv", "score")
        lines = ["filename\tcm-score", "E_2\t-0.001", "E_1\t2.5", "E_3\t0.123456789"]
        assert (tmp_path / "back.tsv").read_text().splitlines() == lines

    def test_as_a_row_of_the_tables(self, tmp_path):
        paths = write_official(tmp_path, ("E_1\t2", "E_2\t1", "E_3\t0"), self.KEY)
        import_scores(*paths, "AST-03-01-Mag", corpus="E")
        about, _, frame = read_scored_trials(*paths[2:])
        assert (about["system"], about["corpus"], [*frame]) == ("AST-03", "E", ["01-Mag"])

    @pytest.mark.parametrize(
        ("scores", "key", "message"),
        [
            (("E_1\tnan", "E_2\t1", "E_3\t0"), KEY, r"s\.tsv, line 2: the score is 'nan'"),
            (("E_1\t1", "E_2\t-inf", "E_3\t0"), KEY, r"s\.tsv, line 3: the score is '-inf'"),
            (("E_1\t1", "E_2\thigh", "E_3\t0"), KEY, r"s\.tsv, line 3: the score is 'high'"),
            (("E_1\t1", "E_2\t", "E_3\t0"), KEY, r"s\.tsv, line 3: the score is ''"),
            (("E_1\t1", "E_2", "E_3\t0"), KEY, r"s\.tsv, line 3: not 2 columns"),
            (("E_1\t1", "E_2\t1", "E_1\t0"), KEY, r"s\.tsv, line 4: E_1 was already on line 2"),
            (("E_1\t1", "E_2\t1"), KEY, r"s\.tsv: trials of .*k\.tsv not scored: 1, e\.g\. E_3"),
            (("E_1\t1", "E_2\t1", "E_3\t0", "E_4\t0"), KEY, r"s\.tsv: trials that .* does not list: 1, e\.g\. E_4"),
            (("E_1\t1",), ("E_1\tgenuine",), r"k\.tsv, line 2: label 'genuine'"),
            (("E_1\t1",), ("E_1\tspoof", "E_1\tspoof"), r"k\.tsv, line 3: E_1 was already on line 2"),
            (("E_1\t1",), (), r"k\.tsv: no trials"),
        ],
    )
    def test_refuses(self, tmp_path, scores, key, message):
        paths = write_official(tmp_path, scores, key)
        with pytest.raises(ConfigError, match=message):
            import_scores(*paths, "Mine")
        assert {path.name for path in tmp_path.iterdir()} == {"s.tsv", "k.tsv"}, "nothing half-written stays"

    def test_refuses_names(self, tmp_path):
        paths = write_official(tmp_path, ("E_1\t2", "E_2\t1", "E_3\t0"), self.KEY)
        with pytest.raises(ConfigError, match="is no system name"):
            import_scores(*paths, "My system")
        with pytest.raises(ConfigError, match=r"k\.tsv: this command reads it"):
            import_scores(*paths[:3], paths[1], "Mine")


def test_export_refuses_what_is_no_score(tmp_path):
    columns = {"trial_id": ["a", "b"], "05": [0.5, np.nan]}
    path = write_scores(tmp_path / "s.parquet", columns, system="AST-05", seed=1, corpus="E")
    with pytest.raises(ConfigError, match=r"NaN or infinite score: 1, e\.g\. b"):
        export_scores(path, tmp_path / "out.tsv", "05")
    write_scores(path, columns | {"05": [0.5, 1]}, system="AST-05", seed=1, corpus="E")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="this command reads it"):
        export_scores(path, path, "05")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_list_without_labels_is_scored(scored, checkpoint, synthetic, tmp_path, workers):
    trials = read_trials(synthetic / "eval.tsv").assign(label="-")
    trials.to_csv(tmp_path / "eval.tsv", sep="\t", index=False)
    score(checkpoint, tmp_path / "eval.tsv", tmp_path / "a.parquet", VARIANTS, batch_size=8, workers=workers)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), pd.read_parquet(scored))


def test_errors(scored, synthetic, tmp_path):
    with pytest.raises(ConfigError, match="no variant '03-Mag'; it has 05, 05-Mag"):
        export_scores(scored, tmp_path / "a.tsv", "03-Mag")
    with pytest.raises(ConfigError, match="not readable as a score file"):
        export_scores(synthetic / "eval.tsv", tmp_path / "a.tsv", "05")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"no audio", None])
def test_a_damaged_or_missing_recording_ends_scoring_and_is_named(checkpoint, synthetic, tmp_path, damage, workers):
    """The released code prints a line and leaves the trial out."""
    path = tmp_path / "a.flac"
    if damage:
        path.write_bytes(damage(Path(read_trials(synthetic / "eval.tsv")["path"][3]).read_bytes()))
    broken = misplace(synthetic / "eval.tsv", path, tmp_path / "list.tsv")
    with pytest.raises(ConfigError, match=r"a\.flac: " if damage else r"a\.flac: no such file"):
        score(checkpoint, broken, tmp_path / "a.parquet", VARIANTS[:1], workers=workers)
    assert not list(tmp_path.glob("*.parquet"))


@pytest.fixture(scope="module")
def pooled(synthetic, recipe, tmp_path_factory):
    """A detector with another back-end, trained for a moment."""
    folder = tmp_path_factory.mktemp("pooled") / "MHFA"
    backend = BackendConfig("MHFA", 16, {"n_heads": 2, "compression_dim": 4})
    short = dataclasses.replace(recipe, backend=backend, stages=recipe.stages[:1])
    train(synthetic / "train.tsv", synthetic / "dev.tsv", folder, "MHFA", short, 1)
    return folder


class TestOtherBackends:
    def test_one_column_named_score(self, pooled, synthetic, tmp_path):
        score(pooled, synthetic / "eval.tsv", tmp_path / "a.parquet")
        table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
        assert table.column_names == ["trial_id", "score"]
        assert json.loads(table.schema.metadata[b"spaarsist"])["system"] == "MHFA"
        detector, _ = load_checkpoint(pooled)
        with torch.inference_mode():
            frames = detector.frontend(first_excerpt(synthetic, 8000), all_layers=True)
            logits = detector.head(detector.backend(frames))[0]
        assert frames.ndim == 4
        assert table["score"][0].as_py() == pytest.approx((logits[0] - logits[1]).item(), abs=1e-5)

    def test_no_variants(self, pooled, synthetic, tmp_path):
        with pytest.raises(ConfigError, match="MHFA has no variants"):
            score(pooled, synthetic / "eval.tsv", tmp_path / "a.parquet", VARIANTS[:1])

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("AST-03", {}),
            ("AST-05+stack1", {}),
            ("AST-05+graph3", {"stack_temperature": 1.0}),
        ],
    )
    def test_a_name_that_says_something_else(self, synthetic, recipe, tmp_path, name, options):
        lying = dataclasses.replace(recipe, backend=BackendConfig("AASIST", 16, options))
        with pytest.raises(ConfigError, match=re.escape(f"system {name}: AST-<k_train> is the name of an AASIST")):
            train(synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path, name, lying, 1)


def test_an_aasist_under_another_name(synthetic, recipe, tmp_path):
    """It is scored as it was trained, and as any variant where that is asked for."""
    light = dataclasses.replace(recipe, backend=BackendConfig("AASIST", 16, {"size": "L"}))
    train(synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path / "light", "AASIST-L", light, 1)
    for name, variants in (("as_trained", []), ("switched", [Variant(), Variant(0.1, "magnitude")])):
        score(tmp_path / "light", synthetic / "eval.tsv", tmp_path / f"{name}.parquet", variants, batch_size=8)
    as_trained, switched = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("as_trained", "switched"))
    assert [*as_trained] == ["trial_id", "score"] and [*switched] == ["trial_id", "05", "01-Mag"]
    assert np.abs(as_trained["score"] - switched["05"]).max() < 1e-5 < np.abs(switched["01-Mag"] - switched["05"]).max()
    assert read_metadata(tmp_path / "as_trained.parquet")["system"] == "AASIST-L"


def test_as_trained_is_the_baseline(scored, checkpoint, synthetic, tmp_path):
    """An AASIST without variants is scored as it was trained: at its k_train, learned, with attention."""
    score(checkpoint, synthetic / "eval.tsv", tmp_path / "a.parquet", batch_size=8)
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert [*table] == ["trial_id", "05"]
    assert np.abs(table["05"] - pd.read_parquet(scored)["05"]).max() < 1e-5


@torch.inference_mode()
def test_variants_of_other_graph_temperatures_share_a_pass(checkpoint):
    detector, _ = load_checkpoint(checkpoint)
    waveforms = torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    variants = [Variant(graph_temperature=t, k_infer=k) for t in (None, 0.1) for k in (0.5, 0.1)]
    together = detector.scores(waveforms, variants)
    for i, variant in enumerate(variants):
        torch.testing.assert_close(together[:, i : i + 1], detector.scores(waveforms, [variant]))
    assert (together[:, 0] - together[:, 2]).abs().max() > 1e-6
