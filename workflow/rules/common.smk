# What the other files here share: names, lists of files, and the parts of the configuration that each step is given.
import json
import shlex
from hashlib import sha256
from itertools import product
from pathlib import Path

# Before anything here changes it: what every table names as the configuration that it was made by
CONFIG_HASH = sha256(
    json.dumps(
        {name: config[name] for name in config if name not in ("compute", "downloads")},
        sort_keys=True,
    ).encode()
).hexdigest()[:16]
RESULTS = f"results/{config['experiment']}"
FEATURES = f"{config['features']['directory']}/{config['experiment']}"
ENVIRONMENT = "../../environment.yml"
CORPORA = config["corpora"]
COMPUTE = config["compute"]
DOWNLOADS = config["downloads"]


def placed(path):
    """Put the folder of a release in the place of its name: {asvspoof5}/flac_T_aa.tar."""
    for name, release in DOWNLOADS.items():
        path = path.replace(f"{{{name}}}", release["folder"])
    if "{" in path:
        raise WorkflowError(
            f"config: {path} names a release that is not among downloads: {', '.join(DOWNLOADS) or 'none'}"
        )
    return path


for corpus in CORPORA.values():
    corpus["protocol"] = placed(corpus["protocol"])
    corpus["audio"] = [placed(path) for path in corpus["audio"]]
config["training"]["frontend"]["model"] = placed(
    config["training"]["frontend"]["model"]
)
# What is built here, and nothing else, is an output: Snakemake deletes outputs before it makes them. What is downloaded
# may have lain there before: not it but a receipt of its verification is the output.
PROTOCOLS = [
    corpus["protocol"]
    for corpus in CORPORA.values()
    if Path(corpus["protocol"]).is_relative_to(config["data"]["directory"])
]

# Rules run the checkout's own package, also inside a rule's conda environment.
shell.prefix(f"export PYTHONPATH={shlex.quote(workflow.basedir)}/src; ")


# Names. `spaarsist.config` reads them back; it is not imported, since the Python of Snakemake may lack the package.


def code(ratio):
    """Write a pooling ratio as system names do: 0.3 -> 03."""
    return str(float(ratio)).replace(".", "")


def column(k_infer, variant, temperature=""):
    """Name of a variant's score column: 01-Mag, 05+stack1; Base has no suffix."""
    suffix = "" if variant == "Base" else f"-{variant}"
    return code(k_infer) + suffix + temperature


def pairs(k_infer):
    """Pairs of k in training and one of these k at inference that is not above it."""
    return [(t, i) for t, i in product(config["systems"]["k_train"], k_infer) if i <= t]


TEMPERATURE = config["temperature"]
SWITCHED = [
    f"+{where}{t:g}" for where in ("graph", "stack") for t in TEMPERATURE[where]
]
TRAINED_SO = [
    f"+{where}{t:g}"
    for where in ("graph", "stack")
    for t in TEMPERATURE["trained"][where]
]


K_TRAIN = {f"AST-{code(k)}": k for k in config["systems"]["k_train"]}
BASELINE = "AST-05-05"
RATIOS = sorted(
    {
        *config["systems"]["k_train"],
        *config["systems"]["k_infer"],
        *config["systems"]["k_sweep"],
        *(i for _, i in config["systems"]["also"]),
    }
)
FEWER = sorted({k for k in config["systems"]["k_infer"] if k < 0.5}, reverse=True)
STEPS = {
    "Mag": "magnitude, so no gate",
    "MagGate": "magnitude, gate kept",
    "NoGate": "learned, no gate",
    "Uni": "text's mean",
    "Mean": "code's mean",
    "MagUni": "magnitude, text's mean",
    "MagMean": "magnitude, code's mean",
}


