"""The table on the terminal says what the result says."""

import pytest

from seaanchor.evaluation.result_files import decode
from seaanchor.report.table import print_results, radius


def lines(results, capsys, monkeypatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "150")
    print_results([decode(result) for result in results])
    return capsys.readouterr().out.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[2:-1]]


def test_every_number_is_beside_the_reference(made, capsys, monkeypatch):
    out = lines(
        [made.result(0.5, 0.3, reference=made.result(0.6, 0.05), skipped="2 of 52 images", notes=["APGD-CE alone"])],
        capsys,
        monkeypatch,
    )
    clean = next(line for line in out if "clean" in line)
    attacked = next(line for line in out if "PGD, 7 steps, ℓ∞, ε = 2/255" in line)
    assert cells(clean) == ["50.0%", "40.0% to 60.0%", "60.0%", "-10.0 (-24.1 to +4.1)"]
    assert cells(attacked) == ["30.0%", "20.0% to 40.0%", "5.0%", "+25.0 (+10.9 to +36.2)"]
    text = "\n".join(out)
    for words in ("a [set]", "n = 50", "constant predictor 25.0%", "2 of 52 images", "APGD-CE alone"):
        assert words in text


def test_without_a_reference_there_are_no_columns_for_it(made, capsys, monkeypatch):
    assert "reference" not in "\n".join(lines([made.result(0.5, 0.3)], capsys, monkeypatch))


def test_every_suite_has_its_rows(made, capsys, monkeypatch):
    text = "\n".join(lines([made.everything()], capsys, monkeypatch))
    for label in (
        "calibration error (ECE)",
        "σ = 32/255",
        "mean over kinds and severities",
        "image to text, recall at 5",
        "linear probe",
        "10 nearest neighbours",
        "own class",
        "Attack on the embedding, 20 steps, ℓ∞, ε = 4/255, distance moved",
        "typographic: drawn word wins",
        "reading: drawn class word",
        "bias: gender named rightly",
        "drift: within ρ = 0.1",
    ):
        assert label in text
    assert "severity 3" not in text  # details stay in the file


def test_captioned_images_have_no_clean_accuracy(made, capsys, monkeypatch):
    retrieval = {"image_to_text": {"recall@1": made.rows(0.4)}, "text_to_image": {"recall@1": made.rows(0.3)}}
    data = {"format": 2, "dataset": "captions", "model": "m", "suites": {"retrieval": retrieval}, "reference": None}
    assert "40.0%" in "\n".join(lines([data], capsys, monkeypatch))


@pytest.mark.parametrize(
    ("epsilon", "text"), [(2 / 255, "2/255"), (1 / 255, "1/255"), (0.5, "0.5"), (0.0, "0/255"), (0.5 / 255, "0.001961")]
)
def test_radius(epsilon, text):
    assert radius(epsilon) == text
