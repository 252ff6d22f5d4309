"""The plan: what an experiment consists of, and every mistake that a configuration can hold."""

import json
import math
import os
import subprocess
import sys
from copy import deepcopy
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY
from spaarsist import artefacts
from spaarsist.config import parse
from spaarsist.names import BASELINE, ConfigError, System
from spaarsist.plan import IN_CHECKOUT, MAKERS, Plan

CONFIGS = {path: yaml.safe_load((REPOSITORY / path).read_text())
           for path in ("config.yaml", "config/synthetic.yaml", "config/paper.yaml")}  # fmt: skip


def settings(base="config/synthetic.yaml", **changes):
    """A configuration with changes: training__views=4 for the key `views` within `training`."""
    config = deepcopy(CONFIGS[base])
    for key, value in changes.items():
        place = config
        *parents, last = key.split("__")
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[last] = value
    return config


def test_it_is_light():
    """The Snakefile is read again by every job of a cluster."""
    code = "import sys, spaarsist.plan; print(*({'numpy', 'pandas', 'torch', 'pyarrow', 'scipy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_the_sweep_scores_what_its_figure_shows_and_no_more():
    """Beyond the rows of Table 1, k is swept of Base and Mag alone."""
    columns = {*Plan(settings()).trainings["AST-05"]}
    assert {"05-Uni", "01-Uni", "10", "10-Mag", "03", "03-Mag"} <= columns and not {"10-Uni", "03-Uni"} & columns


def test_the_paper_s_tables():
    plan = Plan(settings("config/paper.yaml"))
    assert len(plan.table1) == 6 * 6 and plan.table1[0] == "AST-05-05" and "AST-03-01-Mag" in plan.table1
    assert plan.table2 == ["AST-05-05", "AST-03-01-Mag", "AASIST-L", "Mean-pool", "MHFA", "CA-MHFA", "SLS"]
    assert [*plan.trainings] == ["AST-05", "AST-03", "AST-01", "AASIST-L", "Mean-pool", "MHFA", "CA-MHFA", "SLS"]
    assert len(plan.scores) == 8 * 3 * 2 and plan.trainings["MHFA"] == []
    assert {System.parse(name).name for name in plan.systems} == {*plan.systems}
    assert plan.label == "front-end in bfloat16" and plan.config["paper_corpora"] is True
    assert plan.cached == [] and plan.scoring_batch == 64


def test_every_k_at_or_below_that_of_training():
    plan = Plan(settings(systems__k_train=[0.5, 0.3], systems__k_infer=[0.5, 0.1], systems__also=[[0.3, 1.0]]))
    k = [(System.parse(name).k_train, System.parse(name).variant.k_infer) for name in plan.table1]
    assert {*k} == {(0.5, 0.5), (0.5, 0.1), (0.3, 0.1), (0.3, 1.0)}


def test_what_is_trained_on_demand():
    trained = {"k_train": 0.5, "graph": [0.5], "stack": [1]}
    plan = Plan(settings(ablation__trained=["Mag"], temperature__trained=trained))
    added = {"AST-05+graph0.5": ["05"], "AST-05+stack1": ["05"], "AST-05+Mag": ["05-Mag"]}
    assert added.items() <= plan.trainings.items()
    assert {"AST-05+Mag-05-Mag", "AST-05+stack1-05"} <= {*plan.systems}
    options = json.loads(plan.recipe_of("AST-05+Mag"))["backend"]["options"]
    assert (options["variant"], options["k_train"]) == ("Mag", 0.5)
    assert json.loads(plan.recipe_of("AST-05+graph0.5"))["backend"]["options"]["temperatures"] == [0.5, 0.5, 100, 100]
    assert json.loads(plan.recipe_of("AST-05+stack1"))["backend"]["options"]["stack_temperature"] == 1
    names = {(result.kind, result.name) for result in plan.made}
    more = {("table", "ablation_trained"), ("table", "temperature_trained")}
    assert more <= names and more.isdisjoint({(r.kind, r.name) for r in Plan(settings()).made})
    (ablation,) = [r.arguments for r in plan.made if (r.kind, r.name) == ("figure", "ablation")]
    assert ["trained so", "AST-05+Mag-05-Mag", BASELINE] in [[*step] for step in ablation["steps"]]
    assert [Path(path).stem for path in ablation["comparisons"]] == ["ablation", "ablation_trained"]
    assert {"AST-05", "AST-05+Mag"} <= {Path(path).parts[3] for path in ablation["metrics"]}
    assert plan.families["ablation_trained"][:2] == [
        ("AST-05-05-Mag", "AST-05-05"), ("AST-05+Mag-05-Mag", "AST-05-05")
    ]  # fmt: skip


