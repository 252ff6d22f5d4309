"""The experiment as a plan: what is trained, scored, compared, tabled and drawn, and from which files.

`Plan(config)` reads a configuration and knows the rest; the Snakefile asks it. It is made anew for every job of a
cluster, so nothing here imports numpy, pandas or torch. A table or a figure is a line of `TABLES` or `FIGURES`, which
name the function that makes it, and a line of `Plan.made`, which gives the arguments of that function.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from hashlib import sha256
from itertools import chain, count, product
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from spaarsist import artefacts
from spaarsist.config import (
    BackendConfig,
    CompositeWeights,
    ConfigError,
    CostModel,
    Question,
    Release,
    TrainingRecipe,
    at,
    near,
    parse,
    shown,
)
from spaarsist.departures import Departure, departures
from spaarsist.names import AS_TRAINED, BASELINE, LIGHT, RANK_1, System, Variant, ratio_code, system_name

CHECKOUT = Path(__file__).parents[2]
"""Folder that the package lies in; with `paper/`, where it is a checkout."""

PAPER = (BASELINE, RANK_1, f"{RANK_1}Mean")
"""What the paper counts: sized and timed without a training, so in any run."""

OTHERS: dict[str, dict[str, Any]] = {
    "Mean-pool": {"kind": "MeanPool", "options": {}},
    "MHFA": {"kind": "MHFA", "options": {"n_heads": 32, "compression_dim": 128}},
}
"""Back-ends beside AASIST whose printed sizes are known (second-hand): sized in any run, too."""

SWEPT = ("Base", "Mag")
"""Variants whose k is swept at inference."""

STEPS = {
    "Mag": "magnitude, so no gate",
    "MagGate": "magnitude, gate kept",
    "NoGate": "learned, no gate",
    "Uni": "text's mean",
    "Mean": "code's mean",
    "MagUni": "magnitude, text's mean",
    "MagMean": "magnitude, code's mean",
}
"""Variants that the ablation takes as steps -> what each changes."""

TABLES = {
    "table1": ("1: AASIST and SpAArSIST", "reporting.tables.systems.write_table"),
    "table2": ("2: other back-ends", "reporting.tables.systems.write_table"),
    "temperature": ("Softmax temperatures", "reporting.tables.systems.write_table"),
    "temperature_trained": ("Softmax temperatures, trained too", "reporting.tables.systems.write_table"),
    "differences": ("Differences to AASIST", "reporting.tables.differences.write_differences"),
    "ablation": ("Ablation", "reporting.tables.differences.write_ablation"),
    "ablation_trained": ("Ablation, trained too", "reporting.tables.differences.write_ablation"),
    "questions": ("Questions asked before the run", "reporting.tables.questions.write_questions"),
    "changes": ("What variants change", "reporting.tables.changes.write_changes"),
    "nodes": ("Which nodes survive", "reporting.tables.nodes.write_nodes"),
    "stack_attention": ("Is stack attention a mean?", "reporting.tables.nodes.write_stack"),
    "planted": ("Which scorer keeps spoofed nodes", "reporting.tables.probes.write_planted"),
    "edges": ("Nodes at the edges", "reporting.tables.probes.write_edges"),
    "calibration": ("Calibration and threshold transfer", "reporting.tables.calibration.write_calibration"),
    "claims": ("Claims against results", "reporting.claims.judge"),
    "latency": ("Time of the back-end", "reporting.tables.latency.write_latency"),
    "detector": ("Time of the whole detector", "reporting.tables.latency.write_detector"),
}
FIGURES = {
    "det": ("DET curves", "reporting.figures.scores.det"),
    "histograms": ("Score histograms", "reporting.figures.scores.histograms"),
    "training": ("Training curves", "reporting.figures.training.training"),
    "eer_vs_macs": ("EER against MACs", "reporting.figures.systems.eer_vs_macs"),
    "k_sweep": ("k at inference as a dial", "reporting.figures.systems.k_sweep"),
    "attacks": ("EER by attack", "reporting.figures.attacks.attacks"),
    "temperature": ("Softmax temperatures", "reporting.figures.systems.temperature"),
    "composite": ("Composite score", "reporting.figures.composite.composite"),
    "macs_by_module": ("MACs by module", "reporting.figures.compute.macs_by_module"),
    "ablation": ("Ablation", "reporting.figures.ablation.ablation"),
    "node_overlap": ("Which nodes survive", "reporting.figures.nodes.overlap"),
    "kept_nodes": ("Where the kept nodes are", "reporting.figures.nodes.kept"),
    "planted": ("Which scorer keeps spoofed nodes", "reporting.figures.nodes.planted"),
    "stack_attention": ("Is stack attention a mean?", "reporting.figures.nodes.stack_attention"),
    "calibration": ("Calibration and threshold transfer", "reporting.figures.calibration.calibration"),
    "latency": ("Time of the back-end", "reporting.figures.latency.latency"),
}
BENCHMARKS = {
    "backend": ("the back-end in each of its forms", "audit.speed.write_backend"),
    "training": ("a training step", "audit.speed.write_training"),
    "detector": ("the whole detector", "audit.speed.write_detector"),
    "scoring": ("scoring, one pass and many", "audit.speed.write_scoring"),
}
"""Name -> title, function within the package: what `spaarsist table <name>`, `figure` and `benchmark` make."""

MAKERS = {"table": TABLES, "figure": FIGURES, "benchmark": BENCHMARKS}
FORMS = {"table": ("html", "tsv", "md", "tex"), "figure": ("png", "tsv", "pdf"), "benchmark": ("tsv",)}
"""Endings of what is made; the first is for the HTML report."""

FACTS = "results/facts"
"""Folder of what needs no data, and no configuration."""

READS_GIGABYTES = ("det", "histograms")
WITHOUT_CORPUS = ("latency", "detector", "macs_by_module")
"""Tables and figures of times and sizes, in which no corpus has a part."""

IN_CHECKOUT = {
    "table_claims": {"claims": "paper/claims.csv"},
    "report": {"source": "paper/main.tex"},
    "facts": {"facts": "paper/facts.csv"},
}
"""Arguments that are files of the checkout: the verbs know them, since the checkout may move."""

DECIDE_NOTHING = ("experiment", "label", "data", "downloads", "features", "speed", "compute")
"""Sections that decide no number: texts, places, and how jobs run."""

SHORTEST_CROP = 400
"""Samples of which a front-end makes its first frame."""

MOST_VALUES = 100_000
"""In a configuration; the largest of ours has about 300."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that break a line of a table, or that no file can hold."""

TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys with values",
}
"""Types of the schema, as messages call them."""


class Result(NamedTuple):
    """A table, a figure, or a measurement of time.

    Attributes:
        kind: one of `MAKERS`.
        name: of its files, its caption and its verb.
        stem: path of its files without their endings.
        arguments: of its function.
    """

    kind: str
    name: str
    stem: str
    arguments: dict[str, Any]

    title = property(lambda self: MAKERS[self.kind][self.name][0])
    function = property(lambda self: MAKERS[self.kind][self.name][1])
    rule = property(lambda self: self.name if self.name.startswith(self.kind) else f"{self.kind}_{self.name}")
    caption = property(lambda self: self.name.removesuffix("_trained"))
    local = property(lambda self: self.kind != "benchmark" and self.name not in READS_GIGABYTES)
    outputs = property(lambda self: [f"{self.stem}.{form}" for form in FORMS[self.kind]])
    inputs = property(lambda self: [*_results_in(self.arguments)])


class Plan:
    """What an experiment consists of.

    Args:
        config: the whole configuration, of the form that `workflow/schemas/config.schema.yaml` describes.

    Attributes:
        recipe: the training section, checked.
        trainings: name of a training -> its score columns; none for a back-end without variants.
        systems: every system that these serve.
        table1, table2: their rows.
        families: name -> (system, what it is compared with) of each pair that is tested together.
        scores, metrics, replicates, records: files of all trainings.
        calibration, inspected, changes: files of those that are not trained on demand, and of AASIST among these.

    Raises:
        ConfigError: a value is out of range, or a name refers to nothing; the message names the key.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        _check_values(config)
        _check_schema(config)
        self.config = config
        self.results_folder = f"results/{config['experiment']}"
        self.features_folder = f"{config['features']['directory']}/{config['experiment']}"
        self.seeds = config["seeds"]
        self.corpora = {
            name: corpus
            | {"protocol": self._placed(corpus["protocol"]), "audio": [*map(self._placed, corpus["audio"])]}
            for name, corpus in config["corpora"].items()
        }
        self._check_sections()
        self._name_systems()
        self._check_names()
        self.archives = self._archives()

    # ---------------------------------------------------------------- what is trained, scored and compared

    def _name_systems(self) -> None:
        config = self.config
        systems, self.temperature = config["systems"], config["temperature"]
        self.k_train = {f"AST-{ratio_code(k)}": k for k in systems["k_train"]}
        swept = {*systems["k_infer"], *systems["k_sweep"], *(i for _, i in systems["also"])}
        self.ratios = sorted({*systems["k_train"], *swept})
        self.swept = [variant for variant in SWEPT if variant in systems["variants"]]
        self.pairs = [(t, i) for t, i in product(systems["k_train"], systems["k_infer"]) if i <= t]
        temperatures = [(where, t) for where in ("graph", "stack") for t in self.temperature[where]]
        self.switched = [f"+{where}{t:g}" for where, t in temperatures]
        trained = self.temperature["trained"]
        self.trained_so = [f"+{where}{t:g}" for where in ("graph", "stack") for t in trained[where]]
        self.table1 = _unique(
            f"AST-{ratio_code(t)}-{_column(i, variant)}"
            for t, i in [*self.pairs, *systems["also"]]
            for variant in systems["variants"]
        )
        self.table2 = [*systems["in_table2"], *config["backends"]]
        self.ranked = _unique([*self.table1, *self.table2])
        self.ablation = self._ablation()
        self.ablation_trained = self._ablation_trained()
        self.trained_at = f"AST-{ratio_code(trained['k_train'])}"
        self.temperatures_trained = {f"{self.trained_at}{t}": [ratio_code(trained["k_train"])] for t in self.trained_so}
        self.variants_trained = {f"AST-05+{v}": [_column(0.5, v)] for v in config["ablation"]["trained"]}
        self.trainings = {name: self._columns(name) for name in self.k_train}
        self.trainings |= {name: [] for name in config["backends"]}
        self.trainings |= self.temperatures_trained | self.variants_trained
        self.systems = systems_of(self.trainings)
        # The paper's own as well, whose sizes the ledger judges in any run
        self.counted_backends = OTHERS | config["backends"]
        self.sized = _unique([*self.systems, *PAPER, *self.counted_backends])

    def _ablation(self) -> list[tuple[str, str, str]]:
        """Steps of the ablation: title, system and what it departs from; a title alone is a heading."""
        fewer = sorted({k for k in self.config["systems"]["k_infer"] if k < 0.5}, reverse=True)
        start = "AST-05-"
        steps = [("# Fewer nodes at inference", "", ""), ("AASIST", BASELINE, BASELINE)]
        steps += [(f"k {k:g}", start + ratio_code(k), BASELINE) for k in fewer]
        steps.append(("# Substitutions at inference", "", ""))
        steps += [(STEPS[v], f"{BASELINE}-{v}", BASELINE) for v in ("Mag", "MagGate", "NoGate")]
        steps.append(("the gate alone", f"{BASELINE}-Mag", f"{BASELINE}-MagGate"))
        steps += [(STEPS[v], f"{BASELINE}-{v}", BASELINE) for v in ("Uni", "Mean")]
        steps.append(("# Combinations at inference", "", ""))
        for k, variant in product([0.5, *fewer[-1:]], STEPS):
            if k < 0.5 or variant in ("MagUni", "MagMean"):
                steps.append((f"{STEPS[variant]}; k {k:g}", start + _column(k, variant), BASELINE))
        for name, k_train in self.k_train.items():
            if k_train < 0.5 and fewer:
                least = fewer[-1]
                steps.append((f"# k in training {k_train:g}", "", ""))
                steps.append(("nothing else", f"{name}-{ratio_code(k_train)}", BASELINE))
                for variant in ("Base", "Mag", "MagUni", "MagMean"):
                    if variant != "Base" or least < k_train:
                        title = f"{STEPS.get(variant, 'nothing else')}; k {least:g}"
                        steps.append((title, f"{name}-{_column(least, variant)}", BASELINE))
        return steps

    def _ablation_trained(self) -> list[tuple[str, str, str]]:
        """Variants trained as such, beside the same ones switched at inference."""
        steps = [("AASIST", BASELINE, BASELINE)]
        for variant in self.config["ablation"]["trained"]:
            switched, trained = f"{BASELINE}-{variant}", f"AST-05+{variant}-05-{variant}"
            steps.append((f"# {variant}: {STEPS[variant]}", "", ""))
            steps.append(("switched on at inference", switched, BASELINE))
            steps.append(("trained so", trained, BASELINE))
            steps.append(("the training alone", trained, switched))
        return steps

    def _columns(self, name: str) -> list[str]:
        """Score columns of an AASIST: its rows of Table 1, the sweep's, the ablation's, the temperatures."""
        start = f"{name}-"
        in_table1 = {i for t, i in [*self.pairs, *self.config["systems"]["also"]] if t == self.k_train[name]}
        found = [
            _column(k, v)
            for k, v in product(self.ratios, self.config["systems"]["variants"])
            if v in self.swept or k in in_table1
        ]
        found += [system.removeprefix(start) for _, system, _ in self.ablation if system.startswith(start)]
        for k in self.config["analysis"]["k_infer"]:  # whose score changes are set beside it
            found += [_column(k, "Base"), _column(k, "Mag")]
        found += [_column(self.k_train[name], v) for v in ("Base", "Uni", "Mean")]
        switched = [system for system in self.temperature["systems"] if system.startswith(start)]
        found += [system.removeprefix(start) + t for system in switched for t in self.switched]
        return _unique(found)

    @cached_property
    def families(self) -> dict[str, list[tuple[str, str]]]:
        """Tested together: the p-values of a family are corrected for their number."""
        switched = [(name + t, name) for name in self.temperature["systems"] for t in self.switched]
        as_usual = f"{self.trained_at}-{self.trained_at.removeprefix('AST-')}"
        trained_so = [(name, as_usual) for name in systems_of(self.temperatures_trained)]
        families = {
            "baseline": [(name, BASELINE) for name in self.ranked if name != BASELINE],
            "ablation": [(name, other) for _, name, other in self.ablation if name != other],
            "k_sweep": [
                (f"{name}-{_column(k, v)}", f"{name}-{_column(k_train, v)}")
                for (name, k_train), k, v in product(self.k_train.items(), self.ratios, self.swept)
                if k != k_train
            ],
            "temperature": switched,
            "temperature_trained": switched + trained_so if trained_so else [],
            "ablation_trained": [(name, other) for _, name, other in self.ablation_trained if name != other],
        }
        return {name: [*dict.fromkeys(pairs)] for name, pairs in families.items() if pairs}

    def trainings_of(self, family: str) -> list[str]:
        """Trainings that a family compares."""
        return self._trainings(self.families[family])

    @property
    def asked_of(self) -> list[str]:
        """Trainings that questions of equivalence are about."""
        return self._trainings([(q["system"], q["reference"]) for q in self.config["questions"]])

    @property
    def ranked_replicates(self) -> list[str]:
        """Replicates of what the composite score ranks; none where nothing is resampled."""
        trainings = self._trainings([(name, name) for name in self.ranked])
        return self.per_corpus("replicates", trainings, ".parquet") if self.config["evaluation"]["bootstrap"] else []

    def _trainings(self, pairs: Iterable[tuple[str, str]]) -> list[str]:
        named = {System.parse(name).trained for pair in pairs for name in pair}
        return [name for name in self.trainings if name in named]

    # ---------------------------------------------------------------- checks

    def _placed(self, path: str) -> str:
        """Replace the name of a release in a path by its folder: {asvspoof5}/flac_T_aa.tar."""
        releases = self.config["downloads"]
        for name, release in releases.items():
            path = path.replace(f"{{{name}}}", str(Path(release["folder"])))
        if "{" in path:
            raise ConfigError(f"{path} names a release that is not among downloads: {', '.join(releases) or 'none'}")
        return path

    def _check_sections(self) -> None:
        config = self.config
        training = config["training"]
        frontend = training["frontend"] | {"model": self._placed(training["frontend"]["model"])}
        self.recipe = parse(TrainingRecipe, training | {"frontend": frontend}, "training")
        for position, stage in enumerate(self.recipe.stages):
            if 0 < stage.crop < SHORTEST_CROP:
                raise ConfigError(f"training.stages[{position}].crop: 0, or at least {SHORTEST_CROP} samples")
        if not any(stage.epochs for stage in self.recipe.stages):
            raise ConfigError("training.stages: no stage has any epochs")
        self._check_folders()
        if config["features"]["development"]:
            self.recipe.refuse_cache("features.development", development=True)
        if self.recipe.normalised_together and config["compute"]["gpu"] > 1:
            raise ConfigError(
                "training.frontend.normalise: batch needs compute.gpu: 1; each GPU would normalise its share of a batch"
            )
        parse(CostModel, config["evaluation"]["cost_model"], "evaluation.cost_model")
        parse(CompositeWeights, config["evaluation"]["composite"], "evaluation.composite")
        for place, question in enumerate(config["questions"]):
            parse(Question, question, f"questions[{place}]")
        for name, release in config["downloads"].items():
            parse(Release, release, f"downloads.{name}")
        for name, backend in config["backends"].items():
            parse(BackendConfig, backend, f"backends.{name}")
        for key in {"mini": ("directory", "cache"), "synthetic": ("directory",), "local": ()}[config["data"]["source"]]:
            if not config["data"][key]:
                raise ConfigError(f"data.{key} is empty: name a folder")
        if config["data"]["source"] != "local" and not self.protocols:
            raise ConfigError(
                f"data.directory is {config['data']['directory']}, where the corpora are built, but no "
                "protocol of corpora lies within it: change these too"
            )

    def _check_folders(self) -> None:
        """Stop on a folder that a training would miss after hours; those of releases may still be to come."""
        frontend, augmentation = self.recipe.frontend, self.recipe.augmentation
        wanted = {"training.augmentation.room_corpus": augmentation.room_corpus if augmentation.room else ""}
        if frontend.model != "spectral" and not frontend.revision:
            wanted["training.frontend.model"] = frontend.model
        releases = [Path(release["folder"]) for release in self.config["downloads"].values()]
        for key, folder in wanted.items():
            if folder and not (Path(folder).is_dir() or any(map(Path(folder).is_relative_to, releases))):
                more = "; a Hugging Face id needs training.frontend.revision" if key.endswith("model") else ""
                raise ConfigError(f"{key}: there is no folder {folder}{more}")

    def _check_names(self) -> None:
        """Stop on what no section can know by itself: a name of nothing, a setting that contradicts another."""

        def stop(complaint: str) -> None:
            raise ConfigError(complaint)

        config, systems = self.config, self.config["systems"]
        asked = [(q["system"], q["reference"], q["metric"]) for q in config["questions"]]
        for place, question in enumerate(asked):
            if question in asked[:place]:
                stop(f"questions[{place}] is asked above already: ask it once, with one margin")
            if question[0] == question[1]:
                stop(f"questions[{place}] compares {question[0]} with itself: name another reference")
        for key in ("train_on", "select_on", "evaluate_on"):
            for name in config[key] if isinstance(config[key], list) else [config[key]]:
                if name not in self.corpora:
                    stop(f"{key} names {name}, which is not among corpora: {', '.join(self.corpora)}")
        for k_train in systems["k_train"]:
            if k_train not in [t for t, _ in self.pairs]:
                stop(f"systems has no k_infer at or below k_train {k_train}")
        for k_train, _ in systems["also"]:
            if k_train not in systems["k_train"]:
                stop(f"systems.also: k_train {k_train} is not in systems.k_train")
        if BASELINE not in self.table1:
            stop(
                f"systems has no {BASELINE} (k_train and k_infer 0.5, variant Base), the baseline that all are "
                "compared with"
            )
        if self.trained_so and self.temperature["trained"]["k_train"] not in systems["k_train"]:
            stop("temperature.trained.k_train is not in systems.k_train")
        if self.ranked == [BASELINE]:
            stop(f"there is nothing but {BASELINE}: name another variant or k in systems, or backends")
        if not self.table2:
            stop("Table 2 is empty: name systems in systems.in_table2, or backends")
        for key, names, known in (
            ("systems.in_figures", systems["in_figures"], self.systems),
            ("systems.in_table2", systems["in_table2"], self.systems),
            ("temperature.systems", self.temperature["systems"], self.table1),
            *(
                (f"questions[{place}]", [question["system"], question["reference"]], self.systems)
                for place, question in enumerate(config["questions"])
            ),
            ("speed.systems", config["speed"]["systems"], [*self.table1, *PAPER, *self._timed_too]),
        ):
            for name in names:
                if name not in known:
                    stop(f"{key} names {name}, which is not a system of this config")
        for key, temperatures in (
            ("temperature.graph", self.temperature["graph"]),
            ("temperature.stack", self.temperature["stack"]),
            ("temperature.trained.graph", self.temperature["trained"]["graph"]),
            ("temperature.trained.stack", self.temperature["trained"]["stack"]),
        ):
            for temperature in temperatures:
                if float(f"{temperature:g}") != temperature:
                    stop(f"{key}: {temperature}: names of systems hold six digits of a temperature; round it")
        titles = [corpus["title"].strip() for corpus in self.corpora.values()]
        for name, title in zip(self.corpora, titles, strict=True):
            if titles.count(title) > 1:
                stop(
                    f"corpora.{name}.title: another corpus is called {title} too, and tables could not tell them apart"
                )
        for k in config["analysis"]["k_infer"]:
            if k not in self.ratios:
                stop(f"analysis.k_infer: {k} is neither in systems.k_infer nor in systems.k_sweep")
        stand_in = config["data"]["source"] != "local" or self.recipe.frontend.model == "spectral"
        if config["paper_corpora"] and stand_in:
            stop("paper_corpora is true, but the corpora are built here or the front-end is spectral: set it to false")
        if not config["paper_corpora"] and not config["label"]:
            stop("label is empty: say what these corpora and this front-end are, or set paper_corpora to true")

    # ---------------------------------------------------------------- what jobs are given

    @property
    def label(self) -> str:
        """What every table and figure says of the run: the config's remark, and where it departs from the recipe."""
        remarks = [self.config["label"]] if self.config["label"] else []
        epochs = self.recipe.frozen_stage.epochs if self.recipe.views else 0
        if self.recipe.views < epochs:
            remarks.append(f"stage 1: {self.recipe.views} cached views of the training data in {epochs} epochs")
        if self.recipe.frontend.precision != "float32":
            remarks.append(f"front-end in {self.recipe.frontend.precision}")
        return "; ".join(remarks)

    @property
    def departures(self) -> list[Departure]:
        """Where this configuration departs from the paper's text and from the released code, and by which key."""
        return departures(self.config)

    @property
    def outline(self) -> str:
        """What a run of all consists of, in a few lines for its beginning."""
        config = self.config
        n_scorings = len(self.scores) + len(self.calibration)
        n_made = {kind: sum(result.kind == kind for result in self.made) for kind in MAKERS}
        return (
            f"\n{config['experiment']}: {self.label or 'as in the paper'}\n"
            f"  {len(self.trainings)} trainings x {len(self.seeds)} seeds, {n_scorings} scorings, "
            f"{n_made['table']} tables, {n_made['figure']} figures; what is there already is kept\n"
            f"  what a step says: {self.results_folder}/logs/\n"
        )

    @property
    def config_hash(self) -> str:
        """First 16 hex digits of a hash of all that decides numbers: what tables name as their configuration."""
        deciding = {name: self.config[name] for name in self.config if name not in DECIDE_NOTHING}
        deciding["corpora"] = {
            name: {key: corpus[key] for key in ("format", "checksum", "expected")}
            for name, corpus in self.config["corpora"].items()
        }
        return sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]

    def recipe_of(self, trained: str, *, placed: bool = True) -> str:
        """The training section as JSON, with the back-end of that name.

        Args:
            trained: name of the training.
            placed: with the folder of a front-end that is downloaded, not the name of its release.
        """
        training = self.config["training"]
        backend = training["backend"]
        if trained in self.config["backends"]:
            backend = {"embedding_dim": backend["embedding_dim"], **self.config["backends"][trained]}
        else:
            name, *suffixes = trained.split("+")
            options = {**backend["options"], "k_train": self.k_train[name]}
            for departure in suffixes:  # graph0.5, stack10, or a variant
                where, value = departure[:5], departure[5:]
                if departure in STEPS:
                    options["variant"] = departure
                elif where == "stack":
                    options["stack_temperature"] = float(value)
                else:
                    options["temperatures"] = [float(value)] * 2 + options["temperatures"][2:]
            backend = {**backend, "options": options}
        frontend = training["frontend"] | ({"model": self.recipe.frontend.model} if placed else {})
        return json.dumps({**training, "frontend": frontend, "backend": backend}, sort_keys=True)

    def frames_recipe(self, views: int, *, placed: bool = True) -> str:
        """What of the training section so many views' frames depend on (0: those of fixed excerpts), as JSON."""
        training = json.loads(self.recipe_of(next(iter(self.k_train)), placed=placed))
        keys = ("frontend", "crop") + (("epoch_size", "augmentation") if views else ())
        recipe = {key: training[key] for key in keys}
        if views:
            frozen = self.recipe.frozen_stage
            stage = {"batch_size": frozen.batch_size, "crop": frozen.crop, "epochs": 1}
            recipe |= {"stages": [stage], "views": views}
        return json.dumps(recipe)

    @property
    def scoring_batch(self) -> int:
        """Trials that are scored at once: as `compute` says, unless it decides scores (`normalise: batch`)."""
        return self.recipe.normalised_together or self.config["compute"]["batch_size"]

    def scored_together(self, system: str) -> list[str]:
        """Columns of Table 1 that one pass makes along with this system's."""
        trained = System.parse(system).trained
        return [s.removeprefix(f"{trained}-") for s in self.table1 if s.startswith(f"{trained}-")]

    # ---------------------------------------------------------------- files

    @cached_property
    def receipts(self) -> dict[str, str]:
        """Path of every file that downloads says how to get -> its receipt."""
        return {
            str(Path(release["folder"]) / file): f"{self.results_folder}/downloads/{name}.json"
            for name, release in self.config["downloads"].items()
            for file in release["files"]
        }

    def _archives(self) -> dict[str, str]:
        """Archives that hold recordings, by file name."""
        found: dict[str, str] = {}
        for path in (path for corpus in self.corpora.values() for path in corpus["audio"]):
            if path.endswith((".tar", ".zip")) and found.setdefault(Path(path).name, path) != path:
                raise ConfigError(f"two archives are called {Path(path).name}; rename one")
        return found

    def protocol_proof(self, corpus: str) -> str:
        """What a corpus's trial list waits for: its protocol, or the receipt of the download that holds it."""
        archive = self.corpora[corpus]["protocol"].split("::")[0]
        return self.receipts.get(str(Path(archive)), archive)

    def audio_of(self, corpus: str) -> list[str]:
        """Where a corpus's recordings are found: folders, and the indexes of archives."""
        return [
            f"{self.results_folder}/index/{Path(path).name}.tsv" if Path(path).name in self.archives else path
            for path in self.corpora[corpus]["audio"]
        ]

    def audio_proofs(self, corpus: str) -> list[str]:
        """What a corpus's trial list waits for besides: indexes of archives, receipts of other downloads."""
        indexed = [path for path in self.audio_of(corpus) if path.startswith(f"{self.results_folder}/index/")]
        return indexed + [self.receipts[path] for path in self.corpora[corpus]["audio"]
                          if Path(path).name not in self.archives and path in self.receipts]  # fmt: skip

    @property
    def frontend_proofs(self) -> list[str]:
        """Receipts of the front-end's files, where it is downloaded."""
        folder = Path(self.recipe.frontend.model)
        return sorted({receipt for path, receipt in self.receipts.items() if Path(path).parent == folder})

    @property
    def protocols(self) -> list[str]:
        """Protocols of the corpora that are built here; no other is an output, since Snakemake deletes outputs."""
        data = self.config["data"]
        found = [corpus["protocol"] for corpus in self.corpora.values() if data["source"] != "local"]
        return [protocol for protocol in found if Path(protocol).is_relative_to(data["directory"])]

    def trials(self, *corpora: str) -> list[str]:
        """Trial lists of these corpora."""
        return [f"{self.results_folder}/trials/{name}.tsv" for name in corpora]

    def contents(self, *corpora: str) -> list[str]:
        """Hashes of the contents of these trial lists, as far as they lie on the disk.

        All jobs ask, and a list may have a million rows: each is read once, and again only when it has changed.
        """
        paths = [Path(path) for path in self.trials(*corpora)]
        return [_content(path, path.stat().st_mtime_ns) for path in paths if path.exists()]

    def runs(self, trainings: Iterable[str]) -> list[str]:
        """Training and seed, as folders are named."""
        return [f"{trained}/seed{seed}" for trained in trainings for seed in self.seeds]

    def per_run(self, place: str, trainings: Iterable[str], ending: str = "") -> list[str]:
        """Files of these trainings: results/<experiment>/<place>/<training>/seed<seed><ending>."""
        return [f"{self.results_folder}/{place}/{run}{ending}" for run in self.runs(trainings)]

    def per_corpus(self, place: str, trainings: Iterable[str], ending: str) -> list[str]:
        """Files of these trainings on each corpus of evaluate_on."""
        folders = self.per_run(place, trainings)
        return [f"{folder}/{corpus}{ending}" for folder in folders for corpus in self.config["evaluate_on"]]

    scores = property(lambda self: self.per_corpus("scores", self.trainings, ".parquet"))
    metrics = property(lambda self: self.per_corpus("metrics", self.trainings, ".tsv"))
    replicates = property(lambda self: self.per_corpus("replicates", self.trainings, ".parquet"))
    records = property(lambda self: self.per_run("checkpoints", self.trainings, "/model.json"))
    inspected = property(lambda self: self.per_corpus("analysis", self.k_train, ""))
    changes = property(lambda self: [f"{self.results_folder}/changes/{name}.tsv" for name in self.k_train])
    calibration = property(lambda self: self.per_run("calibration", self._calibrated, ".tsv"))
    preflight_report = property(lambda self: f"{self.results_folder}/preflight.tsv")

    @property
    def probed(self) -> list[str]:
        """Folders of the probes, where the config asks for any: the mini corpora's."""
        corpora = self.config["evaluate_on"] if self.config["analysis"]["probed"] else []
        return [f"{self.results_folder}/probes/{corpus}" for corpus in corpora]

    @property
    def _calibrated(self) -> list[str]:
        return [*self.k_train, *self.config["backends"]]

    @property
    def go_ahead(self) -> list[str]:
        """What trainings and caches wait for where they cost days: the preflight's report."""
        return [self.preflight_report] if self.config["paper_corpora"] else []

    @property
    def parts(self) -> range:
        """Jobs that share the making of a view."""
        return range(self.config["features"]["parts"])

    @property
    def cached(self) -> list[str]:
        """Records of all parts of the caches that trainings are given."""
        train, dev = self.config["train_on"], self.config["select_on"]
        folders = [f"{train}/view{view}" for view in range(self.recipe.views)]
        folders += [f"{dev}/excerpts"] * self.config["features"]["development"]
        return [f"{self.features_folder}/{folder}/part{part}.json" for folder in folders for part in self.parts]

    @property
    def drawn(self) -> list[str]:
        """Trainings whose curves are drawn."""
        wanted = {*self.config["systems"]["in_figures"]}
        return [name for name in self.trainings if wanted & {*systems_of({name: self.trainings[name]})}]

    # ---------------------------------------------------------------- tables, figures, times

    @cached_property
    def made(self) -> list[Result]:
        """The tables and figures of this configuration, and what is timed for them.

        Each has the arguments of its function; without any, the configuration does not ask for it.
        """
        config, in_figures = self.config, self.config["systems"]["in_figures"]
        summary = {name: self._table(name) for name in ("summary", "composite")}
        corpora = {"corpora": [(name, self.corpora[name]["title"]) for name in config["evaluate_on"]]}
        evaluation = config["evaluation"]
        confidence = {"confidence": evaluation["confidence"]}
        cost = {"cost": evaluation["cost_model"]}
        inspected = {"inspected": self.inspected} | corpora
        probed = self.probed and {"probed": self.probed} | corpora
        calibration = {"calibration": self.calibration}
        summary_alone = {"summary": summary["summary"]}
        baseline = summary_alone | self._family("baseline") | corpora
        switched = [name + t for name in self.temperature["systems"] for t in ["", *self.switched]]
        trained_so = systems_of(self.temperatures_trained)
        lists = dict(zip(config["evaluate_on"], self.trials(*config["evaluate_on"]), strict=True))
        curves = {"scores": self.per_corpus("scores", self.drawn, ".parquet"), "trials": lists, "systems": in_figures}
        ablated = [family for family in ("ablation", "ablation_trained") if family in self.families]
        graph, _, stack, _ = config["training"]["backend"]["options"]["temperatures"]
        size, speed = {"size": config["complexity"]}, config["speed"]
        timing = {"device": speed["device"], "threads": speed["threads"]}
        one_pass = self.scored_together(speed["systems"][0]) if speed["systems"] else []

        def of_systems(kind: str, systems: list[str], family: str) -> dict[str, Any]:
            shared = summary | corpora | cost | confidence
            return self._family(family) and {"kind": kind, "systems": systems} | self._family(family) | shared

        def of_steps(family: str, steps: list[tuple[str, str, str]]) -> dict[str, Any]:
            return self._family(family) and {"steps": steps} | self._family(family) | summary_alone | corpora

        tables = {
            "table1": of_systems("table1", self.table1, "baseline"),
            "table2": of_systems("table2", self.table2, "baseline"),
            "temperature": of_systems("temperature", switched, "temperature"),
            "temperature_trained": of_systems("temperature", switched + trained_so, "temperature_trained"),
            "differences": {"systems": self.ranked} | baseline | confidence,
            "ablation": of_steps("ablation", self.ablation),
            "ablation_trained": of_steps("ablation_trained", self.ablation_trained),
            "questions": config["questions"] and {"answers": self._table("equivalence")} | corpora | confidence,
            "changes": {"changes": self.changes, "systems": self._changed} | corpora | confidence,
            "nodes": inspected,
            "stack_attention": inspected,
            "planted": probed,
            "edges": probed,
            "calibration": calibration | {"systems": self.ranked} | corpora,
            "claims": {
                "summary": summary["summary"],
                "sizes": self.paper_size,
                "findings": self._table("findings"),
                "comparisons": self._comparisons("baseline", "temperature", "temperature_trained"),
                "paper_corpora": config["paper_corpora"],
                "departures": [*dict.fromkeys(departure.switch for departure in self.departures)],
                **corpora,
            },
            "latency": {"backend": self._speed("backend")} if speed["systems"] else {},
            "detector": {"detector": self._speed("detector")} if speed["systems"] else {},
        }
        figures = {
            "det": curves | corpora,
            "histograms": curves | corpora | cost,
            "training": {"records": self.records},
            "eer_vs_macs": summary_alone | {"systems": self.ranked, "named": self.table2} | corpora,
            "k_sweep": summary_alone | {"variants": self.swept} | self._family("k_sweep") | corpora,
            "attacks": {"metrics": self.per_corpus("metrics", self.drawn, ".tsv"), "systems": in_figures}
            | corpora
            | confidence,
            "temperature": (self._family("temperature") or self._family("temperature_trained"))
            and summary_alone | {"trained": {"graph": graph, "stack": stack}} | corpora,
            "composite": {"composite": summary["composite"]},
            "macs_by_module": {
                "breakdown": f"{self.results_folder}/complexity/paper_size_breakdown.tsv",
                "systems": self._in_breakdown(),
            },
            "ablation": {
                "comparisons": self._comparisons(*ablated),
                "metrics": self.per_corpus("metrics", _unique(chain(*map(self.trainings_of, ablated))), ".tsv"),
                "steps": self.ablation + self.ablation_trained[1:],  # AASIST itself comes first in both
            }
            | corpora,
            "node_overlap": inspected,
            "kept_nodes": inspected,
            "planted": probed,
            "stack_attention": inspected,
            "calibration": calibration | {"systems": in_figures} | corpora,
            "latency": tables["latency"],
        }
        of_back_ends = {"systems": speed["systems"]} | timing
        benchmarks = speed["systems"] and {
            "backend": of_back_ends
            | size
            | {"backends": self._timed_too}
            | {key: speed[key] for key in ("batch_sizes", "rounds")},
            "training": timing | size,
            "detector": {"systems": [name for name in speed["systems"] if System.parse(name).variant]}
            | timing
            | {"columns": one_pass, "embedding_dim": config["complexity"]["embedding_dim"]},
            "scoring": {"record": self.records[0], "trial_list": next(iter(lists.values()))}
            | {"systems": self.table1}
            | timing,
        }
        found = []
        for kind, group in (("table", tables), ("figure", figures), ("benchmark", benchmarks or {})):
            for name in group:
                if given := group[name]:
                    if kind != "benchmark" and name not in WITHOUT_CORPUS:
                        given = given | {"label": self.label}
                        given |= {"provenance": self._table("provenance", "json")} if kind == "table" else {}
                    place = "speed" if kind == "benchmark" else f"{kind}s"
                    found.append(Result(kind, name, f"{self.results_folder}/{place}/{name}", given))
        return found

    @property
    def _timed_too(self) -> dict[str, Any]:
        """AASIST back-ends under names of their own, whose time can be taken whether or not they are trained here."""
        own = {name: backend for name, backend in self.config["backends"].items() if backend["kind"] == "AASIST"}
        return {LIGHT: {"kind": "AASIST", "options": {"size": "L"}}} | own

    @property
    def preflight(self) -> dict[str, Any]:
        """Arguments of the preflight."""
        config, compute = self.config, self.config["compute"]
        train, dev = config["train_on"], config["select_on"]
        corpora = {name: self.corpora[name]["expected"] for name in config["evaluate_on"]}
        trainings = {
            name: {
                "recipe": json.loads(self.recipe_of(name)),
                "columns": columns,
                "scored": [*config["evaluate_on"], *[dev] * (name in self._calibrated)],
            }
            for name, columns in self.trainings.items()
        }
        train_list, dev_list = self.trials(train, dev)
        return {
            "train_list": train_list,
            "dev_list": dev_list,
            "asked": {
                "trainings": trainings,
                "n_seeds": len(self.seeds),
                "train_on": train,
                "select_on": dev,
                "n_trials": corpora,
                "cached_development": config["features"]["development"],
                "batch_size": self.scoring_batch,
                "processes": max(compute["gpu"], 1),
            },
            "results": self.results_folder,
            "features": self.features_folder,
            "device": compute["device"],
            "threads": compute["train_threads"],
            "workers": compute["workers"],
        }

    @property
    def paper_size(self) -> str:
        """What back-ends count at the paper's size."""
        return f"{self.results_folder}/complexity/paper_size.tsv"

    @property
    def report(self) -> dict[str, Any]:
        """Arguments of the report."""
        optional = {"speed": f"{self.results_folder}/speed"} if self.config["speed"]["systems"] else {}
        optional |= {"answers": self._table("equivalence")} if self.config["questions"] else {}
        optional |= {"planted": self._table("planted")} if self.probed else {}
        evaluation = self.config["evaluation"]
        return {
            "results": self.results_folder,
            **{name: self._table(name) for name in ("summary", "composite", "findings")},
            "sizes": self.paper_size,
            "facts": FACTS,
            "ledger": self._table("claims"),
            "record": self.per_run("checkpoints", ["AST-05"], "/model.json")[0],
            "comparisons": self._comparisons(*self.families),
            "calibration": self.calibration,
            "inspected": self.inspected,
            "bootstrap": evaluation["bootstrap"],
            "confidence": evaluation["confidence"],
            "corpora": [(name, self.corpora[name]["title"]) for name in self.config["evaluate_on"]],
            "paper_corpora": self.config["paper_corpora"],
            "label": self.label,
            **optional,
        }

    @property
    def tables(self) -> list[str]:
        """Every table's files: those of `made`, and what other steps write for machines."""
        found = [path for result in self.made if result.kind != "figure" for path in result.outputs]
        found += [self._table(name) for name in ("summary", "composite", "composite_sensitivity", "findings")]
        found += self._comparisons(*self.families)
        found += [self._table("equivalence")] * bool(self.config["questions"])
        found += [self._table("provenance", "json")]
        return found + [f"{self.results_folder}/complexity/{name}.tsv" for name in ("paper_size", "as_run")]

    @property
    def figures(self) -> list[str]:
        """Every figure's files."""
        return [path for result in self.made if result.kind == "figure" for path in result.outputs]

    def _table(self, name: str, ending: str = "tsv") -> str:
        return f"{self.results_folder}/tables/{name}.{ending}"

    def _speed(self, name: str) -> str:
        return f"{self.results_folder}/speed/{name}.tsv"

    def _comparisons(self, *families: str) -> list[str]:
        return [self._table(f"comparisons/{family}") for family in families if family in self.families]

    def _family(self, name: str) -> dict[str, str]:
        """The file of a family's tests, if the config has such a family."""
        return {"comparisons": self._table(f"comparisons/{name}")} if name in self.families else {}

    def as_trained(self, name: str) -> str:
        """System of an AASIST's training, run as it was trained."""
        return f"{name}-{ratio_code(self.k_train[name])}"

    @property
    def _changed(self) -> list[str]:
        """What is switched on at inference: Table 1 and the ablation's steps, by training."""
        named = _unique([*self.table1, *(system for _, system, _ in self.ablation if system)])
        return [
            system
            for name in self.k_train
            for system in named
            if System.parse(system).trained == name and system != self.as_trained(name)
        ]

    def _in_breakdown(self) -> list[str]:
        """The baseline, every variant at the fewest nodes, and the other back-ends."""
        k_train, k_infer = min(self.pairs)
        start = f"AST-{ratio_code(k_train)}-"
        fewest = [start + _column(k_infer, variant) for variant in self.config["systems"]["variants"]]
        return _unique([BASELINE, *fewest, *self.config["backends"]])