def ablation():
    """Steps of the ablation: title, system and what it departs from; a title alone is a heading."""
    start = "AST-05-"
    steps = [("# Fewer nodes at inference", "", ""), ("AASIST", BASELINE, BASELINE)]
    steps += [(f"k {k:g}", start + code(k), BASELINE) for k in FEWER]
    steps.append(("# Substitutions at inference", "", ""))
    for variant in ("Mag", "MagGate", "NoGate"):
        steps.append((STEPS[variant], f"{BASELINE}-{variant}", BASELINE))
    steps.append(("the gate alone", f"{BASELINE}-Mag", f"{BASELINE}-MagGate"))
    for variant in ("Uni", "Mean"):
        steps.append((STEPS[variant], f"{BASELINE}-{variant}", BASELINE))
    steps.append(("# Combinations at inference", "", ""))
    for k, variant in product([0.5, *FEWER[-1:]], STEPS):
        if k < 0.5 or variant in ("MagUni", "MagMean"):
            title = f"{STEPS[variant]}; k {k:g}"
            steps.append((title, start + column(k, variant), BASELINE))
    for k_train in K_TRAIN.values():
        if k_train < 0.5 and FEWER:
            name, least = f"AST-{code(k_train)}", FEWER[-1]
            steps.append((f"# k in training {k_train:g}", "", ""))
            steps.append(("nothing else", f"{name}-{code(k_train)}", BASELINE))
            for variant in ("Base", "Mag", "MagUni", "MagMean"):
                title = f"{STEPS.get(variant, 'nothing else')}; k {least:g}"
                if variant != "Base" or least < k_train:
                    steps.append((title, f"{name}-{column(least, variant)}", BASELINE))
    return steps


def trained_variants():
    """The ablation's steps that are trained as what they are, beside the same ones switched."""
    steps = [("AASIST", BASELINE, BASELINE)]
    for variant in config["ablation"]["trained"]:
        switched, trained = f"{BASELINE}-{variant}", f"AST-05+{variant}-05-{variant}"
        steps.append((f"# {variant}: {STEPS[variant]}", "", ""))
        steps.append(("switched on at inference", switched, BASELINE))
        steps.append(("trained so", trained, BASELINE))
        steps.append(("the training alone", trained, switched))
    return steps


ABLATION = ablation()
ABLATION_TRAINED = trained_variants()


def columns(name):
    """Score columns of an AASIST training: every k_inf of Table 1 and of the sweep, the ablation's, the temperatures."""
    start = f"{name}-"
    found = [column(k, v) for k, v in product(RATIOS, config["systems"]["variants"])]
    found += [
        system.removeprefix(start)
        for _, system, _ in ABLATION
        if system.startswith(start)
    ]
    for k in config["analysis"]["k_infer"]:  # whose score changes are set beside it
        found += [column(k, "Base"), column(k, "Mag")]
    found += [column(K_TRAIN[name], v) for v in ("Base", "Uni", "Mean")]
    found += [
        system.removeprefix(start) + temperature
        for system in TEMPERATURE["systems"]
        if system.startswith(start)
        for temperature in SWITCHED
    ]
    return list(dict.fromkeys(found))


# Trained for every seed: AASIST at each k_train, the other back-ends.
COLUMNS = {name: columns(name) for name in K_TRAIN}
COLUMNS |= {name: [] for name in config["backends"]}
# Trained on demand: AASIST at other temperatures, and as the variants that it is switched to otherwise.
TRAINED_SO_AT = f"AST-{code(TEMPERATURE['trained']['k_train'])}"
TEMPERATURES_ON_DEMAND = {
    f"{TRAINED_SO_AT}{t}": [code(TEMPERATURE["trained"]["k_train"])] for t in TRAINED_SO
}
VARIANTS_ON_DEMAND = {
    f"AST-05+{v}": [column(0.5, v)] for v in config["ablation"]["trained"]
}
ON_DEMAND = TEMPERATURES_ON_DEMAND | VARIANTS_ON_DEMAND


def systems_of(trainings):
    """Every system that these trainings serve."""
    return [
        f"{name}-{c}" if c else name
        for name, its_columns in trainings.items()
        for c in its_columns or [""]
    ]


SYSTEMS = systems_of(COLUMNS)
TABLE_1 = list(
    dict.fromkeys(
        f"AST-{code(t)}-{column(i, variant)}"
        for t, i in [*pairs(config["systems"]["k_infer"]), *config["systems"]["also"]]
        for variant in config["systems"]["variants"]
    )
)
TABLE_2 = [*config["systems"]["in_table2"], *config["backends"]]
SWITCHED_SYSTEMS = [
    name + t for name in TEMPERATURE["systems"] for t in ["", *SWITCHED]
]
RANKED = TABLE_1 + [name for name in TABLE_2 if name not in TABLE_1]
# Tested together: differences of a family are corrected for their number. (system, what it is compared with)
FAMILIES = {
    "baseline": [(name, BASELINE) for name in RANKED if name != BASELINE],
    "ablation": [(name, other) for _, name, other in ABLATION if name != other],
    "k_sweep": [
        (f"{name}-{column(k, v)}", f"{name}-{column(k_train, v)}")
        for (name, k_train), k, v in product(
            K_TRAIN.items(), RATIOS, config["systems"]["variants"]
        )
        if k != k_train
    ],
    "temperature": [
        (name + t, name) for name in TEMPERATURE["systems"] for t in SWITCHED
    ],
    "temperature_trained": [
        *((name + t, name) for name in TEMPERATURE["systems"] for t in SWITCHED),
        *(
            (name, f"{TRAINED_SO_AT}-{TRAINED_SO_AT[4:]}")
            for name in systems_of(TEMPERATURES_ON_DEMAND)
        ),
    ],
    "ablation_trained": [
        (name, other) for _, name, other in ABLATION_TRAINED if name != other
    ],
}


