/** The table of `conformance/reconnect.json`, which Python's client passes too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Reconnector, type Loss, type ReconnectPolicy } from "../src/reconnect.ts";

interface Case {
  id: string;
  policy?: Record<string, unknown>;
  method?: string;
  last_event_id?: string;
  terminal?: string[];
  random?: number;
  steps: Step[];
}

type Step = { says?: unknown } & (
  | { do: "connect" }
  | { do: "responded"; status: number; headers: Record<string, string>; at_s: number }
  | { do: "received"; events: number; last_event_id: string; retry_ms: number | null }
  | { do: "event"; name: string }
  | { do: "ended"; at_s: number }
  | { do: "lost"; how: Loss; at_s: number }
  | { do: "may_repeat"; unsent: boolean }
);

const table = readFileSync(new URL("../../conformance/reconnect.json", import.meta.url), "utf8");
const { cases } = JSON.parse(table) as { cases: Case[] };

/** `max_delay_s: 2` becomes `maxDelayMs: 2000`. */
function policyOf(options: Record<string, unknown> = {}): ReconnectPolicy {
  const entries = Object.entries(options).map(([name, value]) => {
    const isTime = name.endsWith("_s");
    const camel = name.replace(/_s$/, "_ms").replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    return [camel, isTime && typeof value === "number" ? value * 1000 : value];
  });
  return Object.fromEntries(entries);
}

/** A decision as the table writes it, with its times rounded to a microsecond. */
function written(decision: unknown): unknown {
  if (typeof decision !== "object" || decision === null) return decision;
  if ("do" in decision) {
    const { do: name, ...fields } = decision;
    const entries = Object.entries(fields).map(([field, value]) => {
      const snake = field
        .replace(/Ms$/, "S")
        .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return [snake, field.endsWith("Ms") && value !== null ? Number(value) / 1000 : value];
    });
    return rounded({ [String(name)]: Object.fromEntries(entries) });
  }
  return rounded(decision);
}

function rounded(decision: object): unknown {
  return JSON.parse(JSON.stringify(decision), (_, value) =>
    typeof value === "number" ? Math.round(value * 1e6) / 1e6 : value,
  );
}

function take(client: Reconnector, step: Step): unknown {
  switch (step.do) {
    case "connect":
      return client.connect();
    case "responded":
      return client.responded(step.status, new Headers(step.headers), step.at_s * 1000);
    case "received":
      return client.received(step.events, step.last_event_id, step.retry_ms ?? undefined);
    case "event":
      return client.event(step.name);
    case "ended":
      return client.ended(step.at_s * 1000);
    case "lost":
      return client.lost(step.how, step.at_s * 1000);
    case "may_repeat":
      return client.mayRepeat(step.unsent);
  }
}

test("the table has cases", () => {
  assert.ok(cases.length > 100);
});

for (const { id, policy, method, last_event_id, terminal, random = 0.5, steps } of cases) {
  test(`${id} comes out as the table says`, () => {
    const client = new Reconnector(policyOf(policy), {
      ...(method !== undefined && { method }),
      ...(last_event_id !== undefined && { lastEventId: last_event_id }),
      ...(terminal !== undefined && { terminal }),
      random: () => random,
    });
    for (const step of steps) {
      assert.deepEqual(written(take(client, step)), written(step.says), JSON.stringify(step));
    }
  });
}

test("a policy that no timer could follow is refused", () => {
  const refused: Record<string, unknown>[] = [
    { baseDelayMs: -1 },
    { maxDelayMs: Number.NaN },
    { settledAfterMs: Number.POSITIVE_INFINITY },
    { jitter: -0.1 },
    { idleLimitMs: -5 },
    { answerWithinMs: 2 ** 31 },
  ];
  for (const policy of refused) assert.throws(() => new Reconnector(policy), RangeError);
});

test("what a policy leaves undefined is as it is by default", () => {
  const policy = { maxDelayMs: undefined, retryStatuses: undefined } as object;
  const client = new Reconnector(policy, { random: () => 0 });
  const next = client.responded(503, new Headers(), 0);
  assert.deepEqual(next, { do: "wait", delayMs: 1000, reason: "status", failures: 1 });
});

test("a limit of 0 is none", () => {
  const client = new Reconnector({ answerWithinMs: 0, idleLimitMs: 0 });
  assert.deepEqual(client.connect(), { do: "connect", lastEventId: "", answerWithinMs: null });
  const headers = new Headers({ "content-type": "text/event-stream" });
  assert.deepEqual(client.responded(200, headers, 0), { do: "read", idleMs: null });
});

// Milliseconds, where a search that backtracks from each space would take minutes.
test("an id of many spaces is looked at once", () => {
  const client = new Reconnector({ repeat: "resume" }, { lastEventId: `7${" ".repeat(1 << 20)}` });
  assert.equal(client.mayRepeat(), true);
  client.received(0, " ".repeat(1 << 20), undefined);
  assert.equal(client.mayRepeat(), false);
});
