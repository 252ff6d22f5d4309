"""Cache of a frozen front-end's frames, which every system and seed of stage 1 shares.

A cache is a folder: one of development excerpts, or one view (an epoch's worth) of augmented training draws. It
consists of parts, each made by a job of its own: `part<k>.npy`, float16 (n, T, D), and `part<k>.json`, which says what
the frames are: hashes of trial list, front-end, augmentation and code, the crop, the view, which positions the part
holds, and a checksum (CRC-32) of each excerpt. It is checked whenever an excerpt is read.
"""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from spaarsist.artefacts import locked, provenance, tensors_hash, trials_hash, writing
from spaarsist.code import meaning
from spaarsist.config import TrainingRecipe
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.experiments.excerpts import Excerpts, TrainingDraws, draws_per_epoch, reading, view
from spaarsist.models.detector import prepare_torch
from spaarsist.models.frontend import build_frontend
from spaarsist.names import ConfigError

DECIDES_FRAMES = "experiments.features.make_part"
"""Root of the code that frames rest on, see `spaarsist.code.meaning`."""


def identify(trial_list: Path, recipe: TrainingRecipe, excerpts: Dataset, number: int | None, weights: str) -> dict:
    """What a cache must have been made of to be used: the same in every part, compared before each use.

    Args:
        trial_list, recipe: of the run.
        excerpts: `Excerpts`, or a `view`'s draws.
        number: of the view; None for excerpts.
        weights: `tensors_hash` of the front-end's state.

    Raises:
        ConfigError: the recipe has none of these frames twice, see `TrainingRecipe.refuse_cache`.
    """
    if number is None:
        recipe.refuse_cache("features.development", development=True)
    return {
        "trial_list": trials_hash(trial_list),
        # Its weights say which model it is, in whatever folder they lie
        "frontend": {key: value for key, value in asdict(recipe.frontend).items() if key not in ("model", "revision")},
        "weights": weights,
        "crop": excerpts.crop,
        "augmentation": None if number is None else asdict(recipe.augmentation),
        "view": number,
        "n": len(excerpts),
        "code_hash": meaning(DECIDES_FRAMES),
    }


@torch.inference_mode()
def make_part(
    trial_list: Path,
    recipe: TrainingRecipe,
    output: Path,
    part: int,
    n_parts: int,
    number: int | None = None,
    *,
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Write one part of a cache: `part<part>.npy` and `part<part>.json` in the folder `output`.

    A part that is there already is kept. Nothing that was made of something else is overwritten.

    Args:
        trial_list: what to take excerpts of.
        recipe: front-end, crops and augmentation.
        part: which part, from 0.
        n_parts: number of parts that share the excerpts evenly.
        number: view of the training draws; None: the fixed development excerpts.

    Raises:
        ConfigError: no such part or view, parts in `output` that were made of something else or share the excerpts
            otherwise, too little disk for what is still to be made in this folder, a value beyond float16's range, or
            another process that makes the same part.
    """
    if not 0 <= part < n_parts:
        raise ConfigError(f"part {part} of {n_parts}: parts are counted from 0")
    place = prepare_torch(threads, device)
    trials = read_trials(trial_list, both_classes=number is not None)
    frontend = build_frontend(recipe.frontend).to(place).eval()
    excerpts: Excerpts | TrainingDraws = (
        Excerpts(trials, recipe.crop)
        if number is None
        else view(recipe, trials, number, Augmenter(recipe.augmentation))
    )
    bounds = [len(excerpts) * k // n_parts for k in range(n_parts + 1)]
    first, last = bounds[part], bounds[part + 1]
    n_frames, dim = frontend(torch.zeros(1, excerpts.crop, device=place)).shape[1:]
    shape = (last - first, n_frames, dim)
    identity = identify(trial_list, recipe, excerpts, number, tensors_hash(frontend.state_dict()))
    target, told = output / f"part{part}.npy", output / f"part{part}.json"
    with locked(output / f"part{part}"):
        for path in sorted(output.glob("part*.json")):
            _read_record(path, {**identity, "parts": n_parts})
        if told.exists() and _shape(target) == shape:
            tqdm.write(f"{target}: already made; kept", file=sys.stderr)
            return
        absent = [k for k in range(n_parts) if k == part or not (output / f"part{k}.json").exists()]
        _compare_disk(output, sum(bounds[k + 1] - bounds[k] for k in absent) * n_frames * dim * 2)
        bar = {"desc": f"{output.name} part {part + 1}/{n_parts}", "unit": "batch"}
        checksums: list[int] = []
        with (
            writing(target) as path,
            path.open("wb") as stream,
            reading(Subset(excerpts, range(first, last)), workers, bar, batch_size=batch_size) as batches,
        ):
            # Written, not mapped: on a disk that fills up a mapped file ends the process with a bus error
            about = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(stream, about)
            for waveforms, _ in batches:
                batch, done = frontend(waveforms.to(place)).half(), len(checksums)
                if not torch.isfinite(batch).all():
                    raise ConfigError(
                        f"{trial_list}: frames of excerpts {first + done} to {first + done + len(batch) - 1} are not "
                        "finite in float16; set training.views to 0 and features.development to false: no cache then"
                    )
                frames = batch.cpu().numpy()
                stream.write(frames.tobytes())
                checksums += map(_checksum, frames)
        record = {
            "identity": identity,
            "first": first,
            "last": last,
            "parts": n_parts,
            "checksums": checksums,
            "provenance": provenance(DECIDES_FRAMES),
        }
        with writing(told) as path:
            path.write_text(json.dumps(record, sort_keys=True) + "\n", encoding="utf-8")


def _checksum(frames: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(frames))


def _read_record(path: Path, identity: dict) -> dict:
    """What a part says of itself, if it was made of this."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = {**record["identity"], "parts": record["parts"]}
        if len(record["checksums"]) != record["last"] - record["first"]:
            raise ValueError(f"{len(record['checksums'])} checksums")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not readable as the record of a part ({error!r}); delete {path.parent} and make the cache again"
        ) from None
    if differing := sorted(key for key in identity if found.get(key) != identity[key]):
        raise ConfigError(
            f"{path.with_suffix('.npy')}: made with another {', '.join(differing)}; delete {path.parent} and make the "
            "cache again"
        )
    return record


