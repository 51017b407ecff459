"""Reads the conformance cases; the format is in conformance/README.md."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "conformance" / "cases"


@dataclass(frozen=True)
class Case:
    id: str
    body: bytes
    events: list[tuple[str, str, str]]
    retry: int | None
    final_last_event_id: str
    initial_last_event_id: str

    def __str__(self) -> str:
        return self.id


def _case(record: dict[str, Any]) -> Case:
    return Case(
        id=record["id"],
        body=base64.b64decode(record["body"]),
        events=[(event["type"], event["data"], event["lastEventId"]) for event in record["events"]],
        retry=record["retry"],
        final_last_event_id=record["final_last_event_id"],
        initial_last_event_id=record.get("initial_last_event_id", ""),
    )


CASES = [
    _case(record)
    for file in sorted(_FOLDER.glob("*.json"))
    for record in json.loads(file.read_text(encoding="utf-8"))["cases"]
]
