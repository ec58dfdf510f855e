//! Key `depends_on`: which programs must be up before another is started, and whether that can ever be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Dependency, GroupConfig,
    evaluation::{Evaluation, Source, Subject},
    expand::Names,
    ini::Section,
    keys::nearest,
    parse::list,
    python::repr,
};

/// Kinds of sections that make processes.
const KINDS: [&str; 3] = ["program", "fcgi-program", "eventlistener"];

impl<'a> Evaluation<'a> {
    /// What the programs of a section depend on, each once; whether it exists is seen by [`Self::check_dependencies`].
    pub(super) fn dependencies(&mut self, from: Source<'a>, names: &[&Names]) -> Vec<Dependency> {
        let listed = self.read(from, "depends_on", names, |text| {
            let listed = list(text);
            if listed.iter().any(String::is_empty) {
                return Err(format!("{} has an empty name; expected {FORMS}", repr(text)));
            }
            Ok(listed)
        });
        let mut dependencies: Vec<Dependency> = Vec::new();
        for text in listed.unwrap_or_default() {
            let dependency = self.dependency(text);
            if !dependencies.contains(&dependency) {
                dependencies.push(dependency);
            }
        }
        dependencies
    }

    fn dependency(&self, text: String) -> Dependency {
        match text.split_once(':') {
            Some((group, "*")) => Dependency::Group(group.to_owned()),
            Some((group, name)) => Dependency::Process { group: group.to_owned(), name: name.to_owned() },
            None if self.program_section(&text).is_none()
                && self.section(&format!("group:{text}")).is_some() =>
            {
                Dependency::Group(text)
            }
            None => Dependency::Program(text),
        }
    }

    /// The section whose processes are those of the program `name`.
    fn program_section(&self, name: &str) -> Option<&'a Section> {
        KINDS.iter().find_map(|kind| self.section(&format!("{kind}:{name}")))
    }

    /// Reports what is named by `depends_on` and does not exist, and programs that wait for each other.
    pub(super) fn check_dependencies(&mut self, groups: &[GroupConfig]) {
        let known = Known::new(groups);
        let mut depend: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for process in groups.iter().flat_map(|group| &group.processes) {
            if process.depends_on.is_empty() || depend.contains_key(process.program.as_str()) {
                continue;
            }
            let mut needed: BTreeSet<&str> = BTreeSet::new();
            for dependency in &process.depends_on {
                match known.programs_of(dependency) {
                    Some(programs) => needed.extend(programs),
                    None => self.dependency_error(&process.program, known.problem_with(dependency)),
                }
            }
            depend.insert(&process.program, needed);
        }
        for circle in circles(&depend) {
            let mut steps: Vec<String> =
                circle.windows(2).map(|pair| format!("{} depends on {}", pair[0], pair[1])).collect();
            if steps.len() > MOST_STEPS {
                steps.splice(MOST_STEPS - 1..steps.len() - 1, ["…".to_owned()]);
            }
            let problem = format!("none of these could ever be started: {}", steps.join(", "));
            self.dependency_error(circle[0], problem);
        }
    }

    fn dependency_error(&mut self, program: &str, problem: String) {
        let Some(section) = self.program_section(program) else { return };
        let subject = section.get("depends_on").map_or(Subject::Section, Subject::Entry);
        self.error(Source { section, is_program: true }, subject, problem);
    }
}

/// `all`, each once, and before each what `needed` names for it, and so on.
pub fn needed_first<T: Copy + Ord>(all: Vec<T>, needed: impl Fn(T) -> Vec<T>) -> Vec<T> {
    let mut met: BTreeSet<T> = BTreeSet::new();
    let mut ordered = Vec::with_capacity(all.len());
    for one in all {
        // Each is met twice: first what it needs is put before it, then it is placed itself.
        let mut ahead = vec![(one, false)];
        while let Some((one, is_ready)) = ahead.pop() {
            if is_ready {
                ordered.push(one);
            } else if met.insert(one) {
                ahead.push((one, true));
                ahead.extend(needed(one).into_iter().rev().map(|needed| (needed, false)));
            }
        }
    }
    ordered
}

