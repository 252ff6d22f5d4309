"""Protocol readers against the pitfalls of the corpora; recordings in folders, archives and indexes."""

import hashlib
import io
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spaarsist.artefacts import trials_hash
from spaarsist.data import audio, protocol
from spaarsist.data.protocol import COLUMNS, make_index, make_trials, read_trials
from spaarsist.names import ConfigError
from test_archives import sound, write_tar, write_zip

ROWS = [
    "T_4850 T_0000000000 F - - - AC3 A05 spoof -",
    "T_3734 T_0000000011 F - - - - bonafide bonafide -",
    "E_1607 E_0009538969 M C05 2 E_0009486171 AC1 A26 spoof -",
]


@pytest.fixture
def corpus(tmp_path):
    """Write a protocol and its recordings; returns make_trials with everything but the text filled in."""
    folder = tmp_path / "flac_E_eval"
    folder.mkdir()
    for name in ("T_0000000000.flac", "T_0000000011.flac", "E_0009538969.flac", "E_enrolment.flac"):
        soundfile.write(folder / name, np.zeros(800), 16_000)
    for name in ("0.wav", "1.wav"):
        soundfile.write(folder / name, np.zeros(2205), 44_100)

    def make(text, form="asvspoof5", folder=folder, expected=0, raw=None, checksum="", subset=""):
        path = tmp_path / "protocol.tsv"
        path.write_bytes(raw if raw is not None else text.encode())
        return make_trials(path, form, [folder], tmp_path / "trials.tsv", expected, checksum, subset)

    return make


class TestASVspoof5:
    def test_the_first_row_is_a_trial(self, corpus, tmp_path):
        """No header, single spaces in spite of .tsv, no line end at the end; enrolment extras are ignored."""
        table = corpus("\n".join(ROWS))
        assert tuple(table.columns) == COLUMNS
        assert table["trial_id"].tolist() == ["T_0000000000", "T_0000000011", "E_0009538969"]
        assert table["label"].tolist() == ["spoof", "bonafide", "spoof"]
        assert table["attack_id"].tolist() == ["A05", "-", "A26"]
        assert table["codec"].tolist() == ["-", "-", "C05"]
        assert table["speaker_id"].tolist() == ["T_4850", "T_3734", "E_1607"]
        assert table["n_samples"].tolist() == [800] * 3
        assert read_trials(tmp_path / "trials.tsv").equals(table)

    def test_only_line_feeds_end_lines(self, corpus):
        """Other separators that Python knows may stand in names."""
        rows = "file,speaker,label\n0.wav,A\u2028B\x0bC\x85D,spoof\n1.wav,E,bona-fide\n"
        assert corpus(rows, "in_the_wild")["speaker_id"][0] == "A\u2028B\x0bC\x85D"

    def test_windows_line_ends_and_byte_order_mark(self, corpus):
        assert len(corpus("", raw=b"\xef\xbb\xbf" + "\r\n".join(ROWS).encode() + b"\r\n")) == 3

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no trials"),
            ("T_4850 T_0000000000 F AC3 A05 spoof", "line 1: 6 columns instead of 10: .*challenge-phase"),
            (ROWS[0].replace(" ", "\t"), "line 1: 1 columns instead of 10: .*has tabs"),
            ("\n".join([ROWS[0], ROWS[1] + " x"]), "line 2: 11 columns instead of 10"),
            ("SPEAKER FILE GENDER CODEC CODEC_Q CODEC_SEED ATTACK_TAG ATTACK_LABEL KEY TMP", "line 1: .*header"),
            (ROWS[1].replace("- bonafide bonafide", "- A05 bonafide"), "line 1: key 'bonafide' and .*'A05' contradict"),
            (ROWS[0].replace("A05", "bonafide"), "line 1: key 'spoof' and .*'bonafide' contradict"),
            (ROWS[0].replace("spoof", "fake"), "line 1: label 'fake'; expected bonafide or spoof"),
            ("\n".join([ROWS[0], ROWS[1], ROWS[0]]), "line 3: T_0000000000 was already on line 1"),
            (ROWS[0].replace("T_0000000000", "T_0000000099"), "1 of 1 recordings are not in .*T_0000000099.flac"),
        ],
    )
    def test_what_is_wrong_is_named(self, corpus, tmp_path, text, message):
        with pytest.raises(ConfigError, match=message):
            corpus(text)
        assert not list(tmp_path.glob("*trials*")), "nothing half-written may stay"

    def test_row_count_of_the_release(self, corpus):
        assert len(corpus("\n".join(ROWS), expected=3)) == 3
        with pytest.raises(ConfigError, match="3 trials, the release has 4"):
            corpus("\n".join(ROWS), expected=4)

    def test_folder_named_as_its_tars(self, corpus, tmp_path):
        """The tars are called flac_E_*, what is in them flac_E_eval."""
        (tmp_path / "flac_E_aa.tar").touch()
        with pytest.raises(ConfigError, match=r"flac_E: no such folder, .* is flac_E_aa\.tar, flac_E_eval beside"):
            corpus("\n".join(ROWS), folder=tmp_path / "flac_E")

    def test_unsound_recording(self, corpus, tmp_path):
        (tmp_path / "flac_E_eval" / "T_0000000011.flac").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"T_0000000011\.flac: empty file"):
            corpus("\n".join(ROWS))


