//! Plays many histories, and finds the shortest that goes wrong.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use fastrand::Rng;

use super::profile::Profile;
use super::world::World;

/// The number of seeds in an ordinary run of the tests. `.ci/run` plays 2,000.
const SEEDS: u64 = 300;
/// A history that takes longer than this is stuck.
const STUCK: Duration = Duration::from_secs(120);
/// How long to look for a shorter history.
const SHRINK_FOR: Duration = Duration::from_secs(30);

/// Returns the seed of each step. A history with some of them left out is a history too.
fn steps(seed: u64) -> Vec<u64> {
    let mut rng = Rng::with_seed(!seed);
    (0..Profile::of(seed).steps).map(|_| rng.u64(..)).collect()
}

/// Plays a history. If something goes wrong, returns what it was, and the log.
fn play(seed: u64, steps: &[u64], logged: bool) -> Result<(), (String, Vec<String>)> {
    let mut world = World::new(seed).map_err(|e| (format!("{e:#}"), Vec::new()))?;
    if logged {
        (world.log, world.check_every) = (Some(Vec::new()), 1);
    }
    let played = catch_unwind(AssertUnwindSafe(|| {
        steps.iter().try_for_each(|step| world.step(*step))?;
        world.finish()
    }));
    let went_wrong = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => format!("panic: {message}"),
            Err(other) => format!("panic: {:?}", other.downcast_ref::<&str>()),
        },
    };
    Err((went_wrong, world.log.take().unwrap_or_default()))
}

/// Leaves out steps for as long as the history still goes wrong.
fn shrink(seed: u64) -> Vec<u64> {
    let fails = |steps: &[u64]| play(seed, steps, false).is_err();
    let mut shortest = steps(seed);
    if !fails(&shortest) {
        return shortest;
    }
    let began = Instant::now();
    let mut part = shortest.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = shortest.len();
        while at < shortest.len() && began.elapsed() < SHRINK_FOR {
            let mut shorter = shortest.clone();
            shorter.drain(at..(at + part).min(shortest.len()));
            if fails(&shorter) { shortest = shorter } else { at += part }
        }
        if began.elapsed() >= SHRINK_FOR || part == 1 && shortest.len() == before {
            return shortest;
        }
        part = part.div_ceil(2);
    }
}

fn report(seed: u64) -> String {
    let steps = shrink(seed);
    let profile = Profile::of(seed);
    match play(seed, &steps, true) {
        Ok(()) => format!("seed {seed} does not go wrong again"),
        Err((error, log)) => format!(
            "{profile:?}\n{}\n{error}\nseed {seed}, {} steps: ZIZQ_SEED={seed} cargo test -p zizq-server simulation",
            log.join("\n"),
            steps.len(),
        ),
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// Plays seeds on all processors. Returns the first that goes wrong, if any.
fn play_all(from: u64, seeds: u64) -> Option<u64> {
    let (next, wrong, steps_played) = (AtomicU64::new(from), Mutex::new(None), AtomicU64::new(0));
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let over = AtomicBool::new(false);
    let busy: Vec<Mutex<Option<(u64, Instant)>>> = (0..workers).map(|_| Mutex::new(None)).collect();
    let began = Instant::now();
    thread::scope(|scope| {
        let players: Vec<_> = busy
            .iter()
            .map(|busy| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + seeds || wrong.lock().unwrap().is_some() {
                            *busy.lock().unwrap() = None;
                            return;
                        }
                        *busy.lock().unwrap() = Some((seed, Instant::now()));
                        let steps = steps(seed);
                        if play(seed, &steps, false).is_err() {
                            wrong.lock().unwrap().get_or_insert(seed);
                        }
                        steps_played.fetch_add(steps.len() as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(|| watch(&busy, &over));
        for player in players {
            player.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    let (steps, took) = (steps_played.into_inner(), began.elapsed());
    println!("{seeds} seeds, {steps} steps in {took:.1?}");
    wrong.into_inner().unwrap()
}

/// Watches for an engine that runs in circles, which must not hang the tests without a word.
fn watch(busy: &[Mutex<Option<(u64, Instant)>>], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        for seed in busy {
            if let Some((seed, since)) = *seed.lock().unwrap()
                && since.elapsed() > STUCK
            {
                eprintln!("seed {seed} has got stuck");
                std::process::abort();
            }
        }
    }
}

#[test]
fn random_histories_keep_the_laws() {
    let wrong = match number("ZIZQ_SEED") {
        Some(seed) => Some(seed).filter(|_| play(seed, &steps(seed), false).is_err()),
        None => play_all(number("ZIZQ_FROM").unwrap_or(0), number("ZIZQ_SEEDS").unwrap_or(SEEDS)),
    };
    if let Some(seed) = wrong {
        panic!("{}", report(seed));
    }
}
