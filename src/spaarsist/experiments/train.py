"""Two-stage training of one detector; the best epoch by development EER is kept.

Every random draw (order, crop, augmentation, dropout) is a function of the seed and of the position in the run, never
of what was drawn before. So a run that was killed and started again makes the same draws, and on a CPU gives the same
weights bit for bit, without any generator state being saved.
"""

from __future__ import annotations

import csv
import os
import resource
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from spaarsist.artefacts import file_hash, provenance, writing
from spaarsist.config import AS_TRAINED, ConfigError, Stage, System, TrainingRecipe, system_name, to_json
from spaarsist.data import audio
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments.score import score_excerpts
from spaarsist.models.detector import BONAFIDE, SPOOF, Detector, prepare_torch, save_checkpoint

HISTORY = ("stage", "epoch", "train_loss", "dev_eer", "lr", "seconds", "peak_memory_mb")


class TrainingDraws(Dataset):
    """The draws of one epoch: (waveform (crop,), class) per position, class-balanced, with replacement.

    Source: the paper's recipe (class-balanced sampling, random crops). The time mask comes after the crop, not before
    it as in the released code, where a crop may consist of nothing but the masked span.
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


@dataclass
class Progress:
    """Where a run stands: epochs done per stage, history so far, best (dev EER, epoch) of each stage begun."""

    stage: int = 0
    epoch: int = 0
    history: list[dict] = field(default_factory=list)
    best: dict[int, tuple[float, int]] = field(default_factory=dict)


def train(
    train_list: Path,
    dev_list: Path,
    output: Path,
    system: str,
    recipe: TrainingRecipe,
    seed: int,
    *,
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Train one detector and write `model.safetensors`, `model.json` and `history.tsv` into `output`.

    While it runs, `output/last` holds what is needed to go on after a kill: calling again with the same arguments
    resumes at the last finished epoch, and the result is an undisturbed run's. It is removed at the end.

    Args:
        train_list: trial list to train on.
        dev_list: trial list that selects the epoch.
        system: name of the training: `AST-03` (checked against the recipe's k_train) or a free one, such as `MHFA`.
        threads: CPU threads of torch; results are bit-identical only for equal numbers.
        workers: processes that read and augment audio; 0 = in the training process. Does not change results.

    Raises:
        ConfigError: bad lists or recipe; a loss that is not finite (names the epoch); or an unfinished run of another
            recipe, seed, list or code in `output/last`.
    """
    device = prepare_torch(threads)
    identity = {
        "system": system,
        "recipe": to_json(recipe),
        "seed": seed,
        "train_list": file_hash(train_list),
        "dev_list": file_hash(dev_list),
        "threads": threads,
        "device": device.type,
        **provenance(),
    }
    trials = read_trials(train_list), read_trials(dev_list)
    run = _Run(*trials, output, recipe, seed, workers, identity, device)
    run.resume()
    for number, stage in enumerate(recipe.stages):
        if number >= run.progress.stage:
            run.train_stage(number, stage)
    run.finish()


