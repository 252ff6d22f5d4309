"""Score files -> metrics, intervals and replicates: joined by id, by hand, paired, and on hostile input."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import write_scores
from spaarsist.artefacts import read_metadata, trials_hash
from spaarsist.evaluation.evaluate import evaluate, read_replicates
from spaarsist.evaluation.metrics import METRICS, compute_metrics
from spaarsist.evaluation.statistics import SpeakerResampling, TrialResampling, percentile_interval
from spaarsist.names import ConfigError

COLUMNS = ("05", "03-Mag")


@pytest.fixture
def files(tmp_path):
    """A trial list of 60 trials with speakers, attacks and codecs, and a score file of two variants."""
    rng = np.random.default_rng(1)
    trials = pd.DataFrame({"trial_id": [f"t{i:02d}" for i in range(60)], "path": "a.tar::b.flac"})
    trials["label"] = ["bonafide", "spoof", "spoof"] * 20
    trials["speaker_id"] = ["NA", "S1", "S2", "S3", "S4"] * 12  # NA: a legal name that pandas takes for a missing value
    trials["attack_id"] = ["-", "A17", "A18"] * 20
    trials["codec"] = ["-"] * 30 + ["C01"] * 27 + ["C02", "C01", "C01"]  # C02 has a bona fide trial only
    trials["n_samples"] = 64600
    quality = np.where(trials["label"] == "bonafide", 1.0, -1.0)
    scores = pd.DataFrame({"trial_id": trials["trial_id"]})
    for column in COLUMNS:
        scores[column] = (quality + rng.normal(size=60)).astype(np.float32)
    metadata = {"system": "AST-05", "seed": 3, "corpus": "mini"}

    def write(scores=scores, trials=trials, metadata=metadata, name="scores"):
        trials.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
        inputs = write_scores(tmp_path / f"{name}.parquet", scores, **metadata), tmp_path / "trials.tsv"
        return *inputs, tmp_path / f"{name}.tsv", tmp_path / f"{name}.replicates.parquet"

    write.scores, write.trials, write.metadata = scores, trials, metadata
    return write


def results(path):
    return pd.read_csv(path, sep="\t", dtype={"variant": str})


def classes(files, column, chosen=True):
    is_bonafide = files.trials["label"] == "bonafide"
    scores = files.scores[column].astype(float)
    return [scores[chosen & members].to_numpy() for members in (is_bonafide, ~is_bonafide)]


def test_metrics_of_all_conditions(files):
    shuffled = files.scores.sample(frac=1, random_state=0)  # joined by id, not by position
    paths = files(shuffled)
    evaluate(*paths, n_bootstrap=50)
    table = results(paths[2])
    header = "system seed variant corpus condition metric value ci_low ci_high n_bonafide n_spoof"
    assert " ".join(table.columns) == f"{header} speakers_low speakers_high n_speakers"
    assert set(table["system"]) == {"AST-05-05", "AST-05-03-Mag"} and set(table["seed"]) == {3}
    assert list(table["condition"].unique()) == ["pooled", "attack:A17", "attack:A18", "codec:-", "codec:C01"]
    assert not table[header.split()].isna().any(axis=None)
    listed = files.trials
    for condition, chosen in {
        "pooled": listed["label"] != "",
        "attack:A18": listed["attack_id"].isin(["-", "A18"]),
        "codec:C01": listed["codec"] == "C01",
    }.items():
        scores = classes(files, "03-Mag", chosen)
        for metric, wanted in compute_metrics(*scores).items():
            row = table[(table[["variant", "condition", "metric"]] == ["03-Mag", condition, metric]).all(axis=1)]
            got = row[["value", "n_bonafide", "n_spoof"]].squeeze().to_list()
            assert got == pytest.approx([wanted, *map(len, scores)], abs=1e-9)


def test_vocoders_are_conditions_where_the_list_names_them(files):
    vocoders = np.where(files.trials["label"] == "bonafide", "-", np.where(files.trials.index % 4, "neural", "old"))
    trials = files.trials.copy()
    trials.insert(len(trials.columns) - 1, "vocoder", vocoders)
    paths = files(trials=trials)
    evaluate(*paths, n_bootstrap=0)
    table = results(paths[2])
    found = table[(table["variant"] == "05") & (table["metric"] == "eer")].set_index("condition")
    assert [name for name in found.index if "vocoder" in name] == ["vocoder:neural", "vocoder:old"]
    scores = classes(files, "05", (vocoders == "old") | (vocoders == "-"))
    assert found.loc["vocoder:old", "value"] == pytest.approx(compute_metrics(*scores)["eer"], abs=1e-9)
    assert found.loc["vocoder:old", ["n_bonafide", "n_spoof"]].tolist() == [*map(len, scores)]


def test_intervals_are_those_of_the_replicates(files):
    paths = files()
    evaluate(*paths, n_bootstrap=40, confidence=0.8)
    table, replicates = results(paths[2]), pq.read_table(paths[3]).to_pandas()
    assert list(replicates.columns) == ["resampling", "replicate", *(f"{c}:{m}" for c in COLUMNS for m in METRICS)]
    assert replicates["resampling"].tolist() == ["trials"] * 40 + ["speakers"] * 40
    assert replicates["replicate"].tolist() == [*range(40)] * 2
    pooled = table[table["condition"] == "pooled"]
    for row in pooled.to_dict("records"):
        for resampling, ends in (("trials", ("ci_low", "ci_high")), ("speakers", ("speakers_low", "speakers_high"))):
            drawn = replicates.loc[replicates["resampling"] == resampling, f"{row['variant']}:{row['metric']}"]
            assert [row[end] for end in ends] == pytest.approx(percentile_interval(drawn, 0.8), abs=1e-9)
    rest = table[table["condition"] != "pooled"]
    assert rest[["speakers_low", "speakers_high"]].isna().all(axis=None)
    assert set(pooled["n_speakers"]) == {5} and set(rest["n_speakers"]) == {0}


def test_replicates_are_the_metrics_of_their_draws(files):
    paths = files()
    evaluate(*paths, n_bootstrap=5, seed=2)
    values = read_replicates(paths[3], ["03-Mag:eer", "03-Mag:cllr"]).values
    scores = classes(files, "03-Mag")
    is_bonafide = files.trials["label"] == "bonafide"
    speakers = [files.trials.loc[members, "speaker_id"] for members in (is_bonafide, ~is_bonafide)]
    for resampling, draw in (("trials", TrialResampling((20, 40), 2)), ("speakers", SpeakerResampling(speakers, 2))):
        assert values[resampling].shape == (5, 2)
        for replicate in range(5):
            wanted = compute_metrics(*map(np.repeat, scores, draw(replicate)))
            got = values[resampling].loc[replicate]
            assert got.tolist() == pytest.approx([wanted["eer"], wanted["cllr"]])


def test_what_the_replicates_say_of_themselves(files):
    paths = files()
    evaluate(*paths, n_bootstrap=2, seed=7)
    wanted = files.metadata | {"trial_list": trials_hash(paths[1]), "resampling_seed": 7}
    assert read_metadata(paths[3]) == wanted | {"n_speakers": 5, "speaker_degrees_of_freedom": 4}


def test_files_on_one_trial_list_are_resampled_alike(files):
    """Another training with other columns, whose scores stand in another order: equal scores, equal replicates."""
    paths = files()
    evaluate(*paths, n_bootstrap=20)
    other = files.scores.rename(columns={"05": "01"})[["trial_id", "01"]].sample(frac=1, random_state=3)
    others = files(other, metadata=files.metadata | {"system": "AST-03", "seed": 9}, name="other")
    evaluate(*others, n_bootstrap=20)
    one = read_replicates(paths[3])
    another = read_replicates(others[3], like=one)
    for resampling in ("trials", "speakers"):
        for metric in METRICS:
            same = one.values[resampling][f"05:{metric}"], another.values[resampling][f"01:{metric}"]
            assert np.array_equal(*same)
            assert len(set(same[0])) > 1


def test_threads_change_no_byte(files):
    written = []
    for threads in (1, 2):
        paths = files()
        evaluate(*paths, n_bootstrap=30, threads=threads)
        written.append([path.read_bytes() for path in paths[2:]])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("names", "n_speakers"), [(["-"] + ["S1", "S2"] * 29 + ["S1"], 0), (["S1"] * 60, 1), (["-"] * 60, 0)]
)
def test_speakers_that_are_not_known_or_too_few(files, names, n_speakers):
    paths = files(trials=files.trials.assign(speaker_id=names))
    evaluate(*paths, n_bootstrap=5)
    table = results(paths[2])
    assert table[["speakers_low", "speakers_high"]].isna().all(axis=None) and not table["ci_low"].isna().any()
    assert set(table.loc[table["condition"] == "pooled", "n_speakers"]) == {n_speakers}
    about, values = read_replicates(paths[3])[1:]
    assert [*values] == ["trials"] and (about["n_speakers"], about["speaker_degrees_of_freedom"]) == (n_speakers, 0)


def test_without_bootstrap_intervals_and_replicates_are_empty(files):
    paths = files()
    evaluate(*paths, n_bootstrap=0)
    empty = ["ci_low", "ci_high", "speakers_low", "speakers_high"]
    assert results(paths[2])[empty].isna().all(axis=None)
    table = pq.read_table(paths[3])
    assert table.num_rows == 0 and table.num_columns == 2 + 2 * len(METRICS)
    assert table.schema.field("replicate").type == pa.int64() and table.schema.field("05:eer").type == pa.float64()
    assert read_replicates(paths[3]).values == {}


def test_corpus_without_attacks_or_codecs(files):
    paths = files(trials=files.trials.assign(attack_id="-", codec="-"))
    evaluate(*paths, n_bootstrap=0)
    assert set(results(paths[2])["condition"]) == {"pooled"}


def with_nan(scores):
    return scores.assign(**{"05": scores["05"].where(scores["trial_id"] != "t07")})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: f(scores=f.scores.drop(index=[3, 4])), r"not scored: 2, e\.g\. t03, t04"),
        (lambda f: f(trials=f.trials.drop(index=5)), r"does not list: 1, e\.g\. t05"),
        (lambda f: f(scores=pd.concat([f.scores, f.scores[:1]])), "scored more than once: 1, e.g. t00"),
        (lambda f: f(trials=pd.concat([f.trials, f.trials[:1]])), "t00 was already on line 2"),
        (lambda f: f(scores=with_nan(f.scores)), "NaN or infinite score: 1, e.g. t07"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "05-Best"})), "'05-Best' names no variant"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "00"})), "'00' names no variant"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "050"})), "'050' names no variant"),
        (lambda f: f(scores=f.scores[["trial_id"]]), "one column per variant"),
        (lambda f: f(metadata={"seed": 1, "corpus": "mini"}), "system"),
        (
            lambda f: f(metadata=f.metadata | {"trial_list": "another"}),
            "scored from another trial list than .* is now; delete it and score again",
        ),
        (lambda f: f(trials=f.trials.assign(label="spoof")), "no bonafide trials"),
        (lambda f: f(trials=f.trials.replace("bonafide", "genuine")), "genuine"),
        (lambda f: f(trials=f.trials.drop(columns="codec")), "codec"),
    ],
)
def test_refuses(files, change, complaint):
    paths = change(files)
    with pytest.raises(ConfigError, match=complaint):
        evaluate(*paths, n_bootstrap=0)
    assert not paths[2].exists() and not paths[3].exists()


def test_refuses_what_is_no_score_file(files):
    paths = files()
    paths[0].write_text("<html>not found</html>")
    with pytest.raises(ConfigError, match="not a readable Parquet"):
        evaluate(*paths)


def swap(files, **columns):
    return files(scores=dict(files.scores) | columns)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"05": pa.array(["1.5"] * 60)}, "column '05' holds string; scores are numbers"),
        ({"05": pa.array([True, False] * 30)}, "column '05' holds bool"),
        ({"05": pa.array([[0.5]] * 60)}, "column '05' holds list"),
        ({"05": pa.array([{"a": 1.0}] * 60)}, "column '05' holds struct"),
        ({"05": pa.array([None] * 60)}, "column '05' holds null"),
        ({"05": pa.array([None, *[0.5] * 59])}, "NaN or infinite score: 1, e.g. t00"),
        ({"05": np.full(60, -np.inf)}, "NaN or infinite score: 60, e.g. t00"),
        ({"trial_id": pa.array([True] * 60)}, "trial_id holds bool"),
        ({"trial_id": np.arange(60.0)}, "trial_id holds double"),
        ({"trial_id": pa.array([None, *"a" * 59])}, "a trial without an id"),
        ({"trial_id": [f"t{i:02d}\t" for i in range(60)]}, "a tab or a line break: 60"),
    ],
)
def test_refuses_what_is_no_score(files, columns, complaint):
    paths = swap(files, **columns)
    with pytest.raises(ConfigError, match=complaint):
        evaluate(*paths, n_bootstrap=0)
    assert not paths[2].exists()


def test_refuses_two_columns_of_one_name(files):
    paths = files()
    table = pq.read_table(paths[0])
    pq.write_table(
        table.rename_columns(["trial_id", "05", "05"]).replace_schema_metadata(table.schema.metadata), paths[0]
    )
    with pytest.raises(ConfigError, match=r"one column per variant; found \['trial_id', '05', '05'\]"):
        evaluate(*paths, n_bootstrap=0)


@pytest.mark.parametrize(
    "about",
    [
        {"seed": True}, {"seed": "3"}, {"seed": 3.5}, {"seed": None}, {"system": 5}, {"corpus": None},
        {"trained_with": "code"}, {"provenance": [1]},
    ],
)  # fmt: skip
def test_refuses_what_a_score_file_cannot_say_of_itself(files, about):
    paths = files(metadata=files.metadata | about)
    with pytest.raises(ConfigError, match=f"scores.parquet: expected system, seed and corpus .*{next(iter(about))}"):
        evaluate(*paths, n_bootstrap=0)


@pytest.mark.parametrize(
    "same",
    [
        lambda scores: {"05": scores["05"].astype(float)},
        lambda scores: {"trial_id": pd.Categorical(scores["trial_id"])},
        lambda scores: {"trial_id": pa.array(scores["trial_id"], pa.large_string())},
    ],
)
def test_other_ways_to_store_the_same(files, same):
    wanted, paths = files(name="a"), swap(files, **same(files.scores))
    for each in (wanted, paths):
        evaluate(*each, n_bootstrap=0)
    assert paths[2].read_bytes() == wanted[2].read_bytes()


def test_numbers_as_trial_ids(files):
    numbers = np.arange(60)
    paths = files(files.scores.assign(trial_id=numbers), files.trials.assign(trial_id=numbers.astype(str)))
    evaluate(*paths, n_bootstrap=0)


def test_a_damaged_page(files):
    """Checksums of pages, as `score` writes them, tell a flipped bit that decodes well."""
    paths = files()
    pq.write_table(pq.read_table(paths[0]), paths[0], compression="none", write_page_checksum=True)
    whole, value = paths[0].read_bytes(), np.float32(files.scores["05"][7]).tobytes()
    paths[0].write_bytes(whole.replace(value, bytes([value[0] ^ 1, *value[1:]])))
    assert paths[0].read_bytes() != whole
    with pytest.raises(ConfigError, match=r"scores\.parquet: not readable as Parquet, or damaged .*make it again"):
        evaluate(*paths, n_bootstrap=0)


def test_a_list_without_labels(files):
    paths = files(trials=files.trials.assign(label="-"))
    with pytest.raises(ConfigError, match=r"trials\.tsv: no labels"):
        evaluate(*paths, n_bootstrap=0)


def test_doubtful_scores_are_pointed_out(files, capsys):
    scores = files.scores.assign(**{"03-Mag": -files.scores["05"], "01": np.float32(0.25)})
    paths = files(scores)
    evaluate(*paths, n_bootstrap=0)
    told = capsys.readouterr().err.splitlines()
    eer = 100 * compute_metrics(*(-values for values in classes(files, "05")))["eer"]
    assert eer > 50 and len(told) == 2, "nothing of 05, which is sound"
    assert told[0].startswith(f"{paths[0]}, column 03-Mag: an EER of {eer:.1f} % is worse than chance; higher")
    assert told[1].startswith(f"{paths[0]}, column 01: every score is 0.25: these metrics say nothing")


@pytest.mark.parametrize(
    ("column", "values", "about", "complaint"),
    [
        ("05:eer", [0.1, np.nan], {}, "05:eer holds what is no finite number"),
        ("05:eer", ["0.1", "0.2"], {}, "05:eer holds what is no finite number"),
        ("05:eer", [0.1, 0.2], {"n_speakers": None}, "does not say its n_speakers"),
    ],
)
def test_refuses_replicates_that_are_none(tmp_path, column, values, about, complaint):
    known = {"system": "AST-05", "seed": 1, "corpus": "m", "n_speakers": 0, "speaker_degrees_of_freedom": 0}
    path = tmp_path / "r.parquet"
    write_scores(path, {"resampling": ["trials"] * 2, "replicate": [0, 1], column: values}, **known | about)
    with pytest.raises(ConfigError, match=f"r.parquet: {complaint}"):
        read_replicates(path)


def test_refuses_replicates_that_do_not_go_together(files):
    paths, others = files(name="a"), files(name="b")
    evaluate(*paths, n_bootstrap=4)
    one = read_replicates(paths[3])
    with pytest.raises(ConfigError, match=r"a.replicates.parquet: holds no replicates of 01:eer; compute"):
        read_replicates(paths[3], ["05:eer", "01:eer"])
    with pytest.raises(ConfigError, match=r"a.parquet: holds no replicates of resampling, replicate"):
        read_replicates(paths[0])
    for options in ({"seed": 1, "n_bootstrap": 4}, {"n_bootstrap": 5}):
        evaluate(*others, **options)
        with pytest.raises(ConfigError, match=r"b.replicates.parquet and .*a.* were resampled differently"):
            read_replicates(others[3], like=one)
    others = files(trials=files.trials.assign(codec="-"), name="b")
    evaluate(*others, n_bootstrap=4)
    with pytest.raises(ConfigError, match=r"b.replicates.parquet and .*a.* different trial lists"):
        read_replicates(others[3], like=one)
