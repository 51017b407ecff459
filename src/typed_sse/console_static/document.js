/**
 * Reads the streams out of an OpenAPI document: what each takes, and the events that it sends.
 *
 * The only file that knows what an OpenAPI 3.2 document looks like. Sends and shows nothing.
 */

import { Schemas, isObject, objectOrEmpty } from "./schema.js";

/**
 * @typedef {object} EventType One member of a stream's union.
 * @property {string} name
 * @property {string} description
 * @property {boolean} deprecated
 * @property {boolean} terminal Whether the stream ends with it.
 * @property {unknown} schema Of its payload.
 * @property {boolean} isJson Whether its data is JSON; otherwise it is a text.
 *
 * @typedef {object} Parameter
 * @property {string} name
 * @property {"query" | "path" | "header" | "cookie"} in
 * @property {boolean} required
 * @property {boolean} deprecated
 * @property {string} description
 * @property {unknown} example `undefined` where the document has none.
 * @property {unknown} schema
 *
 * @typedef {object} Body
 * @property {string} mediaType
 * @property {boolean} required
 * @property {unknown} example
 * @property {unknown} schema
 *
 * @typedef {object} Credential What a security scheme asks for.
 * @property {string} scheme Its name in the document.
 * @property {"bearer" | "basic" | "query" | "header" | "cookie"} kind
 * @property {string} name Of the parameter or header, for an API key.
 * @property {string} description
 *
 * @typedef {object} Operation
 * @property {string} key What the page's address names it by.
 * @property {string} method In capitals.
 * @property {string} path
 * @property {string} summary
 * @property {string} description
 * @property {boolean} deprecated
 * @property {string[]} tags
 * @property {Parameter[]} parameters
 * @property {Body | undefined} body
 * @property {Credential[]} credentials
 * @property {EventType[] | undefined} events `undefined` where any event may come.
 * @property {boolean} resumable Whether it takes the id of the last event.
 */

const METHODS = ["get", "post", "put", "patch", "delete", "options", "query"];
// With it begins what a description says of the events, for pages that read no more than that.
const EVENTS_TABLE = /^\| event \| data \|/m;
const EVENT_STREAM = /^text\/event-stream\s*(;|$)/i;
export const LAST_EVENT_ID = "Last-Event-ID";

/**
 * Return the operations of a document that stream events, in its order.
 *
 * @param {Record<string, any>} document
 * @param {Schemas} schemas The document's own.
 * @returns {Operation[]}
 */
export function streamsOf(document, schemas) {
  const reader = new Reader(document, schemas);
  /** @type {Operation[]} */
  const found = [];
  const keys = new Set();
  for (const [path, item] of Object.entries(objectOrEmpty(document.paths))) {
    for (const method of METHODS) {
      const stream = streamOf(item?.[method], schemas);
      if (stream === undefined) continue;
      const operation = reader.operation(path, method, item, stream);
      // An operation id should be unique, and nobody sees to it.
      if (keys.has(operation.key)) operation.key = `${method}-${path}`;
      keys.add(operation.key);
      found.push(operation);
    }
  }
  return found;
}

/**
 * Return the media type object of an operation's event stream.
 *
 * @param {unknown} operation
 * @param {Schemas} schemas
 * @returns {Record<string, any> | undefined}
 */
function streamOf(operation, schemas) {
  const responses = Object.entries(objectOrEmpty(objectOrEmpty(operation).responses));
  for (const [status, response] of responses) {
    if (!/^(2..|default)$/i.test(status)) continue;
    const content = Object.entries(objectOrEmpty(schemas.resolve(response).content));
    const stream = content.find(([mediaType]) => EVENT_STREAM.test(mediaType));
    if (stream !== undefined) return objectOrEmpty(stream[1]);
  }
  return undefined;
}

class Reader {
  #document;
  #schemas;

  /**
   * @param {Record<string, any>} document
   * @param {Schemas} schemas
   */
  constructor(document, schemas) {
    this.#document = document;
    this.#schemas = schemas;
  }

