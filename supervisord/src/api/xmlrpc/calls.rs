//! Supervisor's methods: what each is called, takes and returns, and what a call of it means.

use super::{fault::Fault, value::Value};
use crate::{
    config::parse,
    request::{Channel, LogSource, Verb},
};

/// One method, for introspection and for counting arguments.
#[derive(Debug)]
pub struct Method {
    /// Its name without the namespace.
    pub name: &'static str,
    /// Type of the result, then those of the parameters.
    pub signature: &'static [&'static str],
    /// How many of the parameters may be left out.
    pub optional: usize,
    /// What it does.
    pub help: &'static str,
}

/// A call of a method of Supervisor, with its arguments in our own types.
#[derive(Debug, PartialEq)]
pub enum Call {
    /// `getAPIVersion`
    ApiVersion,
    /// `getSupervisorVersion`
    SupervisorVersion,
    /// `getIdentification`
    Identification,
    /// `getState`
    State,
    /// `getPID`
    Pid,
    /// `readLog`, `readProcessStdoutLog`, `readProcessStderrLog`
    ReadLog(LogSource, Range),
    /// `tailProcessStdoutLog`, `tailProcessStderrLog`
    TailLog(LogSource, Range),
    /// `clearLog`
    ClearLog,
    /// `clearProcessLogs`
    ClearProcessLogs(String),
    /// `clearAllProcessLogs`
    ClearAllProcessLogs,
    /// `shutdown`
    Shutdown,
    /// `restart`
    Restart,
    /// `reloadConfig`
    ReloadConfig,
    /// `addProcessGroup`
    AddGroup(String),
    /// `removeProcessGroup`
    RemoveGroup(String),
    /// `startProcess` and its like.
    Start(Target, bool),
    /// `stopProcess` and its like.
    Stop(Target, bool),
    /// `signalProcess` and its like.
    Signal(Target, String),
    /// `getProcessInfo`
    ProcessInfo(String),
    /// `getAllProcessInfo`
    AllProcessInfo,
    /// `getAllConfigInfo`
    AllConfigInfo,
    /// `sendProcessStdin`
    SendStdin(String, String),
    /// `sendRemoteCommEvent`
    SendRemoteEvent(String, String),
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Where it begins; negative counts from the end.
    pub offset: i64,
    /// How many bytes; 0 = all.
    pub length: i64,
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `name`, `group:name`, `group:*` or `group:`, as given.
    Process(String),
    /// A group.
    Group(String),
    /// Everything.
    All,
}

/// The method of this name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.name.cmp(name)).ok().map(|at| &METHODS[at])
}

impl Call {
    /// What a call means.
    ///
    /// # Errors
    /// `UNKNOWN_METHOD`; `INCORRECT_PARAMETERS` for a wrong number of arguments or an impossible type.
    pub fn parse(name: &str, params: Vec<Value>) -> Result<Self, Fault> {
        let method = find(name).ok_or_else(Fault::unknown_method)?;
        let most = method.signature.len() - 1;
        if params.len() > most || params.len() + method.optional < most {
            return Err(Fault::incorrect_parameters());
        }
        let mut arguments = Arguments(params.into_iter());
        match Self::about_daemon(name, &mut arguments)? {
            Some(call) => Ok(call),
            None => match Self::about_logs(name, &mut arguments)? {
                Some(call) => Ok(call),
                None => Self::about_processes(name, &mut arguments)?.ok_or_else(Fault::unknown_method),
            },
        }
    }

    fn about_daemon(name: &str, arguments: &mut Arguments) -> Result<Option<Self>, Fault> {
        Ok(Some(match name {
            "getAPIVersion" | "getVersion" => Self::ApiVersion,
            "getSupervisorVersion" => Self::SupervisorVersion,
            "getIdentification" => Self::Identification,
            "getState" => Self::State,
            "getPID" => Self::Pid,
            "shutdown" => Self::Shutdown,
            "restart" => Self::Restart,
            "reloadConfig" => Self::ReloadConfig,
            "addProcessGroup" => Self::AddGroup(arguments.name()?),
            "removeProcessGroup" => Self::RemoveGroup(arguments.name()?),
            "getAllConfigInfo" => Self::AllConfigInfo,
            "sendRemoteCommEvent" => Self::SendRemoteEvent(arguments.message(), arguments.message()),
            _ => return Ok(None),
        }))
    }

