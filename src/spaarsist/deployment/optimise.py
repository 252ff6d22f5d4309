"""The exported back-end made fast, with the same outputs up to rounding.

`optimise` rewrites the arithmetic of one exported variant for one number of frames; `compiled` hands the result to
PyTorch's compiler. What is rewritten, and why that is exact:

* Batch norms stand still in evaluation: they are folded into the convolution or linear layer before them, into the 1x1
  convolution after them, or become one scale and shift.
* Pair scores are symmetric, since n_i * n_j = n_j * n_i and the attention vector depends on the pair's types alone: of
  N^2 pairs, N (N + 1) / 2 are computed.
* Softmax temperatures are divided into the attention vectors.
* The two projections of a node update become one product.
* Convolutions work on channels-last memory, and so do the large linear layers, as 1x1 convolutions: on CPUs oneDNN is
  up to twice as fast so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from spaarsist.models.backend import (
    AASIST,
    MIN_FRAMES,
    POOLING,
    SPECTRAL_NODES,
    Branch,
    GraphAttention,
    HeterogeneousAttention,
    ResidualBlock,
)
from spaarsist.names import Variant


class OptimisedAASIST(nn.Module):
    """One exported variant for one number of frames: frames (B, n_frames, D) -> embedding (B, E).

    Raises:
        ValueError: when called with another number of frames.
    """

    def __init__(self, backend: AASIST, n_frames: int) -> None:
        super().__init__()
        variant = backend.variant
        n_temporal = n_frames // POOLING
        self.n_frames, self.k, self.scoring = n_frames, variant.k_infer, variant.node_scoring
        self.projection = _Pointwise(backend.projection)
        self.input_norm = backend.input_norm
        self.encoder = nn.Sequential(*map(_Block, backend.encoder))
        self.scale, self.shift = (
            nn.Parameter(part[None, :, None, None]) for part in _scale_and_shift(backend.encoder_norm)
        )
        first, activation, norm, second = backend.map_attention
        self.map_attention = nn.Sequential(first, activation, _after_norm(norm, second))
        self.spectral_position = backend.spectral_position
        graph = variant.graph_temperature
        self.spectral_attention = _GraphAttention(backend.spectral_attention, SPECTRAL_NODES, graph)
        self.temporal_attention = _GraphAttention(backend.temporal_attention, n_temporal, graph)
        self.spectral_pool, self.temporal_pool = backend.spectral_pool, backend.temporal_pool
        sizes = [_kept(n_temporal, self.k), _kept(SPECTRAL_NODES, self.k)]
        self.branches = nn.ModuleList(_Branch(branch, sizes, variant) for branch in backend.branches)
        self.output = backend.output
        self.to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames."""
        if frames.shape[1] != self.n_frames:
            raise ValueError(f"{frames.shape[1]} frames: this back-end was optimised for {self.n_frames}")
        x = self.projection(frames).transpose(1, 2).unsqueeze(1)
        x = F.selu(self.input_norm(F.max_pool2d(x, POOLING)))
        x = F.selu(self.encoder(x.contiguous(memory_format=torch.channels_last)) * self.scale + self.shift)
        weights = self.map_attention(x)
        spectral = (x * torch.softmax(weights, dim=3)).sum(dim=3).transpose(1, 2) + self.spectral_position
        temporal = (x * torch.softmax(weights, dim=2)).sum(dim=2).transpose(1, 2)
        spectral = self.spectral_pool(self.spectral_attention(spectral), self.k, self.scoring)
        temporal = self.temporal_pool(self.temporal_attention(temporal), self.k, self.scoring)
        branches = [branch(temporal, spectral) for branch in self.branches]
        temporal, spectral, stack_node = (torch.maximum(a, b) for a, b in zip(*branches, strict=True))
        summary = [temporal.abs().amax(dim=1), temporal.mean(dim=1), spectral.abs().amax(dim=1), spectral.mean(dim=1)]
        return self.output(torch.cat([*summary, stack_node.squeeze(1)], dim=1))


