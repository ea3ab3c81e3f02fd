#!/usr/bin/env python3
"""Writes down what jq says: `generate.py JQ`, where JQ is a program of jq 1.7.1.

Each line of `expected.txt` is a JSON array: an expression, and for each line of `payloads.txt` what jq prints, one string
for each output; a last element `true` means that it ended with an error. An expression that jq refuses has null instead,
and one that it breaks down over, or takes seconds for, is left out.
One way to have the program: `pip download jq==1.8.0 --no-deps --no-binary :all:`, whose archive holds the source of 1.7.1.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def run(jq, expression, payload):
    try:
        done = subprocess.run(
            [jq, "-c", "--", expression], input=payload.encode(), capture_output=True, timeout=5, env={"TZ": "UTC"}
        )
    except subprocess.TimeoutExpired:
        return "broken"
    if done.returncode == 3:
        return None
    if done.returncode not in (0, 5):
        return "broken"
    outputs = done.stdout.decode("utf-8", "replace").splitlines()
    return outputs + ([True] if done.returncode == 5 else [])


def main():
    jq = sys.argv[1]
    version = subprocess.run([jq, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if not version.startswith("jq-1.7"):
        sys.exit(f"{version} is not 1.7")
    payloads = (HERE / "payloads.txt").read_text().splitlines()
    expressions = [e for name in ("expressions.txt", "generated.txt") for e in (HERE / name).read_text().splitlines()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool, (HERE / "expected.txt").open("w") as out:
        for expression in dict.fromkeys(expressions):
            results = list(pool.map(lambda payload: run(jq, expression, payload), payloads))
            if "broken" in results:
                print(f"jq itself breaks down: {expression}", file=sys.stderr)
                continue
            results = None if results[0] is None else results
            out.write(json.dumps([expression, results], ensure_ascii=False, separators=(",", ":")) + "\n")


main()
