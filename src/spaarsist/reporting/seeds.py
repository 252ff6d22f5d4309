"""The EER of every training seed, as the metrics files hold them: figures show seeds, not only their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.names import ConfigError

KEY = ["corpus", "condition", "system", "seed"]


def read_eers(metrics: Sequence[Path], systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """Read the EERs of some systems on some corpora, a row per condition and training seed.

    Args:
        metrics: files of `evaluation.evaluate.evaluate`, any mix of systems, seeds and corpora.
        systems: names of the systems.
        corpora: names of the corpora.

    Returns:
        Columns `corpus, condition, system, seed, eer, ci_low, ci_high, n_spoof`. Conditions are `pooled`, `attack:<id>`
        and the like; EERs and their intervals over trials (NaN without a bootstrap) are fractions.

    Raises:
        ConfigError: a file is unreadable, a number is there twice, or a system has no pooled EER on a corpus.
    """
    texts, numbers, ends = (
        ["system", "corpus", "condition", "metric"],
        ["seed", "value", "n_spoof"],
        ["ci_low", "ci_high"],
    )
    columns = [*texts, *numbers, *ends]
    parts = [pd.DataFrame(columns=columns)]
    for path in metrics:
        table = read_table(path, columns, texts, numbers, dtype=dict.fromkeys(texts, str))[columns]
        chosen = (table["metric"] == "eer") & table["system"].isin(systems) & table["corpus"].isin(corpora)
        if chosen.any():
            parts.append(table[chosen])
    found = pd.concat(parts[1:] or parts, ignore_index=True).rename(columns={"value": "eer"})
    found = found.astype({"seed": int, "n_spoof": int} | dict.fromkeys(["eer", *ends], float))
    if len(twice := found[found.duplicated(KEY)]):
        raise ConfigError(f"the metrics files hold a number twice: EER of {twice.iloc[0][KEY].to_dict()}")
    pooled = found[found["condition"] == "pooled"]
    held = {*zip(pooled["corpus"], pooled["system"], strict=True)}
    for corpus in corpora:
        if absent := [system for system in systems if (corpus, system) not in held]:
            raise ConfigError(f"the metrics files hold no EER of {', '.join(absent)} on corpus {corpus!r}")
    return found.drop(columns="metric")
