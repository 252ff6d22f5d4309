"""The sections of the configuration, checked.

Every section of `config.yaml` that a step needs has one frozen dataclass here. They are checked by pydantic on
construction: an unknown key, a wrong type or a value out of range is an error that names the key. Types are strict:
text is no number, nor is true; no number is NaN or infinite. Upper bounds are where slips of the pen begin.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections import abc
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    validate_call,
)
from pydantic.dataclasses import dataclass

from spaarsist import code
from spaarsist.names import LABELS
from spaarsist.names import ConfigError as ConfigError
from spaarsist.names import Variant as Variant

SAMPLE_RATE = 16_000
"""Sampling rate of every waveform inside the package, in Hz."""


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("an odd number")
    return size


def _before_logits(size: int) -> int:
    if size % 4 and size != 2:
        raise ValueError("a multiple of 4, or 2")
    return size


Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Cost = Annotated[float, Field(strict=True, ge=1e-6, le=1e6)]
Weight = Annotated[float, Field(strict=True, ge=0, le=1e6)]
Temperature = Annotated[float, Field(strict=True, ge=1e-4, le=1e5)]
Temperatures = Annotated[tuple[Temperature, ...], Field(min_length=4, max_length=4)]
Ratio = Annotated[float, Field(strict=True, gt=0, le=1)]
Label = Literal[*LABELS]
Size = Annotated[int, Field(strict=True, ge=1, le=65_536)]
OddSize = Annotated[Size, AfterValidator(_odd)]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Draws = Annotated[int, Field(strict=True, ge=0, le=100_000_000)]
Crop = Annotated[int, Field(strict=True, ge=0, le=3600 * SAMPLE_RATE)]
Place = Literal["centre", "start"]
Padding = Literal["zeros", "repeat"]
Checksum = Annotated[str, Field(pattern="^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?$")]

_FINITE = ConfigDict(extra="forbid", allow_inf_nan=False)
_checked = dataclass(frozen=True, config=_FINITE)


@_checked
class CostModel:
    """Prior and costs of the detection cost function (defaults: the ASVspoof 5 evaluation plan).

    Args:
        p_spoof: prior probability of a spoof, 1e-6 to 1 - 1e-6.
        c_miss: cost of rejecting a bona fide trial, 1e-6 to 1e6.
        c_fa: cost of accepting a spoof, 1e-6 to 1e6.
    """

    p_spoof: Annotated[float, Field(strict=True, ge=1e-6, le=1 - 1e-6)] = 0.05
    c_miss: Cost = 1.0
    c_fa: Cost = 10.0

    @property
    def bayes_threshold(self) -> float:
        """Log-likelihood ratio in nats from which accepting costs less than rejecting."""
        return -math.log(self.c_miss * (1 - self.p_spoof) / (self.c_fa * self.p_spoof))


@_checked
class CompositeWeights:
    """Weights of the composite score's groups and of the domains within them; only their proportions matter.

    Args:
        accuracy: of EER and minDCF.
        calibration: of Cllr - min_cllr.
        compute: of the whole detector's MACs (which have no domain).
        in_domain: of the first evaluation corpus.
        out_of_domain: of the others.
    """

    accuracy: Weight = 1.0
    calibration: Weight = 1.0
    compute: Weight = 1.0
    in_domain: Weight = 1.0
    out_of_domain: Weight = 1.0

    def __post_init__(self) -> None:
        if self.accuracy + self.calibration + self.compute == 0 or self.in_domain + self.out_of_domain == 0:
            raise ValueError("a composite score needs a group and a domain with a weight above 0")


@_checked
class Question:
    """Whether two systems are equivalent: what is asked, and how far apart they may be, declared before the run.

    Args:
        asks: the question, as tables print it.
        system: name of a system.
        reference: name of what it is compared with.
        metric: eer or min_dcf.
        margin: the largest difference that counts as none; a fraction (0.01: one point of EER).
    """

    asks: str
    system: str
    reference: str
    metric: Literal["eer", "min_dcf"]
    margin: Annotated[float, Field(strict=True, gt=0, lt=1)]


@_checked
class Release:
    """Published files that are fetched together: a corpus, or the weights of a front-end.

    Args:
        folder: where the files lie or are put. Those that are there already are verified and used.
        size_gb: size of the whole release in GB (1e9 bytes), compared with the free space before the first byte.
        licence: what its publishers allow, said when it is fetched.
        addresses: where to get a file, tried in this order; `{file}` stands for its name.
        files: name -> `md5:<hex>` or `sha256:<hex>`; empty where none is published: ours is recorded when the file is
            first seen, and verified from then on.
    """

    folder: str
    size_gb: Weight
    licence: str
    addresses: Annotated[tuple[str, ...], Field(min_length=1)]
    files: Annotated[dict[str, Checksum], Field(min_length=1)]


@_checked
class Excerpt:
    """What a detector is shown of a recording when it scores.

    Args:
        crop: samples at 16 kHz.
        place: where they lie: in the middle (`centre`) or at the `start`.
        padding: what follows a shorter recording: `zeros`, or the recording over and over (`repeat`).
    """

    crop: Annotated[Crop, Field(gt=0)]
    place: Place = "centre"
    padding: Padding = "zeros"

    def __str__(self) -> str:
        """As score files say it."""
        return f"{self.place} {self.crop} samples" + (", short recordings repeated" * (self.padding == "repeat"))


@_checked
class FrontendConfig:
    """What turns a waveform into frames.

    Args:
        model: Hugging Face id or local folder of a wav2vec2, WavLM or HuBERT model, or `spectral`: a small bank of
            bands for runs on a CPU.
        revision: commit of the Hugging Face repository; required for an id, empty otherwise.
        final_layer_norm: take the last layer after the encoder's final layer norm; the authors' code takes it before.
        normalise: `utterance` (zero mean, unit variance per waveform), `batch` (over the whole batch tensor, as the
            authors' code does: scores then depend on the batch) or `none`.
        precision: of the front-end, in training and scoring alike. `bfloat16` is torch's autocast: matrix products and
            the frames between them have eight bits; weights stay float32, and so do the first convolution, which sees
            the waveform, and everything behind the front-end (scores of eight bits would tie).
    """

    model: str = "spectral"
    revision: str = ""
    final_layer_norm: StrictBool = False
    normalise: Literal["utterance", "batch", "none"] = "utterance"
    precision: Literal["float32", "bfloat16"] = "float32"


def _known(kind: str) -> str:
    if kind not in code.backends():
        raise ValueError(f"there is no back-end {kind!r}{near(kind, code.backends())}")
    return kind


@cache
def _options(kind: str) -> Any:
    """What a back-end's class takes beside its sizes, as a model; a type that is unknown here takes anything."""
    known = {**vars(abc), **vars(typing), **globals()}
    fields: dict[str, Any] = {}
    for name, (annotation, needed) in code.keywords(kind).items():
        try:
            taken = eval(annotation, known)  # our own source
        except NameError:
            taken = Any
        fields[name] = (taken, ... if needed else None)
    return create_model(kind, __config__=_FINITE | {"strict": True}, **fields)


@_checked
class BackendConfig:
    """What turns frames into an embedding.

    Args:
        kind: a class of `spaarsist.models.backend` (AASIST) or of `spaarsist.models.pooling` (MHFA, ...).
        embedding_dim: size E of the embedding (1024 in the paper); a multiple of 4, since the head halves it twice. Or
            2: there is no head, and the back-end gives the logits, as in many public AASISTs.
        options: further keywords of that class: k_train and temperatures of AASIST, n_heads of MHFA, ...
    """

    kind: Annotated[str, AfterValidator(_known)] = "AASIST"
    embedding_dim: Annotated[Size, AfterValidator(_before_logits)] = 1024
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any], found: ValidationInfo) -> dict[str, Any]:
        if "kind" in found.data:  # else it is what is wrong
            taken = _options(found.data["kind"])
            try:
                taken.model_validate_json(json.dumps(options, default=str))  # in JSON, lists may be tuples
            except ValidationError as error:
                raise ValueError(_places(error, keys=[*taken.model_fields])) from None
        return options


