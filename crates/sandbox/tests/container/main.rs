//! The container backend with real namespaces: as root and as an ordinary user.
//!
//! PID 1 is `examples/stand-in.rs`, so that the walls seen here are the launcher's and not agentd's.

#![expect(clippy::print_stderr, reason = "numbers and enforcement are shown to whoever runs this")]

mod attacks;
mod ends;
mod levels;
mod limits;
mod support;
mod walls;

use sandbox::Backend as _;

use support::{House, Run};

#[tokio::test]
async fn starts_are_fast() {
    let house = House::new();
    let mut times = Vec::new();
    for _ in 0..20 {
        let spec = house.spec();
        let begun = std::time::Instant::now();
        house.backend.create(&spec).await.expect("it starts");
        let created = begun.elapsed();
        house.run(spec.id, &["true"]).await;
        times.push((created, begun.elapsed()));
        house.backend.discard(spec.id).await.expect("it goes");
    }
    times.sort();
    let (created, first) = times[times.len() / 2];
    eprintln!("median of {}: created after {created:?}, first command done {first:?}", times.len());
    // Far above what an idle machine needs: this is a test of sanity, the bench measures.
    assert!(created < std::time::Duration::from_secs(2), "{created:?}");
    house.is_clean().await;
}

#[tokio::test]
async fn the_floor_can_be_measured() {
    let house = House::new();
    let directory = house.path().join("floor");
    let times = sandbox::container::floor(&support::launcher(), &directory, 30).await;
    let mut times = times.expect("it measures");
    times.sort();
    eprintln!("floor: median {:?}, least {:?}", times[times.len() / 2], times[0]);
    assert_eq!(times.len(), 30);
    assert!(!directory.exists());
}
