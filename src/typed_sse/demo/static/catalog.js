/**
 * The five streams of the demo, as data. Knows nothing of how they are read or shown.
 */

/**
 * @typedef {object} Stream
 * @property {"GET" | "POST"} method
 * @property {string} path
 * @property {string} title
 * @property {string} about One sentence on what the stream shows.
 * @property {string} yields The type of its events, as the server's source has it.
 * @property {{ name: string, label: string, type: "text" | "number", value: string }} field
 * @property {"progress" | "answer"} [view] What else is shown of its events.
 * @property {readonly string[]} [terminal] The names of its last events; without one it is endless.
 * @property {import("./typed-sse.js").ReconnectPolicy} [policy]
 */

/** @type {Stream["field"]} */
const MESSAGE = { name: "message", label: "Message", type: "text", value: "hello" };

/** @type {readonly Stream[]} */
export const STREAMS = [
  {
    method: "GET",
    path: "/sse",
    title: "Untyped events",
    about: "Events written by hand, with ids of their own: the layer beneath the types.",
    yields: "ServerSentEvent",
    field: MESSAGE,
  },
  {
    method: "GET",
    path: "/sse2",
    title: "Typed events",
    about: "The same echo from a typed generator: the class gives the name, its model the data.",
    yields: "Echo",
    field: MESSAGE,
  },
  {
    method: "GET",
    path: "/sse3",
    title: "Merged streams",
    about: "Two typed streams in one response; each counts its own ids.",
    yields: "Echo | ReverseEcho",
    field: MESSAGE,
  },
  {
    method: "GET",
    path: "/job",
    title: "Job with progress",
    about: "Work that tells how far it is, and ends the stream with its result.",
    yields: "Progress | Finished",
    field: { name: "steps", label: "Steps", type: "number", value: "20" },
    view: "progress",
    terminal: ["finished"],
    // Although it is a GET: asked again, the server would begin another job.
    policy: { repeat: "unsent" },
  },
  {
    method: "POST",
    path: "/chat",
    title: "Chat answer",
    about:
      "A text that comes word by word over POST, the way language models are served. " +
      "Ask it to fail, and see how a stream says that it has.",
    yields: "Token | Done",
    field: { name: "prompt", label: "Prompt", type: "text", value: "What is an event stream?" },
    view: "answer",
    terminal: ["done"],
  },
];
