"""The command line: `python -m spaarsist <verb>`. One verb per workflow rule, and a few for people.

Verbs parse, call and exit; what they import, they import when called. Exit codes: 0 done, 1 bad input or configuration
(one line on stderr says what and where), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from spaarsist.config import BackendConfig

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Replication of SpAArSIST: sparsified AASIST back-ends for speech anti-spoofing.",
)
figure = typer.Typer(no_args_is_help=True, help="Draw one figure, as PNG, PDF and the TSV of what it shows.")
app.add_typer(figure, name="figure")
table = typer.Typer(no_args_is_help=True, help="Write one table, as TSV, Markdown, LaTeX and HTML.")
app.add_typer(table, name="table")
benchmark = typer.Typer(no_args_is_help=True, help="Measure speed on this machine; write a TSV.")
app.add_typer(benchmark, name="benchmark")

InputFile = Annotated[Path, typer.Option(exists=True, dir_okay=False)]
InputFiles = Annotated[list[Path], typer.Option(exists=True, dir_okay=False)]
InputFolder = Annotated[Path, typer.Option(exists=True, file_okay=False)]
Output = Annotated[Path, typer.Option()]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads; equal numbers give equal results.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read audio; results do not depend on it.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the arithmetic is done.")]
Recipe = Annotated[str, typer.Option(help="The training section: JSON, or a YAML file holding it.")]
OutputStem = Annotated[Path, typer.Option(help="Path of the outputs without their endings.")]
Corpora = Annotated[list[str], typer.Option("--corpus", help="<name>=<title>; repeat for more.")]
CostModelOption = Annotated[str, typer.Option(help="The cost_model section: JSON, or a YAML file holding it.")]
Confidence = Annotated[float, typer.Option(min=0, max=1, help="Coverage of the intervals.")]
Systems = Annotated[
    list[str], typer.Option("--system", help="System name, e.g. AST-03-01-Mag or MHFA; repeat for more.")
]
Backends = Annotated[
    str, typer.Option(help="The backends section (name to kind and options): JSON, or a YAML file holding it.")
]
TrialLists = Annotated[list[str], typer.Option("--trial-list", help="<corpus>=<trial list>; repeat for more.")]
Comparisons = Annotated[
    list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Files of `compare`; repeat for more.")
]
ComparisonsFile = Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File of `compare`.")]
Provenance = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="File of `provenance`, for the footer.")
]
Reference = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="Python file with the textbook back-end: a class `Reference`.")
]
Rounds = Annotated[int, typer.Option(min=1, help="Turns of everything that is compared.")]
Inspected = Annotated[list[Path], typer.Option(exists=True, file_okay=False, help="Folder of `inspect`; repeat.")]
Calibrations = Annotated[
    list[Path], typer.Option("--calibration", exists=True, dir_okay=False, help="File of `calibrate`; repeat.")
]
Steps = Annotated[
    str, typer.Option(help='JSON: [[title, system, what it departs from], ...]; ["# heading", "", ""] between them.')
]
Label = Annotated[str, typer.Option(help="A line shown above the result, e.g. on what data it was made.")]


@app.command()
def mini_corpora(
    output: Output,
    cache: Annotated[Path, typer.Option(help="Where fetched recordings are kept.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Build the embedded mini corpora from real recordings and real spoofing methods."""
    from spaarsist.data.mini.build import build_mini

    build_mini(output, cache, jobs=jobs)


@app.command()
def synthetic_corpora(output: Output) -> None:
    """Build made-up signals in the corpora's layout: offline, for trying the workflow and for tests."""
    from spaarsist.data.mini.build import build_synthetic

    build_synthetic(output)


@app.command()
def fetch(
    downloads: Annotated[str, typer.Option(help="The downloads section: JSON, or a YAML file holding it.")],
    release: Annotated[str, typer.Option(help="Which of them.")],
    receipt: Annotated[Path, typer.Option(help="JSON to write: what lies where, and its checksums.")],
    jobs: Annotated[int, typer.Option(min=1, help="Files at a time.")] = 4,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never use the network: missing files are errors.")
    ] = False,
) -> None:
    """Fetch the files of a release and verify them; those that are there already are verified and used."""
    from spaarsist.config import Release, parse
    from spaarsist.data.corpora import fetch as run

    releases = {name: parse(Release, section) for name, section in parse(dict[str, dict], downloads).items()}
    run(releases, release, receipt, offline=offline, jobs=jobs)


