"""Sums of weights are remembered and never stale."""

from __future__ import annotations

import hashlib
import os

import pytest

from baywindow.errors import ModelError
from baywindow.models import fingerprint


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BAY_CACHE", str(tmp_path / "cache"))


def test_the_sum_is_sha256_and_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert fingerprint.sha256_of(file) == expected
    monkeypatch.setattr(fingerprint, "_hash", lambda path: pytest.fail("hashed again"))
    assert fingerprint.sha256_of(file) == expected


def test_a_changed_file_is_hashed_again(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    before = fingerprint.sha256_of(file)
    file.write_bytes(b"abd")
    os.utime(file, ns=(1, 1))  # the same size; only the time tells
    assert fingerprint.sha256_of(file) != before


def test_a_damaged_memory_is_ignored(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    expected = fingerprint.sha256_of(file)
    (memory,) = (tmp_path / "cache" / "fingerprints").glob("*.json")
    memory.write_text("{")
    assert fingerprint.sha256_of(file) == expected


def test_a_folder_is_bound_to_all_its_weights(tmp_path):
    for name, content in (("a.safetensors", b"1"), ("b.safetensors", b"2")):
        (tmp_path / name).write_bytes(content)
    first = fingerprint.sha256_of_folder(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"33")
    assert fingerprint.sha256_of_folder(tmp_path) != first


def test_missing_weights_are_an_error(tmp_path):
    with pytest.raises(ModelError, match="no weights"):
        fingerprint.sha256_of_folder(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        fingerprint.sha256_of(tmp_path / "none")
