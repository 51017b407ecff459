/** `EventStream` in virtual time, against a server that the test plays. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import {
  ConnectionFailed,
  EventTooLarge,
  MalformedData,
  NotAStream,
  TypedSSEError,
  UnknownEvent,
} from "../src/errors.ts";
import type { StreamOptions } from "../src/options.ts";
import { inStorage } from "../src/stream.ts";
import { Page, Read, Server, settled, tick } from "./faking.ts";

// With an announced limit and none of our own, no wait is random.
const CALM = { jitter: 0 };

let server: Server;

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  server = new Server();
});

/** A stream that is read, and whose first request is there. */
async function reading(options: StreamOptions = {}) {
  const stream = server.stream({ policy: CALM, ...options });
  const read = new Read(stream);
  await settled();
  return { stream, read };
}

// --- What is sent ---

test("a stream sends nothing before it is read", async () => {
  server.stream();
  await settled();
  assert.equal(server.exchanges.length, 0);
});

test("a request asks for an event stream, past any cache", async () => {
  await reading();
  const { request } = server.last;
  assert.equal(request.method, "GET");
  assert.equal(request.headers.get("accept"), "text/event-stream");
  assert.equal(request.headers.get("last-event-id"), null);
  assert.equal(request.cache, "no-store");
  assert.equal(request.credentials, "same-origin");
});

test("a body is sent as JSON, and makes the request a POST", async () => {
  await reading({ body: { prompt: "één" }, credentials: "include" });
  const { request } = server.last;
  assert.equal(request.method, "POST");
  assert.equal(request.headers.get("content-type"), "application/json");
  assert.equal(request.credentials, "include");
  assert.deepEqual(await request.json(), { prompt: "één" });
});

test("headers are asked for at each request", async () => {
  let token = 0;
  await reading({ headers: async () => ({ Authorization: `Bearer ${++token}` }) });
  await server.last.open();
  await server.last.end();
  await tick(1000);
  assert.deepEqual(
    server.exchanges.map(({ request }) => request.headers.get("authorization")),
    ["Bearer 1", "Bearer 2"],
  );
});

test("headers that cannot be had are tried again, also for a POST", async () => {
  let isDown = true;
  const headers = (): HeadersInit => {
    if (isDown) throw new Error("no token");
    return {};
  };
  const { read } = await reading({ body: {}, headers });
  assert.equal(server.exchanges.length, 0);
  assert.equal(server.state?.reason, "unreachable");
  assert.equal((server.state?.error as Error).message, "no token");
  isDown = false;
  await tick(1000);
  assert.equal(server.exchanges.length, 1);
  assert.equal(read.ended, false);
});

test("a request that cannot be made is thrown, not tried again", async () => {
  const { read } = await reading({ headers: { Authorization: "Bearer …\n" } });
  assert.ok(read.error instanceof TypeError);
  assert.equal(server.exchanges.length, 0);
});

test("an id is sent as the bytes of its UTF-8", async () => {
  await reading({ lastEventId: "…7" });
  const sent = server.last.request.headers.get("last-event-id") ?? "";
  assert.equal(Buffer.from(sent, "latin1").toString("utf8"), "…7");
});

// --- Events ---

test("events come parsed, with names and ids", async () => {
  const { read } = await reading();
  await server.last.open('id: 1\nevent: token\ndata: {"text": "one"}\n\ndata: 2\n\n');
  assert.deepEqual(read.events, [
    { event: "token", data: { text: "one" }, id: "1" },
    { event: "message", data: 2, id: "1" },
  ]);
});

test("parse makes values of data, validate checks events", async () => {
  const { read } = await reading({
    parse: (data, name) => `${name}:${data}`,
    validate: (event) => ({ ...event, data: [event.data] }),
  });
  await server.last.open("event: a\ndata: {\n\n");
  assert.deepEqual(read.data, [["a:{"]]);
});

test("data that is no JSON ends the stream, with the event as it came", async () => {
  const { read } = await reading();
  await server.last.open("id: 3\ndata: {\n\n");
  assert.ok(read.error instanceof MalformedData);
  assert.deepEqual(read.error.received, { event: "message", data: "{", id: "3" });
  assert.ok(read.error.cause instanceof SyntaxError);
  assert.equal(server.last.aborted, true);
  assert.equal(server.state?.error, read.error);
});

