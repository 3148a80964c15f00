"""The sensor files that a shard was made from, as its ledger entry records them."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cache.format.checked_json import json_bytes
from shared.data.features import SourceFile, Sources
from shared.digests import json_digest

NAMED_LENGTH = 16  # characters of a file's digest that are recorded, to name the one that differs


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSources:
    """Digests of the bytes of a shard's sensor files.

    Names and single digests take 0.4 KB a row in `files`, 2 KB as plain JSON; only whoever compares
    them with files again unpacks them. `digests` alone decide whether anything differs.

    Args:
        digests: by sensor, "camera" or "lidar", a digest per row: `sources_row_digest`.
        files: base64 of zlib of JSON: for each row, by sensor, its files as (path below the
            dataset root, beginning of the SHA-256).
    """

    digests: dict[str, tuple[str, ...]]
    files: str

    @classmethod
    def of(cls, rows: Sequence[Sources]) -> "ShardSources | None":
        """Return the record for rows, in their order; None unless all have the same sensors."""
        sensors = rows[0].keys()
        if not sensors or any(row.keys() != sensors for row in rows):
            return None
        listed = [
            {
                sensor: [(file.name, file.digest[:NAMED_LENGTH]) for file in files]
                for sensor, files in row.items()
            }
            for row in rows
        ]
        return cls(
            digests={
                sensor: tuple(
                    sources_row_digest([file.digest for file in row[sensor]]) for row in rows
                )
                for sensor in sensors
            },
            files=base64.b64encode(zlib.compress(json_bytes(listed), 9)).decode(),
        )

    def unpacked(self) -> list[Sources]:
        """Return the files of each row by sensor, their digests cut to `NAMED_LENGTH`."""
        listed = json.loads(zlib.decompress(base64.b64decode(self.files)))
        return [
            {
                sensor: tuple(SourceFile(name, digest) for name, digest in files)
                for sensor, files in row.items()
            }
            for row in listed
        ]


def sources_row_digest(digests: Sequence[str]) -> str:
    """Return the digest of a sensor's files of a row, from theirs: of bytes, not of names."""
    return json_digest(list(digests))
