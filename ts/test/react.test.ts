/** `useEventStream` in a real React, in a document without a browser. */

import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";

import { Window } from "happy-dom";
import { act, createElement, type FunctionComponent, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import type { AnyEvent } from "../src/options.ts";
import { type StreamView, useEventStream } from "../src/react.ts";
import type { EventStream } from "../src/stream.ts";
import { Server } from "./faking.ts";

const window = new Window();
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
after(() => window.happyDOM.close());

let server: Server;
let view: StreamView<AnyEvent>;
let renders: number;

beforeEach(() => {
  server = new Server();
  renders = 0;
});

/** Show a component that reads a stream for its `topic`. */
async function shown(options: {
  topic?: string;
  limit?: number;
  make?: (topic: string) => EventStream | null;
  isStrict?: boolean;
}) {
  const { topic: first = "a", limit, isStrict = false } = options;
  const make = options.make ?? ((topic: string) => server.stream({ headers: { Topic: topic } }));
  const Component: FunctionComponent<{ topic: string }> = ({ topic }) => {
    renders += 1;
    view = useEventStream(() => make(topic), [topic], limit === undefined ? {} : { limit });
    return createElement("p", null, view.events.map(({ data }) => data).join(" "));
  };
  const place = document.createElement("div");
  const root = createRoot(place);
  const show = (topic: string) =>
    act(async () => {
      const component = createElement(Component, { topic });
      root.render(isStrict ? createElement(StrictMode, null, component) : component);
    });
  await show(first);
  return { place, show, unmount: () => act(async () => root.unmount()) };
}

/** Do something to the server, and let React take what comes of it. */
function happens(what: () => Promise<void>): Promise<void> {
  return act(what);
}

test("a component shows events and states, and its stream ends with it", async () => {
  const { place, unmount } = await shown({});
  assert.equal(view.state.state, "connecting");
  await happens(() => server.last.open("data: 1\n\ndata: 2\n\n"));
  assert.equal(view.state.state, "open");
  assert.equal(place.textContent, "1 2");
  await unmount();
  assert.equal(server.last.aborted, true);
});

test("rendering again does not connect again", async () => {
  const { show, unmount } = await shown({});
  await happens(() => server.last.open("data: 1\n\n"));
  await show("a");
  await show("a");
  assert.ok(renders >= 3);
  assert.equal(server.exchanges.length, 1);
  assert.deepEqual(view.events.length, 1);
  await unmount();
});

test("other deps make another stream, without the events of the one before", async () => {
  const { show, unmount } = await shown({});
  await happens(() => server.last.open("data: 1\n\n"));
  await show("b");
  assert.equal(server.exchanges[0]?.aborted, true);
  assert.equal(server.last.request.headers.get("topic"), "b");
  assert.deepEqual(view.events, []);
  assert.equal(view.state.state, "connecting");
  await unmount();
});

test("in strict mode one request is sent, also a POST", async () => {
  const { unmount } = await shown({ isStrict: true, make: () => server.stream({ body: {} }) });
  assert.equal(server.exchanges.length, 1);
  await happens(() => server.last.open("data: 1\n\n"));
  assert.equal(view.events.length, 1);
  await unmount();
  assert.equal(server.last.aborted, true);
});

test("the last events are kept, up to the limit", async () => {
  const { place, unmount } = await shown({ limit: 2 });
  await happens(() => server.last.open("data: 1\n\ndata: 2\n\ndata: 3\n\n"));
  assert.equal(place.textContent, "2 3");
  await unmount();
});

test("a component may keep no event, and still know the state", async () => {
  const { unmount } = await shown({ limit: 0 });
  await happens(() => server.last.open("data: 1\n\ndata: 2\n\n"));
  assert.deepEqual(view.events, []);
  assert.equal(view.state.state, "open");
  await unmount();
});

test("what ends the stream is the view's error", async () => {
  const { unmount } = await shown({});
  await happens(() => server.last.answer(401, {}, "no"));
  assert.equal(view.state.state, "closed");
  assert.match(String(view.error), /401/);
  await unmount();
});

test("a component can close its stream, and the stream's own onState is called too", async () => {
  const { unmount } = await shown({});
  const { close } = view;
  await happens(() => server.last.open("data: 1\n\n"));
  await happens(async () => view.close());
  assert.equal(view.close, close);
  assert.equal(server.last.aborted, true);
  assert.equal(view.state.state, "closed");
  assert.equal(view.error, undefined);
  assert.equal(view.events.length, 1);
  assert.equal(server.state?.state, "closed");
  await unmount();
});

test("without a stream there is nothing to show", async () => {
  const { unmount } = await shown({ make: () => null });
  assert.deepEqual(view.events, []);
  await happens(async () => view.close());
  await unmount();
  assert.equal(server.exchanges.length, 0);
});

test("a component that is shown anew by its state keeps its stream", async () => {
  let again: (count: number) => void = () => {};
  const Component: FunctionComponent = () => {
    const [count, setCount] = useState(0);
    again = setCount;
    view = useEventStream(() => server.stream(), []);
    return createElement("p", null, count);
  };
  const root = createRoot(document.createElement("div"));
  await act(async () => root.render(createElement(Component)));
  await act(async () => again(1));
  assert.equal(server.exchanges.length, 1);
  await act(async () => root.unmount());
});
