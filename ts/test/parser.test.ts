/** The parser: on every conformance case, however it is cut, and beyond the cases. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { EventTooLarge } from "../src/errors.ts";
import { type Message, Parser, type ParserOptions } from "../src/parser.ts";

type Parts = [text: string, times: number][];

interface Case {
  id: string;
  body?: string;
  body_parts?: Parts;
  chunks?: string[];
  initial_last_event_id?: string;
  events: { type: string; data?: string; data_parts?: Parts; lastEventId: string; repeat?: number }[];
  retry?: number | null;
  retry_ambiguous?: boolean;
  final_last_event_id: string;
}

interface Parsed {
  messages: Message[];
  lastEventId: string;
  retryMs: number | undefined;
}

const FOLDER = new URL("../../conformance/cases/", import.meta.url);
const CASES = readdirSync(FOLDER).flatMap(
  (file) => JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")).cases as Case[],
);

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const decoded = (base64: string): Buffer => Buffer.from(base64, "base64");

function chunksOf({ body, body_parts, chunks }: Case): Uint8Array[] {
  if (body_parts === undefined) return (chunks ?? [body ?? ""]).map(decoded);
  return body_parts.map(([part, times]) => {
    const piece = decoded(part);
    return Buffer.alloc(piece.length * times, piece);
  });
}

function wanted({ events, final_last_event_id, retry }: Case): Parsed {
  const messages = events.flatMap(({ type, data, data_parts, lastEventId, repeat = 1 }) => {
    const text = data ?? data_parts?.map(([part, times]) => part.repeat(times)).join("") ?? "";
    return Array<Message>(repeat).fill({ event: type, data: text, id: lastEventId });
  });
  return { messages, lastEventId: final_last_event_id, retryMs: retry ?? undefined };
}

function parsed(chunks: Iterable<Uint8Array>, options?: ParserOptions): Parsed {
  const parser = new Parser(options);
  const messages: Message[] = [];
  for (const chunk of chunks) messages.push(...parser.push(chunk));
  return { messages, lastEventId: parser.lastEventId, retryMs: parser.retryMs };
}

function* cut(body: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size);
}

/** Every place of a short body; of a long one the ends, around 64 KiB, and some between. */
function placesToCut(body: Uint8Array): number[] {
  const places = Array.from({ length: body.length + 1 }, (_, at) => at);
  if (body.length <= 2048) return places;
  const ends = places.filter((at) => body[at] === 10 || body[at] === 13);
  const near = [...ends.slice(0, 3), ...ends.slice(-3)].flatMap((at) => [at - 1, at, at + 1, at + 2]);
  const among = new Set([...near, 1, 65_535, 65_536, 65_537, body.length >> 1]);
  return places.filter((at) => among.has(at));
}

for (const it of CASES) {
  const chunks = chunksOf(it);
  const body = Buffer.concat(chunks);
  const goal = wanted(it);
  const options = { lastEventId: it.initial_last_event_id ?? "" };
  const passes = (pieces: Iterable<Uint8Array>, how: string): void => {
    const found = parsed(pieces, options);
    if (it.retry_ambiguous) found.retryMs = goal.retryMs;
    assert.deepEqual(found, goal, how);
  };

  test(`${it.id} gives its events whole, in its chunks and in small ones`, () => {
    passes([body], "whole");
    passes(chunks, "in its chunks");
    for (const size of body.length < 50_000 ? [1, 2, 3] : [1, 4093]) passes(cut(body, size), `in chunks of ${size}`);
  });

  test(`${it.id} gives its events cut in two, anywhere`, () => {
    for (const at of placesToCut(body)) {
      passes([body.subarray(0, at), body.subarray(at)], `cut at ${at}`);
    }
  });

  test(`${it.id} is not changed by trailing bytes that finish no event`, () => {
    for (const trailing of [" data: x", ": x\n", ": x\n data: x"]) {
      passes([body, bytesOf(trailing)], trailing);
      passes([Buffer.concat([body, bytesOf(trailing)])], trailing);
    }
  });
}

