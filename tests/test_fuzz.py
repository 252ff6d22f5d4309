"""Damaged and odd input of every kind, made by chance: a right result, or one clear line.

Each target writes valid files, damages one, and calls the command line as a user would. Whatever the damage, a verb
ends within a time limit, either with a result that is whole and right as far as that can be known, or with exit code 1,
one line that begins with `spaarsist:`, and nothing written. The suite tries a few dozen inputs, the same ones every
time; `make fuzz MINUTES=60` tries other ones for that long, says how many, and keeps what it found in `fuzz/`.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from conftest import REPOSITORY, write_trials
from spaarsist.__main__ import main
from spaarsist.models.detector import Detector, save_checkpoint

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))
KEPT = REPOSITORY / "fuzz"
LIMIT_S = 20
"""A verb on these files takes less than a second."""

RATE, N_SAMPLES = 16_000, 12_000
NAMES = ("one", "two", "three")
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
CHECKED = ("flac", "ogg", "opus")
UNDECLARED = ("mp3",)
"""Formats that do not say how long they are: half a file is a whole one."""


class Hang(BaseException):
    """A verb took too long. No Exception, which the verb might handle."""


class Finding(AssertionError):
    """What must not happen; the text is the same for the same kind of failure."""


# ---------------------------------------------------------------- the property


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ends_well(folder, *arguments):
    """Call a verb, whose output lies in `folder`/out; True: it is done, False: it has refused, as it should.

    Raises:
        Finding: a traceback, a hang, another exit code, no clear line, or a file left by a verb that refused.
    """
    out = folder / "out"
    out.mkdir(exist_ok=True)
    before, said = files_in(out), io.StringIO()
    command = [*map(str, arguments)]
    (folder / "command.txt").write_text(f"python -m spaarsist {' '.join(command)}\n")

    def stop(*_):
        raise Hang

    argv, sys.argv, usual = sys.argv, ["spaarsist", *command], signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    code = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        code = end.code or 0
    except Hang:
        raise Finding(f"{command[0]}: no end after {LIMIT_S} s") from None
    except Exception as error:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        raise Finding(f"{command[0]}: {type(error).__name__} in {frame.tb_frame.f_code.co_name}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
        sys.argv = argv
    lines = re.split(r"[\r\n]+", said.getvalue().strip())
    if code not in (0, 1):
        raise Finding(f"{command[0]}: exit code {code}: {lines[-1][:60]}")
    if code == 1:
        (folder / "said.txt").write_text(said.getvalue())
        if not lines[-1].startswith("spaarsist: ") or sum(line.startswith("spaarsist: ") for line in lines) != 1:
            raise Finding(f"{command[0]}: refused, but not in one line at the end")
        if len(lines[-1]) > 1000:
            raise Finding(f"{command[0]}: a line of more than 1,000 characters")
        if files_in(out) != before:
            raise Finding(f"{command[0]}: refused, but something was written")
    return code == 0


def expect(holds, finding):
    if not holds:
        raise Finding(finding)


# ---------------------------------------------------------------- damage

LENGTHS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


@st.composite
def damaged(draw, content):
    """Bytes with one to three accidents; most in the head, where lengths and formats stand."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        if not size:
            break
        place = draw(st.one_of(st.integers(0, min(size, 80) - 1), st.integers(0, size - 1)))
        match draw(st.sampled_from(["flip", "cut", "drop", "insert", "splice", "length"])):
            case "flip":
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[place:]
            case "drop":
                del content[place : place + draw(st.integers(1, 64))]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=16))
            case "splice":
                start = draw(st.integers(0, size - 1))
                content[place : place + 32] = content[start : start + 32]
            case "length":
                width, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["little", "big"]))
                number = draw(st.sampled_from(LENGTHS)) % 2 ** (8 * width)
                content[place : place + width] = number.to_bytes(width, order)
    return bytes(content)


ODD = [
    '"',
    "'",
    "\t",
    ",",
    " ",
    "\r",
    "\n",
    "\0",
    "\ufeff",
    "é",
    "e\u0301",
    "\u2028",
    "\\",
    "nan",
    "NA",
    "-",
    "../",
    "\x1a",
]