def check_references():
    """Stop on what the schema cannot know: a name that refers to nothing, a label that says what is not so."""

    def stop(complaint):
        raise WorkflowError(f"config: {complaint}")

    for key in ("train_on", "select_on", "evaluate_on"):
        for name in config[key] if isinstance(config[key], list) else [config[key]]:
            if name not in CORPORA:
                stop(
                    f"{key} names {name}, which is not among corpora: {', '.join(CORPORA)}"
                )
    for k_train in K_TRAIN.values():
        if k_train not in [t for t, _ in pairs(config["systems"]["k_infer"])]:
            stop(f"systems has no k_infer at or below k_train {k_train}")
    for k_train, _ in config["systems"]["also"]:
        if k_train not in K_TRAIN.values():
            stop(f"systems.also: k_train {k_train} is not in systems.k_train")
    if BASELINE not in TABLE_1:
        stop(
            f"systems has no {BASELINE} (k_train and k_infer 0.5, variant Base), the baseline that all are compared with"
        )
    if (
        TRAINED_SO
        and TEMPERATURE["trained"]["k_train"] not in config["systems"]["k_train"]
    ):
        stop("temperature.trained.k_train is not in systems.k_train")
    if RANKED == [BASELINE]:
        stop(
            f"there is nothing but {BASELINE}: name another variant or k in systems, or backends"
        )
    if not TABLE_2:
        stop("Table 2 is empty: name systems in systems.in_table2, or backends")
    for key, names, known in (
        ("systems.in_figures", config["systems"]["in_figures"], SYSTEMS),
        ("systems.in_table2", config["systems"]["in_table2"], SYSTEMS),
        ("temperature.systems", TEMPERATURE["systems"], TABLE_1),
    ):
        for name in names:
            if name not in known:
                stop(f"{key} names {name}, which is not a system of this config")
    stand_in = (
        config["data"]["source"] != "local"
        or config["training"]["frontend"]["model"] == "spectral"
    )
    if stand_in and not config["label"]:
        stop(
            "label is empty, which is for the paper's own corpora and front-end; say what these are"
        )


check_references()

VIEWS = config["training"]["views"]
# That views are for: the first that has epochs
FROZEN_STAGE = next(
    (stage for stage in config["training"]["stages"] if stage["epochs"]), {}
)


def label():
    """What every table and figure says of the run: the config's remark, and where it departs from the recipe."""
    remarks = [config["label"]] if config["label"] else []
    epochs = FROZEN_STAGE.get("epochs", 0)
    if 0 < VIEWS < epochs:
        remarks.append(
            f"stage 1: {VIEWS} cached views of the training data in {epochs} epochs"
        )
    if config["training"]["frontend"]["precision"] != "float32":
        remarks.append(f"front-end in {config['training']['frontend']['precision']}")
    return "; ".join(remarks)


LABEL = label()


# Files.


def downloaded():
    """Path of every file that downloads says how to get -> its receipt."""
    return {
        str(Path(release["folder"]) / file): f"{RESULTS}/downloads/{name}.json"
        for name, release in DOWNLOADS.items()
        for file in release["files"]
    }


RECEIPTS = downloaded()


def proof_of(path):
    """What a step that reads this path waits for: the receipt of its download, or the file itself."""
    archive = path.split("::")[0]
    receipt = RECEIPTS.get(str(Path(archive)))
    # That it was verified anew, or would be fetched from elsewhere, is no reason to do anything again
    return ancient(receipt) if receipt else archive


def archives():
    """Archives that hold recordings, by file name."""
    found = {}
    for corpus in CORPORA.values():
        for path in corpus["audio"]:
            if path.endswith((".tar", ".zip")):
                if found.setdefault(Path(path).name, path) != path:
                    raise WorkflowError(
                        f"config: two archives are called {Path(path).name}; rename one"
                    )
    return found