@app.command()
def index(
    archive: Annotated[Path, typer.Option(help="A .tar or .zip.")],
    output: Output,
) -> None:
    """List the recordings in an archive, with their places and lengths, so that they can be read without unpacking."""
    from spaarsist.data.protocol import make_index

    make_index(archive, output)


@app.command()
def trials(
    protocol: Annotated[
        Path, typer.Option(help="The corpus's official trial list: a file, or <archive>::<file within it>.")
    ],
    form: Annotated[str, typer.Option("--format", help="asvspoof5, in_the_wild or list.")],
    audio: Annotated[
        list[Path],
        typer.Option(help="Its recordings: a folder, a .tar or .zip, or the index (.tsv) of one; repeat for more."),
    ],
    output: Output,
    expected: Annotated[int, typer.Option(min=0, help="Number of trials the release has; 0 = unknown.")] = 0,
    checksum: Annotated[str, typer.Option(help="md5:... or sha256:... of the protocol; empty = unknown.")] = "",
) -> None:
    """Turn a protocol and the recordings that it names into one checked trial list."""
    from spaarsist.data.protocol import READERS, make_trials
    from spaarsist.names import ConfigError

    if form not in READERS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(READERS)}")
    make_trials(protocol, form, audio, output, expected, checksum)


@app.command()
def features(
    trial_list: InputFile,
    output: Annotated[Path, typer.Option(help="Folder of the cache; gets part<k>.npy and part<k>.json.")],
    recipe: Recipe,
    view: Annotated[
        int | None, typer.Option(min=0, help="Which view of the training draws. Default: fixed excerpts.")
    ] = None,
    part: Annotated[int, typer.Option(min=0, help="Which part, from 0.")] = 0,
    parts: Annotated[int, typer.Option(min=1, help="Parts in all.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Compute a part of the cache of a frozen front-end's frames."""
    from spaarsist import config
    from spaarsist.experiments.features import make_part

    settings = config.parse(config.TrainingRecipe, recipe)
    make_part(
        trial_list,
        settings,
        output,
        part,
        parts,
        view,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )


@app.command()
def features_space(
    train_list: InputFile,
    recipe: Recipe,
    directory: Annotated[Path, typer.Option(help="Folder of the caches.")],
    output: Annotated[Path, typer.Option(help="Text file to write: need and free space.")],
    dev_list: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="If it is cached too.")] = None,
) -> None:
    """Compare what the caches of frames will take with the free disk space."""
    from spaarsist import config
    from spaarsist.experiments.features import check_space

    check_space(train_list, dev_list, config.parse(config.TrainingRecipe, recipe), directory, output)


@app.command()
def train(
    train_list: InputFile,
    dev_list: InputFile,
    output: Output,
    system: Annotated[str, typer.Option(help="Name of the training: AST-<k_train> for AASIST, or a free one.")],
    seed: Annotated[int, typer.Option(min=0)],
    recipe: Recipe = "{}",
    train_features: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Cache of training views: view0, view1, ...")
    ] = None,
    dev_features: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Cache of development frames.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="GPUs of this machine that share each batch.")] = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Train one detector in two stages; a killed run resumes when called again. Exit code 143: told to stop, saved."""
    if processes > 1 and "LOCAL_RANK" not in os.environ:
        # The launcher would answer a SIGTERM by giving its processes 30 s; they answer it themselves
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launcher += ["--signals-to-handle", "SIGINT,SIGHUP,SIGQUIT", "-m", "spaarsist"]
        os.execv(sys.executable, [sys.executable, "-m", *launcher, *sys.argv[1:]])
    from spaarsist import config
    from spaarsist.experiments.train import train as run

    settings = config.parse(config.TrainingRecipe, recipe)
    run(
        train_list,
        dev_list,
        output,
        system,
        settings,
        seed,
        train_features=train_features,
        dev_features=dev_features,
        device=device,
        threads=threads,
        workers=workers,
    )


@app.command()
def score(
    checkpoint: InputFolder,
    trial_list: InputFile,
    output: Output,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant of an AASIST, e.g. 05, 01-Mag or 05+stack1; repeat for more. Default: as trained."),
    ] = None,
    corpus: Annotated[str, typer.Option(help="Name of the corpus; default: the trial list's.")] = "",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Score a trial list with every variant of a checkpoint, in one pass over the audio."""
    from spaarsist.experiments.score import score as run
    from spaarsist.names import Variant

    variants = [Variant.from_column(column) for column in variant or ()]
    run(
        checkpoint,
        trial_list,
        output,
        variants,
        corpus=corpus,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )


@app.command()
def export_scores(
    scores: InputFile,
    output: Output,
    variant: Annotated[str, typer.Option(help="Score column, e.g. 05 or 01-Mag; score for a back-end without any.")],
) -> None:
    """Write one variant's scores as the official ASVspoof 5 package reads them."""
    from spaarsist.experiments.score import export_scores as run

    run(scores, output, variant)


@app.command()
def export(
    checkpoint: InputFolder,
    trial_list: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Audio to check the file on.")],
    output: Annotated[Path, typer.Option(help="File to write: .onnx, or .pt2 for torch.export.load.")],
    variant: Annotated[
        str | None, typer.Option(help="Variant of an AASIST, e.g. 05 or 01-Mag. Default: as trained.")
    ] = None,
    without_frontend: Annotated[
        bool, typer.Option("--without-frontend", help="Back-end and head alone, for frames.")
    ] = False,
    n_excerpts: Annotated[int, typer.Option(min=2, help="How many excerpts to check the file on.")] = 16,
    threads: Threads = 1,
) -> None:
    """Write one variant of a detector for other runtimes, checked against the checkpoint on real audio."""
    from spaarsist.deployment.export import export as run
    from spaarsist.names import Variant

    chosen = Variant.from_column(variant) if variant is not None else None
    options = {"with_frontend": not without_frontend, "n_excerpts": n_excerpts, "threads": threads}
    difference = run(checkpoint, trial_list, output, chosen, **options)
    print(f"{output}: scores of {n_excerpts} excerpts are the checkpoint's to within {difference:.1e} nats")


@app.command()
def metrics(
    scores: InputFile,
    trial_list: InputFile,
    output: Output,
    replicates: Annotated[Path, typer.Option(help="Parquet to write: the pooled metrics of every resample.")],
    cost_model: CostModelOption = "{}",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals.")] = 1000,
    confidence: Confidence = 0.95,
    threads: Threads = 1,
) -> None:
    """Compute EER, minDCF, actDCF, Cllr and ECE with intervals: pooled, per attack, per codec."""
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.evaluate import evaluate

    cost = parse(CostModel, cost_model)
    evaluate(scores, trial_list, output, replicates, cost, bootstrap, confidence, threads=threads)


@app.command()
def compare(
    metrics: InputFiles,
    replicates: InputFiles,
    pair: Annotated[list[str], typer.Option(help="<system>/<what it is compared with>; repeat for more.")],
    output: Output,
    confidence: Confidence = 0.95,
) -> None:
    """Test differences between systems on the same trials, over trials, speakers and training seeds; Holm-corrected."""
    from spaarsist.evaluation.comparison import compare as run

    pairs = [(system, reference) for system, _, reference in (text.partition("/") for text in pair)]
    run(metrics, replicates, pairs, output, confidence)


@app.command()
def calibrate(
    dev_scores: InputFile,
    dev_list: InputFile,
    scores: InputFiles,
    trial_list: TrialLists,
    output: Output,
    cost_model: CostModelOption = "{}",
) -> None:
    """Calibrate on the development scores of a training, and see what that does, and its thresholds, elsewhere."""
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.calibration import calibrate as run

    run(dev_scores, dev_list, scores, _paths(trial_list), output, parse(CostModel, cost_model))


