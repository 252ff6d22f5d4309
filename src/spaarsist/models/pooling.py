r"""The other back-ends of Table 2: frames of all transformer layers -> one embedding per utterance.

Every public class here is a back-end, built with `feature_dim`, `n_layers`, `embedding_dim` and its own options.

Sources: Peng et al. 2022 (MHFA, arXiv 2210.01273); Peng et al. 2025 (CA-MHFA, ICASSP, arXiv 2409.15234); Zhang et al.
2024 (SLS, ACM MM, doi 10.1145/3664647.3681345). None of their code is used.

Notation: B batch, L layers, T frames, D features, E embedding; x_lt the frame of layer l at time t.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaarsist.config import OddSize, Size


class _Pooling(nn.Module):
    """What the back-ends share: the check of the input. Each says in `pool` what it does with it.

    Attributes:
        all_layers: whether it wants every transformer layer; if not, a detector builds it with `n_layers` = 1 and gives
            it the last one's frames.

    Raises:
        ValueError: a size below 1; when called, frames of another shape than (B, n_layers, T, feature_dim).
    """

    all_layers = True

    def __init__(self, feature_dim: int, n_layers: int, embedding_dim: int) -> None:
        super().__init__()
        _at_least(1, feature_dim=feature_dim, n_layers=n_layers, embedding_dim=embedding_dim)
        self.feature_dim, self.n_layers = feature_dim, n_layers

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames: (B, n_layers, T, feature_dim), or (B, T, feature_dim) of one layer -> (B, embedding_dim)."""
        if frames.ndim == 3:
            frames = frames.unsqueeze(1)
        shape = tuple(frames.shape)
        if len(shape) != 4 or min(shape) < 1 or (shape[1], shape[3]) != (self.n_layers, self.feature_dim):
            raise ValueError(
                f"frames of shape {shape}: expected (batch, {self.n_layers} layers, at least 1 frame, "
                f"{self.feature_dim} features)"
            )
        return self.pool(frames)

    def pool(self, frames: Tensor) -> Tensor:
        """Embed frames whose shape is known to be right."""
        raise NotImplementedError


class MeanPool(_Pooling):
    r"""The mean over time of the last layer.

    .. math:: e = \frac{1}{T} \sum_t x_{Lt}

    No parameters where `embedding_dim` equals `feature_dim`, as in the paper; elsewhere a linear projection follows.

    Args:
        feature_dim: D, features per frame, at least 1.
        n_layers: L, layers of the input, at least 1; all but the last are ignored.
        embedding_dim: E, at least 1.

    Shape: (B, L, T, D) -> (B, E). Source: Firc et al. 2026, Table 2; the projection is ours.
    """

    all_layers = False

    def __init__(self, feature_dim: int, n_layers: int, embedding_dim: int) -> None:
        super().__init__(feature_dim, n_layers, embedding_dim)
        self.output = nn.Identity() if embedding_dim == feature_dim else nn.Linear(feature_dim, embedding_dim)

    def pool(self, frames: Tensor) -> Tensor:
        """Average, then project where sizes differ."""
        return self.output(frames[:, -1].mean(dim=1))


class MHFA(_Pooling):
    r"""Multi-head factorised attentive pooling: layers are mixed twice, once to say where to look and once for what.

    .. math::
        k_t = S^k \sum_l \mathrm{softmax}_l(\omega^k)\, x_{lt}, \qquad
        v_t = S^v \sum_l \mathrm{softmax}_l(\omega^v)\, x_{lt}

        a_{ht} = \mathrm{softmax}_t(q_h \cdot k_t), \qquad
        e = W \big[\textstyle\sum_t a_{1t} v_t; \dots; \sum_t a_{Ht} v_t\big]

    S (D to C), q and W carry biases. Those of S^k and q move all scores of a head alike and cancel in the softmax; they
    are within the 4461.9 k parameters that the paper prints for L = 24, D = E = 1024, and stay. The layer weights start
    equal.

    Args:
        feature_dim: D, features per frame, at least 1.
        n_layers: L, layers of the input, at least 1.
        embedding_dim: E, at least 1.
        n_heads: H, attention maps, at least 1.
        compression_dim: C, size of keys and values, at least 1.

    Shape: (B, L, T, D) -> (B, E). Source: Peng et al. 2022; biases and start as in its authors' code.
    """

    def __init__(
        self, feature_dim: int, n_layers: int, embedding_dim: int, n_heads: Size = 32, compression_dim: Size = 128
    ) -> None:
        super().__init__(feature_dim, n_layers, embedding_dim)
        _at_least(1, n_heads=n_heads, compression_dim=compression_dim)
        self.layer_logits = nn.Parameter(torch.zeros(2, n_layers))  # of the keys, of the values
        self.key = nn.Linear(feature_dim, compression_dim)
        self.value = nn.Linear(feature_dim, compression_dim)
        self.query = nn.Linear(compression_dim, n_heads)
        self.output = nn.Linear(n_heads * compression_dim, embedding_dim)

    def pool(self, frames: Tensor) -> Tensor:
        """Mix the layers, attend over time, project."""
        weights = torch.softmax(self.layer_logits, dim=1).expand(frames.shape[0], -1, -1)
        for_keys, for_values = _sum_layers(weights, frames).unbind(dim=1)
        attention = torch.softmax(self.scores(self.key(for_keys)), dim=2)
        return self.output(torch.bmm(attention, self.value(for_values)).flatten(1))

    def scores(self, keys: Tensor) -> Tensor:
        """Score every frame for every head: keys (B, T, C) -> (B, H, T)."""
        return self.query(keys).transpose(1, 2)


