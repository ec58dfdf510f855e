//! What `avail`, `reread` and `update` say.

use serde_json::{Value, json};
use supervisor_proto::v1::{ProcessConfiguration, ProcessUpdate, UpdateProgress, update_progress::Step};

use super::{Item, exit, namespec, strip};

/// `avail`: a configured process.
impl Item for ProcessConfiguration {
    fn text(&self) -> String {
        let in_use = if self.in_use { "in use" } else { "avail" };
        let autostart = if self.autostart { "auto" } else { "manual" };
        let name = namespec(&self.group, &self.name);
        format!("{name:<32} {in_use:<9} {autostart:<9} {}:{}", self.group_priority, self.process_priority)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "group": self.group,
            "inuse": self.in_use,
            "autostart": self.autostart,
            "group_prio": self.group_priority,
            "process_prio": self.process_priority,
        })
    }
}

/// `reread`: how a group differs.
pub struct Change<'a> {
    /// Its name.
    pub group: &'a str,
    /// `available`, `changed` or `disappeared`.
    pub change: &'static str,
}

impl Item for Change<'_> {
    fn text(&self) -> String {
        format!("{}: {}", self.group, self.change)
    }

    fn json(&self) -> Value {
        json!({"group": self.group, "result": self.change})
    }
}

/// `update`: one step.
impl Item for UpdateProgress {
    fn text(&self) -> String {
        match step_words(self.step()) {
            Some(words) => format!("{}: {words}", self.group),
            None => format!("ERROR: no such group: {}", self.group),
        }
    }

    fn json(&self) -> Value {
        let step = strip(self.step().as_str_name(), "STEP_").to_lowercase();
        let mut value = json!({"group": self.group, "result": step});
        if !self.processes.is_empty() {
            let one = |process: &ProcessUpdate| {
                let action = strip(process.action().as_str_name(), "ACTION_").to_lowercase();
                json!({"name": process.name, "result": action})
            };
            value["processes"] = self.processes.iter().map(one).collect();
        }
        value
    }

    fn status(&self) -> Option<u8> {
        match self.step() {
            Step::NoSuchGroup | Step::HasProblems => Some(exit::GENERIC),
            Step::Unspecified | Step::Stopped | Step::Removed | Step::Updated | Step::Added => None,
        }
    }
}

/// What was done to a group, in words; `None` = there is no such group.
fn step_words(step: Step) -> Option<&'static str> {
    match step {
        Step::Stopped => Some("stopped"),
        Step::Removed => Some("removed process group"),
        Step::Updated => Some("updated process group"),
        Step::Added => Some("added process group"),
        Step::HasProblems => Some("has problems; not removing"),
        Step::Unspecified => Some("done"),
        Step::NoSuchGroup => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avail_has_supervisors_columns() {
        let configuration = ProcessConfiguration {
            name: "el".to_owned(),
            group: "el".to_owned(),
            in_use: true,
            autostart: true,
            group_priority: -1,
            process_priority: 999,
        };
        assert_eq!(configuration.text(), "el                               in use    auto      -1:999");
        let configuration = ProcessConfiguration { in_use: false, autostart: false, ..configuration };
        assert_eq!(configuration.text(), "el                               avail     manual    -1:999");
    }
}
