"""The command line: `python -m spaarsist <verb>`. One verb per workflow rule, and a few for people.

Verbs parse, call and exit; what they import, they import when called. Exit codes: 0 done, 1 bad input or configuration
(one line on stderr says what and where), 2 wrong usage.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spaarsist.config import Variant

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Replication of SpAArSIST: sparsified AASIST back-ends for speech anti-spoofing.",
)

InputFile = Annotated[Path, typer.Option(exists=True, dir_okay=False)]
InputFiles = Annotated[list[Path], typer.Option(exists=True, dir_okay=False)]
InputFolder = Annotated[Path, typer.Option(exists=True, file_okay=False)]
Output = Annotated[Path, typer.Option()]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads; equal numbers give equal results.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read audio; results do not depend on it.")]
OutputStem = Annotated[Path, typer.Option(help="Path of the outputs without their endings.")]
Corpora = Annotated[list[str], typer.Option("--corpus", help="<name>=<title>; repeat for more.")]
CostModelOption = Annotated[str, typer.Option(help="The cost_model section: JSON, or a YAML file holding it.")]
Confidence = Annotated[float, typer.Option(min=0, max=1, help="Coverage of the intervals.")]
Label = Annotated[str, typer.Option(help="A line shown above the result, e.g. on what data it was made.")]


@app.command()
def mini_corpora(
    output: Output,
    cache: Annotated[Path, typer.Option(help="Where fetched recordings are kept.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Build the embedded mini corpora from real recordings and real spoofing methods."""
    from spaarsist.data.mini import build_mini

    build_mini(output, cache, jobs=jobs)


@app.command()
def synthetic_corpora(output: Output) -> None:
    """Build made-up signals in the corpora's layout: offline, for trying the workflow and for tests."""
    from spaarsist.data.mini import build_synthetic

    build_synthetic(output)


@app.command()
def trials(
    protocol: Annotated[Path, typer.Option(help="The corpus's official trial list.")],
    form: Annotated[str, typer.Option("--format", help="asvspoof5, in_the_wild or list.")],
    audio: Annotated[Path, typer.Option(help="Folder of its recordings.")],
    output: Output,
    expected: Annotated[int, typer.Option(min=0, help="Number of trials the release has; 0 = unknown.")] = 0,
) -> None:
    """Turn a protocol and a folder of audio into one checked trial list."""
    from spaarsist.config import ConfigError
    from spaarsist.data.protocol import READERS, make_trials

    if form not in READERS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(READERS)}")
    make_trials(protocol, form, audio, output, expected)


@app.command()
def train(
    train_list: InputFile,
    dev_list: InputFile,
    output: Output,
    k_train: Annotated[float, typer.Option(help="Share of nodes that graph pooling keeps, in (0, 1].")],
    seed: Annotated[int, typer.Option(min=0)],
    recipe: Annotated[str, typer.Option(help="The training section: JSON, or a YAML file holding it.")] = "{}",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Train one detector in two stages; a killed run resumes when called again."""
    from spaarsist import config
    from spaarsist.experiments.train import train as run

    run(
        train_list,
        dev_list,
        output,
        config.parse(config.TrainingRecipe, recipe),
        config.Variant(k_infer=k_train).k_infer,
        seed,
        threads=threads,
        workers=workers,
    )


@app.command()
def score(
    checkpoint: InputFolder,
    trial_list: InputFile,
    output: Output,
    variant: Annotated[list[str], typer.Option(help="Score column, e.g. 05 or 01-Mag; repeat for more.")],
    corpus: Annotated[str, typer.Option(help="Name of the corpus; default: the trial list's.")] = "",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """Score a trial list with every variant of a checkpoint, in one pass over the audio."""
    from spaarsist.config import Variant
    from spaarsist.experiments.score import score as run

    variants = [Variant.from_column(column) for column in variant]
    run(
        checkpoint,
        trial_list,
        output,
        variants,
        corpus=corpus,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
    )


@app.command()
def export_scores(
    scores: InputFile,
    output: Output,
    variant: Annotated[str, typer.Option(help="Score column, e.g. 05 or 01-Mag.")],
) -> None:
    """Write one variant's scores as the official ASVspoof 5 package reads them."""
    from spaarsist.experiments.score import export_scores as run

    run(scores, output, variant)


@app.command()
def metrics(
    scores: InputFile,
    trial_list: InputFile,
    output: Output,
    cost_model: CostModelOption = "{}",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals.")] = 1000,
    confidence: Confidence = 0.95,
) -> None:
    """Compute EER, minDCF, actDCF, Cllr and ECE with intervals: pooled, per attack, per codec."""
    from spaarsist.config import CostModel, parse
    from spaarsist.evaluation.metrics import evaluate

    evaluate(scores, trial_list, output, parse(CostModel, cost_model), bootstrap, confidence)


@app.command()
def complexity(
    output: Output,
    breakdown: Annotated[Path, typer.Option(help="TSV of MACs by module and by operator.")],
    system: Annotated[list[str], typer.Option(help="<k_train>:<score column>, e.g. 0.3:01-Mag; repeat for more.")],
    feature_dim: Annotated[int, typer.Option(min=1)] = 1024,
    embedding_dim: Annotated[int, typer.Option(min=1)] = 1024,
    n_frames: Annotated[int, typer.Option(min=3)] = 201,
    checkpoint: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Take all three sizes from this one.")
    ] = None,
) -> None:
    """Count parameters and MACs of each system's back-end as it would ship."""
    from spaarsist.evaluation.complexity import Size, size_of, write_complexity

    systems = [_system(text) for text in system]
    size = size_of(checkpoint) if checkpoint else Size(feature_dim, embedding_dim, n_frames)
    write_complexity(output, breakdown, systems, size)


