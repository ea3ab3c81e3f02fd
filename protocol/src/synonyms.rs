//! Suggestions for unknown members: names that other job queues use, and misspellings.

/// Our names, and their names in other job queues (compared without case and underscores).
///
/// From the options of BullMQ, Sidekiq, Resque, Celery, Faktory, Oban, River, GoodJob and Active Job, Laravel, pg-boss, RQ,
/// beanstalkd, Amazon SQS and Google Cloud Tasks.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("queue", &["queuename", "queueurl", "queueid", "tube", "channel", "topic", "onqueue"]),
    ("queues", &["queuename", "queuenames", "tubes", "watch"]),
    (
        "type",
        &[
            "jobtype",
            "jobname",
            "jobclass",
            "class",
            "classname",
            "kind",
            "name",
            "task",
            "taskname",
            "tasktype",
            "worker",
            "handler",
            "func",
            "function",
            "command",
        ],
    ),
    (
        "payload",
        &[
            "args",
            "arg",
            "arguments",
            "kwargs",
            "data",
            "body",
            "messagebody",
            "params",
            "parameters",
            "input",
            "content",
            "jobdata",
        ],
    ),
    ("priority", &["prio", "pri"]),
    (
        "delay_ms",
        &[
            "delay",
            "delayseconds",
            "delays",
            "delaysec",
            "delaysecs",
            "delayinseconds",
            "countdown",
            "wait",
            "in",
            "runin",
            "schedulein",
            "enqueuein",
            "performin",
            "startin",
            "executein",
        ],
    ),
    (
        "ready_at",
        &[
            "at",
            "runat",
            "eta",
            "scheduledat",
            "scheduleat",
            "scheduled",
            "scheduledfor",
            "scheduletime",
            "scheduledtime",
            "performat",
            "enqueueat",
            "executeat",
            "processat",
            "startat",
            "startafter",
            "runafter",
            "notbefore",
            "availableat",
            "waituntil",
            "delayuntil",
            "visibleat",
        ],
    ),
    ("retry_at", &["nextretryat", "retryafter", "runat", "scheduledat", "readyat", "nextrunat"]),
    (
        "retry_limit",
        &[
            "retries",
            "retry",
            "maxretries",
            "maxretry",
            "retrycount",
            "numretries",
            "attempts",
            "maxattempts",
            "maxtries",
            "tries",
            "numattempts",
            "maxfailures",
        ],
    ),
    (
        "backoff",
        &["retrydelay", "retrybackoff", "retryinterval", "backoffms", "backoffstrategy", "retrypolicy"],
    ),
    (
        "retention",
        &[
            "removeoncomplete",
            "removeonfail",
            "removeonsuccess",
            "resultttl",
            "failurettl",
            "keepcompleted",
            "deleteafter",
        ],
    ),
    (
        "unique_key",
        &[
            "unique",
            "uniquefor",
            "uniqueid",
            "uniqueargs",
            "uniqueopts",
            "jobid",
            "taskid",
            "dedupkey",
            "dedupekey",
            "dedupe",
            "dedup",
            "deduplication",
            "deduplicationid",
            "messagededuplicationid",
            "idempotencykey",
            "singletonkey",
        ],
    ),
    ("unique_while", &["uniqueuntil", "uniquestates", "uniquescope"]),
    (
        "timeout_ms",
        &[
            "timeout",
            "timeoutseconds",
            "ttr",
            "timelimit",
            "softtimelimit",
            "reservefor",
            "jobtimeout",
            "maxruntime",
            "expirein",
        ],
    ),
    (
        "budgets",
        &[
            "budget",
            "ratelimit",
            "limiter",
            "throttle",
            "concurrency",
            "concurrencykey",
            "concurrencylimit",
            "maxconcurrency",
        ],
    ),
    ("batch", &["batchkey", "batchid", "batching"]),
    ("trace", &["traceparent", "tracestate", "tracecontext"]),
    (
        "a cron entry (PUT /crons/{group})",
        &["cron", "crontab", "cronexpression", "repeat", "every", "recurring", "schedule", "repeatevery"],
    ),
    (
        "lease_ms",
        &[
            "lease",
            "visibilitytimeout",
            "reservefor",
            "ttr",
            "timeout",
            "leaseseconds",
            "lockduration",
            "extend",
            "extendby",
        ],
    ),
    ("wait_ms", &["wait", "waittimeseconds", "waitseconds", "timeout", "block", "longpoll"]),
    (
        "limit",
        &[
            "max",
            "maxnumberofmessages",
            "count",
            "batchsize",
            "perpage",
            "pagesize",
            "take",
            "first",
            "top",
            "batch",
            "size",
            "n",
            "prefetch",
            "concurrency",
        ],
    ),
    ("worker", &["workerid", "workername", "consumer", "client"]),
    ("progress", &["percent", "percentage", "done"]),
    ("message", &["error", "err", "errormessage", "exception", "reason", "msg", "text", "failedreason"]),
    (
        "error_type",
        &["errorclass", "errtype", "exceptiontype", "exceptionclass", "type", "class", "code", "errorcode"],
    ),
    ("backtrace", &["stacktrace", "stack", "trace", "traceback"]),
    ("kill", &["dead", "discard", "fatal", "permanent", "noretry", "bury", "unrecoverable"]),
    ("reset_attempts", &["reset", "resetretries", "resetattempt"]),
    ("result", &["returnvalue", "output", "value", "response"]),
    ("ids", &["id", "jobids"]),
    ("id", &["ids", "jobid", "jobids"]),
    ("status", &["state", "states", "in"]),
    ("from", &["after", "cursor", "offset", "startafter", "page", "since", "before", "skip"]),
    ("order", &["sort", "sortby", "orderby", "direction", "dir"]),
    ("filter", &["jq", "where", "expr", "expression", "query", "q"]),
    ("budgets.key", &["budget", "budgetkey", "budgets"]),
    ("dry_run", &["dry", "preview", "simulate", "test"]),
    ("details", &["detail", "full", "verbose", "counts"]),
    ("attempt", &["attempts", "try"]),
    ("line", &["text", "message", "msg", "log"]),
];

