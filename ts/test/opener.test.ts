/** What `opener` makes of an operation: the URL, the request, and what is filled in. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { MalformedData } from "../src/errors.ts";
import { opener, type OpenerOptions } from "../src/opener.ts";
import { Read, Server, settled } from "./faking.ts";
import { type StreamRequests, type Streams, streams } from "./streams.ts";

let server: Server;

beforeEach(() => {
  server = new Server();
});

function opened(options: OpenerOptions = {}) {
  const { fetch } = server;
  return opener<Streams, StreamRequests>(streams, {
    baseUrl: "http://server/v1",
    fetch,
    ...options,
  });
}

test("path, query and body are where the operation has them", async () => {
  const open = opened();
  const answer = open("GET /answer", { query: { prompt: "a&b c", tags: ["x", "y"] } });
  const room = open("POST /rooms/{room}/chat", { path: { room: "a/b ü" }, body: { prompt: "?" } });
  const reads = [answer, room].map((stream) => new Read(stream));
  await settled();
  const [first, second] = server.exchanges.map(({ request }) => request);
  assert.equal(first?.method, "GET");
  assert.equal(first?.url, "http://server/v1/answer?prompt=a%26b+c&tags=x&tags=y");
  assert.equal(second?.method, "POST");
  assert.equal(second?.url, "http://server/v1/rooms/a%2Fb%20%C3%BC/chat");
  assert.deepEqual(await second?.json(), { prompt: "?" });
  answer.close();
  room.close();
  await settled();
  assert.ok(reads.every(({ ended }) => ended));
});

test("a query of nulls is none, and a slash at the end of the base is no second one", async () => {
  const open = opened({ baseUrl: "http://server/" });
  const stream = open("GET /answer", { query: { prompt: "", tags: null } });
  void stream.start();
  await settled();
  assert.equal(server.last.request.url, "http://server/answer?prompt=");
  stream.close();
});

for (const room of ["", ".", ".."]) {
  test(`a path is not led elsewhere by "${room}"`, () => {
    const open = opened();
    assert.throws(
      () => open("POST /rooms/{room}/chat", { path: { room }, body: { prompt: "" } }),
      TypeError,
    );
  });
}

test("the operation's last event ends the stream; what it does not declare is skipped", async () => {
  const read = new Read(opened()("GET /answer", { query: { prompt: "" } }));
  await settled();
  await server.last.open(
    "event: new\ndata: 1\n\nevent: done\ndata: {}\n\nevent: token\ndata: 2\n\n",
  );
  assert.deepEqual(
    read.events.map(({ event }) => event),
    ["done"],
  );
  assert.equal(read.ended, true);
});

test("where no names are declared, all events come", async () => {
  const stream = opened()("GET /clock");
  const read = new Read(stream);
  await settled();
  await server.last.open("event: tick\ndata: 1\n\n");
  assert.deepEqual(read.data, [1]);
  stream.close();
});

test("a POST that resumes comes back behind its last id; one that does not is lost", async () => {
  const states: unknown[] = [];
  const open = opened({ onState: ({ state }) => states.push(state), policy: { baseDelayMs: 0 } });
  const room = open("POST /rooms/{room}/chat", { path: { room: "a" }, body: { prompt: "" } });
  const read = new Read(room);
  await settled();
  await server.last.open("id: 1\nevent: token\ndata: {}\n\n");
  await server.last.cut();
  assert.equal(states.at(-1), "waiting");
  assert.equal(read.ended, false);
  room.close();

  const lost = new Read(open("POST /ask", { body: { prompt: "" } }));
  await settled();
  await server.last.open("id: 1\nevent: token\ndata: {}\n\n");
  await server.last.cut();
  assert.equal((lost.error as Error).name, "ConnectionFailed");
});

test("a GET that resumes comes back, whether it has an id or not", async () => {
  const states: unknown[] = [];
  const stream = opened({ onState: ({ state }) => states.push(state) })("GET /clock");
  void stream.start();
  await settled();
  await server.last.fail();
  assert.equal(states.at(-1), "waiting");
  stream.close();
});

test("the options of a call win over those of all, and both are used", async () => {
  const taken: MalformedData[] = [];
  const open = opened({ headers: { Topic: "all" }, onMalformed: (error) => taken.push(error) });
  const stream = open("GET /clock", { headers: { Topic: "one" } });
  void stream.start();
  await settled();
  assert.equal(server.last.request.headers.get("topic"), "one");
  await server.last.open("data: {\n\n");
  assert.ok(taken[0] instanceof MalformedData);
  stream.close();
});
