//! A worker that dies, an agent that dies.

use std::time::Duration;

use pilotlight_containers::{Plan, Sighting, post};

use crate::{PATIENCE, REQUEST, Scene, note};

/// Far below the ten seconds of the check's interval, far above the milliseconds it takes: the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long a state must last to count as one and not as a passing moment.
const STEADY: Duration = Duration::from_secs(2);

#[test]
fn a_killed_worker_leaves_rotation_at_once_and_comes_back() {
    let scene = Scene::new("ner");
    let instance = scene.passing(&Plan::new("instance", "ner").unwrap());

    for round in 1..=3 {
        let killed = instance.kill("model-runtime").unwrap();
        let out = scene.watch.first(killed, AT_ONCE, "out of passing", |seen| !seen.has_passing()).unwrap();
        note(&format!("{round}. worker killed → out of passing"), out.at.duration_since(killed).unwrap());
        assert!(!out.is_empty(), "it stays in the catalog while the worker is restarted");
        let back = scene.watch.first(out.at, PATIENCE, "passing again", Sighting::has_passing).unwrap();
        note(&format!("{round}. worker killed → passing again"), back.at.duration_since(killed).unwrap());
        // In rotation means: it really answers.
        let reply = post(&instance.worker(), "/predict", REQUEST, PATIENCE).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(instance.container().inspect("{{.RestartCount}} {{.State.Running}}").unwrap(), "0 true");
}

#[test]
fn a_killed_agent_comes_back_and_the_instance_never_leaves_the_passing_set() {
    let scene = Scene::new("ner");
    let instance = scene.passing(&Plan::new("instance", "ner").unwrap());
    let before = instance.pids("consul").unwrap();

    let killed = instance.kill("consul").unwrap();
    wait_for_new_agent(&instance, &before);
    let steady = scene.watch.steady(killed, STEADY, PATIENCE, "passing", Sighting::has_passing).unwrap();
    note("agent killed → passing for good", steady.at.duration_since(killed).unwrap_or_default());
    assert_eq!(steady.entries.len(), 1, "no second entry: {:?}", steady.entries);
    let since = scene.watch.since(killed);
    assert!(since.iter().all(Sighting::has_passing), "it left the passing set: {since:?}");
    let (status, text) = instance.container().exec(&["supervisor", "status"]).unwrap();
    assert_eq!(status, 0, "`status` agrees with the catalog: {text}");

    // The new agent speaks for the instance: what happens to the worker is in the catalog at once.
    let killed = instance.kill("model-runtime").unwrap();
    let out = scene.watch.first(killed, AT_ONCE, "out of passing", |seen| !seen.has_passing()).unwrap();
    note("after the agent's restart: worker killed → out of passing", out.at.duration_since(killed).unwrap());
    scene.watch.first(out.at, PATIENCE, "passing again", Sighting::has_passing).unwrap();

    // And takes its leave for it.
    let stopped = instance.stop().unwrap();
    let gone = scene.watch.first(stopped.asked_at, PATIENCE, "gone", Sighting::is_empty).unwrap();
    assert!(gone.at < stopped.exited_at, "the entry outlived the container");
}

fn wait_for_new_agent(instance: &pilotlight_containers::Instance, before: &[u32]) {
    let give_up_at = std::time::Instant::now() + PATIENCE;
    loop {
        let now = instance.pids("consul").unwrap();
        if now.len() == 1 && now != before {
            return;
        }
        assert!(std::time::Instant::now() < give_up_at, "no new agent: was {before:?}, is {now:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
