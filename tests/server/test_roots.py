"""Folders named at the start: asked about by name, changed by nobody, and nothing beside them is ever read."""

from __future__ import annotations

import threading

import openai
import pytest

from baywindow.documents.index import Index
from baywindow.errors import ConfigError, IndexBusyError
from baywindow.server.in_use import InUse
from baywindow.server.keys import LOCAL, Keys, Tenant
from baywindow.server.roots import Root, Roots

QUESTION = "Who painted the fence?"


@pytest.fixture
def folder(tmp_path):
    """Papers with a folder in it, a hidden file, a secret beside it, and links to the secret and to a paper."""
    papers = tmp_path / "papers"
    (papers / "old").mkdir(parents=True)
    (papers / "garden.md").write_text("Ida painted the fence green in spring.\n")
    (papers / "old" / "harbour.md").write_text("The last ferry leaves at 21:40.\n")
    (papers / ".hidden.md").write_text("Hidden: the fence was painted by the ghost.\n")
    (tmp_path / "secret.md").write_text("Secret: who painted the fence is not to be told.\n")
    (papers / "leads-out.md").symlink_to(tmp_path / "secret.md")
    (papers / "leads-in.md").symlink_to(papers / "garden.md")
    return papers


@pytest.fixture
def ready(wait_until):
    """Waits until the root can be asked."""

    def wait(server, name="papers", client=None):
        client = client or server.client
        wait_until(lambda: client.vector_stores.retrieve(name).file_counts.completed > 0)
        return server

    return wait


def search(client, store, query=QUESTION):
    return client.vector_stores.search(store, query=query, max_num_results=10).data


def test_a_root_is_asked_by_its_name_with_citations_below_it(serve, talker, folder, ready):
    model = talker(lambda prompt: "Ida did. [1]")
    server = ready(serve(model, roots=(Root.of(str(folder)),)))
    assert [s.id for s in server.client.vector_stores.list()] == ["papers"]
    said = server.client.chat.completions.create(
        model="talker",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{"type": "file_search", "vector_store_ids": ["papers"]}],
    )
    cited = said.choices[0].message.annotations[0].file_citation
    assert cited["filename"] in ("garden.md", "leads-in.md")
    assert cited["quote"] == "Ida painted the fence green in spring."
    assert str(folder) not in said.model_dump_json()


def test_only_what_lies_in_the_folder_is_read(serve, talker, folder, ready):
    client = ready(serve(talker(), roots=(Root.of(str(folder)),))).client
    assert {f.id for f in client.vector_stores.files.list("papers")} == {"garden.md", "leads-in.md", "old/harbour.md"}
    found = search(client, "papers")
    assert {row.filename for row in found} <= {"garden.md", "leads-in.md", "old/harbour.md"}
    assert not any("ghost" in c.text or "Secret" in c.text for row in found for c in row.content)


@pytest.mark.parametrize(
    "name", ["paper", "papers2", "../papers", "papers/old", "papers/../../secret.md", "/etc", "%2e%2e%2fsecret.md", "file:///etc/passwd"]
)
def test_no_other_name_leads_anywhere(serve, talker, folder, ready, name):
    server = ready(serve(talker(), roots=(Root.of(str(folder)),)))
    with pytest.raises(openai.NotFoundError):
        server.client.chat.completions.create(
            model="talker",
            messages=[{"role": "user", "content": QUESTION}],
            tools=[{"type": "file_search", "vector_store_ids": [name]}],
        )
    assert server.http.get(f"/v1/vector_stores/{name}/files/garden.md").status_code == 404
    assert server.http.get("/v1/files/garden.md").status_code == 404


