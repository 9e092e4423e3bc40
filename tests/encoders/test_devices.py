"""Where bf16 pays: by what a processor has, whatever this one has."""

import pytest
import torch

from seaanchor.encoders.kernels import devices


@pytest.mark.parametrize(
    ("supported", "matrix_units", "intel", "pays"),
    [
        (False, False, True, False),  # AVX2 alone
        (True, True, True, True),  # Sapphire Rapids and later
        (True, False, True, False),  # the same with its matrix units hidden; Cooper Lake
        (True, False, False, True),  # Zen 4 and later
    ],
)
def test_bf16_is_used_where_it_is_faster(monkeypatch, supported, matrix_units, intel, pays):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix_units)
    monkeypatch.setattr(devices, "_is_intel", lambda: intel)
    assert devices.computes_in_bf16.__wrapped__("cpu") == pays


def test_the_maker_is_read_from_the_system(monkeypatch, tmp_path):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(devices, "Path", lambda name: file)
    monkeypatch.setattr(devices.platform, "processor", lambda: "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel")
    assert devices._is_intel()  # no such file, as on Windows
    file.write_text("processor : 0\nvendor_id : AuthenticAMD\n")
    assert not devices._is_intel()
    file.write_text("processor : 0\nvendor_id : GenuineIntel\n")
    assert devices._is_intel()