def test_questions_are_part_of_what_decides_and_of_what_is_made():
    plan, silent = Plan(settings()), Plan(settings(questions=[]))
    assert plan.asked_of == ["AST-05"] and silent.asked_of == []
    assert "results/synthetic/tables/equivalence.tsv" in plan.tables
    assert not [path for path in silent.tables if "questions" in path or "equivalence" in path]
    wider = settings()
    wider["questions"][0]["margin"] *= 2
    assert Plan(wider).config_hash != plan.config_hash, "a margin that was moved afterwards shows"


def test_the_batch_of_scoring_is_the_recipe_s_where_it_decides_scores():
    """`compute` may say what it likes: results must not hang on it."""
    assert Plan(settings(compute__batch_size=5)).scoring_batch == 5
    config = settings(compute__batch_size=5, training__frontend__normalise="batch")
    config["training"]["stages"][-1]["batch_size"] = 12
    assert Plan(config).scoring_batch == 12


def test_probes_are_made_where_clips_are_named():
    assert [Plan(CONFIGS[base]).probed for base in CONFIGS if base != "config.yaml"] == [[], []]
    plan = Plan(CONFIGS["config.yaml"])
    assert plan.probed == [f"{plan.results_folder}/probes/{corpus}" for corpus in plan.config["evaluate_on"]]
    of_probes = {result.name for result in plan.made if "probed" in result.arguments}
    assert {"planted", "edges"} <= of_probes
    assert of_probes.isdisjoint(result.name for result in Plan(settings(analysis__probed=0)).made)


def test_a_family_reads_what_it_compares():
    plan = Plan(settings())
    assert plan.trainings_of("ablation") == ["AST-05", "AST-03"]
    assert plan.trainings_of("baseline") == [*plan.trainings]


@pytest.mark.parametrize("base", CONFIGS)
def test_functions_take_what_the_plan_gives(base):
    """Every table, figure and measurement: its function exists and takes these arguments."""
    config = settings(base, ablation__trained=["Mag"], speed__systems=["AST-05-05"], analysis__probed=4)
    config["temperature"]["trained"]["stack"] = [1]
    plan = Plan(config)
    made = {kind: {result.name for result in plan.made if result.kind == kind} for kind in MAKERS}
    assert made == {kind: {*names} for kind, names in MAKERS.items()}
    for result in plan.made:
        module, _, name = result.function.rpartition(".")
        given = {**result.arguments, **IN_CHECKOUT.get(result.rule, {})}
        given["footer"] = given.pop("provenance", "")
        target = {"output_stem": "", "output": ""}
        taken = signature(getattr(import_module(f"spaarsist.{module}"), name)).parameters
        needed = {key for key, parameter in taken.items() if parameter.default is parameter.empty}
        wanted = {*given} - ({"footer"} - {*taken})
        assert wanted <= {*taken} and needed <= {*given, *target}, result
        assert len(result.inputs) == json.dumps(result.arguments).count('"results/'), "no file is missed"
        assert all(path.startswith("results/") for path in result.inputs) and len(result.outputs) in (1, 3, 4)


def test_the_report_takes_what_the_plan_gives():
    report = import_module("spaarsist.reporting.report").write_report
    taken = signature(report).parameters
    for config in (settings(), settings(speed__systems=["AST-05-05"])):
        assert {*Plan(config).report} | {"source", "output"} <= {*taken}
        needed = {key for key, parameter in taken.items() if parameter.default is parameter.empty}
        assert needed <= {*Plan(config).report, "source", "output"}


