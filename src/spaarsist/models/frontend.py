"""Front-ends: waveforms to frames.

`SelfSupervised` runs any wav2vec2, WavLM or HuBERT model through transformers: XLS-R 300M in the paper's experiment.
`Spectral` is small enough to learn on a CPU within minutes. Both take waveforms (B, n_samples) at 16 kHz and give
frames (B, T, D), or (B, L, T, D) on request; `build_frontend` chooses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from spaarsist.artefacts import some
from spaarsist.config import SAMPLE_RATE, FrontendConfig
from spaarsist.names import ConfigError

if TYPE_CHECKING:  # slow to import, and `Spectral` does without
    from transformers import PretrainedConfig

MIN_SAMPLES = 400
"""Shortest waveform a front-end takes, in samples: one frame of a wav2vec2."""

SWITCHED_OFF = (
    "layerdrop",
    "attention_dropout",
    "activation_dropout",
    "hidden_dropout",
    "feat_proj_dropout",
    "final_dropout",
    "feat_quantizer_dropout",
    "mask_time_prob",
    "mask_feature_prob",
)

HEADS = re.compile(
    r"(\w+\.)?masked_spec_embed|(quantizer|project_q|project_hid|lm_head|classifier|projector|tdnn|objective)\..+|"
    r"layer_weights|feature_extractor\.(weight|bias)"
)
"""Tensors of a file that no front-end has a place for, by transformers' names: of pre-training and of task heads (the
last ones of an x-vector)."""


def build_frontend(settings: FrontendConfig, architecture: dict | None = None) -> nn.Module:
    """Build the front-end that `settings.model` names.

    Args:
        settings: which model, which layer output, which waveform normalisation.
        architecture: of a `SelfSupervised` model that a checkpoint holds; see there.

    Returns:
        A module with the attributes `feature_dim` (D), `n_layers` (L) and `architecture`.
    """
    return Spectral(settings) if settings.model == "spectral" else SelfSupervised(settings, architecture)


class SelfSupervised(nn.Module):
    """A self-supervised speech model, cut before its task head.

    Layerdrop, every dropout and SpecAugment are off, as in the fine-tuning that is replicated (torchaudio's models
    leave them off; transformers turns them on in training mode). Weights are float32, whatever the file holds; so is,
    with `precision: bfloat16` as well, the first convolution.

    Args:
        settings: which model, which layer output, which waveform normalisation.
        architecture: the model's own configuration. With it, the model is built without weights and nothing is
            fetched: a checkpoint stores the architecture and brings the weights.

    Attributes:
        feature_dim: D, features per frame.
        n_layers: L, transformer layers.

    Raises:
        ConfigError: a hub id without a pinned revision, a model of another kind, or one that cannot be loaded whole:
            tensors are missing, misshapen, not finite, or without a place in the architecture, heads aside.
    """

    def __init__(self, settings: FrontendConfig, architecture: dict | None = None) -> None:
        from transformers import AutoModel

        super().__init__()
        self.settings = settings
        config = read_architecture(settings) if architecture is None else _from_dict(architecture)
        for name in SWITCHED_OFF:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        config.apply_spec_augment = False
        if architecture is not None:
            self.model = AutoModel.from_config(config, dtype=torch.float32)
        else:
            self.model = _load_pretrained(settings, config)
        # It sees the waveform itself: bfloat16 would add noise 55 dB below it
        self.model.feature_extractor.conv_layers[0].conv.__class__ = _Float32Conv
        self.feature_dim: int = config.hidden_size
        self.n_layers: int = config.num_hidden_layers

    @property
    def architecture(self) -> dict:
        """The model's configuration as plain values, enough to build it again without its weights."""
        return self.model.config.to_dict()

    def prepare_training(self, *, gradient_checkpointing: bool, compile: bool) -> None:
        """Trade time for memory, or exactness for time; see `TrainingRecipe`."""
        if gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        if compile:
            # Part by part: the layers themselves carry the hooks that take their outputs
            for part in (self.model.feature_extractor, *self._parts("attention"), *self._parts("feed_forward")):
                part.compile()

    def _parts(self, name: str) -> list[nn.Module]:
        return [getattr(layer, name) for layer in self.model.encoder.layers]

    def forward(self, waveforms: Tensor, *, all_layers: bool = False) -> Tensor:
        """Turn waveforms into frames.

        Args:
            waveforms: (B, n_samples) at 16 kHz, of at least 400 samples, zero-padded to one length.
            all_layers: give the output of every transformer layer instead of the last one's.

        Returns:
            Frames (B, T, D), or (B, L, T, D). Layers are taken before the encoder's final layer norm; with
            `settings.final_layer_norm` the last one is taken after it. (64,600 samples give T = 201.)

        Raises:
            ValueError: too few samples.
        """
        _check_length(waveforms)
        layers: list[Tensor] = []
        # Hooks, because what `hidden_states[-1]` means has changed between transformers 4 and 5
        hooks = [
            layer.register_forward_hook(
                lambda _module, _args, output: layers.append(output if torch.is_tensor(output) else output[0])
            )
            for layer in self.model.encoder.layers
        ]
        bfloat16 = self.settings.precision == "bfloat16"
        try:
            with torch.autocast(waveforms.device.type, torch.bfloat16, enabled=bfloat16):
                after_norm = self.model(normalise(waveforms, self.settings.normalise)).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        if self.settings.final_layer_norm:
            layers[-1] = after_norm
        return torch.stack(layers, dim=1) if all_layers else layers[-1]


