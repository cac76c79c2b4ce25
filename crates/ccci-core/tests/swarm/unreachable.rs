//! A daemon that cannot be asked is an error, and a host without one is none.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use ccci_core::docker::{Docker, Endpoint};
use ccci_core::lifetime::clock::{Deadline, since_boot};
use ccci_core::substrate::swarm::Swarm;
use ccci_core::substrate::{Substrate, SubstrateError};

use super::lab::{App, PATIENCE, cli, start};

fn is_unreadable<T: std::fmt::Debug>(result: Result<T, SubstrateError>) -> String {
    match result {
        Err(error @ SubstrateError::Unreadable { .. }) => error.to_string(),
        other => panic!("should be unreadable: {other:?}"),
    }
}

#[test]
fn a_daemon_that_is_not_there_or_silent_is_an_error_and_never_an_empty_list() {
    let app = App::new("unreachable");
    let dir = tempfile::tempdir().unwrap();
    let missing = Endpoint::Unix(dir.path().join("missing.sock"));
    let silent = dir.path().join("silent.sock");
    // Takes connections and says nothing, like a daemon that hangs.
    let _listener = UnixListener::bind(&silent).unwrap();
    app.write_env();
    for endpoint in [missing, Endpoint::Unix(silent), Endpoint::Tcp("127.0.0.1:1".to_owned())] {
        let begun = since_boot();
        let docker = || Docker::new(endpoint.clone()).answer_within(Duration::from_secs(1));
        let swarm = Swarm::new(docker(), &app.places);
        let error = is_unreadable(swarm.apps(&app.base));
        assert!(error.contains(&endpoint.to_string()), "{error}");
        is_unreadable(swarm.objects(&app.domain));
        assert!(docker().services().is_err() && docker().volumes().is_err());
        let receipt = app.take_down_by(Box::new(Swarm::new(docker(), &app.places)), Duration::from_secs(5));
        assert!(!receipt.is_clean() && !receipt.residue.is_empty(), "{receipt:#?}");
        assert!(since_boot() - begun < Duration::from_secs(30), "{endpoint} took too long");
    }
    // What the daemon could have hidden was not touched.
    assert!(app.take_down(PATIENCE).removed.iter().any(|removed| removed.object.name.ends_with(".env")));
}

#[test]
fn a_daemon_that_stops_in_the_middle_of_a_wait_ends_it_with_an_error() {
    // A peer that answers the first line of a stream and then goes.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::{Read as _, Write as _};
            for answer in [
                "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            ] {
                let (mut peer, _) = listener.accept().unwrap();
                let _request = peer.read(&mut [0; 4096]).unwrap();
                peer.write_all(answer.as_bytes()).unwrap();
            }
        });
        let docker = Docker::new(Endpoint::Unix(path.clone()));
        docker.wait_for_change(&[ccci_core::docker::events::Event::Container], jiff::Timestamp::now(), PATIENCE)
    });
    assert!(peer.is_err(), "{peer:?}");
}

#[test]
fn a_docker_without_swarm_has_no_services_and_still_its_volumes() {
    let app = App::on(Docker::new(start()), "noswarm", "ci.x");
    cli(&app.docker, &["swarm", "leave", "--force"]);
    assert!(!app.docker.info().unwrap().swarm.may_exist());
    cli(&app.docker, &["volume", "create", &format!("{}_data", app.stack)]);
    assert!(app.swarm().apps(&app.base).unwrap().contains(&app.domain));
    let until = Deadline::after(PATIENCE);
    assert!(app.take_down(PATIENCE).is_clean() && !until.passed());
    assert!(app.swarm().apps(&app.base).unwrap().is_empty());
}
