"""Other people's checkpoints of AASIST on self-supervised features: told by their names, and made into ours.

Two layouts and their kin: that of the code which the paper's authors released, and that of SSL_Anti-spoofing. Only
weights are read; no code that a file may hold is run.

Sources: Security-FIT/SpAArSIST; TakHemlata/SSL_Anti-spoofing (Tak et al. 2022, arXiv 2202.12233); for the names of
front-ends fairseq, torchaudio and the scripts by which transformers converts fairseq's models.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spaarsist.artefacts import file_hash, locked, provenance, some, tensors_hash, writing
from spaarsist.config import BackendConfig, Excerpt, FrontendConfig, parse
from spaarsist.models.backend import AASIST, NODE_DIMS, PROJECTED, PUBLIC_NAMES
from spaarsist.models.detector import BONAFIDE, Detector, save_checkpoint
from spaarsist.models.frontend import HEADS, SelfSupervised, read_architecture
from spaarsist.names import LIGHT, ConfigError, Variant, ratio_code


class Layout(NamedTuple):
    """How a public code names its parts, and what it does that no file says.

    Attributes:
        title: whose it is.
        frontend, backend, head: what names of each part begin with; `head` is empty where there is none.
        bonafide: position of bona fide among the two outputs.
        normalise, final_layer_norm: of the front-end, see `FrontendConfig`.
        excerpt: what is scored of each recording.
        k_train: share of nodes that graph pooling keeps in training, unless it was told otherwise.
        batch_size: excerpts that are scored together, where that decides scores.
    """

    title: str
    frontend: str
    backend: str
    head: str
    bonafide: int
    normalise: str
    final_layer_norm: bool
    excerpt: Excerpt
    k_train: float
    batch_size: int | None = None


RELEASED = Layout(
    "the released SpAArSIST code", "extractor.", "feature_processor.", "classifier.", 0, "batch", False,
    Excerpt(64_600), 0.3, 32,
)  # fmt: skip
SSL = Layout(
    "SSL_Anti-spoofing", "ssl_model.", "", "", 1, "none", True, Excerpt(64_600, "start", "repeat"), 0.5
)  # fmt: skip

_scalar, (_double, _) = np.float64(0).__reduce__()
HARMLESS = [
    argparse.Namespace, _scalar, (_scalar, "numpy.core.multiarray.scalar"), np.dtype, type(_double),
    type(np.dtype(np.float32)),
]  # fmt: skip
"""Classes of what training scripts keep beside weights, options and error rates: they hold values and do nothing."""

CONTAINERS = ("model_state_dict", "state_dict", "model")
"""Keys under which files keep their weights, if not at top level."""

FRONTEND_NAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # fairseq
        (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
        (r"^feature_extractor\.conv_layers\.(\d+)\.2\.(1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
        (r"^post_extract_proj\.", "feature_projection.projection."),
        (r"^layer_norm\.", "feature_projection.layer_norm."),
        (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
        (r"\.self_attn\.", ".attention."),
        (r"\.self_attn_layer_norm\.", ".layer_norm."),
        (r"\.fc1\.", ".feed_forward.intermediate_dense."),
        (r"\.fc2\.", ".feed_forward.output_dense."),
        (r"\.attention\.relative_attention_bias\.", ".attention.rel_attn_embed."),
        (r"\.attention\.grep_linear\.", ".attention.gru_rel_pos_linear."),
        (r"\.attention\.grep_a$", ".attention.gru_rel_pos_const"),
        # torchaudio
        (r"^encoder\.feature_projection\.", "feature_projection."),
        (r"^encoder\.transformer\.", "encoder."),
        # transformers, of models with a head
        (r"^(wav2vec2|hubert|wavlm)\.", ""),
        # weight norm, as torch called its parts before version 2
        (r"(?<=^encoder\.pos_conv_embed\.conv\.)weight_g$", "parametrizations.weight.original0"),
        (r"(?<=^encoder\.pos_conv_embed\.conv\.)weight_v$", "parametrizations.weight.original1"),
    )
)
"""What to replace in a name of a wav2vec2, HuBERT or WavLM to get transformers', in this order."""

