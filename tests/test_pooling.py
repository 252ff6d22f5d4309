"""The other back-ends of Table 2: sizes, values by hand, invariances, hostile input, compute."""

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from spaarsist.models.pooling import CAMHFA, MHFA, SLS, MeanPool

PAPER = {"feature_dim": 1024, "n_layers": 24, "embedding_dim": 1024}
SMALL = {"feature_dim": 7, "n_layers": 3, "embedding_dim": 5}
KINDS = {
    MeanPool: {},
    MHFA: {"n_heads": 4, "compression_dim": 6},
    CAMHFA: {"n_heads": 4, "compression_dim": 6, "context": 3},
    SLS: {"n_segments": 4},
}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(kind, **changes):
    """A small back-end in double precision, every parameter and batch statistic away from its start."""
    module = kind(**SMALL | KINDS[kind] | changes).double().eval()
    with torch.no_grad():
        for i, tensor in enumerate(module.state_dict().values()):
            if tensor.is_floating_point():
                tensor.copy_(0.5 * noise(*tensor.shape, seed=i) + 0.1)
    if kind is SLS:
        module.norm.running_var.fill_(1.7)
    return module


def arrays(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


def selu(x):
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (MeanPool, {}, 0),
        (MeanPool, {"embedding_dim": 10}, 1024 * 10 + 10),
        (MHFA, {"n_heads": 32, "compression_dim": 128}, 4_461_904),
        # As MHFA with 64 heads, but 64 queries of 9 frames without bias
        (CAMHFA, {}, 48 + 2 * (1024 * 128 + 128) + 64 * 128 * 9 + 64 * 128 * 1024 + 1024),
        (SLS, {}, 1025 + 2 + 22_847 * 1024 + 1024 + 1024 * 1024 + 1024),
        (SLS, {"embedding_dim": 2}, 23_399_429),
    ],
)
def test_parameters_at_the_papers_size(kind, options, expected):
    with torch.device("meta"):
        module = kind(**PAPER | options)
    assert sum(p.numel() for p in module.parameters()) == expected


def test_docstring_tells_the_size_of_sls():
    assert "24,446,979" in SLS.__doc__ and "23,399,429" in SLS.__doc__
    assert 1025 + 2 + 22_847 * 1024 + 1024 + 1024 * 1024 + 1024 == 24_446_979


class TestValuesByHand:
    """NumPy loops over the published formulae."""

    x = noise(2, 3, 11, 7, seed=5).double()

    def test_mean(self):
        assert torch.equal(MeanPool(7, 3, 7)(self.x), self.x[:, 2].sum(1) / 11)
        module = build(MeanPool)
        p = arrays(module)
        expected = self.x.numpy()[:, 2].mean(1) @ p["output.weight"].T + p["output.bias"]
        np.testing.assert_allclose(module(self.x).detach(), expected, rtol=1e-12)

    @pytest.mark.parametrize("context", [None, 1, 3, 5, 27])
    def test_mhfa_and_camhfa(self, context):
        module = build(MHFA) if context is None else build(CAMHFA, context=context)
        p, reach = arrays(module), 0 if context is None else context // 2
        layers_k, layers_v = (softmax(logits) for logits in p["layer_logits"])
        for x, output in zip(self.x.numpy(), module(self.x).detach().numpy(), strict=True):
            keys = [p["key.weight"] @ sum(layers_k[i] * x[i, t] for i in range(3)) + p["key.bias"] for t in range(11)]
            values = [
                p["value.weight"] @ sum(layers_v[i] * x[i, t] for i in range(3)) + p["value.bias"] for t in range(11)
            ]
            pooled = []
            for h in range(4):
                scores = np.zeros(11)
                for t in range(11):
                    if context is None:
                        scores[t] = p["query.weight"][h] @ keys[t] + p["query.bias"][h]
                        continue
                    for j in range(-reach, reach + 1):
                        if 0 <= t + j < 11:
                            scores[t] += p["query.weight"][h, :, j + reach] @ keys[t + j]
                pooled.append(sum(a * v for a, v in zip(softmax(scores), values, strict=True)))
            expected = p["output.weight"] @ np.concatenate(pooled) + p["output.bias"]
            np.testing.assert_allclose(output, expected, rtol=1e-10)

    @pytest.mark.parametrize("n_frames", [1, 3, 4, 11, 12, 13])
    def test_sls(self, n_frames):
        module = build(SLS)
        p = arrays(module)
        frames = self.x.repeat(1, 1, 2, 1)[:, :, :n_frames] * 2
        for x, output in zip(frames.numpy(), module(frames).detach().numpy(), strict=True):
            summed = np.zeros((n_frames, 7))
            for layer in x:
                score = p["layer_score.weight"][0] @ layer.mean(0) + p["layer_score.bias"][0]
                summed += layer / (1 + np.exp(-score))
            normal = (summed - p["norm.running_mean"][0]) / np.sqrt(p["norm.running_var"][0] + 1e-5)
            grid = selu(normal * p["norm.weight"][0] + p["norm.bias"][0])
            flat = []
            for n in range(4):
                first, end = n * n_frames // 4, -(-(n + 1) * n_frames // 4)
                flat += [grid[first:end, :3].max(), grid[first:end, 3:6].max()]
            hidden = selu(p["hidden.weight"] @ np.array(flat) + p["hidden.bias"])
            np.testing.assert_allclose(output, p["output.weight"] @ hidden + p["output.bias"], rtol=1e-10)


