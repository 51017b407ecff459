/**
 * An event stream as the state of a React component. The only file that knows React.
 */

import { type DependencyList, useEffect, useRef, useState } from "react";

import type { AnyEvent, EventStream, StreamState } from "./index.ts";

/** What a component knows of its stream. */
export interface StreamView<E extends AnyEvent> {
  /** The last events, the oldest first. */
  readonly events: readonly E[];
  readonly state: StreamState;
  /** What has ended the stream, where that is an error. */
  readonly error: unknown;
  /** End the stream before the component does. */
  readonly close: () => void;
}

/**
 * Read an event stream for as long as the component is there.
 *
 * The stream is made when the component is mounted, and anew when `deps` change, as with
 * `useEffect`: the one before is closed, and its events are gone. In strict mode, which mounts
 * twice, no request is sent for the first time.
 *
 * @param make Makes the stream, which must not be in use elsewhere; or `null`, for none.
 * @param deps What `make` uses of the component.
 * @param limit How many events are kept: 1000. What came before is dropped.
 */
export function useEventStream<E extends AnyEvent>(
  make: () => EventStream<E> | null,
  deps: DependencyList,
  { limit = 1000 }: { readonly limit?: number } = {},
): StreamView<E> {
  const current = useRef<EventStream<E> | null>(null);
  const [close] = useState(() => () => current.current?.close());
  const [view, setView] = useState<Omit<StreamView<E>, "close">>(nothing);

  useEffect(() => {
    const stream = make();
    current.current = stream;
    setView(nothing);
    if (stream === null) return undefined;
    const { onState } = stream;
    stream.onState = (state) => {
      onState?.(state);
      const error = state.state === "closed" ? state.error : undefined;
      setView((view) => ({ ...view, state, error }));
    };
    stream.on("*", (event) => {
      setView((view) => ({ ...view, events: kept(view.events, event, limit) }));
    });
    // What it rejects with is in the state.
    stream.start().catch(() => {});
    return () => stream.close();
  }, deps);

  return { ...view, close };
}

function kept<E>(events: readonly E[], event: E, limit: number): readonly E[] {
  // Of none, `slice(-0)` would be all.
  return limit > 0 ? [...events, event].slice(-limit) : [];
}

const nothing = {
  events: [],
  state: { state: "connecting", failures: 0 },
  error: undefined,
} as const;
