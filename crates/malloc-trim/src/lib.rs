//! Asks the C library to give unused memory back to the system.
//!
//! A crate of its own for one call, so that `unsafe` can stay forbidden in the broker.

/// Gives back all pages that hold nothing, of all threads' arenas. Takes about a millisecond for
/// every five megabytes; who allocates meanwhile may wait for a part of that. Returns whether
/// anything was returned; where the C library is not glibc nothing is.
pub fn trim() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const KEPT_AT_THE_TOP: usize = 0;
        // SAFETY: no memory is passed, and none that is in use is touched; glibc calls it safe to
        // call from any thread at any time (malloc_trim(3): MT-Safe).
        unsafe { libc::malloc_trim(KEPT_AT_THE_TOP) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn freed_memory_goes_back() {
        // Every second block stays, so that nothing is at the top of the heap.
        let mut blocks: Vec<_> = (0..20_000).map(|_| Some(vec![1_u8; 4096])).collect();
        for block in blocks.iter_mut().step_by(2) {
            *block = None;
        }
        assert!(super::trim());
        assert_eq!(blocks.iter().flatten().count(), 10_000);
    }
}
