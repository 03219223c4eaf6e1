//! GPUs as a stand-in for NVML has them, and what becomes of them in `status` and in the catalog.

mod harness;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::scrape::{address, metrics, value};
use harness::{STUB_WORKER, Server, Setup, Supervisor, free_port, pid_of, signal, wait_for};
use serde_json::{Value, json};

/// Two healthy ones.
const A: &str =
    "gpu uuid=GPU-aa;name=NVIDIA A100;total=1000;free=900;reserved=20;temperature=40;utilization=7;ecc=0\n";
const B: &str = "gpu uuid=GPU-bb;name=NVIDIA A100;total=1000;free=800;temperature=41;utilization=0;ecc=0\n";

/// The library that Cargo builds beside the test programs.
fn stand_in() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    let library = program.parent().expect("a folder").join("libnvml_stand_in.so");
    assert!(library.is_file(), "{} is built with the tests, as a dependency of theirs", library.display());
    library
}

/// An instance with these GPUs, that looks at them often.
fn setup(serf: u16, story: &str) -> Setup {
    let setup = Setup::joining(serf, &[]);
    let file = setup.dir.path().join("gpus");
    std::fs::write(&file, story).expect("written");
    std::os::unix::fs::symlink(stand_in(), setup.dir.path().join("libnvidia-ml.so.1")).expect("linked");
    setup
        .variable("NVML_STAND_IN", &file.display().to_string())
        .option("gpu-interval", "50ms")
        .option("gpu-stale-after", "10s")
}

/// The same without Consul servers: the status says how the GPUs are all the same.
fn alone(story: &str) -> Setup {
    setup(free_port(), story)
}

fn tell(supervisor: &Supervisor, story: &str) {
    std::fs::write(supervisor.path("gpus.new"), story).expect("written");
    std::fs::rename(supervisor.path("gpus.new"), supervisor.path("gpus")).expect("renamed");
}

/// Waits until the GPUs have these levels and the first of them has this note.
fn wait_for_gpus(supervisor: &Supervisor, levels: &[&str], note: &str) -> Value {
    supervisor.wait_for_status(&format!("GPUs that are {levels:?}: {note:?}"), |status| {
        let gpus = status["gpus"].as_array().cloned().unwrap_or_default();
        let seen: Vec<&str> = gpus.iter().filter_map(|gpu| gpu["level"].as_str()).collect();
        seen == levels && gpus.first().is_none_or(|gpu| gpu["note"] == note)
    })
}

fn uuids(status: &Value) -> Vec<&str> {
    let gpus = status["gpus"].as_array().map(Vec::as_slice).unwrap_or_default();
    gpus.iter().filter_map(|gpu| gpu["uuid"].as_str()).collect()
}

fn check(server: &Server) -> Option<(String, String)> {
    let checks = server.checks("demo").into_iter();
    checks.filter(|(id, ..)| id == "supervisor").map(|(_, status, output)| (status, output)).next()
}

fn wait_for_check(server: &Server, status: &str, output: &str) {
    let expected = Some((status.to_owned(), output.to_owned()));
    wait_for(&format!("the check to be {status}: {output}"), || (check(server) == expected).then_some(()));
}

