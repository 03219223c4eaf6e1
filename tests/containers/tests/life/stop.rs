//! `docker stop`: the entry is gone before the container is, and the exit status is the worker's.

use std::time::Duration;

use pilotlight_containers::{Plan, Sighting, Watch};

use crate::{PATIENCE, Scene, note};

/// How often the container is stopped, and by how many at a time: each leaves the cluster for seconds.
const LANES: u32 = 4;
const STOPS_PER_LANE: u32 = 5;

#[test]
fn twenty_of_twenty_times_the_entry_is_gone_before_the_container_has_exited() {
    let scene = Scene::new("unused");
    std::thread::scope(|scope| {
        for lane in 1..=LANES {
            let scene = &scene;
            scope.spawn(move || stop_repeatedly(scene, lane));
        }
    });
}

fn stop_repeatedly(scene: &Scene, lane: u32) {
    let service = format!("ner-{lane}");
    let watch = Watch::new(&scene.servers.api(), &service).unwrap();
    for round in 1..=STOPS_PER_LANE {
        let plan = Plan::new(&format!("instance-{lane}-{round}"), &service).unwrap();
        let instance = pilotlight_containers::Instance::start(&scene.lab, &plan).unwrap();
        let started = instance.started_at().unwrap();
        watch.first(started, PATIENCE, "passing", Sighting::has_passing).unwrap();

        let stopped = instance.stop().unwrap();
        let gone = watch.first(stopped.asked_at, Duration::from_secs(5), "gone", Sighting::is_empty).unwrap();
        let ahead = stopped.exited_at.duration_since(gone.at);
        assert!(ahead.is_ok(), "lane {lane}, stop {round}: the entry outlived the container: {ahead:?}");
        assert_eq!(stopped.status, 0, "lane {lane}, stop {round}: the worker ended on our TERM");
        note(
            &format!("stop {lane}.{round}: asked → entry gone"),
            gone.at.duration_since(stopped.asked_at).unwrap(),
        );
        note(&format!("stop {lane}.{round}: entry gone → exit"), ahead.unwrap());
        // And it stays gone: an agent that leaves may bring its services back.
        let after = watch.since(gone.at);
        assert!(after.iter().all(Sighting::is_empty), "lane {lane}, stop {round}: it came back: {after:?}");
    }
}

#[test]
fn the_exit_status_is_the_workers() {
    let scene = Scene::new("ner");
    let worker = "model-runtime serve --model /models & trap 'kill $!; wait $!; exit 7' TERM; wait";
    let plan = Plan::new("instance", "ner").unwrap().command(&["--", "bash", "-c", worker]);
    let instance = scene.passing(&plan);

    let stopped = instance.stop().unwrap();
    assert_eq!(stopped.status, 7);
    let gone = scene.watch.first(stopped.asked_at, PATIENCE, "gone", Sighting::is_empty).unwrap();
    assert!(gone.at < stopped.exited_at, "the entry outlived the container");
}