class _Float32Conv(nn.Conv1d):
    """A convolution that autocast leaves in float32."""

    def forward(self, samples: Tensor) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):
            return super().forward(samples)


class Spectral(nn.Module):
    """A bank of 40 bands over three views of the log spectrum; the bank starts as mel bands and can be fine-tuned.

    With L the log magnitude (25 ms windows every 10 ms, floor 60 dB under the clip's mean magnitude, each bin's mean
    over time removed), the views are the level L, the flux |L(t, f) - L(t-1, f)| and the contrast
    |L(t, f) - L(t, f-1)|: how loud, how unsteady and how finely structured each band is. Two successive spectra are
    averaged, which gives 50 frames a second, about XLS-R's rate.

    Attributes:
        feature_dim: D = 120.
        n_layers: L = 1.
    """

    N_BANDS, WINDOW, HOP, FFT, AVERAGED = 40, 400, 160, 512, 2
    TYPICAL = ((0.0, 1.6), (0.7, 0.3), (0.6, 0.3))
    """Rough mean and spread of each view's band values over speech: brings them to one scale."""

    def __init__(self, settings: FrontendConfig) -> None:
        super().__init__()
        self.settings = settings
        bank = melscale_fbanks(self.FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, self.N_BANDS, SAMPLE_RATE)
        self.bank = nn.Parameter((bank / bank.sum(dim=0)).repeat(len(self.TYPICAL), 1, 1))
        self.register_buffer("window", torch.hann_window(self.WINDOW), persistent=False)
        self.register_buffer("typical", torch.tensor(self.TYPICAL).T[:, :, None, None], persistent=False)
        self.feature_dim, self.n_layers = self.N_BANDS * len(self.TYPICAL), 1

    @property
    def architecture(self) -> dict:
        """Nothing to store: the module is fixed."""
        return {}

    def prepare_training(self, *, gradient_checkpointing: bool, compile: bool) -> None:
        """Refuse what is only worth it for a transformer.

        Raises:
            ConfigError: either is asked for.
        """
        if gradient_checkpointing or compile or self.settings.precision != "float32":
            raise ConfigError(
                "training: gradient_checkpointing, compile and precision bfloat16 are for transformer front-ends; "
                "the spectral one takes float32 and neither of the others"
            )

    def forward(self, waveforms: Tensor, *, all_layers: bool = False) -> Tensor:
        """Turn waveforms (B, n_samples) into frames (B, T, 120), T = (1 + n_samples // 160) // 2; or (B, 1, T, 120).

        Raises:
            ValueError: fewer than 400 samples.
        """
        _check_length(waveforms)
        waveforms = normalise(waveforms, self.settings.normalise)
        spectrum = torch.stft(waveforms, self.FFT, self.HOP, self.WINDOW, self.window, return_complex=True).abs()
        level = torch.log(spectrum + 1e-3 * spectrum.mean(dim=(1, 2), keepdim=True) + 1e-9)
        level = level - level.mean(dim=2, keepdim=True)
        flux = F.pad(level.diff(dim=2).abs(), (1, 0))
        contrast = F.pad(level.diff(dim=1).abs(), (0, 0, 1, 0))
        views = torch.stack([level, flux, contrast], dim=1).transpose(2, 3)
        mean, spread = self.typical
        bands = (views @ self.bank - mean) / spread
        frames = bands.transpose(1, 2).flatten(2)
        n_frames = max(frames.shape[1] // self.AVERAGED, 1)
        frames = frames[:, : self.AVERAGED * n_frames].unflatten(1, (n_frames, -1)).mean(dim=2)
        return frames.unsqueeze(1) if all_layers else frames


def normalise(waveforms: Tensor, how: str) -> Tensor:
    """Give waveforms (B, n_samples) zero mean and unit variance, padding included.

    `utterance`: each by itself, as XLS-R was trained. `batch`: over the whole tensor, as torchaudio's bundle (and so
    the authors' code) does it; a waveform's frames then depend on the others in its batch. `none`: as they are.
    """
    if how == "none":
        return waveforms
    if how == "batch":
        return F.layer_norm(waveforms, waveforms.shape)
    return F.layer_norm(waveforms, waveforms.shape[-1:], eps=1e-7)


def _check_length(waveforms: Tensor) -> None:
    if waveforms.shape[-1] < MIN_SAMPLES:
        raise ValueError(f"waveforms of {waveforms.shape[-1]} samples; at least {MIN_SAMPLES} are needed")


def read_architecture(settings: FrontendConfig) -> PretrainedConfig:
    """Read the configuration of the model that `settings.model` names, without its weights.

    Raises:
        ConfigError: see `SelfSupervised`.
    """
    from transformers import AutoConfig

    place, named = Path(settings.model), f"frontend.model {settings.model!r}"
    in_their_form = (
        "a folder in the form of transformers, with config.json and weights, or its Hugging Face id (for XLS-R 300M "
        "facebook/wav2vec2-xls-r-300m) with frontend.revision"
    )
    fairseq = [place] if place.is_file() else sorted(place.glob("*.pt"))
    if fairseq and fairseq[0].suffix == ".pt" and not (place / "config.json").exists():
        raise ConfigError(f"{named}: {fairseq[0].name} is a checkpoint in fairseq's form; needed is {in_their_form}")
    if place.is_file() or (not place.is_dir() and not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", settings.model)):
        raise ConfigError(f"{named}: {'is a file' if place.is_file() else 'no such folder'}; needed is {in_their_form}")
    if not place.is_dir() and not re.fullmatch(r"[0-9a-f]{40}", settings.revision):
        raise ConfigError(
            f"{named} is no local folder, so it is taken for a Hugging Face id, which needs "
            "frontend.revision: a full commit hash of 40 hex digits"
        )
    with _reading(f"{named}: no usable configuration"):
        return AutoConfig.from_pretrained(settings.model, revision=settings.revision or None)


def _load_pretrained(settings: FrontendConfig, config: PretrainedConfig) -> nn.Module:
    from transformers import AutoModel

    named = f"frontend.model {settings.model!r}"
    with _reading(f"{named}: weights cannot be loaded"):
        # weights_only: some hubs' files are pickles, which may otherwise run code when read
        model, report = AutoModel.from_pretrained(
            settings.model,
            revision=settings.revision or None,
            config=config,
            dtype=torch.float32,  # whatever the file holds: by default it would be that
            weights_only=True,
            output_loading_info=True,
        )
    if not (hasattr(model, "encoder") and hasattr(getattr(model, "feature_extractor", None), "conv_layers")):
        raise ConfigError(f"{named}: a model of type {config.model_type}; a wav2vec2, WavLM or HuBERT is needed")
    found = {
        # masked_spec_embed serves SpecAugment alone, which is off
        "missing": [name for name in report["missing_keys"] if name != "masked_spec_embed"],
        "of another shape": [str(name) for name in report["mismatched_keys"]],
        "without a place in it": [name for name in report["unexpected_keys"] if not HEADS.fullmatch(name)],
    }
    if any(found.values()):
        listed = "; ".join(f"{what}: {some(sorted(names))}" for what, names in found.items() if names)
        raise ConfigError(
            f"{named}: the weights do not fit the architecture in config.json ({listed}); take both from one source"
        )
    if wild := [name for name, tensor in model.named_parameters() if not tensor.isfinite().all()]:
        raise ConfigError(f"{named}: weights that are not finite numbers: {some(wild)}; fetch them again")
    return model


@contextmanager
def _reading(complaint: str) -> Iterator[None]:
    """Turn whatever transformers makes of what is in a file into one line, and hold back its own report."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{complaint} ({type(error).__name__}: {reason:.300})") from error
    finally:
        logging.set_verbosity(before)


def _from_dict(architecture: dict) -> PretrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.for_model(**architecture)
