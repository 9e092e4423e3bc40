"""What the page answers, with the real embedded models and photos; no gradio."""

import pytest
import torch
from PIL import Image

from seaanchor.app.answers import answers, class_names, classifier
from seaanchor.app.attack import attack_steps, radius
from seaanchor.app.models import cast_of
from seaanchor.app.pictures import lettered, pixels_of, read_upload
from seaanchor.app.scene import Asked, scenes
from seaanchor.app.settings import default_class_names, example_files
from seaanchor.attacks import APGD, PGD
from seaanchor.errors import SeaAnchorError

NAMES = default_class_names()


@pytest.fixture(scope="module")
def cast():
    """The embedded models."""
    return cast_of("", "cpu")


@pytest.fixture(scope="module")
def dog():
    """A photo of a dalmatian, which every embedded model knows."""
    return read_upload(next(file for file in example_files() if file.parent.name == "dalmatian"))


def test_answers_are_those_of_the_zero_shot_classifier(cast, dog):
    player = cast.players[0]
    found = answers(classifier(player, NAMES), pixels_of(player, dog))
    texts = player.model.encode_texts([f"a photo of a {name}." for name in NAMES])
    image, texts = player.model.encoder(pixels_of(player, dog))[0], torch.nn.functional.normalize(texts, dim=-1)
    shares = (player.model.logit_scale * texts @ torch.nn.functional.normalize(image, dim=-1)).softmax(-1)
    best = shares.topk(5)
    assert [answer.name for answer in found] == [NAMES[i] for i in best.indices]
    assert [answer.share for answer in found] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert found[0].name == "dalmatian"


def test_the_list_of_classes_decides_what_may_be_answered(cast, dog):
    player = cast.players[0]
    found = answers(classifier(player, class_names("cat\n a dog,car")), pixels_of(player, dog))
    assert {answer.name for answer in found} == {"cat", "a dog", "car"}
    assert class_names("  \n") == NAMES
    with pytest.raises(SeaAnchorError, match="a class list of 1"):
        classifier(player, class_names("cat"))
    with pytest.raises(SeaAnchorError, match="1001 classes"):
        class_names("\n".join(map(str, range(1001))))


@pytest.mark.parametrize(("kind", "attack"), [("PGD", PGD), ("APGD", APGD)])
def test_the_steps_end_where_the_library_s_attack_ends(cast, dog, kind, attack):
    """On the untouched model, which falls, and on the hardened one, which holds out."""
    outcomes = []
    for player in cast.players[:2]:
        seen, pixels, label = classifier(player, NAMES), pixels_of(player, dog), NAMES.index("dalmatian")
        steps = list(attack_steps(seen, pixels, label, 1 / 255, kind, 10))
        more = {"targeted": False} if kind == "APGD" else {}
        expected = attack(1 / 255, num_steps=10, **more).attack(seen, pixels, torch.tensor([label]))
        assert torch.equal(steps[-1].pixels_1CHW, expected.pixels_BCHW)
        assert steps[-1].fooled == bool(expected.fooled_B)
        numbers = [step.number for step in steps[:-1]]
        assert numbers == list(range(steps[-1].number + 1)) and [step.last for step in steps[:-1]] == [False] * len(
            numbers
        )
        assert max((step.pixels_1CHW - pixels).abs().max() for step in steps) <= 1 / 255 + 1e-6
        outcomes.append(steps[-1].fooled)
    assert outcomes == [True, False]


def test_an_attack_that_nobody_watches_any_more_ends(cast, dog):
    import threading

    player = cast.players[1]
    before = set(threading.enumerate())
    steps = attack_steps(classifier(player, NAMES), pixels_of(player, dog), NAMES.index("dalmatian"), 1e-6, "PGD", 40)
    next(steps)
    started = [thread for thread in set(threading.enumerate()) - before if thread.daemon]
    steps.close()
    for thread in started:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert started


def test_a_scene_grows_from_answers_to_the_end_of_the_attack(cast, dog):
    seen = list(scenes(cast, Asked(dog, NAMES, levels=1)))
    assert seen[0].running and all(side.step is None for side in seen[0].sides)
    assert not seen[-1].running and all(scene.running for scene in seen[:-1])
    untouched, hardened, _ = seen[-1].sides
    assert untouched.changed and not hardened.changed
    assert untouched.before[0].name == hardened.now[0].name == "dalmatian"
    assert len(list(scenes(cast, Asked(dog, NAMES, levels=0)))) == 1


def test_a_word_is_drawn_as_the_library_draws_it(cast, dog):
    from seaanchor.app.pictures import WORD_SIZE
    from seaanchor.attacks import typographic

    drawn = lettered(dog, "  car ", 3)
    assert drawn.tobytes() == typographic(dog, "car", 3, size=WORD_SIZE).tobytes()
    assert lettered(dog, " ", 3) is dog
    (scene,) = scenes(cast, Asked(dog, NAMES, word="car", seed=3))
    assert torch.equal(scene.sides[0].seen_1CHW, pixels_of(cast.players[0], drawn))
    assert scene.sides[0].before == next(iter(scenes(cast, Asked(dog, NAMES)))).sides[0].now
    with pytest.raises(SeaAnchorError, match="a word of 61 characters"):
        lettered(dog, "x" * 61, 0)


@pytest.mark.parametrize("levels", [-1, 16.5, 40, float("nan"), None])
def test_a_radius_outside_of_the_slider_is_refused(levels):
    with pytest.raises(SeaAnchorError, match="in 255ths"):
        radius(levels)


def test_a_radius_of_4_is_4_of_255(cast, dog):
    *_, last = scenes(cast, Asked(dog, NAMES, levels=4))
    assert last.epsilon == 4 / 255
    assert (last.sides[1].seen_1CHW - last.sides[1].drawn_1CHW).abs().max() == pytest.approx(4 / 255, abs=1e-6)


def test_settings_of_an_attack_that_is_none_are_refused(cast, dog):
    for asked in (Asked(dog, NAMES, levels=1, attack="FAB"), Asked(dog, NAMES, levels=1, num_steps=0)):
        with pytest.raises(SeaAnchorError, match=r"FAB|0 steps"):
            list(scenes(cast, asked))


def test_broken_and_huge_uploads_say_so(tmp_path, monkeypatch):
    broken, large, heavy = tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "c.bin"
    whole = example_files()[0].read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SeaAnchorError, match="could not be read"):
        read_upload(broken)
    with pytest.raises(SeaAnchorError, match="could not be read"):
        read_upload(tmp_path / "none.jpg")
    Image.new("1", (10_000, 6_000)).save(large)
    with pytest.raises(SeaAnchorError, match="10,000 x 6,000"):
        read_upload(large)
    heavy.write_bytes(bytes(25_000_001))
    with pytest.raises(SeaAnchorError, match="a file of 25 MB"):
        read_upload(heavy)


def test_an_upload_is_upright_square_and_on_white(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGBA", (30, 20), (255, 0, 0, 0)).save(file)
    picture = read_upload(file)
    assert picture.mode == "RGB" and picture.size == (20, 20) and picture.getpixel((5, 5)) == (255, 255, 255)
