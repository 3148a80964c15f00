"""JSON documents with a checksum, so that a damaged one is an error, not a different document."""

import json
from typing import Any

from shared.config.config_json import to_json
from shared.digests import json_digest

CHECKSUM = "checksum"


def json_bytes(document: Any) -> bytes:
    """Return the content of a JSON file."""
    return json.dumps(document, allow_nan=False).encode()


def add_checksum(record: Any) -> dict[str, Any]:
    """Return a dataclass as a JSON document with its checksum."""
    document = json.loads(json_bytes(to_json(record)))  # as it is read: lists, and keys of text
    return {**document, CHECKSUM: json_digest(document)}


def remove_checksum(document: Any) -> dict[str, Any]:
    """Check a document of `add_checksum` and return it without its checksum.

    Raises:
        ValueError: if the checksum is absent or does not match.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    content = {name: value for name, value in document.items() if name != CHECKSUM}
    if document.get(CHECKSUM) != json_digest(content):
        raise ValueError("its checksum does not match")
    return content
