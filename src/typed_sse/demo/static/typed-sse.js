// typed-sse 0.1.0, MIT; made from ts/src by `make ts`.

// src/errors.ts
var TypedSSEError = class extends Error {
  constructor(name, message, fields = {}) {
    super(message);
    Object.assign(this, { name }, fields);
  }
};
var EventTooLarge = class extends TypedSSEError {
  constructor(limitChars) {
    const message = `an event is larger than maxEventChars=${limitChars}; raise it if need be`;
    super("EventTooLarge", message, { limitChars });
  }
};
var NotAStream = class extends TypedSSEError {
  constructor(fields) {
    const { url, status, contentType } = fields;
    super("NotAStream", `no stream: ${url} answers ${status}, ${shown(contentType)}`, fields);
  }
};
var ConnectionFailed = class extends TypedSSEError {
  /** @param fields `cause` is what `fetch` or the caller's `headers` has thrown. */
  constructor(fields) {
    const { reason, failures } = fields;
    super(
      "ConnectionFailed",
      `the stream is lost: ${reason}; ${failures} failures in a row`,
      fields
    );
  }
};
var MalformedData = class extends TypedSSEError {
  constructor(received, cause) {
    super("MalformedData", `the data of ${shown(received.event)} does not fit`, {
      received,
      cause
    });
  }
};
var UnknownEvent = class extends TypedSSEError {
  constructor(received) {
    super("UnknownEvent", `${shown(received.event)} is not declared`, { received });
  }
};
function shown(text) {
  return JSON.stringify(text.slice(0, 80)).replace(/[^ -~]/g, "?");
}