@_checked
class Augmentation:
    """Probability of each training augmentation, drawn independently per clip (defaults: the paper's recipe).

    `noise` and `filter` are drawn only in the share `noise_filter` of clips: with the defaults each touches 27 % of
    them. `room` draws from the RIRS_NOISES-like folder `room_corpus`; without a folder it must be 0, as in the released
    code.

    How it is done (defaults: as in trainings whose records do not say it):

    Args:
        silence_detector: what finds the leading silence. `vad`: torchaudio's, as the authors' code; `energy`: ours, by
            frames far below the loudest one. See `spaarsist.data.augment`.
        crop_last: every step sees the whole clip, and the crop comes after all of them, as in the authors' code; a crop
            may then be masked from end to end. False: only the silence is trimmed before the crop.
    """

    trim_silence: Probability = 0.5
    time_mask: Probability = 0.3
    mu_law: Probability = 0.3
    rawboost: Probability = 0.3
    noise_filter: Probability = 0.3
    noise: Probability = 0.9
    filter: Probability = 0.9
    room: Probability = 0.0
    room_corpus: str = ""
    silence_detector: Literal["energy", "vad"] = "energy"
    crop_last: StrictBool = False

    def __post_init__(self) -> None:
        if self.room > 0 and not self.room_corpus:
            raise ValueError("room > 0 needs room_corpus, a folder of room responses or noises")


