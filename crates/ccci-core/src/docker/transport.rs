//! HTTP to the daemon: ureq, over the daemon's socket.
//!
//! Every request has a connection of its own. One that is kept open could be the one on which a
//! restarted daemon no longer listens, and making one costs well under a millisecond.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Body, Error};

use super::{DockerError, Endpoint};

/// More than this is no list of Docker objects.
const LONGEST_ANSWER: u64 = 256 << 20;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// What asks the daemon at `endpoint`.
pub(super) fn agent(endpoint: &Endpoint) -> Agent {
    let config = Agent::config_builder()
        // A refusal's words are in its body.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .proxy(None)
        .build();
    match endpoint {
        Endpoint::Unix(path) => Agent::with_parts(config, SocketConnector { path: path.clone() }, NoResolver),
        Endpoint::Tcp(_) => Agent::with_parts(config, DefaultConnector::default(), crate::resolve::Addresses),
    }
}

fn url(endpoint: &Endpoint, path: &str) -> String {
    match endpoint {
        // The name only has to be one: the socket is the address.
        Endpoint::Unix(_) => format!("http://docker{path}"),
        Endpoint::Tcp(address) => format!("http://{address}{path}"),
    }
}

/// The newest API version that the daemon speaks.
pub(super) fn ping(agent: &Agent, endpoint: &Endpoint, timeout: Duration) -> Result<String, DockerError> {
    let answer = agent.get(url(endpoint, "/_ping")).config().timeout_global(Some(timeout)).build().call();
    let answer = answer.map_err(|error| no_answer(endpoint, "GET /_ping", error))?;
    let version = answer.headers().get("api-version").and_then(|value| value.to_str().ok());
    version.map(str::to_owned).ok_or_else(|| DockerError::Unexpected {
        request: "GET /_ping".to_owned(),
        why: "no Api-Version header: is this a Docker daemon?".to_owned(),
    })
}

/// The words of a refusal.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Sends a request and reads the whole answer.
pub(super) fn ask(
    agent: &Agent,
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Option<&Value>,
    timeout: Duration,
) -> Result<Vec<u8>, DockerError> {
    let request = format!("{} {path}", method.as_str());
    let url = url(endpoint, path);
    let sent = match method {
        Method::Get => agent.get(url).config().timeout_global(Some(timeout)).build().call(),
        Method::Delete => agent.delete(url).config().timeout_global(Some(timeout)).build().call(),
        Method::Post => agent
            .post(url)
            .config()
            .timeout_global(Some(timeout))
            .build()
            .header("content-type", "application/json")
            .send(body.map_or_else(String::new, Value::to_string)),
    };
    let mut answer = sent.map_err(|error| no_answer(endpoint, &request, error))?;
    let bytes = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
    let bytes = bytes.map_err(|error| no_answer(endpoint, &request, error))?;
    let status = answer.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(bytes);
    }
    let message = serde_json::from_slice::<Refusal>(&bytes)
        .map_or_else(|_| String::from_utf8_lossy(&bytes).trim().to_owned(), |refusal| refusal.message);
    Err(DockerError::Refused { request, status, message })
}

/// Opens an answer that has no end of its own, and that is given up after `at_most`.
pub(super) fn open(
    agent: &Agent,
    endpoint: &Endpoint,
    path: &str,
    answer_within: Duration,
    at_most: Duration,
) -> Result<Body, DockerError> {
    let request = format!("GET {path}");
    let sent = agent
        .get(url(endpoint, path))
        .config()
        .timeout_connect(Some(answer_within))
        .timeout_recv_response(Some(answer_within))
        .timeout_recv_body(Some(at_most))
        .build()
        .call();
    let answer = sent.map_err(|error| no_answer(endpoint, &request, error))?;
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        status => Err(DockerError::Refused { request, status, message: "no stream".to_owned() }),
    }
}

pub(super) fn no_answer(endpoint: &Endpoint, request: &str, error: Error) -> DockerError {
    DockerError::NoAnswer { address: endpoint.to_string(), request: request.to_owned(), source: error.into_io() }
}

/// The socket has no name to look up.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

#[derive(Debug)]
struct SocketConnector {
    path: PathBuf,
}

impl<In: Transport> Connector<In> for SocketConnector {
    type Out = SocketTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<In>) -> Result<Option<Self::Out>, Error> {
        let stream = connect(&self.path)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers }))
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path)
}

#[derive(Debug)]
struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| in_time(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Asked before a kept connection is used again, and none is kept.
        false
    }
}

/// The kernel calls a socket's timeout "would block".
fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::super::Docker;
    use super::*;

    /// A daemon that answers each request, a connection each, with the next of `answers`.
    fn answered<T>(answers: &[(u16, &str)], ask: impl FnOnce(Docker) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let docker = Docker::new(Endpoint::Tcp(listener.local_addr().unwrap().to_string()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (status, body) in answers {
                    let (mut peer, _) = listener.accept().unwrap();
                    let _request = peer.read(&mut [0; 4096]).unwrap();
                    let head =
                        format!("HTTP/1.1 {status} X\r\nApi-Version: 1.99\r\nContent-Length: {}\r\n\r\n", body.len());
                    peer.write_all(format!("{head}{body}").as_bytes()).unwrap();
                }
            });
            ask(docker)
        })
    }

    #[test]
    fn a_newer_daemon_is_asked_in_the_version_that_is_known() {
        let error = answered(&[(200, ""), (404, r#"{"message":"no such service"}"#)], |docker| docker.service("a b/c"));
        let error = error.unwrap_err();
        assert!(error.is_gone(), "{error}");
        assert_eq!(error.to_string(), "Docker refused `GET /v1.52/services/a%20b%2Fc`: no such service (status 404)");
    }

    #[test]
    fn an_answer_that_is_not_understood_names_the_request() {
        for answer in ["", "{}", "[{\"ID\":\"x\"}]", "<html>"] {
            let error = answered(&[(200, ""), (200, answer)], |docker| docker.services()).unwrap_err();
            assert!(error.to_string().contains("answer to `/services`"), "{error}");
        }
    }

    #[test]
    fn a_container_runs_when_docker_says_so_of_it_and_not_when_it_is_gone() {
        let runs = |answer: (u16, &str)| answered(&[(200, ""), answer], |docker| docker.runs("c"));
        assert!(runs((200, r#"{"State":{"Status":"running"}}"#)).unwrap());
        assert!(!runs((200, r#"{"State":{"Status":"exited"}}"#)).unwrap());
        assert!(!runs((404, r#"{"message":"No such container: c"}"#)).unwrap());
        runs((500, r#"{"message":"it broke"}"#)).unwrap_err();
    }

    #[test]
    fn a_swarm_that_cannot_list_is_not_an_empty_one() {
        let refused = (503, r#"{"message":"This node is not a swarm manager."}"#);
        let info = |state: &str| {
            format!(r#"{{"ServerVersion":"1","DockerRootDir":"/d","NCPU":1,"Swarm":{{"LocalNodeState":"{state}"}}}}"#)
        };
        for state in ["active", "locked", "pending", "error"] {
            let result = answered(&[(200, ""), refused, (200, &info(state))], |docker| docker.services());
            assert!(result.is_err(), "{state}");
        }
        let none = answered(&[(200, ""), refused, (200, &info("inactive"))], |docker| docker.services());
        assert_eq!(none.unwrap().len(), 0);
    }
}
