"""The experiment's vocabulary: what can be varied, its legal values, and the names used in files and tables.

Every section of `config.yaml` that a step needs has one frozen dataclass here. They are checked by pydantic on
construction: an unknown key, a wrong type or a value out of range is an error that names the key.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

SAMPLE_RATE = 16_000
"""Sampling rate of every waveform inside the package, in Hz."""

NodeScoring = Literal["learned", "magnitude", "magnitude_gated", "learned_ungated"]
StackAggregation = Literal["attention", "uniform", "linear"]
Ratio = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Checksum = Annotated[str, Field(pattern="^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?$")]
PositiveCount = Annotated[int, Field(gt=0)]

_checked = dataclass(frozen=True, config=ConfigDict(extra="forbid"))

LABELS: dict[str, tuple[NodeScoring, StackAggregation]] = {
    "Base": ("learned", "attention"),
    "Mag": ("magnitude", "attention"),
    "Mean": ("learned", "linear"),
    "MagMean": ("magnitude", "linear"),
    "Uni": ("learned", "uniform"),
    "MagUni": ("magnitude", "uniform"),
    "MagGate": ("magnitude_gated", "attention"),
    "NoGate": ("learned_ungated", "attention"),
}
"""Table label -> (node scoring, stack aggregation). The paper's four, then ours: the text's own mean, and the two that
tell which nodes are chosen from how the chosen ones are scaled."""


class ConfigError(ValueError):
    """A configuration or an input file that cannot be used; the message names the place and the mend."""


@_checked
class Variant:
    """One way to run a trained AASIST back-end: what is switched at inference, without retraining.

    Args:
        k_infer: share of nodes that each graph pooling keeps, in (0, 1].
        node_scoring: `learned` (sigmoid projection) or `magnitude` (squared L2 norm, no parameters). The learned score
            also scales the nodes that it keeps, a gate that magnitude lacks: `magnitude_gated` chooses by magnitude and
            keeps the gate, `learned_ungated` chooses by the learned score and drops it.
        stack_aggregation: how the stack node gathers the others: `attention` (AASIST); `uniform` (plain mean of the
            nodes, as the paper's text says); `linear` (what the authors' code runs under the name mean: the stack node
            becomes a linear map of itself and the nodes lose their attention as well).
        graph_temperature: softmax temperature of the spectral and temporal graph layers; None: as trained.
        stack_temperature: softmax temperature of the stack node's attention in every heterogeneous layer (attention
            among the nodes keeps its own); None: as trained.

    Source: Firc et al. 2026, arXiv 2606.11674, and the code its authors released.
    """

    k_infer: Ratio = 0.5
    node_scoring: NodeScoring = "learned"
    stack_aggregation: StackAggregation = "attention"
    graph_temperature: Positive | None = None
    stack_temperature: Positive | None = None

    @classmethod
    def from_label(
        cls,
        k_infer: float,
        label: str,
        graph_temperature: float | None = None,
        stack_temperature: float | None = None,
    ) -> Variant:
        """Build the variant a table label stands for; raises `ConfigError` on an unknown label."""
        if label not in LABELS:
            raise ConfigError(f"unknown variant {label!r}; known: {', '.join(LABELS)}")
        return cls(k_infer, *LABELS[label], graph_temperature, stack_temperature)

    @property
    def label(self) -> str:
        """The table label, one of `LABELS`.

        Raises:
            ConfigError: no label stands for this combination.
        """
        try:
            return next(k for k, v in LABELS.items() if v == (self.node_scoring, self.stack_aggregation))
        except StopIteration:
            raise ConfigError(f"{self.node_scoring} with {self.stack_aggregation} has no label in tables") from None

    @property
    def column(self) -> str:
        """Name of this variant's score column: `01-Mag`, `05` for Base, `05+stack1` for a stack temperature of 1."""
        suffix = "" if self.label == "Base" else f"-{self.label}"
        return ratio_code(self.k_infer) + suffix + _temperature_code(self.graph_temperature, self.stack_temperature)

    @classmethod
    def from_column(cls, column: str) -> Variant:
        """Inverse of `column`; raises `ConfigError` on anything else."""
        found = re.fullmatch(rf"([0-9]{{2,}})(?:-([A-Za-z]+))?{_TEMPERATURES}", column)
        try:
            code, label, *temperatures = found.groups()
            variant = cls.from_label(_ratio(code), label or "Base", *(t and float(t) for t in temperatures))
            if variant.column == column:
                return variant
        except (AttributeError, ConfigError, ValidationError):  # no match, no such label, out of range
            pass
        raise ConfigError(f"{column!r} names no variant; expected something like 05, 01-Mag or 05+stack1")


