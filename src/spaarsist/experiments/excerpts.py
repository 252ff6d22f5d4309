"""What a detector is shown: class-balanced training draws, and the fixed excerpts that it is scored on.

Every random choice (trial, crop, augmentation) is a function of the seed and of the position in the run, never of what
was drawn before; so it does not matter which process makes a draw, or when.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate
from tqdm import tqdm

from spaarsist.artefacts import some
from spaarsist.config import Excerpt, Padding, Place, Stage, TrainingRecipe, parse
from spaarsist.data import audio
from spaarsist.models.detector import BONAFIDE, SPOOF
from spaarsist.names import ConfigError

if TYPE_CHECKING:
    from spaarsist.data.augment import Augmenter  # its libraries take two seconds to import, and scoring needs none


FRAME = 400
"""Samples that the first frame of a front-end takes: 25 ms."""


class TrainingDraws(Dataset):
    """The draws of one epoch: (waveform (crop,), class) per position, class-balanced, with replacement.

    Source: the paper's recipe (class-balanced sampling, random crops).
    """

    def __init__(
        self, trials: pd.DataFrame, n_draws: int, crop: int, augmenter: Augmenter, position: tuple[int, ...]
    ) -> None:
        self.paths = trials["path"].to_numpy()
        self.crop, self.augmenter, self.position = crop, augmenter, position
        self.classes = np.random.default_rng(position).integers(2, size=n_draws)
        members = {c: np.flatnonzero(trials["label"] == name) for c, name in ((BONAFIDE, "bonafide"), (SPOOF, "spoof"))}
        if empty := [c for c, m in members.items() if len(m) == 0]:
            raise ConfigError(f"the training list has no {('bonafide', 'spoof')[empty[0]]} trials")
        rng = np.random.default_rng((*position, 1))
        self.trials = np.where(
            self.classes == BONAFIDE, rng.choice(members[BONAFIDE], n_draws), rng.choice(members[SPOOF], n_draws)
        )

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, draw: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng((*self.position, 2, draw))
        waveform = self.augmenter.before_crop(audio.read(self.paths[self.trials[draw]]), rng)
        waveform = self.augmenter.after_crop(audio.crop_random(waveform, self.crop, rng), rng)
        # Padded last, so that padding is silence here as it is in evaluation
        return torch.from_numpy(audio.pad(waveform, self.crop)), int(self.classes[draw])


class Excerpts(Dataset):
    """`crop` samples of every trial, padded if short: (waveform (crop,), position).

    The middle or the first ones, or, where a position in the run is given, from a random place that depends on it
    alone.
    """

    def __init__(
        self,
        trials: pd.DataFrame,
        crop: int,
        position: tuple[int, ...] | None = None,
        *,
        place: Place = "centre",
        padding: Padding = "zeros",
    ) -> None:
        self.paths, self.crop, self.position = trials["path"].to_numpy(), crop, position
        self.place, self.padding = place, padding

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = None if self.position is None else np.random.default_rng((*self.position, 4, index))
        waveform = audio.read_excerpt(self.paths[index], self.crop, rng, self.place)
        return torch.from_numpy(audio.pad(waveform, self.crop, self.padding)), index


def excerpt_of(record: Mapping[str, Any]) -> Excerpt:
    """What a checkpoint is shown of each recording, from its record; those from before say it in their recipe alone."""
    return parse(Excerpt, record["excerpt"]) if "excerpt" in record else Excerpt(record["recipe"]["crop"])


def excerpts_of(record: Mapping[str, Any], trials: pd.DataFrame) -> Excerpts:
    """Excerpts of trials as a checkpoint is scored on them, from its record."""
    excerpt = excerpt_of(record)
    return Excerpts(trials, excerpt.crop, place=excerpt.place, padding=excerpt.padding)


def draws_per_epoch(recipe: TrainingRecipe, stage: Stage, n_trials: int) -> int:
    """Number of training draws in an epoch of this stage: whole batches, at least as many as the recipe asks for."""
    return -(-(recipe.epoch_size or n_trials) // stage.batch_size) * stage.batch_size


def view(recipe: TrainingRecipe, trials: pd.DataFrame, number: int, augmenter: Augmenter) -> TrainingDraws:
    """An epoch's worth of draws that every system and seed shares, for stages with a frozen front-end.

    Args:
        recipe: with `views` above `number`.
        trials: the training list.
        number: which view, from 0.
        augmenter: of the recipe's augmentation.

    Raises:
        ConfigError: there is no such view.
    """
    if not 0 <= number < recipe.views:
        raise ConfigError(f"view {number}: the recipe has {recipe.views} (training.views), counted from 0")
    stage = recipe.frozen_stage
    n_draws = draws_per_epoch(recipe, stage, len(trials))
    return TrainingDraws(trials, n_draws, stage.crop or recipe.crop, augmenter, (0, 0, number))


_OF_THE_JOB = (signal.SIGTERM, signal.SIGINT)
"""What reaches a whole job, such as a cluster's SIGTERM or Ctrl-C; it ends its readers itself, in order."""


