"""The experiment's vocabulary: variants, ratios and systems, spelled as files and tables spell them, and read back."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

NodeScoring = Literal["learned", "magnitude", "magnitude_gated", "learned_ungated"]
StackAggregation = Literal["attention", "uniform", "linear"]

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


@dataclass(frozen=True)
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

    Raises:
        ConfigError: a value is out of range or unknown; names it.

    Source: Firc et al. 2026, arXiv 2606.11674, and the code its authors released.
    """

    k_infer: float = 0.5
    node_scoring: NodeScoring = "learned"
    stack_aggregation: StackAggregation = "attention"
    graph_temperature: float | None = None
    stack_temperature: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.k_infer <= 1:
            raise ConfigError(f"k_infer {self.k_infer}: a share of nodes, above 0 and at most 1")
        for name, known in (("node_scoring", NodeScoring), ("stack_aggregation", StackAggregation)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(f"{name} {getattr(self, name)!r}: one of {', '.join(get_args(known))}")
        for name in ("graph_temperature", "stack_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} {value}: a temperature is a number greater than 0")

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
        except (AttributeError, ConfigError):  # no match, no such label, out of range
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
"""Name of the score column of a back-end as it was trained, where the training has a name of its own (`MHFA`)."""

BASELINE = "AST-05-05"
"""System name of the plain AASIST."""

RANK_1 = "AST-03-01-Mag"
"""System name of the configuration that the paper ranks first."""

METHODS: dict[str, tuple[str, str]] = {
    "world_copy": ("Copy-synthesis", "WORLD"),
    "world_coded": ("Copy-synthesis", "WORLD, coded"),
    "griffin_lim_mel": ("Copy-synthesis", "Griffin–Lim, mel bands"),
    "griffin_lim_linear": ("Copy-synthesis", "Griffin–Lim, full spectrum"),
    "lpc_vocoder": ("Copy-synthesis", "LPC vocoder"),
    "harmonic_noise": ("Copy-synthesis", "harmonics and noise"),
    "minimum_phase": ("Copy-synthesis", "minimum phase"),
    "zero_phase": ("Copy-synthesis", "zero phase"),
    "world_conversion": ("Voice conversion", "WORLD, converted"),
    "psola": ("Voice conversion", "PSOLA"),
    "speak": ("Text-to-speech", "espeak-ng"),
    "speak_klatt": ("Text-to-speech", "espeak-ng, Klatt"),
}
"""Spoofing method of the mini corpora -> its kind, and what figures call it."""

LIGHT = "AASIST-L"
"""Name of the AASIST of smaller size: what else saves compute."""

CONVENTIONS = {
    "whole": "all that fvcore counts, back-end alone",
    "linear": "linear layers alone, back-end alone",
    "linear_head": "linear layers alone, back-end and head",
    "ptflops": "all that ptflops counts, back-end alone",
}
"""What MACs are counted of. Runs are compared by `whole`; `linear_head` at `PAPER_FRAMES` gives the paper's numbers;
`ptflops` is the tool of the released code (`tools/efficiency.py`, at 200 frames)."""

PAPER_FRAMES = 437
"""Input length at which the paper's MACs come out: 8.75 s. Why that length, the paper does not say."""


def column_as_trained(trained: str, variant: Variant | None) -> str:
    """Name the score column of a back-end run as it was trained: `05` of `AST-05`, `score` of any other training."""
    return variant.column if variant and trained.startswith("AST-") else AS_TRAINED


def system_name(trained: str, column: str) -> str:
    """Name a table row: `AST-03` and `01-Mag` -> `AST-03-01-Mag`, as the paper does; `MHFA` has no variants."""
    return trained if column == AS_TRAINED else f"{trained}-{column}"


@dataclass(frozen=True)
class System:
    """A row of the tables, read off its name: what was trained, and how it is run.

    `AST-<k_train>-<k_infer>[-<variant>]` are AASIST back-ends. What departs from the usual training stands behind
    k_train: `AST-05+stack1-05` was trained at that temperature, `AST-05+Mag-05-Mag` as that variant; `AST-05-05+stack1`
    and `AST-05-05-Mag` are switched at inference. Any other name is a back-end as it was trained.

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
