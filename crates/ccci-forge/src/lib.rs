//! Services behind a token, asked by a run and by the bridge: a JSON service in general ([`remote`]), and of a
//! forge the part of the API that Gitea and Forgejo share ([`api`]).
//!
//! It decides nothing: what an answer means for a run or for a comment is its caller's to say.

pub mod api;
pub mod remote;
