//! The thread's life: open NVML, choose the GPUs, read them again and again, and open NVML anew while one of them is in trouble.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lifecycle::gpu::Trouble;
use lifecycle::{Event, GpuReport, GpuSample};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};
use tokio::sync::mpsc;

use super::library::{Library, XidEvent};
use super::reading::{read, trouble};
use super::visible::{self, Seat, Seen};
use crate::config::Gpu;

/// Handles of a GPU that was lost stay useless when it is back: while one is in trouble, NVML is opened anew after so many readings.
const READINGS_BEFORE_REOPENING: u32 = 6;
/// NVML may end a wait early (its reference: "when an interrupt arrives"). One that always does must not keep a core busy.
const AFTER_AN_EARLY_END: Duration = Duration::from_millis(100);
/// Between two Xid errors: they can come by the thousand.
const AFTER_AN_EVENT: Duration = Duration::from_millis(10);

/// A GPU or MIG instance that is watched, for as long as this process lives: NVML's numbers can change while a GPU is gone.
#[derive(Clone, Debug)]
struct Watched {
    seen: Seen,
    name: String,
}

/// Why a session with NVML is over.
enum Over {
    /// A GPU is in trouble: try with a new one.
    Reopen,
    /// Nobody listens any more.
    Deaf,
}

/// Reads until nobody listens. Says `Absent` and returns if there is nothing to read.
pub(super) fn run(config: &Gpu, events: &mpsc::Sender<Event>) {
    let report = |report| events.blocking_send(Event::GpusReported(report)).is_ok();
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        match Library::open(config.library.as_deref()) {
            Ok((library, nvml)) => {
                if watched.is_empty() {
                    watched = visible(&library, &nvml, config);
                }
                if watched.is_empty() {
                    report(GpuReport::Absent("NVML shows no GPU that is visible here".to_owned()));
                    return;
                }
                let session = Session { library: &library, nvml: &nvml, watched: &watched, config };
                match session.run(&report) {
                    Over::Reopen => {}
                    Over::Deaf => return,
                }
            }
            Err(error) if watched.is_empty() => {
                report(GpuReport::Absent(error));
                return;
            }
            Err(error) => {
                let samples = watched.iter().map(|watched| {
                    sample(watched, Err(Trouble::Failed(format!("NVML cannot be opened again: {error}"))))
                });
                if !report(GpuReport::Sampled(samples.collect())) {
                    return;
                }
                sleep(config.interval);
            }
        }
    }
}

/// What this container may use.
fn visible(library: &Library, nvml: &Nvml, config: &Gpu) -> Vec<Watched> {
    let all: Vec<Watched> = (0..nvml.device_count().unwrap_or_default())
        .flat_map(|index| match nvml.device_by_index(index) {
            Ok(gpu) => on_gpu(library, nvml, &gpu, index),
            // Not this container's.
            Err(NvmlError::NoPermission) => Vec::new(),
            Err(_) => vec![unnamed(index)],
        })
        .collect();
    let seen: Vec<Seen> = all.iter().map(|watched| watched.seen.clone()).collect();
    let choice = visible::choose(&seen, config.runtime_devices.as_deref(), config.cuda_devices.as_deref());
    all.into_iter().zip(choice).filter(|(_, chosen)| *chosen).map(|(watched, _)| watched).collect()
}

/// The GPU itself, or its MIG instances: in that mode only they can be computed with.
fn on_gpu(library: &Library, nvml: &Nvml, gpu: &Device<'_>, index: u32) -> Vec<Watched> {
    let Ok(uuid) = gpu.uuid() else { return vec![unnamed(index)] };
    let named = |device: &Device<'_>| device.name().unwrap_or_else(|_| "GPU".to_owned());
    if !gpu.mig_mode().is_ok_and(|mode| mode.current != 0) {
        return vec![Watched { seen: Seen { uuid, index, seat: None }, name: named(gpu) }];
    }
    let instances = (0..).zip(library.instances(gpu, nvml));
    instances
        .filter_map(|(number, (instance, gpu_instance, compute_instance))| {
            let seat = Some(Seat { gpu: uuid.clone(), number, ids: (gpu_instance, compute_instance) });
            Some(Watched { seen: Seen { uuid: instance.uuid().ok()?, index, seat }, name: named(&instance) })
        })
        .collect()
}

/// A GPU that is there and in such trouble that it cannot say which it is.
fn unnamed(index: u32) -> Watched {
    Watched { seen: Seen { uuid: format!("index {index}"), index, seat: None }, name: "GPU".to_owned() }
}

fn sample(watched: &Watched, reading: Result<lifecycle::gpu::Reading, Trouble>) -> GpuSample {
    let Seen { uuid, index, .. } = watched.seen.clone();
    GpuSample { uuid, index, name: watched.name.clone(), reading }
}