def test_no_request_changes_a_root(serve, talker, folder, ready):
    server = ready(serve(talker(), roots=(Root.of(f"notes={folder}"),)), "notes")
    file = server.client.files.create(file=("x.md", b"The fence was painted by Otto."), purpose="assistants")
    stores = server.client.vector_stores
    for change in (
        lambda: stores.delete("notes"),
        lambda: stores.update("notes", name="mine"),
        lambda: stores.files.create(vector_store_id="notes", file_id=file.id),
        lambda: stores.files.delete("garden.md", vector_store_id="notes"),
    ):
        with pytest.raises(openai.PermissionDeniedError, match="no request changes it"):
            change()
    assert server.client.files.delete(file.id).deleted
    assert stores.retrieve("notes").name == "notes"
    assert stores.retrieve("notes").file_counts.total == 3
    assert (folder / "garden.md").exists()


def test_keys_see_roots_only_where_the_operator_says_so(serve, talker, folder, ready):
    token = Keys().new("anna")
    with pytest.raises(ConfigError, match="see no folder"):
        serve(talker(), roots=(Root.of(str(folder)),), require_keys=True)
    private = ready(serve(talker(), roots=(Root.of(str(folder)),)))
    with private.client_of(token) as anna:
        assert list(anna.vector_stores.list()) == []
        with pytest.raises(openai.NotFoundError):
            anna.vector_stores.retrieve("papers")
    shared = serve(talker(), roots=(Root.of(str(folder)),), require_keys=True, share_roots=True, key=token)
    assert search(ready(shared).client, "papers")


def test_a_restart_reads_what_has_changed(serve, talker, folder, ready):
    assert len(search(ready(serve(talker(), roots=(Root.of(str(folder)),))).client, "papers", "ferry fence")) > 1
    (folder / "old" / "harbour.md").unlink()
    (folder / "garden.md").write_text("Otto painted the fence red.\n")
    found = search(ready(serve(talker(), roots=(Root.of(str(folder)),))).client, "papers", "ferry fence")
    assert "Otto" in found[0].content[0].text
    assert not any("ferry" in c.text for row in found for c in row.content)


def test_a_question_takes_up_what_has_changed(serve, talker, folder, ready, monkeypatch):
    client = ready(serve(talker(), roots=(Root.of(str(folder)),))).client
    search(client, "papers")
    (folder / "old" / "harbour.md").unlink()
    (folder / "garden.md").write_text("Otto painted the fence red in autumn.\n")
    (folder / "mill.md").write_text("The ferry to the mill leaves at noon.\n")
    monkeypatch.setattr("baywindow.server.roots.LOOK_EVERY_S", 3600.0)
    assert any("21:40" in c.text for row in search(client, "papers", "ferry fence") for c in row.content)  # a moment ago it was looked at
    monkeypatch.setattr("baywindow.server.roots.LOOK_EVERY_S", 0.0)
    found = {row.filename: row.content[0].text.strip() for row in search(client, "papers", "ferry fence")}
    assert found == {
        "garden.md": "Otto painted the fence red in autumn.",
        "leads-in.md": "Otto painted the fence red in autumn.",
        "mill.md": "The ferry to the mill leaves at noon.",
    }
    assert {f.id for f in client.vector_stores.files.list("papers")} == set(found)


