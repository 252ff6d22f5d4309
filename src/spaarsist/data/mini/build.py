"""Small corpora of real recordings against real spoofing methods, in the layout of ASVspoof 5.

`build_mini` takes some thousand freely licensed recordings (`recordings`), cuts them into excerpts, remakes half of the
clips by the methods of `vocoders` and sends every clip, bona fide or spoof, through the same `channel`.
`build_synthetic` writes the layouts of ASVspoof 5 and In-the-Wild from made-up signals, without recordings or network.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.random import Generator
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from spaarsist.artefacts import writing
from spaarsist.code import meaning
from spaarsist.config import SAMPLE_RATE
from spaarsist.data.mini import channel, vocoders
from spaarsist.data.mini.channel import Channel
from spaarsist.data.mini.recordings import SOURCES, Recording, fetch, manifest
from spaarsist.names import METHODS

# ---------------------------------------------------------------- what the corpora consist of


@dataclass(frozen=True)
class Voice:
    """A speaker: number and gender in the protocol, the codec in which the recordings are distributed."""

    number: str
    gender: str
    language: str
    codec: Callable[[np.ndarray], np.ndarray]
    about: str
    credit: str


VOICES: Mapping[str, Voice] = {
    name: Voice(f"{number:04d}", gender, language, codec, about, SOURCES[source].credit)
    for number, (name, gender, language, source, codec, about) in enumerate(
        (
            ("allison", "F", "en", "en", channel.g722, "telephone prompts in English and Spanish"),
            ("ivrvoice", "F", "ru", "ru", channel.g722, "telephone prompts in Russian"),
            ("cs-small", "F", "cs", "cs", channel.vorbis, "acted dialogue in Czech, the small fish"),
            ("cs-big", "M", "cs", "cs", channel.vorbis, "acted dialogue in Czech, the big fish"),
            ("june", "F", "fr", "fr", channel.g722, "telephone prompts in Canadian French"),
            ("carlo", "M", "it", "it", channel.g722, "telephone prompts in Italian"),
            ("nl-small", "F", "nl", "nl", channel.vorbis, "acted dialogue in Dutch, the small fish"),
            ("nl-big", "M", "nl", "nl", channel.vorbis, "acted dialogue in Dutch, the big fish"),
            ("tux-ru", "M", "ru", "stamps", channel.vorbis, "names of things in Russian"),
            ("tux-ca", "M", "ca", "stamps", channel.vorbis, "names of things in Catalan"),
            ("tux-be", "F", "be", "stamps", channel.vorbis, "names of things in Belarusian"),
            ("tux-bg", "M", "bg", "stamps", channel.vorbis, "names of things in Bulgarian"),
            ("tux-da", "M", "da", "stamps", channel.vorbis, "names of things in Danish"),
            ("tux-el", "F", "el", "stamps", channel.vorbis, "names of things in Greek"),
            ("tux-fr", "M", "fr", "stamps", channel.vorbis, "names of things in French"),
            ("tux-ro", "F", "ro", "stamps", channel.vorbis, "names of things in Romanian"),
        ),
        start=1,
    )
}


STUDIO = Channel()


@dataclass(frozen=True)
class Split:
    """What one part of a corpus is made of.

    Args:
        name: as in the records.
        prefix: of speaker and file names.
        folder: of the clips, within the corpus.
        protocol: name of the trial list.
        voices: keys of `VOICES`.
        pairs: number of excerpts; each gives one bona fide and one spoofed clip.
        attacks: attack id -> name of a method in `vocoders.METHODS`, or `speak` or `speak_klatt`.
        codecs: codec tags, drawn with equal chances.
        enrolment: extra bona fide clips that stand in the folder but in no protocol, as in the original.
    """

    name: str
    prefix: str
    folder: str
    protocol: str
    voices: tuple[str, ...]
    pairs: int
    attacks: Mapping[str, str]
    codecs: tuple[str, ...] = ("-",)
    channel: Channel = STUDIO
    enrolment: int = 0


SEEN = ("allison", "ivrvoice", "cs-small", "cs-big", "june", "carlo", "tux-ru", "tux-ca")
UNSEEN = ("nl-small", "nl-big", "tux-be", "tux-bg", "tux-da", "tux-el", "tux-fr", "tux-ro")
TAUGHT = ("world_copy", "world_conversion", "griffin_lim_mel", "lpc_vocoder", "harmonic_noise", "minimum_phase")


def _named(*methods: str) -> Mapping[str, str]:
    """Attacks that bear the names of their methods."""
    return {method: method for method in methods}


CODECS_OF_EVAL = ("-",) * 9 + ("C01", "C05", "C08", "C11")

SEEN_VOICES: tuple[Split, ...] = (
    Split("train", "T", "train", "train.tsv", voices=SEEN, pairs=600, attacks=_named(*TAUGHT)),
    Split("dev", "D", "dev", "dev.tsv", voices=SEEN, pairs=120, attacks=_named(*TAUGHT)),
    Split(
        "eval",
        "E",
        "eval",
        "eval.tsv",
        voices=SEEN,
        pairs=320,
        attacks=_named("world_copy", "griffin_lim_mel", "lpc_vocoder", "zero_phase", "world_coded"),
        codecs=CODECS_OF_EVAL,
    ),
    Split(
        "text_to_speech",
        "S",
        "text_to_speech",
        "text_to_speech.tsv",
        voices=SEEN,
        pairs=160,
        attacks=_named("speak", "speak_klatt"),
        codecs=CODECS_OF_EVAL,
    ),
)

FIELD = Channel(
    snr_db=(20.0, 35.0),
    top_hz=(5000.0, 7400.0),
    reverberation_s=(0.05, 0.2),
    level_db=(-34.0, -16.0),
    padding_s=(0.0, 0.5),
    rate=22_050,
)

UNSEEN_VOICES = Split(
    "unseen",
    "U",
    "eval",
    "eval.tsv",
    voices=UNSEEN,
    pairs=320,
    attacks=_named(
        *("griffin_lim_mel", "lpc_vocoder", "world_conversion", "harmonic_noise"),  # in training, too
        *("griffin_lim_linear", "psola", "world_coded", "zero_phase"),
    ),
    codecs=("C05",),
    channel=FIELD,
)

# Short sentences of our own for text-to-speech, in the language of the speaker whose place they take.
SENTENCES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "The train to the city leaves every morning at a quarter past seven.",
        "We have received your message and will call you back tomorrow.",
        "The library stays closed for the whole month of August.",
        "Please check the number on your file and try once more.",
        "My brother cooks very well, but he always leaves the dirty plates.",
        "After the rain the path to the lake was covered in mud.",
    ),
    "fr": (
        "Le train pour la ville part tous les matins à sept heures et quart.",
        "Nous avons bien reçu votre message et vous rappellerons demain.",
        "La bibliothèque reste fermée pendant tout le mois d'août.",
        "Veuillez vérifier le numéro du dossier et essayer de nouveau.",
        "Mon frère cuisine très bien, mais il laisse toujours la vaisselle sale.",
        "Après la pluie, le sentier du lac était couvert de boue.",
    ),
    "cs": (
        "Vlak do města odjíždí každé ráno ve čtvrt na osm.",
        "Vaši zprávu jsme dostali a zítra vám zavoláme zpátky.",
        "Knihovna zůstane celý srpen zavřená.",
        "Zkontrolujte prosím číslo spisu a zkuste to znovu.",
        "Můj bratr vaří moc dobře, ale nikdy neumyje nádobí.",
        "Po dešti byla cesta k jezeru plná bláta.",
    ),
    "ru": (
        "Поезд в город отправляется каждое утро в четверть восьмого.",
        "Мы получили ваше сообщение и перезвоним вам завтра.",
        "Библиотека будет закрыта весь август.",
        "Проверьте, пожалуйста, номер дела и попробуйте ещё раз.",
        "Мой брат хорошо готовит, но всегда оставляет грязную посуду.",
        "После дождя тропинка к озеру была покрыта грязью.",
    ),
    "it": (
        "Il treno per la città parte ogni mattina alle sette e un quarto.",
        "Abbiamo ricevuto il suo messaggio e la richiameremo entro domani.",
        "La biblioteca resta chiusa durante tutto il mese di agosto.",
        "Per favore controlli il numero della pratica e provi di nuovo.",
        "Mio fratello cucina molto bene, ma lascia sempre i piatti sporchi.",
        "Dopo la pioggia il sentiero verso il lago era pieno di fango.",
        "Il prossimo appuntamento disponibile è giovedì pomeriggio.",
        "Non dimentichi di portare un documento e la ricevuta del pagamento.",
    ),
    "nl": (
        "De trein naar de stad vertrekt elke ochtend om kwart over zeven.",
        "Wij hebben uw bericht ontvangen en bellen u morgen terug.",
        "De bibliotheek blijft de hele maand augustus gesloten.",
        "Controleer het nummer van het dossier en probeer het opnieuw.",
        "Mijn broer kookt heel goed, maar laat altijd de vuile borden staan.",
        "Na de regen lag het pad naar het meer vol met modder.",
        "De eerstvolgende afspraak is op donderdagmiddag mogelijk.",
        "Vergeet niet een legitimatie en het betaalbewijs mee te nemen.",
    ),
    "ca": (
        "El tren cap a la ciutat surt cada matí a un quart de vuit.",
        "Hem rebut el seu missatge i li trucarem demà.",
        "La biblioteca estarà tancada tot el mes d'agost.",
        "Comprovi el número de l'expedient i torni-ho a provar.",
        "El meu germà cuina molt bé, però mai no renta els plats.",
        "Després de la pluja, el camí del llac era ple de fang.",
    ),
    "be": (
        "Цягнік у горад адпраўляецца кожную раніцу ў чвэрць на восьмую.",
        "Мы атрымалі ваша паведамленне і ператэлефануем заўтра.",
        "Бібліятэка будзе зачынена ўвесь жнівень.",
        "Праверце, калі ласка, нумар справы і паспрабуйце яшчэ раз.",
        "Мой брат добра гатуе, але ніколі не мые посуд.",
        "Пасля дажджу сцежка да возера была пакрыта гразёю.",
    ),
    "bg": (
        "Влакът за града тръгва всяка сутрин в седем и петнадесет.",
        "Получихме вашето съобщение и ще ви се обадим утре.",
        "Библиотеката остава затворена през целия август.",
        "Моля, проверете номера на преписката и опитайте отново.",
        "Брат ми готви много добре, но никога не мие чиниите.",
        "След дъжда пътеката към езерото беше покрита с кал.",
    ),
    "da": (
        "Toget til byen kører hver morgen klokken kvart over syv.",
        "Vi har modtaget din besked og ringer tilbage i morgen.",
        "Biblioteket holder lukket i hele august.",
        "Kontrollér venligst sagens nummer og prøv igen.",
        "Min bror laver god mad, men han vasker aldrig op.",
        "Efter regnen var stien til søen dækket af mudder.",
    ),
    "el": (
        "Το τρένο για την πόλη φεύγει κάθε πρωί στις επτά και τέταρτο.",
        "Λάβαμε το μήνυμά σας και θα σας καλέσουμε αύριο.",
        "Η βιβλιοθήκη μένει κλειστή όλο τον Αύγουστο.",
        "Παρακαλώ ελέγξτε τον αριθμό του φακέλου και δοκιμάστε ξανά.",
        "Ο αδελφός μου μαγειρεύει καλά, αλλά δεν πλένει ποτέ τα πιάτα.",
        "Μετά τη βροχή το μονοπάτι προς τη λίμνη ήταν γεμάτο λάσπη.",
    ),
    "ro": (
        "Trenul spre oraș pleacă în fiecare dimineață la șapte și un sfert.",
        "Am primit mesajul dumneavoastră și vă vom suna mâine.",
        "Biblioteca rămâne închisă toată luna august.",
        "Vă rugăm să verificați numărul dosarului și să încercați din nou.",
        "Fratele meu gătește foarte bine, dar nu spală niciodată vasele.",
        "După ploaie, cărarea spre lac era plină de noroi.",
    ),
}


# ---------------------------------------------------------------- excerpts


@dataclass(frozen=True)
class Excerpt:
    """A stretch of 1.5–3.5 s of one voice; `speech` is mono float64 at `SAMPLE_RATE`."""

    voice: str
    speech: np.ndarray
    recordings: tuple[str, ...]


def _shared_out(
    recordings: Sequence[Recording], splits: Sequence[Split], seed: int
) -> dict[tuple[str, str], list[Recording]]:
    """Deal each voice's recordings out to the splits that use it, by their need: no recording goes to two."""
    dealt = {}
    for voice in VOICES:
        users = [split for split in splits if voice in split.voices]
        mine = [r for r in recordings if r.voice == voice]
        rng = np.random.default_rng([seed, int(VOICES[voice].number)])
        order = rng.permutation(len(mine))
        need = np.cumsum([0, *((split.pairs + split.enrolment) / len(split.voices) for split in users)])
        bounds = np.round(need / max(need[-1], 1) * len(mine)).astype(int)
        for split, low, high in zip(users, bounds[:-1], bounds[1:], strict=True):
            dealt[voice, split.name] = [mine[i] for i in order[low:high]]
    return dealt


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".g722":
        return channel.decode_g722(path.read_bytes())
    wave, rate = soundfile.read(path, always_2d=True)
    return soxr.resample(wave.mean(axis=1), rate, SAMPLE_RATE, "HQ")