@_checked
class Stage:
    """One stage of training.

    Args:
        epochs: passes over as many draws as the training list has trials.
        batch_size: trials per step, at least 2 (batch norm).
        learning_rate: Adam's.
        train_frontend: fine-tune the front-end too; false keeps it frozen.
        schedule: `constant` (the paper's) or `one_cycle` (rises to learning_rate and falls; for short runs).
        crop: samples per training excerpt; 0 takes the recipe's crop. Development and evaluation use the recipe's.
    """

    epochs: Count
    batch_size: Annotated[Size, Field(ge=2)]
    learning_rate: Annotated[float, Field(strict=True, gt=0)] = 1e-4
    train_frontend: StrictBool = False
    schedule: Literal["constant", "one_cycle"] = "constant"
    crop: Crop = 0


@_checked
class TrainingRecipe:
    """How a detector is trained: front-end, back-end size, stages, augmentation.

    Args:
        crop: samples of an evaluation excerpt (64,600 in the paper: 4.04 s at 16 kHz).
        development_crop: where the excerpts lie whose EER selects the epoch: at the `centre`, or anew at `random` in
            every epoch, as in the authors' code (selection is then as noisy as the crops).
        deterministic: training repeats itself to the last bit on the same machine; false lets a GPU take its fastest
            operations, whose sums differ from run to run, as the authors' code does. Scoring always repeats itself.
        keep_better_stage: a later stage replaces an earlier one only if its development EER is lower; false lets the
            last stage win always, as the released code does.
        epoch_size: draws per epoch; 0 takes the number of training trials.
        views: epochs' worth of training draws whose frames are cached for stages with a frozen front-end, and shared
            by every system and seed; a stage with more epochs meets them again. 0: no cache, every draw anew.
        gradient_checkpointing: recompute the front-end's layers in the backward pass: less memory, more time.
        compile: let torch.compile fuse the front-end's layers; changes results by rounding.
    """

    frontend: FrontendConfig = FrontendConfig()
    backend: BackendConfig = BackendConfig()
    crop: Annotated[Crop, Field(gt=0)] = 64_600
    stages: tuple[Stage, ...] = (
        Stage(epochs=10, batch_size=64),
        Stage(epochs=5, batch_size=32, train_frontend=True),
    )
    augmentation: Augmentation = Augmentation()
    development_crop: Literal["centre", "random"] = "centre"
    deterministic: StrictBool = True
    keep_better_stage: StrictBool = True
    epoch_size: Draws = 0
    views: Count = 0
    gradient_checkpointing: StrictBool = False
    compile: StrictBool = False

    def __post_init__(self) -> None:
        reduced = self.gradient_checkpointing or self.compile or self.frontend.precision != "float32"
        if self.frontend.model == "spectral" and reduced:
            raise ValueError(
                "gradient_checkpointing, compile and frontend.precision bfloat16 are for transformers; "
                "frontend.model is spectral, which takes none of them"
            )
        frozen = [not stage.train_frontend for stage in self.stages if stage.epochs]
        if self.views and (sum(frozen) != 1 or not frozen[0]):
            raise ValueError("views > 0 is for recipes whose first stage, and no other, leaves the front-end frozen")
        if self.views:
            self.refuse_cache("training.views above 0")

    def refuse_cache(self, cache: str, *, development: bool = False) -> None:
        """Stop where frames that are cached once cannot be those that a training would compute.

        Args:
            cache: the key that asks for it, for the message.
            development: it is of the development excerpts.

        Raises:
            ConfigError: names the key, and the one that it contradicts.
        """
        reasons = {
            "training.frontend.normalise: batch": self.frontend.normalise == "batch"
            and "a waveform's frames then depend on the others in its batch",
            "training.development_crop: random": development
            and self.development_crop == "random"
            and "every epoch then has other excerpts",
        }
        for other, reason in reasons.items():
            if reason:
                raise ConfigError(f"{cache} does not go with {other}: {reason}, so none can be cached")

    @property
    def frozen_stage(self) -> Stage:
        """The stage that views are for."""
        return next(stage for stage in self.stages if stage.epochs and not stage.train_frontend)

    @property
    def normalised_together(self) -> int | None:
        """Excerpts whose waveforms are normalised together in scoring, where that decides scores; else None.

        As many as in a batch of the last stage: the authors' code scores in batches of 32, in both stages and after.
        """
        return self.stages[-1].batch_size if self.stages and self.frontend.normalise == "batch" else None


Section = TypeVar("Section")


