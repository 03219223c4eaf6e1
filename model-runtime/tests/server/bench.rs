//! `bench` of a real model.

use std::process::Output;

use serde_json::Value;

use crate::support::{model_dir, program};

fn bench(flags: &[&str]) -> Output {
    program().args(["bench", "--model"]).arg(model_dir()).args(flags).output().unwrap()
}

#[test]
fn tables_and_json_say_what_suits_the_machine() {
    let output = bench(&["--seconds", "2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["one forward at a time", "forwards side by side", "--instances", "--max-batch-tokens"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }

    let output = bench(&["--seconds", "2", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for round in ["shapes", "arrangements", "batches"] {
        let measured = found[round].as_array().unwrap();
        assert!(measured.iter().all(|it| it["forward_ms"].as_f64() > Some(0.0)), "{round}: {found}");
        assert!(!measured.is_empty(), "{round}: {found}");
    }
    let advice = &found["advice"];
    assert!(
        advice["instances"].as_u64() >= Some(1) && advice["max_batch_tokens"].as_u64() >= Some(32),
        "{advice}"
    );
}

#[test]
fn a_model_that_is_not_there_and_no_time_are_refused() {
    let nowhere = program().args(["bench", "--model", "/no/such/dir"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
    assert_eq!(bench(&["--seconds", "0"]).status.code(), Some(2));
}