PRETRAINING = re.compile(r"mask_emb|label_embs_concat|(final_proj|target_glu|aux)\..+")
"""Tensors of pre-training and of task heads as fairseq and torchaudio name them; `frontend.HEADS` has transformers'."""

POSITIONS = "encoder.pos_conv_embed.conv."


def adopt(file: Path, frontend: str, output: Path, revision: str = "", k_train: float | None = None) -> list[str]:
    """Turn somebody's checkpoint into one of this package, and write it.

    Args:
        file: what torch or safetensors saved: a state of tensors by name, at top level or under one of `CONTAINERS`;
            with what DataParallel and compilers put before every name, or without.
        frontend: folder or Hugging Face id of the model that the front-end was tuned from, for its architecture; for a
            back-end alone, for its weights as well.
        output: folder of the checkpoint to write.
        revision: commit of the Hugging Face repository.
        k_train: share of nodes that its graph poolings kept in training, in (0, 1]; None: as the code it is of has it
            by default.

    Returns:
        Lines for people: what the file was recognised as, what was left out, and what was assumed, since no file says
        it: polarity, normalisation, layer norm, excerpt, k.

    Raises:
        ConfigError: the file cannot be read without running code, is of another kind of model, or holds names that have
            no place, too few of them, other shapes or numbers that are not finite; or `output` has something in it.
    """
    with locked(output, folder=True):
        if output.is_dir() and any(output.iterdir()):
            raise ConfigError(f"{output}: has something in it, which stays as it is; name a new folder")
        state, where, idle = read_state(file)
        layout, parts = take_apart(file, state)
        settings = FrontendConfig(frontend, revision, layout.final_layer_norm, layout.normalise)
        backend, size = _backend_of(file, parts["backend"], layout.k_train if k_train is None else k_train)
        try:
            architecture = read_architecture(settings).to_dict() if parts["frontend"] else None
            detector = Detector(settings, backend, architecture).eval()
        except ConfigError as error:  # it speaks of keys of the configuration
            said = str(error).replace("frontend.model", "--frontend").replace("frontend.revision", "--revision")
            raise ConfigError(said) from None
        if not isinstance(detector.frontend, SelfSupervised):
            raise ConfigError(f"--frontend {frontend}: name a wav2vec2, WavLM or HuBERT; AASISTs are on their features")
        idle += _load(file, detector, layout, parts)
        system = _name(size, detector.backend.variant)
        record = {
            "system": system,
            "seed": 0,
            "frontend": asdict(settings),
            "backend": asdict(backend),
            "frontend_weights": tensors_hash(detector.frontend.state_dict()),
            "architecture": detector.frontend.architecture,
            "feature_dim": detector.frontend.feature_dim,
            "n_layers": detector.frontend.n_layers,
            "n_frames": _count_frames(file, detector, layout.excerpt),
            "excerpt": asdict(layout.excerpt),
            # Of its training nothing is known
            "deterministic_algorithms": False,
            "provenance": {},
            "adopted": {
                "file": file.name,
                "sha256": file_hash(file),
                "layout": layout.title,
                "provenance": provenance("models.public.adopt", backend=AASIST.__name__),
            },
        }
        with writing(output) as folder:
            save_checkpoint(detector.state_dict(), record, folder)
    counts = {part: len(tensors) for part, tensors in parts.items()}
    said = [
        f"{file}: recognised as of {layout.title}{where}: {counts['frontend']} tensors of a front-end, "
        f"{counts['backend']} of an {LIGHT if size == 'L' else 'AASIST'}, {counts['head']} of a head"
    ]
    if idle:
        said.append(f"left out, for scoring does without: {some(idle)}")
    return [*said, *_assumptions(layout, detector, frontend, weights=not parts["frontend"]), f"{output}: {system}"]