@st.composite
def retyped(draw, text):
    """Text with one to three slips: a character more or less, lines doubled, swapped, or without their ends."""
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        row = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, len(lines[row])))
        match draw(st.sampled_from(["insert", "delete", "double", "drop", "swap", "join", "case"])):
            case "insert":
                lines[row] = lines[row][:place] + draw(st.sampled_from(ODD)) + lines[row][place:]
            case "delete":
                lines[row] = lines[row][:place] + lines[row][place + 1 :]
            case "double":
                lines.insert(row, lines[row])
            case "drop":
                del lines[row]
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[row], lines[other] = lines[other], lines[row]
            case "join":
                lines[row : row + 2] = [" ".join(lines[row : row + 2])]
            case "case":
                lines[row] = lines[row].swapcase()
        text = "\n".join(lines)
    return text


# ---------------------------------------------------------------- what is valid


def audio(name):
    """A recording in one of `FORMATS`, the same every time."""
    stream = io.BytesIO()
    container, subtype = FORMATS[name]
    wave = 0.3 * np.random.default_rng(len(name)).standard_normal(N_SAMPLES)
    soundfile.write(stream, wave, RATE, format=container, subtype=subtype)
    return stream.getvalue()


VALID = {name: audio(name) for name in FORMATS}
LABELS = ("bonafide", "spoof", "spoof")


def listed(form):
    """Text of a protocol of `NAMES`, in one of the three formats."""
    rows = [*zip(NAMES, LABELS, strict=True)]
    match form:
        case "asvspoof5":
            lines = [f"S_{n} {n} F - - - - {'-' if label == 'bonafide' else 'A01'} {label} -" for n, label in rows]
        case "in_the_wild":
            lines = ["file,speaker,label"]
            lines += [f"{n}.flac,A Speaker,{'bona-fide' if label == 'bonafide' else label}" for n, label in rows]
        case "list":
            lines = ["file,label", *(f"{n}.flac,{label}" for n, label in rows)]
    return "\n".join(lines) + "\n"


def put_recordings(folder, content=VALID["flac"]):
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.flac").write_bytes(content)


