/** What `typed-sse types` writes of an application with three streams, without its comments. */

export interface Streams {
  "GET /answer": ChatStreamEvent;
  "POST /rooms/{room}/chat": ChatStreamEvent;
  "POST /ask": ChatStreamEvent;
  "GET /clock": UntypedEvent;
}

export interface StreamRequests {
  "GET /answer": {
    query: {
      prompt: string;
      tags?: string[] | null;
    };
  };
  "POST /rooms/{room}/chat": {
    path: {
      room: string;
    };
    header?: {
      "Last-Event-ID"?: string | null;
    };
    body: Question;
  };
  "POST /ask": {
    body: Question;
  };
  "GET /clock": {};
}

export interface StreamInfo<Operation extends keyof Streams> {
  readonly method: string;
  readonly path: string;
  readonly events: readonly Streams[Operation]["event"][];
  readonly terminal: readonly Streams[Operation]["event"][];
  readonly resumes: boolean;
}

export const streams: { readonly [key in keyof Streams]: StreamInfo<key> } = {
  "GET /answer": {
    method: "GET",
    path: "/answer",
    events: ["token", "done", "stream.error"],
    terminal: ["done", "stream.error"],
    resumes: false,
  },
  "POST /rooms/{room}/chat": {
    method: "POST",
    path: "/rooms/{room}/chat",
    events: ["token", "done", "stream.error"],
    terminal: ["done", "stream.error"],
    resumes: true,
  },
  "POST /ask": {
    method: "POST",
    path: "/ask",
    events: ["token", "done", "stream.error"],
    terminal: ["done", "stream.error"],
    resumes: false,
  },
  "GET /clock": {
    method: "GET",
    path: "/clock",
    events: [],
    terminal: [],
    resumes: true,
  },
};

export type UntypedEvent = { event: string; data: unknown; id?: string };

export type ChatStreamEvent =
  | {
      event: "token";
      data: Word;
      id?: string;
    }
  | {
      event: "done";
      data: Usage;
      id?: string;
    }
  | {
      event: "stream.error";
      data: ErrorInfo;
      id?: string;
    };

export interface ErrorInfo {
  code: string;
  message: string;
}

export interface Question {
  prompt: string;
}

export interface Usage {
  words: number;
}

export interface Word {
  text: string;
}
