//! A host's addresses by its name, in bounded time.
//!
//! The resolver of the C library cannot be given a limit, so it is asked in a thread, which may outlive the
//! question. ureq's own does the same and panics where the host has no thread left: a run that was green ended
//! with 101 (incident `[no-fork]`). Here that is an error like any other that happens before anything was sent.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// As many addresses as ureq keeps.
const MOST: usize = 16;

/// The resolver.
#[derive(Debug, Default)]
pub struct Addresses;

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => look_up(host.to_owned(), port, &timeout)?,
        };
        let mut wanted = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(MOST) {
            wanted.push(address);
        }
        if wanted.is_empty() { Err(Error::HostNotFound) } else { Ok(wanted) }
    }
}

fn look_up(host: String, port: u16, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    let (tell, told) = sync_channel(1);
    let ask = move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody listens when the time is over.
        let _late = tell.send(found);
    };
    #[expect(clippy::disallowed_methods, reason = "it waits for the C library's resolver, and starts no process")]
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(ask)
        .map_err(|error| Error::Io(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
    match told.recv_timeout(*timeout.after) {
        Ok(found) => found.map_err(|_| Error::HostNotFound),
        Err(RecvTimeoutError::Timeout) => Err(Error::Timeout(ureq::Timeout::Resolve)),
        Err(RecvTimeoutError::Disconnected) => Err(Error::HostNotFound),
    }
}