@app.command()
def table1(
    metrics: InputFiles,
    complexity: InputFile,
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
    cost_model: CostModelOption = "{}",
    confidence: Confidence = 0.95,
) -> None:
    """Write Table 1 as TSV, Markdown and LaTeX: size, compute and metrics of every system."""
    from spaarsist.config import CostModel, parse
    from spaarsist.reporting.tables import table1 as run

    run(metrics, [complexity], _pairs(corpus), output_stem, label, parse(CostModel, cost_model), confidence)


@app.command()
def figure_det(
    scores: InputFiles,
    trial_list: Annotated[list[str], typer.Option(help="<corpus>=<trial list>; repeat for more.")],
    system: Annotated[list[str], typer.Option(help="Row of Table 1 to draw; repeat for more.")],
    corpus: Corpora,
    output_stem: OutputStem,
    label: Label = "",
) -> None:
    """Draw DET curves, as PNG, PDF and the TSV they show."""
    from spaarsist.reporting.figures import det

    trials = {name: Path(path) for name, path in _pairs(trial_list)}
    det(scores, trials, system, _pairs(corpus), output_stem, label)


@app.command()
def figure_eer_vs_macs(table: InputFile, corpus: Corpora, output_stem: OutputStem, label: Label = "") -> None:
    """Draw EER against multiply-accumulates, as PNG, PDF and the TSV it shows."""
    from spaarsist.reporting.figures import eer_vs_macs

    eer_vs_macs(table, _pairs(corpus), output_stem, label)


@app.command()
def publish(
    file: Annotated[list[Path], typer.Option(exists=True, dir_okay=False, help="Result to release; repeat for more.")],
    scores: InputFiles,
    benchmarks: InputFolder,
    output: Output,
) -> None:
    """Copy finished results into one folder, with a record of code, versions, machine and times."""
    from spaarsist.artefacts import publish as run

    run(file, scores, benchmarks, output)


def _system(text: str) -> tuple[float, Variant]:
    from spaarsist.config import ConfigError, Variant

    k_train, _, column = text.partition(":")
    try:
        return Variant(k_infer=float(k_train)).k_infer, Variant.from_column(column)
    except ValueError as error:
        raise ConfigError(f"--system {text}: expected <k_train>:<score column>, e.g. 0.3:01-Mag ({error})") from None


def _pairs(options: list[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (option.partition("=") for option in options)]


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 1, not in a traceback."""
    from pydantic import ValidationError

    from spaarsist.config import ConfigError

    try:
        app()
    except (ConfigError, ValidationError) as error:
        print(f"spaarsist: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
