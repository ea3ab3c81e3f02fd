"""Reads a stream with httpx-sse and says what it hears, a line of JSON an event; comes back after each break."""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

last_event_id = ""
with httpx.Client(timeout=30) as client:
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    last_event_id = event.id or last_event_id
                    heard = {"event": event.event, "data": event.data, "id": event.id}
                    print(json.dumps(heard), flush=True)
        except httpx.TransportError:
            time.sleep(0.1)