ARCHIVES = archives()
FRONTEND = sorted(
    {
        proof_of(path)
        for path in RECEIPTS
        if Path(path).parent == Path(config["training"]["frontend"]["model"])
    }
)
PARTS = range(config["features"]["parts"])
TRAIN_FEATURES = expand(
    f"{FEATURES}/{config['train_on']}/view{{view}}/part{{part}}.json",
    view=range(VIEWS),
    part=PARTS,
)
DEV_FEATURES = expand(
    f"{FEATURES}/{config['select_on']}/excerpts/part{{part}}.json",
    part=PARTS if config["features"]["development"] else [],
)


def runs(trainings):
    return expand("{trained}/seed{seed}", trained=trainings, seed=config["seeds"])


def scores_of(trainings):
    return expand(
        f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
        run=runs(trainings),
        corpus=config["evaluate_on"],
    )


def metrics_of(trainings):
    return expand(
        f"{RESULTS}/metrics/{{run}}/{{corpus}}.tsv",
        run=runs(trainings),
        corpus=config["evaluate_on"],
    )


def replicates_of(trainings):
    return expand(
        f"{RESULTS}/replicates/{{run}}/{{corpus}}.parquet",
        run=runs(trainings),
        corpus=config["evaluate_on"],
    )


def records_of(trainings):
    return expand(f"{RESULTS}/checkpoints/{{run}}/model.json", run=runs(trainings))


SCORES = scores_of(COLUMNS)
METRICS = metrics_of(COLUMNS)
REPLICATES = replicates_of(COLUMNS)
CALIBRATION = expand(f"{RESULTS}/calibration/{{run}}.tsv", run=runs(COLUMNS))
INSPECTED = expand(
    f"{RESULTS}/analysis/{{run}}/{{corpus}}",
    run=runs(K_TRAIN),
    corpus=config["evaluate_on"],
)
RECORDS = records_of(COLUMNS)
DRAWN = [
    name
    for name, its_columns in COLUMNS.items()
    if {*systems_of({name: its_columns})} & {*config["systems"]["in_figures"]}
]
TRIALS = expand(f"{RESULTS}/trials/{{corpus}}.tsv", corpus=config["evaluate_on"])
SWITCHES = bool(SWITCHED and TEMPERATURE["systems"])
READABLE = ["tsv", "md", "tex", "html"]
DRAWING = ["png", "pdf", "tsv"]
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{form}}",
    table=[
        "table1",
        "table2",
        "differences",
        "ablation",
        "nodes",
        "stack_attention",
        "calibration",
        "claims",
    ]
    + ["temperature"] * SWITCHES,
    form=READABLE,
)
TABLES += expand(
    f"{RESULTS}/tables/{{table}}.tsv",
    table=["summary", "composite", "composite_sensitivity", "findings"]
    + [
        f"comparisons/{family}"
        for family in ["baseline", "ablation", "k_sweep"] + ["temperature"] * SWITCHES
    ],
)
TABLES += expand(
    f"{RESULTS}/complexity/{{table}}.tsv",
    table=["paper_size", "paper_size_breakdown", "as_run", "latency"],
)
FIGURES = expand(
    f"{RESULTS}/figures/{{figure}}.{{form}}",
    figure=[
        "det",
        "histograms",
        "reliability",
        "training",
        "eer_vs_macs",
        "eer_vs_latency",
        "k_sweep",
        "attacks",
        "composite",
        "macs_by_module",
        "differences",
        "ablation",
        "node_overlap",
        "kept_nodes",
        "stack_attention",
        "calibration",
    ]
    + ["temperature"] * SWITCHES,
    form=DRAWING,
)
# Made on demand: each of its temperatures is a training of its own.
TRAINED_TEMPERATURES = expand(
    f"{RESULTS}/tables/{{table}}.{{form}}",
    table=["temperature_trained", "claims_with_trained_temperatures"],
    form=READABLE,
)
TRAINED_TEMPERATURES += expand(
    f"{RESULTS}/figures/temperature_trained.{{form}}", form=DRAWING
)
# Likewise, each of its variants.
SO = ["ablation_trained"] * bool(VARIANTS_ON_DEMAND)
TRAINED_VARIANTS = expand(f"{RESULTS}/tables/{{so}}.{{form}}", so=SO, form=READABLE)
TRAINED_VARIANTS += expand(f"{RESULTS}/figures/{{so}}.{{form}}", so=SO, form=DRAWING)
# Measured on demand, in some minutes in which nothing else should run beside it; the report needs it.
SPEED = expand(
    f"{RESULTS}/speed/{{file}}.tsv",
    file=["backend", "training", "detector", "scoring"],
)
SPEED += expand(
    f"{RESULTS}/tables/{{table}}.{{form}}",
    table=["latency", "detector"],
    form=READABLE,
)
SPEED += expand(f"{RESULTS}/figures/latency.{{form}}", form=DRAWING)
# The report and the release hold what was trained on demand where it is there.
THERE = [
    path for path in TRAINED_TEMPERATURES + TRAINED_VARIANTS if Path(path).exists()
]