@app.command()
def inspect(
    checkpoint: InputFolder,
    trial_list: InputFile,
    scores: InputFile,
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    k_infer: Annotated[list[float], typer.Option(min=0, max=1, help="Share of nodes kept; repeat for more.")],
    stack_temperature: Annotated[list[float], typer.Option(help="Of the stack node's attention; repeat.")],
    trials_per_class: Annotated[int, typer.Option(min=0, help="Trials to look into; 0 = all.")] = 0,
    corpus: Annotated[str, typer.Option(help="Name of the corpus; default: the trial list's.")] = "",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Look into a trained AASIST: which nodes learned and magnitude scoring keep, what the stack node attends to."""
    from spaarsist.audit.nodes import inspect as run

    run(
        checkpoint,
        trial_list,
        scores,
        output,
        k_infer,
        stack_temperature,
        trials_per_class,
        corpus=corpus,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )


@app.command()
def complexity(
    output: Output,
    breakdown: Annotated[Path, typer.Option(help="TSV of MACs by module and by operator.")],
    system: Systems,
    backends: Backends = "{}",
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_layers: Annotated[int, typer.Option(min=1)] = 24,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    checkpoint: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Take all four sizes from this one.")
    ] = None,
) -> None:
    """Count parameters and MACs of each system's back-end as it would ship."""
    from spaarsist.audit.complexity import Size, size_of, write_complexity

    size = size_of(checkpoint) if checkpoint else Size(feature_dim, n_layers, embedding_dim, n_frames)
    write_complexity(output, breakdown, system, size, _backends(backends))


@app.command()
def latency(
    output: Output,
    system: Systems,
    backends: Backends = "{}",
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_layers: Annotated[int, typer.Option(min=1)] = 24,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of every system.")] = 15,
) -> None:
    """Time each system's back-end on one excerpt, on the CPU, in turns."""
    from spaarsist.audit.complexity import Size, write_latency

    size = Size(feature_dim, n_layers, embedding_dim, n_frames)
    write_latency(output, system, size, _backends(backends), threads, rounds)


@app.command()
def findings(
    output: Output,
    record: Annotated[list[Path] | None, typer.Option(exists=True, help="model.json of a training; repeat.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Detector for F8.")] = None,
    dev_list: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its development list.")] = None,
) -> None:
    """Measure each place where the paper's text and its released code part (F1 to F11)."""
    from spaarsist.audit.findings import measure

    histories = [path.parent / "history.tsv" for path in record or ()]
    measure(output, histories=histories, checkpoint=checkpoint, dev_list=dev_list)


@app.command()
def provenance(
    scores: InputFiles,
    output: Output,
    config_hash: Annotated[str, typer.Option(help="Of the configuration that the scores were made with.")],
) -> None:
    """Gather what made a set of score files: code, configuration, seeds, corpora, versions; tables name it below."""
    from spaarsist.artefacts import write_provenance

    write_provenance(scores, output, config_hash)


@app.command()
def summary(
    metrics: InputFiles,
    complexity: InputFiles,
    output: Output,
    replicates: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Of `metrics`, for intervals over seeds.")
    ] = None,
    latency: Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False)] = None,
    as_run: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Complexity at the size of this run.")
    ] = None,
    scores: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Score files, for the hash of their code.")
    ] = None,
    confidence: Confidence = 0.95,
) -> None:
    """Gather size, speed and metrics of every system, averaged over training seeds, in one table."""
    from spaarsist.evaluation.summary import summarise

    summarise(metrics, complexity, latency or [], as_run or [], scores or [], replicates or [], output, confidence)


@app.command()
def composite(
    summary: InputFile,
    corpus: Annotated[list[str], typer.Option(help="Name of a corpus, the in-domain one first; repeat for more.")],
    system: Systems,
    output: Output,
    sensitivity: Annotated[Path, typer.Option(help="TSV of how often each system takes each rank.")],
    weights: Annotated[str, typer.Option(help="The composite section: JSON, or a YAML file holding it.")] = "{}",
    draws: Annotated[int, typer.Option(min=1, help="Random weightings.")] = 10_000,
) -> None:
    """Rank systems by a weighted geometric mean of their ratios to the baseline, and by random weightings."""
    from spaarsist.config import CompositeWeights, parse
    from spaarsist.evaluation.selection import composite as run

    run(summary, corpus, system, parse(CompositeWeights, weights), output, sensitivity, draws)