test("there are cases, each with an id of its own", () => {
  assert.ok(CASES.length > 150);
  assert.equal(new Set(CASES.map(({ id }) => id)).size, CASES.length);
});

// --- beyond the cases

/** What the standard says, in its own order and without a thought for time. */
function byTheBook(body: Uint8Array): Parsed {
  const found: Parsed = { messages: [], lastEventId: "", retryMs: undefined };
  let [data, event, id] = ["", "", ""];
  const lines = new TextDecoder().decode(body).split(/\r\n|\n|\r/);
  // What follows the last line end is no line.
  for (const line of lines.slice(0, -1)) {
    if (line === "") {
      found.lastEventId = id;
      if (data !== "") {
        found.messages.push({ event: event === "" ? "message" : event, data: data.slice(0, -1), id });
      }
      data = event = "";
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === "data") data += `${value}\n`;
    if (field === "event") event = value;
    if (field === "id" && !value.includes("\0")) id = value;
    if (field === "retry" && /^[0-9]{1,15}$/.test(value)) found.retryMs = Number(value);
  }
  return found;
}

/** Numbers that look like chance and are the same in each run (mulberry32). */
function chance(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const WORDS = [
  ...["\r", "\n", "\r\n", "\n\n", "data", ":", " ", "x", "\0", "ö", "😀", "\u2028", "\ufeff"],
  ...["id: 7", "id:8", "id", "event: e", "event:f", "event", "retry: 9", "retry", "retry:x"],
  ...["data: y", "data:z", "data: y\n\n", "dat", "events: 1", ": c", "data :x", "a:b:c", " data:x"],
].map(bytesOf);
const BROKEN = [[0xc3], [0xf0, 0x9f], [0x80], [0xff], [0xef, 0xbb]].map((it) => Uint8Array.from(it));

test("whatever comes is read by the book, however it is cut", () => {
  for (let seed = 0; seed < 3000; seed += 1) {
    const random = chance(seed);
    const words = [...WORDS, ...(seed % 3 === 0 ? BROKEN : [])];
    const body = Buffer.concat(Array.from({ length: random(40) }, () => words[random(words.length)]!));
    const goal = byTheBook(body);
    for (const size of [body.length + 1, 1, 1 + random(8)]) {
      assert.deepEqual(parsed(cut(body, size)), goal, `seed ${seed}, chunks of ${size}`);
    }
  }
});

test("an event comes out as soon as its last byte is in", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const body = bytesOf(`data: a${end}${end}`);
    const parser = new Parser();
    // Of a last CRLF the CR is enough: what follows cannot change anything.
    const last = body.length - end.length;
    assert.deepEqual(parser.push(body.subarray(0, last)), []);
    assert.equal(parser.push(body.subarray(last, last + 1)).length, 1);
    assert.deepEqual(parser.push(body.subarray(last + 1)), []);
  }
});

test("the last id is of the blank lines so far, also where nothing is dispatched", () => {
  const parser = new Parser({ lastEventId: "6" });
  parser.push(bytesOf("id: 7\n"));
  assert.equal(parser.lastEventId, "6");
  assert.deepEqual(parser.push(bytesOf("\n")), []);
  assert.equal(parser.lastEventId, "7");
});

test("a retry counts as soon as its line has ended", () => {
  const parser = new Parser();
  parser.push(bytesOf("retry: 10\nretry: 20"));
  assert.equal(parser.retryMs, 10);
  parser.push(bytesOf("\r"));
  assert.equal(parser.retryMs, 20);
});

test("a retry that is not plain ASCII digits, or of more than 15, is skipped", () => {
  for (const value of ["+1", "-1", "1.5", "1e3", "0x1", "  1", "1 ", "٣", "1_0", "1".repeat(16)]) {
    assert.equal(parsed([bytesOf(`retry: ${value}\n`)]).retryMs, undefined, value);
  }
  assert.equal(parsed([bytesOf(`retry: ${"9".repeat(15)}\n`)]).retryMs, 999_999_999_999_999);
});

