/** What the package offers; see README.md. */

export {
  ConnectionFailed,
  EventTooLarge,
  MalformedData,
  NotAStream,
  TypedSSEError,
  UnknownEvent,
} from "./errors.ts";
export {
  type Open,
  opener,
  type OpenerOptions,
  type OpenOptions,
  type StreamInfo,
} from "./opener.ts";
export type { AnyEvent, IdStorage, Named, StreamOptions, StreamState } from "./options.ts";
export { type Message, Parser, type ParserOptions } from "./parser.ts";
export type { Loss, Reason, ReconnectPolicy, Repeat } from "./reconnect.ts";
export { EventStream, inStorage } from "./stream.ts";
