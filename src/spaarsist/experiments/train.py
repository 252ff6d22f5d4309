"""Two-stage training of one detector; the best epoch by development EER is kept.

Every random draw (order, crop, augmentation, dropout) is a function of the seed and of the position in the run, never
of what was drawn before. So a run that was killed and started again makes the same draws, and on a CPU gives the same
weights bit for bit, without any generator state being saved.

Several GPUs of one machine share each batch (DistributedDataParallel through accelerate); batch norms then gather their
statistics over all of them, so that the number of GPUs changes results by rounding, and by dropout's draws, only.
"""

from __future__ import annotations

import csv
import ctypes
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from spaarsist.artefacts import (
    RECORD,
    WEIGHTS,
    locked,
    provenance,
    read_record,
    refuse_unwritable,
    some,
    tensors_hash,
    trials_hash,
    writing,
)
from spaarsist.config import SAMPLE_RATE, Excerpt, Stage, TrainingRecipe, parse, to_json
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments.excerpts import Excerpts, TrainingDraws, draws_per_epoch, reading, view
from spaarsist.experiments.features import CachedFrames, identify
from spaarsist.experiments.score import score_excerpts
from spaarsist.models.detector import Detector, prepare_torch, read_weights, save_checkpoint
from spaarsist.models.frontend import build_frontend
from spaarsist.names import ConfigError, System, column_as_trained, system_name

HISTORY = (
    "stage", "epoch", "train_loss", "dev_eer", "lr", "seconds", "trials_per_second", "peak_memory_mb",
)  # fmt: skip
SAVE_EVERY_S = 900.0
NAMED = 5
"""How many differences an error message names."""
STATE_HASH = "sha256"
"""Key of a resume state's hash, see `_state_hash`."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after a SIGTERM that left a state to resume from."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        stage, epoch, step: finished ones.
        loss, seconds: sums over the steps of the epoch begun; `lr` is the rate that it began with.
        history: one row per finished epoch.
        best: (dev EER, epoch) of each stage begun.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0
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
    train_features: Path | None = None,
    dev_features: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Train one detector and write `model.safetensors`, `model.json` and `history.tsv` into `output`.

    While it runs, `output/last` holds what is needed to go on after a kill: calling again with the same arguments
    resumes, and the result is an undisturbed run's. It is saved after every epoch, every 15 minutes within one, and on
    SIGTERM (a cluster's time limit), after which the process exits with code 143. It is removed at the end.

    A finished training of the same system, recipe, seed and lists is kept as it is, whatever code made it.

    Args:
        train_list: trial list to train on.
        dev_list: trial list that selects the epoch.
        system: name of the training: `AST-03` (checked against the recipe's k_train) or a free one, such as `MHFA`.
        train_features: cache of training views (`view0`, `view1`, ... within it) for the stage with a frozen front-end;
            without it the same draws are made from audio. Unused by back-ends that take all layers.
        dev_features: cache of development frames for that stage.
        device: `cpu` or `cuda`.
        threads: CPU threads of torch; results are bit-identical only for equal numbers.
        workers: processes that read and augment audio; 0 = in the training process. Does not change results.

    Raises:
        ConfigError: bad lists, recipe or caches; an output that cannot be written, or too little disk for it; no GPU
            where one is asked for; a loss that is not finite (names the batch's trials); a finished training of another
            system, recipe, seed or list in `output`; an unfinished run of another one, or of other code, or a damaged
            one, in `output/last`; another process that trains there.
        OSError: the disk fills up; called again once there is room, the training goes on.
    """
    asked = {
        "system": system,
        "seed": seed,
        "train_list": trials_hash(train_list),
        "dev_list": trials_hash(dev_list),
    }
    # Of processes that share a training, the first one holds the lock
    with locked(output, folder=True) if os.environ.get("RANK", "0") == "0" else nullcontext():
        refuse_unwritable(output / "last", folder=True)
        for name in (WEIGHTS, RECORD, "history.tsv"):
            refuse_unwritable(output / name)
        if _is_finished(output):
            _keep(output, asked, recipe)
            return
        how = (device, threads, workers)
        _train((train_list, dev_list), output, recipe, seed, asked, (train_features, dev_features), *how)


