"""Reads a stream with aiohttp-sse-client and says what it hears, a line of JSON an event; comes back after each break."""

import asyncio
import json
import sys

import aiohttp
from aiohttp_sse_client.client import EventSource


async def listen():
    timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
    async with EventSource(sys.argv[1], timeout=timeout) as source:
        while True:
            try:
                async for event in source:
                    # The type of an event without one is None here.
                    heard = {"event": event.type or "message", "data": event.data, "id": event.last_event_id}
                    print(json.dumps(heard), flush=True)
            except aiohttp.ClientError:
                # It comes back by itself only where the response ended well.
                await source.connect(5)


asyncio.run(listen())
