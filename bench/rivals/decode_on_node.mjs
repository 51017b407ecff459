// eventsource-parser, as its documentation shows; asked by `bench.decode`, as the decoders in Python.
//
// Differs from the others: it is JavaScript. It takes text, so chunks go through a TextDecoder, which
// is included.

import { readFileSync } from "node:fs";
import { createParser } from "eventsource-parser";

function cut(body, chunkBytes) {
  const chunks = [];
  for (let start = 0, end; start < body.length; start = end) {
    end = chunkBytes ? start + chunkBytes : body.indexOf("\n\n", start) + 2;
    chunks.push(body.subarray(start, end));
  }
  return chunks;
}

function decode(chunks) {
  let events = 0;
  let characters = 0;
  const parser = createParser({
    onEvent(event) {
      events += 1;
      characters += event.data.length;
    },
  });
  const text = new TextDecoder();
  for (const chunk of chunks) parser.feed(text.decode(chunk, { stream: true }));
  return { events, characters };
}

const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = asked.cases.map(({ file, chunk_bytes }) => {
  const chunks = cut(readFileSync(file), chunk_bytes);
  let seen;
  let best = Infinity;
  for (let total = 0; total < asked.seconds; ) {
    const start = performance.now();
    seen = decode(chunks);
    const seconds = (performance.now() - start) / 1000;
    best = Math.min(best, seconds);
    total += seconds;
  }
  return { seconds: best, ...seen };
});
console.log(JSON.stringify(answers));