def _train(
    lists: tuple[Path, Path],
    output: Path,
    recipe: TrainingRecipe,
    seed: int,
    asked: dict,
    caches: tuple[Path | None, Path | None],
    device: str,
    threads: int,
    workers: int,
) -> None:
    place = prepare_torch(threads, device, deterministic=recipe.deterministic)
    if device == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=device == "cpu",
        # Whatever the environment says: both are the recipe's
        mixed_precision="no",
        dynamo_backend="no",
        # The back-end's residual blocks keep a batch norm that is never called
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    identity = {
        **asked,
        "recipe": to_json(recipe),
        "threads": threads,
        "processes": accelerator.num_processes,
        "device": device,
        **provenance(backend=recipe.backend.kind),
    }
    run = _Run(lists, output, recipe, seed, workers, identity, accelerator, place)
    run.check_space()
    run.open_caches(*caches)
    before = signal.signal(signal.SIGTERM, run.terminate)
    try:
        run.resume()
        for number, stage in enumerate(recipe.stages):
            if number >= run.progress.stage:
                run.train_stage(number, stage)
        run.finish()
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_finished(output: Path) -> bool:
    return all((output / name).exists() for name in (WEIGHTS, RECORD)) and not (output / "last").exists()


def _keep(output: Path, asked: dict, recipe: TrainingRecipe) -> None:
    """See that a finished training is the one asked for, and say that it is kept.

    Args:
        output: its folder.
        asked: system, seed and hashes of the lists.
        recipe: the one asked for.

    Raises:
        ConfigError: it is another one; names what differs.
    """
    way_out = "nothing was deleted: delete or move the folder, or choose another `experiment`"
    record = read_record(output / RECORD)
    read_weights(output, record)
    try:
        # Parsed, so that a key that came into recipes later has its default
        trained = {key: record[key] for key in asked}
        trained["training"] = json.loads(to_json(parse(TrainingRecipe, record["recipe"])))
        code = record["provenance"]["code_hash"]
    except (KeyError, ConfigError) as error:
        raise ConfigError(f"{output / RECORD}: of a version with other recipes ({error}); {way_out}") from None
    before, now = (dict(_flatten(tree)) for tree in (trained, asked | {"training": json.loads(to_json(recipe))}))
    differing = {key: (before.get(key, "absent"), now.get(key, "absent")) for key in now | before}
    differing = {key: values for key, values in differing.items() if values[0] != values[1]}
    # A front-end's folder may move, and a hub's model be fetched into a folder: its weights say whether it is the same.
    # For the room corpus, which may move too, nothing cheap does
    moved = len(differing) > 0 and {*differing} <= {"training.frontend.model", "training.frontend.revision"}
    if moved and record.get("frontend_weights") == tensors_hash(build_frontend(recipe.frontend).state_dict()):
        differing = {}
    if differing:
        changes = [
            f"{key} {a} -> {b}" if key not in ("train_list", "dev_list") else f"{key} (other trials)"
            for key, (a, b) in differing.items()
        ]
        raise ConfigError(f"{output}: holds another training: {some(changes, NAMED)}; {way_out}")
    # What a process killed in its last moment may have left
    shutil.rmtree(output / ".last", ignore_errors=True)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        mine = provenance(backend=recipe.backend.kind)["code_hash"]
        by = "" if code == mine else f" by another state of the code ({code}, now {mine})"
        how = "; delete the folder to train anew" if by else ""
        print(f"{output}: already trained{by}; kept{how}", file=sys.stderr)


