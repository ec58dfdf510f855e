//! End-to-end tests, a file for each area. They are one program, so that those that wait run beside those that work.

use std::{collections::BTreeSet, fs, path::Path};

mod children;
mod continuity;
mod control;
mod daemon_death;
mod depends_on;
mod differences;
mod events;
mod fastcgi;
mod gap;
mod http;
mod journal;
mod keeper;
mod lifecycle;
mod logs;
mod own_keys;
mod regression;
mod servers;
mod service_manager;
mod stacks;
mod startup;
mod survival;
mod takeover;
mod tree;
mod update;
mod upgrade;
mod web;
mod xmlrpc;

#[test]
fn every_file_here_is_a_part_of_this_program() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let files: BTreeSet<_> = fs::read_dir(directory)
        .expect("a readable directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "main.rs")
        .collect();
    let modules =
        include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    assert_eq!(modules.map(|name| format!("{name}.rs")).collect::<BTreeSet<_>>(), files);
}
