"""The textbook back-end (audit/textbook.py) against the released code's outputs, and the project's form against it.

Where two of our own forms are compared, they run in float64: top-k pooling jumps where two scores tie, and in float32
they may tie for one form and not for the other.
"""

import json

import pytest
import torch
from safetensors import safe_open

from conftest import GOLDEN
from spaarsist.audit.textbook import Textbook
from spaarsist.models.backend import AASIST
from spaarsist.names import LABELS, Variant

RELEASED_NAME = {"attention": "attention", "mean": "linear"}
TEXTBOOK = [label for label in LABELS if label not in ("MagGate", "NoGate")]
with safe_open(GOLDEN / "backend_small.safetensors", "pt") as file:
    CASES = json.loads(file.metadata()["cases"])
    TENSORS = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
STATE = {key.removeprefix("state/"): value for key, value in TENSORS.items() if key.startswith("state/")}


def relative_error(value, expected):
    return ((value - expected).norm() / expected.norm()).item()


def error_in_spreads(value, expected):
    """Error over what tells the utterances of a batch apart, which is far less than an embedding's size."""
    spread = (expected - expected.mean(dim=0)).norm()
    assert spread > 1e-5 * expected.norm() > 0
    return ((value - expected).norm() / spread).item()


def make_state(feature_dim, embedding_dim):
    """Random weights with batch norms that do something, of both signs."""
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in STATE.items()}
    shapes |= {"LL.weight": (128, feature_dim)}
    shapes |= {"out_layer.weight": (embedding_dim, 160), "out_layer.bias": (embedding_dim,)}
    state = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif key.endswith("running_var"):
            value = 0.5 + value.square()
        elif len(shape) > 1 and "att_weight" not in key and key not in ("pos_S", "master1", "master2"):
            value /= value[0].numel() ** 0.5
        state[key] = value
    return state


def both(label, k, state, feature_dim, embedding_dim):
    variant = Variant.from_label(k, label)
    ours = AASIST(feature_dim, embedding_dim, k_train=k, variant=label)
    ours.load_public_state(state)
    return ours.double(), Textbook(state, k, variant.node_scoring, variant.stack_aggregation).double()


def set_dropouts(model, p):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_equals_released_code(case):
    aggregation = RELEASED_NAME[case["stack_aggregation"]]
    textbook = Textbook(STATE, case["k_infer"], case["node_scoring"], aggregation).eval()
    output = textbook(TENSORS[f"input/T{case['frames']}"])
    assert relative_error(output, TENSORS[f"output/{case['key']}"]) < 1e-5


def test_training_equals_released_code():
    textbook = Textbook(STATE)
    assert textbook.training
    set_dropouts(textbook, 0.0)
    output = textbook(TENSORS["train/input"])
    loss = output.square().mean()
    loss.backward()
    assert relative_error(output, TENSORS["train/output"]) < 1e-4
    assert loss.item() == pytest.approx(TENSORS["train/loss"].item(), rel=1e-4)
    norms = {k.removeprefix("train/gradnorm/"): v.item() for k, v in TENSORS.items() if k.startswith("train/gradnorm/")}
    largest = max(norms.values())
    gradients = {name: weight.grad for name, weight in textbook.named_parameters()}
    found = {name: gradient.norm().item() for name, gradient in gradients.items() if gradient is not None}
    # A bias before a batch norm has a gradient of zero but for rounding
    assert found == {name: pytest.approx(norm, rel=1e-4, abs=1e-6 * largest) for name, norm in norms.items()}


@torch.inference_mode()
@pytest.mark.parametrize(
    ("label", "k", "n_frames"), [*((label, 0.3, 49) for label in TEXTBOOK), ("Uni", 0.1, 3), ("MagUni", 1.0, 50)]
)
def test_equals_the_project(label, k, n_frames):
    ours, textbook = both(label, k, make_state(24, 16), 24, 16)
    frames = torch.randn(3, n_frames, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert error_in_spreads(textbook.eval()(frames), ours.eval()(frames)) < 1e-9


@torch.inference_mode()
def test_equals_the_project_at_the_papers_size():
    ours, textbook = both("Base", 0.5, make_state(1024, 1024), 1024, 1024)
    assert sum(p.numel() for p in textbook.parameters()) == 611_784
    frames = torch.randn(2, 201, 1024, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert error_in_spreads(textbook.eval()(frames), ours.eval()(frames)) < 1e-9


@torch.inference_mode()
def test_a_light_one_equals_the_project_too():
    """Every size is read off the state."""
    ours = AASIST(24, 16, size="L").eval()
    frames = torch.randn(3, 49, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    textbook = Textbook(ours.public_state()).eval().double()
    assert sum(p.numel() for p in textbook.parameters()) == sum(p.numel() for p in ours.parameters())
    assert error_in_spreads(textbook(frames), ours.double()(frames)) < 1e-9


@pytest.mark.parametrize("label", TEXTBOOK)
def test_same_training_step_as_the_project(label):
    """Every dropout at the same place with the same share; without them the same output and running statistics."""

    def recorded(model):
        calls = []
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_hook(lambda drop, given, _: calls.append((drop.p, *given[0].shape)))
        model(frames)
        return sorted(calls)

    frames = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, textbook = both(label, 0.5, make_state(24, 16), 24, 16)
    assert recorded(textbook) == recorded(ours)
    ours, textbook = both(label, 0.5, make_state(24, 16), 24, 16)
    for model in (ours, textbook):
        set_dropouts(model, 0.0)
    assert error_in_spreads(textbook(frames), ours(frames)) < 1e-9
    expected = AASIST(24, 16).double()
    expected.load_public_state(textbook.state_dict())
    torch.testing.assert_close(ours.state_dict(), expected.state_dict())


@pytest.mark.parametrize("options", [{"scoring": "magnitude_gated"}, {"aggregation": "mean"}])
def test_other_forms_are_refused(options):
    with pytest.raises(ValueError, match="no textbook form"):
        Textbook(STATE, **options)


@pytest.mark.parametrize(
    "state", [{k: v for k, v in STATE.items() if k != "pos_S"}, {**STATE, "extra": torch.zeros(1)}]
)
def test_another_state_is_refused(state):
    with pytest.raises(RuntimeError, match=r"pos_S|extra"):
        Textbook(state)
