//! The daemon's own log.

/// Logs at Supervisor's most important level, CRIT.
#[macro_export]
macro_rules! crit {
    ($($message:tt)+) => {
        ::tracing::event!(target: $crate::log::CRITICAL_TARGET, ::tracing::Level::ERROR, $($message)+)
    };
}

/// Logs at Supervisor's least important level, BLAT.
#[macro_export]
macro_rules! blat {
    ($($message:tt)+) => {
        ::tracing::event!(target: $crate::log::BLATHER_TARGET, ::tracing::Level::TRACE, $($message)+)
    };
}

/// Target that makes an ERROR event a CRIT one: the facade has five levels, Supervisor seven.
pub const CRITICAL_TARGET: &str = "supervisord::crit";

/// Target that makes a TRACE event a BLAT one.
pub const BLATHER_TARGET: &str = "supervisord::blat";