    fn about_logs(name: &str, arguments: &mut Arguments) -> Result<Option<Self>, Fault> {
        Ok(Some(match name {
            "readLog" | "readMainLog" => Self::ReadLog(LogSource::Daemon, arguments.range()?),
            "readProcessStdoutLog" | "readProcessLog" => {
                Self::ReadLog(arguments.log(Channel::Stdout)?, arguments.range()?)
            }
            "readProcessStderrLog" => Self::ReadLog(arguments.log(Channel::Stderr)?, arguments.range()?),
            "tailProcessStdoutLog" | "tailProcessLog" => {
                Self::TailLog(arguments.log(Channel::Stdout)?, arguments.range()?)
            }
            "tailProcessStderrLog" => Self::TailLog(arguments.log(Channel::Stderr)?, arguments.range()?),
            "clearLog" => Self::ClearLog,
            "clearProcessLogs" | "clearProcessLog" => Self::ClearProcessLogs(arguments.name()?),
            "clearAllProcessLogs" => Self::ClearAllProcessLogs,
            _ => return Ok(None),
        }))
    }

    fn about_processes(name: &str, arguments: &mut Arguments) -> Result<Option<Self>, Fault> {
        Ok(Some(match name {
            "startProcess" => Self::Start(arguments.process()?, arguments.wait()),
            "startProcessGroup" => Self::Start(arguments.group()?, arguments.wait()),
            "startAllProcesses" => Self::Start(Target::All, arguments.wait()),
            "stopProcess" => Self::Stop(arguments.process()?, arguments.wait()),
            "stopProcessGroup" => Self::Stop(arguments.group()?, arguments.wait()),
            "stopAllProcesses" => Self::Stop(Target::All, arguments.wait()),
            "signalProcess" => Self::Signal(arguments.process()?, arguments.name()?),
            "signalProcessGroup" => Self::Signal(arguments.group()?, arguments.name()?),
            "signalAllProcesses" => Self::Signal(Target::All, arguments.name()?),
            "getProcessInfo" => Self::ProcessInfo(arguments.name()?),
            "getAllProcessInfo" => Self::AllProcessInfo,
            "sendProcessStdin" => Self::SendStdin(arguments.name()?, arguments.next().into_text()?),
            _ => return Ok(None),
        }))
    }
}

/// The signal that `text` names or numbers.
///
/// # Errors
/// `BAD_SIGNAL`.
pub fn signal(text: &str) -> Result<Verb, Fault> {
    parse::signal(text).map(Verb::Signal).map_err(|_| Fault::bad_signal(text))
}

/// Arguments, taken one by one. Their number has been checked.
struct Arguments(std::vec::IntoIter<Value>);

impl Arguments {
    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Nil)
    }

    fn name(&mut self) -> Result<String, Fault> {
        self.next().into_name()
    }

    fn message(&mut self) -> String {
        self.next().into_message()
    }

    fn process(&mut self) -> Result<Target, Fault> {
        self.name().map(Target::Process)
    }

    fn group(&mut self) -> Result<Target, Fault> {
        self.name().map(Target::Group)
    }

    /// `wait`, by default true.
    fn wait(&mut self) -> bool {
        self.0.next().is_none_or(|value| value.is_true())
    }

    fn log(&mut self, channel: Channel) -> Result<LogSource, Fault> {
        Ok(LogSource::Process(self.name()?, channel))
    }

    fn range(&mut self) -> Result<Range, Fault> {
        Ok(Range { offset: self.next().into_int()?, length: self.next().into_int()? })
    }
}

const fn method(
    name: &'static str,
    signature: &'static [&'static str],
    optional: usize,
    help: &'static str,
) -> Method {
    Method { name, signature, optional, help }
}