class TestASVspoof2019And2021:
    LA19 = ("LA_0079 E_0009538969 - - bonafide", "LA_0069 T_0000000000 - A01 spoof")
    LA21 = (
        "LA_0009 E_0009538969 alaw ita_tx A07 spoof notrim eval",
        "LA_0007 T_0000000000 none - bonafide bonafide notrim progress",
        "LA_0011 T_0000000011 opus loc_tx A08 spoof trim hidden",
    )
    DF21 = (
        "LA_0023 E_0009538969 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
        "TEF2 T_0000000000 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder Task1 team20 FF E",
        "LA_0054 T_0000000011 high_m4a asvspoof - bonafide notrim eval bonafide - - - -",
    )

    def cells(self, table):
        return table.drop(columns=["path", "n_samples"]).agg(" ".join, axis=1).tolist()

    def test_columns(self, corpus, tmp_path):
        assert self.cells(corpus("\n".join(self.LA19), "asvspoof2019")) == [
            "E_0009538969 bonafide LA_0079 - -",
            "T_0000000000 spoof LA_0069 A01 -",
        ]
        assert self.cells(corpus("\n".join(self.LA21) + "\n", "asvspoof2021")) == [
            "E_0009538969 spoof LA_0009 A07 alaw",
            "T_0000000000 bonafide LA_0007 - none",
            "T_0000000011 spoof LA_0011 A08 opus",
        ]
        table = corpus("\n".join(self.DF21), "asvspoof2021")
        assert self.cells(table) == [
            "E_0009538969 spoof LA_0023 A14 nocodec traditional_vocoder",
            "T_0000000000 spoof TEF2 Task1-team20 low_m4a neural_vocoder",
            "T_0000000011 bonafide LA_0054 - high_m4a -",
        ]
        assert read_trials(tmp_path / "trials.tsv").equals(table)
        lines = (tmp_path / "trials.tsv").read_text().splitlines()
        text = "".join("\t".join(line.split("\t")[:1] + line.split("\t")[2:]) + "\n" for line in lines)
        assert trials_hash(tmp_path / "trials.tsv") == hashlib.sha256(text.encode()).hexdigest()

    @pytest.mark.parametrize(("subset", "ids"), [("eval", [0]), ("progress", [1]), ("hidden", [2]), ("", [0, 1, 2])])
    def test_subsets(self, corpus, subset, ids):
        """Recordings of other subsets are not asked for."""
        rows = [row.replace("T_0000000011", "T_0000000011" if 2 in ids else "LA_E_none") for row in self.LA21]
        found = corpus("\n".join(rows), "asvspoof2021", subset=subset)["trial_id"].tolist()
        assert found == [self.LA21[i].split()[1] for i in ids]

    @pytest.mark.parametrize(
        ("rows", "form", "subset", "message"),
        [
            (LA19, "asvspoof2021", "", "line 1: 5 columns .* 8 or 13, in all lines as many; take CM/trial_metadata"),
            (["LA_E_1"], "asvspoof2021", "", "line 1: 1 columns between single spaces instead of 8 or 13"),
            ([LA21[0], DF21[0]], "asvspoof2021", "", "line 2: 13 columns"),
            ([LA21[0], "", LA21[1]], "asvspoof2021", "", "line 2: 1 columns"),
            ([LA21[0].replace("eval", "test")], "asvspoof2021", "", "line 1: subset 'test'; expected one of progress"),
            ([LA21[0].replace("A07", "-")], "asvspoof2021", "", "line 1: key 'spoof' and attack '-' contradict"),
            ([LA21[0].replace("spoof", "bonafide")], "asvspoof2021", "", "'bonafide' and attack 'A07' contradict"),
            ([LA21[0].replace("spoof", "fake")], "asvspoof2021", "", "line 1: label 'fake'"),
            ([LA21[0]], "asvspoof2021", "hidden", "no trials of hidden; it has eval"),
            ([LA21[0]], "asvspoof2021", "test", "subset 'test' of asvspoof2021: there are progress, eval, hidden"),
            (LA19, "asvspoof2019", "eval", "subset 'eval' of asvspoof2019: .* of asvspoof2021 alone"),
            (LA21, "asvspoof2019", "", "line 1: 8 columns between single spaces instead of 5"),
            ([LA19[0].replace("- -", "aaa -")], "asvspoof2019", "", "environment 'aaa', as in physical access"),
        ],
    )
    def test_what_is_wrong_is_named(self, corpus, tmp_path, rows, form, subset, message):
        with pytest.raises(ConfigError, match=message):
            corpus("\n".join(rows), form, subset=subset)
        assert not (tmp_path / "trials.tsv").exists()


