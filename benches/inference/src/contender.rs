//! The servers, and how each is told to serve a model directory, at the best settings that we found for it.

use std::path::Path;
use std::process::Command;

use crate::plan::Plan;

/// A server, or one of the ways to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// One process, torch's own number of threads: as most people run it.
    FastApi,
    /// A process for each core, one thread of torch in each.
    FastApiWorkers,
    /// A worker for each core, with one thread of torch; batches of at most so many texts.
    LitServe(usize),
    /// As LitServe.
    TorchServe(usize),
    Ours,
    /// The same model in bf16.
    OursHalf,
}

/// Where a model is cheap, the best of 1, 4, 8 and 32 for most numbers of clients. With one that is not, no batches at all are faster, since
/// those that are made first come, first served are mostly padding: hence both.
const BATCH: usize = 8;

pub(crate) const ALL: [Contender; 8] = [
    Contender::FastApi,
    Contender::FastApiWorkers,
    Contender::LitServe(1),
    Contender::LitServe(BATCH),
    Contender::TorchServe(1),
    Contender::TorchServe(BATCH),
    Contender::Ours,
    Contender::OursHalf,
];

/// What a server needs to be started: its model, its port, and a directory of its own to write to.
pub(crate) struct Place<'a> {
    pub(crate) model: &'a Path,
    pub(crate) port: u16,
    /// Ports that only TorchServe wants.
    pub(crate) spare: [u16; 5],
    pub(crate) scratch: &'a Path,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FastApi => "FastAPI, as usual",
            Self::FastApiWorkers => "FastAPI, a worker a core",
            Self::LitServe(1) => "LitServe, no batches",
            Self::LitServe(_) => "LitServe, batches of 8",
            Self::TorchServe(1) => "TorchServe, no batches",
            Self::TorchServe(_) => "TorchServe, batches of 8",
            Self::Ours => "model-runtime",
            Self::OursHalf => "model-runtime, bf16",
        }
    }

    /// Where it takes predictions.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::TorchServe(_) => "/predictions/ner",
            _ => "/predict",
        }
    }

    /// The command that serves in the foreground, with all that it needs written down.
    pub(crate) fn prepare(self, plan: &Plan, place: &Place<'_>) -> anyhow::Result<Command> {
        let port = place.port.to_string();
        let cores = std::thread::available_parallelism()?.to_string();
        let mut command = match self {
            Self::FastApi | Self::FastApiWorkers => {
                let (workers, threads) = if self == Self::FastApi { ("1", "") } else { (&*cores, "1") };
                let mut command = Command::new(&plan.python);
                command
                    .args(["-m", "uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", &port])
                    .args(["--log-level", "error", "--workers", workers])
                    .env("MODEL", place.model)
                    .env("THREADS", threads);
                command
            }
            Self::LitServe(batch) => {
                let mut command = Command::new(&plan.python);
                command.arg("litserve_app.py").arg(place.model).args([port, cores, batch.to_string()]);
                command
            }
            Self::TorchServe(batch) => torchserve(plan, place, &cores, batch)?,
            Self::Ours | Self::OursHalf => {
                let mut command = Command::new(&plan.runtime);
                command.arg("serve").arg("--model").arg(place.model);
                command.args(["--listen", &format!("127.0.0.1:{port}"), "--log-level", "error"]);
                command.args(["--precision", if self == Self::OursHalf { "bf16" } else { "fp32" }]);
                command
            }
        };
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TMPDIR", place.scratch)
            .current_dir(if matches!(self, Self::TorchServe(_)) { place.scratch } else { &plan.peers });
        Ok(command)
    }
}

/// Makes the model archive and the configuration, as its documentation says.
fn torchserve(plan: &Plan, place: &Place<'_>, cores: &str, batch: usize) -> anyhow::Result<Command> {
    let bin = plan.python.parent().unwrap_or(Path::new("."));
    let files = ["tokenizer.json", "config.json", "model.pt"]
        .map(|name| place.model.join(name).display().to_string());
    let with_code = [files.join(","), plan.peers.join("ner.py").display().to_string()].join(",");
    let made = Command::new(bin.join("torch-model-archiver"))
        .args(["--model-name", "ner", "--version", "1", "--handler"])
        .arg(plan.peers.join("torchserve_handler.py"))
        .args(["--extra-files", &with_code, "--force", "--export-path"])
        .arg(place.scratch)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    anyhow::ensure!(made.status.success(), "torch-model-archiver: {}", String::from_utf8_lossy(&made.stderr));

    let [management, metrics, grpc, grpc_management, worker] = place.spare;
    let model = serde_json::json!({"ner": {"1": {
        "marName": "ner.mar", "defaultVersion": true, "minWorkers": cores, "maxWorkers": cores,
        "batchSize": batch, "maxBatchDelay": 5, "responseTimeout": 60
    }}});
    let config = place.scratch.join("config.properties");
    std::fs::write(
        &config,
        format!(
            "inference_address=http://127.0.0.1:{}\nmanagement_address=http://127.0.0.1:{management}\n\
             metrics_address=http://127.0.0.1:{metrics}\ngrpc_inference_port={grpc}\ngrpc_management_port={grpc_management}\n\
             initial_worker_port={worker}\ndisable_token_authorization=true\nload_models=ner.mar\nmodels={model}\n",
            place.port
        ),
    )?;
    let mut command = Command::new(bin.join("torchserve"));
    command.args(["--start", "--foreground", "--disable-token-auth", "--ncs", "--model-store"]);
    command.arg(place.scratch).arg("--ts-config").arg(config);
    command.env("LOG_LOCATION", place.scratch).env("METRICS_LOCATION", place.scratch);
    // It calls `python` and `java` by their names.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display()));
    Ok(command)
}
