"""AASIST: the graph back-end, and the ways SpAArSIST runs it at inference.

One module class serves every variant. `encode` turns frames into two graphs, by convolutions (`nodes`) and attention
within each graph (`attend`); it does not depend on the variant, but for its graph temperature. `readout` does the rest
for any `Variant`; `export` gives the module that would ship for one variant, without the weights that it never uses.

Sources: Jung et al. 2022 (AASIST, arXiv 2110.01200); Tak et al. 2022 (AASIST on self-supervised features, arXiv
2202.12233); Firc et al. 2026 (SpAArSIST, arXiv 2606.11674) and the code its authors released.

Notation: B batch, T frames, D features, N nodes, E embedding.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaarsist.artefacts import some
from spaarsist.config import Label, Probability, Ratio, Temperature, Temperatures
from spaarsist.names import Variant

PROJECTED, POOLING = 128, 3
SPECTRAL_NODES = PROJECTED // POOLING
NODE_DIMS = {"base": 64, "L": 24}
"""Size of an AASIST -> features of a node, and channels of the encoder's last four blocks."""

STACK_DIM = 32
MIN_FRAMES = POOLING

PUBLIC_NAMES = {
    "LL": "projection",
    "first_bn": "input_norm",
    "encoder": "encoder",
    "first_bn1": "encoder_norm",
    "attention": "map_attention",
    "pos_S": "spectral_position",
    "GAT_layer_S": "spectral_attention",
    "GAT_layer_T": "temporal_attention",
    "pool_S": "spectral_pool",
    "pool_T": "temporal_pool",
    "master1": "branches.0.stack_node",
    "HtrgGAT_layer_ST11": "branches.0.first",
    "pool_hS1": "branches.0.spectral_pool",
    "pool_hT1": "branches.0.temporal_pool",
    "HtrgGAT_layer_ST12": "branches.0.second",
    "master2": "branches.1.stack_node",
    "HtrgGAT_layer_ST21": "branches.1.first",
    "pool_hS2": "branches.1.spectral_pool",
    "pool_hT2": "branches.1.temporal_pool",
    "HtrgGAT_layer_ST22": "branches.1.second",
    "out_layer": "output",
}
"""Module name in the public AASIST checkpoints -> name here."""


class Graphs(NamedTuple):
    """The two node sets, before any pooling: what `AASIST.encode` hands to `AASIST.readout`.

    Shapes: spectral (B, 42, 64), temporal (B, T // 3, 64); 24 instead of 64 in an AASIST-L.
    """

    spectral: Tensor
    temporal: Tensor


class Dropout(NamedTuple):
    """Probabilities of dropout in training: as every public AASIST has them."""

    nodes: float = 0.2
    gate: float = 0.3
    branches: float = 0.2
    output: float = 0.5


class ResidualBlock(nn.Module):
    """Two 2x3 convolutions with a shortcut; the map keeps its size.

    `bn1` is never called. It stands in every public checkpoint from the second block on and counts in the published
    model size, so it is kept.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        if not first:
            self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, (2, 3), padding=(0, 1))
        self.conv_downsample = (
            nn.Conv2d(in_channels, out_channels, (1, 3), padding=(0, 1))
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return self.conv2(F.selu(self.bn2(self.conv1(x)))) + self.conv_downsample(x)


class GraphAttention(nn.Module):
    r"""Attention among the nodes of one graph.

    .. math:: y_i = W_a \sum_j \mathrm{softmax}_j\big(w^T \tanh(W (n_i \odot n_j)) / \tau\big)\, n_j + W_0 n_i

    followed by batch norm over features and SELU. Dropout on the nodes in training.

    Shape: nodes (B, N, in_dim) -> (B, N, out_dim). Source: Jung et al. 2022, section 3.2.
    """

    def __init__(self, in_dim: int, out_dim: int, temperature: float, dropout: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature
        self.dropout = nn.Dropout(dropout)
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_weight = _attention_vector(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)

    def forward(self, nodes: Tensor, temperature: float | None = None) -> Tensor:
        """Update every node from all nodes; a temperature given here replaces the layer's own."""
        nodes = self.dropout(nodes)
        scores = torch.tanh(self.att_proj(_pairwise_products(nodes))) @ self.att_weight
        attention = torch.softmax(scores.squeeze(-1) / (temperature or self.temperature), dim=-1)
        updated = self.proj_with_att(attention @ nodes) + self.proj_without_att(nodes)
        return F.selu(_over_features(self.bn, updated))


