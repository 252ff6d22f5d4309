# What the other files here share: names, lists of files, and the parts of the configuration that each step is given.
import json
import shlex
from itertools import product
from pathlib import Path

RESULTS = f"results/{config['experiment']}"
ENVIRONMENT = "../../environment.yml"
CORPORA = config["corpora"]
COMPUTE = config["compute"]
# What is built here, and nothing else, is an output: Snakemake deletes outputs before it makes them.
PROTOCOLS = [
    corpus["protocol"]
    for corpus in CORPORA.values()
    if Path(corpus["protocol"]).is_relative_to(config["data"]["directory"])
]

# Rules run the checkout's own package, also inside a rule's conda environment.
shell.prefix(f"export PYTHONPATH={shlex.quote(workflow.basedir)}/src; ")


def code(ratio):
    """Write a pooling ratio as system names do: 0.3 -> 03 (`spaarsist.config` has the same; Snakemake may lack it)."""
    return str(float(ratio)).replace(".", "")


def column(k_infer, variant):
    """Name of a variant's score column: 01-Mag; Base has no suffix."""
    return code(k_infer) + ("" if variant == "Base" else f"-{variant}")


def columns(k_train):
    """Score columns of the checkpoint of one k_train."""
    ratios = [k for k in config["systems"]["k_infer"] if k <= k_train]
    return [
        column(k, variant)
        for k, variant in product(ratios, config["systems"]["variants"])
    ]


K_TRAIN = {code(k): k for k in config["systems"]["k_train"]}
SYSTEMS = [f"AST-{k}-{name}" for k, ratio in K_TRAIN.items() for name in columns(ratio)]


def check_references():
    """Stop on a name in the configuration that refers to nothing; the schema cannot know these."""
    for key in ("train_on", "select_on", "evaluate_on"):
        for name in config[key] if isinstance(config[key], list) else [config[key]]:
            if name not in CORPORA:
                raise WorkflowError(
                    f"config: {key} names {name}, which is not among corpora: {', '.join(CORPORA)}"
                )
    for k_train in K_TRAIN.values():
        if not columns(k_train):
            raise WorkflowError(
                f"config: systems has no k_infer at or below k_train {k_train}"
            )
    for system in config["systems"]["in_figures"]:
        if system not in SYSTEMS:
            raise WorkflowError(
                f"config: systems.in_figures names {system}, which is not a system of this config"
            )


check_references()
RUNS = expand("AST-{k}/seed{seed}", k=K_TRAIN, seed=config["seeds"])
SCORES = expand(
    f"{RESULTS}/scores/{{run}}/{{corpus}}.parquet",
    run=RUNS,
    corpus=config["evaluate_on"],
)
METRICS = expand(
    f"{RESULTS}/metrics/{{run}}/{{corpus}}.tsv", run=RUNS, corpus=config["evaluate_on"]
)
TRIALS = expand(f"{RESULTS}/trials/{{corpus}}.tsv", corpus=config["evaluate_on"])
TABLES = expand(f"{RESULTS}/tables/table1.{{form}}", form=["tsv", "md", "tex"])
TABLES += [f"{RESULTS}/complexity/as_run.tsv"]
FIGURES = expand(
    f"{RESULTS}/figures/{{figure}}.{{form}}",
    figure=["det", "eer_vs_macs"],
    form=["png", "pdf"],
)


wildcard_constraints:
    k="[0-9]+",
    seed="[0-9]+",
    corpus="[a-z0-9_]+",


def modules(*names):
    """Source files that a cheap step depends on; editing one of them reruns it."""
    return [f"{workflow.basedir}/src/spaarsist/{name}" for name in names]


def options(flag, values):
    """Repeat an option on a command line: --variant 05 --variant 05-Mag."""
    return " ".join(f"{flag} {shlex.quote(str(value))}" for value in values)


def corpora_verb():
    """The verb that builds the corpora."""
    if config["data"]["source"] == "mini":
        return f"mini-corpora --jobs 2 --cache {shlex.quote(config['data']['cache'])}"
    return "synthetic-corpora"


def corpora_root(wildcards):
    """Folder that the corpora are built in."""
    return config["data"]["directory"]


def output_stem(wildcards, output):
    """Path of a rule's outputs without their endings."""
    return str(Path(output[0]).with_suffix(""))


def corpus_of(wildcards):
    """Settings of the corpus that a rule's wildcard names."""
    return CORPORA[wildcards.corpus]


def corpus_protocol(wildcards):
    return corpus_of(wildcards)["protocol"]


def corpus_format(wildcards):
    return corpus_of(wildcards)["format"]


def corpus_audio(wildcards):
    return corpus_of(wildcards)["audio"]


def corpus_expected(wildcards):
    return corpus_of(wildcards)["expected"]


def k_train_of(wildcards):
    return K_TRAIN[wildcards.k]


def variant_options(wildcards):
    return options("--variant", columns(K_TRAIN[wildcards.k]))


def system_options():
    return options(
        "--system", [f"{k}:{name}" for k in K_TRAIN.values() for name in columns(k)]
    )


def titles():
    return options(
        "--corpus",
        [f"{name}={CORPORA[name]['title']}" for name in config["evaluate_on"]],
    )


def trial_lists():
    return options(
        "--trial-list",
        [f"{name}={RESULTS}/trials/{name}.tsv" for name in config["evaluate_on"]],
    )


def summary():
    """What is printed at the end of a successful run."""
    lines = [
        (
            f"\n{config['experiment']}: {config['label']}"
            if config["label"]
            else f"\n{config['experiment']}"
        )
    ]
    table = Path(RESULTS, "tables", "table1.md")
    lines += [f"  {path}" for path in TABLES + FIGURES if Path(path).exists()]
    return "\n".join(lines + ([f"\nRead {table} first."] if table.exists() else []))