test("where malformed data is taken, the stream goes on", async () => {
  const taken: MalformedData[] = [];
  const { read, stream } = await reading({ onMalformed: (error) => taken.push(error) });
  await server.last.open("data: 1\n\nid: 2\ndata: {\n\ndata: 3\n\n");
  assert.deepEqual(read.data, [1, 3]);
  assert.equal(taken.length, 1);
  assert.equal(stream.lastEventId, "2");
});

for (const [unknown, expected] of [
  [undefined, ["a", "stream.gap"]],
  ["yield", ["a", "b", "stream.gap"]],
] as const) {
  test(`where others are a ${unknown ?? "skip"}, control events always come`, async () => {
    const { read } = await reading({ events: ["a"], ...(unknown && { unknown }) });
    await server.last.open(
      "event: a\ndata: 1\n\nevent: b\ndata: 2\n\nevent: stream.gap\ndata: 3\n\n",
    );
    assert.deepEqual(
      read.events.map(({ event }) => event),
      expected,
    );
  });
}

test("an event that is not declared is an error where that is wanted", async () => {
  const { read } = await reading({ events: ["a"], unknown: "error" });
  await server.last.open("event: b\u009b\ndata: 1\n\n");
  assert.ok(read.error instanceof UnknownEvent);
  assert.match(read.error.message, /^[ -~]+$/);
});

test("an event that is too large ends the stream", async () => {
  const { read } = await reading({ maxEventChars: 10 });
  await server.last.open(`data: ${"1".repeat(11)}\n\n`);
  assert.ok(read.error instanceof EventTooLarge);
});

// --- Ends ---

for (const name of ["done", "stream.end", "stream.error"]) {
  test(`after ${name} nothing is read, and nothing thrown`, async () => {
    const { read } = await reading({ terminal: ["done"] });
    await server.last.open(`event: ${name}\ndata: 1\n\ndata: 2\n\n`);
    assert.deepEqual(read.data, [1]);
    assert.equal(read.ended, true);
    assert.equal(read.error, undefined);
    assert.equal(server.last.aborted, true);
    assert.equal(server.state?.reason, name === "done" ? "terminal" : name);
  });
}

test("204 is a good end", async () => {
  const { read } = await reading();
  await server.last.answer(204);
  assert.equal(read.ended, true);
  assert.equal(read.error, undefined);
  assert.deepEqual(server.state, { state: "closed", reason: "no-content", failures: 0 });
});

test("an answer that is no stream is an error with its start, and is not asked again", async () => {
  const { read } = await reading();
  await server.last.answer(401, { "content-type": "application/json" }, '{"detail": "no"}');
  assert.ok(read.error instanceof NotAStream);
  const { reason, url, status, contentType, start } = read.error;
  assert.deepEqual(
    { reason, url, status, contentType, start },
    {
      reason: "status",
      url: "http://server/stream",
      status: 401,
      contentType: "application/json",
      start: '{"detail": "no"}',
    },
  );
  await tick(3_600_000);
  assert.equal(server.exchanges.length, 1);
});

test("of a page that is no stream, 2 KiB are kept, and the rest is not read", async () => {
  const { read } = await reading();
  await server.last.answer(200, { "content-type": "text/html" });
  await server.last.send("<".repeat(1500));
  await server.last.send(">".repeat(1500));
  assert.ok(read.error instanceof NotAStream);
  assert.equal(read.error.reason, "content-type");
  assert.equal(read.error.start.length, 2048);
  assert.equal(server.last.aborted, true);
});

test("an answer without a body has no start, and is not waited for", async () => {
  const { read } = await reading();
  await server.last.answer(304, { "content-type": "text/event-stream" });
  assert.ok(read.error instanceof NotAStream);
  assert.equal(read.error.start, "");
});

test("a stream without a body has ended", async () => {
  const headers = { "content-type": "text/event-stream" };
  await reading({ fetch: async () => new Response(null, { headers }) });
  assert.equal(server.state?.reason, "ended");
});

test("a page that does not come to an end is not waited for", async () => {
  const { read } = await reading();
  await server.last.answer(500, { "content-type": "text/plain" });
  await server.last.send("oh");
  await tick(5000);
  assert.ok(read.error instanceof NotAStream);
  assert.equal(read.error.start, "oh");
});