PUBLISHED = [path for path in TABLES + FIGURES if not path.endswith("_breakdown.tsv")]
PUBLISHED += [
    path
    for path in [*THERE, *SPEED, f"{RESULTS}/paper/main.pdf"]
    if Path(path).exists()
]
PUBLISHED_SCORES = SCORES + scores_of(
    TEMPERATURES_ON_DEMAND if {*THERE} & {*TRAINED_TEMPERATURES} else {}
)
PUBLISHED_SCORES += scores_of(
    VARIANTS_ON_DEMAND if {*THERE} & {*TRAINED_VARIANTS} else {}
)


wildcard_constraints:
    trained="[A-Za-z0-9.+-]+",
    run="[A-Za-z0-9.+-]+/seed[0-9]+",
    seed="[0-9]+",
    corpus="[a-z0-9_]+",
    view="[0-9]+",
    part="[0-9]+",
    release="[a-z0-9_]+",
    archive="[^/]+",
    family="[a-z0-9_]+",
    table="[a-z0-9_]+",


# What rules are given.


def modules(*names):
    """Source files that a cheap step depends on; editing one of them reruns it."""
    return [f"{workflow.basedir}/src/spaarsist/{name}" for name in names]


def options(flag, values):
    """Repeat an option on a command line: --variant 05 --variant 05-Mag."""
    return " ".join(f"{flag} {shlex.quote(str(value))}" for value in values)


def scored_together(system):
    """Columns of Table 1 that one pass makes along with this system's."""
    trained = "-".join(system.split("-")[:2])
    return [
        s.removeprefix(f"{trained}-") for s in TABLE_1 if s.startswith(f"{trained}-")
    ]


def corpora_verb():
    """The verb that builds the corpora."""
    if config["data"]["source"] == "mini":
        return f"mini-corpora --jobs 2 --cache {shlex.quote(config['data']['cache'])}"
    return "synthetic-corpora"


def corpora_root(wildcards):
    """Folder that the corpora are built in."""
    return config["data"]["directory"]


def results_folder(wildcards):
    """Folder of the whole experiment."""
    return RESULTS


def output_stem(wildcards, output):
    """Path of a rule's outputs without their endings."""
    return str(Path(output[0]).with_suffix(""))


def corpus_of(wildcards):
    """Settings of the corpus that a rule's wildcard names."""
    return CORPORA[wildcards.corpus]


def downloads(wildcards):
    """All of them, not the one that is fetched alone: they share the disk."""
    return json.dumps(DOWNLOADS, sort_keys=True)


def corpus_protocol(wildcards):
    return corpus_of(wildcards)["protocol"]


def protocol_proof(wildcards):
    return proof_of(corpus_protocol(wildcards))


def audio_proofs(wildcards):
    """Indices of the archives, which are made of verified ones, and receipts of what was downloaded otherwise."""
    return [
        (
            f"{RESULTS}/index/{Path(path).name}.tsv"
            if Path(path).name in ARCHIVES
            else RECEIPTS[path]
        )
        for path in corpus_of(wildcards)["audio"]
        if Path(path).name in ARCHIVES or path in RECEIPTS
    ]


def archive_path(wildcards):
    return ARCHIVES[wildcards.archive]


def archive_proof(wildcards):
    return proof_of(ARCHIVES[wildcards.archive])


def corpus_format(wildcards):
    return corpus_of(wildcards)["format"]


def corpus_checksum(wildcards):
    return corpus_of(wildcards)["checksum"]


def corpus_audio(wildcards):
    return options(
        "--audio",
        [
            (
                f"{RESULTS}/index/{Path(path).name}.tsv"
                if Path(path).name in ARCHIVES
                else path
            )
            for path in corpus_of(wildcards)["audio"]
        ],
    )


