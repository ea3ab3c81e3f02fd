#!/usr/bin/env bash
# Counts the words of its argument. `zizq-worker ctl` would say the same without a thought about JSON.
set -euo pipefail

say() { printf '%s\n' "$1" >&"$ZIZQ_CTL_FD"; }

text=$1
if [ -z "$text" ]; then
  echo "the text is empty" >&2
  exit 65 # EX_DATAERR: trying again is of no use
fi

words=$(wc -w <<<"$text")
say '{"progress": 1, "message": "counted"}'
say "{\"result\": {\"words\": $words}}"
echo "$((words)) words"
