//! The native protocol: each rpc decodes, asks the driver, and encodes the answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use supervisor_proto::v1::{self, supervisor_server::Supervisor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request as Call, Response, Status};

use super::{
    budget::{Budget, Reserved},
    convert,
};
use crate::{
    config::parse,
    output::tail,
    request::{Handle, ListQuery, Operate, ProcessResult, Refusal, Request, UpdateResult, Verb},
    subscription::Subscription,
};

/// Bytes that one `ReadLog` answers at most.
const READ_LIMIT: u64 = 4 << 20;
/// Bytes that one `WriteStdin` takes at most.
const STDIN_LIMIT: usize = 1 << 20;

/// Listings that the driver is asked for at once: it answers in the order in which it is asked, and whoever wants
/// something else must not wait behind thousands of them.
const LISTINGS_AT_ONCE: usize = 8;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    driver: Handle,
    listings: Arc<Semaphore>,
    budget: Budget,
}

type Reply<T> = Result<Response<T>, Status>;
/// What comes when the last item of a stream is due.
type LastItem<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    /// A service that asks this driver and has large answers in this room.
    pub fn new(driver: Handle, budget: Budget) -> Self {
        Self { driver, listings: Arc::new(Semaphore::new(LISTINGS_AT_ONCE)), budget }
    }

    /// A stream to a client, which ends with UNAVAILABLE when the daemon is replaced in place.
    fn stream<T, S>(&self, stream: S) -> Response<Streaming<T>>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
        T: Send + 'static,
    {
        let parting = self.driver.parting();
        let end = async move {
            parting.await;
            Err(convert::replaced())
        };
        Response::new(Box::pin(Cut { stream: Box::pin(stream), end: Some(Box::pin(end)), last: None }))
    }

    async fn operate(
        &self,
        verb: Verb,
        names: Vec<String>,
        no_wait: bool,
    ) -> Reply<Streaming<v1::ProcessResult>> {
        let operate = Operate { verb, names: few(names)?, wait: !no_wait };
        let results = self.driver.ask_for(|reply| Request::Operate(reply, operate)).await.map_err(refused)?;
        let encode = |result: ProcessResult| Ok(convert::process_result(result));
        Ok(self.stream(ReceiverStream::new(results).map(encode)))
    }
}

/// A turn to ask for a listing. Cancel-safe.
async fn turn(listings: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(listings).acquire_owned().await.expect("this semaphore is never closed")
}

/// The names of a request, if they are not absurdly many: each may stand for every process.
fn few(names: Vec<String>) -> Result<Vec<String>, Status> {
    match names.len() {
        0..=MOST_NAMES => Ok(names),
        number => Err(Status::invalid_argument(format!("{number} names, expected at most {MOST_NAMES}"))),
    }
}

/// Names in one request at most.
const MOST_NAMES: usize = 4096;

/// A stream that may be cut. What is there goes out first.
struct Cut<T> {
    stream: Streaming<T>,
    /// Gives the last item; none when it has.
    end: Option<LastItem<T>>,
    /// What it gave, until it has gone out.
    last: Option<Result<T, Status>>,
}

impl<T> Unpin for Cut<T> {}

impl<T> Stream for Cut<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = &mut self.end
            && let Poll::Ready(last) = end.as_mut().poll(context)
        {
            self.end = None;
            self.last = Some(last);
        }
        if self.end.is_none() && self.last.is_none() {
            return Poll::Ready(None);
        }
        if let item @ Poll::Ready(_) = self.stream.as_mut().poll_next(context) {
            return item;
        }
        self.last.take().map_or(Poll::Pending, |last| Poll::Ready(Some(last)))
    }
}

/// Passes events on to a client, at its pace.
fn forward(mut events: Subscription) -> tokio::sync::mpsc::Receiver<Result<v1::Event, Status>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    // Ends when the client or the driver is gone: each step waits for one of the two.
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = sender.closed() => return,
            };
            let Some(next) = next else { return };
            if sender.send(Ok(convert::event(next))).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The status of a refused call.
