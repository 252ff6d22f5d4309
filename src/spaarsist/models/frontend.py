"""Front-ends: waveforms to frames, through transformers.

Any wav2vec2, WavLM or HuBERT model serves: XLS-R 300M for the paper's experiment, a tiny, randomly initialised wav2vec2
for runs on a CPU. Both are the same class, so the demo passes through the code that the replication uses.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, Wav2Vec2Config

from spaarsist.config import ConfigError, FrontendConfig

MIN_SAMPLES = 400
"""Shortest waveform the convolutions of a wav2vec2 can take, in samples: one frame."""

TINY = Wav2Vec2Config(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    conv_dim=(32,) * 7,
    num_feat_extract_layers=7,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=4,
    conv_bias=True,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
)
"""Architecture of `tiny-wav2vec2`: XLS-R's, with the same strides (one frame per 20 ms) and far fewer channels."""

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


class Frontend(nn.Module):
    """A self-supervised speech model, cut before its task head.

    Layerdrop, every dropout and SpecAugment are off, as in the fine-tuning that is replicated (torchaudio's models
    leave them off; transformers turns them on in training mode).

    Args:
        settings: which model, which layer output, which waveform normalisation.
        architecture: the model's own configuration. With it, the model is built without weights and nothing is
            fetched: a checkpoint stores the architecture and brings the weights.

    Attributes:
        feature_dim: D, features per frame.
        n_layers: L, transformer layers.

    Raises:
        ConfigError: a hub id without a pinned revision, or a model that cannot be loaded.
    """

    def __init__(self, settings: FrontendConfig, architecture: dict | None = None) -> None:
        super().__init__()
        self.settings = settings
        config = _read_architecture(settings) if architecture is None else _from_dict(architecture)
        for name in SWITCHED_OFF:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        config.apply_spec_augment = False
        if architecture is not None or settings.model == "tiny-wav2vec2":
            self.model = AutoModel.from_config(config)
        else:
            self.model = _load_pretrained(settings, config)
        self.feature_dim: int = config.hidden_size
        self.n_layers: int = config.num_hidden_layers

    @property
    def architecture(self) -> dict:
        """The model's configuration as plain values, enough to build it again without its weights."""
        return self.model.config.to_dict()

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
        if waveforms.shape[-1] < MIN_SAMPLES:
            raise ValueError(f"waveform of {waveforms.shape[-1]} samples; at least {MIN_SAMPLES} are needed")
        layers: list[Tensor] = []
        # Hooks, because what `hidden_states[-1]` means has changed between transformers 4 and 5
        hooks = [
            layer.register_forward_hook(
                lambda _module, _args, output: layers.append(output if torch.is_tensor(output) else output[0])
            )
            for layer in self.model.encoder.layers
        ]
        try:
            after_norm = self.model(normalise(waveforms, self.settings.normalise)).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        if self.settings.final_layer_norm:
            layers[-1] = after_norm
        return torch.stack(layers, dim=1) if all_layers else layers[-1]


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


def _read_architecture(settings: FrontendConfig) -> PretrainedConfig:
    if settings.model == "tiny-wav2vec2":
        return Wav2Vec2Config.from_dict(TINY.to_dict())
    if not Path(settings.model).is_dir() and not re.fullmatch(r"[0-9a-f]{40}", settings.revision):
        raise ConfigError(
            f"frontend.model {settings.model!r} is no local folder, so it is taken for a Hugging Face id, which needs "
            "frontend.revision: a full commit hash of 40 hex digits"
        )
    try:
        return AutoConfig.from_pretrained(settings.model, revision=settings.revision or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"frontend.model {settings.model!r}: no usable configuration ({error})") from error


def _load_pretrained(settings: FrontendConfig, config: PretrainedConfig) -> nn.Module:
    try:
        # weights_only: some hubs' files are pickles, which may otherwise run code when read
        return AutoModel.from_pretrained(
            settings.model, revision=settings.revision or None, config=config, weights_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"frontend.model {settings.model!r}: weights cannot be loaded ({error})") from error


def _from_dict(architecture: dict) -> PretrainedConfig:
    return AutoConfig.for_model(**architecture)
