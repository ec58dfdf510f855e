//! Calls become requests to the driver, and its answers are written down.

use std::sync::{Arc, Weak};

use axum::body::{Body, Bytes};
use tokio::sync::{mpsc, watch};

use super::{
    calls::{self, Call, METHODS, Target},
    decode::MethodCall,
    encode::Writer,
    fault::{Fault, SUCCESS},
    value::Value,
};
use crate::{
    api::budget::{Budget, Room},
    request::{
        ConfiguredProcess, Handle, Interfaces, ListQuery, Listing, Operate, ProcessInfo, ProcessResult,
        Reason, Refusal, Request, Verb,
    },
    supervisor::literally,
};

/// The version of Supervisor's interface.
const API_VERSION: &str = "3.0";
/// The version of Supervisor that tools expect.
const SUPERVISOR_VERSION: &str = "4.3.0";
/// Name that no process has, for what cannot be one: the driver then refuses as it refuses every unknown name.
const IMPOSSIBLE: &str = "";
/// Bytes that the answers of one `multicall` may have together. A single answer is bounded by the logs that it reads.
const MULTICALL_LIMIT: usize = 128 << 20;

/// More arguments than any method takes: of further ones nothing is made.
const TOO_MANY_ARGUMENTS: usize = 16;

/// What a process takes in the answer to `getAllProcessInfo`, about; room is made for so much at once.
const BYTES_OF_A_PROCESS: usize = 1400;

/// Answers calls.
#[derive(Debug, Clone)]
pub(super) struct Dispatcher {
    pub(super) driver: Handle,
    budget: Budget,
    /// The answer to `getAllProcessInfo` as it was written last, if it is still on its way to somebody.
    latest: Arc<watch::Sender<Weak<ProcessTable>>>,
}

/// An answer to `getAllProcessInfo`: the costly one, and what dashboards ask for all the time.
#[derive(Debug)]
struct ProcessTable {
    listing: Arc<Listing>,
    text: String,
}

/// As the owner of the bytes that are sent.
#[derive(Debug)]
struct SharedTable(Arc<ProcessTable>);

impl AsRef<[u8]> for SharedTable {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

/// What a call turns out to be.
enum Meaning {
    /// A method of `system`, and the namespaces that it may tell of.
    Introspection { name: String, params: Vec<Value>, names: Arc<[String]> },
    /// A method of Supervisor.
    Call(Call),
}

impl Dispatcher {
    /// One that asks this driver.
    pub(super) fn new(driver: Handle, budget: Budget) -> Self {
        Self { driver, budget, latest: Arc::default() }
    }

    /// Answers one call.
    ///
    /// # Errors
    /// What went wrong, in Supervisor's words.
    pub(super) async fn call(&self, call: MethodCall) -> Result<Body, Fault> {
        let mut writer = Writer::default();
        if call.method == "system.multicall" {
            writer.is_of_many = true;
            self.multicall(call.params, &mut writer).await?;
        } else {
            match self.understand(&call.method, call.params)? {
                Meaning::Call(Call::AllProcessInfo) => {
                    let table = SharedTable(self.all_processes().await?);
                    return Ok(Body::from(Bytes::from_owner(table)));
                }
                meaning => self.invoke(meaning, &mut writer).await?,
            }
        }
        let room = writer.room.take();
        let text = writer.finish();
        Ok(match room {
            Some(room) => room.body(text.into()),
            None => Body::from(text),
        })
    }

    /// Waits until there is room for so many more bytes in an answer.
    pub(super) async fn make_room(&self, bytes: usize, writer: &mut Writer) {
        let all = writer.len().saturating_add(bytes);
        if writer.room.is_none() {
            // An answer of many parts that waited again would keep others from what it waits for.
            let bytes = if writer.is_of_many && Budget::is_large(all) { Room::MOST } else { all };
            writer.room = self.budget.room(bytes).await;
        }
    }

