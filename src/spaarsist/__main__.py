"""The command line: `python -m spaarsist <verb>`. The workflow's rules call verbs; so can people.

Verbs parse, call and exit; what they import, they import when called. Exit codes: 0 done, 1 bad input or configuration
(one line on stderr says what and where), 2 wrong usage, 143 told to stop and saved (training).
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
import typer.core

DISK = {
    errno.ENOSPC: "; free some space there and call again",
    errno.EDQUOT: "; free some of your quota there and call again",
    errno.EROFS: "; name a place that can be written to",
    errno.EMFILE: "; allow more open files (ulimit -n), or fewer --workers",
}
"""What to do about failures that are the machine's, not a file's."""

FILE, FOLDER, STEM = WRITTEN = ("file to write", "folder to write", "files to write, by their common stem")
"""Marks of the options that say what a verb writes."""

CHECKPOINT = "a checkpoint to read"
"""Mark of the options that name a checkpoint: a folder here, or one on the Hugging Face hub, which is fetched."""

LAST_SEED = 2**32 - 1
"""NumPy takes no larger one."""

PEOPLE = "For people"
CORPORA = "Corpora and trial lists"
RUNS = "Training and scoring"
WORTH = "What scores are worth"
INSIDE = "A look inside"
REPORTING = "Tables, figures, report"
"""Groups of verbs in the help page, in this order."""


class Verbs(typer.core.TyperGroup):
    """Lists the verbs under headings, by who uses them and for what."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group of verbs."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        for group in (PEOPLE, CORPORA, RUNS, WORTH, INSIDE, REPORTING):
            with formatter.section(group):
                rows = [(name, verb.get_short_help_str(90)) for name, verb in verbs if verb.rich_help_panel == group]
                formatter.write_dl(rows)


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
    help="Replication of SpAArSIST: sparsified AASIST back-ends for speech anti-spoofing.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from spaarsist import __version__

        print(f"spaarsist {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Hold the options that belong to no verb."""


def verb(group: str) -> Callable[[Callable], Callable]:
    """Register a function as a verb of a group, which begins no work whose result could not be written."""

    def register(function: Callable) -> Callable:
        @wraps(function)
        def run(**given: Any) -> None:
            hints = get_type_hints(function, include_extras=True)
            marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
            _look_at_places(marks, given)
            function(**given | _located(marks, given))

        return app.command(rich_help_panel=group)(run)

    return register


def _look_at_places(marks: dict[str, tuple], given: dict[str, Any]) -> None:
    """See that all outputs of a verb can be written, and replace neither one another nor what they are made from."""
    from spaarsist.artefacts import distinct, refuse_unwritable

    inputs: list[Path] = []
    outputs: list[Path] = []
    for name, of_option in marks.items():
        kind = next((mark for mark in of_option if mark in WRITTEN), None)
        values = given.get(name)
        paths = [path for path in (values if isinstance(values, list) else [values]) if isinstance(path, Path)]
        (outputs if kind else inputs).extend(paths)
        for path in paths if kind else ():
            refuse_unwritable(f"{path}.tsv" if kind is STEM else path, folder=kind is FOLDER)
    distinct(outputs, inputs)


def _located(marks: dict[str, tuple], given: dict[str, Any]) -> dict[str, Any]:
    """The folders of the checkpoints that a verb is given: for all verbs they are found, or fetched, here."""
    from spaarsist.models.hub import locate

    found = {}
    for name, of_option in marks.items():
        if CHECKPOINT in of_option and (named := given.get(name)):
            found[name] = [locate(one) for one in named] if isinstance(named, list) else locate(named)
    return found


def _files(help_text: str, *name: str) -> Any:
    return typer.Option(*name, exists=True, dir_okay=False, help=f"{help_text}; repeat for more.")


InputFile = Annotated[Path, typer.Option(exists=True, dir_okay=False)]
OptionalFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]
InputFolder = Annotated[Path, typer.Option(exists=True, file_okay=False)]
OptionalFolder = Annotated[Path | None, typer.Option(exists=True, file_okay=False)]
Checkpoint = Annotated[Path, typer.Option(help="Folder of a training, or user/name@commit on the hub."), CHECKPOINT]
CheckpointFirst = Annotated[Path, typer.Argument(help="Folder of a training, or user/name@commit."), CHECKPOINT]
Output = Annotated[Path, typer.Option(), FILE]
OutputFolder = Annotated[Path, typer.Option(), FOLDER]
MetricsFiles = Annotated[list[Path], _files("File of `metrics`")]
ScoreFiles = Annotated[list[Path], _files("Score file")]
Replicates = Annotated[list[Path], _files("Resamples of `metrics`")]
TrialLists = Annotated[list[str], typer.Option("--trial-list", help="<corpus>=<trial list>; repeat for more.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads; equal numbers give equal results.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read audio; results do not depend on it.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Trials at once.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the arithmetic is done.")]
Recipe = Annotated[str, typer.Option(help="The training section: JSON, or a YAML file holding it.")]
Costs = Annotated[str, typer.Option(help="The cost_model section: JSON, or a YAML file holding it.")]
Confidence = Annotated[float, typer.Option(min=0, max=1, help="Coverage of the intervals.")]
Systems = Annotated[list[str], typer.Option("--system", help="System, e.g. AST-03-01-Mag or MHFA; repeat for more.")]
Corpus = Annotated[str, typer.Option(help="Name of the corpus; default: the trial list's.")]
Name = Annotated[str, typer.Argument(help="Which one, e.g. table1; `list` names them all.")]
Settings = Annotated[str, typer.Option(help="Arguments of the function that makes it: JSON, or a YAML file.")]
Stem = Annotated[Path | None, typer.Option(help="Path of the outputs without their endings."), STEM]


