//! Reading the configuration again, beside the loop: files may lie on a network, and a name may take long to look up.
//!
//! A request comes with the place for its answer; those that come while one is being answered share the next reading. What was read goes
//! to the loop, which alone decides what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{Config, Invocation, Problem, Sources, reload};
use crate::control::protocol::ReloadReport;

/// Requests that wait. More of them share one reading anyway.
pub const QUEUE: usize = 16;
/// For the whole reading. Local files take a millisecond.
const READING: Duration = Duration::from_secs(10);

/// Where the answer to one request goes.
pub type Reply = oneshot::Sender<ReloadReport>;

/// What came of one reading.
#[derive(Debug)]
pub struct Reading {
    /// The configuration that can hold from now on and the values as they were written, or all that is wrong with them.
    pub outcome: Result<Box<(Config, Sources)>, Vec<String>>,
    /// Who wants to know.
    pub replies: Vec<Reply>,
}

/// What stays as it was at the start.
#[derive(Debug)]
pub struct Reader {
    /// How the supervisor was called.
    pub invocation: Invocation,
    /// The values of the start.
    pub sources: Arc<Sources>,
    /// The configuration of the start.
    pub config: Config,
}

impl Reader {
    /// Serves requests until the loop is gone.
    pub async fn run(self, mut requests: mpsc::Receiver<Reply>, readings: mpsc::Sender<Reading>) {
        let this = Arc::new(self);
        let mut hanging: Option<JoinHandle<()>> = None;
        while let Some(first) = requests.recv().await {
            let mut replies = vec![first];
            while let Ok(another) = requests.try_recv() {
                replies.push(another);
            }
            // One that hangs holds a thread. There is never a second one.
            let outcome = match hanging.take_if(|thread| !thread.is_finished()) {
                Some(thread) => {
                    hanging = Some(thread);
                    Err(vec!["an earlier reading still hangs in the kernel: is the file on a network that is gone?".to_owned()])
                }
                None => this.read(&mut hanging).await,
            };
            if readings.send(Reading { outcome, replies }).await.is_err() {
                return;
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        hanging: &mut Option<JoinHandle<()>>,
    ) -> Result<Box<(Config, Sources)>, Vec<String>> {
        let (done, outcome) = oneshot::channel();
        let this = Arc::clone(self);
        *hanging = Some(tokio::task::spawn_blocking(move || {
            let _gave_up = done.send(this.read_now());
        }));
        match timeout(READING, outcome).await {
            Ok(Ok(outcome)) => {
                outcome.map(Box::new).map_err(|problems| problems.iter().map(Problem::to_string).collect())
            }
            Ok(Err(_)) => Err(vec!["the reading ended without a result".to_owned()]),
            Err(_) => {
                Err(vec![format!("it could not be read within {}", humantime::format_duration(READING))])
            }
        }
    }

    fn read_now(&self) -> Result<(Config, Sources), Vec<Problem>> {
        let new = self.invocation.load()?.sources;
        let merged = reload::effective(&self.sources, &self.config, &new);
        let config = Config::build(&merged, self.invocation.worker.clone(), Vec::new())?;
        // Which port the metrics got was found out at the start.
        let config = match self.config.metrics {
            Some(address) => config.with_metrics_at(address),
            None => config,
        };
        Ok((config, new))
    }
}
