// Parsers in JavaScript: `node ts_parser.mjs NAME`, asked by `bench.ts_parser`.
//
// Each takes the chunks of a body, and the length of each event's data is read.
//
// - typed-sse: bytes go in, a function is called with each event.
// - typed-sse-list: bytes go in, a list of events comes out.
// - eventsource-parser: text goes in, so chunks go through one TextDecoder, which is included, as its
//   documentation shows. A function is called with each event.
// - eventsource-parser-list: the same, and the function puts events into a list, which is read after
//   each chunk: what anybody needs who hands events on, to an async iterator say.

import { readFileSync } from "node:fs";
import { createParser } from "eventsource-parser";
import { Parser } from "../../src/typed_sse/demo/static/typed-sse.js";

const seen = { events: 0, characters: 0 };

function count(event) {
  seen.events += 1;
  seen.characters += event.data.length;
}

const PARSERS = {
  "typed-sse": (chunks) => {
    const parser = new Parser();
    for (const chunk of chunks) parser.feed(chunk, count);
  },
  "typed-sse-list": (chunks) => {
    const parser = new Parser();
    for (const chunk of chunks) for (const event of parser.push(chunk)) count(event);
  },
  "eventsource-parser": (chunks) => {
    const parser = createParser({ onEvent: count });
    const text = new TextDecoder();
    for (const chunk of chunks) parser.feed(text.decode(chunk, { stream: true }));
  },
  "eventsource-parser-list": (chunks) => {
    const events = [];
    const parser = createParser({ onEvent: (event) => events.push(event) });
    const text = new TextDecoder();
    for (const chunk of chunks) {
      parser.feed(text.decode(chunk, { stream: true }));
      for (const event of events) count(event);
      events.length = 0;
    }
  },
};

// Millions of single bytes are few different ones.
const BYTES = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));

function cut(body, chunkBytes) {
  if (chunkBytes === 1) return Array.from(body, (byte) => BYTES[byte]);
  const chunks = [];
  for (let start = 0, end; start < body.length; start = end) {
    end = chunkBytes ? start + chunkBytes : body.indexOf("\n\n", start) + 2;
    chunks.push(body.subarray(start, end));
  }
  return chunks;
}

const parse = PARSERS[process.argv[2]];
const { file, chunk_bytes, seconds } = JSON.parse(readFileSync(0, "utf8"));
const chunks = cut(readFileSync(file), chunk_bytes);
let best = Infinity;
for (let total = 0; total < seconds; ) {
  seen.events = seen.characters = 0;
  const start = performance.now();
  parse(chunks);
  const took = (performance.now() - start) / 1000;
  best = Math.min(best, took);
  total += took;
}
console.log(JSON.stringify({ seconds: best, ...seen }));