@contextmanager
def reading(dataset: Dataset, workers: int, bar: Mapping[str, object], **how: object) -> Iterator[Iterator]:
    """Read a dataset in batches, by processes that end with the block, whatever ends it.

    Args:
        dataset: gives (inputs, label or position).
        workers: processes that read; 0: this one.
        bar: of the progress: `desc`, `unit` and whatever else tqdm takes.
        how: to read, for torch's `DataLoader`: `batch_size` or `batch_sampler`, `pin_memory`.

    Yields:
        Batches, in order. Behind the last one a warning on stderr names the recordings of `Excerpts` without signal.

    Raises:
        ConfigError: an excerpt's own, while the batches are taken; or a process was killed.
    """
    loader = DataLoader(
        _Told(dataset), num_workers=workers, collate_fn=_collated, worker_init_fn=_leave_signals_to_the_job, **how
    )
    # Held back while processes start, or one that meets it before it ignores it dies
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_JOB)
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    shown = tqdm(batches, **{"total": len(loader), "mininterval": 2} | dict(bar))
    taken = _whole(iter(shown))
    source = dataset.dataset if isinstance(dataset, Subset) else dataset
    try:
        yield _heard(taken, source) if isinstance(source, Excerpts) else taken
    finally:
        shown.close()  # so that what is said next has a line of its own
        # Left to the garbage collector, they would outlive an error for as long as its traceback is held: at the end
        # the interpreter waits for them, and they for work
        if workers:
            with suppress(RuntimeError):  # that a process was killed has been said
                batches._shutdown_workers()


def _leave_signals_to_the_job(_worker: int) -> None:
    for number in _OF_THE_JOB:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_JOB)


def _heard(batches: Iterator, excerpts: Excerpts) -> Iterator:
    """Pass batches on; name in the end the excerpts with fewer changes, sample to sample, than a frame has samples."""
    silent: list[str] = []
    n = 0
    for waveforms, positions in batches:
        still = (waveforms.diff() != 0).sum(dim=1) < FRAME
        silent += excerpts.paths[positions[still].numpy()].tolist()
        n += len(positions)
        yield waveforms, positions
    if silent:
        tqdm.write(
            f"spaarsist: warning: {len(silent)} of {n} excerpts have no signal (silence, channels that cancel, or less "
            f"than 25 ms); their scores mean nothing: {some(silent)}",
            file=sys.stderr,
        )


class _Told(Dataset):
    """A dataset whose errors are items: one raised in another process would bring that one's traceback as its text."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> object:
        try:
            return self.dataset[index]
        except ConfigError as error:
            return error


def _collated(items: list) -> object:
    return next((item for item in items if isinstance(item, ConfigError)), None) or default_collate(items)


def _whole(batches: Iterator) -> Iterator:
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError) as error:  # the latter two where it dies handing over a batch
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            killed = str(error).partition("\n")[0] or type(error).__name__
            raise ConfigError(
                f"a process that reads audio was ended from outside ({killed}); if memory was short, set fewer: "
                "compute.workers, or --workers"
            ) from None
        if isinstance(batch, ConfigError):
            raise batch
        yield batch
