// Runs the generators of TypeScript on documents, as their own documentation shows it:
// `node generate.js FOLDER NAME...` reads NAME.json, writes NAME/hey-api and NAME/openapi-typescript.ts.
import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { createClient } from "@hey-api/openapi-ts";
import openapiTS, { astToString } from "openapi-typescript";

const [folder, ...names] = process.argv.slice(2);

await createClient(
  names.map((name) => ({
    input: `${folder}/${name}.json`,
    output: `${folder}/${name}/hey-api`,
    plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
    logs: { level: "error", file: false },
  })),
);
for (const name of names) {
  const types = await openapiTS(pathToFileURL(`${folder}/${name}.json`));
  await writeFile(`${folder}/${name}/openapi-typescript.ts`, astToString(types));
}
