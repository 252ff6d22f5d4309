"""Protocol readers against the pitfalls of the corpora."""

import numpy as np
import pytest
import soundfile

from spaarsist.config import ConfigError
from spaarsist.data.protocol import COLUMNS, make_trials, read_trials

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

    def make(text, form="asvspoof5", folder=folder, expected=0, raw=None):
        protocol = tmp_path / "protocol.tsv"
        protocol.write_bytes(raw if raw is not None else text.encode())
        return make_trials(protocol, form, folder, tmp_path / "trials.tsv", expected)

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
        with pytest.raises(ConfigError, match="flac_E: no such folder of audio; there is flac_E_eval beside it"):
            corpus("\n".join(ROWS), folder=tmp_path / "flac_E")

    def test_unsound_recording(self, corpus, tmp_path):
        (tmp_path / "flac_E_eval" / "T_0000000011.flac").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"T_0000000011\.flac: empty file"):
            corpus("\n".join(ROWS))


class TestInTheWild:
    def test_hyphen_and_spaces(self, corpus):
        table = corpus(
            'file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,"Guinness, Alec",bona-fide\n', "in_the_wild"
        )
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


class TestList:
    def test_file_and_label_are_enough(self, corpus):
        table = corpus("file,label\n0.wav,bonafide\n1.wav,spoof\n", "list")
        assert table[["label", "speaker_id", "attack_id", "codec"]].to_numpy().tolist() == [
            ["bonafide", "-", "-", "-"],
            ["spoof", "-", "-", "-"],
        ]

    def test_more_columns_in_any_order_and_tabs(self, corpus):
        table = corpus("codec\tlabel\tfile\tattack\tother\nmp3\tspoof\t0.wav\tTTS\tx\n", "list")
        assert table.loc[0, ["attack_id", "codec", "speaker_id"]].tolist() == ["TTS", "mp3", "-"]


def test_not_text(corpus):
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        corpus("", raw=b"\x00\xff\xfe\x81")


def test_read_trials_refuses_other_tables(tmp_path):
    (tmp_path / "a.tsv").write_text("file\tlabel\n0.wav\tspoof\n")
    with pytest.raises(ConfigError, match="a trial list has the columns"):
        read_trials(tmp_path / "a.tsv")
    with pytest.raises(ConfigError, match="not readable as a trial list"):
        read_trials(tmp_path / "gone.tsv")
