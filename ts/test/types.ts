/**
 * What compiles, and what does not: each `@ts-expect-error` is an error if the line below compiles.
 * `types.test.ts` compiles it; nothing here is called.
 */

import { EventStream, opener } from "../src/index.ts";
import { useEventStream } from "../src/react.ts";
import { type StreamRequests, type Streams, streams } from "./streams.ts";

const open = opener<Streams, StreamRequests>(streams, { baseUrl: "https://api.example.com" });

export async function everyEventIsHandled(): Promise<string> {
  for await (const event of open("GET /answer", { query: { prompt: "one two" } })) {
    // @ts-expect-error -- Not each event has a text.
    event.data.text;
    switch (event.event) {
      case "token":
        return event.data.text;
      case "done":
        return event.data.words.toFixed();
      case "stream.error":
        return event.data.message + (event.id ?? "");
      default:
        event satisfies never;
    }
  }
  return "";
}

export async function anEventIsForgotten(
  stream: EventStream<Streams["GET /answer"]>,
): Promise<void> {
  for await (const event of stream) {
    switch (event.event) {
      case "token":
      case "stream.error":
        break;
      default:
        // @ts-expect-error -- `done` is left.
        event satisfies never;
    }
  }
}

export function listeners(stream: EventStream<Streams["GET /answer"]>): void {
  const leave: () => void = stream.on("token", (event) => event.data.text);
  stream.on("*", (event) => event.event satisfies "token" | "done" | "stream.error");
  // @ts-expect-error -- A done event has no text.
  stream.on("done", (event) => event.data.text);
  // @ts-expect-error -- No such event.
  stream.on("dnoe", leave);
}

export function anyEvents(): void {
  const stream = new EventStream("/clock");
  stream.on("tick", ({ event, data }) => [event satisfies string, data]);
  // @ts-expect-error -- Nothing is known of its data.
  stream.on("tick", ({ data }) => data.time);
}

export function requests(): void {
  const token = async (): Promise<Record<string, string>> => ({ Authorization: "Bearer …" });
  const chat = open("POST /rooms/{room}/chat", {
    path: { room: "tea" },
    body: { prompt: "one two" },
    headers: token,
    credentials: "include",
    policy: { maxAttempts: 3 },
  });
  chat satisfies EventStream<Streams["POST /rooms/{room}/chat"]>;
  open("GET /clock");
  open("GET /clock", { pauseHidden: true });
  open("GET /answer", { query: { prompt: "", tags: ["a", "b"] } });
  // @ts-expect-error -- It has a query that is required.
  open("GET /answer");
  // @ts-expect-error -- `prompt` is required.
  open("GET /answer", { query: {} });
  // @ts-expect-error -- The body is misspelt.
  open("POST /ask", { body: { promt: "" } });
  // @ts-expect-error -- A body for a request that takes none.
  open("GET /clock", { body: { prompt: "" } });
  // @ts-expect-error -- The path is incomplete.
  open("POST /rooms/{room}/chat", { body: { prompt: "" } });
  // @ts-expect-error -- No such operation.
  open("GET /nothing");
  // @ts-expect-error -- The method is the operation's.
  open("GET /clock", { method: "POST" });
  // @ts-expect-error -- The constant is of another application.
  opener<{ "GET /other": Streams["GET /clock"] }, { "GET /other": {} }>(streams);
}

export function validated(): void {
  const parse = (_: unknown): Streams["GET /answer"] => ({ event: "done", data: { words: 1 } });
  new EventStream("/answer", { validate: parse }) satisfies EventStream<Streams["GET /answer"]>;
  open("POST /ask", { body: { prompt: "" }, validate: parse });
  const other = (_: unknown) => ({ event: "other" as const, data: null });
  // @ts-expect-error -- It gives other events.
  open("POST /ask", { body: { prompt: "" }, validate: other });
}

export function component(prompt: string): string {
  const { events, state, close } = useEventStream(
    () => open("POST /ask", { body: { prompt } }),
    [prompt],
  );
  state satisfies { readonly state: "connecting" | "open" | "waiting" | "closed" };
  close();
  return events.map((event) => (event.event === "token" ? event.data.text : "")).join(" ");
}
