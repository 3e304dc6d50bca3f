"""What a report says of rows whose meaning is known, and that it can be looked at."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, which draws reports")
made_up = importlib.util.module_from_spec(
    spec := importlib.util.spec_from_file_location("made_up", Path(__file__).parent / "made_up.py")  # type: ignore[arg-type]
)
spec.loader.exec_module(made_up)  # type: ignore[union-attr]

from baywindow.bench import ledger, report  # noqa: E402
from baywindow.bench.compare import compared  # noqa: E402
from baywindow.bench.report import tables  # noqa: E402
from baywindow.bench.report.figures import front, pareto, scatter  # noqa: E402

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def summary():
    return made_up.summary()


def line_of(block, recipe: str) -> dict[str, str]:
    [found] = [row for row in block.rows if row[0] == recipe]
    names = [
        f"{name} {i}" if block.header.count(name) > 1 and block.header.index(name) != i else name for i, name in enumerate(block.header)
    ]
    return dict(zip(names, found, strict=True))


def test_a_difference_inside_its_interval_is_no_difference(summary) -> None:
    line = line_of(tables.quality(summary, "toy-model", 1024), made_up.SNAP)
    assert line["less the whole text's"] == "no difference"
    mean, low, high, p = re.fullmatch(r"(-\d\.\d\d) \[(-\d\.\d\d), (-\d\.\d\d)\] p(.*)", line["less chance's"]).groups()  # type: ignore[union-attr]
    assert float(low) <= float(mean) <= float(high)
    assert -3.1 < float(mean) < -2.9
    assert float(p[1:]) < 0.01  # all ten differences have one sign: 2 of 1,024 sign changes are as large
    assert re.fullmatch(r"1\.0\d \[\d\.\d\d, 1\.\d\d\] \(10\)|0\.9\d \[\d\.\d\d, \d\.\d\d\] \(10\)", line["answer NLL"])


def test_a_real_loss_is_printed_with_its_interval(summary) -> None:
    line = line_of(tables.quality(summary, "toy-model", 1024), made_up.PACKED)
    assert line["less the whole text's"].startswith("+0.6") or line["less the whole text's"].startswith("+0.5")


def test_ask_is_compared_with_ask_over_the_whole_text(summary) -> None:
    cell = summary.cell("toy-model", 1024, made_up.ASKED)
    assert tables.baseline(summary, cell) == made_up.WHOLE
    assert tables.baseline(summary, summary.cell("toy-model", 1024, made_up.SNAP)) == made_up.STOCK


def test_the_ledger_follows_its_rules(summary) -> None:
    verdicts = {e.technique: e.verdict for e in ledger.ledger(summary)}
    assert verdicts == {
        "snapkv": "holds",  # better than chance, no worse than stock
        "kivi": "partly",  # smaller, but worse than stock
        "full_text": "holds",  # no lower a score from fewer tokens
        "rag": "holds",
        "stuff": "not tested",  # it is what the others are compared with
    }


def test_a_selection_that_is_no_better_than_chance_is_not_seen(summary) -> None:
    worse = [made_up.replace(r, nll=4.0 + (r.sample % 3) / 100) if r.recipe == made_up.SNAP else r for r in summary.rows]
    found = {e.technique: e.verdict for e in ledger.ledger(made_up.summary(rows=tuple(worse)))}
    assert found["snapkv"] == "not seen"


def test_too_few_samples_judge_nothing() -> None:
    few = made_up.summary(rows=tuple(made_up.rows(samples=4)))
    assert {e.verdict for e in ledger.ledger(few)} == {"not tested"}


def test_one_verdict_from_many() -> None:
    assert ledger.overall(["holds", "holds", "not tested"]) == "holds"
    assert ledger.overall(["holds", "not seen"]) == "partly"
    assert ledger.overall(["not seen", "not tested"]) == "not seen"
    assert ledger.overall(["not tested"]) == "not tested"


def test_effective_length_is_the_longest_above_rulers_threshold(summary) -> None:
    failing = [made_up.replace(r, score=0.855) if r.recipe == made_up.STOCK and r.length == 4096 else r for r in summary.rows]
    block = tables.effective(made_up.summary(rows=tuple(failing)), "toy-model")
    assert line_of(block, made_up.STOCK)["effective length"] == "1k"
    assert line_of(block, made_up.SNAP)["effective length"] == "4k"
    assert line_of(block, made_up.CHANCE)["effective length"] == "below 1k"


def test_the_front_is_what_nothing_beats_in_both() -> None:
    # (1, 5) and (2, 3) and (4, 1) are best; (3, 3) equals (2, 3) in one and loses in the other, (5, 5) loses in both.
    assert front([(5, 5), (1, 5), (3, 3), (2, 3), (4, 1)]) == [1, 3, 4]
    assert front([(1, 1), (1, 1)]) == [0]


def test_a_failed_run_and_an_empty_run_have_reports_too() -> None:
    failed = [made_up.replace(r, error="broken", nll=None, score=None) for r in made_up.rows()]
    text = report.text(report.content(made_up.summary(rows=tuple(failed)), figures=True))
    assert "0 replies measured, 120 failed" in text
    assert report.text(report.content(made_up.summary(rows=()), figures=True)).startswith("# Bench: made-up")


def test_comparing_a_run_with_itself_finds_no_difference(summary) -> None:
    [block] = [b for b in compared(summary, summary) if b.kind == "table"][:1]
    assert all(row[3] == "no difference" and row[6] == "no difference" for row in block.rows)


def test_samples_of_other_text_are_not_paired(summary) -> None:
    other = made_up.summary(rows=tuple(made_up.replace(r, sample_id="another") for r in summary.rows))
    [block] = [b for b in compared(summary, other) if b.kind == "table"][:1]
    assert all(row[3] == "–" for row in block.rows)


def test_labels_of_equal_points_do_not_lie_on_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [(f"a_technique_of_some_length_{i}", 1.0, 0.5, False) for i in range(4)] + [("far", 9.0, 0.1, True)]
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    scatter([("KV MiB held", points)])(figure)
    (ax,) = figure.axes
    boxes = [text.get_window_extent() for text in ax.texts]
    assert sorted(text.get_text() for text in ax.texts) == sorted(name for name, *_ in points)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in box.get_points())


def test_a_recipe_of_few_samples_has_no_place_beside_the_others(summary) -> None:
    few = tuple(r for r in summary.rows if r.recipe != made_up.SNAP or r.sample < 4)
    [whole], [thin] = (pareto(found, "toy-model", 1024) for found in (summary, made_up.summary(rows=few)))
    assert "left out" not in whole.text
    assert thin.text.endswith(f"; left out, being measured on fewer samples: {made_up.SNAP}")


def test_text_of_replies_and_recipes_is_never_markup(summary) -> None:
    blocks = [report.content.__globals__["words"]("<b>bold</b> `code`"), *report.content(summary, figures=False)]
    page = report.page("<title>", blocks)
    assert "<b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; <code>code</code>" in page
    assert "<script" not in page


@pytest.fixture(scope="module")
def written(summary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    made = report.write(summary, folder)
    assert {p.name for p in made} == {
        "report.html", "report.md", "toy-model-1k-pareto.png", "toy-model-4k-pareto.png", "toy-model-nll-by-depth.png",
        "toy-model-score-by-depth.png",
    }  # fmt: skip
    return folder


@pytest.mark.slow
def test_the_page_needs_no_other_file(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:image/png)', page)
    assert "@import" not in page
    assert page.count("<svg") == 4
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))  # four figures in one page, each with ids of its own


@pytest.mark.slow
def test_the_same_rows_give_the_same_page(summary, written: Path, tmp_path: Path) -> None:
    report.write(summary, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == (written / "report.html").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_in_a_browser(written: Path, tmp_path: Path) -> None:
    """Nothing is fetched, nothing is complained about, and everything is there to be seen."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs chromium and playwright, which drives it")
    said: list[str] = []
    fetched: list[str] = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto((written / "report.html").as_uri())
        assert page.locator("h1").inner_text() == "Bench: made-up"
        assert page.locator("figure svg").count() == 4
        assert page.locator("table").count() == 6  # quality and cost twice, by length; effective length; ledger
        assert page.locator("td.holds").count() == 3
        assert all(box["width"] > 300 and box["height"] > 100 for box in [s.bounding_box() for s in page.locator("figure svg").all()])
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        browser.close()
    assert said == []
    assert fetched == [(written / "report.html").as_uri()]
    assert (tmp_path / "report.png").stat().st_size > 20_000
