//! One run: operators and accidents, one after the other, and what must hold after each of them and in the end.

use std::time::Duration;

use super::{
    daemon::Daemon,
    kernel::Key,
    world::{Killed, Lived, World},
};
use crate::{
    config::{AutoRestart, StopSignal, diff},
    journal::{record::Life, replay},
    process::{Denied, Dependencies, Process, ProcessState},
    supervisor::{Mode, ProcessId},
};

/// Runs one seed. Whatever must not be panics.
pub(super) fn run(seed: u64, is_loud: bool) {
    let mut world = World::new(seed, is_loud);
    world.wish_for_new();
    let mut daemon = revive(&mut world);
    for _ in 0..8 + world.dice.below(30) {
        if world.dice.is(1, 6) {
            world.fuel = Some(world.dice.below(25));
        }
        if act(&mut daemon, &mut world).and_then(|()| daemon.turn(&mut world)).is_err() {
            daemon = succeed(&mut world);
        }
        if world.was_stale {
            // Nobody can know what the journal does not say; until here only strangers must have been safe.
            return;
        }
        daemon.check(&world);
    }
    come_to_rest(daemon, &mut world);
}

/// One thing that happens from outside.
fn act(daemon: &mut Daemon, world: &mut World) -> Lived {
    let ids = daemon.supervisor.in_name_order();
    let id = if ids.is_empty() { None } else { Some(ids[world.dice.below(ids.len())]) };
    match (world.dice.below(20), id) {
        (0..=2, Some(id)) => start(daemon, id, world),
        (3..=5, Some(id)) => stop(daemon, id, world),
        (6..=7, Some(id)) => restart(daemon, id, world),
        (8, Some(id)) => {
            world.say(|| format!("signal {:?}", daemon.supervisor.names(id)));
            // Refused when it does not run.
            let _ = daemon.supervisor.signal(id, StopSignal(libc::SIGHUP), world.now);
            daemon.perform(world)
        }
        (9 | 10, _) => {
            world.edit();
            world.say(|| format!("update: {:?}", world.config));
            forgive_exited(daemon, world);
            // A program may be back whose removal is under way: then it stays as it is.
            let keys = world.keys().into_iter().map(|(key, _)| key);
            for key in keys.filter(|key| daemon.find(&key.0, &key.1).is_some()) {
                world.wishes.entry(key).or_insert(None);
            }
            world.wish_for_new();
            daemon.update(world)
        }
        (11, _) => {
            world.spawns_fail = !world.spawns_fail;
            Ok(())
        }
        (12, _) => {
            world.disk.is_full = !world.disk.is_full && world.dice.is(1, 2);
            world.say(|| format!("the disk is full: {}", world.disk.is_full));
            Ok(())
        }
        (13, _) if world.dice.is(1, 2) => shut_down(daemon, world),
        (14, _) if world.dice.is(1, 2) => reload(daemon, world),
        (15, _) if world.dice.is(1, 2) => Err(Killed),
        _ => {
            let millis = world.dice.below(2500) as u64;
            pass(daemon, Duration::from_millis(millis), world)
        }
    }
}

/// What has ended by itself, and is wanted, is started by an update if it starts by itself, as in Supervisor; if not, then not
/// if its new settings are such as only a new child can have.
fn forgive_exited(daemon: &Daemon, world: &mut World) {
    for new in world.config.clone() {
        let Some(active) = daemon.supervisor.group(&new.name) else { continue };
        for (name, change) in diff::process_changes(active.config(), &new) {
            let process = daemon.find(&new.name, &name).and_then(|id| daemon.supervisor.process(id));
            let key = (new.name.clone(), name);
            if change == diff::ProcessChange::Restart
                && world.wishes.get(&key) == Some(&Some(true))
                && process.is_some_and(|process| process.state() == ProcessState::Exited)
            {
                wish(&key, None, world);
            }
        }
    }
}

fn key_of(daemon: &Daemon, id: ProcessId) -> Key {
    let (group, name) = daemon.supervisor.names(id).expect("it is supervised");
    (group.to_owned(), name.to_owned())
}

fn wish(key: &Key, wish: Option<bool>, world: &mut World) {
    if let Some(known) = world.wishes.get_mut(key) {
        *known = wish;
    }
}

