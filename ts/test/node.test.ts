/** `EventStream` by Node's own `fetch`, against a server on a socket. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import { EventStream, NotAStream, type StreamState } from "../src/index.ts";

let server: Server;
let url: string;
let answer: (request: IncomingMessage, response: ServerResponse) => void;

before(async () => {
  server = createServer((request, response) => answer(request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});

after(() => {
  server.close();
  server.closeAllConnections();
});

test("a stream that is cut comes back behind its last id, in the server's own bytes", async () => {
  const ids: string[] = [];
  answer = (request, response) => {
    ids.push(Buffer.from(request.headers["last-event-id"] ?? "", "latin1").toString("utf8"));
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (ids.length > 1) response.end("event: done\ndata: 2\n\n");
    else response.write("retry: 0\nid: …7\ndata: 1\n\n", () => response.destroy());
  };
  const stream = new EventStream(url, { terminal: ["done"] });
  const data: unknown[] = [];
  for await (const event of stream) data.push(event.data);
  assert.deepEqual(data, [1, 2]);
  assert.deepEqual(ids, ["", "…7"]);
});

test("leaving the loop closes the socket", async () => {
  let left: Promise<unknown> | undefined;
  answer = (_, response) => {
    left = once(response, "close");
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n");
  };
  for await (const _ of new EventStream(url)) break;
  await left;
});

test("a server that is not there is not reached, so that a POST may be sent again", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  other.close();
  await once(other, "close");
  const stream = new EventStream(`http://127.0.0.1:${port}/`, { body: {} });
  const waiting = await new Promise<StreamState>((resolve) => {
    stream.onState = (state) => {
      if (state.state === "waiting") resolve(state);
    };
    void stream.start();
  });
  assert.equal(waiting.reason, "unreachable");
  stream.close();
});

test("a POST that was led to a server that is busy is not sent again", async () => {
  const methods: unknown[] = [];
  answer = ({ method }, response) => {
    methods.push(method);
    if (method === "POST") response.writeHead(303, { location: "/answer?token=secret" }).end();
    else response.writeHead(503).end("busy");
  };
  const policy = { baseDelayMs: 0, maxAttempts: 3 };
  await assert.rejects(new EventStream(url, { body: {}, policy }).start(), (error) => {
    assert.ok(error instanceof NotAStream);
    assert.deepEqual([error.status, error.start, error.url], [503, "busy", `${url}answer`]);
    return true;
  });
  assert.deepEqual(methods, ["POST", "GET"]);
});

test("a GET that was led to a server that is busy comes back", async () => {
  let count = 0;
  answer = ({ url: path }, response) => {
    if (path === "/") response.writeHead(303, { location: "/answer" }).end();
    else if ((count += 1) === 1) response.writeHead(503).end("busy");
    else response.writeHead(204).end();
  };
  await new EventStream(url, { policy: { baseDelayMs: 0 } }).start();
  assert.equal(count, 2);
});

test("a URL that is relative to no page is thrown", async () => {
  await assert.rejects(new EventStream("/stream").start(), TypeError);
});