    /// Calls one after the other; each result stands in the array as it is, not in an array of its own as elsewhere.
    async fn multicall(&self, params: Vec<Value>, writer: &mut Writer) -> Result<(), Fault> {
        let mut params = params.into_iter();
        let (Some(Value::Array(calls)), None) = (params.next(), params.next()) else {
            return Err(Fault::incorrect_parameters());
        };
        writer.begin_array();
        for call in calls {
            let before = writer.len();
            if let Err(fault) = self.one_of_many(call, writer).await {
                writer.truncate(before);
                writer.fault(&fault);
            }
            if writer.len() > MULTICALL_LIMIT {
                return Err(Fault::failed(format!("the results are more than {MULTICALL_LIMIT} bytes")));
            }
        }
        writer.end_array();
        Ok(())
    }

    async fn one_of_many(&self, call: Value, writer: &mut Writer) -> Result<(), Fault> {
        let Value::Struct(members) = call else { return Err(Fault::incorrect_parameters()) };
        let (mut method, mut params) = (None, Vec::new());
        for (name, value) in members {
            match (name.as_str(), value) {
                ("methodName", Value::Nil) => method = None,
                ("methodName", value) => method = Some(value.into_name()?),
                ("params", value) => params = arguments(value)?,
                _ => {}
            }
        }
        let method = method.ok_or_else(|| Fault::parameters("No methodName"))?;
        if method == "system.multicall" {
            return Err(Fault::parameters("Recursive system.multicall forbidden"));
        }
        self.invoke(self.understand(&method, params)?, writer).await
    }

    fn understand(&self, method: &str, params: Vec<Value>) -> Result<Meaning, Fault> {
        let mut parts = method.split('.');
        let (Some(namespace), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::unknown_method());
        };
        let Interfaces { names, is_ending } = self.driver.interfaces().map_err(|_| Fault::ending())?;
        if namespace == "system" {
            return Ok(Meaning::Introspection { name: name.to_owned(), params, names });
        }
        if !names.iter().any(|known| known == namespace) {
            return Err(Fault::unknown_method());
        }
        let call = Call::parse(name, params)?;
        if is_ending && !matches!(call, Call::SendRemoteEvent(..)) {
            return Err(Fault::ending());
        }
        Ok(Meaning::Call(call))
    }

    async fn invoke(&self, meaning: Meaning, writer: &mut Writer) -> Result<(), Fault> {
        match meaning {
            Meaning::Introspection { name, params, names } => introspect(&name, params, &names, writer),
            Meaning::Call(call) => self.answer(call, writer).await,
        }
    }

    async fn answer(&self, call: Call, writer: &mut Writer) -> Result<(), Fault> {
        match call {
            Call::ApiVersion => writer.string(API_VERSION),
            Call::SupervisorVersion => writer.string(SUPERVISOR_VERSION),
            Call::Identification | Call::State | Call::Pid => self.daemon(&call, writer).await?,
            Call::ReadLog(source, range) => self.read(source, range, writer).await?,
            Call::TailLog(source, range) => self.tail(source, range, writer).await?,
            Call::ClearLog => self.done(self.driver.ask_for(Request::ClearDaemonLog).await, "", writer)?,
            Call::ClearProcessLogs(name) => self.clear(&name, writer).await?,
            Call::ClearAllProcessLogs => {
                let all = vec!["all".to_owned()];
                let results = self.driver.ask_for(|reply| Request::ClearLogs(reply, all)).await;
                write_results(results.map_err(|refusal| Fault::refused(&refusal, ""))?, writer);
            }
            Call::Shutdown => self.done(self.driver.ask_for(Request::Shutdown).await, "", writer)?,
            Call::Restart => self.done(self.driver.ask_for(Request::Reload).await, "", writer)?,
            Call::ReloadConfig => self.reload_config(writer).await?,
            Call::AddGroup(name) => {
                let group = name.clone();
                let answer = self.driver.ask_for(|reply| Request::AddGroup(reply, group)).await;
                self.done(answer, &name, writer)?;
            }
            Call::RemoveGroup(name) => {
                let group = name.clone();
                let answer = self.driver.ask_for(|reply| Request::RemoveGroup(reply, group)).await;
                self.done(answer, &name, writer)?;
            }
            Call::Start(target, wait) => self.operate(Verb::Start, &target, wait, writer).await?,
            Call::Stop(target, wait) => self.operate(Verb::Stop, &target, wait, writer).await?,
            Call::Signal(target, signal) => match calls::signal(&signal) {
                Ok(verb) => self.operate(verb, &target, false, writer).await?,
                Err(fault) => self.bad_signal(fault, &target, writer).await?,
            },
            Call::ProcessInfo(name) => {
                let listing = self.list(vec![selector_of_one(&name)]).await?;
                let process = listing.processes.first().ok_or_else(|| Fault::bad_name(&name))?;
                write_process(process, writer);
            }
            Call::AllProcessInfo => {
                writer.value_of(&self.all_processes().await?.text);
            }
            Call::AllConfigInfo => {
                let all = self.driver.ask_for(Request::ListConfiguration).await;
                let all = all.map_err(|refusal| Fault::refused(&refusal, ""))?;
                write_array(&all, writer, write_configuration);
            }
            Call::SendStdin(name, text) => {
                let (process, data) = (selector_of_one(&name), text.into_bytes());
                let answer = self.driver.ask_for(|reply| Request::WriteStdin(reply, process, data)).await;
                self.done(answer, &name, writer)?;
            }
            Call::SendRemoteEvent(kind, data) => {
                let sent = self.driver.ask(|reply| Request::RemoteEvent(reply, kind, data)).await;
                sent.map_err(|_| Fault::ending())?;
                writer.boolean(true);
            }
        }
        Ok(())
    }