def test_the_preflight_takes_what_the_plan_gives():
    """Trainings and caches of the paper's corpora wait for it; nobody else's."""
    preflight = import_module("spaarsist.audit.preflight")
    for base in CONFIGS:
        plan = Plan(settings(base))
        assert {*plan.preflight} | {"output"} == {*signature(preflight.preflight).parameters}
        asked = parse(preflight.Asked, plan.preflight["asked"])
        assert [*asked.trainings] == [*plan.trainings]
        assert {name: [*training.columns] for name, training in asked.trainings.items()} == plan.trainings
        assert plan.go_ahead == [plan.preflight_report] * (base == "config/paper.yaml")
    assert asked.trainings["AST-03"].recipe.backend.options["k_train"] == 0.3 and asked.n_seeds == 3
    scored = sum(len(training.scored) for training in asked.trainings.values()) * asked.n_seeds
    assert scored == len(plan.scores) + len(plan.calibration)
    together = Plan(settings(training__frontend__normalise="batch"))
    assert together.preflight["asked"]["batch_size"] == together.scoring_batch == together.recipe.stages[-1].batch_size
    plan = Plan(settings(ablation__trained=["Mag"]))
    assert plan.preflight["asked"]["trainings"]["AST-05+Mag"]["scored"] == plan.config["evaluate_on"]


def test_the_hash_of_a_configuration_is_of_what_decides_numbers():
    same = [
        settings(label="another"),
        settings(compute__workers=7),
        settings(data__directory="/disk"),
        settings(speed__rounds=3),
        settings(corpora__in_the_wild__audio=["/disk/wild"]),
        settings(corpora__in_the_wild__title="another"),
    ]
    same[2]["corpora"]["asvspoof5_eval"]["protocol"] = "/disk/protocol"
    ours = Plan(settings()).config_hash
    assert {Plan(config).config_hash for config in same} == {ours}
    for config in (settings(seeds=[5]), settings(training__crop=900), settings(evaluation__bootstrap=7)):
        assert Plan(config).config_hash != ours


def test_places_of_releases():
    """One folder moved moves all that lies in it; what says what a training is made of does not name it."""
    plan = Plan(settings("config/paper.yaml", downloads__asvspoof5__folder="/big", downloads__xls_r__folder="/xls"))
    assert plan.archives["flac_T_aa.tar"] == "/big/flac_T_aa.tar"
    assert plan.receipts["/xls/config.json"] == "results/paper/downloads/xls_r.json" == plan.frontend_proofs[0]
    assert '"model": "/xls"' in plan.recipe_of("AST-05") and "/xls" not in plan.recipe_of("AST-05", placed=False)
    assert plan.audio_of("in_the_wild") == ["results/paper/index/release_in_the_wild.zip.tsv"]
    assert plan.audio_proofs("asvspoof5_dev")[0] == "results/paper/index/flac_D_aa.tar.tsv"
    assert plan.protocol_proof("in_the_wild") == "results/paper/downloads/in_the_wild.json"
    assert plan.protocols == []


def test_a_protocol_of_the_users_is_no_output():
    """Snakemake deletes outputs before it makes them: what lies outside data.directory must not be one."""
    config = settings()
    config["corpora"]["mine"] = config["corpora"]["in_the_wild"] | {
        "title": "Mine",
        "protocol": "mine.csv",
        "format": "list",
    }
    plan = Plan(config)
    assert len(plan.protocols) == 4 and "mine.csv" not in plan.protocols and plan.protocol_proof("mine") == "mine.csv"


