//! The journal as a test sees and changes it, while no daemon has it open.

use std::fs;

use crate::Daemon;

/// The present boot of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux").trim().to_owned()
}

impl Daemon {
    /// The lines of the journal, without their checksums.
    pub fn journal(&self) -> Vec<String> {
        let text = self.read("supervisord.state/journal");
        text.lines().filter(|line| !line.is_empty()).map(|line| line[9..].to_owned()).collect()
    }

    /// Replaces the journal by these lines; checksums are added.
    pub fn write_journal(&self, lines: &[String]) {
        let whole = lines.iter().map(|line| format!("{} {line}\n", checksum(line.as_bytes())));
        fs::write(self.path("supervisord.state/journal"), whole.collect::<String>()).expect("ours");
    }

    /// The last line of the journal about a process that has a child.
    pub fn last_child_in_journal(&self, name: &str) -> serde_json::Value {
        let lines = self.journal();
        let mut values = lines.iter().rev().map(|line| serde_json::from_str(line).expect("JSON"));
        let is_it = |value: &serde_json::Value| {
            value["process"]["name"] == name && value["process"]["child"].is_object()
        };
        values.find(is_it).expect("a record with a child")
    }
}

/// The checksum in front of a line: FNV-1a, folded.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}
