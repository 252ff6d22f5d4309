"""The back-end against the released code's outputs (golden/README.md), hand computation and its own promises."""

import json

import pytest
import torch
from safetensors import safe_open

from conftest import GOLDEN
from spaarsist.models.backend import AASIST, GraphPool, HeterogeneousAttention
from spaarsist.names import LABELS, Variant

UNIFORM = Variant(stack_aggregation="uniform")
RELEASED_NAME = {"attention": "attention", "mean": "linear"}
with safe_open(GOLDEN / "backend_small.safetensors", "pt") as file:
    METADATA = file.metadata()
    TENSORS = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
CASES = json.loads(METADATA["cases"])


@pytest.fixture
def backend():
    backend = AASIST(int(METADATA["input_dim"]), int(METADATA["embedding_dim"]))
    backend.load_public_state({k[6:]: v for k, v in TENSORS.items() if k.startswith("state/")})
    return backend.eval()


def relative_error(value, expected):
    return ((value - expected).norm() / expected.norm()).item()


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_equals_released_code(backend, case):
    variant = Variant(case["k_infer"], case["node_scoring"], RELEASED_NAME[case["stack_aggregation"]])
    frames, expected = TENSORS[f"input/T{case['frames']}"], TENSORS[f"output/{case['key']}"]
    assert relative_error(backend.readout(backend.encode(frames), variant), expected) < 1e-5
    assert relative_error(backend.export(variant)(frames), expected) < 1e-5


def test_training_equals_released_code(backend):
    backend.train()
    for module in backend.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    output = backend(TENSORS["train/input"])
    loss = output.square().mean()
    loss.backward()
    assert relative_error(output, TENSORS["train/output"]) < 1e-4
    assert loss.item() == pytest.approx(TENSORS["train/loss"].item(), rel=1e-4)
    public = AASIST(24, 16)
    norms = {k.removeprefix("train/gradnorm/"): v.item() for k, v in TENSORS.items() if k.startswith("train/gradnorm/")}
    assert len(norms) > 100
    # Give every public name its own number: where it lands is that parameter's name here
    numbers = {k[6:]: torch.full_like(v, i) for i, (k, v) in enumerate(TENSORS.items()) if k.startswith("state/")}
    public.load_public_state(numbers)
    landed = {round(v.flatten()[0].item()): name for name, v in public.state_dict().items()}
    gradients = {name: parameter.grad for name, parameter in backend.named_parameters()}
    largest = max(norms.values())
    for public_name, expected in norms.items():
        gradient = gradients[landed[round(numbers[public_name].flatten()[0].item())]]
        norm = 0.0 if gradient is None else gradient.norm().item()
        # A bias before a batch norm has a gradient of zero but for rounding
        assert norm == pytest.approx(expected, rel=1e-4, abs=1e-6 * largest), public_name


def test_public_state_is_what_was_loaded(backend):
    state = {k[6:]: v for k, v in TENSORS.items() if k.startswith("state/")}
    given = backend.public_state()
    assert given.keys() == state.keys() and all(torch.equal(given[name], state[name]) for name in state)


def aasist_parameters(dim, features=1024, embedding=1024):
    """By hand, from the layers of Jung et al. 2022 on such features, with nodes of `dim` and a stack node of 32."""

    def linear(i, o):
        return i * o + o

    def block(i, o):
        convolutions = 6 * i * o + o + 6 * o * o + o + (3 * i * o + o if i != o else 0)
        return convolutions + 2 * o + (2 * i if i > 1 else 0)  # the first has no bn1

    encoder = block(1, 32) + block(32, 32) + block(32, dim) + 3 * block(dim, dim)
    attention_map = linear(dim, 128) + 2 * 128 + linear(128, dim)
    graph = 3 * linear(dim, dim) + dim + 2 * dim

    def heterogeneous(i):
        return 2 * linear(i, i) + 6 * linear(i, 32) + 4 * 32 + 2 * 32

    branch = dim + heterogeneous(dim) + heterogeneous(32) + 2 * linear(32, 1)
    return (
        linear(features, 128) + 2 + encoder + 2 * dim + attention_map + 42 * dim + 2 * graph + 2 * linear(dim, 1)
        + 2 * branch + linear(160, embedding)
    )  # fmt: skip


@pytest.mark.parametrize(("size", "dim", "n_params"), [("base", 64, 611_784), ("L", 24, 388_104)])
def test_sizes_by_hand(size, dim, n_params):
    backend = AASIST(size=size)
    assert sum(p.numel() for p in backend.parameters()) == aasist_parameters(dim) == n_params
    small = AASIST(24, 16, size=size).eval()
    with torch.inference_mode():
        graphs = small.encode(torch.randn(2, 30, 24))
        assert graphs.spectral.shape == (2, 42, dim) and graphs.temporal.shape == (2, 10, dim)
        assert small(torch.randn(2, 30, 24)).shape == (2, 16)
        assert small.export(Variant.from_label(0.1, "MagMean"))(torch.randn(2, 30, 24)).shape == (2, 16)


