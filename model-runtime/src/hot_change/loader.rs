//! The loading thread: loads a model beside the one that serves, swaps, and sees the old one out.
//!
//! One thread for all models of the process, since the allocator keeps memory by thread: what one load leaves in its arena the next one
//! uses again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Outcome, Refusal, RefusalKind, Report};
use crate::exit::{Exit, Failure};
use crate::http::App;
use crate::memory;
use crate::model::Form;
use crate::plan::{Care, Plan, PlanError};
use crate::serving::{Serving, Users};

/// Requests that began with the old model: a body may take `--read-timeout`, the answer `--request-timeout`; both are half a minute unless
/// somebody raises them. After this the last of them frees the model, and not this thread.
const LAST_REQUEST: Duration = Duration::from_secs(120);
/// Nobody waits for an answer any more; a thread may still be in a forward for somebody who left.
const LAST_FORWARD: Duration = Duration::from_secs(30);

/// The loading thread.
#[derive(Debug)]
pub struct Loader {
    orders: SyncSender<Order>,
    /// Orders that are not done with, the old model's end included.
    unfinished: Arc<AtomicUsize>,
}

struct Order {
    plan: Plan,
    give_up: Option<Instant>,
    reply: oneshot::Sender<Result<Report, LoadError>>,
}

/// Why a model is not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be loaded, or does not run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It does what the served one does not do.
    #[error("{0}")]
    Unlike(String),
    /// It was loaded, but nobody waits for it any more.
    #[error("the model took too long to load")]
    TooLate,
    /// The server is on its way to its end.
    #[error("the server is stopping")]
    Stopping,
    /// A fault of ours; the panic hook has logged where.
    #[error("loading the model panicked")]
    Panicked,
}

impl Loader {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(app: Arc<App>, cores: usize) -> io::Result<Self> {
        // One that is carried out, one that waits: whoever orders more is refused.
        let (orders, received) = sync_channel(1);
        let unfinished = Arc::new(AtomicUsize::new(0));
        let work = Work { app, cores, unfinished: Arc::clone(&unfinished), users: None };
        std::thread::Builder::new().name("loading".to_owned()).spawn(move || work.run(&received))?;
        Ok(Self { orders, unfinished })
    }

    /// Has a model loaded and served. It will not be served after `give_up`, whatever comes of it. `None` when another order waits.
    pub fn order(
        &self,
        plan: Plan,
        give_up: Option<Instant>,
    ) -> Option<oneshot::Receiver<Result<Report, LoadError>>> {
        let (reply, result) = oneshot::channel();
        self.unfinished.fetch_add(1, Ordering::SeqCst);
        if self.orders.try_send(Order { plan, give_up, reply }).is_err() {
            self.unfinished.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(result)
    }

    /// Whether there is nothing to do: while there is, the thread may be inside libtorch.
    pub fn is_idle(&self) -> bool {
        self.unfinished.load(Ordering::SeqCst) == 0
    }
}

struct Work {
    app: Arc<App>,
    cores: usize,
    unfinished: Arc<AtomicUsize>,
    /// Those of the model that serves.
    users: Option<Users>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>) {
        for order in orders {
            // Whoever ordered it may have given up before it was its turn.
            if !order.reply.is_closed() {
                self.carry_out(order);
            }
            self.unfinished.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn carry_out(&mut self, Order { plan, give_up, reply }: Order) {
        // Unwind-safe: what is half made is dropped with the panic, and `users` changes only after everything else.
        let result = catch_unwind(AssertUnwindSafe(|| self.load_and_swap(plan, give_up)));
        match result.unwrap_or(Err(LoadError::Panicked)) {
            Ok((report, old)) => {
                // Whoever ordered it may have gone; it is served nonetheless.
                let _ = reply.send(Ok(report));
                if let Some(old) = old {
                    old.retire();
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                // What the attempt took.
                memory::give_back();
            }
        }
    }

    fn load_and_swap(
        &mut self,
        plan: Plan,
        give_up: Option<Instant>,
    ) -> Result<(Report, Option<Replaced>), LoadError> {
        let before = self.app.serving();
        if let Some(before) = &before {
            suits(&plan, before).map_err(LoadError::Unlike)?;
        }
        let began = Instant::now();
        let care = if before.is_some() { Care::Replacement } else { Care::Start };
        let (serving, users) = plan.carry_out(care, self.cores, &self.app.metrics, &self.app.poison)?;
        if give_up.is_some_and(|give_up| Instant::now() > give_up) {
            return Err(LoadError::TooLate);
        }
        let changes = before.as_ref().map(|before| serving.changes_since(before)).unwrap_or_default();
        drop(before);
        self.app.metrics.observe_load(began.elapsed());
        let old = self.app.serve(serving).map_err(|_draining| LoadError::Stopping)?;
        let old = old.zip(self.users.replace(users)).map(|(serving, users)| Replaced { serving, users });
        Ok((Report { outcome: Outcome::Swapped, changes }, old))
    }
}

/// Whether clients of the one model can be answered by the other.
fn suits(plan: &Plan, before: &Serving) -> Result<(), String> {
    let (served, wanted) = (before.model.description.task.kind(), plan.description.task.kind());
    if served != wanted {
        return Err(format!(
            "the model does {}, but this instance serves {}, and its clients expect such answers; start another instance for it",
            wanted.as_str(),
            served.as_str()
        ));
    }
    if let (Form::Tensors(served), Form::Tensors(wanted)) =
        (&before.model.description.form, &plan.description.form)
        && (&served.inputs, &served.outputs) != (&wanted.inputs, &wanted.outputs)
    {
        return Err("the model takes or returns other tensors than the one that is served, and clients send those; start another instance for it".to_owned());
    }
    let device = &plan.settings.tunables.running.device;
    device.can_follow(&before.settings.tunables.running.device, &before.model.devices)
}

/// A model that no new request gets.
struct Replaced {
    serving: Arc<Serving>,
    users: Users,
}

impl Replaced {
    /// Waits for its last request, ends its threads, and gives its memory back.
    fn retire(self) {
        let began = Instant::now();
        let (model, engine) = (Arc::clone(&self.serving.model), Arc::clone(&self.serving.engine));
        drop(self.serving);
        let name = model.description.name();
        // Nobody comes to it any more, so nobody need wait for company.
        engine.queue().hurry();
        if !self.users.wait(LAST_REQUEST) {
            tracing::warn!(model = name, timeout = ?LAST_REQUEST, "requests still use the old model; the last of them frees it");
            return;
        }
        engine.finish();
        if !engine.wait(LAST_FORWARD) {
            tracing::warn!(model = name, timeout = ?LAST_FORWARD, "a thread of the old model hangs in a forward; its memory stays taken");
            return;
        }
        tracing::debug!(model = name, seconds = began.elapsed().as_secs_f64(), "the old model has gone");
        drop((model, engine));
        memory::give_back();
    }
}

impl LoadError {
    /// What it means for a server that has not served anything yet.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Plan(error) => error.into(),
            other => Failure::new(Exit::Internal, other),
        }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Plan(PlanError::Settings(problems)) => Self::of(problems),
            LoadError::Stopping => Self::new(RefusalKind::Stopping, error.to_string()),
            LoadError::Plan(_) | LoadError::Unlike(_) | LoadError::TooLate | LoadError::Panicked => {
                Self::new(RefusalKind::Refused, error.to_string())
            }
        }
    }
}
