/**
 * Reads one event stream in Node, from the client's own sources, and writes what it hears to its
 * standard output, a line of JSON each: `event`, `state`, and at the end `ended` or `error`.
 *
 * Its argument is JSON: the `url`, the stream's options, and perhaps `count`, after how many events
 * it leaves; `closeWhen`, the state in which the stream is closed; `parsed`, whether data is JSON,
 * which it is by default. It never ends the process.
 */

import { EventStream } from "../../ts/src/index.ts";

const { url, count, closeWhen, parsed = true, ...options } = JSON.parse(process.argv[2]);

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

const stream = new EventStream(url, {
  ...options,
  ...(!parsed && { parse: (data) => data }),
  onState: ({ error: _, ...state }) => {
    say({ state });
    if (state.state === closeWhen) stream.close();
  },
});

let events = 0;
try {
  for await (const event of stream) {
    say({ event });
    events += 1;
    if (events === count) break;
  }
  say({ ended: true });
} catch (error) {
  say({ error: { ...error, cause: undefined } });
}