/// `names` of groups so that none comes before one that its processes depend on; else as given.
pub fn groups_in_order(groups: &[GroupConfig], names: &[String]) -> Vec<String> {
    let named: BTreeMap<&str, &GroupConfig> = groups
        .iter()
        .filter(|group| names.contains(&group.name))
        .map(|group| (group.name.as_str(), group))
        .collect();
    let mut of_program: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for (name, group) in &named {
        for process in &group.processes {
            of_program.entry(&process.program).or_default().insert(name);
        }
    }
    let needed = |name: &str| {
        let processes = named.get(name).map(|group| group.processes.as_slice()).unwrap_or_default();
        let dependencies: BTreeSet<&Dependency> =
            processes.iter().flat_map(|process| &process.depends_on).collect();
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        for dependency in dependencies {
            match dependency {
                Dependency::Program(program) => {
                    needed.extend(of_program.get(program.as_str()).into_iter().flatten())
                }
                Dependency::Group(group) | Dependency::Process { group, .. } => {
                    needed.extend(named.get_key_value(group.as_str()).map(|(name, _)| *name));
                }
            }
        }
        needed.into_iter().collect()
    };
    let names = names.iter().map(String::as_str).collect();
    needed_first(names, needed).into_iter().map(ToOwned::to_owned).collect()
}

/// What can be depended on.
struct Known<'a> {
    programs: HashSet<&'a str>,
    /// Names of processes and their programs, by group.
    groups: HashMap<&'a str, BTreeMap<&'a str, &'a str>>,
}

impl<'a> Known<'a> {
    fn new(groups: &'a [GroupConfig]) -> Self {
        let processes = groups.iter().flat_map(|group| &group.processes);
        let members = |group: &'a GroupConfig| {
            group.processes.iter().map(|process| (process.name.as_str(), process.program.as_str())).collect()
        };
        Self {
            programs: processes.map(|process| process.program.as_str()).collect(),
            groups: groups.iter().map(|group| (group.name.as_str(), members(group))).collect(),
        }
    }

    /// The programs of the processes that are meant; `None` if there is nothing of that name.
    fn programs_of(&self, dependency: &'a Dependency) -> Option<Vec<&'a str>> {
        match dependency {
            Dependency::Program(name) => self.programs.get(name.as_str()).map(|name| vec![*name]),
            Dependency::Group(group) => Some(self.groups.get(group.as_str())?.values().copied().collect()),
            Dependency::Process { group, name } => {
                self.groups.get(group.as_str())?.get(name.as_str()).map(|program| vec![*program])
            }
        }
    }

    fn problem_with(&self, dependency: &Dependency) -> String {
        let groups = || self.groups.keys().copied();
        let (what, nearest) = match dependency {
            Dependency::Program(name) => (
                format!("there is no program or group {}", repr(name)),
                nearest(name, self.programs.iter().copied().chain(groups())).map(ToOwned::to_owned),
            ),
            Dependency::Group(group) => {
                let nearest = nearest(group, groups()).map(|group| format!("{group}:*"));
                (format!("there is no group {}", repr(group)), nearest)
            }
            Dependency::Process { group, name } => match self.groups.get(group.as_str()) {
                None => (
                    format!("there is no group {}", repr(group)),
                    nearest(group, groups()).map(|group| format!("{group}:{name}")),
                ),
                Some(members) => (
                    format!("there is no process {} in the group {}", repr(name), repr(group)),
                    nearest(name, members.keys().copied()).map(|name| format!("{group}:{name}")),
                ),
            },
        };
        match nearest {
            Some(nearest) => format!("{what}; did you mean {nearest:?}?"),
            None => format!("{what}; expected {FORMS}"),
        }
    }
}

/// Ways from a program back to itself, which is first and last in them: the first few that are met when all programs are
/// gone through in order, at least one if there are any.
fn circles<'a>(depend: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let none = BTreeSet::new();
    let mut circles = Vec::new();
    let mut finished: HashSet<&str> = HashSet::new();
    for start in depend.keys().copied() {
        // The way so far, and what remains to be looked at from each program on it. No recursion: a file may be long.
        let mut way = vec![start];
        let mut ahead = vec![depend.get(start).unwrap_or(&none).iter()];
        while let (Some(here), Some(rest)) = (way.last().copied(), ahead.last_mut()) {
            let Some(next) = rest.next().copied().filter(|_| !finished.contains(here)) else {
                finished.insert(here);
                way.pop();
                ahead.pop();
                continue;
            };
            if let Some(at) = way.iter().position(|known| *known == next) {
                circles.push(way[at..].iter().copied().chain([next]).collect());
                if circles.len() == MOST_CIRCLES {
                    return circles;
                }
            } else if !finished.contains(next) {
                way.push(next);
                ahead.push(depend.get(next).unwrap_or(&none).iter());
            }
        }
    }
    circles
}

/// Circles that are reported: the others will be when these are gone.
const MOST_CIRCLES: usize = 10;

/// Steps of a circle that are reported.
const MOST_STEPS: usize = 20;