class HeterogeneousAttention(nn.Module):
    r"""Attention among temporal and spectral nodes, with a stack node that gathers both (HS-GAL).

    With x the projected and concatenated nodes, m the stack node, and w_ij one of three vectors chosen by the types of
    nodes i and j:

    =================  =====================================================  =====================================
    stack_aggregation  nodes                                                  stack node
    =================  =====================================================  =====================================
    attention          as `GraphAttention`, with w_ij for w                   W_M sum_i a_i x_i + W_M0 m, with
                                                                              a = softmax_i(w_M tanh(W (x_i m)) / tau)
    uniform            the same                                               W_M mean_i(x_i) + W_M0 m
    linear             W_0 x_i, no attention, batch norm, SELU or dropout     W_M0 m: independent of the input
    =================  =====================================================  =====================================

    Both softmaxes have one temperature in AASIST; `stack_temperature` gives the stack node's its own.

    Shape: temporal (B, N_T, in_dim), spectral (B, N_S, in_dim), stack node (B, 1, in_dim) -> the same with out_dim.
    Source: Jung et al. 2022, section 3.3; `uniform`: Firc et al. 2026, as the text describes it; `linear`: what their
    released code computes under the name mean.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        temperature: float,
        stack_temperature: float | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.temperature, self.stack_temperature = temperature, stack_temperature or temperature
        self.dropout = nn.Dropout(dropout)
        self.proj_type1 = nn.Linear(in_dim, in_dim)
        self.proj_type2 = nn.Linear(in_dim, in_dim)
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_projM = nn.Linear(in_dim, out_dim)
        self.att_weight11 = _attention_vector(out_dim)
        self.att_weight22 = _attention_vector(out_dim)
        self.att_weight12 = _attention_vector(out_dim)
        self.att_weightM = _attention_vector(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.proj_with_attM = nn.Linear(in_dim, out_dim)
        self.proj_without_attM = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)

    def forward(
        self, temporal: Tensor, spectral: Tensor, stack_node: Tensor, variant: Variant
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update both node sets and the stack node as `variant` says."""
        n_temporal = temporal.shape[1]
        nodes = torch.cat([self.proj_type1(temporal), self.proj_type2(spectral)], dim=1)
        if variant.stack_aggregation == "linear":
            updated, stack_node = self.proj_without_att(nodes), self.proj_without_attM(stack_node)
        else:
            nodes = self.dropout(nodes)
            attention = self._node_attention(nodes, n_temporal)
            stack_node = self._update_stack_node(nodes, stack_node, variant)
            updated = self.proj_with_att(attention @ nodes) + self.proj_without_att(nodes)
            updated = F.selu(_over_features(self.bn, updated))
        return updated[:, :n_temporal], updated[:, n_temporal:], stack_node

    def _node_attention(self, nodes: Tensor, n: int) -> Tensor:
        pairs = torch.tanh(self.att_proj(_pairwise_products(nodes)))
        first = torch.cat([pairs[:, :n, :n] @ self.att_weight11, pairs[:, :n, n:] @ self.att_weight12], dim=2)
        second = torch.cat([pairs[:, n:, :n] @ self.att_weight12, pairs[:, n:, n:] @ self.att_weight22], dim=2)
        scores = torch.cat([first, second], dim=1).squeeze(-1)
        return torch.softmax(scores / self.temperature, dim=-1)

    def _update_stack_node(self, nodes: Tensor, stack_node: Tensor, variant: Variant) -> Tensor:
        if variant.stack_aggregation == "uniform":
            gathered = nodes.mean(dim=1, keepdim=True)
        else:
            gathered = self.stack_attention(nodes, stack_node, variant.stack_temperature) @ nodes
        return self.proj_with_attM(gathered) + self.proj_without_attM(stack_node)

    def stack_attention(self, nodes: Tensor, stack_node: Tensor, temperature: float | None = None) -> Tensor:
        """Attention weights of the stack node over the projected nodes: (B, 1, N), each row sums to one."""
        scores = torch.tanh(self.att_projM(nodes * stack_node)) @ self.att_weightM
        return torch.softmax(scores.squeeze(-1) / (temperature or self.stack_temperature), dim=-1).unsqueeze(1)

    def drop_unused(self, stack_aggregation: str) -> None:
        """Remove what this way of aggregating never calls.

        For `linear` the attention vectors and the batch norm stay although unused: the released module holds them, and
        they are within the 586.4 k parameters that the paper prints.
        """
        if stack_aggregation in ("uniform", "linear"):
            del self.att_projM
        if stack_aggregation == "uniform":
            del self.att_weightM
        if stack_aggregation == "linear":
            del self.att_proj, self.proj_with_att, self.proj_with_attM


