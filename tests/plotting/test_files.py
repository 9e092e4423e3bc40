"""A figure is a whole file or none."""

import matplotlib.pyplot as plt
import pytest

from seaanchor.plotting.files import save_figure


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_that_fails_leaves_the_former_one(tmp_path, name, start):
    figure = plt.figure(figsize=(1, 1))
    figure.text(0, 0, "one")
    save_figure(figure, tmp_path / "deep" / name, dpi=30)
    before = (tmp_path / "deep" / name).read_bytes()
    assert before.startswith(start)

    class Broken:
        def draw(self, renderer):
            raise ZeroDivisionError("a cosmic ray")

    figure.draw = Broken().draw
    with pytest.raises(ZeroDivisionError):
        save_figure(figure, tmp_path / "deep" / name, dpi=30)
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "deep").iterdir()] == [(name, before)]
    plt.close(figure)