    /// Writes true, or makes a fault about `name`.
    #[allow(clippy::unused_self, reason = "reads like the other answers")]
    fn done(&self, answer: Result<(), Refusal>, name: &str, writer: &mut Writer) -> Result<(), Fault> {
        answer.map_err(|refusal| Fault::refused(&refusal, name))?;
        writer.boolean(true);
        Ok(())
    }

    async fn daemon(&self, call: &Call, writer: &mut Writer) -> Result<(), Fault> {
        let info = self.driver.ask(Request::Info).await.map_err(|_| Fault::ending())?;
        match call {
            Call::Identification => writer.string(&info.identifier),
            Call::Pid => writer.int(info.pid.into()),
            // In every other state the call is refused.
            _ => {
                writer.begin_struct();
                writer.member("statecode", |w| w.int(1));
                writer.member("statename", |w| w.string("RUNNING"));
                writer.end_struct();
            }
        }
        Ok(())
    }

    /// All processes. Clients that are given the same listing are given the same text.
    async fn all_processes(&self) -> Result<Arc<ProcessTable>, Fault> {
        let listing = self.driver.ask(Request::ListAll).await.map_err(|_| Fault::ending())?;
        let latest = self.latest.borrow().upgrade();
        if let Some(table) = latest.filter(|table| Arc::ptr_eq(&table.listing, &listing)) {
            return Ok(table);
        }
        let mut writer = Writer::with_capacity(BYTES_OF_A_PROCESS * (listing.processes.len() + 1));
        write_array(&listing.processes, &mut writer, write_process);
        let table = Arc::new(ProcessTable { listing, text: writer.finish() });
        self.latest.send_replace(Arc::downgrade(&table));
        Ok(table)
    }

    async fn list(&self, names: Vec<String>) -> Result<Listing, Fault> {
        let query = ListQuery { names, since: None };
        self.driver.ask(|reply| Request::List(reply, query)).await.map_err(|_| Fault::ending())
    }

    async fn reload_config(&self, writer: &mut Writer) -> Result<(), Fault> {
        let changes = self.driver.ask_for(Request::Reread).await;
        let changes = changes.map_err(|refusal| Fault::refused(&refusal, ""))?;
        writer.begin_array();
        writer.begin_array();
        for names in [&changes.added, &changes.changed, &changes.removed] {
            writer.strings(names);
        }
        writer.end_array();
        writer.end_array();
        Ok(())
    }
}

/// Operations on processes.
impl Dispatcher {
    async fn operate(
        &self,
        verb: Verb,
        target: &Target,
        wait: bool,
        writer: &mut Writer,
    ) -> Result<(), Fault> {
        let operate = Operate { verb, names: vec![target.selector()], wait };
        let results = self.driver.ask_for(|reply| Request::Operate(reply, operate)).await;
        let mut results = results.map_err(|refusal| Fault::refused(&refusal, target.name()))?;
        if target.is_one() {
            return one_result(results.recv().await.as_ref(), target.name(), writer);
        }
        gather(&mut results, target.name(), writer).await
    }