#[test]
fn healthy_gpus_are_in_the_entry_and_in_the_status_with_their_figures() {
    let server = Server::start();
    let supervisor = setup(server.serf, &format!("{A}{B}")).variable("PYTORCH_VERSION", "2.6.0").start();
    server.wait_for_instances("demo", (1, 1));
    let status = supervisor.wait_for_phase("passing");
    let entry = &server.get("/v1/catalog/service/demo").expect("entry")[0];
    assert_eq!(entry["ServiceTags"], json!(["gpu"]));
    let meta = &entry["ServiceMeta"];
    assert_eq!(
        (&meta["device"], &meta["gpu_count"], &meta["pytorch_version"]),
        (&json!("NVIDIA A100"), &json!("2"), &json!("2.6.0"))
    );
    assert_eq!(meta["config_version"].as_str().map(str::len), Some(12), "{meta}");
    assert_eq!(status["registration"]["tags"], json!(["gpu"]));
    let first = json!({
        "index": 0, "uuid": "GPU-aa", "name": "NVIDIA A100", "memory_used_bytes": 100, "memory_total_bytes": 1000,
        "memory_used_percent": 10.0, "temperature_celsius": 40, "utilization_percent": 7, "ecc_uncorrected": 0,
        "level": "passing", "note": "",
    });
    assert_eq!(status["gpus"][0], first, "what the driver keeps for itself counts as used");
    assert_eq!(uuids(&status), ["GPU-aa", "GPU-bb"]);
    let text = String::from_utf8(supervisor.cli(&["status"]).stdout).expect("UTF-8");
    assert!(text.contains("\ngpu 0         passing\n"), "{text}");
    assert!(text.contains("memory 10 % of 0.0 GiB, busy 7 %, 40 °C, uncorrected ECC errors 0\n"), "{text}");
    assert!(text.contains("\n  device      NVIDIA A100, GPU-bb\n"), "{text}");
}