def test_no_such_size():
    with pytest.raises(ValueError, match="size 'XL': expected one of base, L"):
        AASIST(size="XL")


@torch.inference_mode()
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("k_infer", [0.5, 0.1])
def test_export_equals_readout(backend, label, k_infer):
    frames = torch.randn(3, 30, 24, generator=torch.Generator().manual_seed(0))
    variant = Variant.from_label(k_infer, label)
    # Not bit for bit: copied weights may lie at other addresses, where a convolution sums in another order
    assert relative_error(backend.export(variant)(frames), backend.readout(backend.encode(frames), variant)) < 1e-5


@pytest.mark.parametrize(
    ("label", "n_params"),
    [
        *(("Base", 611_784), ("Mag", 611_522), ("Mean", 586_696), ("MagMean", 586_434)),
        *(("MagGate", 611_784), ("NoGate", 611_784)),
    ],
)
def test_parameters_of_exports(label, n_params):
    exported = AASIST().export(Variant.from_label(0.1, label))
    assert sum(p.numel() for p in exported.parameters()) == n_params


def test_uniform_drops_the_stack_attention_only():
    """att_projM and att_weightM of two branches: 64->32 and 32->32 linear layers and a vector of 32 each."""
    exported = AASIST().export(Variant(0.5, "learned", "uniform"))
    assert 611_784 - sum(p.numel() for p in exported.parameters()) == 2 * (64 * 32 + 32 + 32 * 32 + 32 + 2 * 32)


@torch.inference_mode()
def test_released_mean_ignores_its_input(backend):
    """What the released code calls mean makes the stack node a constant (PAPER: a mean over nodes)."""
    layer = backend.branches[0].first
    stack = torch.randn(1, 1, 64)
    a = layer(torch.randn(1, 5, 64), torch.randn(1, 4, 64), stack, Variant(stack_aggregation="linear"))[2]
    b = layer(torch.randn(1, 5, 64), torch.randn(1, 4, 64), stack, Variant(stack_aggregation="linear"))[2]
    assert torch.equal(a, b)
    a = layer(torch.ones(1, 5, 64), torch.ones(1, 4, 64), stack, UNIFORM)[2]
    b = layer(torch.zeros(1, 5, 64), torch.zeros(1, 4, 64), stack, UNIFORM)[2]
    assert not torch.allclose(a, b)


@torch.inference_mode()
def test_uniform_is_the_plain_mean():
    layer = HeterogeneousAttention(6, 4, 100.0).eval()
    temporal, spectral, stack = torch.randn(2, 5, 6), torch.randn(2, 3, 6), torch.randn(2, 1, 6)
    nodes = torch.cat([layer.proj_type1(temporal), layer.proj_type2(spectral)], 1)
    expected = layer.proj_with_attM(nodes.mean(1, keepdim=True)) + layer.proj_without_attM(stack)
    torch.testing.assert_close(layer(temporal, spectral, stack, UNIFORM)[2], expected)


@pytest.mark.parametrize("label", LABELS)
def test_trained_as_a_variant(label):
    """The module called directly runs it, and a plain state fits: every weight exists in every variant."""
    plain, twin = AASIST(24, 16).eval(), AASIST(24, 16, variant=label).eval()
    twin.load_state_dict(plain.state_dict())
    frames = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))
    expected = plain.readout(plain.encode(frames), Variant.from_label(0.5, label))
    torch.testing.assert_close(twin(frames), expected)
    assert twin.variant.column == ("05" if label == "Base" else f"05-{label}")
    twin.train()(frames).square().mean().backward()
    assert (twin.spectral_pool.proj.weight.grad is not None) == (label in ("Base", "Mean", "Uni", "MagGate"))


