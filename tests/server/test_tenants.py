"""Keys, files and vector stores: one tenant's are never another's."""

from __future__ import annotations

import base64
import io
import json
import stat

import openai
import pytest

from baywindow.config import Settings
from baywindow.errors import ConfigError
from baywindow.server.errors import ApiError
from baywindow.server.keys import LOCAL, Keys
from baywindow.server.limits import Rates
from baywindow.server.service import Options, Service

GARDEN = "# Garden\n\nIda painted the fence green in spring.\n\nThe beans were sown on 4 May.\n"
HARBOUR = "# Harbour\n\nThe last ferry leaves at 21:40.\n"


def upload(client, name, text):
    return client.files.create(file=(name, io.BytesIO(text.encode())), purpose="assistants")


def store_of(client, *files):
    store = client.vector_stores.create(name="notes")
    for file in files:
        client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id, poll_interval_ms=50)
    return store


def test_files_are_kept_listed_read_and_deleted(serve, talker):
    client = serve(talker()).client
    file = upload(client, "../../etc/garden.md", GARDEN)
    assert (file.filename, file.bytes, file.purpose, file.status) == ("garden.md", len(GARDEN), "assistants", "processed")
    assert [f.id for f in client.files.list()] == [file.id]
    assert client.files.retrieve(file.id).filename == "garden.md"
    content = client.files.content(file.id)
    assert content.text == GARDEN
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert client.files.delete(file.id).deleted
    assert list(client.files.list()) == []
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_store_is_searched_and_asked_with_citations_of_its_files(serve, talker):
    model = talker(lambda prompt: "The fence was painted by Ida. [1]")
    client = serve(model).client
    garden, harbour = upload(client, "garden.md", GARDEN), upload(client, "harbour.md", HARBOUR)
    store = store_of(client, garden, harbour)
    counts = client.vector_stores.retrieve(store.id).file_counts
    assert (counts.completed, counts.total) == (2, 2)
    found = client.vector_stores.search(store.id, query="Who painted the fence?", max_num_results=1)
    assert (found.data[0].file_id, found.data[0].filename) == (garden.id, "garden.md")
    assert "Ida painted the fence" in found.data[0].content[0].text
    said = client.chat.completions.create(
        model="talker|full_text(k=1) > rag",
        messages=[{"role": "user", "content": "Who painted the fence?"}],
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
    )
    (note,) = said.choices[0].message.annotations
    cited = note.file_citation
    assert (cited["file_id"], cited["filename"], cited["verified"]) == (garden.id, "garden.md", True)
    assert cited["quote"] in GARDEN
    assert GARDEN[cited["start"] : cited["end"]] == cited["quote"]
    assert "tenants" not in json.dumps([m.content for m in model.prompts[-1]])  # no path of this server's reaches a prompt
    assert client.vector_stores.files.delete(garden.id, vector_store_id=store.id).deleted
    assert {r.file_id for r in client.vector_stores.search(store.id, query="Who painted the fence?").data} <= {harbour.id}
    assert client.vector_stores.update(store.id, name="other").name == "other"
    assert client.vector_stores.delete(store.id).deleted
    assert list(client.vector_stores.list()) == []


def test_two_files_of_one_name_are_told_apart(serve, talker):
    client = serve(talker()).client
    one, two = upload(client, "a.md", GARDEN), upload(client, "a.md", HARBOUR)
    store = store_of(client, one, two)
    assert client.vector_stores.search(store.id, query="last ferry").data[0].file_id == two.id


def test_a_file_that_cannot_be_read_says_why_without_a_path(serve, talker):
    client = serve(talker()).client
    file = client.files.create(file=("x.pdf", io.BytesIO(b"%PDF-1.4 broken")), purpose="assistants")
    store = client.vector_stores.create(name="n")
    member = client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id, poll_interval_ms=50)
    assert member.status == "failed"
    assert "x.pdf" in member.last_error.message
    assert "/" not in member.last_error.message


def test_a_file_attached_to_a_message_is_read(serve, talker):
    model = talker(lambda prompt: "Ida. [1]")
    client = serve(model).client
    file = upload(client, "garden.md", GARDEN * 40)
    parts = [{"type": "file", "file": {"file_id": file.id}}, {"type": "text", "text": "Who painted the fence?"}]
    said = client.chat.completions.create(model="talker|full_text(k=1) > rag", messages=[{"role": "user", "content": parts}])
    assert said.choices[0].message.annotations[0].file_citation["file_id"] == file.id
    data = "data:text/plain;base64," + base64.b64encode(HARBOUR.encode()).decode()
    parts[0] = {"type": "file", "file": {"file_data": data, "filename": "harbour.md"}}
    client.chat.completions.create(model="talker", messages=[{"role": "user", "content": parts}])
    assert "The last ferry leaves at 21:40." in model.prompts[-1][-1].content


def test_tenants_do_not_see_each_other(serve, talker):
    keys = Keys()
    first, second = keys.new("ann"), keys.new("bob")
    server = serve(talker(lambda p: "Ida. [1]"), require_keys=True, key=first)
    ann, bob = server.client, server.client_of(second)
    file = upload(ann, "garden.md", GARDEN)
    store = store_of(ann, file)
    assert list(bob.files.list()) == []
    assert list(bob.vector_stores.list()) == []
    stolen = [
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: bob.vector_stores.retrieve(store.id),
        lambda: bob.vector_stores.search(store.id, query="fence"),
        lambda: bob.vector_stores.delete(store.id),
        lambda: bob.vector_stores.files.list(store.id),
        lambda: bob.vector_stores.create(name="mine", file_ids=[file.id]),
        lambda: bob.chat.completions.create(
            model="talker",
            messages=[{"role": "user", "content": "Who?"}],
            tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        ),
        lambda: bob.chat.completions.create(
            model="talker", messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": file.id}}]}]
        ),
    ]
    for attempt in stolen:
        with pytest.raises(openai.NotFoundError):
            attempt()
    mine = bob.vector_stores.create(name="mine")
    with pytest.raises(openai.NotFoundError):
        bob.vector_stores.files.create(vector_store_id=mine.id, file_id=file.id)
    assert [f.id for f in ann.files.list()] == [file.id]
    bob.close()