class GraphPool(nn.Module):
    r"""Keep the K highest-scoring nodes of each graph.

    With N nodes, K = max(floor(k N), 1) survive, ordered by falling score.

    ===============  ====================  ============================================
    scoring          score of node n_i     what is returned
    ===============  ====================  ============================================
    learned          the gate g_i          kept nodes times their gate
    magnitude        ||n_i||^2             kept nodes, unscaled (no parameters are used)
    magnitude_gated  ||n_i||^2             kept nodes times their gate
    learned_ungated  the gate g_i          kept nodes, unscaled
    ===============  ====================  ============================================

    with the gate g_i = sigmoid(w . n_i + b), dropout on n_i first. Ungated, w and b get no gradient: what
    `learned_ungated` chooses by can be switched at inference but not be trained.

    Shape: nodes (B, N, dim) -> (B, K, dim).
    Source: Jung et al. 2022, section 3.1; magnitude: Firc et al. 2026; the two mixed ones are ours, to tell the effect
    of the choice from that of the gate.
    """

    def __init__(self, dim: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(dim, 1)

    def scores(self, nodes: Tensor, scoring: str) -> Tensor:
        """Score by which each node is kept or not, (B, N, 1)."""
        return nodes.square().sum(dim=-1, keepdim=True) if scoring.startswith("magnitude") else self._gate(nodes)

    def _gate(self, nodes: Tensor) -> Tensor:
        return torch.sigmoid(self.proj(self.dropout(nodes)))

    def forward(self, nodes: Tensor, ratio: float, scoring: str) -> Tensor:
        """Pool every graph of the batch to the same number of nodes."""
        scores = self.scores(nodes, scoring)
        n_kept = max(int(nodes.shape[1] * ratio), 1)
        kept = torch.topk(scores, n_kept, dim=1).indices
        if scoring == "learned":
            nodes = nodes * scores
        elif scoring == "magnitude_gated":
            nodes = nodes * self._gate(nodes)
        return torch.gather(nodes, 1, kept.expand(-1, -1, nodes.shape[2]))


class Branch(nn.Module):
    """Two heterogeneous layers with pooling between them; the second one's output is added to its input.

    Shape: temporal (B, N_T, dim), spectral (B, N_S, dim) -> pooled node sets and stack node with 32 features.
    """

    def __init__(
        self, dim: int, temperatures: Sequence[float], stack_temperature: float | None, dropout: Dropout
    ) -> None:
        super().__init__()
        self.stack_node = nn.Parameter(torch.randn(1, 1, dim))
        self.first = HeterogeneousAttention(dim, STACK_DIM, temperatures[0], stack_temperature, dropout.nodes)
        self.spectral_pool = GraphPool(STACK_DIM, dropout.gate)
        self.temporal_pool = GraphPool(STACK_DIM, dropout.gate)
        self.second = HeterogeneousAttention(STACK_DIM, STACK_DIM, temperatures[1], stack_temperature, dropout.nodes)

    def forward(self, temporal: Tensor, spectral: Tensor, variant: Variant) -> tuple[Tensor, Tensor, Tensor]:
        """Run the branch as `variant` says."""
        stack_node = self.stack_node.expand(temporal.shape[0], -1, -1)
        temporal, spectral, stack_node = self.first(temporal, spectral, stack_node, variant)
        spectral = self.spectral_pool(spectral, variant.k_infer, variant.node_scoring)
        temporal = self.temporal_pool(temporal, variant.k_infer, variant.node_scoring)
        more = self.second(temporal, spectral, stack_node, variant)
        return temporal + more[0], spectral + more[1], stack_node + more[2]


class AASIST(nn.Module):
    """The graph back-end: frames (B, T, feature_dim) -> embedding (B, embedding_dim).

    Args:
        feature_dim: features per frame (1024 for XLS-R 300M).
        embedding_dim: size of the embedding (1024 in the paper).
        k_train: share of nodes that graph pooling keeps when the module is called directly, in (0, 1].
        temperatures: softmax temperatures of the spectral and temporal graph layers and of the first and second
            heterogeneous layers.
        stack_temperature: softmax temperature of the stack node's attention in the heterogeneous layers; None: theirs,
            as in every public AASIST.
        variant: label of the variant that is trained (`spaarsist.names.LABELS`); every weight exists in each, so that
            every variant can be switched on later.
        size: `base`, or `L`: the light AASIST-L of Jung et al. 2022, whose encoder has 32 and 24 channels and whose
            nodes have 24 features. Their pooling ratios differ from layer to layer; here `k_train` holds for all. The
            hidden layer of the attention map keeps its 128 channels, as in public AASIST-L on such features.
        dropout: factor on every probability of dropout (`Dropout`), in [0, 1]: 1 as published, 0 for none.

    Raises:
        ValueError: no such size.

    Calling the module runs that variant at `k_train` (the form that is trained) or, after `export`, the exported one.
    """

    all_layers = False  # the last transformer layer's frames are all it wants

    def __init__(
        self,
        feature_dim: int = 1024,
        embedding_dim: int = 1024,
        k_train: Ratio = 0.5,
        temperatures: Temperatures = (2.0, 2.0, 100.0, 100.0),
        stack_temperature: Temperature | None = None,
        variant: Label = "Base",
        size: Literal["base", "L"] = "base",
        dropout: Probability = 1.0,
    ) -> None:
        super().__init__()
        if size not in NODE_DIMS:
            raise ValueError(f"size {size!r}: expected one of {', '.join(NODE_DIMS)}")
        dim = NODE_DIMS[size]
        rates = Dropout(*(dropout * rate for rate in Dropout()))
        spectral, temporal, *heterogeneous = temperatures
        self.size, self.variant = size, Variant.from_label(k_train, variant)
        self.projection = nn.Linear(feature_dim, PROJECTED)
        self.input_norm = nn.BatchNorm2d(1)
        channels = pairwise((1, 32, 32, dim, dim, dim, dim))
        self.encoder = nn.Sequential(*(ResidualBlock(i, o, first=i == 1) for i, o in channels))
        self.encoder_norm = nn.BatchNorm2d(dim)
        self.map_attention = nn.Sequential(
            nn.Conv2d(dim, 128, 1), nn.SELU(), nn.BatchNorm2d(128), nn.Conv2d(128, dim, 1)
        )
        self.spectral_position = nn.Parameter(torch.randn(1, SPECTRAL_NODES, dim))
        self.spectral_attention = GraphAttention(dim, dim, spectral, rates.nodes)
        self.temporal_attention = GraphAttention(dim, dim, temporal, rates.nodes)
        self.spectral_pool = GraphPool(dim, rates.gate)
        self.temporal_pool = GraphPool(dim, rates.gate)
        self.branches = nn.ModuleList(Branch(dim, heterogeneous, stack_temperature, rates) for _ in range(2))
        self.branch_dropout = nn.Dropout(rates.branches)
        self.output_dropout = nn.Dropout(rates.output)
        self.output = nn.Linear(5 * STACK_DIM, embedding_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames: (B, T, feature_dim) -> (B, embedding_dim); T of at least 3."""
        return self.readout(self.attend(self.nodes(frames), self.variant.graph_temperature), self.variant)

    def encode(self, frames: Tensor) -> Graphs:
        """Turn frames (B, T, feature_dim) into graphs: the same for every variant that keeps the graph temperature.

        Raises:
            ValueError: see `nodes`.
        """
        return self.attend(self.nodes(frames))

    def nodes(self, frames: Tensor) -> Graphs:
        """Turn frames (B, T, feature_dim) into nodes, by convolutions alone; the same for every variant.

        Raises:
            ValueError: fewer than 3 frames, or another number of features than the back-end was built for.
        """
        if frames.shape[1] < MIN_FRAMES or frames.shape[2] != self.projection.in_features:
            raise ValueError(
                f"frames of shape {tuple(frames.shape)}: expected (batch, at least {MIN_FRAMES} frames, "
                f"{self.projection.in_features} features)"
            )
        x = self.projection(frames).transpose(1, 2).unsqueeze(1)
        x = F.selu(self.input_norm(F.max_pool2d(x, POOLING)))
        x = F.selu(self.encoder_norm(self.encoder(x)))
        weights = self.map_attention(x)
        spectral = (x * torch.softmax(weights, dim=3)).sum(dim=3).transpose(1, 2) + self.spectral_position
        temporal = (x * torch.softmax(weights, dim=2)).sum(dim=2).transpose(1, 2)
        return Graphs(spectral, temporal)

    def attend(self, nodes: Graphs, graph_temperature: float | None = None) -> Graphs:
        """Let the nodes of each graph attend to each other; None: at the temperatures the back-end was built with."""
        return Graphs(
            self.spectral_attention(nodes.spectral, graph_temperature),
            self.temporal_attention(nodes.temporal, graph_temperature),
        )

    def readout(self, graphs: Graphs, variant: Variant) -> Tensor:
        """Embed the graphs as `variant` says, its graph temperature aside: (B, embedding_dim)."""
        spectral = self.spectral_pool(graphs.spectral, variant.k_infer, variant.node_scoring)
        temporal = self.temporal_pool(graphs.temporal, variant.k_infer, variant.node_scoring)
        branches = [
            [self.branch_dropout(part) for part in branch(temporal, spectral, variant)] for branch in self.branches
        ]
        temporal, spectral, stack_node = (torch.maximum(a, b) for a, b in zip(*branches, strict=True))
        summary = torch.cat(
            [
                temporal.abs().amax(dim=1),
                temporal.mean(dim=1),
                spectral.abs().amax(dim=1),
                spectral.mean(dim=1),
                stack_node.squeeze(1),
            ],
            dim=1,
        )
        return self.output(self.output_dropout(summary))

    def export(self, variant: Variant) -> AASIST:
        """Return the module that would ship for `variant`: a copy in evaluation mode, without weights it never calls.

        Its output equals `readout(encode(frames), variant)` of this module in evaluation mode (with another graph
        temperature: `readout(attend(nodes(frames), temperature), variant)`).
        """
        shipped = copy.deepcopy(self).eval()
        shipped.variant = variant
        for module in list(shipped.modules()):
            if isinstance(module, GraphPool) and variant.node_scoring == "magnitude":
                del module.proj
            elif isinstance(module, HeterogeneousAttention):
                module.drop_unused(variant.stack_aggregation)
        return shipped

    def public_state(self) -> dict[str, Tensor]:
        """Give the weights under the names of the public AASIST code: what `load_public_state` takes."""
        public = {own: name for name, own in PUBLIC_NAMES.items()}
        state = {}
        for name, tensor in self.state_dict().items():
            own = max((own for own in public if name == own or name.startswith(f"{own}.")), key=len)
            rest = name.removeprefix(own)
            if own == "encoder":
                rest = re.sub(r"^\.(\d+)\.", r".\1.0.", rest)
            state[public[own] + rest] = tensor
        return state

    def load_public_state(self, state: Mapping[str, Tensor]) -> None:
        """Load weights that carry the names of the public AASIST code (`LL`, `HtrgGAT_layer_ST11`, ...).

        A `module.` before every name (DataParallel) is taken off. Weights that this back-end's variant never calls may
        be absent, as from states that were trained as magnitude or mean (`AASIST(variant="Mag")`): they become NaN, so
        that another variant of this module gives no scores rather than those of chance. So may batch norms' counters.

        Polarity: where the public code's own output layer gives two logits (`embedding_dim=2`), the second one is bona
        fide and the first spoof, while logits of this package have bona fide first (`detector.BONAFIDE`): a score that
        is higher for bona fide is `output[:, 1] - output[:, 0]`.

        Raises:
            ValueError: tensors are missing, unknown, misshapen or not finite; counts them and names the first few. A
                checkpoint of a whole detector also holds its front-end (`ssl_model.*`) and head: pass the back-end's
                entries only.
        """
        if nested := [name for name, value in state.items() if isinstance(value, Mapping)]:
            raise ValueError(f"this holds states by name: {some(nested)}; pass one of them")
        if state and all(name.startswith("module.") for name in state):
            state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        own, needed = self.state_dict(), self.export(self.variant).state_dict()
        taken: dict[str, Tensor] = {}
        problems: dict[str, list[str]] = {"missing": [], "unknown": [], "misshapen": [], "not finite": []}
        for public, value in state.items():
            module, _, rest = public.partition(".")
            if module == "encoder":
                rest = rest.replace(".0.", ".", 1)
            name = f"{PUBLIC_NAMES.get(module)}.{rest}".rstrip(".")
            if name not in own:
                problems["unknown"].append(public)
                continue
            taken[name] = tensor = torch.as_tensor(value)
            if tensor.shape != own[name].shape:
                problems["misshapen"].append(f"{public} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
            elif not tensor.isfinite().all():
                problems["not finite"].append(public)
        counters = {name for name in own if name.endswith("num_batches_tracked")}
        problems["missing"] = [name for name in needed if name not in taken and name not in counters]
        if any(problems.values()):
            found = "; ".join(f"{what}: {some(names)}" for what, names in problems.items() if names)
            hint = " (ssl_model is the front-end: pass the back-end's entries only)" if "ssl_model." in found else ""
            raise ValueError(f"this is not the state of such a back-end: {found}{hint}")
        absent = {name: torch.full_like(own[name], torch.nan) for name in own.keys() - taken.keys() - counters}
        self.load_state_dict({name: own[name] for name in counters} | absent | taken, strict=True)


def _attention_vector(dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(dim, 1)))


def _pairwise_products(nodes: Tensor) -> Tensor:
    return nodes.unsqueeze(2) * nodes.unsqueeze(1)


def _over_features(norm: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    # BatchNorm1d wants features last of two axes: statistics run over batch and nodes alike
    return norm(nodes.reshape(-1, nodes.shape[-1])).reshape(nodes.shape)