# ---------------------------------------------------------------- for people


@verb(PEOPLE)
def facts(
    output: Annotated[Path, typer.Option(help="Folder of the tables and figures."), FOLDER] = Path("results/facts"),
    threads: Threads = 2,
) -> None:
    """Show what can be known of the paper without data, in a minute: what its MACs count, what its code does."""
    from spaarsist.artefacts import footer
    from spaarsist.audit.facts import measure
    from spaarsist.plan import in_checkout
    from spaarsist.reporting.figures.facts import saving_against_length, where_the_work_is
    from spaarsist.reporting.overview import facts as overview
    from spaarsist.reporting.tables.facts import write_facts, write_macs, write_saving

    measure(output, threads)
    counts, made = output / "counts.tsv", footer(None)
    write_macs(counts, output / "macs", made)
    write_saving(counts, output / "saving", made)
    write_facts(**in_checkout("facts"), quantities=output / "quantities.tsv", output_stem=output / "facts", footer=made)
    saving_against_length(counts, output / "saving_against_length")
    where_the_work_is(counts, output / "operators.tsv", output / "where_the_work_is")
    print(overview(output))


@verb(PEOPLE)
def show(results: Annotated[Path, typer.Argument(help="Results of an experiment.")] = Path("results/mini")) -> None:
    """Print what an experiment obtained: its main rows, the verdicts on the claims, where the rest lies."""
    from spaarsist.reporting.overview import overview

    print(overview(results))


@verb(PEOPLE)
def claims(results: Annotated[Path, typer.Argument(help="Results of an experiment.")] = Path("results/mini")) -> None:
    """Print the ledger: each claim of the paper, what was obtained, and the verdict."""
    from spaarsist.reporting.claims import read_ledger, render

    print(render(read_ledger(results / "tables" / "claims.tsv")))


@verb(PEOPLE)
def compare_runs(
    first: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Results of an experiment.")],
    second: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Results of another run of it.")],
    output: Annotated[
        Path | None, typer.Option(help="TSV to write: every row of both.", show_default=False), FILE
    ] = None,
) -> None:
    """See whether two runs of one experiment agree, row by row; exit code 1 if more rows differ than by chance."""
    from spaarsist.artefacts import writing
    from spaarsist.evaluation.agreement import agree, render
    from spaarsist.evaluation.agreement import compare_runs as run

    compared = run(first, second)
    if output:
        with writing(output) as path:
            compared.to_csv(path, sep="\t", index=False, float_format="%.10g")
    print(render(compared))
    if not agree(compared):
        raise typer.Exit(1)


@verb(PEOPLE)
def departures(
    configs: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="As for --configfile.")],
) -> None:
    """Print where a configuration departs from the paper's text and from the released code, and by which key."""
    from snakemake.utils import update_config

    from spaarsist.config import read_mapping
    from spaarsist.plan import Plan

    merged: dict[str, Any] = {}
    for path in configs:
        update_config(merged, read_mapping(str(path)))
    print(*Plan(merged).departures or ["none"], sep="\n")