const FORMS: &str = "names of programs, of groups (\"g\" or \"g:*\") or of processes in groups (\"g:x\"), separated by commas";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff::tests::read;

    /// `[program:x]` for each, with these keys.
    fn programs(sections: &[(&str, &str)]) -> String {
        let section = |(name, keys): &(&str, &str)| format!("[program:{name}]\ncommand=x\n{keys}\n");
        sections.iter().map(section).collect()
    }

    fn problems(sections: &[(&str, &str)]) -> Vec<String> {
        let errors = read(&programs(sections)).expect_err("something is wrong").to_string();
        errors.lines().map(ToOwned::to_owned).filter(|line| line.contains("depends_on")).collect()
    }

    #[test]
    fn programs_groups_and_processes_can_be_named() {
        let text = programs(&[
            ("web", "depends_on = db , pair, pair:*,\n two:two_01,db"),
            ("db", ""),
            ("one", ""),
            ("two", "numprocs=2\nprocess_name=%(program_name)s_%(process_num)02d"),
        ]);
        let config = read(&format!("{text}[group:pair]\nprograms=one\n")).unwrap();
        let mut processes = config.groups.iter().flat_map(|group| &group.processes);
        let web = processes.find(|process| process.name == "web").unwrap();
        let process = Dependency::Process { group: "two".to_owned(), name: "two_01".to_owned() };
        let pair = Dependency::Group("pair".to_owned());
        assert_eq!(web.depends_on, [Dependency::Program("db".to_owned()), pair, process]);
    }

    #[test]
    fn a_program_goes_before_a_group_of_its_name() {
        let text = programs(&[("web", "depends_on=db"), ("db", ""), ("other", "")]);
        let config = read(&format!("{text}[group:db]\nprograms=db,other\n")).unwrap();
        let web = config.groups.iter().find(|group| group.name == "web").unwrap();
        assert_eq!(web.processes[0].depends_on, [Dependency::Program("db".to_owned())]);
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_may_be_meant() {
        for (value, problem) in [
            ("datbase", "there is no program or group 'datbase'; did you mean \"database\"?"),
            ("nothing", "there is no program or group 'nothing'; expected names of programs"),
            ("databse:*", "there is no group 'databse'; did you mean \"database:*\"?"),
            ("database:databas", "there is no process 'databas' in the group 'database'; did you mean"),
            ("x:y", "there is no group 'x'; expected"),
            ("database,,web", "'database,,web' has an empty name"),
            ("database:", "there is no process '' in the group 'database'"),
        ] {
            let key = format!("depends_on={value}");
            let found = problems(&[("web", &key), ("database", "")]);
            assert!(found.len() == 1 && found[0].contains(problem), "{value}: {found:?}");
        }
        let none = problems(&[("web", "depends_on=db"), ("db", "numprocs=0\nprocess_name=%(process_num)s")]);
        assert!(none[0].contains("there is no program or group 'db'"), "{none:?}");
    }

    #[test]
    fn circles_are_refused_with_their_steps() {
        let found = problems(&[("a", "depends_on=a")]);
        assert!(found[0].contains("none of these could ever be started: a depends on a"), "{found:?}");
        let found = problems(&[
            ("front", "depends_on=a"),
            ("a", "depends_on=b"),
            ("b", "depends_on=c"),
            ("c", "depends_on=a"),
        ]);
        let steps = "none of these could ever be started: a depends on b, b depends on c, c depends on a";
        assert!(found.len() == 1 && found[0].contains(steps), "{found:?}");
        read(&programs(&[("a", "depends_on=b,c"), ("b", "depends_on=d"), ("c", "depends_on=d"), ("d", "")]))
            .unwrap();
    }

    #[test]
    fn groups_are_added_after_those_that_they_depend_on() {
        let text = programs(&[("a", "depends_on=z:*,one"), ("b", ""), ("one", "depends_on=b"), ("z", "")]);
        let groups = read(&format!("{text}[group:pair]\nprograms=one\n")).unwrap().groups;
        let order = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            groups_in_order(&groups, &names).join(" ")
        };
        assert_eq!(order(&["a", "b", "pair", "z"]), "b pair z a");
        assert_eq!(order(&["pair", "a"]), "pair a");
        assert_eq!(order(&["z", "b"]), "z b", "nothing depends");
        assert_eq!(order(&["unknown", "a"]), "unknown a");
    }

    #[test]
    fn a_long_chain_is_no_burden() {
        let sections: Vec<(String, String)> =
            (0..2000).map(|n| (format!("p{n}"), format!("depends_on=p{}", n + 1))).collect();
        let mut sections: Vec<(&str, &str)> =
            sections.iter().map(|(name, keys)| (name.as_str(), keys.as_str())).collect();
        sections.push(("p2000", ""));
        read(&programs(&sections)).unwrap();
        sections.pop();
        sections.push(("p2000", "depends_on=p1000"));
        let found = problems(&sections);
        assert!(found.len() == 1 && found[0].contains("p1000 depends on p1001"), "{}", found.len());
    }
}
