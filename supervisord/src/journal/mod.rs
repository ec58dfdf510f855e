//! The journal: what the next daemon must know if this one dies. Text to [`Snapshot`] and back; `record` has the form of
//! what is written, `file` writes it, `condition` knows when, `reserve` has space for it on a full disk.
//!
//! A line for each change, the last one about a process holds: `CHECKSUM {"process":{…}}`. A line that was not written
//! whole is recognised by its checksum. Empty lines, which say nothing, may be behind all others.

pub mod condition;
pub mod file;
pub mod record;
mod reserve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use record::{Essence, FORMAT, Header, Record};
use serde::{Deserialize, Serialize};

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "one line lives at a time; most of them are the large kind")]
pub enum Line<'a> {
    /// What follows is by this daemon.
    Header(std::borrow::Cow<'a, Header>),
    /// What is to be known of a process from now on.
    Process(std::borrow::Cow<'a, Record>),
    /// A process is not supervised any more: group and name.
    Forgotten(String, String),
}

/// What a journal says, all in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Who wrote it last.
    pub header: Option<Header>,
    /// The last word on each process, by group and name.
    pub records: BTreeMap<(String, String), Record>,
    /// What could not be understood, in words.
    pub damage: Option<String>,
}

/// Why a journal as a whole is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alien {
    /// It does not begin with a header.
    #[error("it does not begin like a journal")]
    NoJournal,
    /// It is by a later version, of which not even the header can be read.
    #[error("its format is version {0}, and this supervisord understands up to {FORMAT}")]
    Newer(u32),
}

impl Snapshot {
    /// Whether it was written in the boot `boot`, in the form of [`boot_id`](crate::os::search::boot_id): after a reboot,
    /// or that of a container, nothing runs, and only what operators wanted counts.
    pub fn is_of_boot(&self, boot: &str) -> bool {
        let Some(header) = &self.header else { return false };
        let (theirs, ours) = (divided(&header.boot), divided(boot));
        // That one of the two did not see process 1 is no sign of another life.
        theirs.0 == ours.0 && (theirs.1 == ours.1 || theirs.1.is_none() || ours.1.is_none())
    }

    /// A later version is believed as far as it can be read: programs that it has started must not be started twice.
    fn note_version(&mut self, header: &Header) {
        if header.format > FORMAT {
            self.damage = Some(format!(
                "its format is version {}, and this supervisord understands up to {FORMAT}: it is read as well as can be",
                header.format
            ));
        }
    }

    fn is_newer(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.format > FORMAT)
    }

    /// Takes from a line what it says in every version. Returns whether it is such a line.
    fn take_essence(&mut self, line: &[u8]) -> bool {
        let Some(essence) = body(line).and_then(|body| serde_json::from_slice::<Essence>(body).ok()) else {
            return false;
        };
        match essence.record() {
            Ok(record) => self.records.insert((record.group.clone(), record.name.clone()), record),
            Err(key) => self.records.remove(&key),
        };
        true
    }
}

/// The kernel's part, and that of the container.
fn divided(boot: &str) -> (&str, Option<&str>) {
    boot.split_once('/').map_or((boot, None), |(kernel, life)| (kernel, Some(life)))
}

/// Reads a journal. An empty one says nothing.
///
/// # Errors
/// See [`Alien`].
pub fn replay(text: &[u8]) -> Result<Snapshot, Alien> {
    let mut snapshot = Snapshot::default();
    let mut at = 0;
    for bytes in text.split_inclusive(|byte| *byte == b'\n') {
        match parse(bytes) {
            Some(Line::Header(header)) => {
                snapshot.note_version(&header);
                snapshot.header = Some(header.into_owned());
            }
            Some(_) if snapshot.header.is_none() => return Err(Alien::NoJournal),
            Some(Line::Process(record)) => {
                let record = record.into_owned();
                snapshot.records.insert((record.group.clone(), record.name.clone()), record);
            }
            Some(Line::Forgotten(group, name)) => {
                snapshot.records.remove(&(group, name));
            }
            None if snapshot.header.is_none() => {
                return newer_than_us(bytes)
                    .map_or(Err(Alien::NoJournal), |format| Err(Alien::Newer(format)));
            }
            None if bytes == b"\n" => {}
            None if snapshot.is_newer() && snapshot.take_essence(bytes) => {}
            // What follows a damaged line may still be whole, and is later than what is known.
            None => {
                let what = || format!("{} bytes at {at} were not written whole, ignored", bytes.len());
                snapshot.damage.get_or_insert_with(what);
            }
        }
        at += bytes.len();
    }
    Ok(snapshot)
}

/// Appends `line` in the form in which it is written.
///
/// # Panics
/// Never: the types have no maps with other keys than texts, and a `Vec` takes everything.
pub fn encode(line: &Line<'_>, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *to, line).expect("plain data");
    let sum = checksum(&to[start + 9..]);
    for (place, digit) in (0..8).zip(to[start..].iter_mut()) {
        *digit = b"0123456789abcdef"[(sum >> (28 - 4 * place)) as usize & 15];
    }
    to.push(b'\n');
}

fn parse(line: &[u8]) -> Option<Line<'static>> {
    serde_json::from_slice(body(line)?).ok()
}

/// The part after the checksum, if that is right.
fn body(line: &[u8]) -> Option<&[u8]> {
    let (sum, body) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    (u32::from_str_radix(sum, 16).ok()? == checksum(body)).then_some(body)
}

/// The version of a header whose other contents nobody here can read.
fn newer_than_us(line: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(body(line)?).ok()?;
    let format = u32::try_from(value.get("header")?.get("format")?.as_u64()?).ok()?;
    (format > FORMAT).then_some(format)
}

/// FNV-1a over `bytes`, both halves folded into one.
fn checksum(bytes: &[u8]) -> u32 {
    let hash = fnv1a(FNV_START, bytes);
    (hash ^ (hash >> 32)) as u32
}

/// Continues a 64-bit FNV-1a hash, which begins with [`FNV_START`]: small, and the same in every version of ours.
pub fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The hash of nothing.
pub const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
