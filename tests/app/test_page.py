"""The page in a real Chromium: every control, by mouse and by keyboard, for two users at once, at a phone's width. Its
console stays empty, and it asks for nothing that is not on this machine."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from seaanchor.app.settings import example_files

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.exhaustive,
    pytest.mark.timeout(560),
    pytest.mark.skipif(find_spec("gradio") is None, reason="the extra `app` is not installed"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]
GRADIO_S_OWN = "Method not implemented."  # a warning of its client after every upload
PATIENCE = 60_000  # milliseconds; the first answer waits until the models are loaded


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the command serves the page."""
    log = tmp_path_factory.mktemp("app") / "log"
    command = [sys.executable, "-m", "seaanchor.cli", "app", "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=dict(os.environ))
    line = server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + log.read_text()
    yield found.group()
    server.terminate()
    server.wait(30)
    server.stdout.close()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Opens the page as somebody new; at the end nobody's console holds a line, and nothing came from elsewhere."""
    said, asked, contexts = [], [], []

    def opened(width: int = 1200):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#examples button")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in said if line != GRADIO_S_OWN] == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def says(page, pattern: str) -> None:
    """Waits until the page's answer matches."""
    sync_api.expect(page.locator("#shown")).to_contain_text(re.compile(pattern), timeout=PATIENCE)


def enter(page, control: str, value: str) -> None:
    field = page.locator(f"{control} input[type=number]")
    field.fill(value)
    field.press("Tab")


def test_every_control(visit, steered_run):
    page = visit()
    page.locator("#examples button").nth(2).click()
    says(page, "Answers dalmatian.*Answers dalmatian")
    enter(page, "#epsilon", "1")
    says(page, "Answers (?!dalmatian).* instead of dalmatian after .*Still answers dalmatian")
    page.get_by_label("APGD").check()
    enter(page, "#steps", "1")
    says(page, "after 1 step|Still answers dalmatian.*Still answers dalmatian")
    enter(page, "#epsilon", "40")
    says(page, "ε in 255ths is 40. Expected: a number from 0 to 16")
    enter(page, "#epsilon", "0")
    word = page.locator("#word input, #word textarea")
    word.fill("car")
    page.locator("#stick").click()
    says(page, "Before: dalmatian")
    first = page.locator(".sa-pictures img").first.get_attribute("src")
    page.locator("#again").click()
    page.wait_for_function("src => document.querySelector('.sa-pictures img')?.src !== src", arg=first)
    word.fill("")
    page.locator("#stick").click()
    page.get_by_role("button", name="What it may answer").click()
    page.locator("#classes textarea").fill("cat\ndog")
    page.locator("#rename").click()
    says(page, "Answers (cat|dog)")
    page.get_by_role("button", name="A run of your own").click()
    page.locator("#run input, #run textarea").fill(str(steered_run))
    page.locator("#load").click()
    says(page, "steered")
    sync_api.expect(page.locator("#moved")).to_contain_text("t = 1", timeout=PATIENCE)
    enter(page, "#t", "0")
    sync_api.expect(page.locator("#moved")).to_contain_text("smoke test", timeout=PATIENCE)
    gone = steered_run.rename(steered_run.with_name("elsewhere"))
    page.locator("#stick").click()
    says(page, "was moved or removed; the page still answers")
    page.locator("#load").click()
    sync_api.expect(page.locator("#said")).to_contain_text("does not exist", timeout=PATIENCE)
    assert gone.is_dir()


def test_a_broken_picture_is_one_message(visit, tmp_path):
    page, broken = visit(), tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    page.locator("#picture input[type=file]").first.set_input_files(broken)
    says(page, "The picture could not be read.*Choose another picture")
    assert page.get_by_role("alert").count() == 1


def test_two_users_see_their_own(visit):
    one, other = visit(), visit()
    one.locator("#examples button").nth(2).click()
    other.locator("#picture input[type=file]").first.set_input_files(example_files()[1])
    enter(one, "#epsilon", "1")
    enter(other, "#epsilon", "2")
    says(one, "instead of dalmatian after .*128 times.*Still answers dalmatian|128 times")
    says(other, "64 times")
    says(one, "128 times")


def test_a_huge_picture_is_refused_by_its_size(visit, tmp_path):
    page, huge = visit(), tmp_path / "huge.png"
    huge.write_bytes(bytes(26_000_000))
    page.locator("#picture input[type=file]").first.set_input_files(huge)
    sync_api.expect(page.locator("body")).to_contain_text("exceed the maximum allowed size", timeout=PATIENCE)
    sync_api.expect(page.locator("#shown")).to_contain_text("Choose a photo")


def reach(page, matches: str) -> None:
    """Moves by the tabulator until what has the focus matches."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", matches):
            return
    raise AssertionError(f"the tabulator does not reach {matches}")


def test_a_telephone_and_a_keyboard(visit):
    page = visit(390)
    reach(page, "#examples button")
    page.keyboard.press("Enter")
    says(page, "Answers airplane")
    reach(page, "#epsilon input[type=range]")
    page.keyboard.press("ArrowRight")
    says(page, "510 times.*(nstead of|till answers) airplane.*(nstead of|till answers) airplane")
    reach(page, "#word input, #word textarea")
    page.keyboard.type("car")
    page.keyboard.press("Enter")
    page.wait_for_function("""() => document.querySelectorAll("#shown .sa-before").length === 2""")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
