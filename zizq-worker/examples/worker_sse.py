#!/usr/bin/env python3
"""A worker of one's own over server-sent events, with nothing but Python's standard library.

It resumes where it broke off when the connection or the server goes away, and stops asking when it is told to end.
"""
import json
import os
import time
import urllib.error
import urllib.request as http

SERVER = os.environ.get("ZIZQ_SERVER", "http://127.0.0.1:7890")
QUEUE = os.environ.get("QUEUE", "hello")


def call(path, lease, body=None):
    """Reports something about a job, for as long as it takes."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Zizq-Lease": lease, "Content-Type": "application/json"}
    while True:
        try:
            http.urlopen(http.Request(SERVER + path, data, headers, method="POST"), timeout=30).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                print("not accepted:", error.code, error.read().decode(), flush=True)
                return
        except OSError as error:
            print("the server is away:", error, flush=True)
        time.sleep(1)


def run(job):
    print("running", job["id"], job["payload"], flush=True)
    if job["payload"] == "fail":
        raise ValueError("the payload asks for it")


def events():
    """Every event of the stream, whatever happens to the connection."""
    position = None
    while True:
        headers = {"Accept": "text/event-stream"}
        if position:
            headers["Last-Event-ID"] = position
        try:
            url = f"{SERVER}/jobs/take?queue={QUEUE}&prefetch=1"
            with http.urlopen(http.Request(url, headers=headers), timeout=30) as stream:
                event, data, last_id = "message", [], None
                for line in stream:
                    field, _, value = line.decode().rstrip("\n").partition(":")
                    value = value.removeprefix(" ")
                    if field == "event":
                        event = value
                    elif field == "data":
                        data.append(value)
                    elif field == "id":
                        last_id = value
                    elif not field and not value and data:
                        yield event, json.loads("\n".join(data))
                        # Only what was dealt with need not come again.
                        position = last_id or position
                        event, data = "message", []
        except OSError as error:
            print("no stream:", error, flush=True)
        time.sleep(1)


for event, job in events():
    if event != "message":
        continue
    try:
        run(job)
    except Exception as error:
        call(f"/jobs/{job['id']}/failure", job["lease"], {"message": str(error), "error_type": type(error).__name__})
    else:
        call(f"/jobs/{job['id']}/success", job["lease"])