def _check_values(config: dict[str, Any]) -> None:
    """Stop on values that no key takes, and on more of them than anyone writes, as aliases can make.

    Raises:
        ConfigError: names the key.
    """
    waiting: deque[tuple[tuple[str | int, ...], Any]] = deque([((), config)])
    for n_seen in count():
        if not waiting:
            return
        keys, value = waiting.popleft()
        if n_seen == MOST_VALUES:
            raise ConfigError(f"{at(keys)}: more than {MOST_VALUES} values; YAML aliases (*name) multiply them")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or CONTROL.search(key):
                    raise ConfigError(f"{at([*keys, str(key)])!r}: a key is text in one line; put it in quotes")
            waiting.extend(((*keys, key), part) for key, part in value.items())
        elif isinstance(value, list):
            waiting.extend(((*keys, position), part) for position, part in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{at(keys)}: {value} is not a finite number")
        elif isinstance(value, str) and CONTROL.search(value):
            raise ConfigError(f"{at(keys)}: {shown(value)} holds a line break or control character; write one line")


def _check_schema(config: dict[str, Any]) -> None:
    """Stop on a key that is missing, unknown, or of another type or range than the schema says.

    Raises:
        ConfigError: names the key: an unknown one first, since it may be the missing one misspelt.
    """
    errors = [*_validator().iter_errors(config)]
    if not errors:
        return
    unknown = [error for error in errors if error.validator == "additionalProperties"]
    error = jsonschema.exceptions.best_match(unknown or errors)
    place, known = [*error.absolute_path], error.schema.get("properties", {})
    if unknown:
        key = next(key for key in error.instance if key not in known)
        absent = [name for name in known if name not in error.instance]  # one of these may be meant
        raise ConfigError(f"{at([*place, key])}: no such key{near(key, absent or [*known])}")
    if error.validator == "required":
        key = next(key for key in error.validator_value if key not in error.instance)
        raise ConfigError(f"{at([*place, key])}: missing ({known[key].get('description', 'see the schema')})")
    if error.validator == "type":
        raise ConfigError(f"{at(place)}: expected {TYPES[error.validator_value]}, not {shown(error.instance)}")
    if error.validator == "enum":
        raise ConfigError(f"{at(place)}: {shown(error.instance)} is not one of {', '.join(error.validator_value)}")
    if error.validator == "pattern":
        raise ConfigError(f"{at(place)}: expected {error.schema['description']}, not {shown(error.instance)}")
    raise ConfigError(f"{at(place)}: {error.message.replace(repr(error.instance), shown(error.instance))}")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    """The schema's, to which 1.0 is no whole number."""
    schema = yaml.safe_load((CHECKOUT / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    strict = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=strict)(schema)


def in_checkout(name: str) -> dict[str, Path]:
    """The arguments of a result, or of the report, that are files of the checkout."""
    return {argument: CHECKOUT / path for argument, path in IN_CHECKOUT.get(name, {}).items()}


def fingerprint(*paths: str) -> str:
    """Hash of files of the checkout: what is made from them is made again when they change, not when they move."""
    return sha256(b"\0".join((CHECKOUT / path).read_bytes() for path in paths)).hexdigest()[:16]


@cache
def _content(trial_list: Path, changed: int) -> str:
    return artefacts.trials_hash(trial_list)


def systems_of(trainings: dict[str, list[str]]) -> list[str]:
    """Every system that these trainings serve."""
    return [system_name(name, column) for name, columns in trainings.items() for column in columns or [AS_TRAINED]]


def _column(k_infer: float, label: str) -> str:
    return Variant.from_label(k_infer, label).column


def _unique(names: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(names)]


def _results_in(argument: Any) -> Iterator[str]:
    """Paths of results, wherever they stand in an argument: in a list, in a dictionary, alone."""
    if isinstance(argument, str):
        if argument.startswith("results/"):
            yield argument
    elif isinstance(argument, dict | list | tuple):
        for part in argument.values() if isinstance(argument, dict) else argument:
            yield from _results_in(part)