def test_sls_at_201_frames_is_the_original():
    """At the size it was made for, the adaptive segments are plain 3 x 3 pooling (13 features: one is dropped)."""
    module = build(SLS, feature_dim=13, n_segments=67)
    seen = []
    module.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = noise(2, 3, 201, 13).double()
    module(x)
    weights = torch.sigmoid(module.layer_score(x.mean(2)))
    grid = torch.selu(module.norm((x * weights[..., None]).sum(1, keepdim=True)))
    torch.testing.assert_close(seen[0], torch.nn.functional.max_pool2d(grid, 3).flatten(1))
    assert seen[0].shape[1] == 67 * 4


def test_a_window_of_one_frame_is_mhfa():
    wide, plain = build(CAMHFA, context=1), build(MHFA)
    state = wide.state_dict()
    plain.load_state_dict(
        state | {"query.weight": state["query.weight"].squeeze(2), "query.bias": torch.zeros(4)}, strict=True
    )
    x = noise(2, 3, 9, 7).double()
    torch.testing.assert_close(wide(x), plain(x))


@pytest.mark.parametrize("kind", [MeanPool, MHFA])
def test_order_of_frames_does_not_matter(kind):
    x, module = noise(2, 3, 20, 7).double(), build(kind)
    torch.testing.assert_close(module(x[:, :, torch.randperm(20)]), module(x))


@pytest.mark.parametrize("kind", [CAMHFA, SLS])
def test_order_of_frames_matters(kind):
    x, module = noise(2, 3, 20, 7).double(), build(kind)
    assert not torch.allclose(module(x.flip(2)), module(x), rtol=1e-3)


@every_kind
def test_order_of_layers(kind):
    """SLS weighs a layer by what it holds, the others by where it stands."""
    x, module = noise(2, 3, 20, 7).double(), build(kind)
    assert torch.allclose(module(x.flip(1)), module(x)) == (kind is SLS)


def test_attention_sums_to_one():
    """Values that are constant over time and layers come out as they are, whatever the weights."""
    frame = noise(7).double()
    for module in (build(MHFA), build(CAMHFA)):
        for n_frames in (1, 2, 30):
            value = module.value(frame)
            expected = module.output(value.repeat(4))
            torch.testing.assert_close(module(frame.expand(2, 3, n_frames, 7)), expected.expand(2, -1))


@pytest.mark.parametrize("kind", [MeanPool, SLS])
def test_constant_sequence_of_any_length(kind):
    frame, module = noise(1, 3, 1, 7).double(), build(kind)
    torch.testing.assert_close(module(frame.expand(1, 3, 50, 7)), module(frame))