def parse(kind: type[Section], source: str | Path | dict[str, Any], place: str = "") -> Section:
    """Read one section of the configuration.

    Args:
        kind: the dataclass to build.
        source: a mapping, JSON text, or the path of a YAML or JSON file that holds the mapping.
        place: where the section stands in the configuration, for messages; default: its class.

    Raises:
        ConfigError: names every offending key and what it should have been.
    """
    if not isinstance(source, dict):
        source = read_mapping(str(source))
    try:
        return TypeAdapter(kind).validate_python(source)
    except ValidationError as error:
        keys = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        raise ConfigError(_places(error, place or f"{kind.__name__}: ", keys)) from None


def call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function with arguments as JSON holds them, each turned into the type that its annotation names.

    Raises:
        ConfigError: an argument is missing, unknown or of another type; named.
    """
    try:
        return validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)(**arguments)
    except ValidationError as error:
        raise ConfigError(_places(error, f"{function.__name__}: ")) from None


def at(keys: Iterable[str | int]) -> str:
    """Write the place of a value: `training.stages[1].epochs`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def near(name: str, known: Sequence[str]) -> str:
    """End of a message about a name that nothing has: the nearest that something has, or all."""
    found = get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(known) or 'none'}"


def shown(value: object) -> str:
    """Write a value that is refused, shortened, with a hint where it is a number that was taken for text."""
    text = json.dumps(value, default=str)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    try:
        number = isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        number = False
    return f"{text}, which is text: write it without quotes, and 1.0e-4 for 1e-4" if number else text


def _places(error: ValidationError, start: str = "", keys: Sequence[str] = ()) -> str:
    """Every complaint with its place; `keys` are those that the outermost level takes."""
    complaints, errors = [], error.errors()
    within = {found["loc"][:depth] for found in errors for depth in range(len(found["loc"]))}
    for found in errors:
        if found["loc"] in within:  # what is wrong lies deeper
            continue
        place, complaint = found["loc"], found["msg"].removeprefix("Value error, ").replace("tuple", "list")
        complaint = complaint.removeprefix("Tuple ").replace(" after validation", "")
        if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            complaint = "no such key" + (near(str(place[0]), keys) if len(place) == 1 and keys else "")
        elif found["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            complaint = "missing"
        elif found["type"] != "value_error" and isinstance(found["input"], str | int | float):
            complaint += f", not {shown(found['input'])}"
        named = f"{start}{at(place)}" if start.endswith(": ") else at([start, *place]) if start else at(place)
        complaints.append(f"{named.removesuffix(': ')}: {complaint}")
    return "; ".join(dict.fromkeys(complaints))


def read_mapping(text: str) -> dict[str, Any]:
    """Read a mapping: JSON text, or the path of a YAML or JSON file.

    Raises:
        ConfigError: it is unreadable, no mapping, or holds a key twice; the message names file, line and column.
    """
    origin = "the JSON text given"
    if not text.lstrip().startswith("{"):
        origin = text
        try:
            text = Path(text).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{origin}, line {line}: not UTF-8; save the file in that encoding") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{origin}: cannot be read ({getattr(error, 'strerror', error)})") from None
    try:
        mapping = json.loads(text, object_pairs_hook=_once)  # JSON is YAML but for numbers such as 1e-05
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except (ValueError, RecursionError):
        mapping = _read_yaml(text, origin)
    if not isinstance(mapping, dict):
        raise ConfigError(f"{origin}: expected a mapping of keys to values")
    return mapping


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for position, (key, _) in enumerate(pairs):
        if key in (other for other, _ in pairs[:position]):
            raise ConfigError(f"{key} is given twice; keep one")
    return dict(pairs)


def _read_yaml(text: str, origin: str) -> Any:
    import yaml

    def refuse(mark: Any, complaint: str) -> ConfigError:
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return ConfigError(f"{origin}{place}: {complaint}")

    class Loader(yaml.SafeLoader):
        """Takes no key twice, and no alias: a few lines of them can stand for more than fits into memory."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise refuse(self.peek_event().start_mark, "an alias (*name); write the value itself")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen if isinstance(key, yaml.ScalarNode) else False:
                    raise refuse(key.start_mark, f"{key.value} is given twice; keep one")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unknown"
        raise refuse(mark, f"not valid YAML or JSON ({problem})") from None
    except RecursionError:
        raise refuse(None, "nested too deeply") from None
    except ValueError as error:  # a date that no calendar has, a number of too many digits
        raise refuse(None, f"not valid YAML or JSON ({error})") from None


def to_json(section: object) -> str:
    """Write a section as canonical JSON (sorted keys), the form stored beside checkpoints and scores."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)