def test_without_a_good_key_nothing_is_told(serve, talker):
    key = Keys().new("ann")
    server = serve(talker(), require_keys=True, key="bay-wrong")
    for path in ("/v1/models", "/v1/files", "/v1/vector_stores", "/metrics", "/v1/files/file-" + "0" * 24):
        assert server.http.get(path).status_code == 401
    with pytest.raises(openai.AuthenticationError):
        server.client.models.list()
    good = server.client_of(key)
    assert "talker" in {m.id for m in good.models.list()}
    Keys().revoke("ann")
    with pytest.raises(openai.AuthenticationError):
        good.models.list()
    good.close()


def test_keys_are_kept_as_hashes_only_for_their_owner_to_read():
    keys = Keys()
    token = keys.new("ann")
    assert token not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert keys.tenant_of(token).name == "ann"
    assert keys.tenant_of(token[:-1]) is None
    with pytest.raises(ConfigError, match="already"):
        keys.new("ann")
    with pytest.raises(ConfigError):
        keys.new("../ann")


def test_any_other_address_asks_for_keys(talker):
    with pytest.raises(ConfigError, match="needs API keys"):
        Service(Settings(), Options(host="0.0.0.0"), model=talker())
    Keys().new("ann")
    service = Service(Settings(), Options(host="0.0.0.0"), model=talker())
    assert service.needs_key
    service.close()


def test_pages_of_other_sites_are_refused_where_no_key_is_asked_for(serve, talker):
    server = serve(talker())
    assert server.http.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 403
    assert server.http.get("/v1/models", headers={"host": "evil.example"}).status_code == 403  # a name that was made to point here
    own = server.http.get("/v1/models", headers={"origin": server.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers
    assert "script-src 'self'" in own.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["file-../../../../etc/passwd", "..%2f..%2fkeys.json", "file-" + "g" * 24, "vs_..", "file-", "%00"])
def test_no_path_leads_out_of_the_uploads(serve, talker, name):
    server = serve(talker())
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content", f"/v1/vector_stores/{name}"):
        assert server.http.get(path).status_code in (400, 404)


def test_uploads_have_their_limits(serve, talker):
    server = serve(talker(), upload_bytes=5000, quota_bytes=3000)
    big = {"file": ("a.txt", b"x" * 6000)}
    assert server.http.post("/v1/files", files=big, data={"purpose": "assistants"}).status_code == 413
    upload(server.client, "a.txt", "x" * 2000)
    with pytest.raises(openai.APIStatusError, match="together are too large"):
        upload(server.client, "b.txt", "x" * 2000)
    assert len(list(server.client.files.list())) == 1


def test_a_keys_rate_is_a_bucket():
    now = [0.0]
    rates = Rates(2, clock=lambda: now[0])
    rates.take("a")
    rates.take("a")
    rates.take("b")
    with pytest.raises(ApiError) as refused:
        rates.take("a")
    assert (refused.value.status, refused.value.retry_after_s) == (429, 30)  # one in thirty seconds
    now[0] = 29.0
    with pytest.raises(ApiError):
        rates.take("a")
    now[0] = 31.0
    rates.take("a")


def test_a_file_that_was_not_yet_read_when_the_server_ended_is_read_by_the_next(serve, talker, wait_until):
    server = serve(talker())
    file = upload(server.client, "garden.md", GARDEN)
    store = store_of(server.client, file)
    stores = server.service.stores

    def unread(store):
        store.members[file.id].status = "in_progress"

    stores.change(LOCAL, store.id, unread)
    stores.resume()
    wait_until(lambda: stores.get(LOCAL, store.id).members[file.id].status == "completed")


def test_the_state_of_a_server_is_not_shared_with_another_home(serve, talker, tmp_path):
    server = serve(talker())
    upload(server.client, "garden.md", GARDEN)
    other = Service(Settings(), Options(), model=talker(), home=tmp_path)
    assert other.files.all(LOCAL) == []
    assert len(server.service.files.all(LOCAL)) == 1
    other.close()


def test_a_page_is_served_where_there_is_one_and_only_from_its_folder(talker, tmp_path):
    from fastapi.testclient import TestClient

    from baywindow.server.app import make_app

    studio = tmp_path / "studio"
    studio.mkdir()
    (studio / "index.html").write_text("<p>the page</p>")
    (tmp_path / "secret.txt").write_text("secret")
    service = Service(Settings(), Options(), model=talker(), home=tmp_path / "home")
    with TestClient(make_app(service, page=studio), base_url="http://127.0.0.1") as page:
        assert "the page" in page.get("/").text
        assert "default-src 'none'" in page.get("/").headers["content-security-policy"]
        assert "secret" not in page.get("/../secret.txt").text
        assert "secret" not in page.get("/%2e%2e/secret.txt").text
        assert page.get("/healthz").json() == {"status": "ok"}
