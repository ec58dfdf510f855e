//! Bytes that nobody can guess.
#![allow(unsafe_code, reason = "getrandom")]

/// Random bytes of the kernel.
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "the kernel gives up to 256 bytes whole") };
    let mut bytes = [0; N];
    // SAFETY: the pointer and the length are those of a live, writable buffer.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    // Up to 256 bytes are given whole and without a failure once the kernel has booted: getrandom(2).
    assert_eq!(got.cast_unsigned(), N, "getrandom gives what was asked for");
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_equal() {
        assert_ne!(super::bytes::<16>(), super::bytes::<16>());
    }
}