  /**
   * @param {string} path
   * @param {string} method
   * @param {Record<string, any>} item What the document has for the path.
   * @param {Record<string, any>} stream
   * @returns {Operation}
   */
  operation(path, method, item, stream) {
    const own = item[method];
    const parameters = this.#parameters(item, own);
    return {
      key: own.operationId ?? `${method}-${path}`,
      method: method.toUpperCase(),
      path,
      summary: own.summary ?? "",
      description: String(own.description ?? "").split(EVENTS_TABLE)[0]?.trim() ?? "",
      deprecated: own.deprecated === true,
      tags: Array.isArray(own.tags) && own.tags.length > 0 ? own.tags.map(String) : [""],
      parameters,
      body: this.#body(own.requestBody),
      credentials: this.#credentials(own.security ?? this.#document.security ?? []),
      events: this.#events(stream.itemSchema, stream["x-sse"]?.terminal ?? []),
      resumable: stream["x-sse"]?.resumable ?? parameters.some(isLastEventId),
    };
  }

  /**
   * @param {Record<string, any>} item
   * @param {Record<string, any>} own
   * @returns {Parameter[]}
   */
  #parameters(item, own) {
    /** @type {Map<string, Parameter>} */
    const parameters = new Map();
    // An operation's own take the place of the path's.
    for (const given of [...(item.parameters ?? []), ...(own.parameters ?? [])]) {
      const one = this.#schemas.resolve(given);
      const schema = one.schema ?? Object.values(objectOrEmpty(one.content))[0]?.schema ?? {};
      parameters.set(`${one.in} ${one.name}`, {
        name: String(one.name),
        in: one.in,
        required: one.required === true,
        deprecated: one.deprecated === true,
        description: one.description ?? this.#schemas.resolve(schema).description ?? "",
        example: one.example ?? firstExample(one.examples),
        schema,
      });
    }
    return [...parameters.values()];
  }

  /**
   * @param {unknown} given
   * @returns {Body | undefined}
   */
  #body(given) {
    const { content, required } = this.#schemas.resolve(given);
    const kinds = Object.entries(objectOrEmpty(content));
    const [mediaType, kind] = kinds.find(([name]) => isJsonType(name)) ?? kinds[0] ?? [];
    if (mediaType === undefined) return undefined;
    const { schema, example, examples } = objectOrEmpty(kind);
    return {
      mediaType,
      required: required === true,
      example: example ?? firstExample(examples),
      schema: schema ?? {},
    };
  }

  /**
   * @param {Record<string, unknown>[]} security Each of them is enough; all can be filled in.
   * @returns {Credential[]}
   */
  #credentials(security) {
    const names = new Set(security.flatMap((one) => Object.keys(objectOrEmpty(one))));
    const known = objectOrEmpty(this.#document.components?.securitySchemes);
    return [...names].map((scheme) => {
      const given = this.#schemas.resolve(known[scheme]);
      const description = given.description ?? "";
      if (given.type === "apiKey") {
        return { scheme, kind: given.in, name: String(given.name), description };
      }
      // What comes of OAuth and OpenID is a bearer token in the end.
      const kind = given.type === "http" && /^basic$/i.test(given.scheme) ? "basic" : "bearer";
      return { scheme, kind, name: "Authorization", description };
    });
  }

  /**
   * @param {unknown} itemSchema
   * @param {unknown[]} terminal The names of the events that end the stream.
   * @returns {EventType[] | undefined}
   */
  #events(itemSchema, terminal) {
    const item = this.#schemas.resolve(itemSchema);
    /** @type {EventType[]} */
    const events = [];
    for (const option of item.oneOf ?? item.anyOf ?? [item]) {
      const own = this.#schemas.resolve(option);
      const event = this.#schemas.resolve(own.properties?.event);
      const names = "const" in event ? [event.const] : event.enum;
      // One member that may have any name, and the whole is open.
      if (!Array.isArray(names)) return undefined;
      const data = this.#schemas.resolve(own.properties?.data);
      const isJson = "contentSchema" in data;
      for (const name of names) {
        events.push({
          name: String(name),
          description: own.description ?? "",
          deprecated: own.deprecated === true,
          terminal: own["x-sse-terminal"] === true || terminal.includes(name),
          schema: isJson ? data.contentSchema : data,
          isJson,
        });
      }
    }
    return events;
  }
}

/** @param {Parameter} parameter */
export function isLastEventId(parameter) {
  return parameter.in === "header" && parameter.name.toLowerCase() === LAST_EVENT_ID.toLowerCase();
}

/** @param {string} mediaType */
export function isJsonType(mediaType) {
  return /^[^;]*[/+]json\s*(;|$)/i.test(mediaType);
}

/** @param {unknown} examples */
function firstExample(examples) {
  const first = Object.values(objectOrEmpty(examples))[0];
  return isObject(first) ? first.value : undefined;
}