def _flatten(tree: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings and lists, by dotted key; empty ones have none."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _flatten(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree


class _Run:
    def __init__(
        self,
        lists: tuple[Path, Path],
        output: Path,
        recipe: TrainingRecipe,
        seed: int,
        workers: int,
        identity: dict,
        accelerator: Accelerator,
        place: torch.device,
    ) -> None:
        self.lists, self.output, self.recipe = lists, output, recipe
        self.seed, self.workers, self.identity, self.accelerator = seed, workers, identity, accelerator
        self.device = place
        self.train, self.dev = (read_trials(path, both_classes=True) for path in lists)
        self.augmenter = Augmenter(recipe.augmentation)
        self.last = output / "last"
        self.progress = Progress()
        self.pending: dict | None = None
        self.in_step = self.terminated = False
        self.saved = time.monotonic()
        torch.manual_seed(seed)
        self.detector = Detector(recipe.frontend, recipe.backend)
        self.frontend_weights = tensors_hash(self.detector.frontend.state_dict())
        _check_name(identity["system"], self.detector)
        for stage in recipe.stages:
            if stage.batch_size % accelerator.num_processes:
                raise ConfigError(
                    f"training.stages: a batch of {stage.batch_size} cannot be shared evenly by "
                    f"{accelerator.num_processes} processes"
                )
        if accelerator.num_processes > 1 and recipe.normalised_together:
            raise ConfigError(
                "training.frontend.normalise: batch is for one process: each would normalise its share of a batch"
            )
        self.n_frames = {
            crop: self._count_frames(crop) for crop in {recipe.crop, *(s.crop for s in recipe.stages if s.crop)}
        }
        if accelerator.num_processes > 1 and self.device.type == "cuda":
            self.detector = nn.SyncBatchNorm.convert_sync_batchnorm(self.detector)
        self.detector.to(self.device)
        self.detector.frontend.prepare_training(
            gradient_checkpointing=recipe.gradient_checkpointing, compile=recipe.compile
        )
        self.views: list[Dataset] = []
        self.cached_dev: Dataset | None = None

    def open_caches(self, train_features: Path | None, dev_features: Path | None) -> None:
        """Open the caches that this back-end can use, and see that they are what this run would compute."""
        recipe = self.recipe
        if self.detector.backend.all_layers:
            train_features = dev_features = None
        self.identity["cached"] = {"train": train_features is not None, "dev": dev_features is not None}
        if not any(self.identity["cached"].values()):
            return
        weights = self.frontend_weights
        if train_features is not None:
            for number in range(recipe.views):
                draws = view(recipe, self.train, number, self.augmenter)
                identity = identify(self.lists[0], recipe, draws, number, weights)
                self.views.append(CachedFrames(train_features / f"view{number}", identity, draws.classes))
        if dev_features is not None:
            identity = identify(self.lists[1], recipe, Excerpts(self.dev, recipe.crop), None, weights)
            self.cached_dev = CachedFrames(dev_features, identity)

    def terminate(self, *_signal: object) -> None:
        """Stop at the next point from which the run can go on exactly; outside the training steps that is here."""
        self.terminated = True
        if not self.in_step:
            self._say_goodbye()

    def _stop(self) -> NoReturn:
        # Together: a launcher that sees one process end does not give the one that saves much time
        self.accelerator.wait_for_everyone()
        self._say_goodbye()

    def _say_goodbye(self) -> NoReturn:
        where = f"stage {self.progress.stage + 1}, epoch {self.progress.epoch + 1}, step {self.progress.step}"
        tqdm.write(f"told to stop (SIGTERM): saved up to {where}; call again to go on", file=sys.stderr)
        raise SystemExit(TERMINATED)

    def check_space(self) -> None:
        """Compare what the run will lay down in `last/` with what is free, before its hours begin."""
        weights = sum(tensor.nbytes for tensor in self.detector.state_dict().values())
        tuned = self.detector if any(stage.train_frontend for stage in self.recipe.stages) else self.detector.backend
        state = weights + 2 * sum(parameter.nbytes for parameter in tuned.parameters())  # Adam's two moments
        # A state is written before the one that it replaces goes
        needed = 2 * state + sum(stage.epochs > 0 for stage in self.recipe.stages) * weights
        present = sum(path.stat().st_size for path in self.last.glob("*"))
        free = shutil.disk_usage(self.output if self.output.exists() else self.output.parent).free
        if needed > free + present:
            raise ConfigError(
                f"{self.output}: too little disk: a training under way takes {needed / 1e6:,.0f} MB, "
                f"and {(free + present) / 1e6:,.0f} MB are free; free some, or name another place"
            )

    def resume(self) -> None:
        """Go on from `last/`, if there is one of this very run."""
        path = self.last / "state.pt"
        if not path.exists():
            return
        state = self._read(path)
        self.progress = Progress(**state["progress"])
        self.detector.load_state_dict(state["detector"])
        self.pending = state

    def _read(self, path: Path) -> dict:
        """What `_save` has written, if it is whole and of this very run."""
        anew = f"delete the folder {self.last} to start anew"
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            written = state.pop(STATE_HASH, None)
        except (PermissionError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever torch makes of what is in a file
            raise ConfigError(
                f"{path}: damaged ({type(error).__name__}), so that the training cannot go on; {anew}"
            ) from None
        if written != _state_hash(state):
            raise ConfigError(f"{path}: edited, damaged, or of a version that wrote no hash; {anew}")
        identity = state["identity"]
        if differing := sorted(k for k in self.identity if identity.get(k) != self.identity[k]):
            raise ConfigError(f"{path}: of an unfinished run with another {', '.join(differing)}; {anew}")
        return state

    def train_stage(self, number: int, stage: Stage) -> None:
        """Run the stage's remaining epochs, then put its best weights back."""
        if stage.epochs == 0:
            return
        progress = self.progress
        if number > progress.stage:
            progress.stage, progress.epoch, progress.step = number, 0, 0
        self.detector.frontend.requires_grad_(stage.train_frontend)
        model = self.accelerator.prepare_model(self.detector)
        trainable = [p for p in self.detector.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(trainable, lr=stage.learning_rate, fused=True)
        n_draws = draws_per_epoch(self.recipe, stage, len(self.train))
        schedule = _schedule(optimiser, stage, n_draws // stage.batch_size)
        if self.pending and (progress.epoch or progress.step):
            optimiser.load_state_dict(self.pending["optimiser"])
            schedule.load_state_dict(self.pending["schedule"])
        self.pending = None
        while progress.epoch < stage.epochs:
            self._train_epoch(number, stage, model, optimiser, schedule)
            # Killed while it scores the development set, the epoch's steps are not lost
            self._save_state(optimiser, schedule)
            self.in_step = False
            if self._told_to_stop():
                self._stop()
            began = time.perf_counter()
            dev_eer = self._dev_eer(number, stage)
            n_steps, seconds = progress.step, progress.seconds + time.perf_counter() - began
            progress.epoch += 1
            rate = round(n_draws / progress.seconds, 1)
            row = (number + 1, progress.epoch, progress.loss / n_steps, dev_eer, progress.lr)
            row += (round(seconds, 2), rate, _peak_memory_mb())
            progress.history.append(dict(zip(HISTORY, row, strict=True)))
            if dev_eer < progress.best.get(number, (float("inf"), 0))[0]:
                progress.best[number] = (dev_eer, progress.epoch)
                best = {"best": progress.best[number], "detector": self.detector.state_dict()}
                self._save(self.last / f"best{number}.pt", best)
            progress.step, progress.loss, progress.seconds = 0, 0.0, 0.0
            # The best weights are written first: killed in between, the scoring is repeated and writes the same again
            self._save_state(optimiser, schedule)
        self._load_best(number)

    def finish(self) -> None:
        """Choose among the stages' best, write the checkpoint, drop the resume state."""
        best = self.progress.best
        if not best:
            raise ConfigError("training.stages: no stage has any epochs")
        # Too late to stop: a checkpoint without its resume state, thrown away as half-made, would cost the whole run
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        chosen = min(best, key=lambda n: best[n][0]) if self.recipe.keep_better_stage else max(best)
        self._check_ranks()
        self._load_best(chosen)
        if not self.accelerator.is_main_process:
            return
        record = {
            "system": self.identity["system"],
            "seed": self.seed,
            "frontend": asdict(self.recipe.frontend),
            "backend": asdict(self.recipe.backend),
            "frontend_weights": self.frontend_weights,
            "architecture": self.detector.frontend.architecture,
            "feature_dim": self.detector.frontend.feature_dim,
            "n_layers": self.detector.frontend.n_layers,
            "n_frames": self.n_frames[self.recipe.crop],
            "recipe": asdict(self.recipe),
            "excerpt": asdict(Excerpt(self.recipe.crop)),
            "stage": chosen + 1,
            "epoch": best[chosen][1],
            "dev_eer": best[chosen][0],
            "gpu": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "provenance": provenance(backend=self.recipe.backend.kind),
        }
        record |= {
            key: self.identity[key] for key in ("cached", "device", "processes", "threads", "train_list", "dev_list")
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

    def _check_ranks(self) -> None:
        """See that all processes hold the same parameters, which is what sharing gradients is for."""
        if self.accelerator.num_processes > 1:
            hashes = gather_object([tensors_hash(dict(self.detector.named_parameters()))])
            if len(set(hashes)) > 1:
                raise RuntimeError(
                    f"the parameters of {len(hashes)} processes drifted apart; this is a defect: report it"
                )

    @torch.inference_mode()
    def _count_frames(self, crop: int) -> int:
        try:
            frames = self.detector.eval().frames(torch.zeros(1, crop))
            self.detector.backend(frames)
        except (ValueError, RuntimeError) as error:
            # No front-end wants a second; what does not work above has no place in memory
            how, reason = "short" if crop < SAMPLE_RATE else "long", str(error).partition("\n")[0]
            raise ConfigError(f"training: a crop of {crop} samples is too {how} ({reason})") from None
        return frames.shape[-2]

    def _train_epoch(
        self,
        number: int,
        stage: Stage,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        """Run the remaining steps of the epoch begun."""
        progress, rank = self.progress, self.accelerator.process_index
        model.train()
        if not stage.train_frontend:
            self.detector.frontend.eval()
        draws, inputs_of, order = self._draws(number, stage)
        batches = order.reshape(-1, stage.batch_size)
        if progress.step == 0:
            progress.lr = optimiser.param_groups[0]["lr"]
        how = {
            "batch_sampler": batches[progress.step :, rank :: self.accelerator.num_processes].tolist(),
            "pin_memory": self.device.type == "cuda",
        }
        bar = {
            "desc": f"stage {number + 1} epoch {progress.epoch + 1}/{stage.epochs}",
            "initial": progress.step,
            "total": len(batches),
            "unit": "step",
            "disable": not self.accelerator.is_main_process,
        }
        self.in_step, began, before = True, time.perf_counter(), progress.seconds
        with reading(inputs_of, self.workers, bar, **how) as read:
            for inputs, classes in read:
                position = (self.seed, number, progress.epoch, progress.step, *([rank] if rank else []))
                torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1)[0]))
                logits = model(inputs.to(self.device, non_blocking=True))
                loss = F.cross_entropy(logits, classes.to(self.device, non_blocking=True))
                if not torch.isfinite(loss):
                    trials = self.train["trial_id"].iloc[draws.trials[batches[progress.step]]]
                    raise ConfigError(
                        f"stage {number + 1}, epoch {progress.epoch + 1}, step {progress.step + 1}: the loss is "
                        f"{loss.item()}; batch: {', '.join(trials)}"
                    )
                optimiser.zero_grad(set_to_none=True)
                self.accelerator.backward(loss)
                optimiser.step()
                schedule.step()
                progress.loss += self.accelerator.reduce(loss.detach(), "mean").item()
                progress.step += 1
                progress.seconds = before + time.perf_counter() - began
                if self._told_to_stop():
                    self._save_state(optimiser, schedule)
                    self._stop()
                if time.monotonic() - self.saved > SAVE_EVERY_S:
                    self._save_state(optimiser, schedule)

    def _draws(self, number: int, stage: Stage) -> tuple[TrainingDraws, Dataset, np.ndarray]:
        """The epoch's draws, what gives their inputs, and the order that they are taken in."""
        epoch, n_draws = self.progress.epoch, draws_per_epoch(self.recipe, stage, len(self.train))
        if self.recipe.views == 0 or stage is not self.recipe.frozen_stage:
            crop = stage.crop or self.recipe.crop
            draws = TrainingDraws(self.train, n_draws, crop, self.augmenter, (self.seed, number, epoch))
            return draws, draws, np.arange(n_draws)
        draws = view(self.recipe, self.train, epoch % self.recipe.views, self.augmenter)
        order = np.random.default_rng((self.seed, number, epoch, 3)).permutation(n_draws)
        return draws, self.views[epoch % self.recipe.views] if self.views else draws, order

    def _told_to_stop(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self.terminated
        flag = torch.tensor(float(self.terminated), device=self.device)
        return self.accelerator.reduce(flag, "sum").item() > 0

    def _dev_eer(self, number: int, stage: Stage) -> float:
        description = f"stage {number + 1} epoch {self.progress.epoch + 1}: dev"
        # Without gradients the recipe's largest batch fits in either stage
        size = self.recipe.normalised_together or max(stage.batch_size for stage in self.recipe.stages)
        anew = (self.seed, number, self.progress.epoch) if self.recipe.development_crop == "random" else None
        excerpts: Dataset = Excerpts(self.dev, self.recipe.crop, anew)
        if self.cached_dev is not None and not stage.train_frontend:
            excerpts = self.cached_dev
        rank, n_processes = self.accelerator.process_index, self.accelerator.num_processes
        share = Subset(excerpts, range(rank, len(self.dev), n_processes))
        scores = score_excerpts(self.detector, share, (), size, self.workers, description)[:, 0]
        if n_processes > 1:
            parts = gather_object([scores])
            scores = np.empty(len(self.dev), dtype=np.float32)
            for k, part in enumerate(parts):
                scores[k::n_processes] = part
        bonafide = (self.dev["label"] == "bonafide").to_numpy()
        return compute_metrics(scores[bonafide], scores[~bonafide])["eer"]

    def _load_best(self, number: int) -> None:
        self.accelerator.wait_for_everyone()
        path = self.last / f"best{number}.pt"
        state = self._read(path)
        if state["best"] != self.progress.best[number]:
            raise ConfigError(f"{path}: not of the best epoch; delete the folder {self.last} to start anew")
        self.detector.load_state_dict(state["detector"])
        self.accelerator.wait_for_everyone()

    def _save_state(self, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        state = {
            "progress": asdict(self.progress),
            "detector": self.detector.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        }
        self._save(self.last / "state.pt", state)
        self.saved = time.monotonic()

    def _save(self, path: Path, state: dict) -> None:
        if self.accelerator.is_main_process:
            state |= {"identity": self.identity}
            # Into a stream, whose errors torch passes on; of its own files it says "unexpected pos" when a disk is full
            with writing(path) as temporary, temporary.open("wb") as stream:
                torch.save(state | {STATE_HASH: _state_hash(state)}, stream)


def _state_hash(state: dict) -> str:
    """Hex digest (sha256) of all that a resume state holds."""
    leaves = dict(_flatten(state))
    tensors = {name: leaf for name, leaf in leaves.items() if torch.is_tensor(leaf)}
    others = sorted((name, repr(leaf)) for name, leaf in leaves.items() if name not in tensors)
    return hashlib.sha256(f"{tensors_hash(tensors)} {others}".encode()).hexdigest()


def _check_name(system: str, detector: Detector) -> None:
    """Refuse a name that would make tables lie: AST- is for the paper's AASIST, and says k_train and temperatures."""
    named = System.parse(system_name(system, column_as_trained(system, detector.variant)))
    backend, fits = detector.backend, named.variant is None
    if named.variant:
        fits = (
            named.k_train == backend.variant.k_infer
            and named.trained_graph_temperature in (None, backend.spectral_attention.temperature)
            and named.trained_stack_temperature in (None, backend.branches[0].first.stack_temperature)
        )
    if not fits:
        raise ConfigError(
            f"system {system}: AST-<k_train> is the name of an AASIST, with +graph<temperature> and "
            "+stack<temperature> behind it if these are not AASIST's; the recipe's backend says otherwise"
        )


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor; numbers do not change.

    glibc maps every block above 32 MiB anew and gives it back at once, so that a training step on the CPU spends much
    of its time in page faults (`spaarsist benchmark training` shows how much). Other C libraries are left as they are.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**26)):
            mallopt(parameter, value)


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
