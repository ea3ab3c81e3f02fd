//! A long run at most of full speed, in which the server is killed or stopped at random, and workers and producers break
//! off and begin anew.

use std::time::{Duration, Instant};

use tests::Server;

use crate::kill::check;
use crate::producer::PRODUCERS;
use crate::world::World;

/// How long full speed is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// The part of full speed that is gone at, in percent.
const SPEED: u64 = 70;

pub(crate) async fn run(world: &World, server: &mut Server, random: &mut fastrand::Rng, long: Duration) {
    let deadline = Instant::now() + long;
    world.set_pace(Duration::ZERO);
    tokio::time::sleep(MEASURED).await;
    let full = world.ledger.counts().confirmed / MEASURED.as_secs();
    let wanted = (full * SPEED / 100).max(1);
    world.set_pace(Duration::from_secs(PRODUCERS) / u32::try_from(wanted).unwrap());
    eprintln!("{full} jobs/s at full speed, {wanted} jobs/s from now on");
    world.begin_breaking_off();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(random.u64(1_000..20_000))).await;
        world.about_to_kill();
        if random.bool() {
            server.kill9().await;
        } else {
            server.sigterm().await;
            // What it handed out after it was asked to stop.
            world.about_to_kill();
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
        server.restart().await;
        world.restarted();
        check(world, "during the soak");
        eprintln!(
            "{:?} to go: {:?}",
            deadline.saturating_duration_since(Instant::now()),
            world.ledger.counts()
        );
    }
}
