"""Before days of computing: whether this machine can do what a configuration asks for, and what it costs.

Each training's steps are tried with one batch at their real size; the forecast multiplies them by what the
configuration asks for. Nothing is trained: weights are thrown away.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from spaarsist.artefacts import processor, some, writing
from spaarsist.audit.speed import peak_memory_mib
from spaarsist.config import Stage, TrainingRecipe
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.experiments.excerpts import Excerpts, TrainingDraws, draws_per_epoch, reading
from spaarsist.experiments.train import keep_freed_memory
from spaarsist.models.detector import Detector, prepare_torch
from spaarsist.names import ConfigError, Variant

DRAWS, EXCERPTS, FRAMES = "training draws", "excerpts", "cached frames"
"""What a batch is made of: audio that is augmented, audio as it is, a cache."""

READ_S = 5.0
"""Audio is read for so long, or until the list ends: starting the processes is then a small part of it."""

READ_AT_ONCE = 8
NAMED = 4
"""How many trainings a line names."""

OLDEST_DRIVER = {"12": 525, "13": 580}
"""Major version of the CUDA that wheels are built for -> oldest Linux driver that runs them (NVIDIA)."""

CACHES, UNDER_WAY = "caches", "a training under way"
TRIAL_ID_BYTES = 16
GB, GIB = 1e9, 2**30


class Row(NamedTuple):
    """A line of the report: what, how much, in which unit (`-`: none), and how that is known."""

    quantity: str
    value: str | float
    unit: str = "-"
    how: str = ""

    @property
    def written(self) -> tuple[str, str, str, str]:
        """With three digits, or all before the point."""
        value = self.value if isinstance(self.value, str) else _digits(self.value)
        return self.quantity, value, self.unit, self.how


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


@dataclass(frozen=True)
class Training:
    """A training of the plan.

    Attributes:
        recipe: its own, with its back-end.
        columns: its score columns; none for a back-end without variants.
        scored: names of the corpora that it scores.
    """

    recipe: TrainingRecipe
    columns: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What a configuration asks for.

    Attributes:
        trainings: name -> training; all have the front-end, the stages and the views of the first.
        n_seeds: how often each is trained.
        train_on, select_on: names of corpora.
        n_trials: corpus -> number of its trials; 0 = unknown.
        cached_development: whether frames of the development excerpts are cached.
        batch_size: of scoring and caching.
        processes: GPUs that share a training's batches.
    """

    trainings: dict[str, Training]
    n_seeds: int
    train_on: str
    select_on: str
    n_trials: dict[str, int]
    cached_development: bool
    batch_size: int
    processes: int

    @property
    def recipe(self) -> TrainingRecipe:
        """What all trainings have in common."""
        return next(iter(self.trainings.values())).recipe

    def draws(self, stage: Stage) -> int:
        """Training draws in an epoch."""
        return draws_per_epoch(self.recipe, stage, self.n_trials[self.train_on])


@dataclass(frozen=True)
class Task:
    """What a training, or the making of the caches, does again and again.

    Attributes:
        training: its name, or `caches`.
        step: `stage 1`, `stage 2`, ..., `development` or `scoring`; of caches `views` or `excerpts`.
        source: one of `DRAWS`, `EXCERPTS` and `FRAMES`.
        crop: samples of each excerpt.
        batch_size: excerpts at once.
        excerpts: in all, over seeds and epochs.
        stage: whose step it is; None: without gradients.
        processes: GPUs that do it side by side; they share a step's batch.
    """

    training: str
    step: str
    source: str
    crop: int
    batch_size: int
    excerpts: int
    stage: Stage | None = None
    processes: int = 1

    @property
    def title(self) -> str:
        """Name in the report."""
        return f"{self.training}: {self.step}" + f" from {FRAMES}" * (self.source == FRAMES)

    @property
    def share(self) -> int:
        """Excerpts that one process takes at once; those of development and scoring are dealt out, not shared."""
        return self.batch_size // self.processes if self.stage else self.batch_size