@every_kind
@pytest.mark.parametrize("n_layers", [1, 2, 24])
@pytest.mark.parametrize("training", [False, True])
def test_any_number_of_layers_and_frames(kind, n_layers, training):
    module = kind(feature_dim=12, n_layers=n_layers, embedding_dim=5).train(training)
    for n_frames in (1, 2, 5, 67, 201):
        output = module(noise(2, n_layers, n_frames, 12))
        assert output.shape == (2, 5) and output.isfinite().all()


@every_kind
def test_an_utterance_alone_scores_as_in_its_batch(kind):
    x, module = noise(5, 3, 20, 7).double(), build(kind)
    x[1:] *= 20
    torch.testing.assert_close(module(x)[:1], module(x[:1]))
    assert torch.equal(module(x), module(x))


@every_kind
def test_input_is_left_alone(kind):
    x = noise(2, 3, 20, 7).double()
    before = x.clone()
    build(kind).train()(x)
    assert torch.equal(x, before)


@every_kind
def test_gradient_reaches_every_parameter_and_the_frames(kind):
    x, module = noise(4, 3, 20, 7).double().requires_grad_(), build(kind).train()
    module(x).square().sum().backward()
    cancelling = {"key.bias", "query.bias"} if kind is MHFA else set()
    assert x.grad[:, -1].abs().amax(dim=(1, 2)).min() > 0
    for name, parameter in module.named_parameters():
        largest = parameter.grad.abs().max()
        assert largest < 1e-10 if name in cancelling else largest > 1e-6, name


@every_kind
@pytest.mark.parametrize(
    "shape",
    [(2, 20, 7), (2, 3, 20), (1, 2, 3, 20, 7), (2, 4, 20, 7), (2, 3, 20, 8), (2, 3, 7, 20), (2, 3, 0, 7), (0, 3, 9, 7)],
    ids=str,
)
def test_other_shapes_are_refused(kind, shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 3 layers, at least 1 frame, 7 features\)"):
        build(kind)(torch.zeros(shape, dtype=torch.double))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MeanPool, {"n_layers": 0}, "n_layers = 0"),
        (MeanPool, {"embedding_dim": -1}, "embedding_dim = -1"),
        (MHFA, {"n_heads": 0}, "n_heads = 0"),
        (MHFA, {"compression_dim": 0}, "compression_dim = 0"),
        (CAMHFA, {"context": 4}, "context = 4: expected an odd"),
        (CAMHFA, {"context": -1}, "context = -1: expected an odd"),
        (SLS, {"feature_dim": 2}, "feature_dim = 2: expected at least 3"),
        (SLS, {"n_segments": 0}, "n_segments = 0"),
    ],
)
def test_other_sizes_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**SMALL | options)


# Two mixtures of 24 layers, their compression to 128, 32 heads' scores and sums over 201 frames, the projection
MHFA_MACS = 201 * (2 * 24 * 1024 + 2 * 1024 * 128 + 2 * 128 * 32) + 32 * 128 * 1024


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (MeanPool, {}, 0),
        (MHFA, {}, MHFA_MACS),
        # Scores by 9 frames each instead of one
        (CAMHFA, {"n_heads": 32}, MHFA_MACS + 201 * 8 * 128 * 32),
        # Layer scores, one mixture, two per value for the batch norm, two linear layers
        (SLS, {}, 24 * 1024 + 201 * 1024 * (24 + 2) + 22_847 * 1024 + 1024 * 1024),
    ],
)
def test_macs_at_the_papers_size(kind, options, expected):
    frames = torch.zeros(1, 24, 201, 1024)
    analysis = FlopCountAnalysis(kind(**PAPER, **options).eval(), frames)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert analysis.total() == expected
    assert not {"aten::matmul", "aten::einsum", "aten::mul", "aten::_convolution"} & set(analysis.unsupported_ops())