class TestInTheWild:
    def test_hyphen_and_spaces(self, corpus):
        rows = 'file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,"Guinness, Alec",bona-fide\n'
        table = corpus(rows, "in_the_wild")
        assert table["label"].tolist() == ["spoof", "bonafide"]
        assert table["speaker_id"].tolist() == ["Alec Guinness", "Guinness, Alec"]
        assert table["n_samples"].tolist() == [800, 800], "samples are counted at 16 kHz"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0.wav,Alec Guinness,spoof\n", "line 1: the header lacks file, speaker, label"),
            ("file,speaker,label\n0.wav,spoof\n", "line 2: not 3 columns"),
            ("file,speaker,label\n0.wav,A,B,spoof\n", "line 2: not 3 columns"),
            ("file,speaker,label\n0.wav,A,bona fide\n", "line 2: label 'bona fide'"),
        ],
    )
    def test_what_is_wrong_is_named(self, corpus, text, message):
        with pytest.raises(ConfigError, match=message):
            corpus(text, "in_the_wild")


class TestEveryLineIsARow:
    """Whatever stands in a table, no row is lost and no label moves: it is read as it stands, or the line is named."""

    ROWS = ("0.wav,bonafide,Ann", "1.wav,spoof,Bo")

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (('0.wav,spoof,"Ann', '1.wav,bonafide,Bo"'), "line 2: no row of cells .*quote"),
            (('0.wav,spoof,"An"n', "1.wav,bonafide,Bo"), "line 2: no row of cells .*quote"),
            (("0.wav,spoof,Ann", '"' + 200_000 * "x"), "line 3: no row of cells .*quote"),
            (("0.wav,spoof,Ann", "1.wav,spoof,Bo,"), "line 3: not 3 columns, as in line 1, but 4"),
            (("0.wav,spoof,Ann", "1.wav,spoof"), "line 3: not 3 columns, as in line 1, but 2"),
            (("0.wav,spoof,Ann", "", "1.wav,spoof,Bo"), "line 3: not 3 columns, as in line 1, but 0"),
            (("0.wav,spoof,Ann", ",spoof,Bo"), "line 3: an empty name"),
            (("0.wav,spoof,Ann", "1.wav,,Bo"), "line 3: label ''"),
            (("0.wav,spoof,Ann", "1.wav,-,Bo"), "line 3: label ''"),
            (("0.wav,spoof,Ann", "1.wav,spoof,A\tB"), "line 3: .*a tab or line break"),
            (("0.wav,spoof,Ann", "1.wav,spoof,A\0B"), "line 3: .*a tab or line break"),
            (("0.wav,spoof,Ann", "1.wav,spoof,A\rB"), "line 4: not 3 columns"),
            (("0.wav,spoof,Ann", '1.wav,spoof,"""Bo"""'), "line 3: .*quotes around it"),
            (("0.wav,spoof,Ann", "./0.wav,spoof,Bo"), r"line 3: \./0\.wav is the recording that line 2 calls 0\.wav"),
            (("0.wav,spoof,Ann", "flac_E_eval/0.wav,spoof,Bo"), "line 3: .* is the recording that line 2 calls"),
        ],
    )
    def test_or_is_named(self, corpus, tmp_path, rows, message):
        with pytest.raises(ConfigError, match=message):
            corpus("\n".join(["file,label,speaker", *rows]), "list")
        assert not list(tmp_path.glob("*trials*"))

    @pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r"])
    def test_blank_lines_at_the_end(self, corpus, end):
        text = "\n".join(["file,label,speaker", *self.ROWS])
        assert corpus(text + end, "list")["label"].tolist() == ["bonafide", "spoof"]

    def test_balanced_quotes(self, corpus):
        table = corpus(
            'file,label,speaker\n"0.wav","spoof","Guinness, ""Sir"" Alec"\n1.wav,bonafide,5" Bo\n'
            'T_0000000000.flac,spoof,""""\n',
            "list",
        )
        assert table["speaker_id"].tolist() == ['Guinness, "Sir" Alec', '5" Bo', '"']
        assert table["label"].tolist() == ["spoof", "bonafide", "spoof"]

    @pytest.mark.parametrize("form", ["list", "in_the_wild"])
    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("file,label,label,speaker", "line 1: 2 columns are called label"),
            ("file,file,label,speaker", "line 1: 2 columns are called file"),
            ("file,Label,speaker", "line 1: column 'Label' is to be called label"),
            ("file,label,speaker_id", "line 1: column 'speaker_id' is to be called speaker"),
            ("file, label,speaker", "line 1: column ' label' is to be called label"),
            ("file,abel,speaker", "line 1: column 'abel' is nearly label, which is missing; rename it"),
            ("fil,label,speaker", "line 1: column 'fil' is nearly file"),
            (
                "file,label one.flac,speaker",
                "line 1: column 'label one.flac' is to be called label",
            ),  # a lost line break
            ("filename,label,speaker", "line 1: the header lacks file; it reads 'filename, label, speaker'"),
        ],
    )
    def test_columns(self, corpus, form, header, message):
        with pytest.raises(ConfigError, match=message):
            corpus(f"{header}\n0.wav,spoof,spoof,Ann\n", form)