test("an empty chunk between CR and LF changes nothing", () => {
  const pieces = ["data: a\r", "", "\n\r", "", "\n"].map(bytesOf);
  assert.deepEqual(parsed(pieces).messages, [{ event: "message", data: "a", id: "" }]);
});

test("a chunk may be written over as soon as it was pushed", () => {
  const [parser, chunk] = [new Parser(), bytesOf("data: ab")];
  parser.push(chunk);
  chunk.fill(0);
  assert.equal(parser.push(bytesOf("c\n\n"))[0]?.data, "abc");
});

// --- the limit

const FITS = ["data:12345\n\n", "data:12\r\n:3\r\n\r\n", ":2345\rdata\n\r\n", "data:ö2345\r\r", "data:\n:234\n\n"];
const OVER = ["data:123456\n\n", "data:12\r\n:34\r\n\r\n", ":23456\rdata\n\r\n", "data:\n:2345\n\n", ":23456789012345"];

test("an event of exactly the limit passes and one character more does not, however it is cut", () => {
  for (const size of [1, 2, 3, 5, 7, 100]) {
    for (const event of FITS) {
      const body = bytesOf(`\n\r\n${event}\n${event}\r\r`);
      assert.equal(parsed(cut(body, size), { maxEventChars: 10 }).messages.length, 2, event);
    }
    for (const event of OVER) {
      const pushed = () => parsed(cut(bytesOf(`${event}\n\n`), size), { maxEventChars: 10 });
      // In one chunk, the error would wait for the next call if anything came before it.
      assert.throws(pushed, EventTooLarge, event);
    }
  }
});

test("events before one that is too large come first, and then every call throws", () => {
  for (const size of [1, 4, 11, 1000]) {
    const parser = new Parser({ maxEventChars: 10 });
    const data: string[] = [];
    const push = (chunk: Uint8Array) => data.push(...parser.push(chunk).map((it) => it.data));
    const body = bytesOf("data: 1\n\ndata: 2\n\ndata: 34567\ndata: 8\n\ndata: 9\n\n");
    const fails = { name: "EventTooLarge", limitChars: 10, message: /maxEventChars=10/ };
    assert.throws(() => [...cut(body, size), bytesOf("\n")].forEach(push), fails);
    assert.deepEqual(data, ["1", "2"]);
    assert.throws(() => parser.push(bytesOf("data: 10\n\n")), fails);
  }
});

test("a function hears each message as it is complete, and the error in the same call", () => {
  const parser = new Parser({ maxEventChars: 14 });
  const heard: [string, string][] = [];
  const feed = () =>
    parser.feed(bytesOf("id: 1\ndata: 1\n\nid: 2\n\ndata: 3\r\n\r\ndata: 345678901\n"), ({ data, id }) => {
      assert.equal(parser.lastEventId, id);
      heard.push([data, id]);
    });
  assert.throws(feed, EventTooLarge);
  assert.deepEqual(heard, [["1", "1"], ["3", "2"]]);
  assert.throws(feed, EventTooLarge);
  assert.equal(heard.length, 2);
});

test("an endless line is refused at the limit", () => {
  const parser = new Parser({ maxEventChars: 5000 });
  for (let at = 0; at < 50; at += 1) parser.push(bytesOf("x".repeat(100)));
  assert.throws(() => parser.push(bytesOf("x")), EventTooLarge);
});

test("the byte order mark does not count for the limit", () => {
  assert.equal(parsed(cut(bytesOf("\ufeffid\n\n"), 1), { maxEventChars: 2 }).lastEventId, "");
});

test("a limit below 1, or that is no number, refuses every event", () => {
  for (const maxEventChars of [0, -1, NaN]) {
    for (const body of ["data: 1\n\n", "d"]) {
      assert.throws(() => parsed([bytesOf(body)], { maxEventChars }), EventTooLarge);
    }
  }
});

test("a line of many more pieces than are kept apart comes out whole", () => {
  const text = "0123456789".repeat(10_000);
  assert.equal(parsed(cut(bytesOf(`data:${text}\n\n`), 1)).messages[0]?.data, text);
});
