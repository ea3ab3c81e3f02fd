#!/usr/bin/env bash
# A worker of one's own by long-poll, with nothing but bash, curl and jq. It renews the lease of the job that it runs.
set -uo pipefail

exec 3>&1 # what a job prints goes here while its errors are caught

SERVER=${ZIZQ_SERVER:-http://127.0.0.1:7890}
QUEUE=${QUEUE:-hello}
ask=$(jq -cn --arg queue "$QUEUE" '{queues: [$queue], wait_ms: 20000, lease_ms: 30000, worker: "bash"}')

run() { # ID PAYLOAD
  echo "running $1 $2"
  [ "$2" != '"fail"' ] || { echo "the payload asks for it" >&2; return 1; }
}

report() { # PATH LEASE BODY
  curl -s -o /dev/null --retry 10 --retry-connrefused -H "Zizq-Lease: $2" --json "$3" "$SERVER/jobs/$1"
}

renew() { # ID LEASE; as long as this script lives
  while sleep 10 && kill -0 $$ 2>/dev/null; do report "$1/heartbeat" "$2" '{}'; done
}

while :; do
  if ! answer=$(curl -sf --json "$ask" "$SERVER/jobs/take"); then
    echo "the server is away" >&2
    sleep 1
    continue
  fi
  job=$(jq -c '.jobs[0] // empty' <<<"$answer")
  [ -n "$job" ] || continue
  id=$(jq -r .id <<<"$job")
  lease=$(jq -r .lease <<<"$job")
  renew "$id" "$lease" &
  renewing=$!
  if error=$(run "$id" "$(jq -c .payload <<<"$job")" 2>&1 >&3); then
    report "$id/success" "$lease" '{}'
  else
    report "$id/failure" "$lease" "$(jq -cn --arg message "$error" '{message: $message}')"
  fi
  kill "$renewing"
  wait "$renewing" 2>/dev/null
done