class TestTemperatures:
    """Switched at inference, or built in: the same function; and each touches its own softmax alone."""

    frames = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))

    def twin(self, backend, **options):
        twin = AASIST(24, 16, **options).eval()
        twin.load_state_dict(backend.state_dict())
        return twin

    @torch.inference_mode()
    def test_graph(self, backend):
        switched = Variant(graph_temperature=0.5)
        expected = self.twin(backend, temperatures=(0.5, 0.5, 100, 100))(self.frames)
        graphs = backend.attend(backend.nodes(self.frames), 0.5)
        torch.testing.assert_close(backend.readout(graphs, switched), expected)
        torch.testing.assert_close(backend.export(switched)(self.frames), expected)
        assert relative_error(backend(self.frames), expected) > 1e-4

    @torch.inference_mode()
    def test_stack(self, backend):
        switched = Variant(stack_temperature=0.1)
        expected = self.twin(backend, stack_temperature=0.1)(self.frames)
        torch.testing.assert_close(backend.readout(backend.encode(self.frames), switched), expected)
        torch.testing.assert_close(backend.export(switched)(self.frames), expected)
        assert relative_error(backend(self.frames), expected) > 1e-6

    @torch.inference_mode()
    def test_stack_by_hand(self):
        """Nodes keep their attention; the stack node's softmax is over scores / 0.1."""
        layer = HeterogeneousAttention(6, 4, 100.0).eval()
        temporal, spectral, stack = torch.randn(2, 5, 6), torch.randn(2, 3, 6), torch.randn(2, 1, 6)
        nodes = torch.cat([layer.proj_type1(temporal), layer.proj_type2(spectral)], 1)
        scores = (torch.tanh(layer.att_projM(nodes * stack)) @ layer.att_weightM)[..., 0] / 0.1
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        gathered = (weights[..., None] * nodes).sum(1, keepdim=True)
        expected = layer.proj_with_attM(gathered) + layer.proj_without_attM(stack)
        sharp = layer(temporal, spectral, stack, Variant(stack_temperature=0.1))
        flat = layer(temporal, spectral, stack, Variant())
        torch.testing.assert_close(sharp[2], expected)
        assert torch.equal(sharp[0], flat[0]) and torch.equal(sharp[1], flat[1])

    @torch.inference_mode()
    def test_a_hot_stack_node_takes_the_mean(self, backend):
        graphs = backend.encode(self.frames)
        hot = backend.readout(graphs, Variant(stack_temperature=1e6))
        torch.testing.assert_close(hot, backend.readout(graphs, UNIFORM))


class TestGraphPool:
    nodes = torch.tensor([[[1.0, 0.0], [0.0, -3.0], [2.0, 2.0], [0.5, 0.5]]])

    def test_magnitude_by_hand(self):
        """Squared norms 1, 9, 8, 0.5: the second and third survive, in this order, unscaled."""
        kept = GraphPool(2)(self.nodes, 0.5, "magnitude")
        assert kept.tolist() == [[[0.0, -3.0], [2.0, 2.0]]]

    @torch.inference_mode()
    def test_learned_by_hand(self):
        """With w = (1, 1) and b = 0 the scores are sigmoid(1, -3, 4, 1): the third comes first, times sigmoid(4)."""
        pool = GraphPool(2).eval()
        pool.proj.weight.fill_(1.0)
        pool.proj.bias.fill_(0.0)
        kept = pool(self.nodes, 0.25, "learned")
        torch.testing.assert_close(kept, torch.tensor([[[2.0, 2.0]]]) * torch.sigmoid(torch.tensor(4.0)))

    @torch.inference_mode()
    @pytest.mark.parametrize(
        ("scoring", "kept"),
        [
            # Squared norms 1, 9, 8, 0.5; with w = (2, 1) and b = 0 the gates are sigmoid(2, -3, 6, 1.5)
            ("learned", [(2, 6.0), (0, 2.0)]),
            ("magnitude", [(1, None), (2, None)]),
            ("magnitude_gated", [(1, -3.0), (2, 6.0)]),
            ("learned_ungated", [(2, None), (0, None)]),
        ],
    )
    def test_choice_and_gate_by_hand(self, scoring, kept):
        pool = GraphPool(2).eval()
        pool.proj.weight.copy_(torch.tensor([[2.0, 1.0]]))
        pool.proj.bias.fill_(0.0)
        expected = [
            self.nodes[0, i] * (1 if logit is None else torch.sigmoid(torch.tensor(logit))) for i, logit in kept
        ]
        torch.testing.assert_close(pool(self.nodes, 0.5, scoring)[0], torch.stack(expected))

    def test_ungated_scores_get_no_gradient(self):
        for scoring, gets in (("learned", True), ("magnitude_gated", True), ("learned_ungated", False)):
            pool = GraphPool(2).eval()
            kept = pool(self.nodes.clone().requires_grad_(), 0.5, scoring)
            kept.sum().backward()
            assert (pool.proj.weight.grad is not None) == gets, scoring

    @pytest.mark.parametrize(
        ("n", "ratio", "kept"), [(42, 0.5, 21), (42, 0.3, 12), (42, 0.1, 4), (3, 0.1, 1), (1, 0.5, 1)]
    )
    def test_keeps_the_floor_and_at_least_one(self, n, ratio, kept):
        assert GraphPool(4)(torch.randn(2, n, 4), ratio, "magnitude").shape == (2, kept, 4)