// src/parser.ts
var NOTHING = -1;
var LF = 10;
var CR = 13;
var SPACE = 32;
var COLON = 58;
var BYTE_ORDER_MARK = 65279;
var MANY_PIECES = 16384;
var Parser = class {
  /** The last id that an event, dispatched or not, has set: what to send as `Last-Event-ID`. */
  lastEventId;
  /** The last valid `retry`, in milliseconds; it counts as soon as its line has ended. */
  retryMs = void 0;
  #limit;
  // Turns broken UTF-8 into U+FFFD. Node's drops two marks where the first one comes in pieces.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #drop = BYTE_ORDER_MARK;
  #event = "";
  #data = void 0;
  #id;
  #line = "";
  #pieces = [];
  #size = 0;
  #tooLarge = false;
  constructor({ lastEventId = "", maxEventChars = 16 * 1024 * 1024 } = {}) {
    this.lastEventId = this.#id = lastEventId;
    this.#limit = maxEventChars;
  }
  /**
   * Take the next bytes, and return the messages that they complete.
   *
   * @throws {EventTooLarge} Messages that were complete before the event are returned first, and
   *   the next call throws, whatever the chunks. The parser cannot be used after that.
   */
  push(bytes) {
    const messages = [];
    try {
      this.feed(bytes, (message) => messages.push(message));
    } catch (error) {
      if (messages.length === 0) throw error;
    }
    return messages;
  }
  /**
   * Take the next bytes, and call `take` with each message that they complete: a third faster than
   * a list where messages are small.
   *
   * @throws {EventTooLarge} After the messages that were complete before the event, and at each
   *   further call. What `take` throws comes out too, and the parser cannot be used after that.
   */
  feed(bytes, take) {
    let text = this.#tooLarge ? "" : this.#decoder.decode(bytes, { stream: true });
    if (text) {
      const isDropped = text.charCodeAt(0) === this.#drop;
      this.#drop = text.charCodeAt(text.length - 1) === CR ? LF : NOTHING;
      if (isDropped) text = text.slice(1);
    }
    const lf = next(text, "\n", 0);
    const cr = next(text, "\r", 0);
    if (lf !== cr) this.#read(text, lf, cr, take);
    else if (text) this.#keep(text);
    if (this.#tooLarge) throw new EventTooLarge(this.#limit);
  }
  /** Keep the start of a line, or more of it. */
  #keep(rest) {
    this.#size += rest.length;
    if (!(this.#size <= this.#limit)) this.#tooLarge = true;
    else if (this.#pieces.push(rest) === MANY_PIECES) {
      this.#line += this.#pieces.join("");
      this.#pieces = [];
    }
  }
  /** Read text in which `lf` and `cr` are the first line end of their kind, or its length. */
  #read(text, lf, cr, take) {
    const limit = this.#limit;
    let event = this.#event;
    let data = this.#data;
    let id = this.#id;
    let eventStart = 0 - this.#size;
    if (this.#pieces.length > 0 || this.#line) {
      this.#pieces.push(text);
      const whole = this.#line + this.#pieces.join("");
      this.#line = "";
      this.#pieces = [];
      const before = whole.length - text.length;
      eventStart += before;
      lf += before;
      cr += before;
      text = whole;
    }
    let start = 0;
    let end;
    while ((end = cr < lf ? cr : lf) < text.length) {
      let after = end + 1;
      const isCrLf = cr < lf && after === lf;
      if (isCrLf) after += 1;
      if (end === start) {
        this.lastEventId = id;
        if (data !== void 0) take({ event: event || "message", data, id });
        event = "";
        data = void 0;
        while (text.charCodeAt(after) === LF) after += 1;
        eventStart = after;
      } else if (!(end - eventStart <= limit)) {
        this.#tooLarge = true;
        break;
      } else {
        let value = dataOf(text, start, end);
        if (value !== void 0) {
          if (data !== void 0) data += `
${value}`;
          else if (end === lf && text.charCodeAt(after) === LF) {
            this.lastEventId = id;
            take({ event: event || "message", data: value, id });
            event = "";
            eventStart = after += 1;
          } else data = value;
        } else if ((value = valueOf("event", text, start, end)) !== void 0) event = value;
        else if ((value = valueOf("id", text, start, end)) !== void 0) {
          if (!value.includes("\0")) id = value;
        } else if ((value = valueOf("retry", text, start, end)) && /^\d{1,15}$/.test(value)) {
          this.retryMs = Number(value);
        }
        if (isCrLf) eventStart += 1;
      }
      start = after;
      if (lf < start) lf = next(text, "\n", start);
      if (cr < start) cr = next(text, "\r", start);
    }
    this.#event = event;
    this.#data = data;
    this.#id = id;
    this.#size = start - eventStart;
    if (start < text.length) this.#keep(text.slice(start));
    else if (!(this.#size - 1 <= limit)) this.#tooLarge = true;
  }
};
function next(text, lineEnd, from) {
  const at = text.indexOf(lineEnd, from);
  return at < 0 ? text.length : at;
}
function valueOf(field, text, start, end) {
  let at = start;
  for (let place = 0; place < field.length; place += 1, at += 1) {
    if (text.charCodeAt(at) !== field.charCodeAt(place)) return void 0;
  }
  if (at === end) return "";
  if (text.charCodeAt(at) !== COLON) return void 0;
  return text.slice(text.charCodeAt(at + 1) === SPACE ? at + 2 : at + 1, end);
}
function dataOf(text, start, end) {
  if (text.charCodeAt(start) !== 100 || text.charCodeAt(start + 1) !== 97) return void 0;
  if (text.charCodeAt(start + 2) !== 116 || text.charCodeAt(start + 3) !== 97) return void 0;
  if (text.charCodeAt(start + 4) !== COLON) return valueOf("data", text, start, end);
  return text.slice(text.charCodeAt(start + 5) === SPACE ? start + 6 : start + 5, end);
}

// src/reconnect.ts
var LONGEST_WAIT_MS = 36e5;
var LONGEST_TIMER_MS = 2 ** 31 - 1;
var LONGEST_SILENCE_MS = 864e5;
var MAX_ID_BYTES = 8192;
var Reconnector = class {
  /** What the next connection resumes behind. */
  lastEventId;
  /** How many connections in a row have brought nothing. */
  failures = 0;
  #policy;
  #terminal;
  #random;
  #retryMs;
  // NaN: long ago is no time, and no time is long ago.
  #openSinceMs = NaN;
  /** @throws {RangeError} A number of the policy is negative, none, or more than a timer holds. */
  constructor(policy = {}, {
    method = "GET",
    lastEventId = "",
    terminal = [],
    random = Math.random
  } = {}) {
    this.#policy = {
      baseDelayMs: 1e3,
      maxDelayMs: 3e4,
      jitter: 0.5,
      maxAttempts: null,
      settledAfterMs: 1e4,
      answerWithinMs: 6e4,
      idleLimitMs: null,
      retryStatuses: [408, 425, 429, 502, 503, 504],
      ...Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== void 0)),
      repeat: policy.repeat ?? (/^(GET|HEAD|OPTIONS|QUERY)$/i.test(method) ? "always" : "unsent")
    };
    for (const [name, value] of Object.entries({ ...this.#policy, retryStatuses: 0, repeat: 0 })) {
      if (!(Number(value) >= 0 && Number(value) <= LONGEST_TIMER_MS)) {
        throw new RangeError(`${name} is ${value}; give 0 to ${LONGEST_TIMER_MS}`);
      }
    }
    this.lastEventId = lastEventId;
    this.#terminal = terminal;
    this.#random = random;
  }
  /** Say what to send. */
  connect() {
    this.#openSinceMs = NaN;
    if (!isSendable(this.lastEventId)) return stop("unsendable-id", true);
    return {
      do: "connect",
      lastEventId: resumedId(this.lastEventId),
      answerWithinMs: this.#policy.answerWithinMs || null
    };
  }
  /** Take the answer's head. */
  responded(status, headers, nowMs) {
    if (status === 200) {
      if (!isStream(headers.get("content-type"))) return stop("content-type", true);
      this.#openSinceMs = nowMs;
      return { do: "read", idleMs: this.#policy.idleLimitMs || announcedIdleMs(headers) };
    }
    if (status === 204) return stop("no-content", false);
    if (!this.#policy.retryStatuses.includes(status)) return stop("status", true);
    const unsent = [408, 425, 429, 503].includes(status);
    return this.#again("status", nowMs, unsent, retryAfterMs(headers));
  }
  /** Take what bytes have brought: so many events, the last id and `retry` of all so far. */
  received(events, lastEventId, retryMs) {
    if (events > 0) this.failures = 0;
    this.lastEventId = lastEventId;
    this.#retryMs = retryMs ?? this.#retryMs;
  }
  /** Take an event's name; what follows one that is the last is not read. */
  event(name) {
    if (name === "stream.error" || name === "stream.end") return stop(name, name !== "stream.end");
    return this.#terminal.includes(name) ? stop("terminal", false) : null;
  }
  /** Take the proper end of the body. */
  ended(nowMs) {
    if (this.mayRepeat()) return this.#again("ended", nowMs);
    return stop("ended", this.#terminal.length > 0);
  }
  /** Take the loss of the connection, at whatever point of it. */
  lost(how, nowMs) {
    return this.#again(how, nowMs, how === "unreachable");
  }
  /**
   * Whether the request would be sent again if the connection were lost now.
   *
   * @param unsent Whether the server cannot have begun to work on it.
   */
  mayRepeat(unsent = false) {
    const { repeat } = this.#policy;
    return unsent || repeat === "always" || repeat === "resume" && resumedId(this.lastEventId) !== "";
  }
  #again(reason, nowMs, unsent = false, atLeastMs = 0) {
    const { baseDelayMs, maxDelayMs, maxAttempts, jitter, settledAfterMs } = this.#policy;
    if (nowMs - this.#openSinceMs >= settledAfterMs) this.failures = 0;
    const failures = this.failures += 1;
    if (failures >= (maxAttempts ?? Infinity) || !this.mayRepeat(unsent)) return stop(reason, true);
    const firstMs = this.#retryMs ?? baseDelayMs;
    const grownMs = Math.max(firstMs, baseDelayMs) * 2 ** Math.min(failures - 1, 30);
    const growsMs = failures > 1 ? Math.min(grownMs, maxDelayMs) : 0;
    const leastMs = Math.max(firstMs, growsMs, atLeastMs);
    const delayMs = Math.min(leastMs * (1 + jitter * this.#random()), LONGEST_WAIT_MS);
    return { do: "wait", delayMs, reason, failures };
  }
};
function stop(reason, error) {
  return { do: "stop", reason, error };
}
function isSendable(id) {
  const bad = /[\0-\x08\n-\x1f\x7f\ud800-\udfff]/u;
  return !bad.test(id) && new TextEncoder().encode(id).length <= MAX_ID_BYTES;
}
function resumedId(id) {
  return /[^ \t](.*[^ \t])?/su.exec(id)?.[0] ?? "";
}
function isStream(contentType) {
  const types = (contentType ?? "").replace(/"(\\[^]|[^"\\])*"?/g, '""').split(",");
  return /^[ \t]*text\/event-stream[ \t]*(;|$)/i.test(types[types.length - 1] ?? "");
}
function seconds(text) {
  return /^\d+(\.\d+)?$/.test(text ?? "") ? Number(text) : NaN;
}
function announcedIdleMs(headers) {
  const announcedMs = seconds(headers.get("stream-idle-limit")) * 1e3;
  return Math.min(announcedMs, LONGEST_SILENCE_MS) || null;
}
function retryAfterMs(headers) {
  const asked = headers.get("retry-after");
  const dated = dateMs(asked) - dateMs(headers.get("date"));
  return seconds(asked) * 1e3 || dated || 0;
}
function dateMs(text) {
  const ms = Date.parse(text ?? "");
  return text?.length === 29 && new Date(ms).toUTCString() === text ? ms : NaN;
}

// src/stream.ts
var START_CHARS = 2048;
var START_MS = 5e3;
var noop = () => {
};
var EventStream = class {
  /** The option of this name; may be replaced. */
  onState;
  #url;
  #options;
  #body = null;
  #method;
  #brain;
  #listeners = /* @__PURE__ */ new Set();
  #closing = new AbortController();
  #lastEventId;
  #savedId;
  #begun = false;
  // Whether the page is being left.
  #away = false;
  #cause;
  #poke = noop;
  #drop = noop;
  /**
   * @param url Absolute, or relative to the page.
   * @throws {RangeError} A number of the policy cannot be used.
   * @throws {TypeError} The body cannot be written as JSON.
   */
  constructor(url, options = {}) {
    const { body, method, onState, policy, sentinel, storage, terminal = [] } = options;
    this.#url = url;
    this.#options = options;
    this.onState = onState;
    if (body !== void 0) this.#body = JSON.stringify(body);
    this.#method = method ?? (this.#body === null ? "GET" : "POST");
    this.#lastEventId = this.#savedId = options.lastEventId ?? storage?.load() ?? "";
    this.#brain = new Reconnector(policy, {
      method: this.#method,
      lastEventId: this.#lastEventId,
      // Every stream declares those of the prefix; without them it may end without a last event.
      terminal: [...terminal.filter((name) => !isControl(name)), ...sentinel ? [sentinel] : []]
    });
  }
  /** The last id up to the event that was handed on last: behind it another stream may begin. */
  get lastEventId() {
    return this.#lastEventId;
  }
  /**
   * Call a listener with each event of a name, or with each one for `"*"`, before a loop gets it.
   * What it throws ends the stream. Without a loop, `start` is what connects.
   *
   * @returns What takes the listener away.
   */
  on(name, listener) {
    const entry = [name, listener];
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  }
  /** Read the stream for its listeners; rejects with what a loop would be thrown. */
  async start() {
    for await (const _ of this) ;
  }
  /** End the stream, at once and for good; a loop ends as well. */
  close() {
    this.#end({});
  }
  /** @throws {TypedSSEError} The stream is or was read already. */
  [Symbol.asyncIterator]() {
    if (this.#begun) throw new TypedSSEError("AlreadyRead", "a stream is read once; make another");
    this.#begun = true;
    const events = this.#read();
    const end = events.return.bind(events);
    events.return = (value) => {
      this.close();
      return end(value);
    };
    return events;
  }
  async *#read() {
    const { signal } = this.#options;
    try {
      signal?.throwIfAborted();
      this.#listen();
      for (; ; ) {
        await this.#hold("hidden", () => this.#isPaused());
        const said = this.#brain.connect();
        const next2 = said.do === "connect" && !this.#isOver() ? yield* this.#connection(said) : said;
        if (this.#isOver()) {
          signal?.throwIfAborted();
          return;
        }
        if (next2?.do === "stop") return this.#stop(next2);
        if (next2?.do === "wait") await this.#wait(next2);
      }
    } catch (error) {
      const { reason } = error instanceof NotAStream || error instanceof ConnectionFailed ? error : {};
      this.#end({ reason, error });
      throw error;
    }
  }
  /** One connection; returns what to do then, or nothing where it was closed or paused. */
  async *#connection(connect) {
    const { headers, fetch = globalThis.fetch } = this.#options;
    const brain = this.#brain;
    const aborter = new AbortController();
    let reader;
    this.#drop = () => {
      aborter.abort();
      reader?.cancel().catch(noop);
    };
    const lost = (how, cause) => {
      this.#cause = cause;
      return brain.lost(how, Date.now());
    };
    this.#cause = void 0;
    this.#tell({ state: "connecting" });
    try {
      const asked = (async () => typeof headers === "function" ? headers() : headers)();
      const given = await this.#until(asked, connect.answerWithinMs);
      if (given.left) return;
      if (!("value" in given)) return lost("unreachable", given.error);
      const request = this.#request(given.value, connect.lastEventId, aborter.signal);
      const answered = await this.#until(fetch(request), connect.answerWithinMs);
      if (answered.left) return;
      const response = answered.value;
      if (!response) return lost(lossOf(answered.error), answered.error);
      reader = response.body?.getReader();
      const next2 = brain.responded(response.status, response.headers, Date.now());
      const isSpent = next2.do === "wait" && response.redirected && !brain.mayRepeat();
      if (isSpent || next2.do === "stop" && next2.error) {
        const start = await this.#startOf(reader);
        if (this.#isOver()) return;
        throw new NotAStream({
          reason: next2.reason,
          url: (response.url || request.url).replace(/[?#].*/, ""),
          status: response.status,
          contentType: response.headers.get("content-type") ?? "",
          start
        });
      }
      if (next2.do !== "read") return next2;
      this.#tell({ state: "open" });
      const parser = new Parser({ ...this.#options, lastEventId: brain.lastEventId });
      for (; ; ) {
        if (!reader) return brain.ended(Date.now());
        const read = await this.#until(reader.read(), next2.idleMs);
        if (read.left) return;
        if (!read.value) return lost(read.late ? "idle" : "cut", read.error);
        if (read.value.done) return brain.ended(Date.now());
        const messages = parser.push(read.value.value);
        brain.received(messages.length, parser.lastEventId, parser.retryMs);
        for (const message of messages) {
          if (this.#isOver()) return;
          if (message.data === this.#options.sentinel) {
            this.#save(message.id);
            return { do: "stop", reason: "terminal", error: false };
          }
          const last = brain.event(message.event);
          const event = this.#eventOf(message);
          if (event) {
            this.#hand(message.id, event);
            yield event;
            this.#save(message.id);
          }
          if (last) return last;
        }
        this.#save(parser.lastEventId);
      }
    } finally {
      this.#drop();
    }
  }
  #request(given, lastEventId, signal) {
    const { credentials } = this.#options;
    const headers = new Headers(given);
    headers.set("Accept", "text/event-stream");
    if (this.#body !== null) headers.set("Content-Type", "application/json");
    if (lastEventId) headers.set("Last-Event-ID", bytesOf(lastEventId));
    return new Request(this.#url, {
      method: this.#method,
      headers,
      body: this.#body,
      cache: "no-store",
      // Not all platforms take the field.
      ...credentials && { credentials },
      signal
    });
  }
  #eventOf(message) {
    const { events, unknown, parse, validate, onMalformed } = this.#options;
    const { event, data, id } = message;
    if (events && !events.includes(event) && !isControl(event) && unknown !== "yield") {
      if (unknown === "error") throw new UnknownEvent(message);
      return void 0;
    }
    try {
      const made = { event, data: parse ? parse(data, event) : JSON.parse(data), id };
      return validate ? validate(made) : made;
    } catch (cause) {
      const error = new MalformedData(message, cause);
      if (!onMalformed) throw error;
      onMalformed(error);
      return void 0;
    }
  }
  #hand(id, event) {
    this.#lastEventId = id;
    for (const [name, listener] of this.#listeners) {
      if (name === "*" || name === event.event) listener(event);
    }
  }
  #save(id) {
    this.#lastEventId = id;
    if (id !== this.#savedId) this.#options.storage?.save(this.#savedId = id);
  }
  async #startOf(reader) {
    const endMs = Date.now() + START_MS;
    const decoder = new TextDecoder();
    let start = "";
    while (reader && start.length < START_CHARS) {
      const read = await this.#until(reader.read(), endMs - Date.now());
      if (!read.value?.value) break;
      start += decoder.decode(read.value.value, { stream: true });
    }
    return start.slice(0, START_CHARS);
  }
  async #wait({ delayMs, reason }) {
    this.#tell({ state: "waiting", reason, delayMs, error: this.#cause });
    const isLoss = reason !== "status" && reason !== "ended";
    await this.#until(void 0, delayMs, (type) => isLoss && type === "online");
    await this.#hold("offline", () => isLoss && globalThis.navigator?.onLine === false);
  }
  async #hold(reason, test) {
    if (this.#isOver() || !test()) return;
    this.#tell({ state: "waiting", reason });
    await this.#until(void 0, null, () => !test());
  }
  /** Wait for a promise, for so long at the most, and while there is no reason to leave. */
  #until(promise, ms, leave = () => this.#isPaused()) {
    return new Promise((resolve) => {
      let timer;
      const done = (outcome) => {
        clearTimeout(timer);
        resolve(outcome);
      };
      if (ms !== null) timer = setTimeout(done, ms, { late: true });
      promise?.then(
        (value) => done({ value }),
        (error) => done({ error })
      );
      this.#poke = (type) => {
        if (this.#isOver() || leave(type)) done({ left: true });
      };
      this.#poke();
    });
  }
  #isOver() {
    return this.#closing.signal.aborted;
  }
  #isPaused() {
    const isHidden = this.#options.pauseHidden && globalThis.document?.hidden;
    return (this.#away || isHidden === true) && this.#brain.mayRepeat();
  }
  #listen() {
    const { signal } = this.#closing;
    this.#options.signal?.addEventListener("abort", () => this.close(), { signal });
    for (const type of ["online", "visibilitychange", "pagehide", "pageshow"]) {
      globalThis.addEventListener?.(
        type,
        () => {
          if (type.startsWith("page")) this.#away = type === "pagehide";
          this.#poke(type);
        },
        { signal }
      );
    }
  }
  #stop({ reason, error }) {
    if (error && reason !== "stream.error") {
      const { failures, lastEventId } = this.#brain;
      throw new ConnectionFailed({ reason, failures, lastEventId, cause: this.#cause });
    }
    this.#end({ reason });
  }
  #end(change) {
    if (this.#isOver()) return;
    this.#closing.abort();
    this.#drop();
    this.#poke();
    this.#tell({ state: "closed", ...change });
  }
  #tell(change) {
    this.onState?.({ failures: this.#brain.failures, ...change });
  }
};
function inStorage(storage, key) {
  return {
    load: () => storage.getItem(key),
    save: (id) => storage.setItem(key, id)
  };
}
function isControl(name) {
  return name.startsWith("stream.");
}
function bytesOf(id) {
  return String.fromCharCode(...new TextEncoder().encode(id));
}
function lossOf(error) {
  const { code } = error?.cause ?? {};
  const neverSent = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)$/;
  return neverSent.test(String(code)) ? "unreachable" : "unanswered";
}

// src/opener.ts
function opener(streams, { baseUrl = "", ...defaults } = {}) {
  return (operation, ...[options]) => {
    const { method, path, events, terminal, resumes } = streams[operation];
    const { path: given, query, ...own } = options ?? {};
    const merged = { ...defaults, ...own };
    return new EventStream(baseUrl.replace(/\/$/, "") + filled(path, given) + written(query), {
      method,
      terminal,
      ...events.length > 0 && { events },
      ...merged,
      policy: { ...resumes && method !== "GET" && { repeat: "resume" }, ...merged.policy }
    });
  };
}
function filled(path, given = {}) {
  return path.replace(/\{([^}]*)\}/g, (_, name) => {
    const value = String(given[name] ?? "");
    if (/^\.{0,2}$/.test(value)) throw new TypeError(`${path}: ${name} is "${value}"`);
    return encodeURIComponent(value);
  });
}
function written(query = {}) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) if (item != null) pairs.append(name, String(item));
  }
  return String(pairs) && `?${pairs}`;
}
export {
  ConnectionFailed,
  EventStream,
  EventTooLarge,
  MalformedData,
  NotAStream,
  Parser,
  TypedSSEError,
  UnknownEvent,
  inStorage,
  opener
};