def _assumptions(layout: Layout, detector: Detector, frontend: str, *, weights: bool) -> list[str]:
    variant, excerpt = detector.variant, layout.excerpt
    lines = [
        f"output {layout.bonafide} is bona fide, output {1 - layout.bonafide} spoof",
        f"waveforms are {'normalised over the batch' if layout.normalise == 'batch' else 'not normalised'}"
        + (f": score with --batch-size {layout.batch_size}, as that code does" if layout.batch_size else ""),
        f"frames are taken {'after' if layout.final_layer_norm else 'before'} the encoder's final layer norm",
        f"the {'middle' if excerpt.place == 'centre' else 'first'} {excerpt.crop:,} samples at 16 kHz are scored, "
        f"shorter recordings {'repeated' if excerpt.padding == 'repeat' else 'padded by zeros'}",
        f"every graph pooling kept {variant.k_infer:g} of the nodes in training (--k-train says otherwise)",
    ]
    if detector.backend.size == "L":
        lines[-1] += "; as published, AASIST-L has other shares from pooling to pooling"
    if variant.label != "Base":
        lines.append(f"it was trained as {variant.label}, since the weights that this does without are absent")
    if weights:
        lines.append(f"the front-end is {frontend} as it is, since the file has none")
    return [f"assumed: {line}" for line in lines]


def read_state(file: Path) -> tuple[dict[str, Tensor], str, list[str]]:
    """Read the tensors of a file, without what stands before every name.

    Returns:
        The tensors by name; where they were, for people (`, under model`); names of what is no tensor beside them.

    Raises:
        ConfigError: it is no file of weights, or holds more than weights can be told from without running its code.
    """
    try:
        with file.open("rb") as stream:
            is_safetensors = stream.read(9)[8:] == b"{"
        if is_safetensors:
            held = load_file(file)
        else:
            with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other kinds of files, which are refused
                held = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever safetensors, torch and pickle make of what is in a file
        raise ConfigError(_unreadable(file, str(error))) from None
    if not isinstance(held, Mapping):
        raise ConfigError(f"{file}: holds a {type(held).__name__}, not tensors by name; save the model's state_dict()")
    where = ""
    if not _tensors(held):
        found = [key for key in CONTAINERS if isinstance(held.get(key), Mapping) and _tensors(held[key])]
        if len(found) != 1:
            there = f"has them under {' and '.join(found)}" if found else f"only {some([*map(str, held)]) or 'nothing'}"
            raise ConfigError(
                f"{file}: no tensors at top level or under one of {', '.join(CONTAINERS)}, but {there}; save the "
                "model's state_dict() alone"
            )
        held, where = held[found[0]], f", under {found[0]}"
    state, before = _bared(_tensors(held))
    idle = [str(name) for name, value in held.items() if not torch.is_tensor(value)]
    return state, where + (f", without the {before} before every name" if before else ""), idle


def _tensors(held: Mapping) -> dict[str, Tensor]:
    return {str(name): value.detach() for name, value in held.items() if torch.is_tensor(value)}


def _unreadable(file: Path, reason: str) -> str:
    alone = "have whoever made it save the model's state_dict() alone"
    if found := re.search(r"GLOBAL (\S+)", reason):
        return f"{file}: holds objects of {found[1]} beside weights, which only running its code would give; {alone}"
    if "TorchScript" in reason:
        return f"{file}: a TorchScript program, not weights; {alone}"
    return f"{file}: not readable as weights that torch or safetensors saved; fetch it again, or name another file"


