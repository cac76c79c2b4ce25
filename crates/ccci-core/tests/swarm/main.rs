//! The Docker half of what is promised, on a real Swarm.
//!
//! The tests start a Docker of their own (`tests/docker/up.sh`, as root), which ends with them. With
//! `CCCI_TEST_DOCKER` set to a daemon's address they use that one. Which of them fails without which
//! protection is tried by `tests/docker/weakened.sh`.

#![expect(clippy::print_stderr, reason = "a test's progress, shown when it fails")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

mod addresses;
mod asking;
mod lab;
mod removal;
mod unreachable;
