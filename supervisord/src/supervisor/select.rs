//! Which processes the words of a user name: `name`, `group:name`, `group:*`, `all`, and wildcards.

use super::{ProcessId, Supervisor};

/// What a selector names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One process by its full name: an operation on it reports every refusal.
    One(ProcessId),
    /// A group (which may be empty), everything, or a wildcard: an operation leaves out what needs nothing.
    Many(Vec<ProcessId>),
    /// No process of this name.
    NoProcess,
    /// No group of this name.
    NoGroup,
}

/// Begins a selector that has Supervisor's meaning only. No name has it, nor can a client send it in XML.
const LITERAL: char = '\0';

/// The selector of what Supervisor calls `name`: without `all` and without wildcards.
pub fn literally(name: &str) -> String {
    format!("{LITERAL}{name}")
}

/// Resolves one selector. Source: Supervisor's namespecs (`name` is `name:name`), and wildcards beyond them. A name with
/// a `*` in it means what is called so, if anything is.
pub fn select(supervisor: &Supervisor, selector: &str) -> Selection {
    if let Some(name) = selector.strip_prefix(LITERAL) {
        return select_name(supervisor, name);
    }
    if selector == "all" {
        return Selection::Many(supervisor.in_name_order());
    }
    match select_name(supervisor, selector) {
        Selection::NoProcess | Selection::NoGroup if is_pattern_beyond_group(selector) => {
            select_pattern(supervisor, selector)
        }
        selection => selection,
    }
}

fn select_name(supervisor: &Supervisor, name: &str) -> Selection {
    match name.split_once(':') {
        None => one(supervisor, name, name),
        Some((group, "" | "*")) => match supervisor.group(group) {
            Some(group) => Selection::Many(group.processes().to_vec()),
            None => Selection::NoGroup,
        },
        Some((group, name)) => one(supervisor, group, name),
    }
}

fn one(supervisor: &Supervisor, group: &str, name: &str) -> Selection {
    supervisor.find(group, name).map_or(Selection::NoProcess, Selection::One)
}

/// `group:*` is Supervisor's own word for a group; a wildcard anywhere else makes a pattern.
fn is_pattern_beyond_group(selector: &str) -> bool {
    let text = selector.strip_suffix(":*").unwrap_or(selector);
    text.contains(['*', '?', '['])
}

fn select_pattern(supervisor: &Supervisor, selector: &str) -> Selection {
    let (group, name) = match selector.split_once(':') {
        Some((group, "")) => (group, Some("*")),
        Some((group, name)) => (group, Some(name)),
        None => (selector, None),
    };
    let (Ok(group_pattern), Ok(name_pattern)) =
        (glob::Pattern::new(group), name.map(glob::Pattern::new).transpose())
    else {
        return Selection::NoProcess;
    };
    let matches = |id: &ProcessId| {
        let Some((process_group, process_name)) = supervisor.names(*id) else { return false };
        group_pattern.matches(process_group) && name_pattern.as_ref().is_none_or(|p| p.matches(process_name))
    };
    let found: Vec<ProcessId> = supervisor.in_name_order().into_iter().filter(matches).collect();
    if found.is_empty() { Selection::NoProcess } else { Selection::Many(found) }
}
