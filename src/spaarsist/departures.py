"""Where a configuration departs from the paper's text and from the code its authors released, and by which key.

`POINTS` are the choices that a key of the configuration makes, with what text and code say; `FIXED` are those that no
key changes, with the reason. `docs/departures.md` shows both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from spaarsist.names import ConfigError

UNSAID = None
"""In place of a value: this source does not say."""


class Point(NamedTuple):
    """A choice that a key makes.

    Attributes:
        what: it is about, in a few words.
        switch: the key, with dots between its levels.
        text, code: the value that the key has in the paper's text and in the released code, or `UNSAID`.
    """

    what: str
    switch: str
    text: Any
    code: Any


class Fixed(NamedTuple):
    """A difference that no key changes.

    Attributes:
        what: it is about, in a few words.
        code: what the released code does.
        here: what is done here.
        reason: why there is no key.
    """

    what: str
    code: str
    here: str
    reason: str


class Departure(NamedTuple):
    """A key that has another value than a source; `str` gives a short text.

    Attributes:
        source: `text`, `code`, or `text and code` where they agree.
        what, switch: see `Point`.
        ours, theirs: values of the configuration and of the source.
    """

    source: str
    what: str
    switch: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        source = self.source.replace("text", "paper's text").replace("code", "released code")
        return f"{self.what}: {said(self.ours)} ({source}: {said(self.theirs)}); {self.switch}"


_FROZEN, _TUNED = (
    {"epochs": e, "batch_size": b, "learning_rate": 1e-4, "train_frontend": t, "schedule": "constant", "crop": 0}
    for e, b, t in ((10, 64, False), (5, 32, True))
)
_COSTS = {"p_spoof": 0.05, "c_miss": 1, "c_fa": 10}

POINTS = (
    Point("the paper's corpora and front-end", "paper_corpora", True, True),
    Point("last layer after the encoder's final layer norm", "training.frontend.final_layer_norm", UNSAID, False),
    Point("waveforms are normalised by", "training.frontend.normalise", UNSAID, "batch"),
    Point("arithmetic of the front-end", "training.frontend.precision", UNSAID, "float32"),
    Point("size of the embedding", "training.backend.embedding_dim", 1024, 1024),
    Point("softmax temperatures", "training.backend.options.temperatures", UNSAID, [2, 2, 100, 100]),
    Point("samples of an excerpt", "training.crop", 64_600, 64_600),
    Point("where development excerpts lie", "training.development_crop", UNSAID, "random"),
    Point("draws per epoch, 0 being as many as trials", "training.epoch_size", UNSAID, 0),
    Point("stages", "training.stages", [_FROZEN, _TUNED], [_FROZEN, _TUNED]),
    Point("the better stage is kept, not the last", "training.keep_better_stage", UNSAID, False),
    Point("deterministic algorithms", "training.deterministic", UNSAID, False),
    Point("cached epochs of training draws, 0 being none", "training.views", UNSAID, 0),
    Point("development excerpts are cached", "features.development", UNSAID, False),
    Point("compiled front-end", "training.compile", UNSAID, False),
    Point("trim the leading silence", "training.augmentation.trim_silence", 0.5, 0.5),
    Point("what finds the silence", "training.augmentation.silence_detector", "vad", "vad"),
    Point("time mask", "training.augmentation.time_mask", 0.3, 0.3),
    Point("mu-law", "training.augmentation.mu_law", 0.3, 0.3),
    Point("RawBoost", "training.augmentation.rawboost", 0.3, 0.3),
    Point("noise and filter are drawn at all", "training.augmentation.noise_filter", UNSAID, 0.3),
    Point("noise, if drawn", "training.augmentation.noise", 0.9, 0.9),
    Point("filter, if drawn", "training.augmentation.filter", 0.9, 0.9),
    Point("room response or noise", "training.augmentation.room", 0.3, 0.0),
    Point("the crop comes after every augmentation", "training.augmentation.crop_last", UNSAID, True),
    Point("costs of the detection cost function", "evaluation.cost_model", _COSTS, _COSTS),
)

FIXED = (
    Fixed(
        "EER with tied scores",
        "merges them",
        "leaves them apart",
        "as the ASVspoof 5 package; scores here hardly tie",
    ),
    Fixed(
        "scores",
        "P(bona fide) in float32",
        "log P(bona fide) - log P(spoof)",
        "probabilities saturate at 1, and tie",
    ),
    Fixed(
        "threshold of actDCF",
        "log(C_fa / C_miss) on posterior log-odds",
        "the ASVspoof 5 package's",
        "theirs is beside it: `act_dcf_released` in the metrics files",
    ),
    Fixed(
        "the substitution `mean`",
        "a linear map of the stack node; no node attention",
        "the text's plain mean (Uni) and theirs (Mean)",
        "rows of the same table: `systems.variants`",
    ),
    Fixed(
        "magnitude scoring in training",
        "the norm is taken after a dropout of 0.3",
        "before it",
        "matters only where Mag is trained, as neither the paper nor its commands do; at inference both are the same",
    ),
    Fixed(
        "place of the room response",
        "between mask and mu-law, switched off",
        "last, as the text lists it",
        "its probability is 0 there",
    ),
    Fixed(
        "extent of the time mask",
        "20-50 % of the clip",
        "20-50 % of the clip between its first and last sample that is not zero",
        "the same but for clips with digital silence at an end, which keep some sound",
    ),
    Fixed(
        "peaks above full scale after augmentation",
        "stay",
        "the clip is scaled down to full scale",
        "the front-end normalises levels anyway",
    ),
    Fixed(
        "last batch of an epoch",
        "smaller, if the draws do not fill it",
        "filled with further draws",
        "batch norm needs two excerpts; 43 draws more than 182,357",
    ),
    Fixed(
        "seeds",
        "none is set",
        "every draw follows from `seeds`",
        "trainings go on after a kill, and can be told apart by seed",
    ),
    Fixed(
        "TF32 on a GPU",
        "as PyTorch has it: on for convolutions",
        "off",
        "the batch size then changes scores by rounding only",
    ),
    Fixed(
        "files that cannot be read, weights that do not fit",
        "left out with a print",
        "errors that name them",
        "what is lost in silence moves the metrics",
    ),
    Fixed(
        "other back-ends of Table 2",
        "not released",
        "after their own papers and code; heads of CA-MHFA assumed",
        "their options are keys: `backends`",
    ),
)


def departures(config: Mapping[str, Any]) -> list[Departure]:
    """Where a configuration has another value than the paper's text or the released code.

    Args:
        config: the whole configuration.

    Returns:
        In the order of `POINTS`; none where a source does not say.

    Raises:
        ConfigError: the configuration lacks a key.
    """
    found = []
    for point in POINTS:
        ours = value_of(config, point.switch)
        sources = (
            {"text": point.text, "code": point.code} if point.text != point.code else {"text and code": point.code}
        )
        for source, theirs in sources.items():
            if theirs is not UNSAID and theirs != ours:
                found.append(Departure(source, point.what, point.switch, ours, theirs))
    return found


def value_of(config: Mapping[str, Any], switch: str) -> Any:
    """Value of a key, given with dots between its levels."""
    value: Any = config
    for key in switch.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise ConfigError(f"{switch}: no such key in the configuration")
        value = value[key]
    return value


def said(value: Any) -> str:
    """A value as texts and tables say it."""
    if value is UNSAID:
        return "does not say"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "; then ".join(
            f"{stage['epochs']} epochs of batches of {stage['batch_size']} at {stage['learning_rate']:g}"
            f"{'' if stage['schedule'] == 'constant' else ', ' + stage['schedule']}"
            f"{', end to end' if stage['train_frontend'] else ', front-end frozen'}"
            f"{', crop ' + str(stage['crop']) if stage['crop'] else ''}"
            for stage in value
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(part)}" for key, part in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def tables(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Both lists as tables in Markdown.

    Args:
        configs: title -> a whole configuration, a column each; a value that the code has otherwise is bold.
    """
    lines = [_row("what", "key", "paper's text", "released code", *configs), _row(*["---"] * (4 + len(configs)))]
    for point in POINTS:
        ours = [value_of(config, point.switch) for config in configs.values()]
        values = [f"**{said(value)}**" if value != point.code else said(value) for value in ours]
        lines.append(_row(point.what, f"`{point.switch}`", said(point.text), said(point.code), *values))
    lines += ["", _row("what", "released code", "here", "why there is no key"), _row(*["---"] * 4)]
    lines += [_row(*fixed) for fixed in FIXED]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
