//! Tests of form, replay and file.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::condition::{Aside, Condition, Outcome, room_for};
use super::file::{Journal, JournalError};
use super::record::*;
use super::*;
use crate::{config::KillMode, process::Exit};

fn header() -> Header {
    Header {
        format: FORMAT,
        boot: "b-1".to_owned(),
        daemon: Identity { pid: 7, start_time: 8 },
        is_closed: false,
        keepers: vec![Identity { pid: 8, start_time: 13 }],
        configuration: "/etc/supervisord.conf".to_owned(),
    }
}

fn record(name: &str, life: Life) -> Record {
    Record {
        policy: None,
        group: "g".to_owned(),
        name: name.to_owned(),
        settings: 0xdead_beef_dead_beef,
        wanted: true,
        life,
        child: Some(Child {
            identity: Identity { pid: 99, start_time: u64::MAX },
            pipes: Pipes { stdin: Some(PipeId(1)), stdout: None, stderr: Some(PipeId(3)) },
            adopted: None,
            only_writes: false,
        }),
        intent: None,
        past: Past { exit: Some(Exit::Signal { signal: 9, core_dumped: false }), ..Past::default() },
        manner: Manner {
            signal: 15,
            wait: 10,
            stop_group: false,
            kill_group: true,
            killmode: KillMode::Group,
        },
        logs: [Some("/tmp/a b".into()), None],
        remains: Remains::default(),
    }
}

fn journal(lines: &[Line<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    lines.iter().for_each(|line| encode(line, &mut text));
    text
}

fn process(record: Record) -> Line<'static> {
    Line::Process(Cow::Owned(record))
}

#[test]
fn last_word_on_each_process_holds_and_forgotten_ones_are_gone() {
    let text = journal(&[
        Line::Header(Cow::Owned(header())),
        process(record("a", Life::Running)),
        process(record("b", Life::Spawning)),
        process(record("c", Life::Fatal)),
        process(record("b", Life::Backoff(Due(5)))),
        Line::Forgotten("g".to_owned(), "c".to_owned()),
    ]);
    let snapshot = replay(&text).unwrap();
    assert_eq!(snapshot.header, Some(header()));
    assert_eq!(snapshot.damage, None);
    let records: Vec<&Record> = snapshot.records.values().collect();
    assert_eq!(records, [&record("a", Life::Running), &record("b", Life::Backoff(Due(5)))]);
}

#[test]
fn every_torn_tail_leaves_what_was_whole() {
    let whole = journal(&[Line::Header(Cow::Owned(header())), process(record("a", Life::Running))]);
    let text = [whole.clone(), journal(&[process(record("a", Life::Fatal))])].concat();
    for length in whole.len()..text.len() {
        let snapshot = replay(&text[..length]).unwrap();
        assert_eq!(snapshot.records.values().next(), Some(&record("a", Life::Running)), "{length}");
        assert_eq!(snapshot.damage.is_some(), length > whole.len());
    }
}

#[test]
fn flipped_bit_costs_one_line_and_what_follows_is_read() {
    let lines = [Line::Header(Cow::Owned(header())), process(record("a", Life::Running))];
    let mut text = journal(&lines);
    let at = text.len() - 20;
    text[at] ^= 4;
    text.extend(journal(&[process(record("b", Life::Fatal))]));
    let snapshot = replay(&text).unwrap();
    assert_eq!(snapshot.records.len(), 1);
    assert!(snapshot.damage.unwrap().contains("were not written whole"));
}

#[test]
fn what_a_reader_takes_for_granted_is_not_written() {
    let plain =
        Record { child: None, past: Past::default(), logs: [None, None], ..record("a", Life::Stopped) };
    let text = journal(&[process(plain.clone())]);
    let rest = r#" {"process":{"group":"g","name":"a","settings":16045690984833335023,"wanted":true,"life":"stopped","manner":{"signal":15,"wait":10,"stop_group":false,"kill_group":true,"killmode":"group"}}}"#;
    assert_eq!(String::from_utf8(text[8..].to_vec()).unwrap(), format!("{rest}\n"));
    let snapshot = replay(&[journal(&[Line::Header(Cow::Owned(header()))]), text].concat()).unwrap();
    assert_eq!(snapshot.records.into_values().collect::<Vec<_>>(), [plain]);
}