test("a stream that ends before its last event is an error where it cannot come back", async () => {
  const { read } = await reading({ body: {}, terminal: ["done", "stream.error"] });
  await server.last.open("data: 1\n\n");
  await server.last.end();
  assert.ok(read.error instanceof ConnectionFailed);
  assert.equal(read.error.reason, "ended");
});

test("a POST that declares no last event of its own may end without one", async () => {
  const { read } = await reading({ body: {}, terminal: ["stream.error"] });
  await server.last.open("data: 1\n\n");
  await server.last.end();
  assert.equal(read.ended, true);
  assert.equal(read.error, undefined);
});

// --- Coming back ---

test("a stream that was cut comes back behind its last id, after the server's wait", async () => {
  const { read } = await reading();
  await server.last.open("retry: 250\nid: 1\ndata: 1\n\nid: 2\n\n");
  await server.last.cut();
  assert.deepEqual(server.state, {
    state: "waiting",
    reason: "cut",
    delayMs: 250,
    failures: 1,
    error: new TypeError("terminated"),
  });
  await tick(249);
  assert.equal(server.exchanges.length, 1);
  await tick(1);
  assert.equal(server.exchanges.length, 2);
  assert.equal(server.last.request.headers.get("last-event-id"), "2");
  await server.last.open("data: 2\n\n");
  assert.deepEqual(read.data, [1, 2]);
});

test("Retry-After is waited for", async () => {
  const { read } = await reading({ body: {} });
  await server.last.answer(503, { "retry-after": "120" }, "later");
  assert.equal(server.state?.delayMs, 120_000);
  assert.equal(server.last.aborted, true);
  await tick(119_999);
  assert.equal(server.exchanges.length, 1);
  await tick(1);
  assert.equal(server.exchanges.length, 2);
  assert.equal(read.ended, false);
});

test("attempts are limited, and the last error is the cause", async () => {
  const { read } = await reading({ lastEventId: "7", policy: { ...CALM, maxAttempts: 2 } });
  await server.last.fail();
  await tick(1000);
  await server.last.fail(new TypeError("again"));
  assert.ok(read.error instanceof ConnectionFailed);
  assert.equal(read.error.reason, "unanswered");
  assert.equal(read.error.failures, 2);
  assert.equal(read.error.lastEventId, "7");
  assert.equal((read.error.cause as Error).message, "again");
});

test("what was thrown belongs to one attempt", async () => {
  await reading();
  await server.last.fail(new TypeError("fetch failed"));
  assert.equal((server.state?.error as Error).message, "fetch failed");
  await tick(1000);
  await server.last.answer(503, {}, "");
  assert.equal(server.state?.reason, "status");
  assert.equal(server.state?.error, undefined);
});

test("a POST without an answer may have been sent, and is not sent again", async () => {
  const { read } = await reading({ body: {} });
  await server.last.fail();
  assert.ok(read.error instanceof ConnectionFailed);
  assert.equal(read.error.reason, "unanswered");
});

test("a POST that was certainly not sent is sent again", async () => {
  await reading({ body: {} });
  await server.last.fail(new TypeError("fetch failed", { cause: { code: "ECONNREFUSED" } }));
  assert.equal(server.state?.reason, "unreachable");
  await tick(1000);
  assert.equal(server.exchanges.length, 2);
});

test("a POST that resumes is sent again behind its last id", async () => {
  await reading({ body: {}, policy: { ...CALM, repeat: "resume" } });
  await server.last.open("id: 1\ndata: 1\n\n");
  await server.last.cut();
  await tick(1000);
  assert.equal(server.last.request.method, "POST");
  assert.equal(server.last.request.headers.get("last-event-id"), "1");
});

test("an answer that does not come in time is given up", async () => {
  await reading({ policy: { ...CALM, answerWithinMs: 5000 } });
  await tick(5000);
  assert.equal(server.exchanges[0]?.aborted, true);
  assert.equal(server.state?.reason, "unanswered");
});

test("a stream from which nothing comes for the announced time is given up", async () => {
  const { read } = await reading();
  await server.last.open("", { "stream-idle-limit": "30" });
  await tick(29_999);
  await server.last.send(": keep-alive\n\n");
  await tick(29_999);
  assert.equal(server.state?.state, "open");
  await tick(1);
  assert.equal(server.exchanges[0]?.aborted, true);
  assert.equal(server.state?.reason, "idle");
  assert.equal(read.ended, false);
});

