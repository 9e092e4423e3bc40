"""The table says what the result says."""

import pytest

from seaanchor.report.table import print_results, radius


def rows(accuracy: float) -> dict:
    return {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "n": 50}


def result(clean: float, robust: float, **more) -> dict:
    plan = {"name": "pgd", "num_steps": 7}
    return {
        "dataset": "a [set]", "model": "m", "clean": rows(clean), "constant_predictor": 0.25, "skipped": "", "notes": [], "reference": None,
        "robust": [{"attack": "pgd", "epsilon": 2 / 255} | rows(robust)], "protocol": {"plans": [plan]},
    } | more  # fmt: skip


def test_every_number_is_beside_the_reference(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    print_results([result(0.5, 0.3, reference=result(0.6, 0.05), skipped="2 of 52 images", notes=["APGD-CE alone"])])
    lines = capsys.readouterr().out.splitlines()
    clean = next(line for line in lines if "clean" in line)
    attacked = next(line for line in lines if "pgd, 7 steps, ε = 2/255" in line)
    assert [cell.strip() for cell in clean.split("│")[2:-1]] == ["50.0%", "40.0% to 60.0%", "60.0%", "-10.0"]
    assert [cell.strip() for cell in attacked.split("│")[2:-1]] == ["30.0%", "20.0% to 40.0%", "5.0%", "+25.0"]
    text = "\n".join(lines)
    for words in ("a [set]", "n = 50", "constant predictor 25.0%", "2 of 52 images", "APGD-CE alone"):
        assert words in text


def test_without_a_reference_there_are_no_columns_for_it(capsys):
    print_results([result(0.5, 0.3)])
    assert "reference" not in capsys.readouterr().out


@pytest.mark.parametrize(("epsilon", "text"), [(2 / 255, "2/255"), (1 / 255, "1/255"), (0.5, "0.5"), (0.0, "0/255"), (0.5 / 255, "0.001961")])
def test_radius(epsilon, text):
    assert radius(epsilon) == text
