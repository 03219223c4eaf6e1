//! NVML's functions. A handle is a UUID that is kept for good, as NVML's own are.

use std::ffi::{CStr, c_char, c_uint, c_ulonglong};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEccCounterType_t, nvmlEventData_t, nvmlEventSet_t, nvmlMemory_v2_t,
    nvmlMemoryErrorType_t, nvmlReturn_t, nvmlTemperatureSensors_t, nvmlUtilization_t,
};

use crate::story::{Device, Fields, LOOK_AGAIN, Story};

const SUCCESS: nvmlReturn_t = 0;
const UNINITIALIZED: nvmlReturn_t = 1;
const INVALID_ARGUMENT: nvmlReturn_t = 2;
const NOT_SUPPORTED: nvmlReturn_t = 3;
const NOT_FOUND: nvmlReturn_t = 6;
const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
const DRIVER_NOT_LOADED: nvmlReturn_t = 9;
const TIMEOUT: nvmlReturn_t = 10;
const GPU_IS_LOST: nvmlReturn_t = 15;
const ARGUMENT_VERSION_MISMATCH: nvmlReturn_t = 25;
const UNKNOWN: nvmlReturn_t = 999;

const XID_CRITICAL_ERROR: c_ulonglong = 8;
const NO_INSTANCE: c_uint = u32::MAX;

/// How often NVML was started more than it was shut down.
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// The UUIDs that have handles: a handle is its place here, plus 1.
static HANDLES: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The handles of GPUs that were lost: of no use any more, until NVML is started again.
static DEAD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs where the process ends in an orderly way, as NVML's own clean-up does.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