test("an id that cannot be in a header ends the stream", async () => {
  const { read } = await reading({ lastEventId: "1\n2" });
  assert.ok(read.error instanceof ConnectionFailed);
  assert.equal(read.error.reason, "unsendable-id");
  assert.equal(server.exchanges.length, 0);
});

// --- The consumer ---

test("what comes while an event is not done with is not read", async () => {
  const stream = server.stream();
  const events = stream[Symbol.asyncIterator]();
  const first = events.next();
  await settled();
  await server.last.open("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n");
  assert.equal((await first).value?.data, 1);
  await server.last.send("id: 3\ndata: 3\n\n");
  const { pulls } = server.last;
  await tick(1000);
  assert.equal((await events.next()).value?.data, 2);
  assert.equal(server.last.pulls, pulls);
  assert.equal(stream.lastEventId, "2");
  assert.equal((await events.next()).value?.data, 3);
  stream.close();
});

test("time that the consumer takes is no silence of the server", async () => {
  const stream = server.stream();
  const events = stream[Symbol.asyncIterator]();
  const first = events.next();
  await settled();
  await server.last.open("data: 1\n\n", { "stream-idle-limit": "30" });
  await first;
  await tick(3_600_000);
  await server.last.send("data: 2\n\n");
  assert.equal((await events.next()).value?.data, 2);
  assert.equal(server.exchanges.length, 1);
  stream.close();
});

test("leaving the loop aborts the connection", async () => {
  const stream = server.stream();
  const taken: unknown[] = [];
  const done = (async () => {
    for await (const { data } of stream) {
      taken.push(data);
      break;
    }
  })();
  await settled();
  await server.last.open("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n");
  await done;
  assert.deepEqual(taken, [1]);
  assert.equal(server.last.aborted, true);
  assert.equal(stream.lastEventId, "1");
  assert.equal(server.state?.state, "closed");
});

test("an iterator that waits can be returned", async () => {
  const events = server.stream()[Symbol.asyncIterator]();
  const next = events.next();
  await settled();
  await server.last.open();
  await events.return(undefined);
  assert.deepEqual(await next, { value: undefined, done: true });
  assert.equal(server.last.aborted, true);
});

test("a second consumer is told that the stream is read", async () => {
  const { stream } = await reading();
  assert.throws(() => stream[Symbol.asyncIterator](), TypedSSEError);
  await assert.rejects(stream.start(), TypedSSEError);
  stream.close();
  await settled();
  await assert.rejects(stream.start(), TypedSSEError);
});

test("listeners hear events by name, and start resolves at the end", async () => {
  const stream = server.stream({ terminal: ["done"] });
  const heard: unknown[] = [];
  const leave = stream.on("a", ({ data }) => heard.push(data));
  stream.on("*", ({ event }) => heard.push(event));
  const ended = stream.start();
  await settled();
  await server.last.open("event: a\ndata: 1\n\nevent: b\ndata: 2\n\n");
  leave();
  await server.last.send("event: a\ndata: 3\n\nevent: done\ndata: 4\n\n");
  await ended;
  assert.deepEqual(heard, [1, "a", "b", "a", "done"]);
});

test("what a listener throws ends the stream, and is what start rejects with", async () => {
  const stream = server.stream();
  stream.on("*", () => {
    throw new Error("mine");
  });
  const ended = assert.rejects(stream.start(), /^Error: mine$/);
  await settled();
  await server.last.open("data: 1\n\n");
  await ended;
  assert.equal(server.last.aborted, true);
});

// --- Closing ---

for (const [when, prepare] of [
  ["connecting", async () => {}],
  ["reading", () => server.last.open("data: 1\n\n")],
  ["waiting", () => server.last.fail()],
] as const) {
  test(`close ends a stream that is ${when}`, async () => {
    const { stream, read } = await reading();
    await prepare();
    stream.close();
    await settled();
    assert.equal(read.ended, true);
    assert.equal(read.error, undefined);
    assert.equal(server.last.aborted, true);
    assert.deepEqual(server.state, { state: "closed", failures: when === "waiting" ? 1 : 0 });
    await tick(3_600_000);
    assert.equal(server.exchanges.length, 1);
  });

  test(`an abort of the signal ends a stream that is ${when}, by its reason`, async () => {
    const aborter = new AbortController();
    const { read } = await reading({ signal: aborter.signal });
    await prepare();
    const reason = new Error("enough");
    aborter.abort(reason);
    await settled();
    assert.equal(read.error, reason);
    assert.equal(server.last.aborted, true);
    await tick(3_600_000);
    assert.equal(server.exchanges.length, 1);
  });
}