class TestNearNames:
    """Recordings that are there under nearly the name given: the message says under which, or why not."""

    @pytest.fixture
    def look(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("a.wav", "sub/B.wav", "e\u0301.flac", "elsewhere/c.wav"):
            path = tmp_path / ("" if name.startswith("elsewhere") else "audio") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(800), 16_000)

        def look(name, *sources):
            (tmp_path / "p.csv").write_text(f"file,label\n{name},spoof\n")
            return make_trials(Path("p.csv"), "list", [Path(s) for s in sources or ("audio",)], Path("trials.tsv"))

        return look

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("a", "there is audio/a.wav: write it so"),
            ("a.flac", "there is audio/a.wav:"),
            ("A.WAV", "there is audio/a.wav:"),
            ("/somewhere/audio/a.wav", "there is audio/a.wav:"),
            ("../audio/a.wav", "there is audio/a.wav:"),
            ("data\\\\a.wav", "there is audio/a.wav:"),
            ("other/a.wav", "there is audio/a.wav:"),
            ("sub/b.wav", "there is audio/sub/B.wav:"),
            ("\u00e9.flac", "there is audio/e\u0301.flac, in another Unicode form:"),
            ("elsewhere/c.wav", "c.wav exists, but elsewhere: add its folder"),
        ],
    )
    def test_is_said(self, look, name, near):
        with pytest.raises(ConfigError, match=rf"p\.csv: 1 of 1 recordings \(.*{near}.*\) are not in audio: "):
            look(name.replace("\\\\", "\\"))

    def test_nothing_is_made_up(self, look):
        with pytest.raises(ConfigError, match=r"1 of 1 recordings are not in audio: z\.wav$"):
            look("z.wav")

    @pytest.mark.parametrize("sources", [("audio", "audio"), ("audio", "./audio"), ("audio/sub", "audio")])
    def test_a_folder_given_twice_or_within_another(self, look, sources):
        with pytest.raises(ConfigError, match=r"B\.wav is in two places: .* which are one file: it is given twice"):
            look("B.wav", *sources)
        Path("audio/C.wav").write_bytes(Path("audio/a.wav").read_bytes())
        Path("elsewhere/C.wav").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"two places: audio/C\.wav and elsewhere/C\.wav; set"):
            look("C.wav", "audio", "elsewhere")


@pytest.mark.parametrize("folder", ["a\tb", "a\nb", b"a\xffb"])
def test_folders_that_no_list_can_hold(tmp_path, folder):
    folder = tmp_path / os.fsdecode(folder)
    folder.mkdir()
    (folder / "a.wav").write_bytes(sound(800))
    (tmp_path / "p.csv").write_text("file,label\na.wav,spoof\n")
    with pytest.raises(
        ConfigError, match=r"p\.csv, line 2: '.*a\.wav' has a tab or line break within it, or is no text"
    ):
        make_trials(tmp_path / "p.csv", "list", [folder], tmp_path / "trials.tsv")
    assert not (tmp_path / "trials.tsv").exists()


class TestOutputIsNoInput:
    @pytest.mark.parametrize("output", ["p.csv", "link.csv", "x/../p.csv", "audio/a.wav", "i.tsv"])
    def test_refused(self, tmp_path, output):
        (tmp_path / "audio").mkdir()
        (tmp_path / "x").mkdir()
        soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(800), 16_000)
        (tmp_path / "p.csv").write_text("file,label\na.wav,spoof\n")
        (tmp_path / "i.tsv").write_text("\t".join(protocol.INDEX_COLUMNS) + "\n")
        (tmp_path / "link.csv").symlink_to("p.csv")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
        with pytest.raises(ConfigError, match="this command reads it"):
            make_trials(tmp_path / "p.csv", "list", [tmp_path / "audio", tmp_path / "i.tsv"], tmp_path / output)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


class TestWithoutLabels:
    def test_is_listed_and_said(self, corpus, tmp_path, capsys):
        table = corpus("file\n0.wav\n1.wav\n", "list")
        assert table["label"].tolist() == ["-", "-"] and read_trials(tmp_path / "trials.tsv").equals(table)
        assert "protocol.tsv: no column label, so the trials can be scored" in capsys.readouterr().err
        with pytest.raises(ConfigError, match=r"trials\.tsv: no labels, which this needs"):
            read_trials(tmp_path / "trials.tsv", both_classes=True)

    def test_a_class_is_missing(self, corpus, tmp_path):
        corpus("file,label\n0.wav,bonafide\n1.wav,bonafide\n", "list")
        read_trials(tmp_path / "trials.tsv")
        with pytest.raises(ConfigError, match=r"trials\.tsv: no spoof trials"):
            read_trials(tmp_path / "trials.tsv", both_classes=True)


