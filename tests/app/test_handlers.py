"""What the controls get back, called as the page calls them, with the real embedded models; no gradio."""

import pytest

from seaanchor.app.handlers import Handlers
from seaanchor.app.settings import EMPTY, MODEL, default_class_names, example_files
from seaanchor.data.sources import open_images
from seaanchor.data.types import labels_of, texts_of

HANDLERS = Handlers("cpu")
DALMATIAN = next(file for file in example_files() if file.parent.name == "dalmatian")
CONTROLS = {"names": "", "word": "", "seed": 0, "levels": 0, "attack": "PGD", "steps": 10, "t": 1, "source": ""}


def shown(file=DALMATIAN, **changes):
    """All that the page shows after a change of its controls."""
    return list(HANDLERS.show({"path": str(file)}, **CONTROLS | changes))


def test_what_the_page_offers_is_what_the_library_reads():
    """The page lists classes and photos by itself, because it is there before the library is."""
    images = open_images("photos", split="test")
    assert default_class_names() == texts_of(images)
    assert len(example_files()) == 8
    for file in example_files():
        place = [str(path) for path in images.paths].index(str(file))
        assert texts_of(images)[labels_of(images)[place]] == file.parent.name


def test_no_photo_is_a_hint_and_a_photo_is_the_models_answers():
    assert list(HANDLERS.show(None, **CONTROLS)) == [EMPTY]
    (page,) = shown()
    assert f"<h3>{MODEL}</h3>" in page and f"<h3>{MODEL}-lore</h3>" in page and f"<h3>{MODEL}-dpo</h3>" in page
    assert page.count("Answers dalmatian") == 3 and "sa-problem" not in page


def test_every_step_of_an_attack_is_shown_and_the_last_says_who_fell():
    pages = shown(levels=1)
    assert "Step 1 of 10" in "".join(pages[:-1]) and "<progress" in pages[-2] and "<progress" not in pages[-1]
    fell, held = pages[-1].split("</section>")[:2]
    assert "instead of dalmatian after" in fell and "Still answers dalmatian" in held


def test_a_word_is_drawn_and_drawn_elsewhere_by_another_seed():
    (plain,), (drawn,), (elsewhere,) = shown(), shown(word="car"), shown(word="car", seed=1)
    pictures = {page.split('src="')[1].split('"')[0] for page in (plain, drawn, elsewhere)}
    assert len(pictures) == 3 and "Before: dalmatian" in drawn and "Before" not in plain


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"levels": 40}, "The radius ε in 255ths is 40"),
        ({"levels": None}, "is nothing"),
        ({"levels": "4/255"}, "is &#x27;4/255&#x27;"),
        ({"steps": float("nan")}, "The number of steps is nan"),
        ({"steps": 0}, "1 to 40"),
        ({"t": None}, "T is nothing"),
        ({"t": 3}, "-2 to 2"),
        ({"attack": "FAB", "levels": 1}, "PGD or APGD"),
        ({"names": "cat"}, "class list of 1"),
        ({"names": "cat\ncat"}, "twice"),
        ({"word": "x" * 61}, "61 characters"),
        ({"source": "no/such/run"}, "does not exist"),
        ({"file": "no/such/picture.png"}, "could not be read"),
    ],
)
def test_a_fault_is_one_message_on_the_page(change, said):
    pages = shown(**change)
    assert pages[-1].count('role="alert"') == 1 and said in pages[-1] and "Expected: " in pages[-1]


def test_a_run_is_loaded_or_the_page_says_why_not(hardened_run):
    found = HANDLERS.load(str(hardened_run))
    assert [player.label for player in found.cast.players] == ["seaanchor-tiny, untouched", "hardened"]
    assert "and hardened" in found.said and HANDLERS.move(str(hardened_run), 1) == ""
    hardened_run.rename(hardened_run.with_name("elsewhere"))
    lost = HANDLERS.load(str(hardened_run))
    assert lost.cast is None and "does not exist" in lost.said


def test_a_run_that_was_moved_away_answers_on_and_says_so(hardened_run):
    assert "was moved" not in shown(source=str(hardened_run))[-1]
    hardened_run.rename(hardened_run.with_name("elsewhere"))
    (page,) = shown(source=str(hardened_run))
    assert "was moved or removed; the page still answers from memory" in page and page.count("Answers dalmatian") == 2


def test_a_t_that_is_being_edited_is_a_message_too(steered_run):
    assert 'role="alert"' in HANDLERS.move(str(steered_run), None)