def test_a_folder_that_takes_long_to_look_through_holds_nobody_up(serve, talker, folder, ready, monkeypatch, wait_until):
    server = ready(serve(talker(), roots=(Root.of(str(folder)),)))
    monkeypatch.setattr("baywindow.server.roots.LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("baywindow.server.roots.PATIENCE_S", 0.05)
    update, go_on, looks = Index.update, threading.Event(), []

    def slow(index, paths, **more):
        if paths == [folder]:
            looks.append(threading.current_thread().name)
            assert go_on.wait(60)
        return update(index, paths, **more)

    monkeypatch.setattr(Index, "update", slow)
    (folder / "garden.md").write_text("Otto painted the fence red in autumn.\n")
    try:
        for _ in range(3):  # answered by what was read before, while somebody else's files are read
            assert any("Ida" in c.text for row in search(server.client, "papers") for c in row.content)
        file = server.client.files.create(file=("x.md", b"The mill was painted by Eva."), purpose="assistants")
        store = server.client.vector_stores.create(name="mine")
        server.client.vector_stores.files.create(vector_store_id=store.id, file_id=file.id)
        wait_until(lambda: server.client.vector_stores.retrieve(store.id).file_counts.completed == 1)
        assert len(looks) == 1
        assert looks[0].startswith("baywindow-roots")
    finally:
        go_on.set()
    wait_until(lambda: any("Otto" in c.text for row in search(server.client, "papers") for c in row.content))


def test_a_folder_that_is_gone_is_not_answered_from_and_may_come_back(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("baywindow.server.roots.LOOK_EVERY_S", 0.0)
    roots = Roots(tmp_path / "kept", [Root.of(str(folder))], embedder=lambda: None, chunk_tokens=64, shared=False)
    use = InUse()
    roots.read("papers", use)
    folder.rename(tmp_path / "elsewhere")
    roots.look("papers", use)
    with pytest.raises(Exception, match="could not be read"):
        roots.corpus(roots.get(LOCAL, "papers"))
    (tmp_path / "elsewhere").rename(folder)
    roots.look("papers", use)
    assert roots.corpus(roots.get(LOCAL, "papers")).full_text("ferry", 5)
    roots.close()


def test_a_look_that_another_server_prevents_leaves_what_was_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("baywindow.server.roots.LOOK_EVERY_S", 0.0)
    roots = Roots(tmp_path / "kept", [Root.of(str(folder))], embedder=lambda: None, chunk_tokens=64, shared=False)
    use = InUse()
    roots.read("papers", use)

    def busy(*args, **more):
        raise IndexBusyError("another process is writing", hint="wait")

    monkeypatch.setattr(Index, "update", busy)
    roots.look("papers", use)
    assert roots.corpus(roots.get(LOCAL, "papers")).full_text("ferry", 5)
    roots.close()


def test_a_root_that_is_still_being_read_says_so(folder, tmp_path):
    roots = Roots(tmp_path / "kept", [Root.of(str(folder))], embedder=lambda: None, chunk_tokens=64, shared=False)
    (store,) = roots.all(LOCAL)
    with pytest.raises(Exception, match="is still being read") as refused:
        roots.corpus(store)
    assert (refused.value.status, refused.value.code) == (409, "not_ready")
    roots.read("papers", InUse())
    assert [p.source for p in roots.corpus(store).full_text("ferry", 5)] == ["old/harbour.md"]
    assert roots.all(Tenant("0" * 24, "anna")) == []


def test_one_root_that_cannot_be_read_leaves_the_others(folder, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    made = [Root.of(str(gone)), Root.of(str(folder))]
    gone.rmdir()
    roots = Roots(tmp_path / "kept", made, embedder=lambda: None, chunk_tokens=64, shared=False)
    for name in ("gone", "papers"):
        roots.read(name, InUse())
    first, second = roots.all(LOCAL)
    with pytest.raises(Exception, match="could not be read"):
        roots.corpus(first)
    assert roots.corpus(second).characters > 0


@pytest.mark.parametrize(
    ("text", "match"), [("no-such-folder", "no folder"), ("a b=.", "root name"), ("vs_0=.", "root name"), ("=.", "root name")]
)
def test_what_is_no_folder_or_no_name_is_refused_at_the_start(text, match):
    with pytest.raises(ConfigError, match=match):
        Root.of(text)


def test_two_roots_need_two_names(tmp_path):
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "b" / "x").mkdir(parents=True)
    made = [Root.of(str(tmp_path / "a" / "x")), Root.of(str(tmp_path / "b" / "x"))]
    with pytest.raises(ConfigError, match="one name"):
        Roots(tmp_path, made, embedder=lambda: None, chunk_tokens=64, shared=False)