def _excerpts(voice: str, recordings: Sequence[tuple[str, Path]], count: int, seed: Sequence[int]) -> list[Excerpt]:
    """Join a voice's recordings in random order and cut the stream near random lengths, where it is quietest."""
    rng = np.random.default_rng(seed)
    stream, names, cut = np.zeros(0), [], []
    supply = iter(())
    while len(cut) < count:
        target = int(rng.uniform(1.6, 3.4) * SAMPLE_RATE)
        while len(stream) < target + SAMPLE_RATE // 4:
            try:
                name, path = next(supply)
            except StopIteration:
                supply = iter([recordings[i] for i in rng.permutation(len(recordings))])
                continue
            speech = channel.at_level(channel.trim(_read(path)), -23.0)
            gap = np.zeros(int(rng.uniform(0.04, 0.12) * SAMPLE_RATE))
            stream, names = np.concatenate([stream, speech, gap]), [*names, (len(stream), name)]
        end = _quietest(stream, target, SAMPLE_RATE // 4)
        speech = channel.trim(stream[:end])
        if len(speech) >= 1.4 * SAMPLE_RATE:
            cut.append(Excerpt(voice, speech, tuple(name for at, name in names if at < end)))
        stream = stream[end:]
        names = [(at - end, name) for at, name in names if at < end][-1:] + [
            (at - end, name) for at, name in names if at >= end
        ]
    return cut


def _quietest(stream: np.ndarray, around: int, reach: int) -> int:
    near = stream[around - reach : around + reach]
    frames = near[: len(near) // channel.FRAME * channel.FRAME].reshape(-1, channel.FRAME)
    return around - reach + int(np.argmin((frames**2).sum(axis=1))) * channel.FRAME + channel.FRAME // 2


def _faded(speech: np.ndarray, samples: int = 160) -> np.ndarray:
    ramp = np.ones(len(speech))
    ramp[:samples] = np.linspace(0, 1, samples)
    ramp[-samples:] = np.linspace(1, 0, samples)
    return speech * ramp


# ---------------------------------------------------------------- clips


@dataclass(frozen=True)
class Clip:
    """One clip to be made: what is written in the protocol, and what it is made from."""

    file: str
    speaker: str
    gender: str
    label: str
    attack: str
    method: str
    codec: str
    excerpt: Excerpt
    seed: tuple[int, ...]
    spoken: np.ndarray | None = None

    def render(self, folder: Path, conditions: Channel) -> dict[str, float]:
        """Make the clip, write it (FLAC or WAV, 16 bit) and return its cues, measured on what was written."""
        rng = np.random.default_rng(self.seed)
        speech, codec = self.excerpt.speech, VOICES[self.excerpt.voice].codec
        if self.spoken is not None:
            # Recordings come coded once already, and so does what is vocoded from them
            speech = channel.like(codec(self.spoken), speech, contour=False)
        elif self.method:
            speech = channel.like(vocoders.METHODS[self.method](speech, rng), speech)
        wave = codec(_faded(speech))
        wave = channel.transmit(wave, conditions, self.codec, rng)
        path = folder / self.file
        soundfile.write(path, wave, conditions.rate, subtype="PCM_16")
        return channel.cues(soundfile.read(path)[0], conditions.rate)


def _plan(split: Split, index: int, seed: int, excerpts: Sequence[Excerpt]) -> list[Clip]:
    """Lay out a split: each excerpt once as it is and once spoofed, in random order."""
    rng = np.random.default_rng([seed, index])
    attacks, speakers = [*split.attacks], len(split.voices)
    sides = []
    for number, excerpt in enumerate(excerpts[: split.pairs]):
        # Excerpts take turns over the voices; each voice goes through the attacks by itself, so that it meets them all.
        turn, voice = divmod(number, speakers)
        sides += [(excerpt, ""), (excerpt, attacks[(turn + voice) % len(attacks)])]
    numbers = rng.permutation(len(sides))
    clips = []
    for number in range(len(sides) + split.enrolment):
        trial = number < len(sides)
        excerpt, attack = sides[numbers[number]] if trial else (excerpts[split.pairs + number - len(sides)], "")
        about = VOICES[excerpt.voice]
        clips.append(
            Clip(
                file=f"{number}.wav" if split.protocol == "meta.csv" else f"{split.prefix}_{number:010d}.flac",
                speaker=f"{split.prefix}_{about.number}",
                gender=about.gender,
                label=("spoof" if attack else "bonafide") if trial else "enrolment",
                attack=attack or "bonafide",
                method=split.attacks.get(attack, ""),
                codec=str(rng.choice(split.codecs)),
                excerpt=excerpt,
                seed=(seed, index, number),
            )
        )
    return clips


def _with_speech(clips: list[Clip], index: int, seed: int) -> list[Clip]:
    """Give the text-to-speech clips their spoken text, as long as the excerpt whose place it takes."""
    spoken = [n for n, clip in enumerate(clips) if clip.method.startswith("speak")]
    requests = []
    for n in spoken:
        rng, clip = np.random.default_rng([*clips[n].seed, 1]), clips[n]
        language = VOICES[clip.excerpt.voice].language
        text = " ".join(rng.choice(SENTENCES[language], 2, replace=False))
        level = int(rng.integers(60, 95) if clip.gender == "F" else rng.integers(25, 55))
        voice = language + ("+klatt" if clip.method == "speak_klatt" else "")
        requests.append((voice, text, level, int(rng.integers(140, 190))))
    waves = vocoders.speak(requests, seed + index) if requests else []
    for n, wave in zip(spoken, waves, strict=True):
        wave, longest, reach = channel.trim(wave), len(clips[n].excerpt.speech), SAMPLE_RATE // 4
        if len(wave) > longest:
            wave = channel.trim(wave[: _quietest(wave, longest - reach, reach)])
        clips[n] = replace(clips[n], spoken=wave)
    return clips


def build_mini(root: Path, cache: Path, jobs: int = 2, seed: int = 5) -> None:
    """Build `<root>/seen_voices` and `<root>/unseen_voices` from real recordings, both in the layout of ASVspoof 5.

    Args:
        root: folder that receives both corpora; what stood in them before is replaced once the build is complete.
        cache: keeps the recordings, so that a second build needs no network.
        jobs: processes; the files do not depend on it.
        seed: decides excerpts, conversions, channels and order. Same seed and versions, same bytes.

    Raises:
        ConfigError: the recordings cannot be had or are not the ones meant; see `fetch`.
    """
    root, cache = Path(root), Path(cache)
    recordings = manifest()
    with _workers(jobs) as work:
        work(_compiled, range(jobs))  # takes a while where librosa is new: beside the fetching
        folder = fetch(cache, recordings)
        plans = []
        shared = _shared_out(recordings, (*SEEN_VOICES, UNSEEN_VOICES), seed)
        for index, split in enumerate((*SEEN_VOICES, UNSEEN_VOICES)):
            each = -(-(split.pairs + split.enrolment) // len(split.voices))
            files = [
                [(f"{r.source}/{r.path}", folder / r.source / r.path) for r in shared[voice, split.name]]
                for voice in split.voices
            ]
            orders = [(seed, index, int(VOICES[voice].number)) for voice in split.voices]
            by_voice = work(_excerpts, split.voices, files, [each] * len(files), orders)
            excerpts = [excerpt for group in zip(*by_voice, strict=True) for excerpt in group]
            plans.append((split, _with_speech(_plan(split, index, seed, excerpts), index, seed)))
        about = {
            "seed": seed,
            "code_hash": meaning("data.mini.build.build_mini"),
            "sources": _source_digests(recordings),
            "versions": _versions(),
        }
        _write_asvspoof5(root / "seen_voices", plans[:-1], work, about, MADE_FROM)
        _write_asvspoof5(root / "unseen_voices", plans[-1:], work, about, MADE_FROM)


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterable]]:
    """A `map` over `jobs` processes (this one, for a single job), one BLAS thread each: faster, and the same sums."""
    if jobs <= 1:
        with threadpool_limits(1):
            yield map
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _one_blas_thread) as pool:
            yield pool.map