/// One opening of NVML.
struct Session<'a> {
    library: &'a Library,
    nvml: &'a Nvml,
    watched: &'a [Watched],
    config: &'a Gpu,
}

impl<'a> Session<'a> {
    fn run(&self, report: &impl Fn(GpuReport) -> bool) -> Over {
        let handles: Vec<_> = self.watched.iter().map(|watched| self.handles(watched)).collect();
        let set = self.listen();
        let mut in_trouble = 0;
        loop {
            let next = Instant::now() + self.config.interval;
            let samples: Vec<GpuSample> = self
                .watched
                .iter()
                .zip(&handles)
                .map(|(watched, handles)| {
                    let reading = match handles {
                        Ok((device, board)) => read(device, board),
                        Err(error) => Err(trouble(error)),
                    };
                    sample(watched, reading)
                })
                .collect();
            let trouble = samples.iter().any(|sample| sample.reading.is_err());
            in_trouble = if trouble { in_trouble + 1 } else { 0 };
            if !report(GpuReport::Sampled(samples)) {
                return Over::Deaf;
            }
            if !self.wait(set.as_ref(), next, report) {
                return Over::Deaf;
            }
            if in_trouble >= READINGS_BEFORE_REOPENING {
                return Over::Reopen;
            }
        }
    }

    /// The device, and the GPU that it is on.
    fn handles(&self, watched: &Watched) -> Result<(Device<'a>, Device<'a>), NvmlError> {
        let by_uuid = |uuid: &str| self.nvml.device_by_uuid(uuid);
        match &watched.seen {
            Seen { uuid, seat: Some(seat), .. } => Ok((by_uuid(uuid)?, by_uuid(&seat.gpu)?)),
            Seen { uuid, index, .. } if uuid.starts_with("index ") => {
                Ok((self.nvml.device_by_index(*index)?, self.nvml.device_by_index(*index)?))
            }
            Seen { uuid, .. } => Ok((by_uuid(uuid)?, by_uuid(uuid)?)),
        }
    }

    /// A set that hears the Xid errors of all GPUs that can report them; `None` if none can.
    fn listen(&self) -> Option<EventSet<'a>> {
        let mut boards: Vec<&Watched> = self.watched.iter().collect();
        boards.dedup_by_key(|watched| watched.seen.index);
        let boards = boards.into_iter().filter_map(|watched| Some(self.handles(watched).ok()?.1));
        let able = boards.filter(|gpu| {
            gpu.supported_event_types().is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))
        });
        let mut able: Vec<Device<'a>> = able.collect();
        // A GPU that refuses takes the set with it: once more without it.
        while !able.is_empty() {
            match self.registered(&able).ok()? {
                Ok(set) => return Some(set),
                Err(refused) => drop(able.remove(refused)),
            }
        }
        None
    }

    /// A set with all of these GPUs, or which of them refused.
    fn registered(&self, gpus: &[Device<'a>]) -> Result<Result<EventSet<'a>, usize>, NvmlError> {
        let mut set = self.nvml.create_event_set()?;
        for (at, gpu) in gpus.iter().enumerate() {
            match gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
                Ok(same) => set = same,
                Err(_) => return Ok(Err(at)),
            }
        }
        Ok(Ok(set))
    }

    /// Waits for the next reading and hands Xid errors on meanwhile. Says whether anybody listens.
    fn wait(&self, set: Option<&EventSet<'_>>, next: Instant, report: &impl Fn(GpuReport) -> bool) -> bool {
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let Some(set) = set else {
                sleep(left);
                return true;
            };
            match self.library.wait(set, self.nvml, left) {
                Ok(Some(event)) => {
                    let mut concerned = self.watched.iter().filter(|watched| is_about(&event, &watched.seen));
                    if !concerned.all(|watched| {
                        report(GpuReport::Xid { uuid: watched.seen.uuid.clone(), xid: event.xid })
                    }) {
                        return false;
                    }
                    sleep(AFTER_AN_EVENT);
                }
                Ok(None) => sleep(next.saturating_duration_since(Instant::now()).min(AFTER_AN_EARLY_END)),
                // The next reading says what is wrong.
                Err(_) => sleep(next.saturating_duration_since(Instant::now())),
            }
        }
    }
}

/// An event of a GPU that cannot say which it is may be anybody's; one of a whole GPU is each of its instances'.
fn is_about(event: &XidEvent, seen: &Seen) -> bool {
    let Some(uuid) = &event.uuid else { return true };
    match &seen.seat {
        None => seen.uuid == *uuid,
        Some(seat) => seat.gpu == *uuid && event.instance.is_none_or(|ids| ids == seat.ids),
    }
}
