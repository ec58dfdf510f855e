//! A supervisord made of a table: answers the whole contract on a unix socket, with processes that change their
//! states at once and output that the test writes.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use supervisor_proto::v1::{
    self, Channel, LogChunk, Process, ProcessConfiguration, ProcessResult, ProcessState, Reason, Unmatched,
    UpdateProgress, supervisor_server::SupervisorServer, update_progress::Step,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status};

/// What happens when a process is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Works,
    Fails(Reason),
}

/// A process of the table.
struct Entry {
    group: &'static str,
    name: &'static str,
    pid: i32,
    start: Start,
    autostart: bool,
    is_running: bool,
}

/// The daemon's state; a test changes it between two commands.
pub(crate) struct Model {
    entries: Vec<Entry>,
    /// Groups that were removed.
    removed: Vec<String>,
    /// Every call is refused for this reason.
    pub(crate) refusal: Option<(Reason, &'static str)>,
    /// What `reread` and `update` find.
    pub(crate) reread: v1::RereadReply,
    /// What `update` does.
    pub(crate) steps: Vec<(&'static str, Step)>,
    /// The header that every call must carry.
    pub(crate) authorization: Option<&'static str>,
    /// The log of every process.
    pub(crate) log: Vec<u8>,
    followers: Vec<(Channel, mpsc::Sender<Result<LogChunk, Status>>)>,
    watchers: Vec<mpsc::Sender<Result<Process, Status>>>,
    /// Additional processes, to make `status` long.
    pub(crate) crowd: usize,
}

/// The daemon. Dropping it ends it.
pub(crate) struct Fake {
    /// Its state.
    model: Arc<Mutex<Model>>,
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Fake {
    /// A daemon with the processes that the expected texts were collected with.
    pub(crate) fn start() -> Self {
        let entry = |group, name, pid, start, autostart| Entry {
            group,
            name,
            pid,
            start,
            autostart,
            is_running: autostart,
        };
        let model = Model {
            entries: vec![
                entry("bad", "bad", 101, Start::Fails(Reason::NoFile), false),
                entry("cat", "cat", 102, Start::Works, true),
                entry("grp", "grp_0", 103, Start::Works, true),
                entry("grp", "grp_1", 104, Start::Works, true),
                entry("manual", "manual", 106, Start::Works, false),
                entry("quick", "quick", 107, Start::Fails(Reason::SpawnError), false),
                entry("sleeper", "sleeper", 105, Start::Works, true),
            ],
            removed: Vec::new(),
            refusal: None,
            reread: v1::RereadReply::default(),
            steps: Vec::new(),
            authorization: None,
            log: Vec::new(),
            followers: Vec::new(),
            watchers: Vec::new(),
            crowd: 0,
        };
        let directory = tempfile::tempdir().unwrap();
        let mut fake = Self { model: Arc::new(Mutex::new(model)), directory, stop: None, thread: None };
        fake.begin();
        fake
    }

    /// Begins to listen.
    fn begin(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (path, service) = (self.path("s.sock"), Service { model: Arc::clone(&self.model) });
        self.stop = Some(stop);
        self.thread = Some(thread::spawn(move || serve(&path, service, stopped, &ready)));
        is_ready.recv().unwrap();
    }

    /// Ends all connections.
    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ended_already = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Ends all connections and listens again.
    pub(crate) fn restart(&mut self) {
        self.end();
        std::fs::remove_file(self.path("s.sock")).unwrap();
        self.begin();
    }

    /// Its state.
    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// A place for files of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.path("s.sock").display())
    }

    /// The process writes `text` to its stdout.
    pub(crate) fn write(&self, text: &str) {
        self.model().write(text);
    }

    /// Waits until a client follows a log.
    pub(crate) fn wait_for_follower(&self) {
        super::until("a follower", || !self.model().followers.is_empty());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(path: &Path, service: Service, stopped: oneshot::Receiver<()>, ready: &std::sync::mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListenerStream::new(tokio::net::UnixListener::bind(path).unwrap());
        ready.send(()).unwrap();
        let guard = service.clone();
        let server = SupervisorServer::with_interceptor(service, move |request| guard.check(request));
        let serving = tonic::transport::Server::builder().add_service(server).serve_with_incoming(listener);
        tokio::select! {
            outcome = serving => outcome.unwrap(),
            _ = stopped => {}
        }
    });
}

impl Model {
    fn process(&self, entry: &Entry) -> Process {
        let state = if entry.is_running { ProcessState::Running } else { ProcessState::Stopped };
        let description = match entry.is_running {
            true => format!("pid {}, uptime 0:00:07", entry.pid),
            false => "Not started".to_owned(),
        };
        Process {
            name: entry.name.to_owned(),
            group: entry.group.to_owned(),
            state: state.into(),
            description,
            pid: if entry.is_running { entry.pid } else { 0 },
            start: 1000,
            now: 1007,
            stdout_logfile: "/log/out".to_owned(),
            advice: vec!["do this".to_owned()],
            ..Process::default()
        }
    }

    /// The entries that a selector names, and whether it names one process.
    fn select(&self, selector: &str) -> Result<(Vec<usize>, bool), Reason> {
        let (group, name) = match selector.split_once(':') {
            Some((group, "" | "*")) => (group, None),
            Some((group, name)) => (group, Some(name)),
            None => (selector, Some(selector)),
        };
        let fits = |entry: &Entry| {
            selector == "all" || (entry.group == group && name.is_none_or(|name| entry.name == name))
        };
        let found: Vec<usize> = (0..self.entries.len()).filter(|at| fits(&self.entries[*at])).collect();
        match (found.is_empty(), name) {
            (false, _) => Ok((found, name.is_some() && selector != "all")),
            (true, Some(_)) => Err(Reason::BadName),
            (true, None) => Err(Reason::BadGroup),
        }
    }

    /// Does `work` to each selected process that is in the state for it.
    fn operate(
        &mut self,
        names: &[String],
        wants_running: bool,
        otherwise: Reason,
        mut work: impl FnMut(&mut Entry) -> Reason,
    ) -> Vec<ProcessResult> {
        let mut results = Vec::new();
        for selector in names {
            let (found, is_single) = match self.select(selector) {
                Ok(found) => found,
                Err(reason) => {
                    let name = selector.clone();
                    results.push(ProcessResult { name, reason: reason.into(), ..ProcessResult::default() });
                    continue;
                }
            };
            for at in found {
                let entry = &mut self.entries[at];
                let reason = match entry.is_running == wants_running {
                    true => work(entry),
                    false if is_single => otherwise,
                    false => continue,
                };
                results.push(ProcessResult {
                    name: entry.name.to_owned(),
                    group: entry.group.to_owned(),
                    reason: reason.into(),
                    ..ProcessResult::default()
                });
            }
        }
        results
    }

    fn write(&mut self, text: &str) {
        let chunk = LogChunk { data: text.as_bytes().to_vec(), position: None };
        self.followers.retain(|(channel, follower)| {
            *channel != Channel::Stdout || follower.try_send(Ok(chunk.clone())).is_ok()
        });
    }

    /// Ends the streams of all who follow.
    pub(crate) fn forget_followers(&mut self) {
        self.followers.clear();
    }

    /// The process ends, and all who watch learn it.
    pub(crate) fn end(&mut self, name: &str) {
        let at = self.entries.iter().position(|entry| entry.name == name).unwrap();
        self.entries[at].is_running = false;
        let process = self.process(&self.entries[at]);
        self.watchers.retain(|watcher| watcher.try_send(Ok(process.clone())).is_ok());
    }
}

#[derive(Clone)]
struct Service {
    model: Arc<Mutex<Model>>,
}

type Answer<T> = Result<Response<T>, Status>;
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn refused(reason: Reason, message: &str) -> Status {
    let mut status = Status::failed_precondition(message);
    let name = reason.as_str_name().strip_prefix("REASON_").unwrap();
    status.metadata_mut().insert("supervisor-reason", name.parse().unwrap());
    status
}

fn stream<T: Send + 'static>(items: Vec<T>) -> Answer<Many<T>> {
    Ok(Response::new(Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))))
}

