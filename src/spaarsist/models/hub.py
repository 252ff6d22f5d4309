"""Where a checkpoint lies: a folder here, or a repository of the Hugging Face hub at one commit."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from spaarsist.artefacts import CALIBRATION, RECORD, WEIGHTS
from spaarsist.names import ConfigError

FORM = "user/name@commit"
"""How a checkpoint on the hub is called."""


def locate(named: str | Path) -> Path:
    """Give the folder of a checkpoint; one on the hub is fetched, unless the hub's cache has it.

    Args:
        named: a folder, or `user/name@commit`: a repository of the Hugging Face hub and a commit of it, in full. A
            branch or tag may move, so that the same command would give other scores. A folder of that name comes first.
            huggingface_hub's variables hold, such as HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE.

    Returns:
        A folder with record, weights and, if the hub has one, calibration. `load_checkpoint` tells whether they are
        whole and belong together.

    Raises:
        ConfigError: neither of both, no such repository or commit, or the hub is out of reach.
    """
    if (folder := Path(named)).is_dir():
        return folder
    if folder.exists():
        raise ConfigError(f"{folder}: is a file; a checkpoint is a folder with {RECORD} and {WEIGHTS}: name that")
    found = re.fullmatch(r"([\w-][\w.-]*/[\w.-]+)(?:@(.*))?", str(named))
    if not found or (found[2] is None and folder.parent.is_dir()):
        raise ConfigError(f"{named}: no such folder; name that of a checkpoint, or {FORM} on the Hugging Face hub")
    repository, commit = found.groups()
    if not re.fullmatch(r"[0-9a-f]{40}", commit or ""):
        raise ConfigError(
            f"{named}: no such folder; of a checkpoint on the Hugging Face hub the commit must be named, in full: "
            f"{repository}@ and its 40 hex digits, which the hub shows under Files, History"
        )
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        folder = Path(hf_hub_download(repository, RECORD, revision=commit)).parent
        hf_hub_download(repository, WEIGHTS, revision=commit)
        # Neither a path nor None: the hub has been asked before, and has no such file
        if isinstance(try_to_load_from_cache(repository, CALIBRATION, revision=commit), str | None):
            with suppress(RemoteEntryNotFoundError):
                hf_hub_download(repository, CALIBRATION, revision=commit)
    except Exception as error:  # of many classes: the hub's, the network's, the disk's
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"{named}: not fetched from the hub ({type(error).__name__}: {reason:.300})") from None
    return folder