@table.command()
def systems(
    summary: InputFile,
    composite: InputFile,
    kind: Annotated[str, typer.Option(help="table1, table2 or temperature.")],
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    comparisons: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of `compare`, for the stars.")
    ] = None,
    label: Label = "",
    cost_model: CostModelOption = "{}",
    confidence: Confidence = 0.95,
    provenance: Provenance = None,
) -> None:
    """Systems: size, compute, metrics, composite score."""
    from spaarsist.artefacts import footer
    from spaarsist.config import CostModel, parse
    from spaarsist.reporting.tables.systems import write_table

    cost = parse(CostModel, cost_model)
    corpora = _pairs(corpus)
    made = footer(provenance)
    write_table(summary, composite, kind, system, corpora, output_stem, label, cost, confidence, comparisons, made)


@table.command()
def differences(
    summary: InputFile,
    comparisons: ComparisonsFile,
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
    confidence: Confidence = 0.95,
    provenance: Provenance = None,
) -> None:
    """Differences to the baseline, with intervals over trials and speakers, and tests."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.tables.differences import write_differences

    made = footer(provenance)
    write_differences(summary, comparisons, system, _pairs(corpus), output_stem, label, made, confidence)


@table.command()
def ablation(
    summary: InputFile,
    comparisons: ComparisonsFile,
    steps: Steps,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
    provenance: Provenance = None,
) -> None:
    """One change at a time: what each does to errors, compute and latency."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.tables.differences import write_ablation

    write_ablation(summary, comparisons, _steps(steps), _pairs(corpus), output_stem, label, footer(provenance))


@table.command()
def nodes(
    inspected: Inspected, corpus: Corpora, output_stem: OutputStem, label: Label = "", provenance: Provenance = None
) -> None:
    """Which nodes survive under learned scoring and under magnitude."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.tables.nodes import write_nodes

    write_nodes(_within(inspected, "nodes.tsv"), output_stem, _pairs(corpus), label, footer(provenance))


@table.command("stack-attention")
def table_stack_attention(
    inspected: Inspected, corpus: Corpora, output_stem: OutputStem, label: Label = "", provenance: Provenance = None
) -> None:
    """How far the stack node's attention is from a mean, and what replacing it does."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.tables.nodes import write_stack

    write_stack(_within(inspected, "stack.tsv"), output_stem, _pairs(corpus), label, footer(provenance))


@table.command("calibration")
def table_calibration(
    calibration: Calibrations,
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
    provenance: Provenance = None,
) -> None:
    """Calibration fitted on the development set, and what its thresholds do elsewhere."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.tables.calibration import write_calibration

    write_calibration(calibration, system, output_stem, _pairs(corpus), label, footer(provenance))


@table.command("latency")
def table_latency(
    backend: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File of `benchmark backend`.")],
    output_stem: OutputStem,
) -> None:
    """Time of the back-end in each of its forms, against a textbook one and its arithmetic floor."""
    from spaarsist.reporting.tables.latency import write_latency

    write_latency(backend, output_stem)


@table.command("detector")
def table_detector(
    detector: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File of `benchmark detector`.")],
    output_stem: OutputStem,
) -> None:
    """Time of a whole detector with XLS-R 300M, and what each back-end saves in it."""
    from spaarsist.reporting.tables.latency import write_detector

    write_detector(detector, output_stem)


@app.command()
def judge(
    claims: InputFile,
    summary: InputFile,
    findings: InputFile,
    corpus: Corpora,
    output_stem: OutputStem,
    composite: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    paper_corpora: Annotated[
        bool, typer.Option(help="The corpora and the front-end are the paper's: judge its accuracy claims too.")
    ] = False,
    comparisons: Comparisons = None,
    label: Label = "",
    provenance: Provenance = None,
) -> None:
    """Set each claim of the paper beside what we obtain, judged by rules fixed beforehand; write the ledger."""
    from spaarsist.artefacts import footer
    from spaarsist.reporting.claims import judge as run

    corpora, made = _pairs(corpus), footer(provenance)
    run(claims, summary, findings, output_stem, corpora, paper_corpora, composite, label, comparisons or (), made)


@app.command()
def claims(
    results: Annotated[Path, typer.Argument(help="Results of an experiment.")] = Path("results/mini"),
) -> None:
    """Print the ledger of an experiment: what the paper claims, what we obtained, and the verdict."""
    from spaarsist.reporting.claims import read_ledger, render

    print(render(read_ledger(results / "tables" / "claims.tsv")))


@app.command()
def report(
    source: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Main LaTeX file.")],
    results: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with tables/ and figures/.")],
    summary: InputFile,
    composite: InputFile,
    findings: InputFile,
    ledger: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="TSV of the claims.")],
    record: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="model.json of the baseline.")],
    corpus: Corpora,
    output: Annotated[Path, typer.Option(help="PDF to write.")],
    comparisons: Comparisons = None,
    calibration: Calibrations | None = None,
    inspected: Inspected | None = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples that the intervals rest on.")] = 1000,
    confidence: Confidence = 0.95,
    latency: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File of `latency`.")] = None,
    speed: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder with the files of `benchmark`.")
    ] = None,
    label: Label = "",
) -> None:
    """Fill the replication report with this run's numbers and make its PDF (latexmk or tectonic)."""
    from spaarsist.reporting.report import build_pdf, write_macros

    macros = results / "paper" / "macros.tex"
    write_macros(
        summary,
        composite,
        findings,
        ledger,
        record,
        _pairs(corpus),
        macros,
        label,
        comparisons=comparisons or (),
        calibration=calibration or (),
        nodes=_within(inspected, "nodes.tsv"),
        stack=_within(inspected, "stack.tsv"),
        n_replicates=bootstrap,
        confidence=confidence,
        latency=latency,
        speed=speed,
    )
    build_pdf(source, results, output)