extern "C" fn at_exit() {
    while Story::read().is_some_and(|story| story.hang_at_exit) {
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn running() -> Result<Story, nvmlReturn_t> {
    if STARTED.load(Ordering::SeqCst) == 0 {
        return Err(UNINITIALIZED);
    }
    Story::told().ok_or(UNKNOWN)
}

fn handle_of(uuid: &str) -> Result<nvmlDevice_t, nvmlReturn_t> {
    let mut handles = HANDLES.lock().map_err(|_| UNKNOWN)?;
    let at = handles.iter().position(|known| known == uuid).unwrap_or_else(|| {
        handles.push(uuid.to_owned());
        handles.len() - 1
    });
    Ok(std::ptr::without_provenance_mut(at + 1))
}

fn uuid_of(handle: nvmlDevice_t) -> Result<String, nvmlReturn_t> {
    let handles = HANDLES.lock().map_err(|_| UNKNOWN)?;
    handle.addr().checked_sub(1).and_then(|at| handles.get(at)).cloned().ok_or(INVALID_ARGUMENT)
}

/// What the story says of a device now.
fn with_device<T>(
    handle: nvmlDevice_t,
    ask: impl FnOnce(&Story, &Device) -> Result<T, nvmlReturn_t>,
) -> Result<T, nvmlReturn_t> {
    let story = running()?;
    let uuid = uuid_of(handle)?;
    let mut dead = DEAD.lock().map_err(|_| UNKNOWN)?;
    let found = story.by_uuid(&uuid);
    let told = found.map_or(Some(GPU_IS_LOST), |device| error(&device.fields, "error"));
    if told == Some(GPU_IS_LOST) {
        dead.push(uuid.clone());
    }
    match (found, told) {
        _ if dead.contains(&uuid) => Err(GPU_IS_LOST),
        (Some(device), None) => ask(&story, device),
        (_, told) => Err(told.unwrap_or(UNKNOWN)),
    }
}

fn error(fields: &Fields, key: &str) -> Option<nvmlReturn_t> {
    fields.number(key).and_then(|error| nvmlReturn_t::try_from(error).ok())
}

fn figure(handle: nvmlDevice_t, key: &str) -> Result<u64, nvmlReturn_t> {
    with_device(handle, |_, device| device.fields.number(key).ok_or(NOT_SUPPORTED))
}

/// Hands a value to the caller.
///
/// # Safety
/// `place` is null or valid for a write of `T`.
unsafe fn give<T>(place: *mut T, value: Result<T, nvmlReturn_t>) -> nvmlReturn_t {
    match value {
        Err(error) => error,
        Ok(_) if place.is_null() => INVALID_ARGUMENT,
        Ok(value) => {
            // SAFETY: not null, and so valid, by this function's own condition.
            unsafe { place.write(value) };
            SUCCESS
        }
    }
}

/// Hands a text to the caller, with its end.
///
/// # Safety
/// `place` is null or valid for writes of `length` characters.
unsafe fn give_text(place: *mut c_char, length: c_uint, text: Result<String, nvmlReturn_t>) -> nvmlReturn_t {
    let text = match text {
        Err(error) => return error,
        Ok(_) if place.is_null() => return INVALID_ARGUMENT,
        Ok(text) => text,
    };
    if text.len() + 1 > usize::try_from(length).unwrap_or_default() {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its end fit into `length`, for which `place` is valid by this function's own condition.
    unsafe {
        place.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        place.add(text.len()).write(0);
    }
    SUCCESS
}

fn small(number: u64) -> Result<c_uint, nvmlReturn_t> {
    c_uint::try_from(number).map_err(|_| UNKNOWN)
}

/// Starts NVML. Like some drivers' it opens a device without asking for it to be closed in children.
#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    let Some(story) = Story::told() else { return DRIVER_NOT_LOADED };
    if let Some(error) = story.init {
        return error;
    }
    if STARTED.fetch_add(1, Ordering::SeqCst) == 0 {
        if let Ok(mut dead) = DEAD.lock() {
            dead.clear();
        }
        // SAFETY: the path ends with 0 and open(2) keeps nothing of it.
        unsafe { libc_open(c"/dev/null".as_ptr(), 0) };
    }
    SUCCESS
}

unsafe extern "C" {
    #[link_name = "open"]
    unsafe fn libc_open(path: *const c_char, flags: std::ffi::c_int, ...) -> std::ffi::c_int;
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    let ended = STARTED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |started| started.checked_sub(1));
    if ended.is_ok() { SUCCESS } else { UNINITIALIZED }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    let number = running().and_then(|story| small(story.gpus().count() as u64));
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(count, number) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) -> nvmlReturn_t {
    let handle = running().and_then(|story| {
        let gpu = story.gpus().nth(index as usize).ok_or(INVALID_ARGUMENT)?;
        asked_for(gpu)
    });
    // SAFETY: NVML's caller gives a place for a handle.
    unsafe { give(device, handle) }
}

fn asked_for(device: &Device) -> Result<nvmlDevice_t, nvmlReturn_t> {
    match error(&device.fields, "handle") {
        Some(error) => Err(error),
        None => handle_of(device.fields.text("uuid").ok_or(UNKNOWN)?),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    if uuid.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: NVML's caller gives a text that ends with 0.
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
    let handle = running().and_then(|story| asked_for(story.by_uuid(&uuid).ok_or(NOT_FOUND)?));
    // SAFETY: NVML's caller gives a place for a handle.
    unsafe { give(device, handle) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    uuid: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    let text = with_device(device, |_, device| device.fields.text("uuid").map(str::to_owned).ok_or(UNKNOWN));
    // SAFETY: NVML's caller gives a place of this length.
    unsafe { give_text(uuid, length, text) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    name: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    let text = with_device(device, |_, device| device.fields.text("name").map(str::to_owned).ok_or(UNKNOWN));
    // SAFETY: NVML's caller gives a place of this length.
    unsafe { give_text(name, length, text) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    if memory.is_null() {
        return INVALID_ARGUMENT;
    }
    // NVML_STRUCT_VERSION(Memory, 2) of nvml.h.
    let version = small(size_of::<nvmlMemory_v2_t>() as u64 | (2 << 24)).unwrap_or_default();
    // SAFETY: not null; NVML's caller gives a structure whose version is set.
    if unsafe { (*memory).version } != version {
        return ARGUMENT_VERSION_MISMATCH;
    }
    let figures = with_device(device, |_, device| {
        let number = |key| device.fields.number(key);
        let (total, free) = number("total").zip(number("free")).ok_or(NOT_SUPPORTED)?;
        let reserved = number("reserved").unwrap_or_default();
        let used = total.saturating_sub(free).saturating_sub(reserved);
        Ok(nvmlMemory_v2_t { version, total, reserved, free, used })
    });
    // SAFETY: as above.
    unsafe { give(memory, figures) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    sensor: nvmlTemperatureSensors_t,
    degrees: *mut c_uint,
) -> nvmlReturn_t {
    if sensor != 0 {
        return INVALID_ARGUMENT;
    }
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(degrees, figure(device, "temperature").and_then(small)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    rates: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    let figures = figure(device, "utilization").and_then(small);
    // SAFETY: NVML's caller gives a place for this structure.
    unsafe { give(rates, figures.map(|gpu| nvmlUtilization_t { gpu, memory: 0 })) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    kind: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
    errors: *mut c_ulonglong,
) -> nvmlReturn_t {
    // NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC; the story tells of no others.
    let figures = if (kind, counter) == (1, 0) { figure(device, "ecc") } else { Err(NOT_SUPPORTED) };
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(errors, figures) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    let mode = with_device(device, |story, device| {
        let uuid = device.fields.text("uuid").unwrap_or_default();
        Ok(c_uint::from(story.instances(uuid).next().is_some() || device.fields.text("mig") == Some("on")))
    });
    // SAFETY: NVML's caller gives two places for numbers.
    unsafe {
        give(pending, mode);
        give(current, mode)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    // As an A100 has it, however many there are.
    let most = with_device(device, |_, _| Ok(7));
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(count, most) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    instance: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let handle = with_device(device, |story, device| {
        let uuid = device.fields.text("uuid").unwrap_or_default();
        asked_for(story.instances(uuid).nth(index as usize).ok_or(NOT_FOUND)?)
    });
    // SAFETY: NVML's caller gives a place for a handle.
    unsafe { give(instance, handle) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(id, figure(device, "gi").and_then(small)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(id, figure(device, "ci").and_then(small)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    types: *mut c_ulonglong,
) -> nvmlReturn_t {
    let supported = with_device(device, |_, device| {
        Ok(if device.fields.text("events") == Some("no") { 0 } else { XID_CRITICAL_ERROR })
    });
    // SAFETY: NVML's caller gives a place for a number.
    unsafe { give(types, supported) }
}

/// An event set.
struct Set {
    /// The GPUs that it listens to.
    uuids: Vec<String>,
    /// Which Xid error of the story comes next: none that was there before the set.
    next: AtomicUsize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    let created = running().map(|story| {
        let next = AtomicUsize::new(story.xids.len());
        Box::into_raw(Box::new(Set { uuids: Vec::new(), next })).cast()
    });
    // SAFETY: NVML's caller gives a place for a handle.
    unsafe { give(set, created) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    if set.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it came from nvmlEventSetCreate, and NVML's caller frees it once.
    drop(unsafe { Box::from_raw(set.cast::<Set>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    types: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    let uuid = with_device(device, |_, device| {
        let is_able = device.fields.text("events") != Some("no") && device.fields.text("refuse").is_none();
        let known = types & !XID_CRITICAL_ERROR == 0;
        if is_able && known {
            uuid_of(handle_of(device.fields.text("uuid").unwrap_or_default())?)
        } else {
            Err(NOT_SUPPORTED)
        }
    });
    match uuid {
        Err(error) => error,
        Ok(_) if set.is_null() => INVALID_ARGUMENT,
        Ok(uuid) => {
            // SAFETY: it came from nvmlEventSetCreate and is not freed; NVML's caller uses it from one thread at a time.
            unsafe { &mut *set.cast::<Set>() }.uuids.push(uuid);
            SUCCESS
        }
    }
}

/// Delivers the next Xid error of the story, and waits for one otherwise.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    if set.is_null() || data.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it came from nvmlEventSetCreate and is not freed; NVML's caller uses it from one thread at a time.
    let set = unsafe { &*set.cast::<Set>() };
    let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
    loop {
        let story = match running() {
            Ok(story) => story,
            Err(error) => return error,
        };
        if let Some(xid) = story.xids.get(set.next.load(Ordering::SeqCst)) {
            set.next.fetch_add(1, Ordering::SeqCst);
            let gpu = xid.text("gpu").unwrap_or_default();
            if set.uuids.iter().any(|uuid| uuid == gpu) {
                let id = |key| xid.number(key).map_or(Ok(NO_INSTANCE), small);
                let event = handle_of(gpu).and_then(|device| {
                    Ok(nvmlEventData_t {
                        device,
                        eventType: XID_CRITICAL_ERROR,
                        eventData: xid.number("number").ok_or(UNKNOWN)?,
                        gpuInstanceId: id("gi")?,
                        computeInstanceId: id("ci")?,
                    })
                });
                // SAFETY: not null; NVML's caller gives a place for this structure.
                return unsafe { give(data, event) };
            }
            continue;
        }
        if Instant::now() >= deadline {
            return TIMEOUT;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        std::thread::sleep(if story.quiet { left } else { LOOK_AGAIN });
    }
}