def corpus_expected(wildcards):
    return corpus_of(wildcards)["expected"]


def recipe_of(wildcards):
    """The training section as JSON, with the back-end that the wildcard names."""
    backend = config["training"]["backend"]
    if wildcards.trained in config["backends"]:
        backend = {
            "embedding_dim": backend["embedding_dim"],
            **config["backends"][wildcards.trained],
        }
    else:
        name, *departures = wildcards.trained.split("+")
        options = {**backend["options"], "k_train": K_TRAIN[name]}
        for departure in departures:
            where, value = (
                departure[:5],
                departure[5:],
            )  # graph0.5, stack10, or a variant
            if departure in STEPS:
                options["variant"] = departure
            elif where == "stack":
                options["stack_temperature"] = float(value)
            else:
                spectral_and_temporal = [float(value)] * 2
                options["temperatures"] = (
                    spectral_and_temporal + options["temperatures"][2:]
                )
        backend = {**backend, "options": options}
    return json.dumps({**config["training"], "backend": backend}, sort_keys=True)


def feature_options():
    """The caches that a training is given."""
    train = f"--train-features {FEATURES}/{config['train_on']}" if VIEWS else ""
    dev = f"--dev-features {FEATURES}/{config['select_on']}/excerpts"
    return f"{train} {dev if DEV_FEATURES else ''}"


def frames_recipe(views):
    """What of the training section so many views' frames depend on (0: those of fixed excerpts), as JSON."""
    training = config["training"]
    keys = ("frontend", "crop") + (("epoch_size", "augmentation") if views else ())
    recipe = {key: training[key] for key in keys}
    if views:
        stage = {key: FROZEN_STAGE[key] for key in ("batch_size", "crop")}
        recipe |= {"stages": [stage | {"epochs": 1}], "views": views}
    return json.dumps(recipe)


def part_recipe(wildcards):
    """Recipe of a part of the cache; the number of views behind its own is not its business."""
    view = wildcards.get("view")
    return frames_recipe(0 if view is None else int(view) + 1)


def view_option(wildcards):
    return f"--view {wildcards.view}" if "view" in wildcards.keys() else ""


def space_recipe(wildcards):
    return frames_recipe(VIEWS)


def dev_list_option():
    dev_list = f"--dev-list {RESULTS}/trials/{config['select_on']}.tsv"
    return dev_list if DEV_FEATURES else ""


def pair_options(wildcards):
    """What a family compares: --pair AST-05-01/AST-05-05."""
    pairs_of_family = dict.fromkeys(FAMILIES[wildcards.family])
    return options("--pair", [f"{name}/{other}" for name, other in pairs_of_family])


def family_trainings(wildcards):
    return {
        "temperature_trained": COLUMNS | TEMPERATURES_ON_DEMAND,
        "ablation_trained": COLUMNS | VARIANTS_ON_DEMAND,
    }.get(wildcards.family, COLUMNS)


def family_metrics(wildcards):
    return metrics_of(family_trainings(wildcards))


def family_replicates(wildcards):
    return replicates_of(family_trainings(wildcards))


def family_metrics_options(wildcards):
    return options("--metrics", family_metrics(wildcards))


def family_replicates_options(wildcards):
    return options("--replicates", family_replicates(wildcards))


def comparisons_options(wildcards, input):
    return options("--comparisons", input.comparisons)


def scores_options(wildcards, input):
    return options("--scores", input.scores)


def variant_options(wildcards):
    return options("--variant", (COLUMNS | ON_DEMAND)[wildcards.trained])


def corpora(names, *, titled):
    """Corpora by name, with their titles or without."""
    return options(
        "--corpus",
        [f"{name}={CORPORA[name]['title']}" if titled else name for name in names],
    )


def trial_lists():
    return options(
        "--trial-list",
        [f"{name}={RESULTS}/trials/{name}.tsv" for name in config["evaluate_on"]],
    )


def summary():
    """What is printed at the end of a successful run."""
    lines = [
        f"\n{config['experiment']}: {LABEL}" if LABEL else f"\n{config['experiment']}"
    ]
    table = Path(RESULTS, "tables", "table1.md")
    made = {
        Path(path).with_suffix("") for path in TABLES + FIGURES if Path(path).exists()
    }
    lines += [f"  {path}.*" for path in sorted(made)]
    return "\n".join(lines + ([f"\nRead {table} first."] if table.exists() else []))
