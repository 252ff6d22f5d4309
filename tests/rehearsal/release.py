"""The releases that `config/paper.yaml` fetches, in miniature and made up, in the form in which they are published."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import soundfile
import soxr

from spaarsist.data.mini.build import build_synthetic

TARS = {
    "T": [f"flac_T_a{letter}.tar" for letter in "abcde"],
    "D": [f"flac_D_a{letter}.tar" for letter in "abc"],
    "E": [f"flac_E_a{letter}.tar" for letter in "abcdefghij"],
}
FOLDERS = {"T": "flac_T", "D": "flac_D", "E": "flac_E_eval"}
PROTOCOLS = {"T": "ASVspoof5.train.tsv", "D": "ASVspoof5.dev.track_1.tsv", "E": "ASVspoof5.eval.track_1.tsv"}
ATTACKS = {"T": range(1, 9), "D": range(9, 17), "E": range(17, 33)}
ODD_RATE = "3.wav"
"""The In-the-Wild clip that is not at 16 kHz."""

# Where the releases lie, by host and path
ZENODO = "zenodo.org/records/14498691/files"
MIRROR = "huggingface.co/datasets/jungjee/asvspoof5/resolve/5d4b1565bc0e3e79343af0b5eacc0ea395405d59"
WILD = "huggingface.co/datasets/mueller91/In-The-Wild/resolve/main"
WILD_MIRROR = "owncloud.fraunhofer.de/index.php/s/JZgXh0JEAF0elxa"
XLS_R = "huggingface.co/facebook/wav2vec2-xls-r-300m/resolve/1a640f32ac3e39899438a2931f9924c02f080a54"


def build(site: Path) -> None:
    """Write every file at the place below `site` that its address names: `<site>/zenodo.org/records/...`.

    ASVspoof 5: 18 tars of 16 kHz mono 16-bit FLAC with 48, 24 and 32 trials of about a second and two enrolment files
    each for dev and eval, and the protocols in a tar.gz. In-the-Wild: 24 clips in a zip. XLS-R: two layers with random
    weights. Same versions, same bytes.
    """
    with TemporaryDirectory() as folder:
        made_up = Path(folder)
        build_synthetic(made_up)
        _asvspoof5(made_up / "asvspoof5", _folder(site, ZENODO))
        _in_the_wild(made_up / "in_the_wild" / "release_in_the_wild", _folder(site, WILD))
    _xls_r(_folder(site, XLS_R))
    for tar in (site / ZENODO).glob("*.tar"):
        (_folder(site, MIRROR) / tar.name).symlink_to(tar)
    # The mirror has the protocols uncompressed
    with gzip.open(site / ZENODO / "ASVspoof5_protocols.tar.gz") as protocols:
        (site / MIRROR / "ASVspoof5_protocols.tar").write_bytes(protocols.read())
    (_folder(site, WILD_MIRROR) / "download").symlink_to(site / WILD / "release_in_the_wild.zip")


def overrides(paper: dict, site: Path, url: str) -> dict:
    """Addresses, checksums and sizes of the miniature in the place of those in `config/paper.yaml`, and no other key.

    Args:
        paper: the configuration.
        site: where `build` wrote.
        url: at which `site` is served, with a slash at its end.

    Raises:
        FileNotFoundError: the configuration asks for something that is not published there.
    """
    downloads, places = {}, {}
    for name, release in paper["downloads"].items():
        first = urlsplit(release["addresses"][0])
        for file in release["files"]:
            places[f"{release['folder']}/{file}"] = site / first.netloc / first.path.lstrip("/").format(file=file)
        mine = {file: places[f"{release['folder']}/{file}"] for file in release["files"]}
        downloads[name] = {
            "addresses": [address.replace("https://", url) for address in release["addresses"]],
            "files": {file: _checksum(mine[file].read_bytes(), like) for file, like in release["files"].items()},
            "size_gb": sum(path.stat().st_size for path in mine.values()) / 1e9,
        }
    corpora = {}
    folders = {name: release["folder"] for name, release in paper["downloads"].items()}
    for name, corpus in paper["corpora"].items():
        archive, member = corpus["protocol"].format(**folders).split("::")
        content = _member(places[archive], member)
        trials = len(content.splitlines()) - (corpus["format"] == "in_the_wild")
        corpora[name] = {"checksum": _checksum(content, corpus["checksum"]), "expected": trials}
    return {"downloads": downloads, "corpora": corpora}


def rows(site: Path, protocol: str) -> list[list[str]]:
    """Fields of every trial in a protocol: ASVspoof5.train.tsv and its kin, or meta.csv without its header."""
    if protocol == "meta.csv":
        text = _member(site / WILD / "release_in_the_wild.zip", "release_in_the_wild/meta.csv").decode()
        return [line.split(",") for line in text.splitlines()[1:]]
    text = _member(site / ZENODO / "ASVspoof5_protocols.tar.gz", protocol).decode()
    return [line.split(" ") for line in text.splitlines()]


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)
    with tarfile.open(archive) as opened:
        return opened.extractfile(name).read()


def _folder(site: Path, place: str) -> Path:
    (site / place).mkdir(parents=True, exist_ok=True)
    return site / place


def _checksum(content: bytes, like: str) -> str:
    """Checksum by the algorithm of another; none where that one is empty: none is published."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else ""