#[test]
fn aliens_and_what_begins_in_an_unknown_way_are_refused_as_a_whole() {
    assert_eq!(replay(b"\x7fELF nonsense\n"), Err(Alien::NoJournal));
    assert_eq!(replay(&journal(&[process(record("a", Life::Running))])), Err(Alien::NoJournal));
    let strange = format!(r#"{{"header":{{"format":{},"who":"knows"}}}}"#, FORMAT + 7);
    let strange = format!("{:08x} {strange}\n", checksum(strange.as_bytes()));
    assert_eq!(replay(strange.as_bytes()), Err(Alien::Newer(FORMAT + 7)));
    assert_eq!(replay(b""), Ok(Snapshot::default()));
}

#[test]
fn later_version_is_read_as_well_as_can_be() {
    let later = Header { format: FORMAT + 1, ..header() };
    let mut text = journal(&[Line::Header(Cow::Owned(later.clone())), process(record("a", Life::Fatal))]);
    for line in [
        r#"{"process":{"group":"g","name":"b","life":{"dreaming":7},"child":{"identity":{"pid":5,"start_time":6},"more":1}}}"#,
        r#"{"process":{"group":"g","name":"c","life":"dreaming","child":{"identity":{"pid":8,"start_time":9}}}}"#,
        r#"{"process":{"group":"g","name":"c","life":"dreaming"}}"#,
        r#"{"weather":"fine"}"#,
    ] {
        text.extend(format!("{:08x} {line}\n", checksum(line.as_bytes())).bytes());
    }
    let snapshot = replay(&text).unwrap();
    assert_eq!(snapshot.header, Some(later));
    assert!(snapshot.damage.unwrap().contains("its format is version 2"));
    let known: Vec<_> =
        snapshot.records.values().map(|r| (r.name.as_str(), r.child.map(|c| c.identity.pid))).collect();
    assert_eq!(known, [("a", Some(99)), ("b", Some(5))]);
    assert_eq!(
        snapshot.records.values().next(),
        Some(&record("a", Life::Fatal)),
        "whole lines are read whole"
    );
}

#[test]
fn record_of_the_first_version_with_the_least_it_must_have_is_read() {
    let least = r#"{"process":{"group":"g","name":"n","settings":1,"wanted":false,"life":"stopped","manner":{"signal":15,"wait":10,"stop_group":false,"kill_group":false},"later":"field"}}"#;
    let line = format!("{:08x} {least}\n", checksum(least.as_bytes()));
    let text = [journal(&[Line::Header(Cow::Owned(header()))]), line.into_bytes()].concat();
    let snapshot = replay(&text).unwrap();
    assert_eq!(snapshot.damage, None);
    let found = snapshot.records.values().next().map(|record| (record.life, record.manner.killmode));
    assert_eq!(found, Some((Life::Stopped, KillMode::Tree)));
}

#[test]
fn file_is_private_locked_and_comes_back_after_a_death() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let now = crate::clock::now();
    let (mut journal, found) = Journal::open(&path).unwrap();
    assert_eq!(found, Ok(Snapshot::default()));
    assert!(matches!(Journal::open(&path), Err(JournalError::Held(_))));
    assert!(journal.wants_rewrite(now));
    assert_eq!(journal.rewrite(|| [Line::Header(Cow::Owned(header()))].into_iter(), now), Outcome::Fine);
    assert_eq!(journal.append(&process(record("a", Life::Running)), now), Outcome::Fine);
    assert!(!journal.wants_rewrite(now));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join("journal")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(journal);
    let (journal, found) = Journal::open(&path).unwrap();
    assert_eq!(found.unwrap().records.len(), 1);
    journal.remove();
    assert!(!path.exists());
}

#[test]
fn journal_grows_only_until_it_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let now = crate::clock::now();
    let (mut journal, _) = Journal::open(&dir.path().join("state")).unwrap();
    journal.rewrite(|| [Line::Header(Cow::Owned(header()))].into_iter(), now);
    let line = process(record("a", Life::Running));
    let mut count = 0;
    while !journal.wants_rewrite(now) {
        assert_eq!(journal.append(&line, now), Outcome::Fine);
        count += 1;
        assert!(count < 10_000, "it never wants to be written anew");
    }
    journal.rewrite(|| [Line::Header(Cow::Owned(header())), line.clone()].into_iter(), now);
    assert!(!journal.wants_rewrite(now));
}

