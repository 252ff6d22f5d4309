"""Scores and keys as other programs keep them: every form gives the same, and bad lines are named."""

import pytest

from spaarsist.data.score_lists import read_key, read_score_list, refuse_strangers
from spaarsist.names import ConfigError

SCORES = {"E_1": 2.5, "E_2": -0.001, "E_3": 0.0}
LABELS = {"E_1": "bonafide", "E_2": "spoof", "E_3": "spoof"}


def write(tmp_path, text, name="s"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


@pytest.mark.parametrize(
    "text",
    [
        "filename\tcm-score\nE_1\t2.5\nE_2\t-1e-3\nE_3\t0\n",  # the package of ASVspoof 5
        "E_1\t2.5\nE_2\t-1e-3\nE_3\t0\n",
        "E_1 2.5\nE_2 -0.001\nE_3 0.0\n",  # Speech DF Arena
        "file_name,cm_score\nE_1,2.5\nE_2,-.001\nE_3,0",
        "filename\tcm-score\tsasv-score\nE_1\t2.5\t0\nE_2\t-1e-3\tx\nE_3\t0\t\n",
        "Label,Score,File\r\nspoof,2.5,E_1\r\nspoof,-1e-3,E_2\r\nspoof,0,E_3\r\n\r\n",
        b"\xef\xbb\xbffilename\tcm-score\nE_1\t2.5\nE_2\t-1e-3\nE_3\t0\n",
        'file,speaker,score\n"E_1","Bo, of Ulm",2.5\nE_2,Cy,-0.001\nE_3,,0\n',
    ],
)
def test_forms_of_scores(tmp_path, text):
    assert [*read_score_list(write(tmp_path, text)).items()] == [*SCORES.items()]


@pytest.mark.parametrize(
    "text",
    [
        "filename\tcm-label\nE_1\tbonafide\nE_2\tspoof\nE_3\tspoof\n",
        "E_1\tbonafide\nE_2\tspoof\nE_3\tspoof\n",
        "file_name,label\nE_1,bonafide\nE_2,spoof\nE_3,spoof\n",  # Speech DF Arena
        "file,speaker,label\nE_1,A,bona-fide\nE_2,B,spoof\nE_3,B,spoof\n",  # In-the-Wild
        "E_1 bonafide\nE_2 spoof\nE_3 spoof\n",
        "trial_id\tpath\tlabel\tspeaker_id\tattack_id\tcodec\tn_samples\n"
        "E_1\ta\tbonafide\t-\t-\t-\t1\nE_2\ta\tspoof\t-\t-\t-\t1\nE_3\ta\tspoof\t-\t-\t-\t1\n",
    ],
)
def test_forms_of_keys(tmp_path, text):
    assert [*read_key(write(tmp_path, text)).items()] == [*LABELS.items()]


def test_names_keep_what_does_not_separate(tmp_path):
    """Tabs before commas before spaces: what stands in a name does not tear it apart."""
    assert read_score_list(write(tmp_path, "a b,c.wav\t1\n/d e/f.wav\t2\n")) == {"a b,c.wav": 1, "/d e/f.wav": 2}
    assert read_score_list(write(tmp_path, "a,b.wav 1\nc.wav 2\n")) == {"a,b.wav": 1, "c.wav": 2}


HEAD = "filename\tcm-score\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}a\t1\nb\tnan\n", r"s, line 3: the score is 'nan', not a finite number"),
        (f"{HEAD}a\t1\nb\t-inf\n", "s, line 3: the score is '-inf'"),
        (f"{HEAD}a\t1\nb\t1e300\n", r"s, line 3: the score is '1e300', not a finite number \(up to 1e\+30\)"),
        (f"{HEAD}a\t1,5\n", "s, line 2: the score is '1,5'"),
        (f"{HEAD}a\t1_0\n", "s, line 2: the score is '1_0'"),
        (f"{HEAD}a\t\n", "s, line 2: the score is ''"),
        (f"{HEAD}a\t1\n\nb\t1\n", "s, line 3: not 2 columns, as in line 1, but 1"),
        (f"{HEAD}a\t1\t2\n", "s, line 2: not 2 columns, as in line 1, but 3"),
        (f"{HEAD}a\t1\nb\t2\na\t1\n", "s, line 4: a was already on line 2"),
        ("a 1\nb 2\na 1\n", "s, line 3: a was already on line 1"),
        (f"{HEAD}\t1\n", "s, line 2: '' is no name"),
        ('file,score\n"a\tb",1\n', r"s, line 2: 'a\\tb' is no name"),
        ('file,score\n"a,1\nb,2\nc",3\n', "s, line 2: a quote that opens a cell must close it"),
        (HEAD, "s: no trials"),
        ("", "s: no trials"),
        ("utt,points\na,1\n", "s, line 1: expected a header with filename or .* it reads 'utt,points'"),
        ("file,score,cm_score\na,1,2\n", "s, line 1: which column is meant, of score, cm_score"),
        ("a spoof A07 1.5\n", "s, line 1: expected a header"),
        (HEAD.encode("utf-16"), "s: not UTF-8 text"),
    ],
)
def test_refused_scores(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_score_list(write(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,label\na,bonafide\nb,genuine\n", "k, line 3: label 'genuine'; expected bonafide or spoof"),
        ("file_name,label\na,1\n", "k, line 2: label '1'"),
        ("file_name,label\na,spoof\na,bonafide\n", "k, line 3: a was already on line 2"),
        ("S_1 E_1 F - - - AC3 A05 spoof -\n", "k, line 1: expected a header with .* or a name and a label without"),
    ],
)
def test_refused_keys(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_key(write(tmp_path, text, "k"))


def test_the_lists_of_two_programs_swallow_no_row(tmp_path):
    """An opening quote must not take the lines up to the next one into its cell."""
    rows = [f"c{i}.wav,{'bonafide' if i % 2 else 'spoof'},{quote}" for i, quote in enumerate(['"Bo', "Cy", 'Ed"'])]
    with pytest.raises(ConfigError, match="line 2: a quote"):
        read_key(write(tmp_path, "\n".join(["file,label,speaker", *rows])))


def test_strangers(tmp_path):
    scores, key = tmp_path / "s", tmp_path / "k"
    refuse_strangers(scores, {"a": 1, "b": 2}, key, {"b": 0, "a": 0})
    for scored, complaint in (
        ("a", "s: trials of .*k not scored: 1, e.g. b"),
        ("abcd", "s: trials that .*k does not list: 2, e.g. c, d"),
        ("acd", r"s: trials of .*k not scored \(while 2 are scored that it does not list, such as c\): 1, e.g. b"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            refuse_strangers(scores, scored, key, "ab")
