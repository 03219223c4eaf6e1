//! From the container's start to an instance that answers and says how it is.

use std::time::{Duration, SystemTime};

use pilotlight_containers::{Instance, Lab, Plan, Servers, Sighting, Watch, get, post};

use crate::{PATIENCE, REQUEST, Scene, note};

#[test]
fn an_instance_is_found_answers_and_says_how_it_is() {
    let scene = Scene::new("ner");
    let plan = Plan::new("instance", "ner").unwrap();
    let instance = Instance::start(&scene.lab, &plan).unwrap();
    let started = instance.started_at().unwrap();
    let sighting = scene.watch.first(started, PATIENCE, "passing", Sighting::has_passing).unwrap();
    note("container start → passing", sighting.at.duration_since(started).unwrap());

    let [entry] = &sighting.entries[..] else { panic!("one entry expected: {:?}", sighting.entries) };
    assert_eq!(entry.address, instance.container().address(), "clients are sent to the container's address");
    assert_eq!(entry.node, "instance", "the node is named after the host");

    // The answer to a real sentence, first as the network sees it, then from a container beside it.
    let reply = post(&instance.worker(), "/predict", REQUEST, PATIENCE).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let found: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
    let names: Vec<_> = found
        .iter()
        .take(2)
        .map(|entity| (&entity["entity_group"], &entity["start"], &entity["end"]))
        .collect();
    let expected =
        [(&"GIVEN_NAME".into(), &11.into(), &16.into()), (&"SURNAME".into(), &17.into(), &24.into())];
    assert_eq!(names, expected, "Sarah Johnson is recognised: {}", reply.body);
    assert_eq!(predict_from_another_container(&scene.lab, "instance").trim_end(), reply.body.trim_end());

    let (status, text) = instance.container().exec(&["supervisor", "status"]).unwrap();
    assert_eq!(status, 0, "`supervisor status` exits 0 while passing: {text}");
    assert!(text.to_lowercase().contains("passing"), "and says so: {text}");
    let (status, json) = instance.container().exec(&["supervisor", "status", "--json"]).unwrap();
    assert_eq!(status, 0, "{json}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    let (status, text) = instance.container().exec(&["supervisor", "health"]).unwrap();
    assert_eq!((status, text.lines().count()), (0, 1), "one line and 0: {text}");
    wait_for_engine_to_call_it_healthy(&instance);
}

#[test]
fn the_container_gives_nothing_away() {
    let scene = Scene::new("ner");
    let instance = scene.passing(&Plan::new("instance", "ner").unwrap());

    let (_, uid) = instance.container().exec(&["id", "-u"]).unwrap();
    assert_eq!(uid, "10001", "it does not run as root");
    let (status, _) = instance.container().exec(&["touch", "/written"]).unwrap();
    assert_ne!(status, 0, "the root is read-only in this test");
    let api = format!("{}:8500", instance.container().address());
    let open = get(&api, "/v1/agent/self", Duration::from_secs(5));
    assert!(open.is_err(), "the agent's API is open to the network: {open:?}");
}

#[test]
fn an_instance_waits_for_servers_that_are_late() {
    let lab = Lab::new().unwrap();
    let instance = Instance::start(&lab, &Plan::new("instance", "ner").unwrap()).unwrap();
    // The worker does not wait for the agent: it serves although nobody can find it.
    wait_for_worker(&instance);
    let (status, text) = instance.container().exec(&["supervisor", "status"]).unwrap();
    assert_eq!(status, 1, "`supervisor status` exits 1 while not passing: {text}");

    let servers = Servers::start(&lab).unwrap();
    let there = SystemTime::now();
    let watch = Watch::new(&servers.api(), "ner").unwrap();
    let sighting = watch.first(there, PATIENCE, "passing", Sighting::has_passing).unwrap();
    note("servers there → passing", sighting.at.duration_since(there).unwrap_or_default());
    assert_eq!(instance.container().inspect("{{.RestartCount}} {{.State.Running}}").unwrap(), "0 true");
}

fn wait_for_worker(instance: &Instance) {
    let give_up_at = std::time::Instant::now() + PATIENCE;
    while !get(&instance.worker(), "/readyz", PATIENCE).is_ok_and(|reply| reply.status == 200) {
        assert!(std::time::Instant::now() < give_up_at, "the worker is not ready after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends the request with nothing but a shell: the images have no HTTP client.
fn predict_from_another_container(lab: &Lab, host: &str) -> String {
    let script = format!(
        "exec 3<> /dev/tcp/{host}/8000; printf 'POST /predict HTTP/1.0\\r\\nHost: {host}\\r\\n\
         Content-Type: application/json\\r\\nContent-Length: {}\\r\\n\\r\\n%s' '{REQUEST}' >&3; cat <&3",
        REQUEST.len()
    );
    let client = lab
        .start(
            "client",
            &["--entrypoint=bash".to_owned()],
            "pilotlight-local/consul",
            &["-c".to_owned(), script],
        )
        .unwrap();
    pilotlight_containers::docker(&["wait", client.id()]).unwrap();
    let text = pilotlight_containers::docker(&["logs", client.id()]).unwrap();
    text.replace("\r\n", "\n").split_once("\n\n").expect("an HTTP reply").1.to_owned()
}

/// The image's HEALTHCHECK, which the engine runs every ten seconds.
fn wait_for_engine_to_call_it_healthy(instance: &Instance) {
    let give_up_at = std::time::Instant::now() + PATIENCE;
    loop {
        let health = instance.container().inspect("{{.State.Health.Status}}").unwrap();
        if health == "healthy" {
            return;
        }
        assert!(std::time::Instant::now() < give_up_at, "the engine calls the container {health}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