fn start(daemon: &mut Daemon, id: ProcessId, world: &mut World) -> Lived {
    let key = key_of(daemon, id);
    world.say(|| format!("start {key:?}"));
    let before = world.wishes.get(&key).copied().flatten();
    let (answer, started_too) = daemon.start(id, world);
    // If the daemon dies before it is written down, nobody was told that it is done.
    wish(&key, None, world);
    daemon.perform(world)?;
    world.stopped.remove(&key);
    for key in started_too {
        world.stopped.remove(&key);
        wish(&key, Some(true), world);
    }
    let after = match answer {
        Ok(()) | Err(Denied::AlreadyStarted) => Some(true),
        Err(Denied::Stopping | Denied::NotRunning | Denied::Halted | Denied::Unknown) => before,
    };
    wish(&key, after, world);
    Ok(())
}

fn stop(daemon: &mut Daemon, id: ProcessId, world: &mut World) -> Lived {
    let key = key_of(daemon, id);
    world.say(|| format!("stop {key:?}"));
    let was_stopped = daemon.supervisor.process(id).map(Process::state) == Some(ProcessState::Stopped);
    let answer = daemon.supervisor.stop(id, world.now);
    wish(&key, None, world);
    daemon.perform(world)?;
    // A restart that is under way goes on with its start; what has ended by itself may be started by an update.
    if (answer.is_ok() || was_stopped) && !daemon.restarts.contains(&id) {
        wish(&key, Some(false), world);
        world.stopped.insert(key);
    }
    Ok(())
}

fn restart(daemon: &mut Daemon, id: ProcessId, world: &mut World) -> Lived {
    let key = key_of(daemon, id);
    world.say(|| format!("restart {key:?}"));
    if daemon.supervisor.stop_for_start(id, world.now).is_err() {
        return start(daemon, id, world);
    }
    daemon.restarts.insert(id);
    wish(&key, None, world);
    daemon.perform(world)?;
    wish(&key, Some(true), world);
    Ok(())
}

fn pass(daemon: &mut Daemon, span: Duration, world: &mut World) -> Lived {
    world.say(|| format!("{span:?} pass"));
    let end = world.now.after(span);
    while let Some(due) = daemon.supervisor.poll_timeout().filter(|due| *due <= end.mono) {
        let ahead = due.saturating_duration_since(world.now.mono);
        world.now = world.now.after(ahead);
        world.stir();
        daemon.turn(world)?;
    }
    world.now = end;
    world.stir();
    daemon.turn(world)
}

/// Lets time pass until everything has been stopped.
fn until_shut_down(daemon: &mut Daemon, world: &mut World) -> Lived {
    for _ in 0..400 {
        if daemon.supervisor.is_shut_down() {
            return Ok(());
        }
        world.kernel.stir(&mut world.dice);
        pass(daemon, Duration::from_millis(200), world)?;
    }
    panic!("the shutdown does not end: {:?}", daemon.supervisor.unrested());
}

fn shut_down(daemon: &mut Daemon, world: &mut World) -> Lived {
    world.say(|| "shutdown".to_owned());
    let before = world.wishes.clone();
    world.wish_anew(false);
    daemon.supervisor.begin_shutdown(Mode::ShuttingDown, world.now);
    daemon.perform(world)?;
    if daemon.can_write() {
        // It is announced: from now on nothing runs for what operators have said before.
        world.wishes.clone_from(&before);
        world.wish_anew(true);
    }
    until_shut_down(daemon, world)?;
    daemon.close(world)?;
    world.wishes = before;
    world.wish_anew(true);
    world.kernel.orphan();
    *daemon = revive(world);
    Ok(())
}

fn reload(daemon: &mut Daemon, world: &mut World) -> Lived {
    world.say(|| "reload".to_owned());
    let stopped = |wish: &mut Option<bool>, starts| {
        *wish = wish.filter(|wish| *wish && starts);
    };
    for (key, starts) in world.keys() {
        if let Some(wish) = world.wishes.get_mut(&key) {
            stopped(wish, starts);
        }
    }
    daemon.supervisor.begin_shutdown(Mode::Restarting, world.now);
    daemon.perform(world)?;
    until_shut_down(daemon, world)?;
    daemon.begin_anew(world)?;
    world.wishes.clear();
    world.stopped.clear();
    world.wish_for_new();
    Ok(())
}

