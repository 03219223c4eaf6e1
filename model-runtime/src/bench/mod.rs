//! `bench`: how fast the bare model is on this machine, and the settings that make the most of it.
//!
//! No HTTP, no tokenizer, no queue: forwards of made-up inputs, so that what `serve` reaches can be compared with what the model
//! allows. Three rounds, each with its share of `--seconds`:
//!
//! ```text
//!   shapes        one forward at a time, by tokens in a text and inputs in a batch ─▶ what a forward and a token cost
//!   arrangements  forwards side by side, by instances and threads                 ─▶ --instances, --threads
//!   batches       the best arrangement, by inputs in a batch                      ─▶ --max-batch-tokens
//! ```
//!
//! All texts of a batch are equally long: `serve` sorts by length, and what padding costs follows from the first round.

mod advice;
mod measure;
mod plan;
mod report;

use std::io::{self, Write as _};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::config::cli::{BenchArgs, LogFormat};
use crate::config::{Running, RuntimeToml};
use crate::exit::{Exit, Failure};
use crate::loading::load;
use crate::logging;
use crate::model::Description;

use advice::Advice;
use measure::Bench;
use plan::Plan;
use report::{Findings, Subject};

/// How `--seconds` is shared among the rounds: the first has the most to measure.
const SHARES: [f64; 3] = [0.5, 0.25, 0.25];

/// Measures the model of a directory and prints the findings on standard output.
pub fn bench(args: &BenchArgs) -> Result<Exit, Failure> {
    let usage = |message: String| Failure { exit: Exit::Usage, message };
    logging::start(LogFormat::Text, "warn").map_err(usage)?;
    let file = RuntimeToml::read(&args.model.model).map_err(|error| Failure::new(Exit::Usage, error))?;
    let running = Running::merge(&args.model, &file);
    let unusable = |error| Failure::new(Exit::Model, error);
    let description = Description::read(&args.model.model, &file, &running).map_err(unusable)?;
    let began = Instant::now();
    let (model, backends) = load(description, &running).map_err(unusable)?;
    // Several devices are alike; each adds what the first one does.
    let backend = backends.first().ok_or_else(|| usage("there is no device".to_owned()))?;
    let cores = available_parallelism().map_or(1, usize::from);
    let subject = Subject::new(&model, cores, began.elapsed());
    let form = &model.description.form;
    let plan = Plan {
        on_gpu: model.devices.is_gpu(),
        cores,
        threads: running.threads,
        longest: form.text().map_or(1, |text| text.max_seq_length),
        takes_batches: form.takes_batches(),
    };
    let bench = Bench { backend, form };
    print(|out| if args.json { Ok(()) } else { subject.print(out) })?;
    let findings = rounds(&bench, &plan, Duration::from_secs(args.seconds.into()), subject)?;
    print(|out| if args.json { findings.print_json(out) } else { findings.print(out) })?;
    Ok(Exit::Done)
}

fn rounds(bench: &Bench, plan: &Plan, time: Duration, subject: Subject) -> Result<Findings, Failure> {
    let [for_shapes, for_arrangements, for_batches] = SHARES.map(|share| time.mul_f64(share));
    let failed = |error| Failure::new(Exit::Model, error);
    let shapes = bench.round(&plan.shapes(), for_shapes).map_err(failed)?;
    let arrangements = bench.round(&plan.arrangements(), for_arrangements).map_err(failed)?;
    let best = advice::first_of_the_best(&arrangements);
    let batches = match best {
        Some(best) => bench.round(&plan.batches(best.run.arrangement), for_batches).map_err(failed)?,
        None => Vec::new(),
    };
    let advice = Advice::of(&shapes, &arrangements, &batches);
    Ok(Findings { subject, shapes, arrangements, batches, advice })
}

/// Whoever reads may have had enough (`bench | head`): that is no failure.
fn print(write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Internal, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
