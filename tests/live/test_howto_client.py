"""The programs of docs/howto/client.md, run as they stand there, beside the server they read."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.conftest import UVICORN, served

pytestmark = pytest.mark.live

PAGE = (Path(__file__).parents[2] / "docs/howto/client.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(
    re.findall(r"<!-- test: client/(\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL)
)
PRINTED = {
    "typed.py": "one\ntwo\n2 words\n",
    "decode.py": "one\n",
    "policy.py": "unreachable 1\n",
    "shared.py": "600\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the programs are, with a server that is running."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "server.py").write_text(BLOCKS["server.py"], encoding="utf-8")
    with served(UVICORN, folder / "log") as (url, _):
        for name, code in BLOCKS.items():
            text = code.replace("http://127.0.0.1:8000", url)
            (folder / name).write_text(text, encoding="utf-8")
        yield folder


def printed_by(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PRINTED)
def test_a_program_of_the_page_prints_what_it_is_said_to(folder: Path, program: str) -> None:
    assert printed_by(folder, program) == PRINTED[program]


def test_a_process_that_restarts_goes_on_behind_the_last_event(folder: Path) -> None:
    first = printed_by(folder, "resume.py")
    second = printed_by(folder, "resume.py")
    assert first.split() == ["1", "2", "3", "4", "5"]
    assert second.split() == ["6", "7", "8", "9"]


def test_every_program_of_the_page_is_run() -> None:
    assert BLOCKS.keys() - {"server.py", "resume.py"} == PRINTED.keys()
