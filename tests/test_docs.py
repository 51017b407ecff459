import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- test: (?P<how>\S+) -->\n```\w+\n(?P<code>.*?)```", re.DOTALL)


def blocks(how: str) -> list[tuple[str, str]]:
    """The page and the code of each block that is marked so."""
    return [
        (page.relative_to(ROOT).as_posix(), match["code"])
        for page in PAGES
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if re.fullmatch(how, match["how"])
    ]


@pytest.mark.parametrize(("page", "code"), blocks("runs"))
def test_a_block_of_a_page_runs(page: str, code: str) -> None:
    exec(compile(code, page, "exec"), {"__name__": "block"})


@pytest.mark.parametrize("page", [ROOT / "docs" / "tutorial.md"])
def test_a_block_that_shows_an_example_is_in_that_example(page: Path) -> None:
    shown = re.findall(
        r"<!-- test: (examples/\S+) -->\n```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL
    )
    assert len(shown) >= 5
    for example, code in shown:
        assert code in (ROOT / example).read_text(encoding="utf-8"), (
            f"{example} has changed:\n{code}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_is_tested(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) == len(re.findall(r"^```(?:python|js|ts)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "conformance" / "README.md"]
)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []
