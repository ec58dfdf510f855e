//! Calls about logs: parts of them as text, and clearing them.
//!
//! A log may be large. It is read and written down piece by piece, and between two pieces everybody else has a turn.

use std::path::Path;

use super::{
    calls::Range,
    dispatch::{Dispatcher, selector_of_one},
    encode::Writer,
    fault::Fault,
};
use crate::{
    output::tail::{self, Part, ReadError, Tail},
    request::{LogSource, Reason, Request},
};

impl Dispatcher {
    /// The path of a log.
    async fn log(&self, source: LogSource) -> Result<std::path::PathBuf, Fault> {
        let (source, name) = match source {
            LogSource::Daemon => (LogSource::Daemon, String::new()),
            LogSource::Process(name, channel) => (LogSource::Process(selector_of_one(&name), channel), name),
        };
        let path = self.driver.ask_for(|reply| Request::Log(reply, source)).await;
        path.map_err(|refusal| match refusal.reason {
            Reason::NoFile => Fault::no_file(None),
            _ => Fault::refused(&refusal, &name),
        })
    }

    pub(super) async fn read(
        &self,
        source: LogSource,
        range: Range,
        writer: &mut Writer,
    ) -> Result<(), Fault> {
        let path = self.log(source).await?;
        if !path.exists() {
            return Err(Fault::no_file(Some(&path)));
        }
        let part = Part::range(&path, range.offset, range.length);
        let written = match part {
            Ok(mut part) => {
                self.make_room(part.left(), writer).await;
                copy(&mut part, writer).await
            }
            Err(error) => Err(error),
        };
        written.map_err(|error| read_fault(&path, &error))
    }

    pub(super) async fn tail(
        &self,
        source: LogSource,
        range: Range,
        writer: &mut Writer,
    ) -> Result<(), Fault> {
        let nothing = |new_offset| Tail { part: None, new_offset, overflow: false };
        // Supervisor's answer when it cannot read: the offset asked for.
        let unread = nothing(u64::try_from(range.offset).unwrap_or(0));
        let mut tail = match self.log(source).await {
            Ok(path) => tail::tail(&path, range.offset, range.length).ok(),
            Err(fault) if fault.code == Reason::NoFile as i64 => Some(nothing(0)),
            Err(fault) => return Err(fault),
        };
        if let Some(part) = tail.as_ref().and_then(|tail| tail.part.as_ref()) {
            self.make_room(part.left(), writer).await;
        }
        writer.begin_array();
        let before = writer.len();
        if let Some(part) = tail.as_mut().and_then(|tail| tail.part.as_mut())
            && copy(part, writer).await.is_err()
        {
            writer.truncate(before);
            tail = None;
        }
        let Tail { new_offset, overflow, .. } = tail.unwrap_or(unread);
        if writer.len() == before {
            writer.string("");
        }
        writer.int(i64::try_from(new_offset).unwrap_or(i64::MAX));
        writer.boolean(overflow);
        writer.end_array();
        Ok(())
    }

    pub(super) async fn clear(&self, name: &str, writer: &mut Writer) -> Result<(), Fault> {
        let names = vec![selector_of_one(name)];
        let results = self.driver.ask_for(|reply| Request::ClearLogs(reply, names)).await;
        let results = results.map_err(|refusal| Fault::refused(&refusal, name))?;
        match results.first().map(|result| result.reason) {
            Some(Reason::Ok) => writer.boolean(true),
            Some(reason) => return Err(Fault::of(reason, name)),
            None => return Err(Fault::bad_name(name)),
        }
        Ok(())
    }
}

/// Writes a part of a log as a string.
async fn copy(part: &mut Part, writer: &mut Writer) -> Result<(), ReadError> {
    writer.reserve(part.left());
    writer.begin_string();
    let mut cut = Vec::new();
    while let Some(piece) = part.next_piece()? {
        writer.piece(&mut cut, &piece);
        tokio::task::yield_now().await;
    }
    writer.end_string(&cut);
    Ok(())
}

/// Why a log is not read.
fn read_fault(path: &Path, error: &ReadError) -> Fault {
    match error {
        ReadError::BadArguments { .. } => Fault::bad_arguments(),
        ReadError::NoFile(_) => Fault::no_file(Some(path)),
        ReadError::TooLarge { .. } | ReadError::Io { .. } => Fault::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn others_have_their_turn_while_a_large_log_is_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        let mut writer = Writer::default();
        let mut part = Part::range(&path, 0, 0).unwrap();
        let mut turns = 0;
        {
            let mut copied = pin!(copy(&mut part, &mut writer));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            while copied.as_mut().poll(&mut context).is_pending() {
                turns += 1;
            }
        }
        assert_eq!(turns, 16);
        assert!(writer.len() > 1 << 20);
    }
}