def preflight(
    output: Path,
    train_list: Path,
    dev_list: Path,
    asked: Asked,
    results: Path,
    features: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Try one batch of everything, print what was measured and what follows from it, and write that as TSV.

    Args:
        output: columns `quantity, value, unit, how`; not written where something does not fit.
        train_list, dev_list: trial lists of `asked.train_on` and `asked.select_on`; they say how many trials there are.
        asked: what is to be done.
        results: folder of checkpoints and scores.
        features: folder of the caches.
        device: `cpu` or `cuda`. One GPU is measured, also where several share a batch: on its share, without what
            they tell each other.
        threads: CPU threads of torch.
        workers: processes that read audio, for each GPU.

    Raises:
        ConfigError: a line for each thing that this machine lacks: a GPU, its driver or memory, disk; or a recipe,
            front-end or recording that trainings would stop at.
    """
    rows, lacking = _environment(device)
    train, dev = (read_trials(path, both_classes=True) for path in (train_list, dev_list))
    asked = replace(asked, n_trials=asked.n_trials | {asked.train_on: len(train), asked.select_on: len(dev)})
    recipe, stage = asked.recipe, asked.recipe.stages[0]
    place, rates = None, {}
    if not lacking:
        place = prepare_torch(threads, device)
        if device == "cpu":
            keep_freed_memory()
        augmenter = Augmenter(recipe.augmentation)
        draws = TrainingDraws(train, asked.draws(stage), stage.crop or recipe.crop, augmenter, (0, 0, 0))
        rates = {DRAWS: read_rate(draws, workers, DRAWS)}
        rates[EXCERPTS] = read_rate(Excerpts(dev, recipe.crop), workers, EXCERPTS)
        how = f"by {workers} process{'es' * (workers > 1)}" if workers else "by the process that computes"
        rows += [Row(f"read: {source}", rate, "1/s", how) for source, rate in rates.items()]
    tried = _try_batches(asked, place)
    rows += tried.rows
    lacking += tried.lacking
    if not lacking:
        rows += forecast(asked, tried.seconds, rates, overlapping=workers > 0)
    disk, short = _disk(disk_needed(asked, tried.weights, tried.cache_bytes), results, features)
    table = pd.DataFrame([row.written for row in rows + disk], columns=Row._fields)
    print(readable(table))
    if lacking := lacking + short:
        raise ConfigError("\n  ".join(["this machine is short of something, so nothing was begun", *lacking]))
    with writing(output) as path:
        table.to_csv(path, sep="\t", index=False)


# ---------------------------------------------------------------- what there is to do


def tasks_of(asked: Asked, name: str, all_layers: bool) -> list[Task]:
    """What one training and its scoring consist of, over all seeds.

    Args:
        asked: the configuration.
        name: of the training.
        all_layers: whether its back-end takes all layers, of which there is no cache.
    """
    training, recipe, tasks = asked.trainings[name], asked.recipe, []
    largest = recipe.normalised_together or max(stage.batch_size for stage in recipe.stages)
    in_development = {EXCERPTS: 0, FRAMES: 0}
    for number, stage in enumerate(recipe.stages, 1):
        if stage.epochs == 0:
            continue
        cached = recipe.views > 0 and stage is recipe.frozen_stage and not all_layers
        source, n_draws = FRAMES if cached else DRAWS, asked.n_seeds * stage.epochs * asked.draws(stage)
        how = (stage.crop or recipe.crop, stage.batch_size, n_draws, stage, asked.processes)
        tasks.append(Task(name, f"stage {number}", source, *how))
        cached = asked.cached_development and not stage.train_frontend and not all_layers
        in_development[FRAMES if cached else EXCERPTS] += asked.n_seeds * stage.epochs * asked.n_trials[asked.select_on]
    for source, n in in_development.items():
        if n:
            tasks.append(Task(name, "development", source, recipe.crop, largest, n, processes=asked.processes))
    n_scored = asked.n_seeds * sum(asked.n_trials[corpus] for corpus in training.scored)
    return [*tasks, Task(name, "scoring", EXCERPTS, recipe.crop, asked.batch_size, n_scored)]


def cache_tasks(asked: Asked) -> list[Task]:
    """What the making of the caches consists of: nothing where the configuration has none."""
    recipe, tasks = asked.recipe, []
    if recipe.views:
        stage = recipe.frozen_stage
        crop, n = stage.crop or recipe.crop, recipe.views * asked.draws(stage)
        tasks.append(Task("caches", "views", DRAWS, crop, asked.batch_size, n))
    if asked.cached_development:
        n = asked.n_trials[asked.select_on]
        tasks.append(Task("caches", "excerpts", EXCERPTS, recipe.crop, asked.batch_size, n))
    return tasks


def forecast(
    asked: Asked, seconds: Mapping[Task, float], rates: Mapping[str, float], *, overlapping: bool
) -> list[Row]:
    """Hours by kind of step, of the longest training, and in all.

    How fast a cache is read is not known before there is one: as if at once.

    Args:
        asked: the configuration that the tasks are of.
        seconds: task -> of one batch, or of one process's share of it.
        rates: source -> excerpts per second that are read for one GPU.
        overlapping: other processes read meanwhile, so that the slower of reading and computing counts, not their sum.

    Returns:
        Rows of the report.
    """
    by_step: dict[str, float] = {}
    by_training: dict[str, float] = {}
    waiting: dict[str, list[str]] = {}
    for task, of_batch in seconds.items():
        # Of one excerpt
        computing, reading_it = of_batch / task.share, 1 / rates.get(task.source, math.inf)
        step = CACHES if task.training == CACHES else task.step
        if reading_it > computing:
            waiting.setdefault(step, []).append(task.training)
        both = max(computing, reading_it) if overlapping else computing + reading_it
        hours = task.excerpts * both / task.processes / 3600
        by_step[step] = by_step.get(step, 0) + hours
        if step not in (CACHES, "scoring"):
            by_training[task.training] = by_training.get(task.training, 0) + hours / asked.n_seeds
    longest = max(by_training, key=by_training.__getitem__)
    how = {step: f"reading takes longer than computing: {some(names, NAMED)}" for step, names in waiting.items()}
    rows = [Row(f"hours: {step}", hours, "h", how.get(step, "")) for step, hours in by_step.items()]
    rows.append(Row("hours: longest training", by_training[longest], "h", f"{longest}, one seed"))
    unknown = [name for name, n in asked.n_trials.items() if n == 0]
    without = f"; without {', '.join(unknown)}: corpora.<name>.expected is 0" if unknown else ""
    return [*rows, Row("hours: in all", sum(by_step.values()), "h", f"jobs one after another{without}")]


def disk_needed(asked: Asked, weights: Mapping[str, int], cache_bytes: int) -> dict[str, int]:
    """Bytes that a finished run holds, and those that one training under way takes besides.

    Such a one holds its state, which is its weights and two moments for each, a second state while that is written,
    and the best weights of each stage.

    Args:
        asked: the configuration.
        weights: training -> bytes of its weights.
        cache_bytes: of all caches.
    """
    scores = sum(
        asked.n_trials[corpus] * (TRIAL_ID_BYTES + 4 * max(len(training.columns), 1))
        for training in asked.trainings.values()
        for corpus in training.scored
    )
    return {
        "checkpoints": asked.n_seeds * sum(weights.values()),
        UNDER_WAY: (6 + len(asked.recipe.stages)) * max(weights.values()),
        "scores": asked.n_seeds * scores,
        CACHES: cache_bytes,
    }


# ---------------------------------------------------------------- what is measured


@dataclass
class _Tried:
    """What came of trying: bytes of weights and caches, seconds of a batch, lines of the report, complaints."""

    weights: dict[str, int] = field(default_factory=dict)
    cache_bytes: int = 0
    seconds: dict[Task, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def _try_batches(asked: Asked, place: torch.device | None) -> _Tried:
    """Build every detector, and try one batch of each of its tasks where there is a place to compute."""
    tried = _Tried()
    for name, training in tqdm(asked.trainings.items(), desc="try a batch of every step", unit="training"):
        recipe = training.recipe
        detector = Detector(recipe.frontend, recipe.backend)
        detector.frontend.prepare_training(gradient_checkpointing=recipe.gradient_checkpointing, compile=recipe.compile)
        tried.weights[name] = sum(tensor.nbytes for tensor in detector.state_dict().values())
        tasks = tasks_of(asked, name, detector.backend.all_layers)
        if len(tried.weights) == 1:
            shared = cache_tasks(asked)
            tried.cache_bytes = sum(task.excerpts * _frame_bytes(detector, task.crop) for task in shared)
            tasks += shared
        if place is None:
            continue
        detector.to(place)
        for task in tasks:
            trained = task.stage is not None or task.step == "development"
            _set_arithmetic(place, deterministic=recipe.deterministic or not trained)
            try:
                seconds, peak = timed(batch_of(task, detector, training.columns), place)
            except torch.OutOfMemoryError:
                tried.lacking.append(_too_large(task, place, checkpointing=recipe.gradient_checkpointing))
                continue
            tried.seconds[task] = seconds
            how = f"{task.share} {task.source} at once, {_digits(task.share / seconds)} a second"
            tried.rows.append(Row(task.title, seconds, "s", how))
            of = "of the GPU" if place.type == "cuda" else "of the process, so far"
            tried.rows.append(Row(f"{task.title}, memory", peak, "GiB", of))
        if len(tried.weights) == 1 and not tried.lacking:
            last = [task for task in tasks if task.stage][-1]
            tried.rows += _determinism(last, detector, place, usual=recipe.deterministic)
        del detector  # before the next one is built
    return tried


def read_rate(dataset: Dataset, workers: int, name: str) -> float:
    """Excerpts per second that so many processes read, decode and, of training draws, augment."""
    n, began = 0, time.perf_counter()
    with reading(dataset, workers, {"desc": f"read {name}", "unit": "batch"}, batch_size=READ_AT_ONCE) as batches:
        for inputs, _ in batches:
            n += len(inputs)
            if time.perf_counter() - began > READ_S:
                break
        return n / (time.perf_counter() - began)


def batch_of(task: Task, detector: Detector, columns: Sequence[str]) -> Callable[[], None]:
    """What one batch of a task does, on noise of the size that it has.

    Args:
        detector: where it is to be computed; a stage's step changes its weights.
        columns: score columns that scoring makes.
    """
    noise = torch.randn(task.share, task.crop) / 10
    if task.source == FRAMES:
        noise = torch.randn(task.share, *_frames_shape(detector, task.crop)).half()
    detector.zero_grad(set_to_none=True)
    if task.stage:
        return _Step(detector, task.stage, noise)
    variants = [Variant.from_column(column) for column in columns] if task.step == "scoring" else []

    @torch.inference_mode()
    def run() -> None:
        inputs = noise.to(_place(detector), non_blocking=True)
        detector.eval()
        (detector.frontend(inputs).half() if task.training == CACHES else detector.scores(inputs, variants)).cpu()

    return run


class _Step:
    """A step of training, as `experiments.train` makes it."""

    def __init__(self, detector: Detector, stage: Stage, inputs: Tensor) -> None:
        self.detector, self.inputs = detector, inputs
        self.classes = torch.arange(len(inputs)) % 2
        detector.train().frontend.requires_grad_(stage.train_frontend)
        if not stage.train_frontend:
            detector.frontend.eval()
        trainable = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trainable, lr=stage.learning_rate, fused=True)

    def __call__(self) -> None:
        place = _place(self.detector)
        loss = F.cross_entropy(self.detector(self.inputs.to(place)), self.classes.to(place))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def timed(run: Callable[[], None], place: torch.device) -> tuple[float, float]:
    """Call it twice: seconds of the second call, and the peak of memory over both in GiB.

    The first call allocates memory, chooses algorithms and, where asked for, compiles.
    """
    if place.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place)
    for _ in range(2):
        began = time.perf_counter()
        run()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(place) / GIB if place.type == "cuda" else peak_memory_mib() / 1024
    return seconds, peak


def _determinism(task: Task, detector: Detector, place: torch.device, *, usual: bool) -> list[Row]:
    """A step with deterministic algorithms and without; `usual` is what the recipe says."""
    rows = []
    for deterministic in (True, False):
        _set_arithmetic(place, deterministic=deterministic)
        seconds, _ = timed(batch_of(task, detector, ()), place)
        name = "deterministic" if deterministic else "not deterministic"
        how = "as training.deterministic says" if deterministic == usual else "training.deterministic says otherwise"
        rows.append(Row(f"{task.title}, {name}", seconds, "s", how))
    return rows


def _set_arithmetic(place: torch.device, *, deterministic: bool) -> None:
    prepare_torch(torch.get_num_threads(), place.type, deterministic=deterministic)


def _place(detector: Detector) -> torch.device:
    return next(detector.parameters()).device


@torch.inference_mode()
def _frames_shape(detector: Detector, crop: int) -> torch.Size:
    return detector.eval().frontend(torch.zeros(1, crop, device=_place(detector))).shape[1:]


def _frame_bytes(detector: Detector, crop: int) -> int:
    """Bytes of an excerpt's frames in a cache: float16 (T, D)."""
    return 2 * math.prod(_frames_shape(detector, crop))


# ---------------------------------------------------------------- what there is


def _environment(device: str) -> tuple[list[Row], list[str]]:
    """Versions and machine, and what of a GPU is lacking."""
    built_for, (driver, name) = torch.version.cuda or "", _driver()
    found = torch.cuda.is_available()
    rows = [Row(package, version(package)) for package in ("spaarsist", "torch", "torchaudio", "transformers")]
    rows = [
        Row("python", platform.python_version()),
        *rows,
        Row("CUDA", built_for or "none", how="that torch was built for"),
        Row("processor", processor(), how=f"{os.cpu_count()} cores"),
        Row("driver", driver or "none", how="as nvidia-smi tells"),
        Row("GPU", torch.cuda.get_device_name(0) if found else name or "none"),
    ]
    if found:
        rows.append(Row("GPU memory", torch.cuda.get_device_properties(0).total_memory / GIB, "GiB"))
    if device == "cpu":
        return rows, []
    complaint = no_gpu(built_for, driver, name, found=found)
    if found and not runs_on(capability := torch.cuda.get_device_capability(0), torch.cuda.get_arch_list()):
        complaint = (
            f"{torch.cuda.get_device_name(0)}: torch {torch.__version__} has no code for its compute capability "
            f"{capability[0]}.{capability[1]}: take another GPU, or install torch's wheels for an older CUDA"
        )
    return rows, [complaint] if complaint else []


def _driver() -> tuple[str, str]:
    """Version of the driver and name of the first GPU, as far as nvidia-smi tells."""
    query = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "", ""
    driver, _, name = (told.splitlines() or [""])[0].partition(", ")
    return driver, name


def no_gpu(built_for: str, driver: str, name: str, *, found: bool) -> str:
    """Why torch finds no GPU, in a line that says what to do; empty where it finds one.

    Args:
        built_for: CUDA version of torch's wheels; empty for those without.
        driver, name: as nvidia-smi tells them; empty where it does not.
        found: whether torch finds a GPU.
    """
    if found:
        return ""
    if not built_for:
        return "torch was installed without CUDA: install its CUDA wheels, or set compute.device to cpu"
    oldest = OLDEST_DRIVER.get(built_for.split(".")[0], 0)
    if driver and int(driver.split(".")[0]) < oldest:
        return (
            f"driver {driver} of {name} is too old for CUDA {built_for}, which needs {oldest} or newer: update it, or "
            "install torch's wheels for an older CUDA"
        )
    seen = f"though nvidia-smi shows {name}: see CUDA_VISIBLE_DEVICES" if name else "and nvidia-smi shows none"
    return f"torch finds no GPU, {seen}; ask the cluster for one, or set compute.device to cpu"


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a GPU runs code that was built for these architectures (`sm_80`, `compute_90`).

    Machine code (sm) runs on its own major version from its minor one on; what is compiled on the spot (compute) on
    everything newer.
    """
    for kind, _, number in (architecture.partition("_") for architecture in built_for):
        digits = number.rstrip("af")
        of = int(digits[:-1]), int(digits[-1])
        if of <= capability and (kind == "compute" or of[0] == capability[0]):
            return True
    return False


def _too_large(task: Task, place: torch.device, *, checkpointing: bool) -> str:
    size = torch.cuda.mem_get_info(place)[1] / GIB
    if task.stage is None and task.step != "development":
        mend = "lower compute.batch_size"
    else:
        mend = "lower training.stages.batch_size, which changes results"
    if task.stage:
        mend = f"share it among GPUs (compute.gpu), or {mend}"
        if task.stage.train_frontend and not checkpointing:
            mend = f"set training.gradient_checkpointing to true, {mend}"
    return f"{task.title}: a batch of {task.share} does not fit into the GPU's {size:.1f} GiB: {mend}"


def _disk(needed: Mapping[str, int], results: Path, features: Path) -> tuple[list[Row], list[str]]:
    """Rows of what is needed and free, and a line for each disk that is too small.

    What lies there already, but for the states of unfinished trainings, is taken off the need.
    """
    folders = dict.fromkeys(needed, results / "checkpoints") | {"scores": results / "scores", CACHES: features}
    rows: list[Row] = []
    disks: dict[int, dict[str, int]] = {}
    for name, total in needed.items():
        folder = folders[name]
        present = 0
        if name != UNDER_WAY:
            files = (path for path in folder.rglob("*") if path.is_file() and "last" not in path.parts)
            present = sum(path.stat().st_size for path in files)
        missing = max(total - present, 0)
        disks.setdefault(_existing(folder).stat().st_dev, {})[name] = missing
        rows.append(
            Row(f"disk: {name}", missing / GB, "GB", f"{present / GB:.1f} GB of it lie there" if present else "")
        )
    lacking = []
    for missing in disks.values():
        places = [*dict.fromkeys(folders[name] for name in missing)]
        need, free = sum(missing.values()), shutil.disk_usage(_existing(places[0])).free
        at = ", ".join(map(str, places))
        rows.append(Row("disk: in all", need / GB, "GB", f"{free / GB:.1f} GB are free at {at}"))
        if need > free:
            what = ", ".join(f"{name} {n / GB:.1f}" for name, n in missing.items() if n)
            without = ", or do without caches (training.views: 0, features.development: false)"
            lacking.append(
                f"{at}: {need / GB:.1f} GB needed ({what}), {free / GB:.1f} GB free: make room, or put links to a "
                f"larger disk in their places{without if missing.get(CACHES) else ''}"
            )
    return rows, lacking


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def readable(table: pd.DataFrame) -> str:
    """The report for a terminal: values with their units, and how they are known."""
    values = [
        value if unit == "-" else f"{value:>6} {unit}"
        for value, unit in zip(table["value"], table["unit"], strict=True)
    ]
    widths = max(map(len, table["quantity"])), max(map(len, values))
    lines = zip(table["quantity"], values, table["how"], strict=True)
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {how}".rstrip() for name, value, how in lines)