_TEMPERATURES = r"(?:\+graph([0-9.]+))?(?:\+stack([0-9.]+))?"


def ratio_code(ratio: float) -> str:
    """Write a pooling ratio as the paper's system names do: 0.3 -> `03`, 0.25 -> `025`, 1.0 -> `10`."""
    return str(float(ratio)).replace(".", "")


def _ratio(code: str) -> float:
    return float(f"{code[0]}.{code[1:]}")


def _temperature_code(graph: float | None, stack: float | None) -> str:
    return "".join(f"+{name}{t:g}" for name, t in (("graph", graph), ("stack", stack)) if t is not None)


AS_TRAINED = "score"
"""Name of the only score column of a back-end that has no variants."""

BASELINE = "AST-05-05"
"""System name of the plain AASIST."""

RANK_1 = "AST-03-01-Mag"
"""System name of the configuration that the paper ranks first."""


def system_name(trained: str, column: str) -> str:
    """Name a table row: `AST-03` and `01-Mag` -> `AST-03-01-Mag`, as the paper does; `MHFA` has no variants."""
    return trained if column == AS_TRAINED else f"{trained}-{column}"


@dataclasses.dataclass(frozen=True)
class System:
    """A row of the tables, read off its name: what was trained, and how it is run.

    `AST-<k_train>-<k_infer>[-<variant>]` are AASIST back-ends. What departs from the usual training stands behind
    k_train: `AST-05+stack1-05` was trained at that temperature, `AST-05+Mag-05-Mag` as that variant; `AST-05-05+stack1`
    and `AST-05-05-Mag` are switched at inference. Any other name is a back-end without variants.

    Attributes:
        name: the whole name.
        trained: name of the training: `AST-03`, `AST-05+stack1`, `MHFA`.
        column: its score column: `01-Mag`, or `score`.
        variant: how an AASIST back-end is run; None for any other.
        k_train: share of nodes kept in training; None for any other.
        trained_variant: label of the variant that was trained, where it is not Base.
        trained_graph_temperature, trained_stack_temperature: where they are not the configured ones.
    """

    name: str
    trained: str
    column: str = AS_TRAINED
    variant: Variant | None = None
    k_train: float | None = None
    trained_variant: str | None = None
    trained_graph_temperature: float | None = None
    trained_stack_temperature: float | None = None

    @classmethod
    def parse(cls, name: str) -> System:
        """Read a system name; raises `ConfigError` on one that starts with AST- and has another form."""
        if not name.startswith("AST-"):
            if not re.fullmatch(r"[A-Za-z0-9._+-]+", name):
                raise ConfigError(f"{name!r} is no system name: letters, digits, points, plus and minus signs only")
            return cls(name, name)
        found = re.fullmatch(rf"(AST-([0-9]{{2,}})(?:\+([A-Z][A-Za-z]*))?{_TEMPERATURES})-(.+)", name)
        try:
            if not found:
                raise ValueError("no k_train and k_infer")
            trained, code, label, graph, stack, column = found.groups()
            k_train, variant = Variant.from_column(code).k_infer, Variant.from_column(column)
            if label not in (None, *list(LABELS)[1:]):
                raise ValueError(f"{label} is no variant to train; there are {', '.join(list(LABELS)[1:])}")
        except ValueError as error:
            raise ConfigError(f"{name!r} is not a system name such as AST-03-01-Mag ({error})") from None
        return cls(name, trained, column, variant, k_train, label, graph and float(graph), stack and float(stack))

    @property
    def order(self) -> tuple:
        """Sorting key: falling k_train, falling k_infer, order of `LABELS`.

        Behind them come those trained as another variant, then other temperatures, then other back-ends.
        """
        if self.variant is None:
            return (1, self.name)
        v = self.variant
        temperatures = (
            self.trained_graph_temperature, self.trained_stack_temperature, v.graph_temperature, v.stack_temperature
        )  # fmt: skip
        trained = [*LABELS].index(self.trained_variant or "Base")
        return (0, trained, [t or 0 for t in temperatures], -self.k_train, -v.k_infer, [*LABELS].index(v.label))


