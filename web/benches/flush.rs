//! What a flush costs without the system's part: `cargo bench -p cursormesh-web`, or
//! `scripts/bench --micro`.
#![allow(missing_docs, clippy::unwrap_used)]

use cursormesh_web::harness::Crowd;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // The runtime's timers do not fire: nothing flushes but the benchmark.
    let _guard = runtime.enter();
    divan::main();
}

const MOVES: usize = 50;
const CONNECTIONS: [usize; 3] = [50, 500, 5_000];

fn flush(bencher: Bencher<'_, '_>, mut crowd: Crowd, connections: usize) {
    crowd.move_all(connections);
    crowd.flush();
    bencher
        .counter(ItemsCount::new(MOVES * connections))
        .bench_local(|| {
            crowd.move_all(MOVES);
            crowd.flush();
        });
}

/// Fifty v1 members move and everybody is told; items are delivered moves.
#[divan::bench(args = CONNECTIONS)]
fn v1(bencher: Bencher<'_, '_>, connections: usize) {
    flush(bencher, Crowd::v1(connections), connections);
}

/// The same in the tutorial's protocol.
#[divan::bench(args = CONNECTIONS)]
fn tutorial(bencher: Bencher<'_, '_>, connections: usize) {
    flush(bencher, Crowd::tutorial(connections), connections);
}
