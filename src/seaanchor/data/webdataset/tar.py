"""What is inside a tar of samples, as WebDataset names them: members of one name with different endings are a sample.

The headers are read once; then a member is read by seeking to it.
"""

import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from seaanchor.data.files import CAMERA_RAW, HEAD, OTHER_KINDS, is_hidden, is_image_head
from seaanchor.data.images import EXTENSIONS

KEY = re.compile(
    r"((?:.*/|)[^.]+)[.]([^/]*)"
)  # a sample's name ends at the first dot of its base name, as WebDataset has it
BLOCK = 512  # bytes; a tar ends with two blocks of zeros


@dataclass(frozen=True, slots=True)
class Member:
    """An image inside a tar: which, what it is called there, and where its bytes are."""

    shard: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """`0.tar/s0000001.jpg`."""
        return f"{self.shard.name}/{self.member}"

    def __str__(self) -> str:
        return f"{self.shard}/{self.member}"

    def open(self, mode: Any = "rb") -> IO[Any]:
        """The member's bytes.

        Raises:
            OSError: the shard is gone or has become shorter.
        """
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.shard.name} ends inside it")
        return io.BytesIO(data)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the members of one key say: its image, and the text of its class; None for what is not there."""

    key: str
    image: Member | None
    label: str | None


def index_shard(shard: Path) -> tuple[list[Sample], list[str]]:
    """The samples of a tar in the order of their first members, and what is wrong with it, in words.

    Members of a sample may have others between them; a sample ends where its name comes again with the same ending.
    What is hidden, or belongs to no sample, such as a readme, is left out.
    """
    members, damage = _headers(shard)
    groups: list[_Group] = []
    current: dict[str, _Group] = {}
    for member in members:
        if any(is_hidden(part) for part in member.member.split("/") if part not in (".", "..")):
            continue
        key, ending = _split_name(member.member)
        if key not in current or ending in current[key].members:
            current[key] = _Group(key)
            groups.append(current[key])
        current[key].members[ending] = member
    samples: list[Sample] = []
    if not members:  # perhaps it cannot even be opened
        return samples, damage
    with shard.open("rb") as file:
        samples = [sample for group in groups if (sample := _as_sample(group, file)) is not None]
    if damage and samples and (samples[-1].image is None or samples[-1].label is None):
        samples.pop()  # its other half is in the part that is lost
    return samples, [
        f"{reason}, after {sum(sample.image is not None for sample in samples)} images" for reason in damage
    ]


@dataclass
class _Group:
    """Members of one key by their endings."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)


def _split_name(name: str) -> tuple[str, str]:
    found = KEY.fullmatch(name)
    return (found[1], found[2].lower()) if found else (name, "")


def _as_sample(group: _Group, file: IO[bytes]) -> Sample | None:
    """The image, by its ending or else by how it begins, and the class of a group; None if it has neither."""
    image = label = None
    others: list[Member] = []
    for ending, member in group.members.items():
        if ending == "cls" and member.size < BLOCK:
            file.seek(member.offset)
            label = file.read(member.size).decode("utf-8-sig", "surrogateescape").strip()
        elif f".{ending}" in EXTENSIONS:
            image = image or member
        elif f".{ending}" not in OTHER_KINDS | CAMERA_RAW:
            others.append(member)
    for member in others if image is None else ():
        file.seek(member.offset)
        if is_image_head(file.read(HEAD), member.size):
            image = member
            break
    return None if image is None and label is None else Sample(group.key, image, label)


def _headers(shard: Path) -> tuple[list[Member], list[str]]:
    """Every file in a tar that is there as a whole, and the damage. Python's `tarfile` takes a broken header in the
    middle for the end, so where it stops is looked at."""
    members: list[Member] = []
    length = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it would keep them all
                if info.isfile() and info.offset_data + info.size <= length:
                    members.append(Member(shard, info.name, info.offset_data, info.size))
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:  # numbers in broken headers
        return members, [f"{shard.name} is damaged or cut short: {error}"]
    with shard.open("rb") as file:
        file.seek(end)
        block = file.read(BLOCK)
    if len(block) < BLOCK:
        return members, [f"{shard.name} is cut short at byte {length}"]
    return members, [] if block == bytes(BLOCK) else [f"{shard.name} is damaged at byte {end}"]
