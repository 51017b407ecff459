/**
 * Starts the room, and puts a panel for each stream on the page. Knows where they go; the rest is
 * theirs.
 */

import { STREAMS } from "./catalog.js";
import { part } from "./docs/events/template.js";
import { Panel } from "./panel.js";
import { Room } from "./room.js";

new Room(part(document.body, "room", HTMLElement));

const panels = STREAMS.map((stream) => new Panel(stream));

part(document.body, "panels", HTMLElement).append(...panels.map((panel) => panel.root));

part(document.body, "connect-all", HTMLButtonElement).addEventListener("click", () => {
  for (const panel of panels) void panel.connect();
});
part(document.body, "stop-all", HTMLButtonElement).addEventListener("click", () => {
  for (const panel of panels) panel.stop();
});
