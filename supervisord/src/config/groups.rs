//! Groups: `[group:x]`, and the group that every other program, event listener or FastCGI program is by itself.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Environment, FastCgi, GroupConfig, GroupKind, Owner, ProgramConfig, ResultHandler,
    daemon::saturated,
    evaluation::{Evaluation, Source, Subject},
    expand::{Names, Value},
    ini::Section,
    parse::{boolean, event_length, fastcgi_socket, integer, list, name, octal, owner, user},
};
use crate::event::EventType;

impl<'a> Evaluation<'a> {
    /// All groups by priority, then name; `shared` are the variables of `[supervisord]`.
    pub(super) fn groups(&mut self, shared: &Environment) -> Vec<GroupConfig> {
        let mut grouped: HashSet<&str> = HashSet::new();
        let mut groups: Vec<(GroupConfig, &Section)> = Vec::new();
        for section in self.sections_of("group:") {
            groups.extend(self.heterogeneous(section, &mut grouped).map(|group| (group, section)));
        }
        for section in self.sections_of("program:") {
            if !grouped.contains(section.name.as_str()) {
                groups.extend(self.of_program(section).map(|group| (group, section)));
            }
        }
        for section in self.sections_of("eventlistener:") {
            groups.extend(self.of_listener(section).map(|group| (group, section)));
        }
        for section in self.sections_of("fcgi-program:") {
            if !grouped.contains(section.name.as_str()) {
                groups.extend(self.of_fastcgi(section).map(|group| (group, section)));
            }
        }
        groups.sort_by(|(a, _), (b, _)| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        for process in groups.iter_mut().flat_map(|(group, _)| &mut group.processes) {
            let process = Arc::make_mut(process);
            process.environment = shared.merged(&process.environment);
        }
        let groups = self.without_duplicates(groups);
        self.check_dependencies(&groups);
        groups
    }

    /// Two groups of one name cannot both be activated: the first in the order of activation stays, as in Supervisor.
    fn without_duplicates(&mut self, groups: Vec<(GroupConfig, &Section)>) -> Vec<GroupConfig> {
        let mut kept: Vec<(GroupConfig, &Section)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (group, section) in groups {
            if let Some(at) = known.get(&group.name) {
                let (_, first): &(GroupConfig, &Section) = &kept[*at];
                let problem =
                    format!("ignored, because [{}] is a group of the same name {:?}", first.name, group.name);
                self.warn(section, Subject::Section, problem);
            } else {
                known.insert(group.name.clone(), kept.len());
                kept.push((group, section));
            }
        }
        kept.into_iter().map(|(group, _)| group).collect()
    }

    fn heterogeneous(&mut self, section: &'a Section, grouped: &mut HashSet<&'a str>) -> Option<GroupConfig> {
        let from = Source { section, is_program: false };
        let here = self.here.clone();
        let group_name = self.section_name(from);
        let programs = self.read(from, "programs", &[&here], |text| Ok(list(text))).unwrap_or_default();
        let priority = self.group_priority(from, 999);
        let mut processes = Vec::new();
        // Supervisor's message names the section that it looked at last.
        let mut blamed = section.name.as_str();
        for program in programs {
            let sections = [
                self.section(&format!("program:{program}")),
                self.section(&format!("fcgi-program:{program}")),
            ];
            let subject = section.get("programs").map_or(Subject::Section, Subject::Entry);
            let found = match sections {
                [None, None] => {
                    let problem =
                        |by: &str| format!("[{by}] names unknown program or fcgi-program {program}");
                    self.error_as(from, subject, problem(&section.name), problem(blamed));
                    continue;
                }
                [Some(_), Some(_)] => {
                    let problem = |by: &str| {
                        format!("[{by}] name {program} is ambiguous (exists as program and fcgi-program)")
                    };
                    self.error_as(from, subject, problem(&section.name), problem(blamed));
                    continue;
                }
                [Some(found), None] | [None, Some(found)] => found,
            };
            blamed = &found.name;
            grouped.insert(&found.name);
            let socket = self.member_socket(found);
            let members = self.processes(found, group_name.as_deref().unwrap_or_default());
            processes.extend(with_socket(members, socket.as_ref()));
        }
        let processes = self.without_namesakes(section, processes);
        Some(GroupConfig { name: group_name?, priority, kind: GroupKind::Group, processes })
    }

    /// The socket of a member of a `[group:x]`. Supervisor makes none, and so accepts members without one.
    fn member_socket(&mut self, section: &'a Section) -> Option<FastCgi> {
        let name = section.name.strip_prefix("fcgi-program:")?;
        if section.get("socket").is_none() {
            self.warn(
                section,
                Subject::Section,
                "no \"socket\": runs without one, as any program".to_owned(),
            );
            return None;
        }
        self.fastcgi(Source { section, is_program: false }, Some(name))
    }

    fn of_program(&mut self, section: &'a Section) -> Option<GroupConfig> {
        let from = Source { section, is_program: false };
        let name = self.section_name(from);
        let priority = self.group_priority(from, 999);
        let processes = self.processes(section, name.as_deref().unwrap_or_default());
        let processes = self.without_namesakes(section, processes);
        Some(GroupConfig { name: name?, priority, kind: GroupKind::Program, processes })
    }

    fn of_listener(&mut self, section: &'a Section) -> Option<GroupConfig> {
        let from = Source { section, is_program: false };
        let (here, of) = (self.here.clone(), &section.name);
        let name = of.trim_start_matches("eventlistener:").to_owned();
        let priority = self.group_priority(from, -1);
        let buffer_size = self.read(from, "buffer_size", &[&here], |text| match integer(text)? {
            size @ ..1 => Err(format!("[{of}] section sets invalid buffer_size ({size})")),
            size => Ok(saturated(size.unsigned_abs())),
        });
        let result_handler = self.result_handler(from);
        let event_length = self.read(from, "event_length", &[&here], event_length).unwrap_or_default();
        let events = self.events(from);
        self.read(from, "redirect_stderr", &[&here], |text| match boolean(text)? {
            true => Err(format!(
                "[{of}] section sets redirect_stderr=true but this is not allowed because it will interfere with \
                 the eventlistener protocol"
            )),
            false => Ok(()),
        });
        let processes = self.processes(section, &name);
        let processes = self.without_namesakes(section, processes);
        let kind = GroupKind::EventListener { events, buffer_size, result_handler, event_length };
        Some(GroupConfig { name, priority, kind, processes })
    }

    /// A plug-in in Python cannot be loaded. Without it a listener that needs it would be sent the same event for ever.
    fn result_handler(&mut self, from: Source<'a>) -> ResultHandler {
        let (here, section) = (self.here.clone(), from.section);
        let Some(name) = self.read(from, "result_handler", &[&here], |text| Ok(text.to_owned())) else {
            return ResultHandler::default();
        };
        let known = ResultHandler::ALL.into_iter().find(|handler| handler.name() == name);
        known.unwrap_or_else(|| {
            let subject = section.get("result_handler").map_or(Subject::Section, Subject::Entry);
            let supervisor = format!("{name} cannot be resolved within [{}]", section.name);
            let names = ResultHandler::ALL.map(ResultHandler::name).join(" and ");
            let problem = format!(
                "{supervisor}: a result handler is Python code, which is not supported; built in are {names}"
            );
            self.error_as(from, subject, problem, supervisor);
            ResultHandler::default()
        })
    }

    fn events(&mut self, from: Source<'a>) -> Vec<EventType> {
        let here = self.here.clone();
        let subject = from.section.get("events").map_or(Subject::Key("events"), Subject::Entry);
        let errors = self.error_count();
        let names =
            self.read(from, "events", &[&here], |text| Ok(list(&text.to_uppercase()))).unwrap_or_default();
        let mut events: Vec<EventType> = Vec::new();
        for event in names {
            match EventType::from_name(&event) {
                None => {
                    let problem = format!("Unknown event type {event} in [{}] events", from.section.name);
                    self.error(from, subject, problem);
                }
                Some(event) if events.contains(&event) => {}
                Some(event) => events.push(event),
            }
        }
        if events.is_empty() && self.error_count() == errors {
            self.error(from, subject, format!("[{}] section requires an \"events\" line", from.section.name));
        }
        events
    }

    fn of_fastcgi(&mut self, section: &'a Section) -> Option<GroupConfig> {
        let from = Source { section, is_program: false };
        let name = self.section_name(from);
        let priority = self.group_priority(from, 999);
        let socket = self.fastcgi(from, name.as_deref());
        if section.get("socket").is_none() {
            let problem = format!("[{}] section requires a \"socket\" line", section.name);
            self.error(from, Subject::Key("socket"), problem);
        }
        let processes = self.processes(section, name.as_deref().unwrap_or_default());
        let processes = self.without_namesakes(section, with_socket(processes, socket.as_ref()));
        Some(GroupConfig { name: name?, priority, kind: GroupKind::FastCgi, processes })
    }

    /// The socket of an `[fcgi-program:x]`.
    fn fastcgi(&mut self, from: Source<'a>, name: Option<&str>) -> Option<FastCgi> {
        let section = from.section;
        let (here, machine, of) = (self.here.clone(), self.around.machine, &section.name);
        let user = self.read(from, "user", &[&here], |text| user(text, machine));
        let backlog = self.read(from, "socket_backlog", &[&here], |text| match integer(text)? {
            backlog @ 1..=65535 => Ok(saturated(backlog.unsigned_abs())),
            backlog => Err(format!("Invalid socket_backlog value {backlog}")),
        });
        let owner = self.read(from, "socket_owner", &[&here], |text| {
            owner(text, machine).map_err(|_| format!("Invalid socket_owner value {text}"))
        });
        let mode = self.read(from, "socket_mode", &[&here], |text| {
            octal(text).map_err(|_| format!("Invalid socket_mode value {text}"))
        });
        let names = name.map(|name| ("program_name".to_owned(), Value::Text(name.to_owned())));
        let names: Names = names.into_iter().collect();
        let requires = || format!("[{of}] section requires a \"socket\" line");
        let is_unix_only = section.get("socket_owner").is_some() || section.get("socket_mode").is_some();
        let socket = self.read(from, "socket", &[&here, &names], |text| {
            let problem = match fastcgi_socket(text) {
                _ if text.is_empty() => return Err(requires()),
                _ if is_unix_only && !text.starts_with("unix://") => {
                    "socket_owner and socket_mode params should only be used with a Unix domain socket"
                        .to_owned()
                }
                Ok(socket) => return Ok(socket),
                Err(problem) => problem,
            };
            Err(format!("{problem} in [{of}] socket"))
        });
        let of_user = || {
            user.filter(|user| user.uid != machine.own_uid())
                .map(|user| Owner { uid: user.uid, gid: user.gid })
        };
        let owner = owner.or_else(of_user);
        Some(FastCgi { socket: socket?, owner, mode: mode.unwrap_or(0o700), backlog })
    }

    fn group_priority(&mut self, from: Source<'a>, default: i32) -> i32 {
        let here = self.here.clone();
        self.read(from, "priority", &[&here], integer).map_or(default, clamped)
    }

    /// What follows the colon in the name of a section, as a name.
    pub(super) fn section_name(&mut self, from: Source<'a>) -> Option<String> {
        let text = from.section.name.split_once(':').map_or("", |(_, name)| name);
        name(text).map_err(|problem| self.error(from, Subject::Section, problem)).ok()
    }

    /// Of processes with one name the last stays, at the place of the first: so does Supervisor when it runs them.
    fn without_namesakes(
        &mut self,
        section: &Section,
        processes: Vec<ProgramConfig>,
    ) -> Vec<Arc<ProgramConfig>> {
        let mut kept: Vec<Arc<ProgramConfig>> = Vec::with_capacity(processes.len());
        let mut known: HashMap<String, usize> = HashMap::new();
        for process in processes {
            if let Some(at) = known.get(&process.name) {
                let problem = format!(
                    "two processes are called {:?}: that of [program:{}] replaces that of [program:{}]",
                    process.name, process.program, kept[*at].program
                );
                self.warn(section, Subject::Section, problem);
                kept[*at] = Arc::new(process);
            } else {
                known.insert(process.name.clone(), kept.len());
                kept.push(Arc::new(process));
            }
        }
        kept
    }
}

/// All processes of a program share its socket.
fn with_socket(processes: Vec<ProgramConfig>, socket: Option<&FastCgi>) -> Vec<ProgramConfig> {
    let one = |process| ProgramConfig { fastcgi: socket.cloned(), ..process };
    processes.into_iter().map(one).collect()
}

/// `number`, or the nearest that fits.
pub(super) fn clamped(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}
