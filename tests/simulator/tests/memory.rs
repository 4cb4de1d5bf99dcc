//! What a thousand restarts of one node leave behind in the memory of another, to the byte.
#![allow(missing_docs, unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use cursormesh_simulator::{MS, Path, SECOND, Setup, World};

static IN_USE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap bytes of a node after some restarts of another, which is away for so long each time.
fn after(restarts: u32, away: u64) -> isize {
    let mut world = World::new(&Setup::new(3, 1, Path::clean(5 * MS)));
    world.run_for(3 * SECOND);
    for _ in 0..restarts {
        world.crash(2);
        world.run_for(away);
        world.start(2);
        world.run_for(SECOND);
    }
    world.run_for(60 * SECOND);
    let before = IN_USE.load(Relaxed);
    drop(world.take_core(0));
    before - IN_USE.load(Relaxed)
}

#[test]
fn a_thousand_restarts_leave_a_node_as_large_as_before() {
    // Gone for a moment only, and for so long that everybody holds it for down.
    for away in [200 * MS, 20 * SECOND] {
        let (warm, last) = (after(100, away), after(1_000, away));
        println!("away {away} us: {warm} bytes after 100, {last} after 1,000");
        assert!(last <= warm + warm / 20, "{warm} {last}");
    }
}
