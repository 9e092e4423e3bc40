"""Cores that a process may use, by its scheduler and by its container."""

import os

import pytest

from seaanchor.utils.cores import available_cores


@pytest.fixture
def sixteen(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def test_without_a_limit_it_is_what_the_scheduler_allows(sixteen, tmp_path):
    assert available_cores(tmp_path) == 16
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores(tmp_path) == 16


@pytest.mark.parametrize(("quota", "cores"), [("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_container_has_its_share(sixteen, tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cores(tmp_path) == cores


def test_the_older_form_of_limits(sixteen, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, cores in (("-1\n", 16), ("300000\n", 3)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert available_cores(tmp_path) == cores


def test_here():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
