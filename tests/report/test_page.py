"""The page and its CSV: every number of the results, nothing from elsewhere, nothing that a name could smuggle in."""

import base64
import csv
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from seaanchor.config.run_settings import for_run_folder
from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.palette import COLOURS, NEUTRAL
from seaanchor.report.measures import Value
from seaanchor.report.page import _unbroken, write_report
from seaanchor.report.text import value_text

VOID = {"meta", "link", "img", "br", "wbr"}
CHART = re.compile(r"data:image/svg\+xml;base64,([\w+/=]+)")


def charts(html: str) -> list[str]:
    """The SVG source of every chart of a page."""
    return [base64.b64decode(data).decode() for data in CHART.findall(html)]


class Reader(HTMLParser):
    """Text, ids, addresses and tags of a page; fails where tags do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def three(made, tmp_path):
    reference = made.everything(-0.2, pretrained="base")
    return [
        made.write_run(tmp_path / name, made.everything(shift, reference=reference))
        for name, shift in (("fare", 0.1), ("lore", 0.0), ("dpo", 0.2))
    ]


def test_one_run_lands_in_its_folder(three):
    page = write_report([three[0]], gallery=0)
    assert page == three[0] / "report.html"
    text = Reader(page.read_text()).text
    expected = (
        "Gains and costs",
        "70.0",
        "smoke test of the method, not a fairness claim",
        "1 of 1 passed, and 1 of 1 of the untouched model",
        "arXiv 2505.18884",
        "a constant answer gets 25.0 %",
    )
    for words in expected:
        assert words in text
    assert "has not finished" not in text


def test_a_number_and_its_percent_sign_stay_on_one_line():
    html = '<p>7.0 % of 12 %</p><pre class="x">--prompts "7.0 %"</pre><code>5 %</code> 3 %'
    kept = '<pre class="x">--prompts "7.0 %"</pre><code>5 %</code>'
    assert _unbroken(html) == f"<p>7.0\u00a0% of 12\u00a0%</p>{kept} 3\u00a0%"


def test_nothing_comes_from_elsewhere_and_everything_has_its_own_name(three, tmp_path):
    page = write_report(three, tmp_path / "all.html", gallery=0)
    read = Reader(page.read_text())
    assert "script" not in read.tags and "iframe" not in read.tags
    assert all(address.startswith(("#", "data:")) or address == "all.csv" for address in read.addresses)
    assert not re.search(r"@import|url\((?!#)", page.read_text())
    assert len(read.ids) == len(set(read.ids))
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.ids)


def test_figures_take_the_palette_s_colours_and_fetch_nothing(three, tmp_path):
    html = write_report(three, tmp_path, gallery=0).read_text()
    plots = charts(html)
    assert len(plots) >= 6
    for plot in plots:
        assert NEUTRAL in plot
        assert set(re.findall(r"(?:fill|stroke): ?(#\w+)", plot)) <= {NEUTRAL, *COLOURS}
        assert all(address.startswith("#") for address in re.findall(r'href="([^"]*)"', plot))
        assert not re.search(r"@import|url\((?!#)", plot)


def test_every_picture_says_what_it_shows(three, tmp_path):
    html = write_report(three, tmp_path, gallery=0).read_text()
    pictures = re.findall(r"<img[^>]*>", html)
    described = [re.search(r' alt="([^"]*)"', picture) for picture in pictures]
    assert len(pictures) == len(charts(html)) and all(found and found.group(1) for found in described)
    assert "Clean accuracy against" in html and "Violation rate over training" in html


def test_the_same_input_gives_the_same_page(three, tmp_path):
    pages = [write_report(three, tmp_path / "page", gallery=0).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_page_has_its_title_and_its_day(three, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    html = write_report(three, tmp_path, gallery=0, title="Ours & <theirs>").read_text()
    assert "2 January 1970" in Reader(html).text
    assert "<h1>Ours &amp; &lt;theirs&gt;</h1>" in html and "<title>Ours &amp; &lt;theirs&gt; · " in html
    assert "--title 'Ours & <theirs>'" in Reader(html).text


def test_a_reader_of_the_screen_finds_headings_in_order_and_a_way_past_the_links(three, tmp_path):
    html = write_report(three, tmp_path, gallery=0).read_text()
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(lower <= higher + 1 for higher, lower in pairwise(levels))
    assert html.index('<a class="skip" href="#main">') < html.index("<nav") < html.index('<main id="main">')
    assert all(re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<th [^>]*>(.*?)</th>", html))


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_stands_out_from_its_ground_in_light_and_dark(three, tmp_path):
    style = write_report(three, tmp_path, gallery=0).read_text()
    light, dark, *_ = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in re.findall(r":root {(.*?)}", style, re.S)
    ]
    pairs = [(ink, ground) for ink in ("ink", "muted", "gain", "loss", "accent") for ground in ("page", "panel")]
    pairs += [("gain", "gain-soft"), ("loss", "loss-soft"), ("ink", "warn-soft"), ("ink", "loss-soft")]
    for colours in (light, dark):
        for pair in pairs:
            high, low = sorted((luminance(colours[name]) for name in pair), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, pair


def test_no_cell_is_empty_or_a_dash(three, made, tmp_path):
    clean_only = made.write_run(tmp_path / "bare", made.result(0.6, 0.1))
    html = write_report([*three, clean_only], tmp_path / "page", gallery=0).read_text()
    cells = [Reader(cell).text.strip() for cell in re.findall(r"<td data-of[^>]*>(.*?)</td>", html, re.S)]
    assert len(cells) > 50 and not [cell for cell in cells if cell in ("", "–", "-")]


def test_passed_checks_are_folded_and_failed_ones_are_not(made, tmp_path):
    checks = {"steps": {"passed": False, "detail": "weaker"}, "size": {"passed": True, "detail": ""}}
    html = write_report([made.write_run(tmp_path / "run", made.everything(checks=checks))], gallery=0).read_text()
    section = html[html.index('<section id="checks">') : html.index('<section id="protocol">')]
    folded = "".join(re.findall(r"<details>.*?</details>", section, re.S))
    assert "size" in folded and "steps" not in folded
    assert "steps" in section and "<details open" not in html


def test_the_csv_holds_what_the_results_hold(three, tmp_path):
    page = write_report(three, tmp_path, gallery=0)
    with page.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    attacked = {row["model"]: row for row in rows if (row["suite"], row["measure"]) == ("robust", "ε = 1/255")}
    assert {name: float(row["value"]) for name, row in attacked.items()} == pytest.approx(
        {"fare": 0.5, "lore": 0.4, "dpo": 0.6}
    )
    assert float(attacked["dpo"]["reference"]) == pytest.approx(0.2) and float(
        attacked["dpo"]["change"]
    ) == pytest.approx(0.4)
    assert float(attacked["dpo"]["change_low"]) < 0.4 < float(attacked["dpo"]["change_high"])


def test_names_are_text_and_never_markup(made, tmp_path):
    nasty = "<script>alert(1)</script>$x_"
    data = made.everything(dataset=nasty, notes=[nasty], checks={nasty: False}, skipped=nasty)
    data["protocol"]["class_names"] = [nasty]
    run = made.write_run(
        tmp_path / "run <b>&", data, config=made.config.replace("photos-mini/train", json.dumps(nasty))
    )
    read = Reader(write_report([run], gallery=0).read_text())
    assert "script" not in read.tags and "b" not in read.tags
    assert "self-check failed" in read.text and "alert(1)" in read.text


def test_a_spreadsheet_takes_no_name_for_a_formula(made, tmp_path):
    run = made.write_run(tmp_path / "run", made.everything(dataset="=1+1"))
    with (write_report([run], gallery=0).with_suffix(".csv")).open() as file:
        assert {row["dataset"] for row in csv.DictReader(file)} == {"'=1+1"}


def test_an_unfinished_run_says_so_first(made, tmp_path):
    run = made.write_run(tmp_path / "half", steps=40, finished=False)
    text = Reader(write_report([run]).read_text()).text
    assert "has not finished: it has reached step 40 of 60" in text and "Nothing was evaluated yet" in text
    assert text.index("has not finished") < text.index("The run")


def test_a_run_without_results_is_named(three, made, tmp_path):
    bare = made.write_run(tmp_path / "bare")
    assert (
        "Without results: bare."
        in Reader(write_report([three[0], bare], tmp_path / "page", gallery=0).read_text()).text
    )
    share = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    rows = [
        {"t": t} | dict.fromkeys(("clean", "attacked", "attack_word", "two_way", "reading"), share) for t in (0.0, 1.0)
    ]
    (bare / "steering.json").write_text(json.dumps({"data": "photos-mini/test", "rows": rows}))
    assert (
        "Without results" not in Reader(write_report([three[0], bare], tmp_path / "other", gallery=0).read_text()).text
    )  # its slider is


def test_numbers_of_other_images_are_not_compared_in_silence(made, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        made.write_run(tmp_path / name, made.everything(protocol={"seed": seed, "plans": []}))
    text = Reader(write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "page", gallery=0).read_text()).text
    assert "Models that were measured on different images are not compared: a on a [set] (50 images, seed 0)" in text


def test_the_slider_s_curve(made, tmp_path):
    run = made.write_run(tmp_path / "map")
    rows = [{"t": t, "clean": made.rows(0.7), "attacked": made.rows(0.3 + 0.1 * t)} for t in (-1, 0, 1)]
    (run / "steering.json").write_text(json.dumps({"data": "photos-mini/test", "rows": rows}))
    html = write_report([run], gallery=0).read_text()
    assert "wrong word drawn (T)" in Reader(html).text
    assert any(
        "exponent of the map's singular values" in Reader(chart[chart.index("<svg") :]).text for chart in charts(html)
    )


def test_where_the_page_goes(made, tmp_path):
    runs = [made.write_run(tmp_path / name, made.everything()) for name in ("a", "b")]
    with pytest.raises(SeaAnchorError, match="without --output"):
        write_report(runs, gallery=0)
    with pytest.raises(SeaAnchorError, match="gallery of -1"):
        write_report(runs[:1], gallery=-1)
    (tmp_path / "file").touch()
    with pytest.raises(SeaAnchorError, match="is a file"):
        write_report(runs, tmp_path / "file", gallery=0)
    assert write_report(runs, tmp_path / "x.html", gallery=0) == tmp_path / "x.html"


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [(0.12345, True, "12.3"), (-0.0001, True, "0.0"), (-0.5, False, "\N{MINUS SIGN}0.500"), (1.0, True, "100.0")],
)
def test_how_numbers_are_written(value, percent, text):
    assert value_text(Value(value), percent) == text


def test_the_command(made, tmp_path, capsys, monkeypatch):
    from seaanchor.cli import app as cli

    run = made.write_run(tmp_path / "run", made.everything())
    monkeypatch.setattr(
        "sys.argv", ["seaanchor", "report", str(run), "--gallery", "0", "--output", str(tmp_path / "out.html")]
    )
    cli.main()
    assert (tmp_path / "out.html").is_file() and (tmp_path / "out.csv").is_file()
    monkeypatch.setattr("sys.argv", ["seaanchor", "report", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "is missing" in capsys.readouterr().err


def test_where_things_lie_on_this_machine_stays_out_of_the_page(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = made.config.replace("photos-mini/train", str(tmp_path / "data" / "train"))
    skipped = f"1 of 51 images in {tmp_path / 'data' / 'test'} could not be read"
    result = made.everything(dataset=str(tmp_path / "data" / "test"), skipped=skipped)
    run = made.write_run(tmp_path / "runs" / "lore", result, config=config)
    (run / "steering.json").write_text(
        json.dumps(
            {"data": str(tmp_path / "data" / "test"), "rows": [{"t": t, "clean": made.rows(0.7)} for t in (0, 1)]}
        )
    )
    page = write_report([run], gallery=0)
    for text in (page.read_text(), page.with_suffix(".csv").read_text(), *charts(page.read_text())):
        assert tmp_path.name not in text.replace("<wbr>", "")
    assert "data/test" in page.read_text().replace("<wbr>", "")


def test_a_mixture_of_versions_is_told_on_the_page_and_to_the_user(made, tmp_path, capsys):
    (tmp_path / "old.json").write_text(json.dumps(made.result(0.5, 0.3, model="x")))
    (tmp_path / "new.json").write_text(json.dumps(made.everything()))
    text = Reader(write_report([tmp_path], gallery=0).read_text()).text
    told = capsys.readouterr().err
    assert told.startswith("warning: Results of different versions") and "old.json" in told and "new.json" in told
    assert "are side by side and may not be comparable" in text


@pytest.mark.parametrize(
    ("change", "lines"),
    [(("", ""), 1), (("kind: lagrangian", "kind: kl"), 0), (("adapter: {kind: full}", "adapter: {kind: linear}"), 0)],
)
def test_rho_is_drawn_where_it_is_a_bound_on_embeddings(made, tmp_path, change, lines):
    run = made.write_run(tmp_path / "run", made.everything(), config=made.config.replace(*change))
    html = write_report([run], gallery=0).read_text()
    drift = html[html.index("How far clean images have moved") :]
    assert "".join(charts(drift[: drift.index("</section>")])).count(">ρ = 0.1<") == lines


def test_paths_are_shown_as_the_guide_says(made, tmp_path, monkeypatch):
    """Data below the working folder, below the home folder, and elsewhere, as a run and as an evaluation name it."""
    work, home = tmp_path / "work", tmp_path / "home"
    for folder in (work, home, tmp_path / "data"):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    for data, in_run, in_result in (
        (str(work / "data"), "./data", "./data"),
        (str(home / "data"), "~/data", "~/data"),
        ("../data", str(tmp_path / "data"), "../data"),
    ):
        run = made.write_run(work / "runs" / in_result.replace("/", ""), made.everything(dataset=data))
        settings = for_run_folder(yaml.safe_load(made.config) | {"train_data": data}, run)
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        text = Reader(write_report([run], gallery=0).read_text().replace("<wbr>", "")).text
        assert f"train_data: {in_run} " in text and f"--data {in_result} " in text
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "report.md").read_text()
    assert "Others are absolute in a run's settings, and in results as they were given to `evaluate`." in guide


@pytest.mark.parametrize(
    "steps", [(3,), *(pytest.param(some, marks=pytest.mark.exhaustive) for some in ((1, 2), (7, 8, 9))), (100, 2000)]
)
def test_ticks_are_at_whole_steps(made, tmp_path, steps):
    run = made.write_run(tmp_path / "run", made.everything())
    seen = {"photos": {"clean": 0.5, "pgd": 0.25, "n": 8}}
    rows = [row for step in steps for row in ({"step": step, "clean_distance": 0.1}, {"step": step, "eval": seen})]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [svg for svg in charts(write_report([run], gallery=0).read_text()) if ">step</text>" in svg]
    assert len(found) == 2
    for svg in found:
        ticks = re.findall(r'<g id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', svg, re.DOTALL)
        assert ticks and all(tick.isdigit() for tick in ticks)
        points = svg.count("<use ") - len(re.findall(r'id="[xy]tick_', svg))  # a line of one point shows nothing
        assert (points > 0) == (len(steps) < 3)
