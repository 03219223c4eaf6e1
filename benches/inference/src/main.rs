//! model-runtime beside FastAPI, LitServe and TorchServe on the same model and texts, with the bare model as the limit.
//!
//! `bench-inference servers NAME=MODEL…` prints tables for each model directory; `bench-inference curves MODEL PICTURE.svg`
//! draws what each setting of the batching does. Nothing is asserted but that every answer is right. `benches/inference/run`
//! prepares everything and calls this.

mod answers;
mod contender;
mod curves;
mod figures;
mod limit;
mod load;
mod plan;
mod plot;
mod point;
mod process;
mod report;
mod server;
mod servers;
mod texts;

use std::path::Path;

use anyhow::Context as _;

use plan::Plan;

#[expect(clippy::print_stdout, reason = "figures without the machine's state mean little")]
fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let plan = Plan::from_env()?;
    println!("load before: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    match words.as_slice() {
        ["servers", models @ ..] if !models.is_empty() => {
            for model in models {
                let (name, model) =
                    model.split_once('=').with_context(|| format!("`{model}` is not NAME=MODEL"))?;
                report::print(name, &servers::measure(&plan, Path::new(model))?);
            }
        }
        ["curves", model, picture] => curves::measure(&plan, Path::new(model), Path::new(picture))?,
        _ => anyhow::bail!("usage: bench-inference servers NAME=MODEL… | curves MODEL PICTURE.svg"),
    }
    println!("load after: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}
