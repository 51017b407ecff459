// What hey-api's client makes of a stream: the union of its payloads, and nothing else. A line that
// must not compile says with which error.
import { chatChatPost, jobJobGet } from "./demo/hey-api/sdk.gen";
import type { ErrorInfo, JobResult, JobStep, TokenPayload, Usage } from "./demo/hey-api/types.gen";
import {
  itemsItemsGet,
  maybeMaybeGet,
  plainPlainGet,
  searchSearchPost,
  shapesShapesGet,
} from "./awkward/hey-api/sdk.gen";
import type {
  AwkwardItem,
  Arrival,
  Circle,
  EndInfo,
  ErrorInfo as AwkwardError,
  FilterOutput,
  PageItem,
  PageStr,
  Position,
  Square,
} from "./awkward/hey-api/types.gen";

type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Yields<F extends (...options: never[]) => Promise<{ stream: AsyncGenerator<unknown> }>> =
  Awaited<ReturnType<F>>["stream"] extends AsyncGenerator<infer Item> ? Item : never;

export const job: Same<Yields<typeof jobJobGet>, JobStep | JobResult | ErrorInfo> = true;
export const search: Same<
  Yields<typeof searchSearchPost>,
  FilterOutput | AwkwardItem | AwkwardError
> = true;
export const items: Same<
  Yields<typeof itemsItemsGet>,
  AwkwardItem | PageItem | PageStr | AwkwardError
> = true;
export const plain: Same<
  Yields<typeof plainPlainGet>,
  | string
  | number[]
  | { [key: string]: number }
  | boolean
  | null
  | Position
  | Arrival
  | AwkwardError
> = true;
export const shapes: Same<
  Yields<typeof shapesShapesGet>,
  ({ kind: "circle" } & Circle) | ({ kind: "square" } & Square) | AwkwardError
> = true;
// No `void` of the answer that there is nothing more.
export const maybe: Same<Yields<typeof maybeMaybeGet>, Position | AwkwardError> = true;
export const wrong: Same<Yields<typeof maybeMaybeGet>, Position | EndInfo> = true; // error TS2322: Type 'true' is not assignable to type 'false'.

export async function answer(): Promise<string> {
  const { stream } = await chatChatPost({ body: { prompt: "why?" } });
  let text = "";
  for await (const payload of stream) {
    const known: TokenPayload | Usage | ErrorInfo = payload;
    if ("text" in known) text += known.text;
    if ("tokens" in payload) text += payload.tokens.toFixed();
    if ("text" in payload) text += payload.txet; // error TS2339: Property 'txet' does not exist on type 'TokenPayload'.
    text += payload.tokens; // error TS2339: Property 'tokens' does not exist on type 'ChatStreamData'.
  }
  await chatChatPost({ body: { promt: "why?" } }); // error TS2561: Object literal may only specify known properties, but 'promt' does not exist in type 'Prompt'. Did you mean to write 'prompt'?
  return text;
}