test("close aborts a connection whose consumer has stopped asking", async () => {
  const stream = server.stream();
  const first = stream[Symbol.asyncIterator]().next();
  await settled();
  await server.last.open("data: 1\n\n");
  await first;
  stream.close();
  assert.equal(server.last.aborted, true);
});

test("what came with the event at which a loop closes its stream is dropped", async () => {
  const stream = server.stream();
  const taken: unknown[] = [];
  const ended = (async () => {
    for await (const { data } of stream) {
      taken.push(data);
      stream.close();
    }
  })();
  await settled();
  await server.last.open("data: 1\n\ndata: 2\n\n");
  await ended;
  assert.deepEqual(taken, [1]);
});

test("whenever a stream is closed, no event is handed on after that", async () => {
  for (let turns = 0; turns < 12; turns += 1) {
    const stream = server.stream();
    const heard: unknown[] = [];
    stream.on("*", ({ data }) => heard.push(data));
    void stream.start();
    await settled();
    await server.last.open();
    const sent = server.last.send("data: 1\n\n");
    for (let turn = 0; turn < turns; turn += 1) await null;
    const before = heard.length;
    stream.close();
    await sent;
    assert.equal(heard.length, before, `closed after ${turns} turns`);
  }
});

test("a stream that is closed while the start of a page is read has no error", async () => {
  const { stream, read } = await reading();
  await server.last.answer(500);
  stream.close();
  await settled();
  assert.equal(read.ended, true);
  assert.equal(read.error, undefined);
});

test("a stream that is closed at once sends nothing", async () => {
  const stream = server.stream();
  const ended = stream.start();
  stream.close();
  await ended;
  await settled();
  assert.equal(server.exchanges.length, 0);
});

test("a signal that is aborted already is thrown before anything is sent", async () => {
  const { read } = await reading({ signal: AbortSignal.abort(new Error("before")) });
  assert.equal((read.error as Error).message, "before");
  assert.equal(server.exchanges.length, 0);
});

// --- Data that nothing follows ---

test("a sentinel ends a stream and is not handed on", async () => {
  const { read } = await reading({ body: {}, sentinel: "[DONE]" });
  await server.last.open("data: 1\n\ndata: [DONE]\n\ndata: 2\n\n");
  assert.deepEqual(read.data, [1]);
  assert.equal(read.ended, true);
  assert.equal(read.error, undefined);
});

test("a POST that ends before its sentinel has ended too early", async () => {
  const { read } = await reading({ body: {}, sentinel: "[DONE]" });
  await server.last.open("data: 1\n\n");
  await server.last.end();
  assert.ok(read.error instanceof ConnectionFailed);
  assert.equal(read.error.reason, "ended");
});

// --- The last id in a storage ---

test("a stream begins behind the stored id, and stores each id once it is done with", async () => {
  const stored = new Map([["at", "7"]]);
  const storage = inStorage(
    {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, id: string) => stored.set(key, id),
    } as unknown as Storage,
    "at",
  );
  const stream = server.stream({ storage });
  const events = stream[Symbol.asyncIterator]();
  const first = events.next();
  await settled();
  assert.equal(server.last.request.headers.get("last-event-id"), "7");
  await server.last.open("id: 8\ndata: 1\n\nid: 9\ndata: 2\n\nid: 10\n\n");
  await first;
  assert.equal(stored.get("at"), "7");
  await events.next();
  assert.equal(stored.get("at"), "8");
  const third = events.next();
  await settled();
  assert.equal(stored.get("at"), "10");
  stream.close();
  await third;
});

test("the id of an event at which a loop is left, or throws, is not stored", async () => {
  const saved: string[] = [];
  const stream = server.stream({ storage: { load: () => null, save: (id) => saved.push(id) } });
  const failed = (async () => {
    for await (const { data } of stream) if (data === 2) throw new Error("no room");
  })().catch((error: Error) => error.message);
  await settled();
  await server.last.open("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n");
  assert.equal(await failed, "no room");
  assert.deepEqual(saved, ["1"]);
});