class _Run:
    def __init__(
        self,
        train: pd.DataFrame,
        dev: pd.DataFrame,
        output: Path,
        recipe: TrainingRecipe,
        seed: int,
        workers: int,
        identity: dict,
        device: torch.device,
    ) -> None:
        self.train, self.dev, self.output, self.recipe = train, dev, output, recipe
        self.seed, self.workers, self.identity = seed, workers, identity
        self.device = device
        self.augmenter = Augmenter(recipe.augmentation)
        self.last = output / "last"
        self.progress = Progress()
        self.pending: dict | None = None
        torch.manual_seed(seed)
        self.detector = Detector(recipe.frontend, recipe.backend).to(self.device)
        _check_name(identity["system"], self.detector)
        self.n_frames = {
            crop: self._count_frames(crop) for crop in {recipe.crop, *(s.crop for s in recipe.stages if s.crop)}
        }

    def resume(self) -> None:
        """Go on from `last/`, if there is one of this very run."""
        path = self.last / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        if differing := sorted(k for k in self.identity if state["identity"].get(k) != self.identity[k]):
            raise ConfigError(
                f"{self.last}: an unfinished run with another {', '.join(differing)}; delete the folder to start anew"
            )
        self.progress = Progress(**state["progress"])
        self.detector.load_state_dict(state["detector"])
        self.pending = state

    def train_stage(self, number: int, stage: Stage) -> None:
        """Run the stage's remaining epochs, then put its best weights back."""
        if stage.epochs == 0:
            return
        if number > self.progress.stage:
            self.progress.stage, self.progress.epoch = number, 0
        self.detector.frontend.requires_grad_(stage.train_frontend)
        trainable = [p for p in self.detector.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(trainable, lr=stage.learning_rate)
        n_steps = -(-(self.recipe.epoch_size or len(self.train)) // stage.batch_size)
        schedule = _schedule(optimiser, stage, n_steps)
        if self.pending and self.progress.epoch > 0:
            optimiser.load_state_dict(self.pending["optimiser"])
            schedule.load_state_dict(self.pending["schedule"])
        self.pending = None
        for epoch in range(self.progress.epoch, stage.epochs):
            began = time.perf_counter()
            lr = optimiser.param_groups[0]["lr"]
            loss = self._train_epoch(number, epoch, stage, optimiser, schedule, n_steps)
            dev_eer = self._dev_eer(f"stage {number + 1} epoch {epoch + 1}: dev")
            row = (number + 1, epoch + 1, loss, dev_eer, lr, round(time.perf_counter() - began, 2), _peak_memory_mb())
            self.progress.history.append(dict(zip(HISTORY, row, strict=True)))
            if dev_eer < self.progress.best.get(number, (float("inf"), 0))[0]:
                self.progress.best[number] = (dev_eer, epoch + 1)
                self._save(self.last / f"best{number}.pt", self.detector.state_dict())
            self.progress.epoch = epoch + 1
            # The best weights are written first: killed in between, the epoch is repeated and writes the same again
            self._save(
                self.last / "state.pt",
                {
                    "identity": self.identity,
                    "progress": asdict(self.progress),
                    "detector": self.detector.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                },
            )
        self._load_best(number)

    def finish(self) -> None:
        """Choose among the stages' best, write the checkpoint, drop the resume state."""
        best = self.progress.best
        if not best:
            raise ConfigError("training.stages: no stage has any epochs")
        chosen = min(best, key=lambda n: best[n][0]) if self.recipe.keep_better_stage else max(best)
        self._load_best(chosen)
        record = {
            "system": self.identity["system"],
            "seed": self.seed,
            "frontend": asdict(self.recipe.frontend),
            "backend": asdict(self.recipe.backend),
            "architecture": self.detector.frontend.architecture,
            "feature_dim": self.detector.frontend.feature_dim,
            "n_layers": self.detector.frontend.n_layers,
            "n_frames": self.n_frames[self.recipe.crop],
            "recipe": asdict(self.recipe),
            "stage": chosen + 1,
            "epoch": best[chosen][1],
            "dev_eer": best[chosen][0],
            "device": self.device.type,
            "threads": self.identity["threads"],
            "train_list": self.identity["train_list"],
            "dev_list": self.identity["dev_list"],
            "provenance": provenance(),
        }
        with writing(self.output / "history.tsv") as path:
            pd.DataFrame(self.progress.history, columns=HISTORY).to_csv(
                path, sep="\t", index=False, quoting=csv.QUOTE_NONE
            )
        save_checkpoint({k: v.cpu() for k, v in self.detector.state_dict().items()}, record, self.output)
        # Renamed first: killed half-way through deleting, a folder without its best weights could not be resumed
        done = self.last.with_name(".last")
        shutil.rmtree(done, ignore_errors=True)
        self.last.rename(done)
        shutil.rmtree(done)

    @torch.inference_mode()
    def _count_frames(self, crop: int) -> int:
        try:
            frames = self.detector.eval().frames(torch.zeros(1, crop, device=self.device))
            self.detector.backend(frames)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"training: a crop of {crop} samples is too short ({error})") from None
        return frames.shape[-2]

    def _train_epoch(
        self,
        number: int,
        epoch: int,
        stage: Stage,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        n_steps: int,
    ) -> float:
        self.detector.train()
        if not stage.train_frontend:
            self.detector.frontend.eval()
        draws = TrainingDraws(
            self.train,
            n_steps * stage.batch_size,
            stage.crop or self.recipe.crop,
            self.augmenter,
            (self.seed, number, epoch),
        )
        batches = DataLoader(draws, stage.batch_size, num_workers=self.workers, pin_memory=self.device.type == "cuda")
        total = 0.0
        bar = tqdm(batches, desc=f"stage {number + 1} epoch {epoch + 1}/{stage.epochs}", unit="step", mininterval=2)
        for step, (waveforms, classes) in enumerate(bar):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, number, epoch, step)).generate_state(1)[0]))
            loss = F.cross_entropy(self.detector(waveforms.to(self.device)), classes.to(self.device))
            if not torch.isfinite(loss):
                raise ConfigError(
                    f"stage {number + 1}, epoch {epoch + 1}, step {step + 1}: the loss is {loss.item()}; batch: "
                    + ", ".join(draws.paths[draws.trials[step * stage.batch_size :][: stage.batch_size]])
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        return total / n_steps

    def _dev_eer(self, description: str) -> float:
        # The largest batch of the recipe: it fits into memory even with gradients
        size = max(stage.batch_size for stage in self.recipe.stages)
        scores = score_excerpts(self.detector, self.dev, self.recipe.crop, (), size, self.workers, description)
        bonafide = (self.dev["label"] == "bonafide").to_numpy()
        return compute_metrics(scores[bonafide, 0], scores[~bonafide, 0])["eer"]

    def _load_best(self, number: int) -> None:
        path = self.last / f"best{number}.pt"
        self.detector.load_state_dict(torch.load(path, weights_only=True, map_location=self.device))

    def _save(self, path: Path, state: dict) -> None:
        with writing(path) as temporary:
            torch.save(state, temporary)


def _check_name(system: str, detector: Detector) -> None:
    """Refuse a name that would make tables lie: AST- is for AASIST alone, and says its k_train and temperatures."""
    named, backend = System.parse(system_name(system, detector.column)), detector.backend
    fits = named.variant is None and detector.column == AS_TRAINED
    if named.variant and detector.column != AS_TRAINED:
        fits = (
            named.k_train == backend.variant.k_infer
            and named.trained_graph_temperature in (None, backend.spectral_attention.temperature)
            and named.trained_stack_temperature in (None, backend.branches[0].first.stack_temperature)
        )
    if not fits:
        raise ConfigError(
            f"system {system}: AASIST back-ends, and they alone, are named AST-<k_train>, with +graph<temperature> and "
            "+stack<temperature> behind it if these are not AASIST's; the recipe's backend.options say otherwise"
        )


def _schedule(optimiser: torch.optim.Optimizer, stage: Stage, n_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    if stage.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=stage.learning_rate, total_steps=stage.epochs * n_steps, cycle_momentum=False
    )


def _peak_memory_mb() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    # ru_maxrss is in KiB on Linux, in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if os.uname().sysname == "Darwin" else 2**10)