def _shape(path: Path) -> tuple[int, ...] | None:
    """Of an array's file; None if it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r").shape
    except (OSError, ValueError, EOFError):
        return None


class CachedFrames(Dataset):
    """Frames (T, D) of a cache by position, float16; the parts are mapped into memory, not read.

    Args:
        folder: of the parts.
        identity: what they must have been made of, from `identify`.
        labels: what stands beside each position's frames; default: the position.

    Raises:
        ConfigError: a part is missing or was made of something else, names what differs; or, when it is read, an
            excerpt is not what was written.
    """

    def __init__(self, folder: Path, identity: dict, labels: np.ndarray | None = None) -> None:
        records = [
            (_read_record(path, identity), path.with_suffix(".npy")) for path in sorted(folder.glob("part*.json"))
        ]
        if len(counts := sorted({record["parts"] for record, _ in records})) > 1:
            raise ConfigError(
                f"{folder}: holds parts of {' and of '.join(map(str, counts))}; delete it and make the cache again"
            )
        records.sort(key=lambda r: r[0]["first"])
        self.folder, self.checksums = folder, []
        position, self.starts, self.parts = 0, [], []
        for record, path in records:
            if record["first"] != position:
                break
            shape = _shape(path)
            if shape is None or len(shape) != 3 or shape[0] != record["last"] - record["first"]:
                raise ConfigError(
                    f"{path}: damaged, or not of the record beside it; delete {folder} and make the cache again"
                )
            frames = np.load(path, mmap_mode="r")
            self.starts.append(position)
            self.parts.append(frames)
            self.checksums += record["checksums"]
            position = record["last"]
        if position != identity["n"] or position != (records[-1][0]["last"] if records else 0):
            raise ConfigError(f"{folder}: complete up to excerpt {position} of {identity['n']}; make the missing parts")
        self.labels = np.arange(position) if labels is None else labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        # Copied: torch takes no read-only memory
        frames = np.array(self.parts[part][position - self.starts[part]])
        if _checksum(frames) != self.checksums[position]:
            raise ConfigError(
                f"{self.folder}: excerpt {position} is not what was written; delete the folder and make the cache again"
            )
        return torch.from_numpy(frames), int(self.labels[position])


@torch.inference_mode()
def check_space(train_list: Path, dev_list: Path | None, recipe: TrainingRecipe, directory: Path, output: Path) -> None:
    """Compare what all caches of an experiment will take with what is free, before the first is begun.

    Args:
        train_list: of whose draws the recipe's views are made.
        dev_list: whose excerpts are cached too; None: they are not.
        directory: folder of the caches; what lies there already is taken off the need.
        output: text file to write: need and free space.

    Raises:
        ConfigError: it is too little.
    """
    frontend = build_frontend(recipe.frontend).eval()
    crops = {recipe.crop: len(read_trials(dev_list)) if dev_list else 0}
    if recipe.views:
        stage = recipe.frozen_stage
        crop, n_draws = stage.crop or recipe.crop, draws_per_epoch(recipe, stage, len(read_trials(train_list)))
        crops[crop] = crops.get(crop, 0) + recipe.views * n_draws
    needed = sum(n * frontend(torch.zeros(1, crop)).numel() * 2 for crop, n in crops.items() if n)
    present = sum(path.stat().st_size for path in directory.rglob("part*.npy"))
    balance = _compare_disk(directory, max(needed - present, 0))
    with writing(output) as path:
        path.write_text(f"{balance}\n", encoding="utf-8")


def _compare_disk(folder: Path, needed: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    balance = f"{folder}: {needed / 1e9:.1f} GB of frames to make, {free / 1e9:.1f} GB free"
    tqdm.write(balance)
    if needed > free:
        raise ConfigError(
            f"{folder}: {needed / 1e9:.1f} GB of frames to make, but only {free / 1e9:.1f} GB are free; point "
            "features.directory to a larger disk, or set training.views to 0"
        )
    return balance