def _bared(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Take off what stands before every name, such as `module.`; gives it as well."""
    before = ""
    while len(firsts := {name.partition(".")[0] for name in state}) == 1 and all("." in name for name in state):
        (first,) = firsts
        before += f"{first}."
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state, before


def take_apart(file: Path, state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, dict[str, Tensor]]]:
    """Tell a file's layout by its names, and give the tensors of `frontend`, `backend` and `head`, each by own names.

    Raises:
        ConfigError: it holds another model, or names that the layout has no place for; counts and shows them.
    """
    layout = RELEASED if any(name.startswith(RELEASED.backend) for name in state) else SSL
    parts: dict[str, dict[str, Tensor]] = {"frontend": {}, "backend": {}, "head": {}}
    unknown = []
    for name, tensor in state.items():
        for part, prefix in (("frontend", layout.frontend), ("head", layout.head), ("backend", layout.backend)):
            if (prefix or part == "backend") and name.startswith(prefix):
                parts[part][name.removeprefix(prefix)] = tensor
                break
        else:
            unknown.append(name)
    parts["frontend"], _ = _bared(parts["frontend"])
    _refuse_others(file, parts)
    unknown += [layout.backend + name for name in parts["backend"] if name.partition(".")[0] not in PUBLIC_NAMES]
    if unknown:
        raise ConfigError(
            f"{file}: an AASIST named as in {layout.title}, but {len(unknown)} of {len(state)} names have no place "
            f"there: {some(unknown)}"
        )
    n_outputs = len(parts["backend"].get("out_layer.weight", [0, 0]))
    if layout.head and not parts["head"]:
        raise ConfigError(f"{file}: no {layout.head}* in it: without that head there are no scores")
    if not layout.head and n_outputs != 2:
        raise ConfigError(
            f"{file}: its out_layer has {n_outputs} outputs, not the two of {SSL.title}, and the head that may follow "
            f"({RELEASED.head}*) is not in it: without that there are no scores"
        )
    return layout, parts


def _refuse_others(file: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse what is no AASIST on self-supervised features, and say what it is as far as its names do."""
    modules = Counter(name.partition(".")[0] for name in parts["backend"])
    if any(name.endswith("branches.0.first.att_proj.weight") for name in parts["backend"]):
        raise ConfigError(f"{file}: weights as this package names them; use the folder that they lie in as it is")
    if not parts["frontend"] and (modules.keys() & {"feature_extractor", "mask_emb", "post_extract_proj"}):
        of = "in fairseq's form" if modules.keys() & {"mask_emb", "post_extract_proj"} else ""
        raise ConfigError(
            f"{file}: a front-end alone {of}".rstrip() + ", without a countermeasure; name a checkpoint that has one "
            "(for --frontend, a folder in the form of transformers or its Hugging Face id)"
        )
    nested = next((name for name in parts["backend"] if ".GAT_layer_S." in name), "").partition("GAT_layer_S")[0]
    if nested:
        raise ConfigError(
            f"{file}: an AASIST under {nested}*, which no known code has: polarity and all else that no name tells are "
            f"known of {RELEASED.title} ({RELEASED.backend}*) and of {SSL.title} (top level)"
        )
    if "GAT_layer_S" not in modules or "HtrgGAT_layer_ST11" not in modules:
        there = some([f"{name} ({n})" for name, n in modules.most_common()], 5) or "nothing"
        beside = " beside a front-end" if parts["frontend"] else ""
        raise ConfigError(
            f"{file}: no AASIST, which has GAT_layer_S, HtrgGAT_layer_ST11 and so on; modules{beside}, with their "
            f"tensors: {there}"
        )
    if "LL" not in modules:
        raise ConfigError(
            f"{file}: an AASIST without LL, the layer that takes a front-end's features: it is on waveforms or "
            "spectra, and only those on self-supervised features are read"
        )
    blocks = {name.split(".")[1] for name in parts["backend"] if name.startswith("encoder.")}
    if len(blocks) != 6:
        raise ConfigError(f"{file}: its encoder has {len(blocks)} residual blocks; an AASIST as it is here has 6")
    if "first_bn1" not in modules:
        raise ConfigError(
            f"{file}: no first_bn1, the norm behind the encoder: its code does something else there, and names do "
            "not tell what"
        )


def _backend_of(file: Path, state: Mapping[str, Tensor], k_train: float) -> tuple[BackendConfig, str]:
    """Settings of the back-end that has these weights, and its size, by shapes and by what is absent."""
    try:
        nodes, projected = state["pos_S"].shape[-1], len(state["LL.weight"])
        n_outputs = len(state["out_layer.weight"])
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"{file}: {error} is missing in its AASIST, or no matrix") from None
    size = next((name for name, dim in NODE_DIMS.items() if dim == nodes), None)
    if size is None or projected != PROJECTED:
        sizes = " or ".join(map(str, NODE_DIMS.values()))
        raise ConfigError(
            f"{file}: an AASIST with {projected} projected features and nodes of {nodes}; those that are known have "
            f"{PROJECTED}, and {sizes} (AASIST-L)"
        )
    scoring = "learned" if "pool_S.proj.weight" in state else "magnitude"
    aggregation = "attention" if "HtrgGAT_layer_ST11.att_proj.weight" in state else "linear"
    options = {"k_train": k_train, "variant": Variant(k_train, scoring, aggregation).label, "size": size}
    section = {"kind": AASIST.__name__, "embedding_dim": n_outputs, "options": options}
    return parse(BackendConfig, section, f"{file}: its AASIST"), size


