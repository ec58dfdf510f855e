//! `update`: makes the active groups equal to the configuration, one step after the other.
//!
//! Runs beside the loop and asks it like a client, so that other requests are answered while a group takes its time
//! to stop. Order and words are Supervisor's.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};

use crate::{
    config::{GroupConfig, dependencies::groups_in_order},
    request::{
        Answer, Changes, Handle, ProcessUpdate, Reason, Refusal, Request, Step, UpdateResult, UpdateStep,
    },
};

/// How often it is tried to get a group out of the way of its new configuration while others start its processes.
const ATTEMPTS: u32 = 5;

/// What an update will do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    unknown: Vec<String>,
    removed: Vec<String>,
    /// New groups that changed ones depend on.
    needed: Vec<String>,
    changed: Vec<String>,
    added: Vec<String>,
}

impl Plan {
    /// Takes these groups down.
    pub(super) fn of_removed(removed: Vec<String>) -> Self {
        Self { removed, ..Self::default() }
    }

    /// The number of steps that will be reported at most, without the word that the rest is void.
    pub(super) fn step_count(&self) -> usize {
        self.unknown.len()
            + 2 * (self.removed.len() + self.changed.len())
            + self.needed.len()
            + self.added.len()
    }

    /// Puts before each changed or new group those new ones that it depends on.
    pub(super) fn in_order(mut self, groups: &[GroupConfig]) -> Self {
        let names: Vec<String> = self.changed.iter().chain(&self.added).cloned().collect();
        let mut ordered = groups_in_order(groups, &names);
        let end = ordered.iter().rposition(|name| self.changed.contains(name)).map_or(0, |last| last + 1);
        self.added = ordered.split_off(end);
        self.needed = ordered.iter().filter(|name| !self.changed.contains(name)).cloned().collect();
        self
    }
}

/// Which of the changes an update of `names` carries out; no names, or `all`, mean all. `active` are the active
/// groups that have processes.
pub(super) fn plan(changes: &Changes, active: BTreeSet<String>, names: &[String]) -> Plan {
    if names.is_empty() || names.iter().any(|name| name == "all") {
        return Plan {
            unknown: Vec::new(),
            removed: changes.removed.clone(),
            needed: Vec::new(),
            changed: changes.changed.clone(),
            added: changes.added.clone(),
        };
    }
    let chosen = |groups: &[String]| groups.iter().filter(|group| names.contains(group)).cloned().collect();
    let is_known = |name: &String| active.contains(name) || changes.added.contains(name);
    let mut unknown: Vec<String> = names.iter().filter(|name| !is_known(name)).cloned().collect();
    unknown.sort();
    unknown.dedup();
    Plan {
        unknown,
        removed: chosen(&changes.removed),
        needed: Vec::new(),
        changed: chosen(&changes.changed),
        added: chosen(&changes.added),
    }
}

/// How an update asks the driver.
pub(super) struct Asker {
    /// The driver.
    pub(super) driver: Handle,
    /// Changes when the groups that the plan is about are gone because supervisord has started anew.
    pub(super) life: watch::Receiver<()>,
}

impl Asker {
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        let is_void = || Refusal::new(Reason::ShuttingDown, "supervisord has started anew meanwhile");
        if self.life.has_changed().unwrap_or(true) {
            return Err(is_void());
        }
        self.driver.ask_for(request).await
    }
}

/// Carries the plan out, up to where supervisord ends or starts anew. A client that is gone does not stop it: half an
/// update would leave programs stopped.
pub(super) async fn run(driver: Asker, plan: Plan, steps: mpsc::Sender<UpdateResult>) {
    if let Err(refusal) = carry_out(&driver, &plan, &steps).await {
        drop(steps.try_send(Err(refusal)));
    }
}

