# What the other files here share. What the experiment consists of is told in src/spaarsist/plan.py.
import json
import os
import shlex

from spaarsist import code
from spaarsist.plan import FACTS, FORMS, IN_CHECKOUT, Plan, fingerprint

try:
    PLAN = Plan(config)
except ConfigError as error:
    sys.exit(REFUSED.format(error))
RESULTS = PLAN.results_folder
FEATURES = PLAN.features_folder
ENVIRONMENT = "../../environment.yml"
COMPUTE = config["compute"]
TRAINED = f"{RESULTS}/checkpoints/{{trained}}/seed{{seed}}"

# Rules run the checkout's own package, also inside a rule's conda environment.
shell.prefix(f"export PYTHONPATH={shlex.quote(workflow.basedir)}/src; ")


# run: <trained>/seed<seed>, the folder of one training
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


def options(flag, values):
    """Repeat an option on a command line: --variant 05 --variant 05-Mag."""
    return " ".join(f"{flag} {shlex.quote(str(value))}" for value in values)


def each(name, flag=""):
    """Parameter that repeats an option for every file of the input of that name: --scores a --scores b."""

    def of_input(wildcards, input):
        return options(flag or f"--{name}", input[name])

    return of_input


def refused(log):
    """Whether a job's log ends with the one line of a verb that refuses what it was given."""
    if not os.path.exists(log):
        return False
    with open(log, errors="replace") as lines:
        return any(line.startswith("spaarsist: ") for line in [*lines][-1:])


# Snakemake records no parameter whose function takes `threads`. Some take it for that reason alone: how a job runs, and
# where files lie, must not make anything again.


def for_training(wildcards, threads):
    return (
        f"--device {COMPUTE['device']} --processes {max(COMPUTE['gpu'], 1)}"
        f" --threads {COMPUTE['train_threads']} --workers {COMPUTE['workers']}"
    )


def for_scoring(wildcards, threads):
    return (
        f"--batch-size {PLAN.scoring_batch} --device {COMPUTE['device']}"
        f" --threads {COMPUTE['score_threads']} --workers {COMPUTE['workers']}"
    )


def for_measuring(wildcards, threads):
    return f"--device {COMPUTE['device']} --threads {COMPUTE['score_threads']}"


def settled(paths):
    """Inputs of which trial lists are ancient: that their contents are the same is told by `contents`."""
    return [ancient(path) if "/trials/" in path else path for path in paths]


def contents(*corpora):
    """Parameter that stands for the contents of trial lists, whose files may move with their corpora.

    A list that is still to be made has none; Snakemake asks again before the job that needs it.
    """

    def of_lists(wildcards):
        return PLAN.contents(*corpora or [wildcards.corpus])

    return of_lists


def corpora_verb(wildcards, threads):
    """The verb that builds the corpora."""
    if config["data"]["source"] == "mini":
        return f"mini-corpora --jobs 2 --cache {shlex.quote(config['data']['cache'])}"
    return "synthetic-corpora"


def corpora_root(wildcards):
    return config["data"]["directory"]


def downloads(wildcards):
    """All of them, not the one that is fetched alone: they share the disk."""
    return json.dumps(config["downloads"], sort_keys=True)


def offline(wildcards, threads):
    return "--offline" if config["data"]["offline"] else ""


def receipt_or_file(path):
    """A receipt is ancient: that a download was verified anew is no reason to do anything again."""
    return ancient(path) if path in PLAN.receipts.values() else path


def archive_path(wildcards):
    return PLAN.archives[wildcards.archive]


def archive_proof(wildcards):
    path = PLAN.archives[wildcards.archive]
    return receipt_or_file(PLAN.receipts.get(path, path))


def protocol_proof(wildcards):
    return receipt_or_file(PLAN.protocol_proof(wildcards.corpus))


def audio_proofs(wildcards):
    return [receipt_or_file(path) for path in PLAN.audio_proofs(wildcards.corpus)]


def corpus_options(wildcards):
    """How `trials` is told of a corpus."""
    corpus = PLAN.corpora[wildcards.corpus]
    return " ".join(
        [
            f"--protocol {shlex.quote(corpus['protocol'])} --format {corpus['format']}",
            options("--audio", PLAN.audio_of(wildcards.corpus)),
            f"--expected {corpus['expected']} --checksum={shlex.quote(corpus['checksum'])}",
        ]
    )


def recipe(wildcards, threads):
    """With the places that files have now; what Snakemake records is `made_of`, without them."""
    return PLAN.recipe_of(wildcards.trained)


def made_of(wildcards):
    return PLAN.recipe_of(wildcards.trained, placed=False)


def preflight_settings(wildcards, threads):
    return json.dumps(PLAN.preflight)


def views_of(wildcards):
    """Views up to a part's own: how many follow does not matter to it. None for fixed excerpts."""
    return int(wildcards.view) + 1 if "view" in wildcards.keys() else 0


def part_recipe(wildcards, threads):
    return PLAN.frames_recipe(views_of(wildcards))


def part_made_of(wildcards):
    return PLAN.frames_recipe(views_of(wildcards), placed=False)


def view_option(wildcards):
    return f"--view {wildcards.view}" if "view" in wildcards.keys() else ""


def space_recipe(wildcards, threads):
    return PLAN.frames_recipe(PLAN.recipe.views)


def cached_dev_list(wildcards):
    dev_list = f"--dev-list {RESULTS}/trials/{config['select_on']}.tsv"
    return dev_list if config["features"]["development"] else ""


def cached_features(wildcards, threads):
    """The caches that a training is given, wherever they lie."""
    train = f"--train-features {FEATURES}/{config['train_on']}"
    dev = f"--dev-features {FEATURES}/{config['select_on']}/excerpts"
    given = [(train, PLAN.recipe.views), (dev, config["features"]["development"])]
    return " ".join(option for option, is_cached in given if is_cached)


def variants(wildcards):
    return options("--variant", PLAN.trainings[wildcards.trained])


def trial_lists(wildcards):
    names = config["evaluate_on"]
    lists = zip(names, PLAN.trials(*names))
    return options("--trial-list", [f"{name}={path}" for name, path in lists])


def family_metrics(wildcards):
    return PLAN.per_corpus("metrics", PLAN.trainings_of(wildcards.family), ".tsv")


def family_replicates(wildcards):
    trainings = PLAN.trainings_of(wildcards.family)
    return PLAN.per_corpus("replicates", trainings, ".parquet")


def family_pairs(wildcards):
    """What a family compares: --pair AST-05-01/AST-05-05."""
    pairs = PLAN.families[wildcards.family]
    return options("--pair", [f"{name}/{other}" for name, other in pairs])


def output_stem(wildcards, output):
    """Path of a rule's outputs without their endings."""
    return os.path.splitext(output[0])[0]


def results_folder(wildcards):
    return RESULTS


def first_checkpoint(wildcards, input):
    """The detector whose development EER is measured on random excerpts (finding F8)."""
    return os.path.dirname(input.records[0])
