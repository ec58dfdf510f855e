//! The process supervisor: everything of `supervisord` but its `main`.
//!
//! A pure core ([`config`], [`process`], [`supervisor`], [`event`]) takes text, time and exit statuses as arguments and returns
//! effects; a thin shell ([`driver`], [`os`], [`output`], [`api`], …) performs them. ARCHITECTURE.md shows the way.

pub mod api;
pub mod args;
pub mod clock;
pub mod config;
pub mod continuity;
pub mod daemonize;
pub mod driver;
pub mod event;
pub mod handover;
pub mod journal;
pub mod keeper;
pub mod launch;
pub mod log;
pub mod notify;
pub mod os;
pub mod output;
pub mod process;
pub mod request;
pub mod signals;
pub mod startup;
pub mod subscription;
pub mod supervisor;
pub mod takeover;