/// # Errors
/// Why the rest of the plan is void.
async fn carry_out(driver: &Asker, plan: &Plan, steps: &mpsc::Sender<UpdateResult>) -> Result<(), Refusal> {
    // The channel has room for all steps: this fails only when the client is gone.
    let report = |group: &str, step, processes| {
        drop(steps.try_send(Ok(UpdateStep { group: group.to_owned(), step, processes })));
    };
    for group in &plan.unknown {
        report(group, Step::NoSuchGroup, Vec::new());
    }
    for group in &plan.removed {
        let removed = take_down(driver, group, || report(group, Step::Stopped, Vec::new())).await;
        report(group, if unless_void(removed)? { Step::Removed } else { Step::HasProblems }, Vec::new());
    }
    for group in &plan.needed {
        if unless_void(add(driver, group).await)? {
            report(group, Step::Added, Vec::new());
        }
    }
    for group in &plan.changed {
        let mut processes = Vec::new();
        let replaced = replace(driver, group, || report(group, Step::Stopped, Vec::new())).await;
        let is_updated = unless_void(replaced.map(|updates| processes = updates))?;
        report(group, if is_updated { Step::Updated } else { Step::HasProblems }, processes);
    }
    for group in &plan.added {
        if unless_void(add(driver, group).await)? {
            report(group, Step::Added, Vec::new());
        }
    }
    Ok(())
}

/// Whether a step was done. One bad group does not stop the others; the end of everything does.
fn unless_void(done: Result<(), Refusal>) -> Result<bool, Refusal> {
    match done {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.reason == Reason::ShuttingDown => Err(refusal),
        Err(_) => Ok(false),
    }
}

/// Gives a group its new configuration, process by process. `stopped` is called once, when the processes that must not
/// go on with their old settings have ended, as Supervisor says it also when nothing had to be stopped.
async fn replace(driver: &Asker, group: &str, stopped: impl FnOnce()) -> Result<Vec<ProcessUpdate>, Refusal> {
    let mut stopped = Some(stopped);
    let mut to_restart = BTreeSet::new();
    let mut attempts = 0;
    loop {
        let outdated = driver.ask(|reply| Request::StopOutdated(reply, group.to_owned())).await?;
        let mut stops = outdated.stops;
        to_restart.extend(outdated.to_restart);
        while stops.recv().await.is_some() {}
        if let Some(stopped) = stopped.take() {
            stopped();
        }
        let names = to_restart.clone();
        let replaced = driver.ask(|reply| Request::ReplaceGroup(reply, group.to_owned(), names)).await;
        attempts += 1;
        match replaced {
            // Somebody has started a process meanwhile.
            Err(refusal) if refusal.reason == Reason::StillRunning && attempts < ATTEMPTS => {}
            replaced => return replaced,
        }
    }
}

/// Stops and removes a group. `stopped` is called between the two.
async fn take_down(driver: &Asker, group: &str, stopped: impl FnOnce()) -> Result<(), Refusal> {
    let mut results = driver.ask(|reply| Request::StopGroup(reply, group.to_owned())).await?;
    let mut failed = None;
    while let Some(result) = results.recv().await {
        failed = failed.or_else(|| (result.reason == Reason::Failed).then_some(result.description));
    }
    stopped();
    if let Some(description) = failed {
        return Err(Refusal::new(Reason::Failed, description));
    }
    match driver.ask(|reply| Request::RemoveGroup(reply, group.to_owned())).await {
        // Another client has removed it meanwhile.
        Err(refusal) if refusal.reason == Reason::BadName => Ok(()),
        removed => removed,
    }
}

async fn add(driver: &Asker, group: &str) -> Result<(), Refusal> {
    driver.ask(|reply| Request::AddGroup(reply, group.to_owned())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Changes { added: names(&["n"]), changed: names(&["c"]), removed: names(&["r"]), warnings: Vec::new() }
    }

    fn active() -> BTreeSet<String> {
        ["c", "r", "same"].into_iter().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn without_names_everything_is_updated() {
        let plan = plan(&changes(), active(), &[]);
        assert_eq!((plan.removed.len(), plan.changed.len(), plan.added.len()), (1, 1, 1));
    }

    #[test]
    fn named_groups_are_updated_and_unknown_ones_reported() {
        let plan = plan(&changes(), active(), &["c".to_owned(), "nosuch".to_owned(), "same".to_owned()]);
        assert_eq!(plan.unknown, ["nosuch"]);
        assert_eq!(plan.changed, ["c"]);
        assert!(plan.removed.is_empty() && plan.added.is_empty());
    }
}