NAN = math.nan
NOTHING_BUT_THE_BASELINE = {
    "backends": {},
    "systems__variants": ["Base"],
    "systems__k_train": [0.5],
    "systems__k_infer": [0.5],
    "systems__in_table2": ["AST-05-05"],
    "systems__in_figures": ["AST-05-05"],
    "temperature__systems": ["AST-05-05"],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__crops": 3}, r"^training.crops: no such key; did you mean crop\?$"),
        ({"systems__variants": ["Bass"]}, r'systems.variants\[0\]: "Bass" is not one of Base, Mag'),
        ({"evaluate_on": ["in_the_wold"]}, "evaluate_on names in_the_wold, which is not among corpora"),
        ({"train_on": "train"}, "train_on names train"),
        ({"systems__in_figures": ["AST-01-01"]}, "systems.in_figures names AST-01-01"),
        ({"systems__in_table2": ["SLS-2"]}, "systems.in_table2 names SLS-2"),
        ({"questions__1__system": "AST-05-02"}, r"questions\[1\] names AST-05-02"),
        ({"questions__0__margin": 0}, r"questions\[0\].margin: 0 is less than or equal to"),
        ({"questions__0__system": "AST-05-05"}, r"questions\[0\] compares AST-05-05 with itself"),
        ({"questions__1__system": "AST-05-05-Uni"}, r"questions\[1\] is asked above already"),
        ({"systems__also": [[0.1, 0.5]]}, "systems.also: k_train 0.1 is not in systems.k_train"),
        ({"temperature__systems": ["AST-05-10"]}, "temperature.systems names AST-05-10"),
        (
            {"temperature__trained": {"k_train": 0.1, "graph": [], "stack": [1]}},
            "temperature.trained.k_train is not in systems.k_train",
        ),
        ({"systems__variants": ["Mag"]}, "systems has no AST-05-05"),
        ({"label": ""}, "label is empty"),
        ({"paper_corpora": True}, "paper_corpora is true, but"),
        ({"backends": {}, "systems__in_table2": [], "systems__in_figures": ["AST-05-05"]}, "Table 2 is empty"),
        ({"temperature__stack": [1e6]}, r"temperature.stack\[0\]: 1000000.0 is greater than the maximum"),
        ({"backends": {"AST-x": {"kind": "MHFA", "options": {}}}}, "AST-x"),
        ({"backends__MHFA__kind": "MHFAA"}, r"^backends.MHFA.kind: there is no back-end 'MHFAA'; did you mean MHFA\?$"),
        (
            {"backends__MHFA__kind": "_Pooling"},
            "backends.MHFA.kind: there is no back-end '_Pooling'; there are AASIST, CAMHFA, MHFA, MeanPool, SLS$",
        ),
        (NOTHING_BUT_THE_BASELINE, "nothing but AST-05-05"),
        ({"systems__k_infer": [0.7]}, "no k_infer at or below k_train 0.5"),
        ({"analysis__k_infer": [0.77]}, "analysis.k_infer: 0.77 is neither in"),
        ({"speed__systems": ["AST-99-99"]}, "speed.systems names AST-99-99"),
        ({"training__frontend__model": "{wavlm}"}, r"\{wavlm\} names a release that is not among downloads: none"),
        ({"data__directory": "elsewhere"}, "data.directory is elsewhere, .* no protocol of corpora lies within it"),
        ({"seeds": [2**64]}, r"seeds\[0\]: 18446744073709551616 is greater"),
        ({"seeds": [1.0]}, r"seeds\[0\]: expected a whole number, not 1.0"),
        ({"training__augmentation__room": 0.5}, "room > 0 needs room_corpus"),
        (
            {"training__views": 1, "training__frontend__normalise": "batch"},
            r"training\.views above 0 does not go with training\.frontend\.normalise: batch",
        ),
        (
            {"features__development": True, "training__frontend__normalise": "batch"},
            r"features\.development does not go with training\.frontend\.normalise: batch",
        ),
        (
            {"features__development": True, "training__development_crop": "random"},
            r"features\.development does not go with training\.development_crop: random",
        ),
        (
            {"compute__gpu": 2, "training__frontend__normalise": "batch"},
            r"training\.frontend\.normalise: batch needs compute\.gpu: 1",
        ),
        ({"training__augmentation__silence_detector": "vads"}, "silence_detector: .vads. is not one of vad, energy"),
        (
            {"training__stages__0__learning_rate": NAN},
            r"training.stages\[0\].learning_rate: nan is not a finite number",
        ),
        (
            {"training__stages__1__learning_rate": "1e-4"},
            "expected a number, not .1e-4., which is text: write it without",
        ),
        ({"training__stages__1__epochs": True}, r"training.stages\[1\].epochs: expected a whole number, not true"),
        ({"training__stages__0__epochs": 0, "training__stages__1__epochs": 0}, "stages: no stage has any epochs"),
        ({"training__stages__1__crop": 399}, r"training.stages\[1\].crop: 0, or at least 400 samples"),
        ({"training__backend__options__temperatures": [2, 2, NAN, 100]}, r"temperatures\[2\]: nan is not a finite"),
        ({"training__augmentation__noise": NAN}, "training.augmentation.noise: nan"),
        ({"training__frontend__precision": "bfloat16"}, "training: .* frontend.model is spectral"),
        (
            {"training__frontend__model": "gone/xlsr"},
            "training.frontend.model: there is no folder gone/xlsr; a Hugging",
        ),
        (
            {"training__augmentation__room": 0.5, "training__augmentation__room_corpus": "gone"},
            "room_corpus: there is no",
        ),
        ({"evaluation__cost_model__c_fa": math.inf}, "evaluation.cost_model.c_fa: inf is not a finite number"),
        ({"evaluation__confidence": NAN}, "evaluation.confidence: nan"),
        ({"backends__MHFA__options": {"heads": 3}}, "backends.MHFA.options: heads: no such key; did you mean n_heads"),
        ({"backends__MHFA__options": {"n_heads": 2.5}}, "backends.MHFA.options: n_heads: .* not 2.5"),
        ({"backends__MHFA": {"kind": "CAMHFA", "options": {"context": 8}}}, "options: context: an odd number"),
        ({"backends__MHFA": {"kind": "AASIST", "options": {"size": "XL"}}}, "options: size: .* not .XL."),
        (
            {"backends": {"..": {"kind": "MHFA", "options": {}}}},
            r"backends: expected a name of letters, .*, not \"\.\.\"",
        ),
        ({"backends": {1: {"kind": "MHFA", "options": {}}}}, r"'backends.1': a key is text"),
        ({"temperature__stack": [-1]}, r"temperature.stack\[0\]: -1 is less than"),
        ({"temperature__stack": [12345.678]}, "temperature.stack: 12345.678: names of systems hold six digits"),
        ({"corpora__in_the_wild__title": "ASVspoof 5-like dev"}, "another corpus is called ASVspoof 5-like dev too"),
        ({"label": "two\nlines"}, "label: .* holds a line break"),
        ({"experiment": "mini\n"}, "experiment: .* holds a line break"),
        ({"experiment": "a" * 300}, r"^experiment: .{,90} is too long$"),
        ({"features__directory": "~/cache"}, "features.directory: expected a folder, .* not .~/cache."),
        ({"features__directory": "{corpus}"}, "features.directory: expected a folder"),
        ({"compute__workers": 10**12}, "compute.workers: 1000000000000 is greater"),
        ({"seeds": None}, "seeds: expected a list, not null"),
        ({"evaluation__composite": dict.fromkeys(CONFIGS["config.yaml"]["evaluation"]["composite"], 0)}, "a group and"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        Plan(settings(**changes))


def test_a_misspelt_key_is_set_against_those_that_are_missing():
    config = settings()
    config["seedz"] = config.pop("seeds")
    with pytest.raises(ConfigError, match=r"^seedz: no such key; did you mean seeds\?$"):
        Plan(config)


def test_aliases_that_multiply():
    """Nine lines of YAML can stand for a billion values; a list may even hold itself."""
    many = ["x"]
    for _ in range(40):
        many = [many, many]
    endless = []
    endless.append(endless)
    for value in (many, endless):
        with pytest.raises(ConfigError, match="more than 100000 values"):
            Plan(settings(seeds=value))


def test_two_archives_of_one_name():
    config = settings("config/paper.yaml")
    config["corpora"]["in_the_wild"]["audio"].append("/elsewhere/release_in_the_wild.zip")
    with pytest.raises(ConfigError, match="two archives are called release_in_the_wild"):
        Plan(config)


def test_what_is_left_out_is_named():
    config = settings()
    del config["select_on"]
    with pytest.raises(ConfigError, match=r"^select_on: missing"):
        Plan(config)


def test_a_trial_list_is_read_once_until_it_changes(tmp_path, monkeypatch):
    """Every job asks for its contents, and ASVspoof 5's has 680,774 rows."""
    monkeypatch.chdir(tmp_path)
    plan, read = Plan(settings()), []
    monkeypatch.setattr(artefacts, "trials_hash", lambda path: read.append(path) or f"hash {len(read)}")
    assert plan.contents("asvspoof5_eval") == []
    path = tmp_path / plan.trials("asvspoof5_eval")[0]
    path.parent.mkdir(parents=True)
    path.write_text("a list")
    assert [plan.contents("asvspoof5_eval", "in_the_wild") for _ in range(3)] == [["hash 1"]] * 3
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert plan.contents("asvspoof5_eval") == ["hash 2"]
