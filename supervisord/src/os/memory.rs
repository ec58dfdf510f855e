//! Memory that is not needed any more: what the allocator keeps, and code that only a start uses.

#![allow(unsafe_code, reason = "malloc_trim and madvise")]

use std::{ffi::c_void, fs, ops::Range};

/// Gives back to the kernel what only the start has needed.
///
/// What a configuration leaves behind when it is read lies between what stays, where the allocator keeps it for ever. And
/// a start touches most of our code, little of which is used again.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    if let Some(code) = code_around(&maps, give_back as *const () as usize) {
        // SAFETY: nobody writes to these pages, which belong to a file: whoever needs one, as we do to return, gets it
        // again with the same contents.
        unsafe {
            libc::madvise(code.start as *mut c_void, code.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The mapping around an address, if it is code, as `/proc/PID/maps` shows it.
fn code_around(maps: &str, address: usize) -> Option<Range<usize>> {
    let number = |text| usize::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let range = number(start)?..number(end)?;
        (rest.starts_with("r-xp ") && range.contains(&address)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_found_at_its_address() {
        let maps = "1000-2000 r--p 00000000 fe:00 7  /bin/x\n2000-4000 r-xp 00001000 fe:00 7  /bin/x\n\
                    4000-5000 rwxp 00003000 fe:00 7  /bin/x\n";
        assert_eq!(code_around(maps, 0x2abc), Some(0x2000..0x4000));
        for other in [0x1fff, 0x4000, 0x5000] {
            assert_eq!(code_around(maps, other), None, "{other:x}");
        }
        assert_eq!(code_around("", 0x2abc), None);
    }

    #[test]
    fn code_that_was_given_back_can_be_called() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").expect("there");
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("there");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
        };
        let before = resident();
        give_back();
        assert!(resident() < before, "{before} kB of files are mapped as before");
    }
}
