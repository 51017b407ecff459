// better-sse on Node's own HTTP server, as its documentation shows for generators; every option is
// its default.
//
// Differs from the others: the payload is a plain object and JSON.stringify writes it, so nothing is
// checked, and ids are the random ones that better-sse makes. It waits for nobody: the generator
// itself makes way after every 64 events, so that other connections get their turn, and waits while
// the socket is full, so that memory does not grow.

import { createServer } from "node:http";
import { setImmediate, setTimeout } from "node:timers/promises";
import { createSession } from "better-sse";

const AROUND_TEXT = 45;

function filling(size) {
  const words = "so goes the text ";
  return words.repeat(Math.floor(size / words.length) + 1).slice(0, Math.max(size - AROUND_TEXT, 0));
}

function drained(response) {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

async function* tokens(session, response, size, pauseMs) {
  const text = filling(size);
  for (let index = 0; session.isConnected; index++) {
    yield { at_us: Math.floor(Number(process.hrtime.bigint()) / 1000), index, text };
    if (pauseMs) await setTimeout(pauseMs);
    else if (index % 64 === 63) await setImmediate();
    if (response.writableNeedDrain) await drained(response);
  }
}

const server = createServer(async (request, response) => {
  const [, size, pauseMs] = request.url.split("/").map(Number);
  const session = await createSession(request, response);
  await session.iterate(tokens(session, response, size, pauseMs), { eventName: "token" });
});

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