class _Pointwise(nn.Module):
    """A linear layer on (B, N, in) as a 1x1 convolution over channels-last memory, which (B, N, in) already is."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
        self.conv.weight = nn.Parameter(linear.weight[:, :, None, None])
        self.conv.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1 = fuse_conv_bn_eval(block.conv1, block.bn2)
        self.conv2, self.shortcut = block.conv2, block.conv_downsample

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.selu(self.conv1(x))) + self.shortcut(x)


class _PairAttention(nn.Module):
    """Attention matrix (B, N, N) of a graph of N nodes whose first `n_first` are of one type, the others of another."""

    def __init__(self, projection: nn.Linear, vectors: list[Tensor], temperature: float, n: int, n_first: int) -> None:
        super().__init__()
        first, second = torch.triu_indices(n, n)
        where = torch.empty(n, n, dtype=torch.long)
        where[first, second] = where[second, first] = torch.arange(len(first))
        kinds = (first >= n_first).long() + (second >= n_first).long()
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        self.register_buffer("where", where.flatten())
        self.projection = _Pointwise(projection)
        vectors = torch.cat(vectors, dim=1).T / temperature
        self.vectors = nn.Parameter(vectors[kinds] if len(vectors) > 1 else vectors)

    def forward(self, nodes: Tensor) -> Tensor:
        pairs = nodes.index_select(1, self.first) * nodes.index_select(1, self.second)
        scores = (torch.tanh(self.projection(pairs)) * self.vectors).sum(dim=-1)
        n = nodes.shape[1]
        return torch.softmax(scores.index_select(1, self.where).reshape(-1, n, n), dim=-1)


class _Update(nn.Module):
    """SELU(BN(W_a A n + W_0 n)) as one product."""

    def __init__(self, gathered: nn.Linear, own: nn.Linear, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        both = nn.Linear(2 * own.in_features, own.out_features).eval()
        both.weight = nn.Parameter(torch.cat([gathered.weight, own.weight], dim=1))
        both.bias = nn.Parameter(gathered.bias + own.bias)
        self.both = fuse_linear_bn_eval(both, norm)

    def forward(self, attention: Tensor, nodes: Tensor) -> Tensor:
        return F.selu(self.both(torch.cat([attention @ nodes, nodes], dim=2)))


class _GraphAttention(nn.Module):
    def __init__(self, layer: GraphAttention, n: int, temperature: float | None) -> None:
        super().__init__()
        self.attention = _PairAttention(layer.att_proj, [layer.att_weight], temperature or layer.temperature, n, n)
        self.update = _Update(layer.proj_with_att, layer.proj_without_att, layer.bn)

    def forward(self, nodes: Tensor) -> Tensor:
        return self.update(self.attention(nodes), nodes)


class _HeterogeneousAttention(nn.Module):
    def __init__(self, layer: HeterogeneousAttention, sizes: list[int], variant: Variant) -> None:
        super().__init__()
        self.layer, self.variant = layer, variant
        if variant.stack_aggregation != "linear":
            vectors = [layer.att_weight11, layer.att_weight12, layer.att_weight22]
            self.attention = _PairAttention(layer.att_proj, vectors, layer.temperature, sum(sizes), sizes[0])
            self.update = _Update(layer.proj_with_att, layer.proj_without_att, layer.bn)

    def forward(self, temporal: Tensor, spectral: Tensor, stack_node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = temporal.shape[1]
        if self.variant.stack_aggregation == "linear":
            return self.layer(temporal, spectral, stack_node, self.variant)
        nodes = torch.cat([self.layer.proj_type1(temporal), self.layer.proj_type2(spectral)], dim=1)
        updated = self.update(self.attention(nodes), nodes)
        stack_node = self.layer._update_stack_node(nodes, stack_node, self.variant)
        return updated[:, :n], updated[:, n:], stack_node


class _Branch(nn.Module):
    def __init__(self, branch: Branch, sizes: list[int], variant: Variant) -> None:
        super().__init__()
        self.k, self.scoring = variant.k_infer, variant.node_scoring
        self.stack_node = branch.stack_node
        self.first = _HeterogeneousAttention(branch.first, sizes, variant)
        self.spectral_pool, self.temporal_pool = branch.spectral_pool, branch.temporal_pool
        self.second = _HeterogeneousAttention(branch.second, [_kept(n, self.k) for n in sizes], variant)

    def forward(self, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stack_node = self.stack_node.expand(temporal.shape[0], -1, -1)
        temporal, spectral, stack_node = self.first(temporal, spectral, stack_node)
        spectral = self.spectral_pool(spectral, self.k, self.scoring)
        temporal = self.temporal_pool(temporal, self.k, self.scoring)
        more = self.second(temporal, spectral, stack_node)
        return temporal + more[0], spectral + more[1], stack_node + more[2]


@torch.no_grad()
def optimise(backend: AASIST, n_frames: int) -> OptimisedAASIST:
    """Rewrite an exported back-end for inputs of `n_frames` frames; the module that is given stays as it is.

    Raises:
        ValueError: fewer than 3 frames, which no AASIST takes.
    """
    if n_frames < MIN_FRAMES:
        raise ValueError(f"{n_frames} frames: at least {MIN_FRAMES} are needed")
    optimised = OptimisedAASIST(copy.deepcopy(backend).eval(), n_frames).eval().requires_grad_(False)
    return optimised.to(next(backend.parameters()).device)  # its indices of pairs as well


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Compile a module for inference without gradients, its weights frozen in; needs a C++ compiler.

    Its first call with a new batch size takes some ten seconds.
    """
    # Every module and batch size has a compiled form of its own; beyond the limit torch would quietly not compile
    torch._dynamo.config.recompile_limit = 1000
    # Python between the kernels costs a single excerpt 6 % of its time on a CPU; on a GPU C++ is untried
    on_cpu = all(tensor.device.type == "cpu" for tensor in module.parameters())
    return torch.compile(module, dynamic=False, options={"freezing": True, "cpp_wrapper": on_cpu})


def _kept(n: int, ratio: float) -> int:
    return max(int(n * ratio), 1)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _after_norm(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Fold a batch norm into the 1x1 convolution that follows it."""
    scale, shift = _scale_and_shift(norm)
    conv.bias = nn.Parameter(conv.bias + conv.weight[:, :, 0, 0] @ shift)
    conv.weight = nn.Parameter(conv.weight * scale[None, :, None, None])
    return conv
