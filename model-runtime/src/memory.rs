//! The process's memory, as far as the allocator holds on to it.

/// Gives the system back what the allocator holds free, in all its arenas. glibc itself does so only at the top of the main one.
///
/// It takes each arena's lock for as long as it looks through it, so call it where a model has just gone, and not at every request.
pub fn give_back() {
    // SAFETY: malloc_trim takes the allocator's own locks, and touches only memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}