@figure.command()
def det(
    scores: InputFiles,
    trial_list: TrialLists,
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """DET curves."""
    from spaarsist.reporting.figures.scores import det as draw

    draw(scores, _paths(trial_list), system, _pairs(corpus), output_stem, label)


@figure.command()
def histograms(
    scores: InputFiles,
    trial_list: TrialLists,
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
    cost_model: CostModelOption = "{}",
) -> None:
    """Distributions of the scores of both classes."""
    from spaarsist.config import CostModel, parse
    from spaarsist.reporting.figures.scores import histograms as draw

    cost = parse(CostModel, cost_model)
    draw(scores, _paths(trial_list), system, _pairs(corpus), output_stem, label, cost=cost)


@figure.command()
def reliability(
    scores: InputFiles,
    trial_list: TrialLists,
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """Claimed probability of a spoof against the share of spoofs."""
    from spaarsist.reporting.figures.scores import reliability as draw

    draw(scores, _paths(trial_list), system, _pairs(corpus), output_stem, label)


@figure.command()
def training(
    record: Annotated[list[Path], typer.Option(exists=True, dir_okay=False, help="model.json; repeat for more.")],
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """Training loss and development EER by epoch."""
    from spaarsist.reporting.figures.training import training as draw

    draw(record, output_stem, label)


@figure.command()
def eer_vs_cost(
    summary: InputFile,
    cost: Annotated[str, typer.Option(help="n_macs or latency_ms.")],
    system: Systems,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """EER against multiply-accumulates or latency, with the Pareto front."""
    from spaarsist.reporting.figures.systems import eer_vs_cost as draw

    draw(summary, cost, system, _pairs(corpus), output_stem, label)


@figure.command()
def k_sweep(
    summary: InputFile,
    variant: Annotated[list[str], typer.Option(help="Swept, e.g. Base or MagMean; several times.")],
    corpus: Corpora,
    output_stem: OutputStem,
    comparisons: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of `compare`, for the flat region.")
    ] = None,
    label: Label = "",
) -> None:
    """Errors and compute against the share of nodes kept at inference, for each variant."""
    from spaarsist.reporting.figures.systems import k_sweep as draw

    draw(summary, variant, _pairs(corpus), output_stem, label, comparisons)


@figure.command("differences")
def figure_differences(
    comparisons: ComparisonsFile, system: Systems, corpus: Corpora, output_stem: OutputStem, label: Label = ""
) -> None:
    """Differences in EER to the baseline, with intervals."""
    from spaarsist.reporting.figures.differences import differences as draw

    draw(comparisons, system, _pairs(corpus), output_stem, label)


@figure.command("ablation")
def figure_ablation(
    comparisons: ComparisonsFile, steps: Steps, corpus: Corpora, output_stem: OutputStem, label: Label = ""
) -> None:
    """Differences in EER of each step of the ablation, with intervals."""
    from spaarsist.reporting.figures.differences import ablation as draw

    draw(comparisons, _steps(steps), _pairs(corpus), output_stem, label)


@figure.command()
def node_overlap(inspected: Inspected, corpus: Corpora, output_stem: OutputStem, label: Label = "") -> None:
    """How far learned and magnitude scoring keep the same nodes, against chance."""
    from spaarsist.reporting.figures.nodes import overlap as draw

    draw(_within(inspected, "nodes.tsv"), _pairs(corpus), output_stem, label)


@figure.command()
def kept_nodes(inspected: Inspected, corpus: Corpora, output_stem: OutputStem, label: Label = "") -> None:
    """Where the nodes are that each scorer keeps."""
    from spaarsist.reporting.figures.nodes import kept as draw

    draw(_within(inspected, "kept.tsv"), _pairs(corpus), output_stem, label)


@figure.command()
def stack_attention(inspected: Inspected, corpus: Corpora, output_stem: OutputStem, label: Label = "") -> None:
    """Entropy of the stack node's attention, and what it depends on."""
    from spaarsist.reporting.figures.nodes import stack_attention as draw

    draw(_within(inspected, "stack.tsv"), _pairs(corpus), output_stem, label)


@figure.command("calibration")
def figure_calibration(
    calibration: Calibrations, system: Systems, corpus: Corpora, output_stem: OutputStem, label: Label = ""
) -> None:
    """Costs before and after calibration, and error rates at the development set's thresholds."""
    from spaarsist.reporting.figures.calibration import calibration as draw

    draw(calibration, system, _pairs(corpus), output_stem, label)


@figure.command()
def attacks(metrics: InputFiles, system: Systems, corpus: Corpora, output_stem: OutputStem, label: Label = "") -> None:
    """EER of each system on each attack."""
    from spaarsist.reporting.figures.systems import attacks as draw

    draw(metrics, system, _pairs(corpus), output_stem, label)


@figure.command()
def temperature(
    summary: InputFile,
    corpus: Corpora,
    graph: Annotated[float, typer.Option(help="Temperature of the graph layers as they were trained.")],
    stack: Annotated[float, typer.Option(help="Temperature of the stack node as it was trained.")],
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """EER against the softmax temperatures, switched at inference or trained."""
    from spaarsist.reporting.figures.systems import temperature as draw

    trained = {"graph": graph, "stack": stack}
    draw(summary, _pairs(corpus), trained=trained, output_stem=output_stem, label=label)


@figure.command("composite")
def figure_composite(
    composite: InputFile,
    sensitivity: InputFile,
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """Composite score, its components, and how far its ranking depends on the weights."""
    from spaarsist.reporting.figures.composite import composite as draw

    draw(composite, sensitivity, output_stem, label)


@figure.command()
def macs_by_module(breakdown: InputFile, system: Systems, output_stem: OutputStem, label: Label = "") -> None:
    """Where in the back-end the multiply-accumulates are."""
    from spaarsist.reporting.figures.compute import macs_by_module as draw

    draw(breakdown, system, output_stem, label)


@figure.command("latency")
def figure_latency(
    backend: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File of `benchmark backend`.")],
    output_stem: OutputStem,
) -> None:
    """Time of the back-end in each of its forms, and its arithmetic floor."""
    from spaarsist.reporting.figures.latency import latency as draw

    draw(backend, output_stem)


@benchmark.command()
def cache(
    train_list: InputFile,
    features: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Cache of training views.")],
    recipe: Recipe,
    output: Output,
    steps: Annotated[int, typer.Option(min=1, help="Batches to time.")] = 20,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Time the feature cache: reading it, the disk itself, and an epoch with it and without."""
    from spaarsist import config
    from spaarsist.experiments.features import benchmark as run

    settings = config.parse(config.TrainingRecipe, recipe)
    run(train_list, features, settings, output, steps=steps, device=device, threads=threads, workers=workers)


@benchmark.command("metrics")
def benchmark_metrics(
    output: Output,
    n_trials: Annotated[int, typer.Option(min=10, help="Made-up trials.")] = 700_000,
    n_columns: Annotated[int, typer.Option(min=1, help="Score columns.")] = 1,
    n_replicates: Annotated[int, typer.Option(min=1, help="Resamples.")] = 1000,
    threads: Threads = 2,
) -> None:
    """Time the metrics and their bootstrap on made-up scores of a full evaluation set."""
    from spaarsist.evaluation.evaluate import benchmark as run

    run(output, n_trials, n_columns, n_replicates, threads)


@benchmark.command("backend")
def benchmark_backend(
    output: Output,
    reference: Reference,
    system: Systems,
    batch_size: Annotated[list[int], typer.Option(min=1, help="Excerpts at once; repeat for more.")],
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    device: Device = "cpu",
    threads: Threads = 2,
    rounds: Rounds = 15,
) -> None:
    """Time AASIST back-ends in every form against a textbook one and against their convolutions alone."""
    from spaarsist.audit.complexity import Size
    from spaarsist.audit.speed import write_backend

    size = Size(feature_dim, embedding_dim=embedding_dim, n_frames=n_frames)
    write_backend(output, reference, system, size, batch_size, device=device, threads=threads, rounds=rounds)


@benchmark.command("training")
def benchmark_training(
    output: Output,
    reference: Reference,
    batch_size: Annotated[int, typer.Option(min=2, help="Excerpts in a step.")] = 64,
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    device: Device = "cpu",
    threads: Threads = 2,
    rounds: Rounds = 3,
) -> None:
    """Time training steps of the AASIST back-end from cached frames against a textbook one."""
    from spaarsist.audit.complexity import Size
    from spaarsist.audit.speed import write_training

    size = Size(feature_dim, embedding_dim=embedding_dim, n_frames=n_frames)
    write_training(output, reference, size, batch_size, device=device, threads=threads, rounds=rounds)


@benchmark.command("detector")
def benchmark_detector(
    output: Output,
    system: Systems,
    variant: Annotated[list[str], typer.Option(help="Column of the pass for all, e.g. 01-Mag; repeat for more.")],
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_samples: Annotated[int, typer.Option(min=2000, help="Samples of the excerpt, at 16 kHz.")] = 64_600,
    device: Device = "cpu",
    threads: Threads = 2,
    rounds: Rounds = 5,
) -> None:
    """Time the parts of a whole detector with XLS-R 300M, random weights, and one pass for many variants."""
    from spaarsist.audit.speed import write_detector
    from spaarsist.names import Variant

    variants = [Variant.from_column(column) for column in variant]
    write_detector(output, system, variants, embedding_dim, n_samples, device=device, threads=threads, rounds=rounds)


@benchmark.command("scoring")
def benchmark_scoring(
    output: Output,
    checkpoint: InputFolder,
    trial_list: InputFile,
    system: Systems,
    n_trials: Annotated[int, typer.Option(min=1, help="Excerpts of the list to score.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    device: Device = "cpu",
    threads: Threads = 2,
    rounds: Rounds = 3,
) -> None:
    """Time one scoring pass for all rows of a table against a pass for each, and reading audio against both."""
    from spaarsist.audit.speed import write_scoring

    write_scoring(
        output,
        checkpoint,
        trial_list,
        system,
        n_trials=n_trials,
        batch_size=batch_size,
        device=device,
        threads=threads,
        rounds=rounds,
    )


@app.command()
def publish(
    file: Annotated[list[Path], typer.Option(exists=True, dir_okay=False, help="Result to release; repeat for more.")],
    scores: InputFiles,
    results: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The experiment's folder.")],
    output: Output,
) -> None:
    """Copy finished results into one folder, with a record of code, versions, machine and times."""
    from spaarsist.artefacts import publish as run

    run(file, scores, results, output)


def _backends(text: str) -> dict[str, BackendConfig]:
    from spaarsist.config import BackendConfig, parse

    return {name: parse(BackendConfig, section) for name, section in parse(dict[str, dict], text).items()}


def _pairs(options: list[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (option.partition("=") for option in options)]


def _within(folders: list[Path] | None, name: str) -> list[Path]:
    return [folder / name for folder in folders or ()]


def _steps(text: str) -> list[tuple[str, str, str]]:
    from spaarsist.names import ConfigError

    try:
        return [(str(title), str(system), str(reference)) for title, system, reference in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--steps: expected JSON triples of title, system and reference ({error})") from None


def _paths(options: list[str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in _pairs(options)}


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 1, not in a traceback."""
    from pydantic import ValidationError

    from spaarsist.names import ConfigError

    try:
        app()
    except (ConfigError, ValidationError) as error:
        print(f"spaarsist: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
