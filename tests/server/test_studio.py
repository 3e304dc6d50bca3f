"""The page at `/`, in a real Chromium: asking, citations, comparing, keyboard, memory, bench; and what its routes give to whom."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from baywindow import home
from baywindow.bench.store import Row, Store
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.server.guard import CONTENT_POLICY

END_SECONDS = 30
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FILLER = [f"On day {n} the gardener watered the beans and wrote down the weather in the grey notebook." for n in range(60)]
LETTER = "\n\n".join([*FILLER[:30], "Ida painted the <b>fence</b> green in spring. 🌱", *FILLER[30:]])
QUESTION = "Who painted the fence?"
RECIPE = "full_text(k=2) > rag"


def eventually(true: Callable[[], Any]) -> None:
    end = time.monotonic() + END_SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


class Page:
    """A browser's page, and what it said and fetched."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.said: list[str] = []
        self.fetched: list[str] = []
        inner.on("console", lambda message: self.said.append(message.text))
        inner.on("pageerror", lambda error: self.said.append(str(error)))
        inner.on("request", lambda request: self.fetched.append(request.url))

    def upload(self, path: Path) -> None:
        self.inner.set_input_files("#files", path)
        self.inner.wait_for_selector("#documents li")

    def ask(self, question: str, recipe: str = "", rival: str = "") -> None:
        self.inner.fill("#recipe", recipe)
        self.inner.fill("#rival", rival)
        self.inner.fill("#question", question)
        self.inner.click("#send")
        self.until("document.querySelectorAll('article').length && !document.querySelector('article[aria-busy]') && !send.disabled")

    def until(self, true: str) -> None:
        """Wait for an expression to hold. Playwright's own way needs eval, which the page's policy forbids."""
        eventually(lambda: self.inner.evaluate(true))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs chromium and playwright, which drives it")
    with playwright.sync_playwright() as browsers:
        opened = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    contexts: list[Any] = []

    def start(url: str, *, width: int = 1280, scheme: str = "light") -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = Page(contexts[-1].new_page())
        page.inner.goto(url)
        page.inner.wait_for_selector("#model option", state="attached")
        return page

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text(LETTER, encoding="utf-8")
    return path


def answering(prompt: Any) -> str:
    return "Ida painted it. [1]" if "Ida" in prompt[-1].content else "NOT FOUND"


def test_a_question_streams_and_its_citation_opens_the_source_at_the_words(serve, talker, open_page, letter, tmp_path):
    server = serve(talker(answering))
    page = open_page(server.url)
    page.upload(letter)
    page.ask(QUESTION, RECIPE)
    article = page.inner.locator("article")
    assert article.locator(".answer").inner_text() == "Ida painted it. [1]"
    assert "letter.txt, line 61" in article.locator(".sources").inner_text()
    article.locator(".answer .mark").click()
    mark = page.inner.locator("#source-text mark")
    # The emoji before the end of the quote is one character here and two in the browser's strings.
    assert "Ida painted the <b>fence</b> green in spring." in mark.inner_text()
    assert page.inner.locator("#source-text b").count() == 0
    assert mark.is_visible()
    page.inner.screenshot(path=tmp_path / "citation.png")
    page.inner.keyboard.press("Escape")
    assert not page.inner.locator("#source").is_visible()
    assert article.locator(".strip li").count() >= 2
    assert article.locator('.strip li[data-fate="left_out"]').count() == 1
    page.inner.locator("details.trace > summary").click()
    assert article.locator(".timeline > li").count() >= 2
    page.inner.screenshot(path=tmp_path / "answer.png", full_page=True)
    assert (tmp_path / "answer.png").stat().st_size > 20_000
    assert page.said == []
    assert all(url.startswith((server.url, "data:")) for url in page.fetched)


def test_the_strip_adds_up_to_what_the_request_held(serve, talker, open_page, letter):
    page = open_page(serve(talker(answering)).url)
    page.upload(letter)
    page.ask(QUESTION, RECIPE)
    legend = page.inner.locator(".legend").first.inner_text()
    told = {line.split(":")[0]: int(line.split(":")[1].replace(",", "")) for line in legend.splitlines()}
    cost = page.inner.locator("p.cost").inner_text()
    held = int(cost.split("·")[1].split()[0].replace(",", ""))
    read = int(cost.split("·")[2].split()[0].replace(",", ""))
    assert told["not read"] == held - read


