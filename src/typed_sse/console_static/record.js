/**
 * What has come of a stream: its events, each checked against its schema, counted and bounded.
 *
 * Knows events and their union; reads no clock, and shows nothing.
 */

import { misfits } from "./check.js";

/**
 * @typedef {import("./check.js").Misfit} Misfit
 *
 * @typedef {object} EventEntry
 * @property {"event"} kind
 * @property {number} number Of all events since the record was cleared, from 1.
 * @property {string} name
 * @property {string} data
 * @property {string} id
 * @property {number} atMs On the clock of whoever added it.
 * @property {number} sinceMs Since the event before, or since the request.
 * @property {boolean} known Whether the stream declares an event of this name.
 * @property {readonly Misfit[]} misfits
 *
 * @typedef {object} NoteEntry Something that was no event: an opening, an end.
 * @property {"note"} kind
 * @property {string} text
 *
 * @typedef {EventEntry | NoteEntry} Entry
 */

export const MAX_ENTRIES = 10_000;
const MAX_KEPT_CHARS = 32 * 1024 * 1024;
// A stream that makes names up must not fill the page with them.
const MAX_NAMES = 40;
// Any stream may send these: they say how it goes.
const CONTROL = new Set(["stream.error", "stream.end", "stream.gap"]);
/** @type {readonly Misfit[]} */
const FITS = [];

/**
 * The last 10,000 entries of a stream, 32 Mi characters at most, and counts of all.
 *
 * Invariants:
 * 1. `shown` is the entries that pass the filter, in order; while the record is held, it is what it
 *    was then.
 * 2. `events`, `odd` and `counts` count every event since the record was cleared; `dropped` those
 *    that are no longer kept.
 */
export class Record {
  events = 0;
  odd = 0;
  dropped = 0;
  /** @type {Map<string, number>} Event name -> how many; the declared ones are there at 0. */
  counts = new Map();
  /** How many entries have gone from the front of `shown`, ever. */
  shownDropped = 0;

  #types;
  #schemas;
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Entry[]} */
  #passing = [];
  /** @type {Entry[] | undefined} */
  #held = undefined;
  #keptChars = 0;
  /** @type {ReadonlySet<string>} */
  #only = new Set();
  #onlyOdd = false;

  /**
   * @param {import("./document.js").EventType[] | undefined} types
   * @param {import("./schema.js").Schemas} schemas
   */
  constructor(types, schemas) {
    this.#types = types && new Map(types.map((type) => [type.name, type]));
    this.#schemas = schemas;
    this.clear();
  }

  /** What is to be on the page. */
  get shown() {
    return this.#held ?? this.#passing;
  }

  get isHeld() {
    return this.#held !== undefined;
  }

  clear() {
    this.events = this.odd = this.dropped = this.shownDropped = this.#keptChars = 0;
    this.counts = new Map([...(this.#types?.keys() ?? [])].map((name) => [name, 0]));
    this.#entries = [];
    this.#passing = [];
    if (this.#held) this.#held = [];
  }

  /**
   * Leave what is shown as it is, or go on showing what comes.
   *
   * @param {boolean} held
   */
  hold(held) {
    this.#held = held ? [...this.#passing] : undefined;
  }

  /**
   * Show only events of these names, or only those that are odd; all if there are no names.
   *
   * @param {ReadonlySet<string>} names
   * @param {boolean} onlyOdd
   */
  filter(names, onlyOdd) {
    this.#only = names;
    this.#onlyOdd = onlyOdd;
    this.#passing = this.#entries.filter((entry) => this.#passes(entry));
    if (this.#held) this.#held = [...this.#passing];
  }

  /** @param {string} text */
  note(text) {
    this.#add({ kind: "note", text });
  }

  /**
   * @param {import("./sse.js").StreamEvent} event
   * @param {number} atMs
   * @param {number} sinceMs
   * @returns {EventEntry}
   */
  add(event, atMs, sinceMs) {
    const { name, data, id } = event;
    const type = this.#types?.get(name);
    const known = this.#types === undefined || type !== undefined || CONTROL.has(name);
    const found = type === undefined ? FITS : this.#misfits(data, type);
    this.events += 1;
    const odd = !known || found.length > 0;
    if (odd) this.odd += 1;
    if (this.counts.has(name) || this.counts.size < MAX_NAMES) {
      this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    }
    /** @type {EventEntry} */
    const entry = {
      kind: "event",
      number: this.events,
      name,
      data,
      id,
      atMs,
      sinceMs,
      known,
      misfits: found,
    };
    this.#add(entry);
    return entry;
  }

  /**
   * @param {string} data
   * @param {import("./document.js").EventType} type
   */
  #misfits(data, type) {
    let value;
    try {
      value = type.isJson ? JSON.parse(data) : data;
    } catch {
      return [{ path: "", message: "is no JSON" }];
    }
    const found = misfits(value, type.schema, this.#schemas);
    return found.length === 0 ? FITS : found;
  }

  /** @param {Entry} entry */
  #add(entry) {
    this.#entries.push(entry);
    this.#keptChars += charsOf(entry);
    if (this.#passes(entry)) this.#passing.push(entry);
    while (this.#entries.length > MAX_ENTRIES || this.#keptChars > MAX_KEPT_CHARS) this.#drop();
  }

  #drop() {
    const oldest = this.#entries.shift();
    if (oldest === undefined) return;
    this.#keptChars -= charsOf(oldest);
    if (oldest.kind === "event") this.dropped += 1;
    if (this.#passing[0] !== oldest) return;
    this.#passing.shift();
    if (!this.#held) this.shownDropped += 1;
  }

  /** @param {Entry} entry */
  #passes(entry) {
    if (entry.kind === "note") return true;
    if (this.#onlyOdd && !isOdd(entry)) return false;
    return this.#only.size === 0 || this.#only.has(entry.name);
  }
}

/**
 * Whether an event has a name that is not declared, or data that does not fit.
 *
 * @param {EventEntry} entry
 */
export function isOdd(entry) {
  return !entry.known || entry.misfits.length > 0;
}

/** @param {Entry} entry */
function charsOf(entry) {
  return entry.kind === "event" ? entry.data.length + entry.name.length + entry.id.length : 0;
}
