"""Downloads of the embedded stack are checked, whole or absent, and safe side by side."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest
from jgo.maven import _core

from local import StackError, downloads
from local.downloads import Artifact, Product

CONTENT = b"the jar" * 1000


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A real HTTP server with one artifact, a cache of its own, and a count of what was asked for."""
    folder = tmp_path / "repository" / "org" / "example" / "thing" / "1.0"
    folder.mkdir(parents=True)
    (folder / "thing-1.0.jar").write_bytes(CONTENT)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "repository"))

        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(_core, "DEFAULT_REMOTE_REPOS", {"test": f"http://127.0.0.1:{server.server_port}"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield asked
    server.shutdown()
    server.server_close()


def thing(monkeypatch, sha256: str) -> Product:
    artifact = Artifact("org.example:thing:1.0:jar", len(CONTENT), sha256)
    monkeypatch.setattr(downloads, "artifacts_of", lambda _: [artifact])
    return Product("thing", "Thing 1.0", "thing-1.0", downloads.copy_jars, unpacked_bytes=0)


def test_a_download_is_made_once(repository, monkeypatch, capsys):
    """The second caller finds the first one's folder and asks for nothing; the first one shows how far it is."""
    product = thing(monkeypatch, hashlib.sha256(CONTENT).hexdigest())
    folder = downloads.ensure(product)
    asked = len(repository)
    assert downloads.ensure(product) == folder
    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT
    assert len(repository) == asked
    assert "Thing 1.0: downloading" in capsys.readouterr().err


def test_a_changed_file_is_refused(repository, monkeypatch):
    """A file with another SHA-256 than the listed one is refused, and no folder is left that looks whole."""
    with pytest.raises(StackError, match="was downloaded with SHA-256"):
        downloads.ensure(thing(monkeypatch, "0" * 64))
    assert not (downloads.cache_folder() / "thing-1.0").exists()


def test_an_interrupted_download_is_not_taken_for_a_whole_one(repository, monkeypatch):
    """What a killed download left is thrown away by the next one."""
    partial = downloads.cache_folder() / "thing-1.0.partial" / "unpacked"
    partial.mkdir(parents=True)
    (partial / "half.jar").write_bytes(b"half")
    folder = downloads.ensure(thing(monkeypatch, hashlib.sha256(CONTENT).hexdigest()))
    assert [file.name for file in folder.iterdir()] == ["thing-1.0.jar"]


def test_two_at_once_download_once(repository, monkeypatch):
    """Callers at the same time take turns, and the file is fetched once."""
    product = thing(monkeypatch, hashlib.sha256(CONTENT).hexdigest())
    threads = [threading.Thread(target=downloads.ensure, args=(product,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(path.endswith(".jar") for path in repository) == 1


def test_every_listed_artifact_has_a_checksum():
    """The lock file names both products' files, each with a SHA-256."""
    for product, count in ((downloads.KAFKA, 46), (downloads.TRINO, 2)):
        artifacts = downloads.artifacts_of(product.name)
        assert len(artifacts) == count
        assert all(len(artifact.sha256) == 64 for artifact in artifacts)
    assert Path(downloads.LOCK_FILE).name == "artifacts.lock"