    /// No signal is called so; but an unknown name is the first thing that is wrong.
    async fn bad_signal(&self, fault: Fault, target: &Target, writer: &mut Writer) -> Result<(), Fault> {
        let listing = self.list(vec![target.selector()]).await?;
        if !listing.unmatched.is_empty() {
            return Err(Fault::bad_name(target.name()));
        }
        if target.is_one() {
            return Err(fault);
        }
        writer.begin_array();
        for process in listing.processes.iter().filter(|process| process.state.is_signallable()) {
            write_status(&process.name, &process.group, Some(&fault), writer);
        }
        writer.end_array();
        Ok(())
    }
}

impl Target {
    /// What it is called by the client.
    fn name(&self) -> &str {
        match self {
            Self::Process(name) | Self::Group(name) => name,
            Self::All => "",
        }
    }

    /// Whether it can be one process only.
    fn is_one(&self) -> bool {
        matches!(self, Self::Process(name) if !names_group(name))
    }

    /// What the driver calls it. Wildcards are an addition of `supervisorctl`, not of this interface.
    fn selector(&self) -> String {
        match self {
            Self::Process(name) if names_group(name) => literally(name),
            Self::Process(name) => selector_of_one(name),
            Self::Group(name) => group_selector(name),
            Self::All => "all".to_owned(),
        }
    }
}

/// Whether a name is `group:*` or `group:`.
fn names_group(name: &str) -> bool {
    matches!(name.split_once(':'), Some((_, "" | "*")))
}

fn group_selector(group: &str) -> String {
    // No group has a colon in its name.
    if group.contains(':') { literally(IMPOSSIBLE) } else { literally(&format!("{group}:*")) }
}

/// `name` or `group:name`, without the meanings that names have for `supervisorctl`.
pub(super) fn selector_of_one(name: &str) -> String {
    literally(if names_group(name) { IMPOSSIBLE } else { name })
}

/// The result of an operation on one process: true, or a fault.
fn one_result(result: Option<&ProcessResult>, name: &str, writer: &mut Writer) -> Result<(), Fault> {
    // Without a result the process, or the daemon, is gone while it was waited for.
    let result = result.ok_or_else(|| Fault::of(Reason::AbnormalTermination, name))?;
    match Fault::of_result(result, name) {
        Some(fault) => Err(fault),
        None => {
            writer.boolean(true);
            Ok(())
        }
    }
}

/// The results of an operation on several processes, in the order in which they come.
async fn gather(
    results: &mut mpsc::Receiver<ProcessResult>,
    name: &str,
    writer: &mut Writer,
) -> Result<(), Fault> {
    writer.begin_array();
    while let Some(result) = results.recv().await {
        if result.group.is_empty() && matches!(result.reason, Reason::BadGroup | Reason::BadName) {
            return Err(Fault::bad_name(name));
        }
        write_result(&result, writer);
    }
    writer.end_array();
    Ok(())
}

fn write_results(results: Vec<ProcessResult>, writer: &mut Writer) {
    write_array(&results, writer, write_result);
}

fn write_result(result: &ProcessResult, writer: &mut Writer) {
    let name = if result.group == result.name {
        result.name.clone()
    } else {
        format!("{}:{}", result.group, result.name)
    };
    write_status(&result.name, &result.group, Fault::of_result(result, &name).as_ref(), writer);
}

fn write_status(name: &str, group: &str, fault: Option<&Fault>, writer: &mut Writer) {
    let (status, description) = fault.map_or((SUCCESS, "OK"), |fault| (fault.code, fault.text.as_str()));
    writer.begin_struct();
    writer.member("name", |w| w.string(name));
    writer.member("group", |w| w.string(group));
    writer.member("status", |w| w.int(status));
    writer.member("description", |w| w.string(description));
    writer.end_struct();
}

fn write_array<T>(items: &[T], writer: &mut Writer, write: impl Fn(&T, &mut Writer)) {
    writer.begin_array();
    for item in items {
        write(item, writer);
    }
    writer.end_array();
}

fn write_process(process: &ProcessInfo, writer: &mut Writer) {
    super::describe::process(process, writer);
}

fn write_configuration(process: &ConfiguredProcess, writer: &mut Writer) {
    super::describe::configuration(process, writer);
}

