"""Reads the conformance cases; the format is in conformance/README.md."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "conformance" / "cases"

Seen = list[tuple[str, str, str]]
"""The type, data and last event id of each event, in order."""


@dataclass(frozen=True)
class Case:
    """One response body, and what every reader has to make of it."""

    id: str
    body: bytes
    chunks: list[bytes]
    content_type: str
    initial_last_event_id: str
    events: Seen
    retry: int | None
    retry_ambiguous: bool
    final_last_event_id: str

    def __str__(self) -> str:
        return self.id


def _case(record: dict[str, Any]) -> Case:
    if "body_parts" in record:
        chunks = [base64.b64decode(part) * times for part, times in record["body_parts"]]
    else:
        chunks = [base64.b64decode(chunk) for chunk in record.get("chunks") or [record["body"]]]
    return Case(
        id=record["id"],
        body=b"".join(chunks),
        chunks=chunks,
        content_type=record.get("content_type", "text/event-stream"),
        initial_last_event_id=record.get("initial_last_event_id", ""),
        events=[seen for event in record["events"] for seen in _seen(event)],
        retry=record.get("retry"),
        retry_ambiguous=record.get("retry_ambiguous", False),
        final_last_event_id=record["final_last_event_id"],
    )


def _seen(event: dict[str, Any]) -> Seen:
    parts = event.get("data_parts") or [(event["data"], 1)]
    data = "".join(text * times for text, times in parts)
    return [(event["type"], data, event["lastEventId"])] * event.get("repeat", 1)


CASES = [
    _case(record)
    for file in sorted(_FOLDER.glob("*.json"))
    for record in json.loads(file.read_text(encoding="utf-8"))["cases"]
]