def test_two_recipes_answer_beside_each_other(serve, talker, open_page, letter, tmp_path):
    page = open_page(serve(talker(answering)).url)
    page.upload(letter)
    page.ask(QUESTION, RECIPE, "map_reduce")
    titles = page.inner.locator("article h2").all_inner_texts()
    assert titles == ["full_text(k=2) > rag", "map_reduce"]
    boxes = [article.bounding_box() for article in page.inner.locator("article").all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    page.inner.screenshot(path=tmp_path / "two.png", full_page=True)


def test_everything_works_by_keyboard(serve, talker, open_page, letter):
    page = open_page(serve(talker(answering)).url)
    page.upload(letter)
    page.inner.keyboard.press("Tab")
    assert page.inner.evaluate("document.activeElement.className") == "skip"
    page.inner.keyboard.press("Enter")
    page.inner.focus("#recipe")
    page.inner.keyboard.type(RECIPE)
    page.inner.focus("#question")
    page.inner.keyboard.type(QUESTION)
    page.inner.keyboard.press("Control+Enter")
    page.inner.wait_for_selector("article:not([aria-busy]) .mark")
    for _ in range(20):
        page.inner.keyboard.press("Tab")
        if page.inner.evaluate("document.activeElement.className") == "mark":
            break
    page.inner.keyboard.press("Enter")
    page.inner.wait_for_selector("#source-text mark")
    page.inner.keyboard.press("Escape")
    assert page.inner.evaluate("document.activeElement.className") == "mark"  # where one was before


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_it_is_accessible_and_fits_a_phone(serve, talker, open_page, letter, tmp_path, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs chromium and axe, which checks accessibility")
    page = open_page(serve(talker(answering)).url, scheme=scheme, width=width)
    page.upload(letter)
    page.ask(QUESTION, RECIPE)
    page.inner.locator("details.trace > summary").click()
    found = axe.Axe().run(page.inner)
    assert found.violations_count == 0, found.generate_report()
    assert page.inner.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.inner.screenshot(path=tmp_path / "page.png", full_page=True)


def test_markup_in_an_answer_stays_text_and_errors_are_shown(serve, talker, open_page):
    page = open_page(serve(talker(lambda prompt: "<img src=x onerror=alert(1)> <script>1</script>")).url)
    page.ask("Hello?")
    assert page.inner.locator("article .answer").inner_text() == "<img src=x onerror=alert(1)> <script>1</script>"
    assert page.inner.locator("article img, article script").count() == 0
    page.inner.fill("#recipe", "snapvk")
    page.inner.click("#send")
    page.until("document.querySelector('#state').textContent.includes('snapvk')")
    assert "nearest" in page.inner.locator("#state").inner_text()


def test_an_answer_can_be_stopped(serve, talker, open_page, wait_until):
    model = talker(lambda prompt: "word " * 400)
    page = open_page(serve(model).url)
    model.held_from = 1
    model.pace.clear()
    page.inner.fill("#question", "Hello?")
    page.inner.click("#send")
    page.until("document.querySelector('article .answer')?.textContent.includes('word')")  # it has begun to write
    page.inner.click("#stop")
    page.inner.wait_for_selector("article .error")

    def one_more_word() -> int:
        """The server may not have heard of it yet: all words at once could be said before it does."""
        model.pace.set()
        model.pace.clear()
        return model.closed_early

    wait_until(one_more_word)
    assert page.inner.locator("article .error").inner_text() == "Stopped."


def test_memories_are_browsed_and_forgotten(serve, talker, open_page):
    with Memory(system="turn_retrieval") as memory:
        memory.add([{"role": "user", "content": "My goat is called Bertha."}])
        memory.add([{"role": "user", "content": "I moved to Lisbon."}])
    page = open_page(serve(talker()).url)
    page.inner.click('[data-view="memory"]')
    page.inner.wait_for_selector(".memories li")
    assert page.inner.locator(".memories > li").count() == 2
    first = page.inner.locator(".memories > li", has_text="Bertha")
    first.get_by_role("button", name="Where from?").click()
    first.locator(".history li").first.wait_for()
    page.inner.on("dialog", lambda dialog: dialog.accept())
    first.get_by_role("button", name="Forget").click()
    page.until("document.querySelectorAll('.memories > li').length === 1")
    with Memory(system="turn_retrieval") as memory:
        assert [turn.text for turn in memory.list()] == ["I moved to Lisbon."]


def test_a_run_of_the_bench_is_shown_with_its_pictures(serve, talker, open_page):
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    fields = {"model": "m", "task": "ruler.vt", "turn": 0, "recipe": "stock", "recipe_hash": "0", "protocol": "prompt", "machine": 1}
    rows = [Row(length=n, sample=i, depth=i / 4, score=1.0, nll=0.5, seconds=1.0, **fields) for n in (1024, 2048) for i in range(5)]
    with Store(home.data_dir("bench") / "first.bay.sqlite", write=True, make=True) as store:
        store.set_fact("plan", {"models": ["m"], "tasks": ["ruler.vt"], "recipes": ["stock"]})
        store.add(rows)
    page = open_page(serve(talker()).url)
    page.inner.click('[data-view="bench"]')
    page.inner.wait_for_selector("#report table")
    assert page.inner.locator("#report h2").first.inner_text() == "Bench: first"
    assert page.inner.locator("#report img").count() >= 1
    assert page.inner.evaluate("[...document.querySelectorAll('#report img')].every((image) => image.naturalWidth > 100)")
    assert page.said == []


# -- the routes behind the page


def test_the_page_allows_nothing_from_elsewhere(serve, talker):
    got = serve(talker()).http.get("/")
    assert got.headers["content-security-policy"] == CONTENT_POLICY
    assert "unsafe" not in CONTENT_POLICY
    assert "style=" not in got.text
    assert "onclick" not in got.text


def test_a_files_text_is_its_tenants_alone(serve, talker, tmp_path):
    from baywindow.server.keys import Keys

    keys = Keys(home.data_dir("serve") / "keys.json")
    one, other = keys.new("one"), keys.new("other")
    server = serve(talker(), require_keys=True)
    made = server.http.post(
        "/v1/files", files={"file": ("a.txt", b"secret words")}, data={"purpose": "user_data"}, headers={"authorization": f"Bearer {one}"}
    ).json()
    path = f"/studio/files/{made['id']}/text"
    assert server.http.get(path, headers={"authorization": f"Bearer {one}"}).text == "secret words"
    assert server.http.get(path, headers={"authorization": f"Bearer {other}"}).status_code == 404
    assert server.http.get(path).status_code == 401


def test_memories_of_one_tenant_are_not_anothers(serve, talker):
    from baywindow.server.keys import Keys

    keys = Keys(home.data_dir("serve") / "keys.json")
    one, other = keys.new("one"), keys.new("other")
    server = serve(talker(), require_keys=True)
    whose = {key: server.service.keys.tenant_of(key).id for key in (one, other)}
    with Memory(system="turn_retrieval") as memory:
        added = memory.add([{"role": "user", "content": "My goat is called Bertha."}], Scope(user=f"key:{whose[one]}"))

    def get(path: str, key: str, method: str = "GET") -> Any:
        return server.http.request(method, path, headers={"authorization": f"Bearer {key}"})

    assert len(get("/studio/memories", one).json()["data"]) == 1
    assert get("/studio/memories", other).json()["data"] == []
    assert get(f"/studio/memories/{added.turns[0].id}", other).status_code in (400, 404)
    assert get(f"/studio/memories/{added.turns[0].id}", other, "DELETE").status_code in (400, 404)
    assert len(get("/studio/memories?q=goat", one).json()["data"]) == 1


def test_runs_are_for_who_sits_at_the_machine(serve, talker):
    from baywindow.server.keys import Keys

    key = Keys(home.data_dir("serve") / "keys.json").new("one")
    server = serve(talker(), require_keys=True)
    for path in ("/studio/runs", "/studio/runs/first"):
        assert server.http.get(path, headers={"authorization": f"Bearer {key}"}).status_code == 403


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "nothing", "%2Ftmp%2Fx.bay.sqlite"])
def test_only_runs_that_are_listed_are_opened(serve, talker, name):
    assert serve(talker()).http.get(f"/studio/runs/{name}").status_code == 404


def test_a_recipe_is_told_back_with_what_to_write_for_it(serve, talker):
    server = serve(talker())
    assert server.http.get("/studio/recipe", params={"line": "hybrid > rag"}).json() == {"line": "hybrid > rag", "suffix": "|hybrid > rag"}
    inside = server.http.get("/studio/recipe", params={"line": "kivi | stuff"}).json()
    assert inside["suffix"] == "+kivi | stuff"
    assert server.http.get("/studio/recipe", params={"line": "snapvk"}).status_code == 400