class TestList:
    def test_file_and_label_are_enough(self, corpus):
        table = corpus("file,label\n0.wav,bonafide\n1.wav,spoof\n", "list")
        assert table["label"].tolist() == ["bonafide", "spoof"]
        assert (table[["speaker_id", "attack_id", "codec"]] == "-").all(axis=None)

    def test_more_columns_in_any_order_and_tabs(self, corpus):
        table = corpus("codec\tlabel\tfile\tattack\tother\nmp3\tspoof\t0.wav\tTTS\tx\n", "list")
        assert table.loc[0, ["attack_id", "codec", "speaker_id"]].tolist() == ["TTS", "mp3", "-"]

    def test_names_as_find_prints_them(self, corpus):
        table = corpus("file,label\n./0.wav,bonafide\n.//1.wav,spoof\n", "list")
        assert table["trial_id"].tolist() == ["./0.wav", ".//1.wav"], "the protocol's own"
        assert [path[-17:] for path in table["path"]] == ["flac_E_eval/0.wav", "flac_E_eval/1.wav"]


def test_not_text(corpus):
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        corpus("", raw=b"\x00\xff\xfe\x81")


def test_read_trials_refuses_other_tables(tmp_path):
    (tmp_path / "a.tsv").write_text("file\tlabel\n0.wav\tspoof\n")
    with pytest.raises(ConfigError, match="a trial list has the columns"):
        read_trials(tmp_path / "a.tsv")
    with pytest.raises(ConfigError, match="not readable as a trial list"):
        read_trials(tmp_path / "gone.tsv")


class TestTrialListByHand:
    """What editors and spreadsheets do to a trial list: read as before, or the line is named."""

    ROWS = ("T_1\t/a/T_1.flac\tspoof\tS1\tA01\t-\t64000", "T_2\t/a/T_2.flac\tbonafide\tS2\t-\tC01\t32000")

    def text(self, *rows):
        return "\n".join(["\t".join(COLUMNS), *(rows or self.ROWS)]) + "\n"

    def read(self, tmp_path, content):
        (tmp_path / "l.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_trials(tmp_path / "l.tsv"), trials_hash(tmp_path / "l.tsv")

    @pytest.mark.parametrize(
        "edit",
        [
            lambda content: b"\xef\xbb\xbf" + content,
            lambda content: content.replace(b"\n", b"\r\n"),
            lambda content: content.rstrip(b"\n"),
            lambda content: content + b"\n\r\n\n",
        ],
    )
    def test_reads_as_before(self, tmp_path, edit):
        table, digest = self.read(tmp_path, self.text())
        assert table["n_samples"].tolist() == [64_000, 32_000] and table["codec"].tolist() == ["-", "C01"]
        again, same = self.read(tmp_path, edit(self.text().encode()))
        assert again.equals(table) and same == digest

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ("64000", "x", "line 2: n_samples is 'x', not a whole number"),
            ("32000", "1.5", "line 3: n_samples is '1.5'"),
            ("32000", "-5", "line 3: n_samples is '-5'"),
            ("32000", "1e5", "line 3: n_samples is '1e5'"),
            ("32000", "\u0663", "line 3: n_samples is"),
            ("32000", "9" * 20, "line 3: n_samples is"),
            ("\tC01\t32000", "", "line 3: not 7 columns"),
            ("S1", "S\n1", "line 2: not 7 columns"),
            ("S1", "S\r1", "line 2: .*line break"),
            ("S2", '"S, 2"', "line 3: .*quotes around it"),
            ("S2", "", "line 3: an empty cell; write -"),
            ("/a/T_2.flac", "", "line 3: an empty name"),
            ("T_2\t", "T_1\t", "line 3: T_1 was already on line 2"),
            ("bonafide", "-", "line 3: label '-'"),
            ("bonafide", "Bonafide", "line 3: label 'Bonafide'"),
            ("codec", "label", "a trial list has the columns"),
            ("trial_id", '"trial_id"', "a trial list has the columns"),
            ("T_2", "\n\nT_2", "line 3: not 7 columns"),
        ],
    )
    def test_or_is_named(self, tmp_path, before, after, message):
        with pytest.raises(ConfigError, match=rf"l\.tsv.*{message}"):
            self.read(tmp_path, self.text().replace(before, after, 1))

    def test_no_text(self, tmp_path):
        with pytest.raises(ConfigError, match=r"l\.tsv: .*save it as UTF-8"):
            self.read(tmp_path, self.text().encode("utf-16"))