# ---------------------------------------------------------------- ASVspoof 5


def _asvspoof5(made_up: Path, release: Path) -> None:
    texts = {}
    for split, name in PROTOCOLS.items():
        texts[name] = _with_every_attack((made_up / name).read_text(), ATTACKS[split])
        files = sorted((made_up / FOLDERS[split]).iterdir())
        for number, tar in enumerate(TARS[split]):
            _write_tar(release / tar, files[number :: len(TARS[split])], FOLDERS[split], number)
    # Track 2 lies beside track 1, in another form
    texts["ASVspoof5.dev.track_2.enroll.tsv"] = "D_0001 D_0000000024,D_0000000025\n"
    texts["ASVspoof5.eval.track_2.trial.tsv"] = "E_0001 E_0000000000 F - - - - bonafide target -\n"
    with (
        gzip.GzipFile(release / "ASVspoof5_protocols.tar.gz", "wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, text in sorted(texts.items()):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def _with_every_attack(protocol: str, attacks: range) -> str:
    """Deal the split's attacks out to its spoofs."""
    lines, spoofs = [], 0
    for line in protocol.splitlines():
        *about, attack, key, last = line.split(" ")
        if key == "spoof":
            attack = f"A{attacks[spoofs % len(attacks)]:02d}"
            spoofs += 1
        lines.append(" ".join([*about, attack, key, last]) + "\n")
    return "".join(lines)


def _write_tar(path: Path, files: list[Path], folder: str, number: int) -> None:
    """Every second one has its members in a folder, every third one their times in extra headers."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if number % 3 == 2 else tarfile.GNU_FORMAT) as archive:
        prefix = ""
        if number % 2:
            prefix, entry = f"{folder}/", tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for file in files:
            member = tarfile.TarInfo(prefix + file.name)
            member.size, member.mtime = file.stat().st_size, 1_718_000_000.5
            with file.open("rb") as stream:
                archive.addfile(member, stream)


# ---------------------------------------------------------------- In-the-Wild


def _in_the_wild(made_up: Path, release: Path) -> None:
    names = [row["file"] for row in csv.DictReader((made_up / "meta.csv").open(encoding="utf-8"))]
    with zipfile.ZipFile(release / "release_in_the_wild.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "release_in_the_wild/", b"")
        for name in names:
            waveform, rate = soundfile.read(made_up / name)
            if name != ODD_RATE:
                waveform, rate = soxr.resample(waveform, rate, 16_000), 16_000
            content = io.BytesIO()
            soundfile.write(content, waveform, rate, "PCM_16", format="WAV")
            _add(archive, f"release_in_the_wild/{name}", content.getvalue())
        _add(archive, "release_in_the_wild/meta.csv", (made_up / "meta.csv").read_bytes())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    # An archive of 8 GB has the long form of the headers
    with archive.open(member, "w", force_zip64=True) as stream:
        stream.write(content)


# ---------------------------------------------------------------- XLS-R


def _xls_r(release: Path) -> None:
    """Two layers of what XLS-R has 24 of; the real convolutions, so that 64,600 samples give 201 frames."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    config = Wav2Vec2Config(
        architectures=["Wav2Vec2ForPreTraining"],
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[16] * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        num_codevectors_per_group=4,
        codevector_dim=8,
        proj_codevector_dim=8,
        mask_time_prob=0.075,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Wav2Vec2ForPreTraining(config).state_dict()
    # The published file is of 2021, when torch named the two parts of a normed weight otherwise
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, former in old.items():
        weights = {name.replace(new, former): value for name, value in weights.items()}
    torch.save(weights, release / "pytorch_model.bin")
    waveforms = {"feature_size": 1, "sampling_rate": 16_000, "padding_value": 0, "padding_side": "right"}
    waveforms |= {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
    waveforms |= {"return_attention_mask": True}
    for name, content in (("config.json", config.to_dict()), ("preprocessor_config.json", waveforms)):
        (release / name).write_text(json.dumps(content, indent=2) + "\n")