/// Removes case and word separators.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// The known member that `name` stands for in other job queues or in another spelling, if there is one.
#[must_use]
pub fn translate(name: &str, known: &[&'static str]) -> Option<&'static str> {
    translated(name, known).or_else(|| {
        let everywhere = SYNONYMS.iter().filter(|(ours, _)| ours.contains(' '));
        everywhere.into_iter().find(|(_, others)| others.contains(&&*plain(name))).map(|(ours, _)| *ours)
    })
}

fn translated<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = plain(name);
    let ours = |name: &str| known.iter().copied().find(|known| *known == name);
    let written_otherwise = known.iter().copied().find(|known| plain(known) == name);
    written_otherwise.or_else(|| {
        SYNONYMS.iter().filter(|(_, others)| others.contains(&&*name)).find_map(|(meant, _)| ours(meant))
    })
}

/// As [`translate`], or else the known member with the most similar spelling.
#[must_use]
pub fn suggest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    const LIKE: f64 = 0.6;
    /// Comparing takes time in proportion to the product of the lengths.
    const MAX_BYTES: usize = 64;
    if name.len() > MAX_BYTES {
        return None;
    }
    translated(name, known).or_else(|| {
        let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(&plain(name), &plain(known));
        let most = known.iter().map(|known| (likeness(known), *known)).max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(most.1).filter(|_| most.0 >= LIKE)
    })
}

/// The range that somebody meant who wrote it as a comparison (`>3`, `<=5`) or otherwise than we do (`1-5`, `1...5`).
#[must_use]
pub fn range(text: &str) -> Option<String> {
    const SIGNS: [&str; 8] = [">=", "=>", "<=", "=<", ">", "<", "==", "="];
    let number = |text: &str| text.trim().parse::<u64>().ok();
    if let Some((sign, rest)) = SIGNS.iter().find_map(|sign| Some((*sign, text.trim().strip_prefix(sign)?))) {
        let n = number(rest)?;
        return Some(match sign {
            ">=" | "=>" => format!("{n}.."),
            ">" => format!("{}..", n.checked_add(1)?),
            "<=" | "=<" => format!("..{n}"),
            "<" => format!("..{}", n.checked_sub(1)?),
            _ => n.to_string(),
        });
    }
    ["...", "..=", "..", "-", ":", ","].iter().find_map(|between| {
        let (from, to) = text.split_once(between)?;
        Some(format!("{}..{}", number(from)?, number(to)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_queues_and_misspelt_ones() {
        let known = [
            "queue",
            "type",
            "payload",
            "priority",
            "ready_at",
            "delay_ms",
            "retry_limit",
            "unique_key",
            "trace",
        ];
        for (name, meant) in [
            ("delay", "delay_ms"),
            ("run_at", "ready_at"),
            ("runAt", "ready_at"),
            ("readyAt", "ready_at"),
            ("Priority", "priority"),
            ("maxAttempts", "retry_limit"),
            ("queue_name", "queue"),
            ("QueueName", "queue"),
            ("args", "payload"),
            ("jobId", "unique_key"),
            ("traceparent", "trace"),
            ("traceContext", "trace"),
        ] {
            assert_eq!(translate(name, &known), Some(meant), "{name}");
            assert_eq!(suggest(name, &known), Some(meant), "{name}");
        }
        assert_eq!(translate("cron", &known), Some("a cron entry (PUT /crons/{group})"));
        for (name, meant) in [("prioriti", "priority"), ("queu", "queue"), ("payloads", "payload")] {
            assert_eq!((translate(name, &known), suggest(name, &known)), (None, Some(meant)));
        }
        for name in ["", "tags", "span_id", "meta", &"x".repeat(100_000)] {
            assert_eq!((translate(name, &known), suggest(name, &known)), (None, None), "{name}");
        }
        assert_eq!(suggest("queue", &["queues", "limit"]), Some("queues"));
    }

    #[test]
    fn every_synonym_is_plain_and_none_stands_for_itself() {
        for (ours, others) in SYNONYMS {
            for other in *others {
                assert_eq!(plain(other), *other);
                assert_ne!(plain(ours), *other);
            }
        }
    }
}