def read_list(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def scored(folder, checkpoint, trial_list):
    """Score a list; None where that was refused."""
    output = folder / "out" / "scores.parquet"
    done = ends_well(folder, "score", "--checkpoint", checkpoint, "--trial-list", trial_list, "--output", output)
    return pd.read_parquet(output) if done else None


@pytest.fixture(scope="module")
def checkpoint(recipe, tmp_path_factory):
    """A detector that was never trained."""
    torch.manual_seed(0)
    made = {key: asdict(getattr(recipe, key)) for key in ("frontend", "backend")} | {"recipe": asdict(recipe)}
    about = {"system": "AST-05", "seed": 1, "architecture": {}, "deterministic_algorithms": True, "provenance": {}}
    folder = tmp_path_factory.mktemp("untrained") / "AST-05"
    folder.mkdir()
    save_checkpoint(Detector(recipe.frontend, recipe.backend).state_dict(), made | about, folder)
    return folder


# ---------------------------------------------------------------- targets


def recordings(folder, data, checkpoint):
    """A damaged recording between two whole ones: what `trials` takes, `score` takes, and half a file is neither."""
    name = data.draw(st.sampled_from([*FORMATS]))
    content = data.draw(damaged(VALID[name]))
    ending = name.rpartition(".")[2]
    (folder / "audio").mkdir()
    for trial in NAMES:
        (folder / "audio" / f"{trial}.{ending}").write_bytes(content if trial == "two" else VALID[name])
    (folder / "p.csv").write_text(listed("list").replace(".flac", f".{ending}"))
    trial_list = folder / "out" / "trials.tsv"
    how = ("--protocol", folder / "p.csv", "--format", "list", "--audio", folder / "audio", "--output", trial_list)
    if not ends_well(folder, "trials", *how):
        return
    found = read_list(trial_list)
    expect(len(found) == len(NAMES), "trials: a row is lost")
    whole = int(found["n_samples"].iloc[0])
    half = VALID[name].startswith(content) and len(content) < 0.9 * len(VALID[name])
    expect(not half or name in UNDECLARED, f"trials: a cut {name} is taken for a whole one")
    scores = scored(folder, checkpoint, trial_list)
    expect(scores is not None, f"score: a recording ({name}) is refused that `trials` took")
    expect(len(scores) == len(NAMES) and scores["05"].notna().all(), "score: a score is lost")
    expect(whole == N_SAMPLES or name in ("mp3", "opus", "ogg"), "trials: a whole recording has another length")
    expect(alike(scores["05"].iloc[0], scores["05"].iloc[2]), "score: two equal recordings differ")
    # Behind its head, every frame of a FLAC file and every page of an Ogg file has a checksum
    if name in CHECKED and len(content) == len(VALID[name]) and content[:200] == VALID[name][:200]:
        expect(alike(scores["05"].iloc[0], scores["05"].iloc[1]), f"score: a damaged {name} is scored")


def alike(one, other):
    """Whether scores differ by no more than rounding, which hangs on the place in a batch."""
    return np.allclose(one, other, rtol=0, atol=1e-4)


def archives(folder, data, checkpoint):
    """A damaged archive: all three recordings in the list, or a refusal by `index`, `trials` or `score`."""
    put_recordings(folder / "audio")
    kind = data.draw(st.sampled_from(["tar", "zip"]))
    archive = folder / f"a.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w", format=data.draw(st.sampled_from([0, 1, 2]))) as tar:
            tar.add(folder / "audio", "audio")
    else:
        with zipfile.ZipFile(archive, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as z:
            for path in sorted((folder / "audio").iterdir()):
                z.write(path, path.name)
    (folder / "p.csv").write_text(listed("list"))
    index, trial_list = folder / "out" / "index.tsv", folder / "out" / "trials.tsv"
    when = data.draw(st.sampled_from(["archive", "index", "list", "later"]))  # what is damaged, and when
    if when == "archive":
        archive.write_bytes(data.draw(damaged(archive.read_bytes())))
    if not ends_well(folder, "index", "--archive", archive, "--output", index):
        return
    if when == "index":
        index.write_bytes(data.draw(retyped(index.read_text())).encode())
    how = ("--protocol", folder / "p.csv", "--format", "list", "--audio", index, "--output", trial_list)
    if not ends_well(folder, "trials", *how):
        return
    expect([*read_list(trial_list)["trial_id"]] == [f"{name}.flac" for name in NAMES], "trials: a row is lost")
    if when == "list":
        trial_list.write_bytes(data.draw(retyped(trial_list.read_text())).encode())
    if when == "later":
        archive.write_bytes(data.draw(damaged(archive.read_bytes())))
    scores = scored(folder, checkpoint, trial_list)
    if scores is not None:
        expect(when == "list" or len(scores) == len(NAMES), "score: a score is lost")
        expect(alike(scores["05"].iloc[0], scores["05"]), "score: a damaged recording is scored")


def protocols(folder, data, checkpoint):
    """A protocol with slips: a row for every line, labelled as that line says, or a refusal."""
    form = data.draw(st.sampled_from(["asvspoof5", "in_the_wild", "list"]))
    text = data.draw(retyped(listed(form)))
    put_recordings(folder / "audio")
    (folder / "p").write_bytes(text.encode())
    output = folder / "out" / "trials.tsv"
    how = ("--protocol", folder / "p", "--format", form, "--audio", folder / "audio", "--output", output)
    if not ends_well(folder, "trials", *how):
        return
    found = read_list(output)
    lines = [line for line in re.split(r"[\r\n]+", text.removeprefix("\ufeff")) if line.strip()]
    lines = lines if form == "asvspoof5" else lines[1:]
    expect(len(found) == len(lines), "trials: not a row for every line of the protocol")
    for line, (_, row) in zip(lines, found.iterrows(), strict=True):
        name = Path(row["trial_id"]).stem
        expect(name in line, "trials: a row is not its line's")
        words = re.split(r"[ ,\"]+", line.replace("bona-fide", "bonafide"))
        expect(row["label"] in words, "trials: a label is not its line's")


def trial_lists(folder, data, checkpoint):
    """A trial list with slips: metrics of as many trials as it has lines, or a refusal."""
    table = write_trials(folder / "t.tsv", [f"t{i}" for i in range(8)], ["bonafide", "spoof"] * 4)
    scores = pa.table({"trial_id": table["trial_id"], "05": pa.array(np.linspace(-1, 1, 8), pa.float32())})
    about = json.dumps({"system": "AST-05", "seed": 1, "corpus": "t", "backend": "AASIST"})
    scores = scores.replace_schema_metadata({"spaarsist": about})
    pq.write_table(scores, folder / "s.parquet", write_page_checksum=True)
    text = (folder / "t.tsv").read_text()
    edited = data.draw(retyped(text))
    (folder / "t.tsv").write_bytes(edited.encode())
    if measured(folder):
        kept = {line.split("\t")[0] for line in edited.split("\n")[1:] if line.strip()}
        expect(kept == {*table["trial_id"]}, "metrics: trials of scores and list differ")


def measured(folder):
    """The values that `metrics` finds, which count every trial; None where it has refused."""
    out = folder / "out"
    files = ("--scores", folder / "s.parquet", "--trial-list", folder / "t.tsv")
    to = ("--output", out / "m.tsv", "--replicates", out / "r.parquet", "--bootstrap", 4)
    if ends_well(folder, "metrics", *files, *to):
        found = pd.read_csv(out / "m.tsv", sep="\t")
        rows = found[found["condition"] == "pooled"]
        expect((rows["n_bonafide"] + rows["n_spoof"] == 8).all(), "metrics: a trial is lost")
        expect(np.isfinite(rows["value"]).all(), "metrics: a value is no number")
        return [*rows["value"]]
    return None


def score_files(folder, data, checkpoint):
    """Scores of other types, with other rows, or damaged: refused by every verb that reads them, or measured whole."""
    table = write_trials(folder / "t.tsv", [f"t{i}" for i in range(8)], ["bonafide", "spoof"] * 4)
    values, ids = [*np.linspace(-1, 1, 8)], [*table["trial_id"]]
    kind, wrong = pa.float32(), True
    change = data.draw(
        st.sampled_from(["nan", "inf", "null", "text", "bool", "list", "drop", "double", "other", "bytes"])
    )
    row = data.draw(st.integers(0, 7))
    match change:
        case "nan" | "inf":
            values[row] = float(change)
        case "null":
            values[row] = None
        case "text":
            values, kind = [str(value) for value in values], pa.string()
        case "bool":
            values, kind = [value > 0 for value in values], pa.bool_()
        case "list":
            values, kind = [[value] for value in values], pa.list_(pa.float32())
        case "drop":
            del values[row], ids[row]
        case "double":
            ids[row] = ids[row - 1]
        case "other":
            ids[row] = "another"
        case "bytes":
            wrong = False
    scores = pa.table({"trial_id": ids, "05": pa.array(values, kind)})
    about = json.dumps({"system": "AST-05", "seed": 1, "corpus": "t", "backend": "AASIST"})
    scores = scores.replace_schema_metadata({"spaarsist": about})
    pq.write_table(scores, folder / "s.parquet", write_page_checksum=True)
    if change == "bytes":
        expected = measured(folder)
        shutil.rmtree(folder / "out")
        (folder / "s.parquet").write_bytes(data.draw(damaged((folder / "s.parquet").read_bytes())))
    done = measured(folder)
    if done and change == "bytes":
        expect(done == expected, "metrics: damaged scores are measured")
    expect(not (done and wrong), f"metrics: takes scores with {change}")
    to = folder / "out" / "official.tsv"
    done = ends_well(folder, "export-scores", "--scores", folder / "s.parquet", "--variant", "05", "--output", to)
    expect(not (done and wrong) or change in ("drop", "other"), f"export-scores: takes scores with {change}")


def checkpoints(folder, data, checkpoint):
    """A checkpoint whose record or weights were touched: the very same scores, or a refusal."""
    shutil.copytree(checkpoint, folder / "c")
    put_recordings(folder / "audio")
    trials = write_trials(folder / "t.tsv", NAMES, LABELS, n_samples=N_SAMPLES)
    trials["path"] = [str(folder / "audio" / f"{name}.flac") for name in NAMES]
    trials.to_csv(folder / "t.tsv", sep="\t", index=False)
    expected = scored(folder, folder / "c", folder / "t.tsv")
    shutil.rmtree(folder / "out")
    name = data.draw(st.sampled_from(["model.json", "model.safetensors"]))
    path = folder / "c" / name
    if name == "model.json" and data.draw(st.booleans()):
        path.write_text(data.draw(retyped(path.read_text())))
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    scores = scored(folder, folder / "c", folder / "t.tsv")
    expect(scores is None or scores.equals(expected), f"score: a touched {name} gives other scores")


VALUES = st.one_of(
    st.none(), st.booleans(), st.sampled_from([float("nan"), float("inf"), 2**64, 10**40, -1, 0, 1.0]),
    st.integers(), st.floats(), st.sampled_from(["", "x", "a b", "1e-4", "~", "{x}", "..", "\n", "\udc80"]),
    st.text(max_size=5), st.just([]), st.just({}), st.lists(st.floats(), max_size=3),
)  # fmt: skip
CONFIGS = [yaml.safe_load((REPOSITORY / name).read_text()) for name in ("config.yaml", "config/paper.yaml")]


def places(value, keys=()):
    """Places of all values in a configuration."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*keys, key)
        yield from places(value[key], (*keys, key))


def configurations(folder, data, checkpoint):
    """A configuration with a value changed, a key misspelt, or slips in its YAML: a plan that holds, or a refusal."""
    from spaarsist.config import read_mapping
    from spaarsist.plan import Plan

    config = deepcopy(data.draw(st.sampled_from(CONFIGS)))
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 2))):
            *parents, last = data.draw(st.sampled_from([*places(config)]))
            holder = config
            for key in parents:
                holder = holder[key]
            match data.draw(st.sampled_from(["change", "delete", "misspell"])):
                case "change":
                    holder[last] = data.draw(VALUES)
                case "delete":
                    del holder[last]
                case "misspell" if isinstance(holder, dict):
                    holder[f"{last}s"] = holder.pop(last)
        text = yaml.safe_dump(config)
    else:
        text = data.draw(retyped(yaml.safe_dump(config)))
    (folder / "c.yaml").write_bytes(text.encode(errors="surrogatepass"))
    if ends_well(folder, "departures", folder / "c.yaml"):
        plan = Plan(read_mapping(str(folder / "c.yaml")))
        planned = [plan.outline, plan.tables, plan.figures, plan.scores, plan.preflight, plan.report, plan.config_hash]
        json.dumps(planned, allow_nan=False)
        expect(all(plan.recipe_of(name) for name in plan.trainings), "plan: a training has no recipe")


TARGETS = {
    target.__name__: (target, examples)
    for target, examples in (
        (recordings, 20),
        (archives, 12),
        (protocols, 25),
        (trial_lists, 25),
        (score_files, 15),
        (checkpoints, 10),
        (configurations, 20),
    )
}  # fmt: skip


# ---------------------------------------------------------------- the campaign


def attack(name, checkpoint, n_examples, start, tried, keep):
    """Try a number of inputs on a target; a failure is made small, kept in the folder `keep`, and raised."""
    target, _ = TARGETS[name]

    @seed(start)
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if keep else (Phase.generate,),
        suppress_health_check=[*HealthCheck],
    )
    @given(st.data())
    def run(data):
        tried[name] += 1
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place).resolve()
            try:
                target(folder, data, checkpoint)
            except Exception:
                if keep:
                    shutil.rmtree(keep, ignore_errors=True)
                    shutil.copytree(folder, keep)
                raise

    run()


@pytest.mark.skipif(MINUTES > 0, reason="the long run is on")
@pytest.mark.parametrize("name", TARGETS)
def test_a_right_result_or_one_clear_line(name, checkpoint):
    attack(name, checkpoint, TARGETS[name][1], 15, Counter(), None)


@pytest.mark.skipif(not MINUTES, reason="make fuzz MINUTES=60")
def test_campaign(checkpoint, capsys):
    """As above for FUZZ_MINUTES, with inputs that nobody has tried; every kind of finding once."""
    end, tried, found = time.monotonic() + 60 * MINUTES, Counter(), {}
    start = time.time_ns()
    while time.monotonic() < end:
        for name in TARGETS:
            start += 1
            place = KEPT / "latest"
            try:
                attack(name, checkpoint, 40, start, tried, place)
            except Exception as failure:
                text = f"{type(failure).__name__}: {failure}"
                kind = re.sub(r"\W+", "-", f"{name} {failure}")[:80].strip("-")
                if kind not in found:
                    found[kind] = text.splitlines()[0]
                    shutil.rmtree(KEPT / kind, ignore_errors=True)
                    shutil.move(place, KEPT / kind)
                    with capsys.disabled():
                        print(f"\n{found[kind]}\n  kept in {KEPT / kind}", flush=True)
    with capsys.disabled():
        print(f"\n{sum(tried.values())} inputs tried ({', '.join(f'{n} {name}' for name, n in tried.items())})")
        print(f"{len(found)} kinds of failure found")
    assert not found
