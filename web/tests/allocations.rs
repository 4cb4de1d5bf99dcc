//! A flush allocates for what was said, not for everybody who hears it.
#![allow(missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cursormesh_web::harness::Crowd;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MOVES: usize = 20;

/// Allocations of one flush of twenty moves, after some like it, and the bytes that went out with it.
fn of_a_flush(mut crowd: Crowd) -> (u64, u64) {
    let mut counted = (0, 0);
    for _ in 0..10 {
        crowd.move_all(MOVES);
        let (allocations, bytes) = (COUNT.get(), crowd.taken());
        crowd.flush();
        counted = (COUNT.get() - allocations, crowd.taken() - bytes);
    }
    counted
}

#[test]
fn a_flush_allocates_nothing_per_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    // The runtime's timers do not fire: nothing flushes but the test.
    let _guard = runtime.enter();
    for (name, crowd) in [
        ("v1", Crowd::v1 as fn(usize) -> Crowd),
        ("tutorial", Crowd::tutorial),
    ] {
        let (few, few_bytes) = of_a_flush(crowd(100));
        let (many, many_bytes) = of_a_flush(crowd(1_000));
        assert!(
            few_bytes > 0 && many_bytes > 9 * few_bytes,
            "{name}: {few_bytes} {many_bytes}"
        );
        assert_eq!(few, many, "{name}: allocations in rooms of 100 and 1,000");
        assert!(
            many <= 4 * MOVES as u64,
            "{name}: {many} allocations for {MOVES} moves"
        );
    }
}