/// `system.listMethods`, `system.methodHelp`, `system.methodSignature`.
fn introspect(name: &str, params: Vec<Value>, names: &[String], writer: &mut Writer) -> Result<(), Fault> {
    let (wanted, is_known) = match name {
        "listMethods" => (0, true),
        "methodHelp" | "methodSignature" => (1, true),
        _ => (0, false),
    };
    if !is_known {
        return Err(Fault::unknown_method());
    }
    if params.len() != wanted {
        return Err(Fault::incorrect_parameters());
    }
    let Some(about) = params.into_iter().next() else {
        let own = SYSTEM.iter().map(|method| format!("system.{}", method.name));
        let others =
            names.iter().flat_map(|space| METHODS.iter().map(move |m| format!("{space}.{}", m.name)));
        let mut all: Vec<String> = own.chain(others).collect();
        all.sort();
        writer.strings(all);
        return Ok(());
    };
    let about = about.into_name()?;
    let method = match about.split_once('.') {
        Some(("system", name)) => SYSTEM.iter().find(|method| method.name == name),
        Some((space, name)) if names.iter().any(|known| known == space) => calls::find(name),
        Some(_) | None => None,
    };
    let method = method.ok_or_else(Fault::signature_unsupported)?;
    if name == "methodHelp" {
        writer.string(method.help);
    } else {
        writer.strings(method.signature);
    }
    Ok(())
}

/// The methods of `system`.
static SYSTEM: [calls::Method; 4] = [
    calls::Method {
        name: "listMethods",
        signature: &["array"],
        optional: 0,
        help: "The names of all methods.",
    },
    calls::Method {
        name: "methodHelp",
        signature: &["string", "string"],
        optional: 0,
        help: "What a method does.",
    },
    calls::Method {
        name: "methodSignature",
        signature: &["array", "string"],
        optional: 0,
        help: "The type of a method's result and those of its parameters.",
    },
    calls::Method {
        name: "multicall",
        signature: &["array", "array"],
        optional: 0,
        help: "Calls several methods, one after the other: an array of {methodName, params}. Each result stands in the \
               answer as it is; a fault stands there as {faultCode, faultString}.",
    },
];

/// The arguments in one call of a multicall: what Python finds in each kind of value one by one, for a client that has none
/// may send an empty anything.
fn arguments(params: Value) -> Result<Vec<Value>, Fault> {
    match params {
        Value::Array(values) => Ok(values),
        Value::Struct(members) => {
            let names = members.into_iter().map(|(name, _)| Value::Text(name));
            Ok(names.take(TOO_MANY_ARGUMENTS).collect())
        }
        Value::Text(text) => {
            let characters = text.chars().map(|character| Value::Text(character.into()));
            Ok(characters.take(TOO_MANY_ARGUMENTS).collect())
        }
        Value::Nil | Value::Boolean(_) | Value::Int(_) | Value::Double(_) => {
            Err(Fault::incorrect_parameters())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_in_the_place_of_arguments_becomes_no_crowd_of_them() {
        let [text, name] = ["x".repeat(1 << 20), "y".to_owned()];
        assert_eq!(arguments(Value::Text(text)).unwrap().len(), TOO_MANY_ARGUMENTS);
        let members = vec![(name, Value::Nil); 1 << 10];
        assert_eq!(arguments(Value::Struct(members)).unwrap().len(), TOO_MANY_ARGUMENTS);
        assert!(arguments(Value::Int(1)).is_err());
    }

    #[test]
    fn names_have_supervisors_meaning_only() {
        for (name, selector, is_one) in [
            ("web", "\0web", true),
            ("g:p", "\0g:p", true),
            ("all", "\0all", true),
            ("g:*", "\0g:*", false),
            ("g:", "\0g:", false),
            ("w*", "\0w*", true),
            ("w*:*", "\0w*:*", false),
            ("g:p?", "\0g:p?", true),
            ("", "\0", true),
        ] {
            let target = Target::Process(name.to_owned());
            assert_eq!((target.selector().as_str(), target.is_one()), (selector, is_one), "{name}");
        }
        assert_eq!(Target::Group("g".to_owned()).selector(), "\0g:*");
        assert_eq!(Target::Group("g:p".to_owned()).selector(), "\0");
        assert_eq!(selector_of_one("g:*"), "\0");
    }
}
