"""GPUs by name, with the rates and the memory of their data sheets: what a prediction of time and memory is made from.

Arithmetic is dense: sheets that print a number "with sparsity" print twice as much. `fp32` is plain single precision,
which attacks use by default; TF32 is never used. Memory is the sheet's decimal gigabytes, which is about what a driver
reports with error correction on.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

from seaanchor.errors import SeaAnchorError


@dataclass(frozen=True)
class Machine:
    """Something that computes.

    Attributes:
        name: as users write it.
        fp32, bf16: operations a second of matrix products with these inputs; bf16 is that of fp32 where the card has no
            units for it.
        bandwidth: bytes a second from and to memory.
        memory: bytes.
        source: the data sheet, or how it was measured.
    """

    name: str
    fp32: float
    bf16: float
    bandwidth: float
    memory: float
    source: str

    def rate(self, precision: str) -> float:
        """Operations a second at `fp32` or `bf16`."""
        return {"fp32": self.fp32, "bf16": self.bf16}[precision]


def _gpu(name: str, fp32: float, bf16: float | None, bandwidth: float, memory: float, source: str) -> Machine:
    """Teraflops, gigabytes a second and gigabytes, as sheets print them."""
    return Machine(name, fp32 * 1e12, (bf16 or fp32) * 1e12, bandwidth * 1e9, memory * 1e9, source)


GPUS = (
    _gpu("V100-16GB", 15.7, None, 900, 16, "NVIDIA V100 data sheet, SXM2"),
    _gpu("V100-32GB", 15.7, None, 900, 32, "NVIDIA V100 data sheet, SXM2"),
    _gpu("T4", 8.1, None, 320, 16, "NVIDIA T4 data sheet"),
    _gpu("A10", 31.2, 125, 600, 24, "NVIDIA A10 data sheet"),
    _gpu("A10G", 31.5, 70, 600, 24, "NVIDIA A10G data sheet"),
    _gpu("A40", 37.4, 149.7, 696, 48, "NVIDIA A40 data sheet"),
    _gpu("A100-40GB", 19.5, 312, 1555, 40, "NVIDIA A100 data sheet, SXM4 40 GB"),
    _gpu("A100-80GB", 19.5, 312, 2039, 80, "NVIDIA A100 data sheet, SXM4 80 GB"),
    _gpu("A100-PCIe", 19.5, 312, 1935, 80, "NVIDIA A100 data sheet, PCIe 80 GB"),
    _gpu("RTX-3090", 35.6, 71, 936, 24, "NVIDIA Ampere GA102 whitepaper"),
    _gpu("RTX-A6000", 38.7, 154.8, 768, 48, "NVIDIA Ampere GA102 whitepaper, RTX A6000"),
    _gpu("L4", 30.3, 121, 300, 24, "NVIDIA L4 data sheet"),
    _gpu("L40", 90.5, 181, 864, 48, "NVIDIA L40 data sheet"),
    _gpu("L40S", 91.6, 362, 864, 48, "NVIDIA L40S data sheet"),
    _gpu("RTX-4090", 82.6, 165.2, 1008, 24, "NVIDIA Ada GPU architecture whitepaper"),
    _gpu("RTX-5090", 104.8, 209.5, 1792, 32, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
    _gpu("H100-SXM", 67, 989, 3350, 80, "NVIDIA H100 data sheet, SXM5"),
    _gpu("H100-PCIe", 51, 756, 2000, 80, "NVIDIA H100 data sheet, PCIe"),
    _gpu("H100-NVL", 60, 835, 3900, 94, "NVIDIA H100 data sheet, NVL"),
    _gpu("H200", 67, 989, 4800, 141, "NVIDIA H200 data sheet, SXM5"),
    _gpu("B200", 75, 2250, 7700, 180, "NVIDIA HGX B200 data sheet"),
    _gpu("MI300X", 163.4, 1307, 5300, 192, "AMD Instinct MI300X data sheet"),
)
"""What `find` knows. The table is of cards that train encoders; a processor is measured instead (`--dry-run`)."""

USUAL = {
    "v100": "V100-32GB",
    "a100": "A100-80GB",
    "a100sxm": "A100-80GB",
    "h100": "H100-SXM",
    "h100sxm5": "H100-SXM",
    "h200sxm": "H200",
    "3090": "RTX-3090",
    "4090": "RTX-4090",
    "5090": "RTX-5090",
    "a6000": "RTX-A6000",
}
MOST = 100_000  # GPUs; above, the number is a slip


@dataclass(frozen=True)
class Fleet:
    """Some GPUs of one kind."""

    count: int
    gpu: Machine


def find(name: str) -> Machine:
    """A GPU by its name; `H100`, `nvidia h100 sxm` and `H100-SXM` are the same.

    Raises:
        SeaAnchorError: no GPU is called so; it names near ones and all.

    >>> find("nvidia geforce rtx 4090").name
    'RTX-4090'
    """
    if (gpu := _known(name)) is not None:
        return gpu
    names = [gpu.name for gpu in GPUS]
    spelled = {_plain(n): n for n in names} | USUAL
    near = list(dict.fromkeys(spelled[plain] for plain in get_close_matches(_plain(name), spelled, n=4, cutoff=0.5)))
    change = f"did you mean {' or '.join(near)}?" if near else "take one with similar rates and memory"
    if _plain(name) in ("cpu", "cuda", "gpu", "mps"):
        change = "leave it out: --dry-run measures the machine it runs on"
    raise SeaAnchorError(f"no GPU is called {name!r} in the table", f"one of {', '.join(names)}", change)


def fleet(text: str) -> Fleet:
    """GPUs as users write them: `H100`, `8xH100` or `H100x8`.

    Raises:
        SeaAnchorError: as `find`; or none, or absurdly many of them.

    >>> fleet("RTX4090x2").count, fleet("8 x A100").gpu.name
    (2, 'A100-80GB')
    """
    text, count = text.strip(), 1
    if _known(text) is None:
        if before := re.fullmatch(r"([-+]?\d+)\s*[x×*]\s*(.+)", text, re.IGNORECASE):
            count, text = int(before[1]), before[2]
        elif after := re.fullmatch(r"(.+?)\s*[x×*]\s*([-+]?\d+)", text, re.IGNORECASE):
            count, text = int(after[2]), after[1]
    gpu = find(text)
    if not 1 <= count <= MOST:
        raise SeaAnchorError(f"{count} GPUs", f"1 to {MOST:,}", f"write {gpu.name} for one, 8x{gpu.name} for eight")
    return Fleet(count, gpu)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce|amd|instinct|tesla|tensor core|gpu", "", name.lower())


def _known(name: str) -> Machine | None:
    plain = _plain(name)
    wanted = _plain(USUAL.get(plain, plain))
    return next((gpu for gpu in GPUS if _plain(gpu.name) == wanted), None)