def _one_blas_thread() -> None:
    # Defined here, so that a new process imports NumPy and SciPy before it: a limit binds only what is loaded already
    threadpool_limits(1)


def _compiled(_: int) -> None:
    """Have librosa compile its functions."""
    vocoders.griffin_lim_mel(np.zeros(SAMPLE_RATE // 4), np.random.default_rng(0))


def _render(clips: Sequence[Clip], folder: Path, conditions: Channel, work: Callable[..., Iterable]) -> list[dict]:
    folder.mkdir(parents=True)
    made = work(partial(Clip.render, folder=folder, conditions=conditions), clips)
    return list(tqdm(made, total=len(clips), desc=folder.name, unit="clip", mininterval=1.0))


# ---------------------------------------------------------------- the layouts


TAGS = {"Copy-synthesis": "AC1", "Voice conversion": "AC2", "Text-to-speech": "AC3"}
"""Kind of attack -> ATTACK_TAG; made-up attacks take the first."""


def protocol_row(clip: Clip, number: int) -> str:
    """One trial in ASVspoof 5's format: ten columns, single spaces.

    `number` picks the made-up CODEC_SEED. ATTACK_TAG is that of the kind (`TAGS`).
    """
    name = clip.file.removesuffix(".flac")
    coded = ("-", "-", "-") if clip.codec == "-" else (clip.codec, "1", f"{name[0]}_{9_000_000_000 + number:010d}")
    spoofed = clip.label == "spoof"
    kind = METHODS[clip.method][0] if clip.method in METHODS else "Copy-synthesis"
    tag, label = (TAGS[kind], clip.attack) if spoofed else ("-", "bonafide")
    return " ".join((clip.speaker, name, clip.gender, *coded, tag, label, clip.label, "-"))


def _write_asvspoof5(
    target: Path,
    parts: Sequence[tuple[Split, list[Clip]]],
    work: Callable[..., Iterable],
    about: Mapping[str, object],
    made_from: str,
) -> None:
    with writing(target) as root:
        root.mkdir(parents=True)
        records = {}
        for split, clips in parts:
            measured = _render(clips, root / split.folder, split.channel, work)
            trials = [(c, m) for c, m in zip(clips, measured, strict=True) if c.label != "enrolment"]
            rows = [protocol_row(clip, number) for number, (clip, _) in enumerate(trials)]
            (root / split.protocol).write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")
            records[split.name] = _summary(split, trials, len(clips) - len(trials))
        _describe(root, parts, records, about, made_from)


def _write_wild(
    target: Path,
    split: Split,
    clips: list[Clip],
    work: Callable[..., Iterable],
    about: Mapping[str, object],
    made_from: str,
) -> None:
    with writing(target) as root:
        root.mkdir(parents=True)
        measured = _render(clips, root / split.folder, split.channel, work)
        with (root / split.folder / split.protocol).open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["file", "speaker", "label"])
            for clip in clips:
                label = "bona-fide" if clip.label == "bonafide" else "spoof"
                table.writerow([clip.file, f"Speaker {clip.speaker[2:]}", label])
        summary = _summary(split, list(zip(clips, measured, strict=True)), 0)
        _describe(root, [(split, clips)], {split.name: summary}, about, made_from)


def _summary(split: Split, trials: Sequence[tuple[Clip, dict[str, float]]], extras: int) -> dict[str, object]:
    bonafide = np.array([clip.label == "bonafide" for clip, _ in trials])
    measured = {cue: np.array([m[cue] for _, m in trials]) for cue in trials[0][1]}
    attacks = [clip.attack for clip, _ in trials]

    def against_all_bonafide(attack: str) -> dict[str, float]:
        chosen = bonafide | np.array([a == attack for a in attacks])
        return channel.single_cue_errors({cue: m[chosen] for cue, m in measured.items()}, bonafide[chosen])

    return {
        "trials": len(trials),
        "bonafide": int(bonafide.sum()),
        "spoof": int((~bonafide).sum()),
        "enrolment_extras": extras,
        "speakers": sorted({clip.speaker for clip, _ in trials}),
        "attacks": {a: {"method": m, "clips": attacks.count(a)} for a, m in split.attacks.items()},
        "seconds": round(float(measured["duration_s"].sum()), 1),
        "sampling_rate": split.channel.rate,
        "cue_eer": _rounded(channel.cue_errors(measured, bonafide)),
        "cue_eer_by_attack": {attack: _rounded(against_all_bonafide(attack)) for attack in split.attacks},
    }


def _rounded(errors: Mapping[str, float]) -> dict[str, float]:
    return {cue: round(error, 4) for cue, error in errors.items()}


def _versions() -> dict[str, str]:
    packages = ("av", "espeakng-loader", "librosa", "numpy", "pyworld-prebuilt", "scipy", "soundfile", "soxr")
    return {package: metadata.version(package) for package in packages}


def _source_digests(recordings: Sequence[Recording]) -> dict[str, dict[str, object]]:
    digests = {}
    for source in sorted({r.source for r in recordings}):
        mine = [r for r in recordings if r.source == source]
        together = hashlib.sha256("\n".join(f"{r.sha256}  {r.path}" for r in mine).encode()).hexdigest()
        digests[source] = {"files": len(mine), "sha256_of_list": together}
    return digests


def _describe(
    root: Path,
    parts: Sequence[tuple[Split, list[Clip]]],
    records: Mapping[str, Mapping],
    about: Mapping[str, object],
    made_from: str,
) -> None:
    """Write `clips.tsv` (what each clip is), `record.json` and `SOURCES.md`."""
    with (root / "clips.tsv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["split", "file", "speaker", "label", "attack", "method", "codec", "recordings"])
        for split, clips in parts:
            for c in clips:
                used = "" if c.spoken is not None else " ".join(c.excerpt.recordings)
                table.writerow([split.name, c.file, c.speaker, c.label, c.attack, c.method, c.codec, used])
    record = {**about, "splits": records}
    (root / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (root / "SOURCES.md").write_text(_sources_text([split for split, _ in parts], records, about, made_from), "utf-8")


def _sources_text(
    splits: Sequence[Split], records: Mapping[str, Mapping], about: Mapping[str, object], made_from: str
) -> str:
    voices = [
        [f"{split.prefix}_{VOICES[v].number}", split.name, VOICES[v].gender, VOICES[v].about, VOICES[v].credit]
        for split in splits
        for v in split.voices
    ]
    attacks = [
        [attack, split.name, method, _first_sentence(method), str(records[split.name]["attacks"][attack]["clips"])]
        for split in splits
        for attack, method in split.attacks.items()
    ]
    counted = ("bonafide", "spoof", "enrolment_extras", "seconds", "sampling_rate")
    cues = next(iter(records.values()))["cue_eer"]
    return SOURCES_PAGE.format(
        made_from=made_from,
        seed=about["seed"],
        counts=_table(["split", *counted], [[name, *(str(r[c]) for c in counted)] for name, r in records.items()]),
        voices=_table(["speaker", "split", "gender", "what", "credit and licence"], voices),
        attacks=_table(["id", "split", "method", "what", "clips"], attacks),
        codecs=_table(
            ["tag", "codec"], [[c, channel.CODEC_NAMES[c]] for c in sorted({*sum((s.codecs for s in splits), ())})]
        ),
        cues=_table(
            ["cue", *records], [[c, *(f"{100 * r['cue_eer'][c]:.1f}" for r in records.values())] for c in cues]
        ),
        by_attack=_table(
            ["split", "attack", "cue", "EER %"],
            [
                [name, attack, cue := min(errors, key=errors.get), f"{100 * errors[cue]:.1f}"]
                for name, r in records.items()
                for attack, errors in r["cue_eer_by_attack"].items()
            ],
        ),
    )


def _first_sentence(method: str) -> str:
    if method == "speak":
        return "espeak-ng formant synthesis of short sentences of our own"
    if method == "speak_klatt":
        return "as speak, by espeak-ng's Klatt synthesiser"
    made = vocoders.METHODS.get(method) or MADE_UP[method]
    return " ".join((made.__doc__ or "").split("\n\n")[0].split()).rstrip(".")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


SOURCES_PAGE = """# What this corpus is made of

{made_from}

Seed {seed}; versions and digests in `record.json`; each clip's method and recordings in `clips.tsv`.

{counts}

## Speakers

{voices}

## Attacks

They are this corpus's own: other methods than those of ASVspoof 5. AC1 is copy-synthesis of the excerpt, AC2 voice
conversion, AC3 text-to-speech.

{attacks}

## Codecs

{codecs}

The tags are this corpus's own, too. CODEC_Q is always 1, CODEC_SEED made up.

## What can be told without listening

EER in % of each cue alone, in the better of its two directions (at most 50), and of logistic regression and gradient
boosting on all cues together (5-fold cross-validation). 50 is chance. Nothing is claimed about cues not in this table.

{cues}

That pools the attacks, and two that err to opposite sides can hide each other. For each attack against all bona fide
clips of its split, the cue that tells most (all are in `record.json`):

{by_attack}
"""


MADE_FROM = """\
Real recordings of sixteen voices, remade by real spoofing methods. Adapted for this corpus: cut, joined, vocoded,
filtered, mixed with noise and coded. Only the layout of the protocols is ASVspoof 5's.

How a clip is made: a speaker's recordings are trimmed, brought to one level, joined in random order and cut near
random lengths at a quiet place. Each excerpt (1.5–3.5 s) gives two trials: itself, bona fide, and a spoof of it; a
text-to-speech clip is at most as long as the excerpt whose place it takes. A spoof is given the excerpt's long-term
spectrum and, except for text-to-speech, its slow loudness contour. Then both go the same way: once more through the
codec in which the recordings are distributed, silence before and after, random polarity, random all-pass phase,
noise, band-pass, level and, where the split has one, a codec. Synthetic speech from text first passes the codec of
distribution once by itself, as the recordings did.

No recording is in two splits. Unlike in ASVspoof 5, train, dev, eval and text_to_speech share their eight voices (each
split names them with its own prefix). The eight unseen voices occur nowhere else. A voice of the stamps is the
recordings of one language whose median pitch lies in one range: that they are one person's was not established.

The recordings may be had from their publishers or as Debian packages; the licence texts are
<https://creativecommons.org/licenses/by-sa/3.0/>, <https://creativecommons.org/licenses/by/3.0/> and
<https://www.gnu.org/licenses/old-licenses/gpl-2.0.html>. Clips inherit the licence of the recordings they come
from; text-to-speech clips hold nothing of a recording."""


# ---------------------------------------------------------------- made-up signals


def _voice_like(rng: Generator, pitch_hz: np.ndarray, odd_only: bool = False) -> np.ndarray:
    """Sum of harmonics below 4 kHz, weighted by three random formants, in syllables; one `pitch_hz` a sample."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    formants = rng.uniform([300, 900, 2200], [800, 1800, 3200])
    wave = np.zeros(len(pitch_hz))
    for k in range(1, int(4000 / pitch_hz.max()) + 1, 2 if odd_only else 1):
        gain = 0.05 + sum(np.exp(-0.5 * ((k * pitch_hz.mean() - f) / 180) ** 2) for f in formants)
        wave += gain * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    beat = np.sin(2 * np.pi * rng.uniform(2.5, 4) * np.arange(len(wave)) / SAMPLE_RATE)
    return wave * (0.1 + np.maximum(beat, 0))


def _live_pitch(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Pitch that glides and trembles around `base_hz`."""
    time = np.arange(length) / SAMPLE_RATE
    glide = rng.uniform(0.05, 0.15) * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * time)
    knots = np.arange(0, time[-1] + 0.02, 0.01)
    return base_hz * (1 + glide + np.interp(time, knots, rng.normal(0, 0.02, len(knots))))


def live(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Made-up bona fide: every harmonic, pitch that glides and trembles."""
    return _voice_like(rng, _live_pitch(rng, base_hz, length))


def monotone(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Made-up attack: pitch dead level."""
    return _voice_like(rng, np.full(length, base_hz))


def hollow(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Made-up attack: odd harmonics only."""
    return _voice_like(rng, _live_pitch(rng, base_hz, length), odd_only=True)


def stepped(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Made-up attack: pitch moves in steps of 60 ms."""
    return _voice_like(rng, np.repeat(_live_pitch(rng, base_hz, length)[::960], 960)[:length])


def glide(rng: Generator, base_hz: float, length: int) -> np.ndarray:
    """Made-up attack: pitch in a straight line, without tremble."""
    return _voice_like(rng, base_hz * np.linspace(rng.uniform(0.85, 1), rng.uniform(1, 1.15), length))


MADE_UP = {f.__name__: f for f in (monotone, hollow, stepped, glide)}
"""Name -> made-up attack of the synthetic corpora."""

MADE_UP_SPLITS = (
    Split(
        "train",
        "T",
        "flac_T",
        "ASVspoof5.train.tsv",
        voices=SEEN[:6],
        pairs=24,
        attacks={"A01": "monotone", "A02": "hollow"},
    ),
    Split(
        "dev",
        "D",
        "flac_D",
        "ASVspoof5.dev.track_1.tsv",
        voices=SEEN[:6],
        pairs=12,
        attacks={"A09": "monotone", "A10": "hollow"},
        enrolment=2,
    ),
    Split(
        "eval",
        "E",
        "flac_E_eval",
        "ASVspoof5.eval.track_1.tsv",
        voices=SEEN[:6],
        pairs=16,
        attacks={"A17": "monotone", "A18": "hollow", "A19": "stepped", "A20": "glide"},
        codecs=("-", "C05", "C11"),
        enrolment=2,
    ),
    Split(
        "in_the_wild",
        "W",
        "release_in_the_wild",
        "meta.csv",
        voices=UNSEEN[:2],
        pairs=12,
        attacks={"W1": "stepped", "W2": "glide"},
        codecs=("C05",),
        channel=FIELD,
    ),
)


def build_synthetic(root: Path, seed: int = 5, jobs: int = 1) -> None:
    """Write both layouts from made-up signals, in seconds, without recordings or network: a test of the pipeline only.

    48 train, 24 dev, 32 eval and 24 out-of-domain clips of about a second, four attacks, two codecs. Same seed and
    versions, same bytes, whatever `jobs`.
    """
    root = Path(root)
    plans = []
    for index, split in enumerate(MADE_UP_SPLITS):
        rng = np.random.default_rng([seed, index])
        excerpts = [
            _made_up(split.voices[n % len(split.voices)], live, rng) for n in range(split.pairs + split.enrolment)
        ]
        clips = _plan(split, index, seed, excerpts)
        plans.append((split, [_with_made_up_attack(clip) for clip in clips]))
    about = {"seed": seed, "sources": "none: made-up signals", "versions": _versions()}
    with _workers(jobs) as work:
        _write_asvspoof5(root / "asvspoof5", plans[:-1], work, about, MADE_UP_FROM)
        _write_wild(root / "in_the_wild", *plans[-1], work, about, MADE_UP_FROM)


def _made_up(voice: str, kind: Callable[[Generator, float, int], np.ndarray], rng: Generator) -> Excerpt:
    base_hz = rng.uniform(90, 140) if VOICES[voice].gender == "M" else rng.uniform(160, 240)
    return Excerpt(voice, kind(rng, base_hz, int(rng.uniform(0.8, 1.1) * SAMPLE_RATE)), ())


def _with_made_up_attack(clip: Clip) -> Clip:
    if not clip.method:
        return clip
    rng = np.random.default_rng([*clip.seed, 1])
    return replace(clip, spoken=_made_up(clip.excerpt.voice, MADE_UP[clip.method], rng).speech)


MADE_UP_FROM = """\
**Everything here is made up**: sums of harmonics that stand for voices, without any recording or speech. It serves
to run the whole pipeline in seconds; no number obtained on it says anything about anti-spoofing. The speakers below
only lend the protocol their numbers, genders and distribution codecs. Free of rights (CC0)."""