#[allow(clippy::needless_pass_by_value, reason = "called by map_err")]
fn refused(refusal: Refusal) -> Status {
    convert::status(&refusal)
}

#[tonic::async_trait]
impl Supervisor for Service {
    type WatchProcessesStream = Streaming<v1::Process>;
    type StartProcessesStream = Streaming<v1::ProcessResult>;
    type StopProcessesStream = Streaming<v1::ProcessResult>;
    type RestartProcessesStream = Streaming<v1::ProcessResult>;
    type SignalProcessesStream = Streaming<v1::ProcessResult>;
    type UpdateStream = Streaming<v1::UpdateProgress>;
    type FollowLogStream = Streaming<v1::LogChunk>;
    type StreamEventsStream = Streaming<v1::Event>;
    type ClearLogsStream = Streaming<v1::ProcessResult>;

    async fn get_info(&self, _: Call<v1::GetInfoRequest>) -> Reply<v1::DaemonInfo> {
        let info = self.driver.ask(Request::Info).await.map_err(Refusal::from).map_err(refused)?;
        Ok(Response::new(convert::daemon_info(info)))
    }

    async fn list_processes(&self, call: Call<v1::ListProcessesRequest>) -> Reply<v1::ListProcessesReply> {
        let query = ListQuery { names: few(call.into_inner().names)?, since: None };
        let _turn = turn(&self.listings).await;
        let ask = self.driver.ask(|reply| Request::List(reply, query));
        Ok(Response::new(convert::listing(ask.await.map_err(Refusal::from).map_err(refused)?)))
    }