class TestArchives:
    """Recordings named by their file, found by it in folders, archives and indexes, in whatever subfolder."""

    PROTOCOL = "file,label,codec\nT_0.flac,bonafide,-\nT_1.flac,spoof,C01\nT_2.flac,spoof,-\n"
    PLACES = ("T_0.flac", "./T_1.flac", "flac_T/T_2.flac")

    @pytest.fixture
    def root(self, tmp_path):
        """An archive of each kind and an extracted folder; each also holds an enrolment recording, of junk."""
        contents = {name: sound(100 + i) for i, name in enumerate(self.PLACES)} | {"T_9.flac": b"junk", "meta.csv": b""}
        write_tar(tmp_path / "a.tar", contents)
        write_zip(tmp_path / "a.zip", contents)
        (tmp_path / "x" / "flac_T").mkdir(parents=True)
        for name, content in contents.items():
            (tmp_path / "x" / name).write_bytes(content)
        (tmp_path / "protocol.csv").write_text(self.PROTOCOL)
        return tmp_path

    def make(self, root, *sources, text=None, **more):
        if text is not None:
            (root / "protocol.csv").write_text(text)
        return make_trials(root / "protocol.csv", "list", [root / s for s in sources], root / "trials.tsv", **more)

    def index(self, root, archive):
        make_index(root / archive, root / f"{archive}.tsv")
        return f"{archive}.tsv"

    @pytest.mark.parametrize("source", ["x", "a.tar", "a.zip", "index of a.tar", "index of a.zip"])
    def test_every_source_gives_the_same_trials(self, root, source):
        table = self.make(root, self.index(root, source.split()[-1]) if source.startswith("index") else source)
        assert table["trial_id"].tolist() == ["T_0.flac", "T_1.flac", "T_2.flac"], "the enrolment's junk is ignored"
        assert table["n_samples"].tolist() == [800, 801, 802]
        assert table["codec"].tolist() == ["-", "C01", "-"]
        assert read_trials(root / "trials.tsv").equals(table)
        assert [len(audio.read(path)) for path in table["path"]] == [800, 801, 802]
        if source == "x":
            assert table["path"].tolist() == [(root / "x" / name).as_posix() for name in self.PLACES]

    def test_junk_at_the_end_of_an_archive(self, root):
        """A damaged member that no protocol names does not keep an index from being used."""
        archive = root / "a.zip"
        with zipfile.ZipFile(archive, "a") as zipped:
            zipped.writestr("T_8.flac", b"unlikely content")
        archive.write_bytes(archive.read_bytes().replace(b"unlikely content", b"unlikely CONTENT"))
        assert len(self.make(root, self.index(root, "a.zip"))) == 3

    def test_a_folder_of_links(self, root):
        (root / "links").mkdir()
        (root / "links" / "there").symlink_to(root / "x", target_is_directory=True)
        assert len(self.make(root, "links")) == 3

    def test_parts_in_several_places(self, root):
        (root / "x" / "flac_T" / "T_2.flac").rename(root / "x" / "flac_T" / "T_7.flac")
        text = "file,label\nT_7.flac,spoof\nflac_T/T_2.flac,spoof\n"
        table = self.make(root, "x/flac_T", self.index(root, "a.zip"), text=text)
        assert table["path"].tolist() == [f"{root}/x/flac_T/T_7.flac", f"{root}/a.zip::flac_T/T_2.flac"]
        assert table["n_samples"].tolist() == [802, 802]

    def test_what_an_index_knows_is_not_read_again(self, root, monkeypatch):
        source = self.index(root, "a.tar")
        monkeypatch.setattr(protocol, "count_samples", None)
        assert len(self.make(root, source)) == 3

    def test_missing_recordings_are_named_and_where_was_looked(self, root):
        (root / "x" / "flac_T" / "T_2.flac").unlink()
        text = self.PROTOCOL + "T_3.flac,spoof,-\n_0.flac,spoof,-\nlac_T/T_2.flac,spoof,-\n"
        lost = r"3 of 6 .* not in .*/a\.tar, .*/x/flac_T: T_3\.flac, _0\.flac, lac_T/T_2\.flac$"
        with pytest.raises(ConfigError, match=lost):
            self.make(root, "a.tar", "x/flac_T", text=text)

    @pytest.mark.parametrize("pair", [("x", "a.tar"), ("a.tar", "a.zip"), ("a.zip.tsv", "a.tar"), ("a.tar", "a.tar")])
    def test_one_in_two_places(self, root, pair):
        self.index(root, "a.zip")
        with pytest.raises(ConfigError, match=r"T_0\.flac is in two places: .*T_0\.flac.* and .*T_0\.flac"):
            self.make(root, *pair, text="file,label\nT_0.flac,spoof\n")

    def test_twice_in_one_tar(self, root):
        write_tar(root / "a.tar", {"old/T_0.flac": sound(100)}, mode="a")
        with pytest.raises(ConfigError, match=r"T_0\.flac is in two places: .*a\.tar::T_0\.flac@.* and .*::old/T_0"):
            self.make(root, "a.tar")
        text = "file,label\nold/T_0.flac,spoof\n"
        assert self.make(root, "a.tar", text=text)["path"][0].startswith(f"{root}/a.tar::old/T_0.flac@")

    @pytest.mark.parametrize("source", ["x", "a.tar", "a.zip", "a.tar.tsv"])
    def test_a_junk_recording_that_is_needed(self, root, source):
        self.index(root, "a.tar")
        with pytest.raises(ConfigError, match=r"T_9\.flac.*: not readable as audio"):
            self.make(root, source, text=self.PROTOCOL + "T_9.flac,spoof,-\n")

    @pytest.mark.parametrize("archive", ["a.tar", "a.zip"])
    @pytest.mark.parametrize("change", ["replaced", "removed", "cut"])
    def test_an_index_of_another_archive(self, root, archive, change):
        source = self.index(root, archive)
        protocol.archives._cached_zip.cache_clear()  # a zip that is open stays what it was
        whole = (root / archive).read_bytes()
        (root / archive).unlink()
        if change == "cut":
            (root / archive).write_bytes(whole[: len(whole) // 4])
        elif change == "replaced":
            (write_zip if archive == "a.zip" else write_tar)(root / archive, {"T_0.flac": sound(100)})
        with pytest.raises(ConfigError, match=rf"a\.{archive[2:]}.*(has changed|cannot be read|not readable)"):
            self.make(root, source)

    @pytest.mark.parametrize("archive", ["a.tar", "a.zip"])
    @pytest.mark.parametrize("what", ["content", "time"])
    def test_an_index_of_another_archive_of_the_same_layout(self, root, archive, what):
        source = self.index(root, archive)
        if what == "content":
            other = {name: sound(900 - i) for i, name in enumerate(self.PLACES)}
            (write_zip if archive == "a.zip" else write_tar)(root / archive, other)
        os.utime(root / archive, ns=(0, (root / archive).stat().st_mtime_ns + 1))
        with pytest.raises(
            ConfigError, match=rf"{archive}\.tsv: .*{archive} has changed since it was indexed; make the"
        ):
            self.make(root, source)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("i.tsv", "member\tpath\nT_0.flac\ta.zip::T_0.flac\n", "columns missing: n_samples, archive"),
            ("i.tsv", "member\tpath\tn_samples\tarchive\na\tb\tmany\t-\n", "not a readable TSV"),
            ("i.tar.gz", "", "gunzip"),
            ("i.rar", "", "only .tar and .zip"),
        ],
    )
    def test_sources_that_are_none(self, root, name, content, message):
        (root / name).write_text(content)
        with pytest.raises(ConfigError, match=rf"{name}: .*{message}"):
            self.make(root, name)

    def test_an_empty_folder_and_no_source(self, root):
        (root / "empty").mkdir()
        for sources in ((), ("empty",)):
            with pytest.raises(ConfigError, match=r"3 of 3 recordings are not in .*: T_0"):
                self.make(root, *sources)

    def test_names_that_differ_in_their_folders_alone(self, root):
        names = [f"speaker{i}/clip.flac" for i in range(100)]
        rows = "".join(f"x/{name}\tfolder/{i}\t800\t-\n" for i, name in enumerate(names))
        (root / "i.tsv").write_text(f"member\tpath\tn_samples\tarchive\n{rows}")
        text = "file,label\n" + "".join(f"{name},spoof\n" for name in reversed(names))
        assert self.make(root, "i.tsv", text=text)["path"].tolist() == [f"folder/{i}" for i in reversed(range(100))]
        with pytest.raises(ConfigError, match=r"clip\.flac is in two places: folder/0 and folder/1"):
            self.make(root, "i.tsv", text="file,label\nclip.flac,spoof\n")


