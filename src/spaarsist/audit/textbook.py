"""A textbook AASIST back-end: the yardstick of `spaarsist benchmark`, and what the authors' own counter is run on.

It computes what the paper says, in the way that public AASIST implementations do, and knows of nothing else: every pair
of nodes has its product, (B, N, N, D); every pair type has its own matrix product into a board of scores; batch norms
and dropouts are modules. It is neither slowed down nor sped up on purpose, and shares no line with
`spaarsist.models.backend`. `tests/test_textbook.py` proves it equal to the outputs of the code that the paper's authors
released, and `tests/test_complexity.py` that ptflops, which sees how a module is written, counts it alike.

Sources: Jung et al. 2022 (AASIST, arXiv 2110.01200); Tak et al. 2022 (AASIST on self-supervised features, arXiv
2202.12233); Firc et al. 2026 (SpAArSIST, arXiv 2606.11674).

Notation: B batch, T frames, D features, N nodes (N1 temporal, N2 spectral), E embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A block of the encoder: (B, C, H, W) -> (B, C', H, W). `bn1` is in every public state and never called."""

    def __init__(self, in_channels: int, out_channels: int, first: bool) -> None:
        super().__init__()
        if not first:
            self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=(2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.selu = nn.SELU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=(2, 3), padding=(0, 1))
        self.downsample = in_channels != out_channels
        if self.downsample:
            self.conv_downsample = nn.Conv2d(in_channels, out_channels, kernel_size=(1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions around a batch norm and SELU, plus the identity."""
        identity = self.conv_downsample(x) if self.downsample else x
        out = self.selu(self.bn2(self.conv1(x)))
        return self.conv2(out) + identity


class GraphAttentionLayer(nn.Module):
    """Attention among the nodes of one graph: (B, N, D) -> (B, N, D')."""

    def __init__(self, in_dim: int, out_dim: int, temperature: float) -> None:
        super().__init__()
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_weight = nn.Parameter(torch.empty(out_dim, 1))
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(p=0.2)
        self.act = nn.SELU()
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Update every node from all nodes."""
        x = self.input_drop(x)
        scores = torch.matmul(torch.tanh(self.att_proj(pair_products(x))), self.att_weight)  # (B, N, N, 1)
        attention = F.softmax(scores / self.temperature, dim=2).squeeze(-1)
        x = self.proj_with_att(torch.matmul(attention, x)) + self.proj_without_att(x)
        return self.act(norm_features(self.bn, x))


class HtrgGraphAttentionLayer(nn.Module):
    """Attention among two types of nodes, with a stack node: (B, N1, D), (B, N2, D), (B, 1, D) -> the same with D'.

    `aggregation` of the stack node: `attention` (AASIST), `uniform` (a mean over the nodes, as the text of SpAArSIST
    says) or `linear` (what its code runs under the name mean: no attention anywhere, nor batch norm, SELU or dropout).
    """

    def __init__(self, in_dim: int, out_dim: int, temperature: float, aggregation: str) -> None:
        super().__init__()
        self.proj_type1 = nn.Linear(in_dim, in_dim)
        self.proj_type2 = nn.Linear(in_dim, in_dim)
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_projM = nn.Linear(in_dim, out_dim)
        self.att_weight11 = nn.Parameter(torch.empty(out_dim, 1))
        self.att_weight22 = nn.Parameter(torch.empty(out_dim, 1))
        self.att_weight12 = nn.Parameter(torch.empty(out_dim, 1))
        self.att_weightM = nn.Parameter(torch.empty(out_dim, 1))
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.proj_with_attM = nn.Linear(in_dim, out_dim)
        self.proj_without_attM = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(p=0.2)
        self.act = nn.SELU()
        self.temperature = temperature
        self.aggregation = aggregation

    def forward(self, x1: Tensor, x2: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Update the nodes of both types and the stack node."""
        n1 = x1.size(1)
        x = torch.cat([self.proj_type1(x1), self.proj_type2(x2)], dim=1)
        if self.aggregation == "linear":
            x, master = self.proj_without_att(x), self.proj_without_attM(master)
            return x[:, :n1], x[:, n1:], master
        x = self.input_drop(x)
        attention = self.attention_map(x, n1)
        master = self.update_master(x, master)
        x = self.proj_with_att(torch.matmul(attention, x)) + self.proj_without_att(x)
        x = self.act(norm_features(self.bn, x))
        return x[:, :n1], x[:, n1:], master

    def attention_map(self, x: Tensor, n1: int) -> Tensor:
        """Softmax over the pair scores, each by the vector of its pair's types: (B, N, N)."""
        pairs = torch.tanh(self.att_proj(pair_products(x)))
        board = torch.zeros_like(pairs[:, :, :, :1])
        board[:, :n1, :n1] = torch.matmul(pairs[:, :n1, :n1], self.att_weight11)
        board[:, :n1, n1:] = torch.matmul(pairs[:, :n1, n1:], self.att_weight12)
        board[:, n1:, :n1] = torch.matmul(pairs[:, n1:, :n1], self.att_weight12)
        board[:, n1:, n1:] = torch.matmul(pairs[:, n1:, n1:], self.att_weight22)
        return F.softmax(board / self.temperature, dim=2).squeeze(-1)

    def update_master(self, x: Tensor, master: Tensor) -> Tensor:
        """Gather the nodes into the stack node."""
        if self.aggregation == "uniform":
            gathered = torch.mean(x, dim=1, keepdim=True)
        else:
            scores = torch.matmul(torch.tanh(self.att_projM(x * master)), self.att_weightM)  # (B, N, 1)
            attention = F.softmax(scores / self.temperature, dim=1)
            gathered = torch.matmul(attention.transpose(1, 2), x)
        return self.proj_with_attM(gathered) + self.proj_without_attM(master)


class GraphPool(nn.Module):
    """Keep the max(floor(N k), 1) nodes of the highest score: (B, N, D) -> (B, K, D).

    `scoring`: `learned` (kept nodes are multiplied by their score) or `magnitude` (squared norm, nodes as they are).
    """

    def __init__(self, dim: int, k: float, scoring: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 1)
        self.sigmoid = nn.Sigmoid()
        self.drop = nn.Dropout(p=0.3)
        self.k = k
        self.scoring = scoring

    def forward(self, x: Tensor) -> Tensor:
        """Pool each graph."""
        if self.scoring == "magnitude":
            scores = torch.sum(x**2, dim=-1, keepdim=True)
        else:
            scores = self.sigmoid(self.proj(self.drop(x)))
            x = x * scores
        n_kept = max(int(x.size(1) * self.k), 1)
        _, index = torch.topk(scores, n_kept, dim=1)
        return torch.gather(x, 1, index.expand(-1, -1, x.size(2)))


class Textbook(nn.Module):
    """The back-end: frames (B, T, D) -> embedding (B, E).

    Like any module it starts in training mode.

    Args:
        state: its weights under the names of the public AASIST code; all of them, whatever the variant. Their shapes
            say every size: of an AASIST or an AASIST-L, of frames and embedding.
        k: share of nodes that each graph pooling keeps.
        scoring: of the nodes, see `GraphPool`.
        aggregation: of the stack node, see `HtrgGraphAttentionLayer`.

    Raises:
        ValueError: unknown scoring or aggregation.
        RuntimeError: names what is missing, unknown or misshapen in the state.
    """

    def __init__(
        self,
        state: dict[str, Tensor],
        k: float = 0.5,
        scoring: str = "learned",
        aggregation: str = "attention",
    ) -> None:
        super().__init__()
        if scoring not in ("learned", "magnitude") or aggregation not in ("attention", "uniform", "linear"):
            raise ValueError(f"no textbook form of {scoring} scoring with {aggregation} aggregation")
        embedding_dim, feature_dim = len(state["out_layer.weight"]), state["LL.weight"].size(1)
        c = len(state["encoder.2.0.conv1.weight"])
        d, hidden = state["HtrgGAT_layer_ST11.att_proj.weight"].size(1), len(state["attention.0.weight"])
        self.LL = nn.Linear(feature_dim, 128)
        self.first_bn = nn.BatchNorm2d(1)
        self.first_bn1 = nn.BatchNorm2d(c)
        self.selu = nn.SELU()
        self.drop = nn.Dropout(p=0.5)
        self.drop_way = nn.Dropout(p=0.2)
        self.encoder = nn.Sequential(
            nn.Sequential(Residual(1, 32, first=True)),
            nn.Sequential(Residual(32, 32, first=False)),
            nn.Sequential(Residual(32, c, first=False)),
            nn.Sequential(Residual(c, c, first=False)),
            nn.Sequential(Residual(c, c, first=False)),
            nn.Sequential(Residual(c, c, first=False)),
        )
        self.attention = nn.Sequential(
            nn.Conv2d(c, hidden, kernel_size=1), nn.SELU(), nn.BatchNorm2d(hidden), nn.Conv2d(hidden, c, kernel_size=1)
        )
        self.pos_S = nn.Parameter(torch.empty(1, 42, c))
        self.master1 = nn.Parameter(torch.empty(1, 1, d))
        self.master2 = nn.Parameter(torch.empty(1, 1, d))
        self.GAT_layer_S = GraphAttentionLayer(c, d, temperature=2.0)
        self.GAT_layer_T = GraphAttentionLayer(c, d, temperature=2.0)
        self.pool_S = GraphPool(d, k, scoring)
        self.pool_T = GraphPool(d, k, scoring)
        self.HtrgGAT_layer_ST11 = HtrgGraphAttentionLayer(d, 32, 100.0, aggregation)
        self.HtrgGAT_layer_ST12 = HtrgGraphAttentionLayer(32, 32, 100.0, aggregation)
        self.HtrgGAT_layer_ST21 = HtrgGraphAttentionLayer(d, 32, 100.0, aggregation)
        self.HtrgGAT_layer_ST22 = HtrgGraphAttentionLayer(32, 32, 100.0, aggregation)
        self.pool_hS1 = GraphPool(32, k, scoring)
        self.pool_hT1 = GraphPool(32, k, scoring)
        self.pool_hS2 = GraphPool(32, k, scoring)
        self.pool_hT2 = GraphPool(32, k, scoring)
        self.out_layer = nn.Linear(5 * 32, embedding_dim)
        self.load_state_dict(state, strict=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames."""
        x = self.LL(frames).transpose(1, 2).unsqueeze(dim=1)  # (B, 1, 128, T)
        x = F.max_pool2d(x, (3, 3))  # (B, 1, 42, T // 3)
        x = self.selu(self.first_bn(x))
        x = self.selu(self.first_bn1(self.encoder(x)))  # (B, c, 42, T // 3)
        w = self.attention(x)

        spectral = torch.sum(x * F.softmax(w, dim=-1), dim=-1).transpose(1, 2) + self.pos_S  # (B, 42, c)
        temporal = torch.sum(x * F.softmax(w, dim=-2), dim=-2).transpose(1, 2)  # (B, T // 3, c)
        spectral = self.pool_S(self.GAT_layer_S(spectral))
        temporal = self.pool_T(self.GAT_layer_T(temporal))

        master1 = self.master1.expand(x.size(0), -1, -1)
        temporal1, spectral1, master1 = self.HtrgGAT_layer_ST11(temporal, spectral, master1)
        spectral1 = self.pool_hS1(spectral1)
        temporal1 = self.pool_hT1(temporal1)
        temporal_more, spectral_more, master_more = self.HtrgGAT_layer_ST12(temporal1, spectral1, master1)
        temporal1 = self.drop_way(temporal1 + temporal_more)
        spectral1 = self.drop_way(spectral1 + spectral_more)
        master1 = self.drop_way(master1 + master_more)

        master2 = self.master2.expand(x.size(0), -1, -1)
        temporal2, spectral2, master2 = self.HtrgGAT_layer_ST21(temporal, spectral, master2)
        spectral2 = self.pool_hS2(spectral2)
        temporal2 = self.pool_hT2(temporal2)
        temporal_more, spectral_more, master_more = self.HtrgGAT_layer_ST22(temporal2, spectral2, master2)
        temporal2 = self.drop_way(temporal2 + temporal_more)
        spectral2 = self.drop_way(spectral2 + spectral_more)
        master2 = self.drop_way(master2 + master_more)

        temporal = torch.max(temporal1, temporal2)
        spectral = torch.max(spectral1, spectral2)
        master = torch.max(master1, master2)
        temporal_max, _ = torch.max(torch.abs(temporal), dim=1)
        spectral_max, _ = torch.max(torch.abs(spectral), dim=1)
        summary = torch.cat(
            [temporal_max, torch.mean(temporal, dim=1), spectral_max, torch.mean(spectral, dim=1), master.squeeze(1)],
            dim=1,
        )
        return self.out_layer(self.drop(summary))


def pair_products(x: Tensor) -> Tensor:
    """n_i * n_j of every pair of nodes: (B, N, D) -> (B, N, N, D)."""
    x = x.unsqueeze(2).expand(-1, -1, x.size(1), -1)
    return x * x.transpose(1, 2)


def norm_features(bn: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch norm of each feature, over all nodes of the batch: (B, N, D) -> (B, N, D)."""
    shape = x.size()
    return bn(x.reshape(-1, shape[-1])).reshape(shape)
