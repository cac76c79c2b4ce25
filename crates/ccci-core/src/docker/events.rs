//! Waiting for Docker to change something, instead of sleeping.

use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{Docker, DockerError, escape, transport};

/// A kind of event that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A container started, died or went.
    Container,
    /// A service was made, changed or removed.
    Service,
}

impl Event {
    const fn kind(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Service => "service",
        }
    }
}

impl Docker {
    /// Waits until something of `kinds` has happened since `since`, but not longer than `at_most`.
    ///
    /// Take `since` *before* looking: what happens between the look and this call ends it at once.
    /// Swarm announces nothing about a task without a container, so look again also when nothing
    /// happened.
    ///
    /// # Errors
    /// [`DockerError`].
    pub fn wait_for_change(&self, kinds: &[Event], since: Timestamp, at_most: Duration) -> Result<bool, DockerError> {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.kind()).collect();
        let actions = ["create", "start", "die", "destroy", "update", "remove", "health_status"];
        let filters = json!({"type": kinds, "event": actions}).to_string();
        let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
        let path = format!("/v1.{}/events?since={since}&filters={}", self.api()?, escape(&filters));
        let body = transport::open(&self.agent, &self.endpoint, &path, self.answer_within, at_most)?;
        let mut line = String::new();
        match BufReader::new(body.into_reader()).read_line(&mut line) {
            Ok(0) => Err(self.stream_ended(&path, io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(self.stream_ended(&path, error)),
        }
    }

    /// A daemon that stops says nothing more.
    fn stream_ended(&self, path: &str, source: io::Error) -> DockerError {
        DockerError::NoAnswer { address: self.endpoint.to_string(), request: format!("GET {path}"), source }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}
