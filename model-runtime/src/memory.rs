//! The process's memory, as far as glibc's allocator (malloc(3)) holds on to it.

/// Arenas a core. glibc makes up to eight a core, and each keeps what was freed in it for the threads that use it; with the model's large and ever
/// different tensors that is tens of megabytes more, for nothing that could be measured.
const ARENAS_PER_CORE: usize = 2;

/// Bounds the allocator's arenas. Call it before the first thread.
pub fn bound_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(cores * ARENAS_PER_CORE).unwrap_or(i32::MAX);
    // A wish of the user's, as in mallopt(3), comes first.
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: mallopt takes two numbers and changes only the allocator's own parameters.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}

/// Gives the system back what the allocator holds free, in all its arenas. glibc itself does so only at the top of the main one.
///
/// It takes each arena's lock for as long as it looks through it, so call it where a model has just gone, and not at every request.
pub fn give_back() {
    // SAFETY: malloc_trim takes the allocator's own locks, and touches only memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}