    async fn watch_processes(
        &self,
        call: Call<v1::ListProcessesRequest>,
    ) -> Reply<Self::WatchProcessesStream> {
        let (names, driver) = (few(call.into_inner().names)?, self.driver.clone());
        let listings = Arc::clone(&self.listings);
        let list = async move |since| {
            let _turn = turn(&listings).await;
            let query = ListQuery { names: names.clone(), since };
            driver.ask(|reply| Request::List(reply, query)).await
        };
        let ask = self.driver.ask(Request::Changes);
        let mut changes = ask.await.map_err(Refusal::from).map_err(refused)?;
        // The first listing is part of the answer, and not on its way to it: who reads none gets only so many.
        let first = list(None).await.map_err(Refusal::from).map_err(refused)?;
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let mut since = first.generation;
        // Ends when the client or the driver is gone: each step waits for one of the two.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
                let Ok(listing) = list(Some(since)).await else { return };
                since = listing.generation;
                for process in listing.processes {
                    if sender.send(Ok(convert::process(process))).await.is_err() {
                        return;
                    }
                }
            }
        });
        let first =
            tokio_stream::iter(first.processes.into_iter().map(|process| Ok(convert::process(process))));
        Ok(self.stream(first.chain(ReceiverStream::new(receiver))))
    }

    async fn start_processes(&self, call: Call<v1::OperationRequest>) -> Reply<Self::StartProcessesStream> {
        let v1::OperationRequest { names, no_wait } = call.into_inner();
        self.operate(Verb::Start, names, no_wait).await
    }

    async fn stop_processes(&self, call: Call<v1::OperationRequest>) -> Reply<Self::StopProcessesStream> {
        let v1::OperationRequest { names, no_wait } = call.into_inner();
        self.operate(Verb::Stop, names, no_wait).await
    }

    async fn restart_processes(
        &self,
        call: Call<v1::OperationRequest>,
    ) -> Reply<Self::RestartProcessesStream> {
        let v1::OperationRequest { names, no_wait } = call.into_inner();
        self.operate(Verb::Restart, names, no_wait).await
    }

    async fn signal_processes(&self, call: Call<v1::SignalRequest>) -> Reply<Self::SignalProcessesStream> {
        let v1::SignalRequest { names, signal } = call.into_inner();
        let signal = parse::signal(&signal).map_err(|_| convert::bad_signal(&signal))?;
        self.operate(Verb::Signal(signal), names, false).await
    }

    async fn list_configuration(
        &self,
        _: Call<v1::ListConfigurationRequest>,
    ) -> Reply<v1::ListConfigurationReply> {
        let _turn = turn(&self.listings).await;
        let processes = self.driver.ask_for(Request::ListConfiguration).await.map_err(refused)?;
        Ok(Response::new(convert::configuration(processes)))
    }

    async fn reread(&self, _: Call<v1::RereadRequest>) -> Reply<v1::RereadReply> {
        let _turn = turn(&self.listings).await;
        let changes = self.driver.ask_for(Request::Reread).await.map_err(refused)?;
        Ok(Response::new(convert::changes(changes)))
    }

    async fn update(&self, call: Call<v1::UpdateRequest>) -> Reply<Self::UpdateStream> {
        let groups = call.into_inner().groups;
        let steps = self.driver.ask_for(|reply| Request::Update(reply, groups)).await.map_err(refused)?;
        let told = |step: UpdateResult| step.map(convert::update_step).map_err(refused);
        Ok(self.stream(ReceiverStream::new(steps).map(told)))
    }

    async fn add_group(&self, call: Call<v1::GroupRequest>) -> Reply<v1::GroupReply> {
        let group = call.into_inner().group;
        self.driver.ask_for(|reply| Request::AddGroup(reply, group)).await.map_err(refused)?;
        Ok(Response::new(v1::GroupReply {}))
    }

    async fn remove_group(&self, call: Call<v1::GroupRequest>) -> Reply<v1::GroupReply> {
        let group = call.into_inner().group;
        self.driver.ask_for(|reply| Request::RemoveGroup(reply, group)).await.map_err(refused)?;
        Ok(Response::new(v1::GroupReply {}))
    }

    async fn read_log(&self, call: Call<v1::ReadLogRequest>) -> Reply<v1::ReadLogReply> {
        let v1::ReadLogRequest { source, offset, length } = call.into_inner();
        let source = convert::log_source(source);
        let path = self.driver.ask_for(|reply| Request::Log(reply, source)).await.map_err(refused)?;
        let unreadable = |error| convert::unreadable(&path, &error);
        let mut window = tail::Window::open(&path, offset, length, READ_LIMIT).map_err(unreadable)?;
        let room = self.budget.room(window.part.left()).await;
        let mut data = Vec::with_capacity(window.part.left());
        while let Some(piece) = window.part.next_piece().map_err(unreadable)? {
            data.extend_from_slice(&piece);
            tokio::task::yield_now().await;
        }
        let mut reply = Response::new(v1::ReadLogReply { data, offset: window.offset, size: window.size });
        if let Some(room) = room {
            reply.extensions_mut().insert(Reserved::from(room));
        }
        Ok(reply)
    }

    async fn follow_log(&self, call: Call<v1::FollowLogRequest>) -> Reply<Self::FollowLogStream> {
        let v1::FollowLogRequest { source, backlog, position } = call.into_inner();
        let source = convert::log_source(source);
        let backlog = u64::try_from(backlog).unwrap_or(0);
        let mut follower =
            self.driver.ask_for(|reply| Request::Follow(reply, source, backlog)).await.map_err(refused)?;
        if let Some(position) = position {
            follower.go_to(convert::position(position));
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let begin =
            v1::LogChunk { data: Vec::new(), position: follower.position().map(convert::log_position) };
        // Ends when the client is gone, or the log: each step waits for one of the two.
        tokio::spawn(async move {
            if sender.send(Ok(begin)).await.is_err() {
                return;
            }
            loop {
                let next = tokio::select! {
                    next = follower.next() => next,
                    () = sender.closed() => return,
                };
                let chunk = match next {
                    Ok(Some(data)) => Ok(v1::LogChunk {
                        data: data.into(),
                        position: follower.position().map(convert::log_position),
                    }),
                    Ok(None) => return,
                    Err(error) => {
                        Err(Status::unavailable(format!("the log cannot be read any more: {error}")))
                    }
                };
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        Ok(self.stream(ReceiverStream::new(receiver)))
    }

    async fn clear_logs(&self, call: Call<v1::ClearLogsRequest>) -> Reply<Self::ClearLogsStream> {
        let names = few(call.into_inner().names)?;
        let results = self.driver.ask_for(|reply| Request::ClearLogs(reply, names)).await.map_err(refused)?;
        let results = results.into_iter().map(|result| Ok(convert::process_result(result)));
        Ok(Response::new(Box::pin(tokio_stream::iter(results.collect::<Vec<_>>()))))
    }

    async fn clear_daemon_log(&self, _: Call<v1::ClearDaemonLogRequest>) -> Reply<v1::ClearDaemonLogReply> {
        self.driver.ask_for(Request::ClearDaemonLog).await.map_err(refused)?;
        Ok(Response::new(v1::ClearDaemonLogReply {}))
    }

    async fn reopen_logs(&self, _: Call<v1::ReopenLogsRequest>) -> Reply<v1::ReopenLogsReply> {
        self.driver.ask(Request::ReopenLogs).await.map_err(Refusal::from).map_err(refused)?;
        Ok(Response::new(v1::ReopenLogsReply {}))
    }

    async fn write_stdin(&self, call: Call<v1::WriteStdinRequest>) -> Reply<v1::WriteStdinReply> {
        let v1::WriteStdinRequest { process, data } = call.into_inner();
        if data.len() > STDIN_LIMIT {
            return Err(Status::invalid_argument(format!(
                "{} bytes at once; at most {STDIN_LIMIT}",
                data.len()
            )));
        }
        self.driver.ask_for(|reply| Request::WriteStdin(reply, process, data)).await.map_err(refused)?;
        Ok(Response::new(v1::WriteStdinReply {}))
    }

    async fn stream_events(&self, call: Call<v1::StreamEventsRequest>) -> Reply<Self::StreamEventsStream> {
        let wanted = convert::event_types(&call.into_inner().types)?;
        let ask = self.driver.ask(|reply| Request::Events(reply, wanted));
        let subscription = ask.await.map_err(Refusal::from).map_err(refused)?;
        // Ends with the driver; a client that leaves drops it.
        let events = tokio_stream::wrappers::ReceiverStream::new(forward(subscription));
        Ok(self.stream(events))
    }

    async fn send_remote_event(
        &self,
        call: Call<v1::SendRemoteEventRequest>,
    ) -> Reply<v1::SendRemoteEventReply> {
        let v1::RemoteEvent { r#type, data } = call.into_inner().event.unwrap_or_default();
        let ask = self.driver.ask(|reply| Request::RemoteEvent(reply, r#type, data));
        ask.await.map_err(Refusal::from).map_err(refused)?;
        Ok(Response::new(v1::SendRemoteEventReply {}))
    }

    async fn shutdown(&self, _: Call<v1::ShutdownRequest>) -> Reply<v1::ShutdownReply> {
        self.driver.ask_for(Request::Shutdown).await.map_err(refused)?;
        Ok(Response::new(v1::ShutdownReply {}))
    }

    async fn upgrade(&self, call: Call<v1::UpgradeRequest>) -> Reply<v1::UpgradeReply> {
        let apply = call.into_inner().apply_configuration;
        let upgraded = self.driver.ask_for(|reply| Request::Upgrade(reply, apply)).await.map_err(refused)?;
        Ok(Response::new(convert::upgraded(upgraded)))
    }

    async fn reload(&self, _: Call<v1::ReloadRequest>) -> Reply<v1::ReloadReply> {
        self.driver.ask_for(Request::Reload).await.map_err(refused)?;
        Ok(Response::new(v1::ReloadReply {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurdly_many_names_are_refused() {
        assert_eq!(few(vec!["*".to_owned(); MOST_NAMES]).unwrap().len(), MOST_NAMES);
        let refusal = few(vec!["*".to_owned(); MOST_NAMES + 1]).unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
        assert_eq!(refusal.message(), "4097 names, expected at most 4096");
    }
}
