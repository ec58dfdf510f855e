//! Changes to our own environment, which are only sound while this process has a single thread.
#![allow(unsafe_code, reason = "setting and removing variables is unsafe since other threads may read them")]

use std::{env, ffi::OsString, fs, io};

/// Takes a variable out of our environment, so that no child inherits it.
///
/// # Errors
/// When this process has more than one thread already, or `/proc` does not tell; the environment is unchanged then.
pub fn take(name: &str) -> io::Result<Option<OsString>> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(format!(
            "cannot remove {name} from the environment: threads exist already"
        )));
    }
    // SAFETY: this is the only thread, as just counted, and none is started before this call returns. So nobody
    // reads the environment meanwhile.
    unsafe { env::remove_var(name) };
    Ok(Some(value))
}