test("a keep-alive stores nothing", async () => {
  const saved: string[] = [];
  await reading({ storage: { load: () => null, save: (id) => saved.push(id) } });
  await server.last.open("id: 1\ndata: 1\n\n");
  await server.last.send(": keep-alive\n\n");
  assert.deepEqual(saved, ["1"]);
});

test("an id that is given wins over the one that is stored", async () => {
  await reading({ lastEventId: "1", storage: { load: () => "7", save: () => {} } });
  assert.equal(server.last.request.headers.get("last-event-id"), "1");
});

// --- The page ---

test("a wait after a loss is over when the page comes online", async (t) => {
  const page = new Page(t);
  await reading();
  await server.last.fail();
  page.dispatch("online");
  await settled();
  assert.equal(server.exchanges.length, 2);
});

test("what a server has asked for is waited for, online or not", async (t) => {
  const page = new Page(t);
  await reading();
  await server.last.answer(503, { "retry-after": "60" }, "");
  page.dispatch("online");
  await settled();
  assert.equal(server.exchanges.length, 1);
});

test("while the page is offline, no attempt is used up", async (t) => {
  const page = new Page(t);
  await reading({ policy: { ...CALM, maxAttempts: 2 } });
  page.isOnline = false;
  await server.last.fail();
  await tick(3_600_000);
  assert.equal(server.exchanges.length, 1);
  assert.deepEqual(server.state, { state: "waiting", reason: "offline", failures: 1 });
  page.isOnline = true;
  page.dispatch("online");
  await settled();
  assert.equal(server.exchanges.length, 2);
});

test("nothing is told after closed", async (t) => {
  const page = new Page(t);
  const { stream } = await reading();
  page.isOnline = false;
  await server.last.fail();
  stream.close();
  await settled();
  assert.equal(server.state?.state, "closed");
});

test("a GET has no connection while the page is hidden, where that is wanted", async (t) => {
  const page = new Page(t);
  const { read } = await reading({ pauseHidden: true });
  await server.last.open("id: 1\ndata: 1\n\n");
  page.hide(true);
  await settled();
  assert.equal(server.last.aborted, true);
  assert.deepEqual(server.state, { state: "waiting", reason: "hidden", failures: 0 });
  await tick(3_600_000);
  assert.equal(server.exchanges.length, 1);
  page.hide(false);
  await settled();
  assert.equal(server.exchanges.length, 2);
  assert.equal(server.last.request.headers.get("last-event-id"), "1");
  assert.equal(read.ended, false);
});

for (const [what, options] of [
  ["headers", { headers: () => new Promise<HeadersInit>(() => {}) }],
  ["an answer", {}],
] as const) {
  test(`a page that is hidden while it waits for ${what} has not failed`, async (t) => {
    const page = new Page(t);
    await reading({ pauseHidden: true, ...options });
    page.hide(true);
    await settled();
    assert.deepEqual(server.state, { state: "waiting", reason: "hidden", failures: 0 });
    page.hide(false);
    await settled();
    assert.deepEqual(server.state, { state: "connecting", failures: 0 });
  });
}

test("a hidden page keeps its connection by default", async (t) => {
  const page = new Page(t);
  await reading();
  await server.last.open();
  page.hide(true);
  await settled();
  assert.equal(server.last.aborted, false);
});

test("a POST that may not be sent again keeps its connection on a hidden page", async (t) => {
  const page = new Page(t);
  const { read } = await reading({ body: {}, pauseHidden: true });
  page.hide(true);
  await server.last.open("data: 1\n\n");
  page.hide(false);
  await server.last.send("data: 2\n\n");
  assert.deepEqual(read.data, [1, 2]);
  assert.equal(server.exchanges.length, 1);
});

test("a page that is kept for the way back has no connection until it is back", async (t) => {
  const page = new Page(t);
  await reading();
  await server.last.open("id: 1\ndata: 1\n\n");
  page.dispatch("pagehide");
  page.dispatch("visibilitychange");
  await settled();
  assert.equal(server.exchanges.length, 1);
  assert.equal(server.last.aborted, true);
  page.dispatch("pageshow");
  await settled();
  assert.equal(server.last.request.headers.get("last-event-id"), "1");
});

test("a closed stream listens to nothing", async (t) => {
  const page = new Page(t);
  const signal = new AbortController().signal;
  const { stream } = await reading({ signal });
  assert.ok(page.listeners > 0);
  stream.close();
  assert.equal(page.listeners, 0);
});