class TestLoadPublicState:
    state = {k[6:]: v for k, v in TENSORS.items() if k.startswith("state/")}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("LL.weight"), "missing: projection.weight"),
            (lambda s: s.update({"ssl_model.x": torch.zeros(1)}), "unknown: ssl_model.x"),
            (lambda s: s.update({"encoder.0.0.bn1.weight": torch.zeros(1)}), "unknown: encoder.0.0.bn1.weight"),
            (lambda s: s.update({"out_layer.bias": torch.zeros(2)}), r"misshapen: out_layer.bias is \(2,\)"),
            (lambda s: s.update({"LL.bias": torch.full((128,), torch.nan)}), "not finite: LL.bias$"),
        ],
    )
    def test_names_what_does_not_fit(self, change, message):
        state = dict(self.state)
        change(state)
        with pytest.raises(ValueError, match=message):
            AASIST(24, 16).load_public_state(state)

    def test_counts_what_is_missing_and_names_the_first(self):
        """`load_state_dict(strict=False)`, as in the released code, takes a state of one layer and says nothing."""
        backend = AASIST(24, 16)
        missing = [name for name in backend.state_dict() if "projection." not in name and "num_batches" not in name]
        with pytest.raises(ValueError, match="this is not the state") as raised:
            backend.load_public_state({name: self.state[name] for name in ("LL.weight", "LL.bias")})
        assert len(missing) > 100
        named = ", ".join(missing[:3])
        assert str(raised.value).endswith(f"such a back-end: missing: {named} and {len(missing) - 3} more")

    def loaded(self, state, **options):
        backend = AASIST(24, 16, **options).eval()
        backend.load_public_state(state)
        return backend

    @pytest.mark.parametrize(
        "form",
        [
            lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
            lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
            lambda state: {name: tensor.numpy() for name, tensor in state.items()},
            lambda state: {name: tensor.double() for name, tensor in state.items()},
        ],
    )
    def test_forms_that_public_states_come_in(self, backend, form):
        got, expected = self.loaded(form(self.state)).state_dict(), backend.state_dict()
        expected = {name: tensor for name, tensor in expected.items() if "num_batches" not in name}
        assert len(expected) > 100 and all(torch.equal(got[name], tensor) for name, tensor in expected.items())

    def test_a_state_within_another(self):
        for around in ({"model_state_dict": self.state, "epoch": 3}, {"model": self.state, "optimizer": {}}):
            with pytest.raises(ValueError, match=f"holds states by name: {next(iter(around))}.*; pass one of them"):
                AASIST(24, 16).load_public_state(around)

    def test_a_whole_detector(self):
        more = {f"module.ssl_model.{i}": torch.zeros(1) for i in range(400)}
        whole = more | {f"module.{name}": tensor for name, tensor in self.state.items()}
        with pytest.raises(ValueError, match=r"unknown: ssl_model\.0, \S+, \S+ and 397 more \(ssl_model is the front"):
            AASIST(24, 16).load_public_state(whole)

    @pytest.mark.parametrize("variant", ["Mag", "Mean", "MagMean", "Uni"])
    @torch.inference_mode()
    def test_states_without_what_their_variant_never_calls(self, variant):
        """Trained as magnitude or mean they lack weights; another variant then gives no numbers, not chance's."""
        whole = self.loaded(self.state, variant=variant)
        shipped = whole.export(whole.variant).state_dict()
        public = dict(zip(whole.state_dict(), whole.public_state().items(), strict=True))
        part = dict(item for name, item in public.items() if name in shipped)
        assert len(part) < len(self.state)
        frames = torch.randn(2, 30, 24)
        backend = self.loaded(part, variant=variant)
        torch.testing.assert_close(backend(frames), whole(frames))
        assert backend(frames).isfinite().all()
        assert not backend.readout(backend.encode(frames), Variant()).isfinite().any()
        with pytest.raises(ValueError, match="missing: "):
            AASIST(24, 16).load_public_state(part)


@pytest.mark.parametrize("shape", [(1, 2, 24), (1, 10, 23)])
def test_unfit_frames_are_refused(backend, shape):
    with pytest.raises(ValueError, match="frames of shape"):
        backend(torch.zeros(shape))


@torch.inference_mode()
@pytest.mark.parametrize("n_frames", [3, 7, 50])
def test_any_length_from_three_frames(backend, n_frames):
    assert backend(torch.randn(2, n_frames, 24)).shape == (2, 16)
