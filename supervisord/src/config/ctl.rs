//! `[supervisorctl]`.

use super::{
    CtlConfig,
    error::ConfigErrors,
    evaluation::{Evaluation, Source, Subject, Surroundings},
    ini::Section,
    parse::expand_user,
    python::abspath,
};

impl Default for CtlConfig {
    fn default() -> Self {
        Self {
            serverurl: "http://localhost:9001".to_owned(),
            username: None,
            password: None,
            prompt: "supervisor".to_owned(),
            history_file: None,
        }
    }
}

/// Reads `[supervisorctl]`.
///
/// # Errors
/// [`ConfigErrors`] when the section is missing or a key cannot be expanded.
pub fn evaluate(sections: &[Section], around: &Surroundings<'_>) -> Result<CtlConfig, ConfigErrors> {
    let mut evaluation = Evaluation::new(sections, around);
    let Some(section) = evaluation.section("supervisorctl") else {
        let problem = ".ini file does not include supervisorctl section".to_owned();
        return Err(ConfigErrors::of_file(around.file, problem.clone(), problem));
    };
    let from = Source { section, is_program: false };
    let here = evaluation.here.clone();
    let normal = |path: &str| abspath(around.cwd, &expand_user(path, around.machine));
    let default = CtlConfig::default();
    let serverurl = evaluation.text(from, "serverurl", &[&here]).unwrap_or(default.serverurl);
    let serverurl = match serverurl.strip_prefix("unix://") {
        Some(path) => format!("unix://{}", normal(path)),
        None => serverurl,
    };
    let prompt = evaluation.text(from, "prompt", &[]).unwrap_or(default.prompt);
    let username = evaluation.text(from, "username", &[]);
    let password = evaluation.text(from, "password", &[]);
    let history_file = evaluation.text(from, "history_file", &[&here]).filter(|path| !path.is_empty());
    let history_file = history_file.map(|path| normal(&path).into());
    refuse_plugins(&mut evaluation);
    match evaluation.finish() {
        Some(errors) => Err(errors),
        None => Ok(CtlConfig { serverurl, username, password, prompt, history_file }),
    }
}

/// `[ctlplugin:x]`: commands written in Python.
fn refuse_plugins(evaluation: &mut Evaluation<'_>) {
    for section in evaluation.sections_of("ctlplugin:") {
        let from = Source { section, is_program: false };
        let Some(entry) = section.get(CTL_FACTORY) else {
            let problem = format!("section [{}] does not specify a {CTL_FACTORY}", section.name);
            evaluation.error(from, Subject::Key(CTL_FACTORY), problem);
            continue;
        };
        // What is there anyway; Supervisor lists it twice.
        if entry.value == OWN_FACTORY {
            continue;
        }
        let supervisor = format!("{} cannot be resolved within [{}]", entry.value, section.name);
        let problem =
            format!("{supervisor}: a plug-in is Python code, which is not supported; only {OWN_FACTORY} is");
        evaluation.error_as(from, Subject::Entry(entry), problem, supervisor);
    }
}

const OWN_FACTORY: &str = "supervisor.supervisorctl:DefaultControllerPlugin";
const CTL_FACTORY: &str = "supervisor.ctl_factory";