#[test]
fn space_grows_with_the_journal_and_all_is_written_anew_before_it_is_used_up() {
    let now = crate::clock::now();
    let mut condition = Condition::Unwritten;
    let room = room_for(1000);
    assert_eq!(condition.handle_rewritten(1000, Aside::Complete(room), now), Outcome::Fine);
    assert_eq!(condition.wants_growth(700), None);
    while condition.wants_growth(700).is_none() {
        assert!(!condition.is_about_to_be_full());
        condition.handle_appended(700);
    }
    let mut grown = condition.clone();
    grown.handle_grown(grown.wants_growth(700).unwrap());
    grown.handle_appended(700);
    assert!(!grown.is_about_to_be_full());
    condition.handle_appended(700);
    assert!(condition.is_about_to_be_full(), "the disk is full");
    assert!(condition.end().unwrap() + (30 << 10) < room, "with space for what is written until then");
    // Where writing all anew makes no space it is not tried again with each line.
    condition.handle_rewritten(usize::try_from(room).unwrap(), Aside::Short(room, "full".to_owned()), now);
    assert!(!condition.is_about_to_be_full());
}

#[test]
fn shortage_of_space_is_said_once_and_tried_again() {
    let now = crate::clock::now();
    let short = || Aside::Short(7, "full".to_owned());
    let mut condition = Condition::Unwritten;
    assert_eq!(condition.handle_rewritten(5, short(), now), Outcome::Short("full".to_owned()));
    assert_eq!(condition.handle_rewritten(5, short(), now), Outcome::Fine);
    assert_eq!(condition.wants_reserve(now), None);
    let later = now.after(condition.poll_timeout().unwrap() - now.mono);
    assert_eq!(condition.wants_reserve(later), Some(room_for(5)));
    assert_eq!(condition.handle_set_aside(short(), later), Outcome::Fine);
    assert_eq!((condition.shortage(), condition.problem()), (Some("full"), None));
    assert_eq!(condition.handle_set_aside(Aside::Complete(room_for(5)), later), Outcome::Renewed);
    assert_eq!((condition.poll_timeout(), condition.shortage()), (None, None));
    condition.handle_failed("broken".to_owned(), later);
    assert_eq!(condition.handle_rewritten(5, Aside::Impossible, later), Outcome::Recovered);
}

#[test]
fn empty_lines_behind_all_others_say_nothing() {
    let whole = journal(&[Line::Header(Cow::Owned(header())), process(record("a", Life::Running))]);
    let expected = replay(&whole);
    assert_eq!(replay(&[whole.as_slice(), &[b'\n'; 5000]].concat()), expected);
    // A line that is torn where others are to follow ends there.
    let torn = replay(&[&whole, &whole[..40], b"\n\n".as_slice()].concat()).unwrap();
    assert_eq!(torn.records, expected.unwrap().records);
    assert!(torn.damage.unwrap().starts_with("41 bytes"));
}

/// What a journal has that was written anew in the reserve, which an earlier text is in.
#[test]
fn journal_that_is_written_in_the_reserve_has_nothing_of_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let text = |names: &[&str]| {
        let records = names.iter().map(|name| process(record(name, Life::Running)));
        self::journal(&[Line::Header(Cow::Owned(header()))].into_iter().chain(records).collect::<Vec<_>>())
    };
    let write = |text: &[u8]| {
        reserve::write_in_reserve(&path, |file| {
            std::io::Write::write_all(file, text)?;
            Ok(text.len())
        })
    };
    assert!(write(b"").is_err(), "there is none");
    fs::write(dir.path().join("journal.reserve"), "").unwrap();
    for names in [["a", "b", "c"].as_slice(), &["b"], &["b", "d"], &["a"], &["b"]] {
        let (_, end) = write(&text(names)).unwrap();
        let found = fs::read(&path).unwrap();
        assert_eq!(end, text(names).len());
        assert_eq!(replay(&found), replay(&text(names)), "{names:?}");
        if !dir.path().join("journal.reserve").exists() {
            // There was nothing that could be exchanged.
            fs::write(dir.path().join("journal.reserve"), "").unwrap();
        }
    }
}

#[test]
fn directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(error.to_string().ends_with("has mode 777: others can write to it"), "{error}");
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink(dir.path(), &path).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::System { .. })));
}

#[test]
fn alien_file_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal"), "hello").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let (_journal, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(found, Err(Alien::NoJournal));
    assert!(dir.path().join("journal.alien").exists());
}

#[test]
fn a_boot_is_that_of_the_kernel_and_of_the_container() {
    let snapshot = |boot: &str| Snapshot {
        header: Some(Header { boot: boot.to_owned(), ..header() }),
        ..Snapshot::default()
    };
    for (written, now, is_the_same) in [
        ("b/17", "b/17", true),
        ("b/17", "b/18", false),
        ("b/17", "c/17", false),
        // Process 1 could not be seen.
        ("b", "b/17", true),
        ("b/17", "b", true),
        ("b", "c", false),
    ] {
        assert_eq!(snapshot(written).is_of_boot(now), is_the_same, "{written} {now}");
    }
}
