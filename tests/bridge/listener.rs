//! The listener for webhooks under clients that mean harm. What happens is put in order by what is answered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use ccci_tests::forge::{Forge, MEMBER, secret};
use ccci_tests::host::{self, Host};
use ccci_tests::step::Step;
use hmac::{Hmac, KeyInit as _, Mac as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sha2::Sha256;

use crate::{NEVER, bridge, built, enlist, looks, pid_of, stop, two_looks};

const HOOK: &str = "a-webhook-secret";
const BODY: &str = "{\"action\":\"created\"}";

/// A bridge that listens for webhooks too: its step, its pid and where it listens.
fn listening<'host>(host: &'host Host, forge: &Forge, every: &str, under: &[&str]) -> (Step<'host>, i32, String) {
    let hook = secret(host, "hook", HOOK);
    let webhook = format!("[bridge.webhook]\nlisten = \"127.0.0.1:0\"\nsecret_file = \"{}\"", hook.display());
    enlist(host, forge, every, &webhook);
    let step = bridge(host).under(under).start();
    let pid = pid_of(host, &step);
    let said =
        || step.err().lines().find_map(|line| line.strip_prefix("listening for webhooks on ")).map(str::to_owned);
    let address = host::until("the bridge listens", said);
    forge.until("the bridge watches", |state| (looks(state) >= 2).then_some(()));
    host::until("the bridge watches", || step.err().contains("watching for").then_some(()));
    (step, pid, address)
}

/// A good message is answered, and makes the bridge look: the one comment that waits for it is tested.
fn serves(forge: &Forge, address: &str) {
    let before = forge.state().builds.len();
    forge.comment(12, MEMBER, "!testme");
    assert_eq!(post(address, BODY, Some(&sign(BODY, HOOK))), 204);
    built(forge, before + 1);
}

#[test]
fn only_a_signed_webhook_makes_it_look_at_once() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    forge.comment(12, MEMBER, "!testme");

    let unsigned = sign(BODY, "another secret");
    assert_eq!(post(&address, BODY, Some(&unsigned)), 401);
    assert_eq!(post(&address, BODY, None), 401);
    assert_eq!(post(&address, "another body", Some(&sign(BODY, HOOK))), 401);
    assert_eq!(forge.state().builds.len(), 0);
    let seen = looks(&forge.state());
    assert_eq!(post(&address, BODY, Some(&sign(BODY, HOOK))), 204);
    built(&forge, 1);
    // The first look, which finds out where to begin, is followed by none of its own.
    assert!(seen <= 3, "nothing unsigned is listened to: {seen} looks");
    let log = stop(step, pid);
    assert!(!log.contains(HOOK), "{log}");
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    let status = |head: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        status_of(&mut stream)
    };
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
    assert_eq!(status(&post("Content-Length: 99999999999")), 413);
    assert_eq!(status(&post("Content-Length: 9999999999999999999999999")), 400);
    assert_eq!(status(&post("Transfer-Encoding: chunked")), 411);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(status(&format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(100_000))), 431);
    assert_eq!(status(&post(&format!("{}Y: y", "X: x\r\n".repeat(200)))), 431);
    serves(&forge, &address);
    let _log = stop(step, pid);
}

#[test]
fn clients_that_never_end_their_message_hold_up_nobody_and_are_ended() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    let slow = |text: &str| {
        let mut slow = TcpStream::connect(&address).unwrap();
        slow.write_all(text.as_bytes()).unwrap();
        slow
    };
    let mut head = slow("POST / HTTP/1.1\r\nHost: x\r\n");
    let mut body = slow("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{");
    let silent: Vec<_> = (0..40).map(|_| slow("POST / HT")).collect();
    serves(&forge, &address);
    // Both are ended by the bridge, not by us: else this would not return.
    for slow in [&mut head, &mut body] {
        let _whatever_it_said = slow.read_to_end(&mut Vec::new());
    }
    serves(&forge, &address);
    drop(silent);
    let _log = stop(step, pid);
}

#[test]
fn a_thousand_idle_connections_leave_room_for_a_good_one() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(4096).min(hard), hard).unwrap();
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    let idle: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(&address).unwrap()).collect();
    serves(&forge, &address);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open < 200, "{open} files are open");
    drop(idle);
    serves(&forge, &address);
    let _log = stop(step, pid);
}

#[test]
fn a_bridge_without_files_left_serves_on() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &["prlimit", "--nofile=32"]);
    let idle: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!(post(&address, BODY, Some(&sign(BODY, HOOK))), 204);
    drop(idle);
    serves(&forge, &address);
    let _log = stop(step, pid);
}

#[test]
fn a_flood_of_bad_signatures_is_one_line_in_the_log() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    let body = "x".repeat(100_000);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(post(&address, &body, Some(&sign(BODY, "guessed"))), 401);
                }
            });
        }
        scope.spawn(|| serves(&forge, &address));
    });
    serves(&forge, &address);
    let log = stop(step, pid);
    // The good one between them begins the count anew.
    assert!((1..=2).contains(&log.matches("without a good signature").count()), "{log}");
}

#[test]
fn both_events_that_a_comment_can_be_are_heard_and_none_is_believed() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, NEVER, &[]);
    for event in ["pull_request_comment", "issue_comment"] {
        let before = forge.state().builds.len();
        forge.comment(12, MEMBER, "!testme");
        let event = format!(
            "X-Gitea-Event: issue_comment\r\nX-Gitea-Event-Type: {event}\r\nContent-Type: application/json\r\n"
        );
        assert_eq!(send(&address, BODY, &format!("{event}X-Hub-Signature-256: sha256={}\r\n", sign(BODY, HOOK))), 204);
        built(&forge, before + 1);
    }
    // What a message says is done is asked of the forge: there is no such comment.
    let lie = "{\"action\":\"created\",\"comment\":{\"id\":77,\"body\":\"!testme\",\"user\":{\"login\":\"mallory\"}}}";
    let seen = looks(&forge.state());
    assert_eq!(post(&address, lie, Some(&sign(lie, HOOK))), 204);
    forge.until("the bridge looks", |state| (looks(state) > seen).then_some(()));
    let _log = stop(step, pid);
    assert_eq!(forge.state().builds.len(), 2);
}

#[test]
fn a_client_that_never_ends_its_message_does_not_keep_it_from_ending() {
    let host = Host::new();
    let forge = Forge::new();
    let (step, pid, address) = listening(&host, &forge, "20ms", &[]);
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{").unwrap();
    two_looks(&forge);
    forge.comment(12, MEMBER, "!testme");
    built(&forge, 1);
    let _log = stop(step, pid);
}

fn sign(body: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts a webhook; the status that it is answered with.
fn post(address: &str, body: &str, signature: Option<&str>) -> u16 {
    let signature = signature.map(|signature| format!("X-Gitea-Signature: {signature}\r\n")).unwrap_or_default();
    send(address, body, &signature)
}

fn send(address: &str, body: &str, fields: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    status_of(&mut stream)
}

fn status_of(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    // Who is refused before all was read may be hung up on after the answer.
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}