class TestRecordingsThatCannotBeRead:
    """Are refused when the list is made, with the protocol's line; nothing is written."""

    def refused(self, tmp_path, name, content, audio="x"):
        folder = tmp_path / "x"
        folder.mkdir()
        (folder / "good.wav").write_bytes(sound(0, "a.wav"))
        (folder / name).write_bytes(content)
        write_zip(tmp_path / "x.zip", {name: content, "good.wav": sound(0, "a.wav")})
        (tmp_path / "p.csv").write_text(f"file,label\ngood.wav,bonafide\n{name},spoof\n")
        with pytest.raises(ConfigError) as caught:
            make_trials(tmp_path / "p.csv", "list", [tmp_path / audio], tmp_path / "out" / "t.tsv")
        assert not list(tmp_path.glob("out/*"))
        assert str(caught.value).startswith(f"{tmp_path}/p.csv, line 3: ") and "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("audio", ["x", "x.zip"])
    @pytest.mark.parametrize("name", ["x.m4a", "x.raw", "x.WMA", "x.webm", "T.0001"])
    def test_names_of_other_formats(self, tmp_path, audio, name):
        message = self.refused(tmp_path, name, b"", audio)
        assert f"{name}: .{name.split('.')[1]} is no format that is read (.aif, " in message
        assert f"-i {name} {name.split('.')[0]}.flac" in message

    @pytest.mark.parametrize("audio", ["x", "x.zip"])
    def test_damage_behind_the_header(self, tmp_path, audio):
        content = bytearray(sound(64_000))
        content[len(content) // 2 :][:8] = content[len(content) // 2 : len(content) // 2 + 8] = b"\0damaged"
        assert "bad.flac: not readable as audio or cut short" in self.refused(tmp_path, "bad.flac", content, audio)

    @pytest.mark.parametrize("audio", ["x", "x.zip"])
    def test_not_a_number(self, tmp_path, audio):
        stream = io.BytesIO()
        soundfile.write(stream, np.r_[np.zeros(99), np.nan], 16_000, subtype="FLOAT", format="WAV")
        assert "sample 99 is not a finite number" in self.refused(tmp_path, "nan.wav", stream.getvalue(), audio)


@pytest.mark.parametrize("ending", ["opus", "oga", "aiff", "au", "sph", "w64", "flac", "mp3"])
def test_the_same_formats_in_folders_and_archives(tmp_path, ending):
    forms = {"opus": "OGG", "oga": "OGG", "sph": "NIST"}
    stream = io.BytesIO()
    soundfile.write(
        stream, np.sin(np.arange(1600)), 16_000, format=forms.get(ending, ending.upper()),
        subtype="OPUS" if ending == "opus" else None,
    )  # fmt: skip
    name = f"a.{ending}"
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_bytes(stream.getvalue())
    write_tar(tmp_path / "x.tar", {name: stream.getvalue()})
    write_zip(tmp_path / "x.zip", {name: stream.getvalue()})
    (tmp_path / "p.csv").write_text(f"file,label\n{name},spoof\n")
    tables = [
        make_trials(tmp_path / "p.csv", "list", [tmp_path / s], tmp_path / "t.tsv") for s in ("x", "x.tar", "x.zip")
    ]
    assert len({table["n_samples"][0] for table in tables}) == 1 and tables[0]["n_samples"][0] >= 1600
    waveforms = [audio.read(table["path"][0]) for table in tables]
    assert all(np.array_equal(waveform, waveforms[0]) for waveform in waveforms)


def test_folders_linked_in_a_circle(tmp_path):
    for name, other in ("ab", "ba"):
        (tmp_path / "x" / name).mkdir(parents=True)
        (tmp_path / "x" / name / "to").symlink_to(tmp_path / "x" / other)
        (tmp_path / "x" / name / f"{name}.wav").write_bytes(sound(0, "a.wav"))
    (tmp_path / "x" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "p.csv").write_text("file,label\na.wav,spoof\nb/b.wav,spoof\n")
    table = make_trials(tmp_path / "p.csv", "list", [tmp_path / "x"], tmp_path / "t.tsv")
    assert table["path"].tolist() == [f"{tmp_path}/x/a/a.wav", f"{tmp_path}/x/b/b.wav"]


class TestProtocolFile:
    @pytest.mark.parametrize("archive", ["p.tar", "p.tar.gz", "p.zip"])
    def test_within_an_archive(self, corpus, tmp_path, archive):
        text = "\n".join(ROWS).encode()
        write = {"p.tar": write_tar, "p.tar.gz": partial(write_tar, mode="w:gz"), "p.zip": write_zip}[archive]
        write(tmp_path / archive, {"protocols/ASVspoof5.train.tsv": text})
        folder, output = tmp_path / "flac_E_eval", tmp_path / "trials.tsv"
        member, digest = tmp_path / f"{archive}::ASVspoof5.train.tsv", "md5:" + hashlib.md5(text).hexdigest()
        assert len(make_trials(member, "asvspoof5", [folder], output, 3, digest)) == 3
        with pytest.raises(ConfigError, match=rf"{archive}::ASVspoof5\.train\.tsv: 3 trials, the release has 4"):
            make_trials(member, "asvspoof5", [folder], output, 4)
        with pytest.raises(ConfigError, match=rf"{archive}: no members are called ASVspoof5\.dev\.tsv; there is proto"):
            make_trials(tmp_path / f"{archive}::ASVspoof5.dev.tsv", "asvspoof5", [folder], output)

    def test_missing(self, tmp_path):
        for name in ("gone.tsv", "gone.zip::a.tsv", "gone.tar.gz::a.tsv"):
            with pytest.raises(ConfigError, match=r"gone.*No such file"):
                make_trials(tmp_path / name, "list", [tmp_path], tmp_path / "trials.tsv")

    def test_checksum(self, corpus, tmp_path):
        text = "\ufeff" + "\r\n".join(ROWS)
        md5, sha256 = (hashlib.new(name, text.encode()).hexdigest() for name in ("md5", "sha256"))
        assert len(corpus(text, checksum=f"md5:{md5}")) == len(corpus(text, checksum=f"sha256:{sha256.upper()}")) == 3
        with pytest.raises(ConfigError, match=rf"protocol\.tsv: its md5 is {md5}, the release's is {'0' * 32}; fetch"):
            corpus(text, checksum="md5:" + "0" * 32)
        with pytest.raises(ConfigError, match="its sha256 is"):
            corpus(text, checksum=f"sha256:{md5}")
        for unknown in (md5, f"sha1:{md5}", f"MD5:{md5}"):
            with pytest.raises(ConfigError, match="expected md5:<hex> or sha256:<hex>"):
                corpus(text, checksum=unknown)
