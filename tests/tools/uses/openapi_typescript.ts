// What openapi-typescript makes of a stream: the union of its payloads. A line that must not compile
// says with which error.
import type { paths } from "./demo/openapi-typescript";
import type { paths as awkward, components } from "./awkward/openapi-typescript";

type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Stream<Operation> = Operation extends {
  responses: { 200: { content: { "text/event-stream": infer Data } } };
}
  ? Data
  : never;
type Schemas = components["schemas"];

type Chat = Stream<paths["/chat"]["post"]>;

export function text(data: Chat): string {
  if ("text" in data) return data.text;
  if ("tokens" in data) return data.tokens.toFixed();
  if ("code" in data) return data.message;
  return data.text; // error TS2339: Property 'text' does not exist on type 'never'.
}

export function wrong(data: Chat): string {
  if ("text" in data) return data.txet; // error TS2339: Property 'txet' does not exist on type '{ text: string; }'.
  return data.message; // error TS2339: Property 'message' does not exist on type '{ tokens: number; } | { code: string; message: string; }'.
}

export const maybe: Same<
  Stream<awkward["/maybe"]["get"]>,
  Schemas["Position"] | Schemas["ErrorInfo"]
> = true;
export const tree: Same<
  Stream<awkward["/tree"]["get"]>,
  Schemas["Node"] | Schemas["ErrorInfo"]
> = true;
