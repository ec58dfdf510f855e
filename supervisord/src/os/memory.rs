//! Memory that the allocator keeps.

#![allow(unsafe_code, reason = "malloc_trim")]

/// Gives pages that hold nothing any more back to the kernel. What a configuration leaves behind when it is read lies
/// between what stays, where the allocator keeps it for ever.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