/// All methods, ordered by name.
pub static METHODS: [Method; 37] = [
    method(
        "addProcessGroup",
        &["boolean", "string"],
        0,
        "Activates a group of the configuration as last read.",
    ),
    method("clearAllProcessLogs", &["array"], 0, "Empties the logs of all processes; one status each."),
    method("clearLog", &["boolean"], 0, "Empties the log of supervisord itself."),
    method("clearProcessLog", &["boolean", "string"], 0, "The same as clearProcessLogs."),
    method("clearProcessLogs", &["boolean", "string"], 0, "Empties the logs of a process."),
    method("getAPIVersion", &["string"], 0, "The version of this interface: 3.0."),
    method(
        "getAllConfigInfo",
        &["array"],
        0,
        "The settings of all processes in the configuration as last read.",
    ),
    method(
        "getAllProcessInfo",
        &["array"],
        0,
        "What getProcessInfo tells, of all processes, by group and name.",
    ),
    method("getIdentification", &["string"], 0, "The setting `identifier` of supervisord."),
    method("getPID", &["int"], 0, "The process id of supervisord."),
    method("getProcessInfo", &["struct", "string"], 0, "State, times, process id and logs of a process."),
    method("getState", &["struct"], 0, "What supervisord is doing: statecode and statename."),
    method(
        "getSupervisorVersion",
        &["string"],
        0,
        "The version of Supervisor that supervisord behaves like.",
    ),
    method("getVersion", &["string"], 0, "The same as getAPIVersion."),
    method(
        "readLog",
        &["string", "int", "int"],
        0,
        "Part of the log of supervisord: (offset, length). Length 0 reads to the end; a negative offset with length 0 \
         counts from the end.",
    ),
    method("readMainLog", &["string", "int", "int"], 0, "The same as readLog."),
    method("readProcessLog", &["string", "string", "int", "int"], 0, "The same as readProcessStdoutLog."),
    method(
        "readProcessStderrLog",
        &["string", "string", "int", "int"],
        0,
        "Part of what a process wrote to stderr: (name, offset, length) as in readLog.",
    ),
    method(
        "readProcessStdoutLog",
        &["string", "string", "int", "int"],
        0,
        "Part of what a process wrote to stdout: (name, offset, length) as in readLog.",
    ),
    method(
        "reloadConfig",
        &["array"],
        0,
        "Reads the configuration again and changes nothing: [[added, changed, removed]] names of groups.",
    ),
    method("removeProcessGroup", &["boolean", "string"], 0, "Forgets a group of which nothing runs."),
    method(
        "restart",
        &["boolean"],
        0,
        "Stops everything and starts anew with the configuration as it is then.",
    ),
    method(
        "sendProcessStdin",
        &["boolean", "string", "string"],
        0,
        "Writes to the standard input of a process.",
    ),
    method(
        "sendRemoteCommEvent",
        &["boolean", "string", "string"],
        0,
        "Sends REMOTE_COMMUNICATION with a type and data to the event listeners.",
    ),
    method("shutdown", &["boolean"], 0, "Stops everything and ends."),
    method(
        "signalAllProcesses",
        &["array", "string"],
        0,
        "Sends a signal to all processes; one status each.",
    ),
    method(
        "signalProcess",
        &["boolean", "string", "string"],
        0,
        "Sends a signal, by name or number, to a process.",
    ),
    method(
        "signalProcessGroup",
        &["array", "string", "string"],
        0,
        "Sends a signal to a group; one status each.",
    ),
    method("startAllProcesses", &["array", "boolean"], 1, "Starts what does not run; one status each."),
    method(
        "startProcess",
        &["boolean", "string", "boolean"],
        1,
        "Starts a process and, unless told otherwise, waits until it is up. `group:*` means all of a group.",
    ),
    method("startProcessGroup", &["array", "string", "boolean"], 1, "Starts a group; one status each."),
    method("stopAllProcesses", &["array", "boolean"], 1, "Stops what runs; one status each."),
    method(
        "stopProcess",
        &["boolean", "string", "boolean"],
        1,
        "Stops a process and, unless told otherwise, waits until it has ended. `group:*` means all of a group.",
    ),
    method("stopProcessGroup", &["array", "string", "boolean"], 1, "Stops a group; one status each."),
    method("tailProcessLog", &["array", "string", "int", "int"], 0, "The same as tailProcessStdoutLog."),
    method(
        "tailProcessStderrLog",
        &["array", "string", "int", "int"],
        0,
        "The end of what a process wrote to stderr: as tailProcessStdoutLog.",
    ),
    method(
        "tailProcessStdoutLog",
        &["array", "string", "int", "int"],
        0,
        "The end of what a process wrote to stdout: (name, offset, length) to [text, offset for the next call, whether \
         something was left out].",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_in_order_and_all_mean_something() {
        assert!(METHODS.is_sorted_by_key(|method| method.name));
        for method in &METHODS {
            let params: Vec<_> = method.signature[1..]
                .iter()
                .map(|kind| match *kind {
                    "int" => Value::Int(1),
                    "boolean" => Value::Boolean(true),
                    _ => Value::Text("x".to_owned()),
                })
                .collect();
            assert!(Call::parse(method.name, params).is_ok(), "{}", method.name);
        }
        assert_eq!(Call::parse("x", Vec::new()), Err(Fault::unknown_method()));
    }

    #[test]
    fn only_wait_may_be_left_out() {
        let name = || Value::Text("x".to_owned());
        let target = || Target::Process("x".to_owned());
        assert_eq!(Call::parse("startProcess", vec![name()]), Ok(Call::Start(target(), true)));
        let no_wait = vec![name(), Value::Boolean(false)];
        assert_eq!(Call::parse("stopProcess", no_wait), Ok(Call::Stop(target(), false)));
        for (method, params) in [
            ("startProcess", vec![]),
            ("startProcess", vec![name(), name(), name()]),
            ("getState", vec![name()]),
            ("signalProcess", vec![name()]),
            ("readLog", vec![Value::Int(0)]),
            ("readLog", vec![Value::Int(0), name()]),
        ] {
            assert_eq!(Call::parse(method, params).unwrap_err().code, 2, "{method}");
        }
    }
}
