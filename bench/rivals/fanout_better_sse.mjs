// better-sse's channel on Node's own HTTP server, as its documentation shows; every option is its
// default.
//
// Differs from the others: the payload is a plain object, and `broadcast` has each session write it
// with JSON.stringify, so it is encoded once a session; nothing is checked; ids are random.
// A byte of the body of POST /start/SIZE/BURST allows one burst; after it others get their turn.

import { createServer } from "node:http";
import { setImmediate } from "node:timers/promises";
import { createChannel, createSession } from "better-sse";

const AROUND_TEXT = 45;
const channel = createChannel();

function filling(size) {
  const words = "so goes the text ";
  return words.repeat(Math.floor(size / words.length) + 1).slice(0, Math.max(size - AROUND_TEXT, 0));
}

function publish(made) {
  channel.broadcast(made, "token");
}

async function publishOne(request) {
  let body = "";
  for await (const chunk of request) body += chunk;
  publish(JSON.parse(body));
}

async function publishAsAllowed(request, size, burst) {
  const text = filling(size);
  let allowed = 0;
  let isPublishing = false;
  let index = 0;
  async function work() {
    isPublishing = true;
    for (; allowed > 0; allowed--) {
      for (let i = 0; i < burst; i++) {
        publish({ at_us: Math.floor(Number(process.hrtime.bigint()) / 1000), index: index++, text });
      }
      await setImmediate();
    }
    isPublishing = false;
  }
  for await (const chunk of request) {
    allowed += chunk.length;
    if (!isPublishing) work();
  }
}

const server = createServer(async (request, response) => {
  const [, what, size, burst] = request.url.split("/");
  if (what === "events") {
    channel.register(await createSession(request, response));
    return;
  }
  try {
    if (what === "publish") await publishOne(request);
    else await publishAsAllowed(request, Number(size), Number(burst));
  } catch (error) {
    if (error.code !== "ECONNRESET") throw error; // the load client has left
  }
  response.writeHead(204).end();
});

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