def _name(size: str, variant: Variant) -> str:
    """Name of the training, as tables have it."""
    if size == "L":
        return LIGHT
    return f"AST-{ratio_code(variant.k_infer)}" + (f"+{variant.label}" if variant.label != "Base" else "")


def _load(file: Path, detector: Detector, layout: Layout, parts: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Put the weights into a detector; gives the names of those that it has no use for."""
    idle = [name for name in parts["frontend"] if PRETRAINING.fullmatch(name) or HEADS.fullmatch(_frontend_name(name))]
    given, dim = parts["backend"]["LL.weight"].shape[-1], detector.frontend.feature_dim
    if given != dim:
        raise ConfigError(f"{file}: its AASIST takes {given} features of each frame, and --frontend gives {dim}")
    if parts["frontend"]:
        tensors = {_frontend_name(name): tensor for name, tensor in parts["frontend"].items() if name not in {*idle}}
        if (weight := tensors.pop(f"{POSITIONS}weight", None)) is not None:  # its norm was taken out after training
            tensors[f"{POSITIONS}parametrizations.weight.original0"] = weight.float().norm(dim=(0, 1), keepdim=True)
            tensors[f"{POSITIONS}parametrizations.weight.original1"] = weight
        what = "the front-end does not fit the architecture of --frontend; name the model that it was tuned from"
        _fill(f"{file}: {what}", detector.frontend.model, tensors)
    _fill(f"{file}: the head is not that of {layout.title}", detector.head, parts["head"])
    backend = {name: _single(tensor) for name, tensor in parts["backend"].items()}
    if layout.bonafide != BONAFIDE:
        backend |= {name: backend[name].flip(0) for name in ("out_layer.weight", "out_layer.bias") if name in backend}
    try:
        detector.backend.load_public_state(backend)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    return idle


def _frontend_name(name: str) -> str:
    for pattern, replacement in FRONTEND_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _fill(complaint: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load all of a module's weights, in single precision; counters of batch norms may be absent."""
    own = module.state_dict()
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    problems = {
        "missing": [name for name in needed if name not in tensors],
        "without a place": [name for name in tensors if name not in own],
        "of another shape": [
            f"{name} {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            for name, tensor in tensors.items()
            if name in own and tensor.shape != own[name].shape
        ],
        "not finite": [name for name, tensor in tensors.items() if not tensor.isfinite().all()],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in problems.items() if names)
        raise ConfigError(f"{complaint} ({listed})")
    module.load_state_dict(own | {name: _single(tensor) for name, tensor in tensors.items()}, strict=True)


@torch.inference_mode()
def _count_frames(file: Path, detector: Detector, excerpt: Excerpt) -> int:
    """Frames of an excerpt; of noise, to see that a score comes out."""
    frames = detector.frames(torch.randn(1, excerpt.crop, generator=torch.Generator().manual_seed(0)))
    if not detector.scores(frames).isfinite().all():
        raise ConfigError(f"{file}: its score of noise is not a finite number, so its weights are damaged")
    return frames.shape[-2]