@_checked
class CostModel:
    """Prior and costs of the detection cost function (defaults: the ASVspoof 5 evaluation plan).

    Args:
        p_spoof: prior probability of a spoof, in (0, 1).
        c_miss: cost of rejecting a bona fide trial.
        c_fa: cost of accepting a spoof.
    """

    p_spoof: Annotated[float, Field(gt=0, lt=1)] = 0.05
    c_miss: Positive = 1.0
    c_fa: Positive = 10.0

    @property
    def bayes_threshold(self) -> float:
        """Log-likelihood ratio in nats from which accepting costs less than rejecting."""
        return -math.log(self.c_miss * (1 - self.p_spoof) / (self.c_fa * self.p_spoof))


@_checked
class CompositeWeights:
    """Weights of the composite score's groups and of the domains within them; only their proportions matter.

    Args:
        accuracy: of EER and minDCF.
        calibration: of actDCF - minDCF, Cllr and ECE.
        compute: of MACs and parameters (which have no domain).
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
            the frames between them have eight bits; weights stay float32, and so does everything behind the front-end
            (scores of eight bits would tie).
    """

    model: str = "spectral"
    revision: str = ""
    final_layer_norm: bool = False
    normalise: Literal["utterance", "batch", "none"] = "utterance"
    precision: Literal["float32", "bfloat16"] = "float32"


@_checked
class BackendConfig:
    """What turns frames into an embedding.

    Args:
        kind: a class of `spaarsist.models.backend` (AASIST) or of `spaarsist.models.pooling` (MHFA, ...).
        embedding_dim: size E of the embedding (1024 in the paper); a multiple of 4, since the head halves it twice.
        options: further keywords of that class: k_train and temperatures of AASIST, n_heads of MHFA, ...
    """

    kind: str = "AASIST"
    embedding_dim: Annotated[int, Field(gt=0, multiple_of=4)] = 1024
    options: dict[str, Any] = Field(default_factory=dict)


@_checked
class Augmentation:
    """Probability of each training augmentation, drawn independently per clip (defaults: the paper's recipe).

    `noise` and `filter` are drawn only in the share `noise_filter` of clips: with the defaults each touches 27 % of
    them. `room` draws from the RIRS_NOISES-like folder `room_corpus`; without a folder it must be 0, as in the released
    code.
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
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive = 1e-4
    train_frontend: bool = False
    schedule: Literal["constant", "one_cycle"] = "constant"
    crop: Count = 0


@_checked
class TrainingRecipe:
    """How a detector is trained: front-end, back-end size, stages, augmentation.

    Args:
        crop: samples of an evaluation excerpt (64,600 in the paper: 4.04 s at 16 kHz).
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
    crop: PositiveCount = 64_600
    stages: tuple[Stage, ...] = (
        Stage(epochs=10, batch_size=64),
        Stage(epochs=5, batch_size=32, train_frontend=True),
    )
    augmentation: Augmentation = Augmentation()
    keep_better_stage: bool = True
    epoch_size: Count = 0
    views: Count = 0
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        frozen = [not stage.train_frontend for stage in self.stages if stage.epochs]
        if self.views and (sum(frozen) != 1 or not frozen[0]):
            raise ValueError("views > 0 is for recipes whose first stage, and no other, leaves the front-end frozen")

    @property
    def frozen_stage(self) -> Stage:
        """The stage that views are for."""
        return next(stage for stage in self.stages if stage.epochs and not stage.train_frontend)


Section = TypeVar("Section")


def parse(kind: type[Section], source: str | Path | dict[str, Any]) -> Section:
    """Read one section of the configuration.

    Args:
        kind: the dataclass to build.
        source: a mapping, JSON text, or the path of a YAML or JSON file that holds the mapping.

    Raises:
        ConfigError: names every offending key and what it should have been.
    """
    if not isinstance(source, dict):
        source = _read_mapping(str(source))
    try:
        return TypeAdapter(kind).validate_python(source)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or kind.__name__}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{kind.__name__}: {places}") from None


def _read_mapping(text: str) -> dict[str, Any]:
    import yaml

    origin = "the JSON text given"
    if not text.lstrip().startswith("{"):
        origin = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{origin}: cannot be read ({error.strerror})") from None
    try:
        mapping = yaml.safe_load(text)  # JSON is YAML
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML or JSON ({error})") from None
    if not isinstance(mapping, dict):
        raise ConfigError(f"{origin}: expected a mapping of keys to values")
    return mapping


def to_json(section: object) -> str:
    """Write a section as canonical JSON (sorted keys), the form stored beside checkpoints and scores."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)
