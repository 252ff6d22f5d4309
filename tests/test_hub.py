"""Where a checkpoint is looked for: here, or on a hub at one commit."""

import shutil

import pytest

from rehearsal.hub import Hub
from spaarsist.artefacts import CALIBRATION, RECORD, WEIGHTS
from spaarsist.models.detector import load_checkpoint
from spaarsist.models.hub import locate
from spaarsist.names import ConfigError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub in the place of the real one, with an empty cache: files of it lie in `<folder>/<repository>/resolve`."""
    from huggingface_hub import constants

    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path)
    with Hub(tmp_path / "site") as served:
        address = served.url.rstrip("/")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield served


@pytest.fixture
def shared(hub, checkpoint):
    """The checkpoint on the hub, without calibration."""
    place = hub.folder / "user" / "AST-05" / "resolve" / COMMIT
    place.mkdir(parents=True)
    for name in (RECORD, WEIGHTS):
        shutil.copy(checkpoint / name, place)
    return place


def test_a_checkpoint_is_fetched_once(hub, shared, checkpoint):
    folder = locate(f"user/AST-05@{COMMIT}")
    assert sorted(path.name for path in folder.iterdir()) == [RECORD, WEIGHTS]
    assert load_checkpoint(folder)[1] == load_checkpoint(checkpoint)[1]
    shutil.rmtree(shared.parents[1])
    hub.requests.clear()
    assert locate(f"user/AST-05@{COMMIT}") == folder and hub.requests == []


def test_its_threshold_comes_along(shared):
    (shared / CALIBRATION).write_text("a calibration")
    assert (locate(f"user/AST-05@{COMMIT}") / CALIBRATION).read_text() == "a calibration"


@pytest.mark.parametrize("name", [RECORD, WEIGHTS])
def test_half_a_checkpoint(shared, name):
    (shared / name).unlink()
    with pytest.raises(
        ConfigError, match=rf"^user/AST-05@{COMMIT}: not fetched from the hub \(RemoteEntryNotFoundError: "
    ):
        locate(f"user/AST-05@{COMMIT}")


def test_a_threshold_that_cannot_be_fetched_is_no_missing_one(hub, shared):
    (shared / CALIBRATION).write_text("a calibration")
    hub.faults[f"user/AST-05/resolve/{COMMIT}/{CALIBRATION}"] = ["403"] * 9
    with pytest.raises(ConfigError, match="not fetched from the hub"):
        locate(f"user/AST-05@{COMMIT}")


@pytest.mark.parametrize(
    ("named", "error"),
    [(f"user/other@{COMMIT}", "RepositoryNotFoundError"), (f"user/AST-05@{COMMIT[::-1]}", "RevisionNotFoundError")],
)
def test_what_the_hub_does_not_have(shared, named, error):
    with pytest.raises(ConfigError, match=rf"^{named}: not fetched from the hub \({error}: .*\)$"):
        locate(named)


@pytest.mark.parametrize("revision", ["", "@", "@main", "@0123456", f"@{COMMIT}0", f"@{COMMIT.upper()}"])
def test_a_commit_must_be_named(hub, revision):
    with pytest.raises(ConfigError, match="the commit must be named, in full: user/AST-05@ and its 40 hex digits"):
        locate(f"user/AST-05{revision}")
    assert hub.requests == []


@pytest.mark.parametrize("named", ["nowhere", "a/b/c", "/a/b", f"../a@{COMMIT}", f"a/b/c@{COMMIT}", "here/AST-05"])
def test_what_is_no_name(hub, tmp_path, named):
    (tmp_path / "here").mkdir()
    with pytest.raises(ConfigError, match=rf"^{named}: no such folder; name that of a checkpoint, or user/name@commit"):
        locate(named)


def test_folders_come_first(hub, tmp_path):
    folder = tmp_path / "user" / f"AST-05@{COMMIT}"
    folder.mkdir(parents=True)
    assert locate(f"user/AST-05@{COMMIT}").samefile(folder) and hub.requests == []
    (folder / WEIGHTS).touch()
    with pytest.raises(ConfigError, match="is a file; a checkpoint is a folder"):
        locate(folder / WEIGHTS)
