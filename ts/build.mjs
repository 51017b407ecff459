/**
 * Builds the package: `node build.mjs [--into FOLDER]`, or `node build.mjs --size`.
 *
 * Writes dist/, a module and its types for each source, and the same in one readable module for
 * pages without a build step, beside the demo's. `--into` writes both into a folder instead. The
 * same sources give the same bytes. `--size` prints the size of the minified whole, gzipped.
 */

import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const { name, version } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));

/** @param {import("esbuild").BuildOptions} options */
function bundle(options) {
  return build({
    absWorkingDir: here,
    entryPoints: ["src/index.ts"],
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    logLevel: "warning",
    ...options,
  });
}

const [option, folder] = process.argv.slice(2);
if (option === "--size") {
  const { outputFiles } = await bundle({ minify: true, write: false });
  console.log(gzipSync(outputFiles[0].contents, { level: 9 }).length);
} else if (option === undefined || (option === "--into" && folder !== undefined)) {
  const into = folder === undefined ? undefined : resolve(folder);
  const dist = join(into ?? here, "dist");
  rmSync(dist, { recursive: true, force: true });
  const compiler = join(here, "node_modules/typescript/bin/tsc");
  const options = ["--project", join(here, "tsconfig.json"), "--outDir", dist];
  execFileSync(process.execPath, [compiler, ...options], { stdio: "inherit" });
  await bundle({
    outfile: join(into ?? join(here, "../src/typed_sse/demo/static"), "typed-sse.js"),
    banner: { js: `// ${name} ${version}, MIT; made from ts/src by \`make ts\`.` },
  });
} else {
  console.error("usage: node build.mjs [--into FOLDER | --size]");
  process.exitCode = 2;
}
