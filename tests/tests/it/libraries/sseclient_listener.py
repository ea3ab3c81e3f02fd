"""Reads a stream with sseclient-py and says what it hears, a line of JSON an event; comes back after each break."""

import json
import sys
import time

import sseclient
import urllib3

last_event_id = ""
http = urllib3.PoolManager(retries=False)
while True:
    headers = {"Accept": "text/event-stream"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    try:
        response = http.request("GET", sys.argv[1], headers=headers, preload_content=False)
        for event in sseclient.SSEClient(response).events():
            last_event_id = event.id or last_event_id
            print(json.dumps({"event": event.event, "data": event.data, "id": event.id}), flush=True)
    except urllib3.exceptions.HTTPError:
        time.sleep(0.1)
