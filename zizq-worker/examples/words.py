#!/usr/bin/env python3
"""Counts the words of the payload's text."""
import json
import os
import sys

control = os.fdopen(int(os.environ["ZIZQ_CTL_FD"]), "w", buffering=1)  # line by line


def say(**line):
    print(json.dumps(line), file=control)


text = json.load(sys.stdin)["text"]
if not text:
    sys.stderr.write("the text is empty\n")
    sys.exit(65)  # EX_DATAERR: trying again is of no use

words = text.split()
for number, word in enumerate(words, 1):
    say(progress=number / len(words), message=f"{number}/{len(words)}")
say(result={"words": len(words)})
print(f"{len(words)} words")