impl Service {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let model = self.model();
        if let Some(expected) = model.authorization
            && request.metadata().get("authorization").is_none_or(|given| given != expected)
        {
            return Err(Status::unauthenticated("who are you?"));
        }
        match model.refusal {
            Some((reason, message)) => Err(refused(reason, message)),
            None => Ok(request),
        }
    }
}

#[tonic::async_trait]
impl v1::supervisor_server::Supervisor for Service {
    type WatchProcessesStream = Many<Process>;
    type StreamEventsStream = Many<v1::Event>;
    type StartProcessesStream = Many<ProcessResult>;
    type StopProcessesStream = Many<ProcessResult>;
    type RestartProcessesStream = Many<ProcessResult>;
    type SignalProcessesStream = Many<ProcessResult>;
    type ClearLogsStream = Many<ProcessResult>;
    type UpdateStream = Many<UpdateProgress>;
    type FollowLogStream = Many<LogChunk>;

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Answer<v1::DaemonInfo> {
        Ok(Response::new(v1::DaemonInfo {
            pid: 100,
            supervisor_version: "4.3.0".to_owned(),
            version: "0.1.0".to_owned(),
            ..v1::DaemonInfo::default()
        }))
    }

    async fn list_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Answer<v1::ListProcessesReply> {
        let model = self.model();
        let mut reply = v1::ListProcessesReply::default();
        let mut names = request.into_inner().names;
        if names.is_empty() {
            names.push("all".to_owned());
            reply.processes.extend((0..model.crowd).map(|at| Process {
                name: format!("crowd_{at}"),
                group: "crowd".to_owned(),
                description: "x".repeat(200),
                ..Process::default()
            }));
        }
        for name in names {
            match model.select(&name) {
                Ok((found, _)) => {
                    reply.processes.extend(found.iter().map(|at| model.process(&model.entries[*at])));
                }
                Err(reason) => reply.unmatched.push(Unmatched { name, reason: reason.into() }),
            }
        }
        Ok(Response::new(reply))
    }

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Answer<Self::StreamEventsStream> {
        use v1::event::Detail;
        let change =
            v1::ProcessStateChange { name: "cat".to_owned(), group: "cat".to_owned(), ..Default::default() };
        let events = [
            v1::Event {
                r#type: request.into_inner().types.join("+"),
                at_millis: 3_723_004,
                payload: "processname:cat groupname:cat from_state:STOPPED tries:0".to_owned(),
                detail: Some(Detail::ProcessState(change)),
            },
            v1::Event { detail: Some(Detail::Lost(3)), ..Default::default() },
            v1::Event {
                r#type: "PROCESS_LOG_STDOUT".to_owned(),
                payload: "channel:stdout\na\u{1b}\n".to_owned(),
                ..Default::default()
            },
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(events.map(Ok)))))
    }

    async fn send_remote_event(
        &self,
        _: Request<v1::SendRemoteEventRequest>,
    ) -> Answer<v1::SendRemoteEventReply> {
        Ok(Response::new(v1::SendRemoteEventReply {}))
    }

    async fn watch_processes(
        &self,
        request: Request<v1::ListProcessesRequest>,
    ) -> Answer<Self::WatchProcessesStream> {
        let mut model = self.model();
        let (sender, receiver) = mpsc::channel(100);
        for name in request.into_inner().names {
            for at in model.select(&name).map(|(found, _)| found).unwrap_or_default() {
                sender.try_send(Ok(model.process(&model.entries[at]))).unwrap();
            }
        }
        model.watchers.push(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn start_processes(
        &self,
        request: Request<v1::OperationRequest>,
    ) -> Answer<Self::StartProcessesStream> {
        let start = |entry: &mut Entry| match entry.start {
            Start::Works => {
                entry.is_running = true;
                Reason::Ok
            }
            Start::Fails(reason) => reason,
        };
        stream(self.model().operate(&request.into_inner().names, false, Reason::AlreadyStarted, start))
    }

    async fn stop_processes(
        &self,
        request: Request<v1::OperationRequest>,
    ) -> Answer<Self::StopProcessesStream> {
        let stop = |entry: &mut Entry| {
            entry.is_running = false;
            Reason::Ok
        };
        stream(self.model().operate(&request.into_inner().names, true, Reason::NotRunning, stop))
    }

    async fn restart_processes(
        &self,
        _: Request<v1::OperationRequest>,
    ) -> Answer<Self::RestartProcessesStream> {
        Err(Status::internal("supervisorctl stops and starts"))
    }

    async fn signal_processes(
        &self,
        request: Request<v1::SignalRequest>,
    ) -> Answer<Self::SignalProcessesStream> {
        let request = request.into_inner();
        if request.signal == "NOSUCH" {
            return Err(refused(Reason::BadSignal, "not a signal: NOSUCH"));
        }
        stream(self.model().operate(&request.names, true, Reason::NotRunning, |_| Reason::Ok))
    }

    async fn list_configuration(
        &self,
        _: Request<v1::ListConfigurationRequest>,
    ) -> Answer<v1::ListConfigurationReply> {
        let model = self.model();
        let processes = model.entries.iter().map(|entry| ProcessConfiguration {
            name: entry.name.to_owned(),
            group: entry.group.to_owned(),
            in_use: true,
            autostart: entry.autostart,
            group_priority: 999,
            process_priority: 999,
        });
        Ok(Response::new(v1::ListConfigurationReply { processes: processes.collect() }))
    }

    async fn reread(&self, _: Request<v1::RereadRequest>) -> Answer<v1::RereadReply> {
        Ok(Response::new(self.model().reread.clone()))
    }

    async fn update(&self, request: Request<v1::UpdateRequest>) -> Answer<Self::UpdateStream> {
        let model = self.model();
        let step = |group: &str, step: Step| UpdateProgress {
            group: group.to_owned(),
            step: step.into(),
            processes: Vec::new(),
        };
        let unknown = request.into_inner().groups.into_iter().filter(|group| model.select(group).is_err());
        let mut steps: Vec<_> = unknown.map(|group| step(&group, Step::NoSuchGroup)).collect();
        steps.extend(model.steps.iter().map(|(group, done)| step(group, *done)));
        stream(steps)
    }

    async fn add_group(&self, request: Request<v1::GroupRequest>) -> Answer<v1::GroupReply> {
        let mut model = self.model();
        let group = request.into_inner().group;
        if let Some(at) = model.removed.iter().position(|removed| *removed == group) {
            model.removed.remove(at);
            return Ok(Response::new(v1::GroupReply {}));
        }
        Err(match model.entries.iter().any(|entry| entry.group == group) {
            true => refused(Reason::AlreadyAdded, "active"),
            false => refused(Reason::BadName, "unknown"),
        })
    }

    async fn remove_group(&self, request: Request<v1::GroupRequest>) -> Answer<v1::GroupReply> {
        let mut model = self.model();
        let group = request.into_inner().group;
        let of_group = |entry: &&Entry| entry.group == group;
        if !model.entries.iter().any(|entry| of_group(&entry)) {
            return Err(refused(Reason::BadName, "unknown"));
        }
        if model.entries.iter().filter(of_group).any(|entry| entry.is_running) {
            return Err(refused(Reason::StillRunning, "runs"));
        }
        model.removed.push(group);
        Ok(Response::new(v1::GroupReply {}))
    }

    async fn read_log(&self, request: Request<v1::ReadLogRequest>) -> Answer<v1::ReadLogReply> {
        let (model, request) = (self.model(), request.into_inner());
        let name = request.source.unwrap_or_default().process;
        if !name.is_empty() {
            model.select(&name).map_err(|reason| refused(reason, "unknown"))?;
        }
        let size = model.log.len() as i64;
        let offset = if request.offset < 0 { (size + request.offset).max(0) } else { request.offset };
        // A small chunk, so that a client has to ask again.
        let end = size.min(offset + 1000);
        let data = model.log[offset as usize..end as usize].to_vec();
        Ok(Response::new(v1::ReadLogReply { data, offset, size }))
    }

    async fn follow_log(&self, request: Request<v1::FollowLogRequest>) -> Answer<Self::FollowLogStream> {
        let mut model = self.model();
        let source = request.into_inner().source.unwrap_or_default();
        if !source.process.is_empty() {
            model.select(&source.process).map_err(|reason| refused(reason, "unknown"))?;
        }
        let (sender, receiver) = mpsc::channel(100);
        model.followers.push((source.channel(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn clear_logs(&self, request: Request<v1::ClearLogsRequest>) -> Answer<Self::ClearLogsStream> {
        let mut results = Vec::new();
        let model = self.model();
        for name in request.into_inner().names {
            match model.select(&name) {
                Ok((found, _)) => results.extend(found.into_iter().map(|at| ProcessResult {
                    name: model.entries[at].name.to_owned(),
                    group: model.entries[at].group.to_owned(),
                    reason: Reason::Ok.into(),
                    ..ProcessResult::default()
                })),
                Err(reason) => {
                    results.push(ProcessResult { name, reason: reason.into(), ..ProcessResult::default() });
                }
            }
        }
        stream(results)
    }

    async fn clear_daemon_log(
        &self,
        _: Request<v1::ClearDaemonLogRequest>,
    ) -> Answer<v1::ClearDaemonLogReply> {
        Ok(Response::new(v1::ClearDaemonLogReply {}))
    }

    async fn reopen_logs(&self, _: Request<v1::ReopenLogsRequest>) -> Answer<v1::ReopenLogsReply> {
        Ok(Response::new(v1::ReopenLogsReply {}))
    }

    async fn write_stdin(&self, request: Request<v1::WriteStdinRequest>) -> Answer<v1::WriteStdinReply> {
        let mut model = self.model();
        let line = String::from_utf8(request.into_inner().data).unwrap();
        model.write(&format!("read {line}"));
        if line == "die\n" {
            model.end("cat");
        }
        Ok(Response::new(v1::WriteStdinReply {}))
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Answer<v1::ShutdownReply> {
        Ok(Response::new(v1::ShutdownReply {}))
    }

    async fn upgrade(&self, _: Request<v1::UpgradeRequest>) -> Answer<v1::UpgradeReply> {
        let version = "0.1.0".to_owned();
        Ok(Response::new(v1::UpgradeReply {
            pid: 7,
            from_version: version.clone(),
            to_version: version,
            generation: 0,
        }))
    }

    async fn reload(&self, _: Request<v1::ReloadRequest>) -> Answer<v1::ReloadReply> {
        Ok(Response::new(v1::ReloadReply {}))
    }
}