/// The daemon was killed: what happens until the next one supervises.
fn succeed(world: &mut World) -> Daemon {
    world.say(|| "the daemon is dead".to_owned());
    world.fuel = None;
    world.was_stale |= world.is_stale;
    world.kernel.orphan();
    if world.dice.is(1, 8) {
        world.say(|| "the machine starts anew".to_owned());
        world.kernel.reboot();
        let len = world.disk.text.len();
        world.disk.lose_tail(&mut world.dice);
        if world.disk.text.len() < len {
            world.wish_nothing();
        } else {
            world.wish_anew(false);
        }
    }
    for _ in 0..world.dice.below(8) {
        world.kernel.stir(&mut world.dice);
    }
    world.now = world.now.after(Duration::from_millis(world.dice.below(3000) as u64));
    if world.dice.is(1, 4) {
        world.edit();
        // A program may be back whose removal was under way.
        let known = replay(&world.disk.text).unwrap_or_default().records;
        for (key, _) in world.keys() {
            let Some(record) = known.get(&key) else { continue };
            let wish = world.wishes.entry(key).or_insert(None);
            if matches!(record.life, Life::Exited(_)) && *wish == Some(true) {
                *wish = None; // See `forgive_exited`.
            }
        }
        world.wish_for_new();
    }
    revive(world)
}

/// Starts a daemon, and another one if that is killed while it begins.
fn revive(world: &mut World) -> Daemon {
    loop {
        world.say(|| format!("a daemon begins with {:?}", String::from_utf8_lossy(&world.disk.text)));
        world.fuel = if world.dice.is(1, 3) { Some(world.dice.below(30)) } else { None };
        let begun = Daemon::begin(world).and_then(|mut daemon| {
            daemon.turn(world)?;
            Ok(daemon)
        });
        world.fuel = None;
        if let Ok(daemon) = begun {
            return daemon;
        }
        world.say(|| "the daemon is dead while it begins".to_owned());
        world.was_stale |= world.is_stale;
        world.kernel.orphan();
    }
}

/// Nothing fails or ends by itself any more: everything must become as it is wished.
fn come_to_rest(mut daemon: Daemon, world: &mut World) {
    world.say(|| "from now on nothing fails".to_owned());
    (world.fuel, world.spawns_fail, world.disk.is_full) = (None, false, false);
    world.kernel.is_calm = true;
    for _ in 0..60 {
        world.kernel.stir(&mut world.dice);
        assert!(pass(&mut daemon, Duration::from_millis(500), world).is_ok(), "nobody kills it");
    }
    daemon.check(world);
    for (key, _) in world.keys() {
        let Some(wish) = world.wishes[&key] else { continue };
        let id = daemon.find(&key.0, &key.1);
        let process = id.and_then(|id| daemon.supervisor.process(id)).expect("it is configured");
        let config = process.config();
        let dependencies = id.map(|id| daemon.supervisor.dependencies_of(id)).unwrap_or(Dependencies::Up);
        let knows = !process.is_held_back() || process.knows(&dependencies);
        assert!(knows, "{key:?} waits for {:?}, but {dependencies:?}", process.waits_for());
        let is_as_wished = match process.state() {
            ProcessState::Running => wish,
            ProcessState::Stopped => !wish,
            ProcessState::Fatal => !wish || world.failed.contains(&key) || process.is_held_back(),
            ProcessState::Exited if !wish || world.out_of_reach.contains(&key) => true,
            ProcessState::Exited => process.exit().is_some_and(|exit| match config.autorestart {
                AutoRestart::Never => true,
                AutoRestart::Unexpected => exit.is_expected_by(&config.exitcodes),
                AutoRestart::Always => false,
            }),
            // It could not be signalled or looked at once.
            ProcessState::Unknown => true,
            ProcessState::Starting => wish && process.is_stalled(),
            ProcessState::Backoff | ProcessState::Stopping => false,
        };
        assert!(is_as_wished, "{key:?} is {}, and should it run? {wish}", process.state());
    }
}