@verb(PEOPLE)
def detect(
    checkpoint: CheckpointFirst,
    file: Annotated[list[Path], typer.Argument(help="Recordings, or films: WAV, FLAC, MP3, M4A, MP4, WebM, Opus, ...")],
    variant: Annotated[str | None, typer.Option(help="Of an AASIST, e.g. 05 or 01-Mag. Default: as trained.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of `calibrate` of this training, for the threshold."),
    ] = None,
    windows: Annotated[bool, typer.Option("--windows", help="Score the whole of each recording, in steps.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the time lines of --windows.", show_default=False), FOLDER
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Print a TSV, a row for each part that was scored.")] = False,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Score recordings of any kind, without protocol or labels; exit code 1 if one of them cannot be read."""
    from spaarsist.config import Variant
    from spaarsist.deployment.detect import Listener, Recording
    from spaarsist.deployment.detect import detect as run
    from spaarsist.names import ConfigError

    if json and tsv:
        raise ConfigError("--json and --tsv: one output has one form; name one of them")
    if output and not windows:
        raise ConfigError("--output is the folder of time lines; add --windows, or leave it out")
    names = [path.name for path in file]
    if output and (twice := {name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two recordings are called {min(twice)}, and so would be their time lines; draw them apart")
    chosen = Variant.from_column(variant) if variant is not None else None
    listener = Listener(checkpoint, chosen, calibration, device=device, threads=threads)

    def draw(recording: Recording) -> None:
        from spaarsist.reporting.figures.timeline import timeline

        timeline(recording.parts, output / recording.path.name, recording.name, listener.threshold, listener.model)

    form = "json" if json else "tsv" if tsv else "text"
    if run(listener, file, windows=windows, form=form, draw=draw if output else None):
        raise typer.Exit(1)


@verb(PEOPLE)
def card(
    checkpoint: CheckpointFirst,
    output: OutputFolder,
    metrics: Annotated[list[Path], _files("File of `metrics` of this training")] = [],  # noqa: B006
    calibration: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of `calibrate`, for `detect`'s threshold.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Whose metrics the card shows, e.g. 01-Mag; repeat. Default: as trained.")
    ] = None,
    trained_on: Annotated[str, typer.Option(help="The corpora that it was trained on and selected by, in words.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights, as the hub names it, e.g. mit or cc-by-4.0.")] = "",
    repository: Annotated[str, typer.Option(help="Where it will lie on the hub: user/name.")] = "",
) -> None:
    """Write a checkpoint as a folder for the Hugging Face hub: weights, record, and a model card with the metrics."""
    from spaarsist.config import Variant
    from spaarsist.deployment.card import write_card

    variants = [Variant.from_column(column) for column in variant or ()]
    about = {"trained_on": trained_on, "licence": licence, "repository": repository}
    write_card(checkpoint, output, metrics, calibration, variants, **about)


@verb(PEOPLE)
def export(
    checkpoint: Checkpoint,
    trial_list: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Audio to check the file on.")],
    output: Annotated[Path, typer.Option(help="File to write: .onnx, or .pt2 for torch.export.load."), FILE],
    variant: Annotated[str | None, typer.Option(help="Of an AASIST, e.g. 05 or 01-Mag. Default: as trained.")] = None,
    without_frontend: Annotated[
        bool, typer.Option("--without-frontend", help="Back-end and head, for frames.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Front-end's linear layers as integers; scores the whole list to see the cost."),
    ] = False,
    n_excerpts: Annotated[int, typer.Option(min=2, help="How many excerpts to check the file on.")] = 16,
    threads: Threads = 1,
) -> None:
    """Write one variant of a detector for other runtimes, checked against the checkpoint on real audio."""
    from spaarsist.config import Variant
    from spaarsist.deployment.export import export as run
    from spaarsist.deployment.export import render

    chosen = Variant.from_column(variant) if variant is not None else None
    options = {"with_frontend": not without_frontend, "int8": int8, "n_excerpts": n_excerpts, "threads": threads}
    about = run(checkpoint, trial_list, output, chosen, **options)
    print(render(output, about))


@verb(PEOPLE)
def export_scores(
    scores: InputFile,
    output: Output,
    variant: Annotated[str, typer.Option(help="Score column, e.g. 05 or 01-Mag; score for a back-end without any.")],
) -> None:
    """Write one variant's scores as the official ASVspoof 5 package reads them."""
    from spaarsist.experiments.score import export_scores as run

    run(scores, output, variant)


@verb(PEOPLE)
def import_scores(
    scores: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Table of names and scores.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Table of names and labels.")],
    output: Output,
    trial_list: Annotated[Path, typer.Option(help="Trial list to write; it goes with the scores."), FILE],
    system: Annotated[str, typer.Option(help="Name of the system that made them, e.g. Mine.")],
    corpus: Corpus = "",
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="Seed of its training.")] = 0,
) -> None:
    """Take over scores and key, as the ASVspoof 5 package reads them or `evaluate` does, into files of this package."""
    from spaarsist.experiments.score import import_scores as run

    run(scores, key, output, trial_list, system, corpus=corpus, seed=seed)


# ---------------------------------------------------------------- corpora and trial lists


@verb(CORPORA)
def mini_corpora(
    output: OutputFolder,
    cache: Annotated[Path, typer.Option(help="Where fetched recordings are kept.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Build the embedded mini corpora from real recordings and real spoofing methods."""
    from spaarsist.data.mini.build import build_mini

    build_mini(output, cache, jobs=jobs)


@verb(CORPORA)
def synthetic_corpora(output: OutputFolder) -> None:
    """Build made-up signals in the corpora's layout: offline, for trying the workflow and for tests."""
    from spaarsist.data.mini.build import build_synthetic

    build_synthetic(output)


@verb(CORPORA)
def fetch(
    downloads: Annotated[str, typer.Option(help="The downloads section: JSON, or a YAML file holding it.")],
    release: Annotated[str, typer.Option(help="Name of the release.")],
    receipt: Annotated[Path, typer.Option(help="JSON to write: what lies where, and its checksums."), FILE],
    jobs: Annotated[int, typer.Option(min=1, help="Files at a time.")] = 4,
    offline: Annotated[bool, typer.Option("--offline", help="No network: missing files are errors.")] = False,
) -> None:
    """Fetch the files of a release and verify them; those that are there already are verified and used."""
    from spaarsist.config import Release, parse
    from spaarsist.data.corpora import fetch as run

    releases = {name: parse(Release, section) for name, section in parse(dict[str, dict], downloads).items()}
    run(releases, release, receipt, offline=offline, jobs=jobs)


@verb(CORPORA)
def index(archive: Annotated[Path, typer.Option(help="A .tar or .zip.")], output: Output) -> None:
    """List the recordings in an archive, with their places and lengths, so that they are read without unpacking."""
    from spaarsist.data.protocol import make_index

    make_index(archive, output)


@verb(CORPORA)
def trials(
    protocol: Annotated[Path, typer.Option(help="The official trial list: a file, or <archive>::<file within it>.")],
    form: Annotated[str, typer.Option("--format", help="asvspoof5, asvspoof2019, asvspoof2021, in_the_wild or list.")],
    audio: Annotated[list[Path], typer.Option(help="Folder, .tar, .zip, or index (.tsv) of one; repeat for more.")],
    output: Output,
    expected: Annotated[int, typer.Option(min=0, help="Number of trials the release has; 0 = unknown.")] = 0,
    checksum: Annotated[str, typer.Option(help="md5:... or sha256:... of the protocol; empty = unknown.")] = "",
    subset: Annotated[str, typer.Option(help="Of asvspoof2021: progress, eval or hidden. Default: all.")] = "",
) -> None:
    """Turn a protocol and the recordings that it names into one checked trial list."""
    from spaarsist.config import ConfigError
    from spaarsist.data.protocol import READERS, make_trials

    if form not in READERS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(READERS)}")
    make_trials(protocol, form, audio, output, expected, checksum, subset)


# ---------------------------------------------------------------- training and scoring


@verb(RUNS)
def preflight(
    settings: Annotated[str, typer.Option(help="Settings of the whole run: JSON, or a YAML file.")],
    output: Annotated[Path, typer.Option(help="TSV to write: quantity, value, unit, how."), FILE],
) -> None:
    """Try one batch of every step, forecast hours and disk of the whole run, and stop if it will not fit."""
    from spaarsist.audit.preflight import preflight as run
    from spaarsist.config import call, read_mapping

    call(run, read_mapping(settings) | {"output": output})


@verb(RUNS)
def features(
    trial_list: InputFile,
    output: Annotated[Path, typer.Option(help="Folder of the cache; gets part<k>.npy and part<k>.json."), FOLDER],
    recipe: Recipe,
    view: Annotated[int | None, typer.Option(min=0, help="Of the training draws. Default: fixed excerpts.")] = None,
    part: Annotated[int, typer.Option(min=0, help="Which part, from 0.")] = 0,
    parts: Annotated[int, typer.Option(min=1, help="Parts in all.")] = 1,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Compute a part of the cache of a frozen front-end's frames; one that is there already is kept."""
    from spaarsist.config import TrainingRecipe, parse
    from spaarsist.experiments.features import make_part

    how = {"batch_size": batch_size, "device": device, "threads": threads, "workers": workers}
    make_part(trial_list, parse(TrainingRecipe, recipe), output, part, parts, view, **how)


@verb(RUNS)
def features_space(
    train_list: InputFile,
    recipe: Recipe,
    directory: Annotated[Path, typer.Option(help="Folder of the caches.")],
    output: Annotated[Path, typer.Option(help="Text file to write: need and free space."), FILE],
    dev_list: OptionalFile = None,
) -> None:
    """Compare what the caches of frames will take with the free disk space."""
    from spaarsist.config import TrainingRecipe, parse
    from spaarsist.experiments.features import check_space

    check_space(train_list, dev_list, parse(TrainingRecipe, recipe), directory, output)


@verb(RUNS)
def train(
    train_list: InputFile,
    dev_list: InputFile,
    output: OutputFolder,
    system: Annotated[str, typer.Option(help="Name of the training: AST-<k_train> for AASIST, or a free one.")],
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED)],
    recipe: Recipe = "{}",
    train_features: OptionalFolder = None,
    dev_features: OptionalFolder = None,
    processes: Annotated[int, typer.Option(min=1, help="GPUs of this machine that share each batch.")] = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Train one detector in two stages. A killed run resumes when called again; a finished one is kept."""
    if processes > 1 and "LOCAL_RANK" not in os.environ:
        # The launcher would answer a SIGTERM by giving its processes 30 s; they answer it themselves
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launcher += ["--signals-to-handle", "SIGINT,SIGHUP,SIGQUIT", "-m", "spaarsist"]
        os.execv(sys.executable, [sys.executable, "-m", *launcher, *sys.argv[1:]])
    from spaarsist.config import TrainingRecipe, parse
    from spaarsist.experiments.train import train as run

    caches = {"train_features": train_features, "dev_features": dev_features}
    how = {"device": device, "threads": threads, "workers": workers}
    run(train_list, dev_list, output, system, parse(TrainingRecipe, recipe), seed, **caches, **how)


@verb(RUNS)
def score(
    checkpoint: Checkpoint,
    trial_list: InputFile,
    output: Output,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Of an AASIST, e.g. 05, 01-Mag or 05+stack1; repeat for more. Default: as trained."),
    ] = None,
    corpus: Corpus = "",
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Score a trial list with every variant of a checkpoint in one pass; columns that are there already are kept."""
    from spaarsist.config import Variant
    from spaarsist.experiments.score import score as run

    variants = [Variant.from_column(column) for column in variant or ()]
    how = {"batch_size": batch_size, "device": device, "threads": threads, "workers": workers}
    run(checkpoint, trial_list, output, variants, corpus=corpus, **how)


@verb(RUNS)
def adopt(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file of torch or safetensors.")],
    frontend: Annotated[str, typer.Option(help="Model that its front-end was tuned from: folder or Hugging Face id.")],
    output: OutputFolder,
    revision: Annotated[str, typer.Option(help="Commit of the Hugging Face repository.")] = "",
    k_train: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of nodes that it kept in training. Default: as its code has it."),
    ] = None,
) -> None:
    """Turn a public checkpoint of AASIST on self-supervised features into one that every verb here takes."""
    from spaarsist.models.public import adopt as run

    print(*run(file, frontend, output, revision, k_train), sep="\n")


# ---------------------------------------------------------------- what scores are worth


@verb(WORTH)
def evaluate(
    scores: Annotated[list[Path], _files("Table of names and scores, or a score file (Parquet)")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Table of names and labels, or a trial list.")],
    output: OutputFolder,
    cost_model: Costs = "{}",
    bootstrap: Annotated[int, typer.Option(min=2, help="Resamples for intervals and tests.")] = 1000,
    confidence: Confidence = 0.95,
    threads: Threads = 2,
) -> None:
    """Evaluate systems of which only scores are known: metrics, paired tests, DET curves, histograms."""
    from spaarsist.artefacts import writing
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.side_by_side import evaluate_systems, read_systems
    from spaarsist.reporting.figures.scores import draw_side_by_side
    from spaarsist.reporting.overview import evaluated

    cost = parse(CostModel, cost_model)
    systems = read_systems(scores, key)
    found = evaluate_systems(systems, cost, bootstrap, confidence, threads=threads)
    for name, table in found._asdict().items():
        with writing(output / f"{name}.tsv") as path:
            table.to_csv(path, sep="\t", index=False, float_format="%.10g")
    draw_side_by_side(systems, key.stem, output, cost)
    print(evaluated(found, confidence, bootstrap))


@verb(WORTH)
def metrics(
    scores: InputFile,
    trial_list: InputFile,
    output: Output,
    replicates: Annotated[Path, typer.Option(help="Parquet to write: the pooled metrics of every resample."), FILE],
    cost_model: Costs = "{}",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals.")] = 1000,
    confidence: Confidence = 0.95,
    threads: Threads = 1,
) -> None:
    """Compute EER, minDCF, actDCF, Cllr and ECE with intervals: pooled, per attack, per codec."""
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.evaluate import evaluate

    cost = parse(CostModel, cost_model)
    evaluate(scores, trial_list, output, replicates, cost, bootstrap, confidence, threads=threads)


@verb(WORTH)
def compare(
    metrics: MetricsFiles,
    replicates: Replicates,
    pair: Annotated[list[str], typer.Option(help="<system>/<what it is compared with>; repeat for more.")],
    output: Output,
    confidence: Confidence = 0.95,
) -> None:
    """Test differences between systems over trials, speakers and training seeds; Holm-corrected."""
    from spaarsist.evaluation.comparison import compare as run

    run(metrics, replicates, [_halves("pair", text, "/") for text in pair], output, confidence)


@verb(WORTH)
def equivalence(
    metrics: MetricsFiles,
    replicates: Replicates,
    questions: Annotated[str, typer.Option(help="JSON or a YAML file: {questions: the section of that name}.")],
    output: Output,
    confidence: Confidence = 0.95,
) -> None:
    """Test whether systems are as good as others, within margins that were declared before (two one-sided tests)."""
    from spaarsist.config import Question, parse, read_mapping
    from spaarsist.evaluation.comparison import answer

    section = read_mapping(questions).get("questions", [])
    asked = [parse(Question, question, f"questions[{place}]") for place, question in enumerate(section)]
    answer(metrics, replicates, asked, output, confidence)


@verb(WORTH)
def calibrate(
    dev_scores: InputFile,
    dev_list: InputFile,
    scores: ScoreFiles,
    trial_list: TrialLists,
    output: Output,
    cost_model: Costs = "{}",
) -> None:
    """Calibrate on the development scores of a training, and apply that and its thresholds to other corpora."""
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.calibration import calibrate as run

    lists = {name: Path(path) for name, path in (_halves("trial-list", text, "=") for text in trial_list)}
    run(dev_scores, dev_list, scores, lists, output, parse(CostModel, cost_model))


@verb(WORTH)
def changes(
    scores: ScoreFiles,
    trial_list: TrialLists,
    calibration: Annotated[list[Path], _files("File of `calibrate`")],
    reference: Annotated[str, typer.Option(help="System as it was trained, e.g. AST-05-05.")],
    output: Output,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals.")] = 200,
    confidence: Confidence = 0.95,
    threads: Threads = 1,
) -> None:
    """Compare the variants of a training with it as trained, trial by trial: scores, their order, decisions."""
    from spaarsist.evaluation.changes import measure

    lists = {name: Path(path) for name, path in (_halves("trial-list", text, "=") for text in trial_list)}
    measure(scores, lists, calibration, reference, output, bootstrap, confidence, threads=threads)


@verb(WORTH)
def summary(
    metrics: MetricsFiles,
    complexity: Annotated[list[Path], _files("File of `complexity`")],
    output: Output,
    replicates: Replicates = [],  # noqa: B006 - typer copies it
    as_run: Annotated[list[Path], _files("File of `complexity` at the size of this run")] = [],  # noqa: B006
    scores: ScoreFiles = [],  # noqa: B006
    confidence: Confidence = 0.95,
) -> None:
    """Gather size and metrics of every system, averaged over training seeds, in one table."""
    from spaarsist.evaluation.summary import summarise

    summarise(metrics, complexity, as_run, scores, replicates, output, confidence)


@verb(WORTH)
def composite(
    summary: InputFile,
    corpus: Annotated[list[str], typer.Option(help="Name of a corpus, the in-domain one first; repeat for more.")],
    system: Systems,
    output: Output,
    sensitivity: Annotated[Path, typer.Option(help="TSV of how often each system takes each rank."), FILE],
    replicates: Replicates = [],  # noqa: B006
    weights: Annotated[str, typer.Option(help="The composite section: JSON, or a YAML file holding it.")] = "{}",
    draws: Annotated[int, typer.Option(min=1, help="Random weightings.")] = 10_000,
    confidence: Confidence = 0.95,
) -> None:
    """Rank systems by a weighted geometric mean of their ratios to the baseline, and say how sure the ranks are."""
    from spaarsist.config import CompositeWeights, parse
    from spaarsist.evaluation.composite import composite as run

    weighing = parse(CompositeWeights, weights)
    run(summary, replicates, corpus, system, weighing, output, sensitivity, draws, confidence=confidence)


# ---------------------------------------------------------------- a look inside


@verb(INSIDE)
def complexity(
    output: Output,
    breakdown: Annotated[Path, typer.Option(help="TSV of MACs by module and by operator."), FILE],
    system: Systems,
    backends: Annotated[str, typer.Option(help="The backends section: JSON, or a YAML file holding it.")] = "{}",
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_layers: Annotated[int, typer.Option(min=1)] = 24,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    checkpoint: Annotated[Path | None, typer.Option(help="As `score` takes it."), CHECKPOINT] = None,
) -> None:
    """Count parameters and MACs of each system's back-end as it would ship; at a checkpoint's size if one is given."""
    from spaarsist.audit.complexity import Size, size_of, write_complexity
    from spaarsist.config import BackendConfig, parse

    size = size_of(checkpoint) if checkpoint else Size(feature_dim, n_layers, embedding_dim, n_frames)
    others = {name: parse(BackendConfig, section) for name, section in parse(dict[str, dict], backends).items()}
    write_complexity(output, breakdown, system, size, others)


@verb(INSIDE)
def inspect(
    checkpoint: Checkpoint,
    trial_list: InputFile,
    scores: InputFile,
    output: Annotated[Path, typer.Option(help="Folder to write."), FOLDER],
    k_infer: Annotated[list[float], typer.Option(min=0, max=1, help="Share of nodes kept; repeat for more.")],
    stack_temperature: Annotated[list[float], typer.Option(help="Of the stack node's attention; repeat.")],
    trials_per_class: Annotated[int, typer.Option(min=0, help="Trials to look into; 0 = all.")] = 0,
    corpus: Corpus = "",
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Look into a trained AASIST: which nodes learned and magnitude scoring keep, what the stack node attends to."""
    from spaarsist.audit.nodes import inspect as run

    how = {"batch_size": batch_size, "device": device, "threads": threads, "workers": workers}
    options = (k_infer, stack_temperature, trials_per_class)
    run(checkpoint, trial_list, scores, output, *options, corpus=corpus, **how)


@verb(INSIDE)
def probe(
    checkpoint: Annotated[list[Path], typer.Option(help="Of an AASIST, as `score` takes it; repeat."), CHECKPOINT],
    trial_list: InputFile,
    output: Annotated[Path, typer.Option(help="Folder to write."), FOLDER],
    k_infer: Annotated[list[float], typer.Option(min=0, max=1, help="Share of nodes kept; repeat for more.")],
    clips_per_class: Annotated[int, typer.Option(min=1, help="Clips of each class to take.")] = 60,
    corpus: Corpus = "",
    confidence: Confidence = 0.95,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Probe trained AASISTs: are nodes that were spoofed on purpose kept, and those at the edges of excerpts?"""
    from spaarsist.audit.probes import probe as run

    how = {"batch_size": batch_size, "device": device, "threads": threads, "workers": workers}
    options = (k_infer, clips_per_class)
    run(checkpoint, trial_list, output, *options, corpus=corpus, confidence=confidence, **how)


@verb(INSIDE)
def findings(
    output: Output,
    record: Annotated[list[Path], _files("model.json of a training")],
    checkpoint: Checkpoint,
    dev_list: InputFile,
    inspected: Annotated[list[Path], typer.Option(exists=True, help="Folder of `inspect`; repeat for more.")] = [],  # noqa: B006
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Measure what trainings show: noise of random crops, stages that lose, stack attention against a mean."""
    from spaarsist.audit.findings import measure

    histories = [path.parent / "history.tsv" for path in record]
    measure(output, histories, checkpoint, dev_list, inspected, device=device, threads=threads)


@verb(INSIDE)
def benchmark(
    name: Name,
    settings: Settings = "{}",
    output: Annotated[Path | None, typer.Option(), FILE] = None,
) -> None:
    """Time something on this machine: backend, training, detector or scoring; write a TSV."""
    _make("benchmark", name, settings, output=output)


# ---------------------------------------------------------------- tables, figures, report


@verb(REPORTING)
def provenance(
    scores: ScoreFiles,
    output: Output,
    config_hash: Annotated[str, typer.Option(help="Hash of the configuration that made the scores.")],
) -> None:
    """Gather what made a set of score files: code, configuration, seeds, corpora, versions; tables end with it."""
    from spaarsist.artefacts import write_provenance

    write_provenance(scores, output, config_hash)


@verb(REPORTING)
def table(name: Name, settings: Settings = "{}", output_stem: Stem = None) -> None:
    """Write one table, as TSV, Markdown, LaTeX and HTML."""
    _make("table", name, settings, output_stem=output_stem)


@verb(REPORTING)
def figure(name: Name, settings: Settings = "{}", output_stem: Stem = None) -> None:
    """Draw one figure, as PNG, PDF and the TSV of what it shows."""
    _make("figure", name, settings, output_stem=output_stem)


@verb(REPORTING)
def report(settings: Settings, output: Annotated[Path, typer.Option(help="PDF to write."), FILE]) -> None:
    """Fill the replication report with a run's numbers and make its PDF (latexmk or tectonic)."""
    from spaarsist.config import call, read_mapping
    from spaarsist.plan import in_checkout
    from spaarsist.reporting.report import write_report

    call(write_report, in_checkout("report") | read_mapping(settings) | {"output": output})


@verb(REPORTING)
def publish(
    file: Annotated[list[Path], _files("Result to release")],
    scores: ScoreFiles,
    results: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The experiment's folder.")],
    output: OutputFolder,
) -> None:
    """Copy finished results into one folder, with a record of code, versions, machine and times."""
    from spaarsist.artefacts import publish as run
    from spaarsist.plan import MAKERS

    made_by = {
        f"{kind}s/{name}": f"src/spaarsist/{function.rpartition('.')[0].replace('.', '/')}.py"
        for kind, makers in MAKERS.items()
        for name, (_, function) in makers.items()
    }
    run(file, scores, results, output, made_by)


def _halves(option: str, text: str, separator: str) -> tuple[str, str]:
    from spaarsist.names import ConfigError

    first, _, second = text.partition(separator)
    if not first or not second:
        raise ConfigError(f"--{option} {text}: expected two names with {separator} between them")
    return first, second


def _make(kind: str, name: str, settings: str, **output: Path | None) -> None:
    """Call the function that makes a table, a figure or a benchmark."""
    from spaarsist.artefacts import footer
    from spaarsist.config import ConfigError, call, read_mapping
    from spaarsist.plan import MAKERS, in_checkout

    known = MAKERS[kind]
    if name == "list":
        print(*(f"{known_name:20} {title}" for known_name, (title, _) in known.items()), sep="\n")
        return
    if name not in known:
        raise ConfigError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    if missing := [option for option, path in output.items() if path is None]:
        raise ConfigError(f"{kind} {name}: --{missing[0].replace('_', '-')} says where it goes; name it")
    arguments = in_checkout(f"{kind}_{name}") | read_mapping(settings) | output
    if made_by := arguments.pop("provenance", None):
        arguments["footer"] = footer(Path(made_by))
    module, _, function = known[name][1].rpartition(".")
    call(getattr(import_module(f"spaarsist.{module}"), function), arguments)


def main() -> None:
    """Run the command line; bad input and failing disks end in one line and exit code 1, not in a traceback."""
    from spaarsist.names import ConfigError

    try:
        app()
    except ConfigError as error:
        complaint = str(error)
    except OSError as error:
        reason = error.strerror or str(error).strip().rpartition("\n")[2] or type(error).__name__
        complaint = f"{error.filename2 or error.filename or 'a file'}: {reason}{DISK.get(error.errno, '')}"
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        # torch has its own ways to say it, on the CPU and on a GPU
        if not isinstance(error, MemoryError) and not re.search("can't allocate memory|out of memory", said):
            raise
        complaint = f"not enough memory ({said or type(error).__name__}); ask for less at once"
    print(f"spaarsist: {complaint}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
