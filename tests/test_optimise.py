"""The back-end made fast gives what the plain one gives.

Forms are compared in float64: top-k pooling jumps where two scores tie, and in float32 they may tie for one form and
not for the other. It also lets the comparison be far sharper than float32's rounding, which would hide an attention
gone wrong: at AASIST's temperature of 100 all weights are nearly equal.
"""

import copy
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from conftest import GOLDEN
from spaarsist.deployment.optimise import compiled, optimise
from spaarsist.models.backend import AASIST
from spaarsist.names import LABELS, Variant

FEATURES, EMBEDDING = 24, 16
RELEASED_NAME = {"attention": "attention", "mean": "linear"}
with safe_open(GOLDEN / "backend_small.safetensors", "pt") as file:
    CASES = json.loads(file.metadata()["cases"])
    TENSORS = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict


@torch.no_grad()
def make_backend(sharpness=1.0, **options):
    """Random weights and biases, batch norms that do something, of both signs.

    Attention vectors are `sharpness` times as large as usual ones.
    """
    generator = torch.Generator().manual_seed(0)
    backend = AASIST(FEATURES, EMBEDDING, **options)
    for name, value in backend.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value.copy_(torch.randn(value.shape, generator=generator))
        if name.endswith("running_var"):
            value.square_().add_(0.1)
        elif "att_weight" in name:
            value.mul_(sharpness)
        elif value.dim() > 1 and not name.endswith(("position", "stack_node")):
            value.div_(value[0].numel() ** 0.5)
    return backend.double().eval()


def make_frames(n_frames, batch_size=5, scale=1.0):
    generator = torch.Generator().manual_seed(n_frames)
    return scale * torch.randn(batch_size, n_frames, FEATURES, generator=generator, dtype=torch.float64)


def error(value, expected):
    """Error over what tells the utterances of a batch apart, which is far less than an embedding's size."""
    spread = (expected - expected.mean(dim=0)).norm()
    assert expected.isfinite().all() and spread > 1e-5 * expected.norm() > 0
    return ((value - expected).norm() / spread).item()


@torch.inference_mode()
def check(backend, variant, frames, tolerance=1e-9):
    """Compare for the batch, and for its first utterance alone."""
    plain = backend.export(variant)
    fast = optimise(plain, frames.shape[1])
    outputs, expected = torch.cat([fast(frames), fast(frames[:1])]), plain(frames)
    assert error(outputs, torch.cat([expected, expected[:1]])) < tolerance


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    ("k", "n_frames", "sharpness"), [(0.5, 49, 1), (0.3, 20, 1), (0.5, 3, 1), (0.1, 50, 100), (1.0, 20, 100)]
)
def test_equals_the_plain_export(label, k, n_frames, sharpness):
    check(make_backend(sharpness), Variant.from_label(k, label), make_frames(n_frames))


@pytest.mark.parametrize(("label", "k", "n_frames"), [("Base", 0.5, 201), ("MagMean", 0.1, 200)])
def test_equals_the_plain_export_at_the_papers_length(label, k, n_frames):
    check(make_backend(), Variant.from_label(k, label), make_frames(n_frames, 2))


@pytest.mark.parametrize("label", ["Base", "Mean", "MagUni"])
def test_temperatures(label):
    """Four different ones as trained, and others switched at inference."""
    trained = make_backend(temperatures=(0.7, 1.5, 4.0, 20.0), stack_temperature=0.5)
    for graph, stack in ((None, None), (0.3, None), (None, 0.2), (5.0, 1.0)):
        check(trained, Variant.from_label(0.3, label, graph, stack), make_frames(12))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("sharpness", "scale"), [(1e8, 1), (1, 1e4), (1e8, 1e4)])
def test_extreme_values(label, sharpness, scale):
    """Only differences of logits enter an exponential: logits of 1e8 are finite, and rounded by 1e8 times as much."""
    check(make_backend(sharpness), Variant.from_label(0.5, label), make_frames(12, scale=scale), tolerance=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_equals_released_code(case):
    """In float32, as it ships."""
    backend = AASIST(FEATURES, EMBEDDING)
    backend.load_public_state({k.removeprefix("state/"): v for k, v in TENSORS.items() if k.startswith("state/")})
    variant = Variant(case["k_infer"], case["node_scoring"], RELEASED_NAME[case["stack_aggregation"]])
    frames, expected = TENSORS[f"input/T{case['frames']}"], TENSORS[f"output/{case['key']}"]
    output = optimise(backend.export(variant), case["frames"])(frames)
    assert output.dtype == torch.float32
    assert (output - expected).norm() < 1e-5 * expected.norm()


@torch.inference_mode()
def test_a_back_end_in_training_runs_as_in_evaluation():
    backend, frames = make_backend(k_train=0.3, variant="Mag"), make_frames(30)
    expected = backend(frames)
    fast = optimise(backend.train(), 30)
    assert backend.training and not any(module.training for module in fast.modules())
    assert error(fast(frames), expected) < 1e-9


@pytest.mark.parametrize("label", ["Base", "MagMean"])
def test_leaves_the_back_end_as_it_was(label):
    plain, frames = make_backend().export(Variant.from_label(0.5, label)), make_frames(30)
    before, output = copy.deepcopy(plain.state_dict()), plain(frames)
    fast = optimise(plain, 30)
    fast(frames)
    after = plain.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(after[name].stride() == before[name].stride() for name in before)
    assert all(weight.requires_grad for weight in plain.parameters())
    assert not any(weight.requires_grad for weight in fast.parameters())
    torch.testing.assert_close(plain(frames), output)
    # Nor do they share memory: weights that are trained on would change what is shipped
    assert not {t.data_ptr() for t in fast.state_dict().values()} & {t.data_ptr() for t in after.values()}


@pytest.mark.parametrize("n_frames", [48, 50, 52])
def test_another_number_of_frames_is_refused(n_frames):
    """50 frames make as many nodes as 49 do: refused all the same."""
    fast = optimise(make_backend(), 49)
    with pytest.raises(ValueError, match=f"{n_frames} frames: .* for 49"):
        fast(make_frames(n_frames))


def _missing_compiler():
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        return f"no C++ compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no Python.h"
    return None


@pytest.mark.skipif(_missing_compiler() is not None, reason=f"torch.compile cannot work: {_missing_compiler()}")
@torch.inference_mode()
def test_compiled():
    """One layer, since the whole takes a minute; `spaarsist benchmark backend` compiles the whole and compares too."""
    layer = optimise(make_backend().float(), 9).spectral_attention
    nodes = torch.randn(2, 42, 64, generator=torch.Generator().manual_seed(0))
    fast = compiled(layer)
    assert isinstance(fast, torch._dynamo.OptimizedModule)
    assert error(fast(nodes), layer(nodes)) < 1e-5


def test_too_few_frames():
    with pytest.raises(ValueError, match="2 frames: at least 3"):
        optimise(AASIST(24, 16).export(Variant()), 2)