class CAMHFA(MHFA):
    r"""Context-aware MHFA: a head scores a frame by the keys around it; all heads share keys and values.

    As `MHFA`, but each of the G heads (the paper's groups) has one query for each of the W frames of a window,

    .. math::
        a_{gt} = \mathrm{softmax}_t\Big(\sum_{j=-R}^{R} q_{gj} \cdot k_{t+j}\Big), \qquad R = (W - 1) / 2,

    which is a convolution over time without bias; keys outside the utterance are zero. W = 1 is MHFA.

    Args:
        feature_dim: D, features per frame, at least 1.
        n_layers: L, layers of the input, at least 1.
        embedding_dim: E, at least 1.
        n_heads: G, attention maps, at least 1. How many SpAArSIST's Table 2 has is not known: any value is assumed.
        compression_dim: C, size of keys and values, at least 1.
        context: W, frames that a query sees (the paper's L), odd, at least 1.

    Shape: (B, L, T, D) -> (B, E).

    Source: Peng et al. 2025, of which only the abstract was at hand. From its authors' code (published with
    JYP2024/CA-MHFA_WavlmBasePlus_VoxCeleb2), which the authors of SpAArSIST use elsewhere as it is
    (Security-FIT/IG_for_SSL_detectors): the convolution, its zero padding, no bias, no division by W, G = 64, C = 128
    and the rest as in MHFA. From a re-implementation (Resonate at NADI 2026): W = 9. It also divides the sum by W, as
    the paper's equation 2 is said to do; the code leaves that to the queries. Ours: an even window, possible in that
    code, is refused.
    """

    def __init__(
        self,
        feature_dim: int,
        n_layers: int,
        embedding_dim: int,
        n_heads: Size = 64,
        compression_dim: Size = 128,
        context: OddSize = 9,
    ) -> None:
        super().__init__(feature_dim, n_layers, embedding_dim, n_heads, compression_dim)
        if context < 1 or context % 2 == 0:
            raise ValueError(f"context = {context}: expected an odd number of frames, at least 1")
        self.query = nn.Conv1d(compression_dim, n_heads, context, padding=context // 2, bias=False)

    def scores(self, keys: Tensor) -> Tensor:
        """Score every frame for every head by its window: keys (B, T, C) -> (B, G, T)."""
        return self.query(keys.transpose(1, 2))


class SLS(_Pooling):
    r"""Sensitive layer selection: each utterance weighs its layers by their mean over time.

    .. math::
        s_l = \sigma\Big(w \cdot \frac{1}{T} \sum_t x_{lt} + b\Big), \qquad
        m = \mathrm{maxpool}\big(\mathrm{SELU}(\mathrm{BN}(\textstyle\sum_l s_l x_l))\big), \qquad
        e = W_2\, \mathrm{SELU}(W_1 m)

    BN has one channel: one mean and one variance for all of B, T and D.

    The original pools 3 x 3 and flattens 67 x 341 values, so it takes 201 to 203 frames of 1024 features and nothing
    else. Here features are pooled by 3 (a rest of 1 or 2 is dropped, as there) and time into N = 67 segments whose
    borders adapt to T: segment n is the maximum of frames floor(n T / N) to ceil((n + 1) T / N) - 1. At T = 201 this is
    the original, value for value. Longer input has longer segments; otherwise segments overlap, and below 67 frames
    some are equal. The hidden layer is as wide as a frame (1024 there). The original's SELU after W_2 is left out: a
    head follows, not a softmax.

    Parameters at D = E = 1024: 24,446,979, whatever L and T; as many as with a fixed 201 frames. The original counts
    23,399,429, since its W_2 gives two logits.

    Args:
        feature_dim: D, features per frame, at least 3.
        n_layers: L, layers of the input, at least 1.
        embedding_dim: E, at least 1.
        n_segments: N, values that are left of each feature over time, at least 1.

    Shape: (B, L, T, D) -> (B, E). Source: Zhang et al. 2024, by its authors' code
    (QiShanZhang/SLSforASVspoof-2021-DF); the adaptive segments are ours.
    """

    def __init__(self, feature_dim: int, n_layers: int, embedding_dim: int, n_segments: Size = 67) -> None:
        super().__init__(feature_dim, n_layers, embedding_dim)
        _at_least(3, feature_dim=feature_dim)
        _at_least(1, n_segments=n_segments)
        self.n_segments = n_segments
        self.layer_score = nn.Linear(feature_dim, 1)
        self.norm = nn.BatchNorm2d(1)
        self.hidden = nn.Linear(n_segments * (feature_dim // 3), feature_dim)
        self.output = nn.Linear(feature_dim, embedding_dim)

    def pool(self, frames: Tensor) -> Tensor:
        """Weigh and add the layers, pool features and time, project twice."""
        weights = torch.sigmoid(self.layer_score(frames.mean(dim=2))).transpose(1, 2)
        x = F.selu(self.norm(_sum_layers(weights, frames)))
        x = F.adaptive_max_pool2d(F.max_pool2d(x, (1, 3)), (self.n_segments, None))
        return self.output(F.selu(self.hidden(x.flatten(1))))


def _sum_layers(weights: Tensor, frames: Tensor) -> Tensor:
    """Weighted sums over layers: weights (B, n, L), frames (B, L, T, D) -> (B, n, T, D)."""
    return torch.bmm(weights, frames.flatten(2)).unflatten(2, frames.shape[2:])


def _at_least(minimum: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < minimum:
            raise ValueError(f"{name} = {size}: expected at least {minimum}")
