//! What a Docker daemon answers.

#![no_main]

use libfuzzer_sys::fuzz_target;

use ccci_core::docker::answers::{Container, Info, Network, Service, Task};

fuzz_target!(|bytes: &[u8]| {
    let _services = serde_json::from_slice::<Vec<Service>>(bytes);
    let _tasks = serde_json::from_slice::<Vec<Task>>(bytes);
    let _networks = serde_json::from_slice::<Vec<Network>>(bytes);
    let _containers = serde_json::from_slice::<Vec<Container>>(bytes);
    let _info = serde_json::from_slice::<Info>(bytes);
});