#[test]
fn the_metrics_have_each_gpus_figures_and_no_series_for_one_that_it_has_not() {
    let few = "gpu uuid=GPU-gb;name=NVIDIA GB10;temperature=50\n";
    let supervisor = alone(&format!("{A}{few}")).option("metrics-addr", "127.0.0.1:0").start();
    wait_for_gpus(&supervisor, &["passing", "passing"], "");
    let text = metrics(address(&supervisor));
    for (name, figure) in [
        ("healthy", 1.0),
        ("memory_used_bytes", 100.0),
        ("memory_total_bytes", 1000.0),
        ("utilization_ratio", 0.07),
        ("temperature_celsius", 40.0),
        ("ecc_uncorrected_errors", 0.0),
    ] {
        let series = format!(r#"supervisor_gpu_{name}{{gpu="0",uuid="GPU-aa"}}"#);
        assert_eq!(value(&text, &series), Some(figure), "{series} in {text}");
    }
    assert_eq!(value(&text, r#"supervisor_gpu_temperature_celsius{gpu="1",uuid="GPU-gb"}"#), Some(50.0));
    assert_eq!(text.matches("GPU-gb").count(), 2, "healthy, and a temperature: {text}");
    tell(&supervisor, &format!("{}{few}", A.replace("ecc=0", "ecc=3")));
    wait_for_gpus(&supervisor, &["critical", "passing"], "3 uncorrected ECC errors");
    let text = metrics(address(&supervisor));
    assert_eq!(value(&text, r#"supervisor_gpu_healthy{gpu="0",uuid="GPU-aa"}"#), Some(0.0));
}

#[test]
fn a_gpu_that_is_nearly_full_is_a_warning_in_the_catalog_and_comes_back() {
    let server = Server::start();
    let supervisor = setup(server.serf, A).start();
    server.wait_for_instances("demo", (1, 1));
    tell(&supervisor, &A.replace("free=900", "free=40"));
    wait_for_check(&server, "warning", "GPU 0: memory above 95 %");
    server.wait_for_instances("demo", (1, 0));
    let status = supervisor.wait_for_phase("degraded");
    assert_eq!(status["reason"], "GPU 0: memory above 95 %");
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(0), "degraded, and not to be killed for it");
    // Below the limit is not yet well.
    tell(&supervisor, &A.replace("free=900", "free=60"));
    supervisor.wait_for_status("the next reading", |status| status["gpus"][0]["memory_used_bytes"] == 940);
    assert_eq!(supervisor.status().expect("status")["gpus"][0]["level"], "warning");
    tell(&supervisor, A);
    server.wait_for_instances("demo", (1, 1));
    supervisor.wait_for_phase("passing");
}

#[test]
fn a_fatal_xid_takes_the_instance_out_of_the_catalogs_passing_set_and_an_applications_own_fault_does_not() {
    let server = Server::start();
    let supervisor = setup(server.serf, &format!("{A}{B}")).start();
    supervisor.wait_for_phase("passing");
    let fault = format!("{A}{B}xid gpu=GPU-aa;number=31\n");
    tell(&supervisor, &fault);
    let status = supervisor.wait_for_status("the fault", |status| status["gpus"][0]["last_xid"] == 31);
    assert_eq!((&status["gpus"][0]["level"], &status["phase"]), (&json!("passing"), &json!("passing")));
    tell(&supervisor, &format!("{fault}xid gpu=GPU-bb;number=79\n"));
    wait_for_check(&server, "critical", "GPU 1: Xid 79: it must be reset");
    server.wait_for_instances("demo", (1, 0));
    let status = wait_for_gpus(&supervisor, &["passing", "critical"], "");
    assert_eq!(status["gpus"][1]["last_xid"], 79);
    assert!(supervisor.log().contains("the driver reported an Xid error"), "{}", supervisor.log());
}

#[test]
fn ecc_errors_and_heat_are_critical_and_end_with_their_cause() {
    let supervisor =
        alone(A).option("gpu-temperature-warning", "80").option("gpu-temperature-critical", "90").start();
    wait_for_gpus(&supervisor, &["passing"], "");
    tell(&supervisor, &A.replace("ecc=0", "ecc=2"));
    let status = wait_for_gpus(&supervisor, &["critical"], "2 uncorrected ECC errors");
    assert!(
        status["reason"].as_str().unwrap_or_default().contains("GPU 0: 2 uncorrected ECC errors"),
        "{status}"
    );
    tell(&supervisor, &A.replace("temperature=40", "temperature=85"));
    wait_for_gpus(&supervisor, &["warning"], "temperature reached 80 °C");
    tell(&supervisor, &A.replace("temperature=40", "temperature=90"));
    wait_for_gpus(&supervisor, &["critical"], "temperature reached 90 °C");
    tell(&supervisor, A);
    wait_for_gpus(&supervisor, &["passing"], "");
}

#[test]
fn a_lost_gpu_is_critical_while_the_others_are_read_on_and_comes_back_after_its_reset() {
    let supervisor = alone(&format!("{A}{B}")).start();
    wait_for_gpus(&supervisor, &["passing", "passing"], "");
    // NVML_ERROR_GPU_IS_LOST
    let lost = A.replace('\n', ";error=15;handle=15\n");
    tell(&supervisor, &format!("{lost}{B}"));
    let note = "lost: device fell off the bus or has otherwise become inacessible";
    wait_for_gpus(&supervisor, &["critical", "passing"], note);
    // Gone altogether, so that the other has its number now.
    tell(&supervisor, &B.replace("free=800", "free=700"));
    supervisor.wait_for_status("the other's next reading", |status| {
        status["gpus"][1]["memory_used_bytes"] == 300 && status["gpus"][0]["level"] == "critical"
    });
    tell(&supervisor, &format!("{A}{B}"));
    let status = wait_for_gpus(&supervisor, &["passing", "passing"], "");
    assert_eq!(uuids(&status), ["GPU-aa", "GPU-bb"]);
    assert!(supervisor.log().contains("the GPU is well again"), "{}", supervisor.log());
}

#[test]
fn an_xid_ends_with_the_reset_that_brings_a_lost_gpu_back() {
    let fallen = |rest: &str| format!("{}{rest}xid gpu=GPU-aa;number=79\n", A.replace('\n', ";error=15\n"));
    let supervisor = alone(A).start();
    wait_for_gpus(&supervisor, &["passing"], "");
    tell(&supervisor, &format!("{A}xid gpu=GPU-aa;number=79\n"));
    wait_for_gpus(&supervisor, &["critical"], "Xid 79: it must be reset");
    tell(&supervisor, &fallen(""));
    let note = "lost: device fell off the bus or has otherwise become inacessible; Xid 79: it must be reset";
    wait_for_gpus(&supervisor, &["critical"], note);
    tell(&supervisor, &format!("{A}xid gpu=GPU-aa;number=79\n"));
    wait_for_gpus(&supervisor, &["passing"], "");
}

#[test]
fn a_gpu_that_is_lost_from_the_start_is_not_taken_for_none() {
    let supervisor = alone(&A.replace('\n', ";handle=15\n")).start();
    let note = "lost: device fell off the bus or has otherwise become inacessible";
    let status = wait_for_gpus(&supervisor, &["critical"], note);
    assert_eq!(status["registration"]["tags"], json!(["gpu"]));
}

#[test]
fn nvml_that_hangs_at_the_start_delays_nothing_and_what_it_says_later_is_added_to_the_entry() {
    let server = Server::start();
    let supervisor = setup(server.serf, &format!("hang\n{A}")).option("gpu-stale-after", "3s").start();
    supervisor.wait_for_status("worker and agent", |status| {
        status["worker"]["state"] == "running" && status["agent"]["state"] == "running"
    });
    server.wait_for_instances("demo", (1, 1));
    let entry = &server.get("/v1/catalog/service/demo").expect("entry")[0];
    assert_eq!((&entry["ServiceTags"], &entry["ServiceMeta"]["device"]), (&json!([]), &Value::Null));
    wait_for_check(&server, "critical", "NVML does not answer for 3s: a GPU or its driver hangs");
    tell(&supervisor, A);
    wait_for("the entry to say so", || {
        let entry = server.get("/v1/catalog/service/demo")?[0].clone();
        (entry["ServiceTags"] == json!(["gpu"]) && entry["ServiceMeta"]["device"] == "NVIDIA A100")
            .then_some(())
    });
    server.wait_for_instances("demo", (1, 1));
    supervisor.wait_for_phase("passing");
}

#[test]
fn nvml_that_hangs_later_is_critical_comes_back_and_delays_no_exit() {
    let server = Server::start();
    let mut supervisor = setup(server.serf, A).option("gpu-stale-after", "1s").start();
    server.wait_for_instances("demo", (1, 1));
    tell(&supervisor, &format!("hang\n{A}"));
    wait_for_check(&server, "critical", "NVML does not answer for 1s: a GPU or its driver hangs");
    wait_for_gpus(&supervisor, &["critical"], "NVML does not answer for 1s: a GPU or its driver hangs");
    tell(&supervisor, A);
    server.wait_for_instances("demo", (1, 1));
    // Calls hang, and what NVML does when the process ends hangs too.
    tell(&supervisor, &format!("hang\nhang at exit\n{A}"));
    wait_for_check(&server, "critical", "NVML does not answer for 1s: a GPU or its driver hangs");
    let asked = Instant::now();
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert!(asked.elapsed() < Duration::from_secs(9), "the stop timeout: {:?}", asked.elapsed());
    assert_eq!(server.instances("demo").0, 0);
}

#[test]
fn no_library_or_one_that_is_none_or_has_no_driver_is_said_once_and_the_instance_is_a_cpu() {
    let garbage = |setup: Setup| {
        std::fs::write(
            setup.dir.path().join("garbage.so"),
            "not an ELF file, although it is longer than the header of one, which has 64 bytes",
        )
        .expect("written");
        let path = setup.dir.path().join("garbage.so").display().to_string();
        setup.option("gpu-nvml-library", &path)
    };
    let other_library = |setup: Setup| setup.option("gpu-nvml-library", "libc.so.6");
    for (setup, reason) in [
        (Setup::joining(free_port(), &[]), "cannot open shared object file"),
        (garbage(alone(A)), "invalid ELF header"),
        (other_library(alone(A)), "libc.so.6 is not NVML"),
        // NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIB_RM_VERSION_MISMATCH
        (alone("init 9\n"), "NVIDIA driver is not loaded"),
        (alone("init 18\n"), "driver/library version mismatch"),
        (alone(""), "NVML shows no GPU that is visible here"),
    ] {
        let supervisor = setup.option("gpu-interval", "50ms").option("gpu-stale-after", "100ms").start();
        let status =
            supervisor.wait_for_status("the tag", |status| status["registration"]["tags"] == json!(["cpu"]));
        assert_eq!(uuids(&status), Vec::<&str>::new());
        let threads = format!("/proc/{}/task", supervisor.pid());
        wait_for("the thread to be gone", || {
            let names = std::fs::read_dir(&threads).ok()?;
            let is_nvml = |task: std::io::Result<std::fs::DirEntry>| {
                let name = task.ok().and_then(|task| std::fs::read_to_string(task.path().join("comm")).ok());
                name.is_some_and(|name| name.trim() == "nvml")
            };
            (!names.into_iter().any(is_nvml)).then_some(())
        });
        wait_for(reason, || supervisor.log().contains(reason).then_some(()));
        let log = supervisor.log();
        assert_eq!(log.matches("no GPU is watched").count(), 1, "{log}");
        let reason = supervisor.status().expect("status")["reason"].as_str().unwrap_or_default().to_owned();
        assert!(!reason.contains("NVML"), "absence is no trouble: {reason}");
    }
}

#[test]
fn where_it_is_off_or_there_is_no_agent_nvml_is_not_even_opened() {
    let off = alone(A).option("gpu", "off");
    let mut plain = Setup::plain(&[]).variable("NVML_STAND_IN", "/dev/null");
    plain.options.extend(["--gpu-nvml-library".to_owned(), stand_in().display().to_string()]);
    for (setup, state) in [(off, "starting"), (plain, "running")] {
        let supervisor = setup.start();
        let status = supervisor.wait_for_phase(state);
        supervisor.wait_for_status("the worker", |status| status["worker"]["state"] == "running");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", supervisor.pid())).expect("its maps");
        assert!(!maps.contains("nvml_stand_in"), "{maps}");
        assert_eq!(
            (uuids(&status).len(), status["registration"]["tags"].as_array().map_or(0, Vec::len)),
            (0, 0)
        );
    }
}

#[test]
fn only_visible_gpus_are_watched() {
    let both = format!("{A}{B}");
    for (story, runtime, cuda, expected) in [
        (&both, None, Some("1"), vec!["GPU-bb"]),
        (&both, None, Some("GPU-b"), vec!["GPU-bb"]),
        (&both, Some("GPU-aa"), None, vec!["GPU-aa"]),
        (&both, Some("1"), None, vec!["GPU-bb"]),
        // The host's numbers: the runtime has acted on them, and one GPU is left to CUDA.
        (&both, Some("4,5"), Some("0"), vec!["GPU-aa"]),
        (&both, Some("void"), None, vec!["GPU-aa", "GPU-bb"]),
        (&both, Some("none"), None, vec![]),
        (&both, Some("all"), Some("0,-1,1"), vec!["GPU-aa"]),
        (&both, None, Some(""), vec![]),
    ] {
        let mut setup = alone(story);
        for (name, value) in [("NVIDIA_VISIBLE_DEVICES", runtime), ("CUDA_VISIBLE_DEVICES", cuda)] {
            if let Some(value) = value {
                setup = setup.variable(name, value);
            }
        }
        let supervisor = setup.start();
        let status = supervisor.wait_for_status("the tag", |status| {
            status["registration"]["tags"].as_array().is_some_and(|tags| !tags.is_empty())
        });
        assert_eq!(uuids(&status), expected, "{runtime:?} {cuda:?}");
        let tag = if expected.is_empty() { "cpu" } else { "gpu" };
        assert_eq!(status["registration"]["tags"], json!([tag]), "{runtime:?} {cuda:?}");
    }
}

#[test]
fn a_mig_instance_has_its_own_memory_and_only_its_own_errors() {
    let instance = |name: &str, gi: u32, free: u32| {
        format!(
            "mig gpu=GPU-aa;uuid=MIG-{name};gi={gi};ci=0;name=NVIDIA A100 MIG 1g.5gb;total=100;free={free};ecc=0\n"
        )
    };
    let story = format!("{A}{}{}", instance("x", 3, 90), instance("y", 4, 1));
    let supervisor = alone(&story).variable("CUDA_VISIBLE_DEVICES", "MIG-x").start();
    let status = wait_for_gpus(&supervisor, &["passing"], "");
    let gpu = &status["gpus"][0];
    assert_eq!(
        (&gpu["uuid"], &gpu["memory_total_bytes"], &gpu["memory_used_bytes"], &gpu["temperature_celsius"]),
        (&json!("MIG-x"), &json!(100), &json!(10), &json!(40)),
        "memory of the instance, temperature of the GPU"
    );
    assert_eq!(gpu["utilization_percent"], Value::Null);
    // The neighbour's fault, then one of the whole GPU.
    let neighbours =
        format!("{story}xid gpu=GPU-aa;number=48;gi=4;ci=0\nxid gpu=GPU-aa;number=31;gi=3;ci=0\n");
    tell(&supervisor, &neighbours);
    let status = supervisor.wait_for_status("the second", |status| status["gpus"][0]["last_xid"] == 31);
    assert_eq!(status["gpus"][0]["level"], "passing");
    tell(&supervisor, &format!("{neighbours}xid gpu=GPU-aa;number=79\n"));
    wait_for_gpus(&supervisor, &["critical"], "Xid 79: it must be reset");
}

#[test]
fn gpus_that_report_no_xid_errors_are_watched_all_the_same() {
    let refusing = A.replace('\n', ";refuse=yes\n");
    let without = B.replace('\n', ";events=no\n");
    let supervisor = alone(&format!("{refusing}{without}")).start();
    wait_for_gpus(&supervisor, &["passing", "passing"], "");
    tell(&supervisor, &format!("{}{without}", refusing.replace("ecc=0", "ecc=1")));
    wait_for_gpus(&supervisor, &["critical", "passing"], "1 uncorrected ECC error");
}

#[test]
fn figures_that_a_gpu_does_not_have_are_left_out_and_nothing_is_held_against_it() {
    let supervisor = alone("gpu uuid=GPU-gb;name=NVIDIA GB10;temperature=50\n").start();
    let status = wait_for_gpus(&supervisor, &["passing"], "");
    let expected = json!({
        "index": 0, "uuid": "GPU-gb", "name": "NVIDIA GB10", "temperature_celsius": 50, "level": "passing", "note": "",
    });
    assert_eq!(status["gpus"][0], expected);
}

#[test]
fn what_nvml_opens_does_not_reach_a_restarted_worker() {
    let mut setup = alone(A).option("restart-backoff-min", "1ms");
    let report = setup.dir.path().join("report").display().to_string();
    setup.worker.extend(["--report".to_owned(), report]);
    assert_eq!(setup.worker[0], STUB_WORKER);
    let supervisor = setup.start();
    let status = wait_for_gpus(&supervisor, &["passing"], "");
    let opened = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid())).expect("its descriptors");
    let is_nvmls = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok().and_then(|entry| entry.path().read_link().ok()).is_some_and(|to| to.ends_with("dev/null"))
    };
    assert!(opened.map(is_nvmls).filter(|is| *is).count() > 1, "it and standard input");
    let report = |whose: &str| {
        wait_for(whose, || {
            let report = std::fs::read_to_string(supervisor.path("report")).ok();
            report.filter(|report| report.contains("variable "))
        })
    };
    report("the first worker's report");
    std::fs::remove_file(supervisor.path("report")).expect("removed");
    signal(pid_of(&status, "worker"), libc::SIGKILL);
    let report = report("the next worker's report");
    let descriptors: Vec<&str> = report.lines().filter(|line| line.starts_with("descriptor ")).collect();
    assert_eq!(descriptors, ["descriptor 0", "descriptor 1", "descriptor 2"]);
}

#[test]
fn settings_that_cannot_work_are_refused_together() {
    let output = alone(A)
        .option("gpu", "maybe")
        .option("gpu-interval", "10s")
        .option("gpu-stale-after", "15s")
        .option("gpu-memory-warning", "101")
        .option("gpu-temperature-critical", "hot")
        .option("gpu-fatal-xid", "79,off the bus")
        .output();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for words in [
        "gpu.mode = \"maybe\" (--gpu): one of: auto, off",
        "gpu.stale-after = \"15s\" (--gpu-stale-after): a duration of at least twice gpu.interval (20s)",
        "gpu.memory-warning = \"101\" (--gpu-memory-warning): a whole number from 1 to 100, or off",
        "gpu.temperature-critical = \"hot\"",
        "gpu.fatal-xids = \"79,off the bus\"",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}
