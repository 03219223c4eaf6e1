//! The NVML library: opening it, and the functions of it that `nvml-wrapper` has not.
//!
//! The wrapper knows no MIG instances, and of an event not which instance it is about. The types and the meaning of these functions are
//! those of NVIDIA's `nvml.h` and NVML API reference (Multi Instance GPU Management; Event Handling Methods).

use std::ffi::{OsStr, c_int, c_uint, c_ulonglong, c_void};
use std::path::Path;
use std::time::Duration;

use libloading::os::unix::{Library as SharedLibrary, RTLD_LOCAL, RTLD_NOW};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};

/// NVIDIA's name for it on Linux, which the container runtime mounts into the container.
const NAME: &str = "libnvidia-ml.so.1";
/// `NVML_SUCCESS`, `NVML_ERROR_TIMEOUT` and `NVML_ERROR_GPU_IS_LOST` (nvmlReturn_t).
const SUCCESS: c_int = 0;
const TIMEOUT: c_int = 10;
const GPU_IS_LOST: c_int = 15;
/// `nvmlEventTypeXidCriticalError`.
const XID_CRITICAL_ERROR: c_ulonglong = 8;
/// No instance in particular: NVML_GPU_INSTANCE_ID_ANY, NVML_COMPUTE_INSTANCE_ID_ANY.
const ANY: c_uint = u32::MAX;

/// Well below where a number of milliseconds could mean something else to NVML.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// `nvmlDevice_t`.
type RawDevice = *mut c_void;

/// `nvmlEventData_t`.
#[repr(C)]
struct RawEvent {
    device: RawDevice,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

type Count = unsafe extern "C" fn(RawDevice, *mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(RawDevice, c_uint, *mut RawDevice) -> c_int;
type Wait = unsafe extern "C" fn(*mut c_void, *mut RawEvent, c_uint) -> c_int;

/// An Xid error as the driver reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct XidEvent {
    /// The GPU's UUID; `None` if it cannot say any more.
    pub(super) uuid: Option<String>,
    /// The MIG instance, if it is about one: GPU instance and compute instance.
    pub(super) instance: Option<(u32, u32)>,
    /// The error's number.
    pub(super) xid: u64,
}

/// The library, open.
#[derive(Debug)]
pub(super) struct Library {
    max_instances: Option<Count>,
    instance_by_index: Option<ByIndex>,
    gpu_instance: Option<Count>,
    compute_instance: Option<Count>,
    wait: Option<Wait>,
    // Last: the functions above are its.
    _library: SharedLibrary,
}

impl Library {
    /// Opens the library and starts NVML.
    ///
    /// # Errors
    /// Why there is no NVML here, for people.
    pub(super) fn open(path: Option<&Path>) -> Result<(Self, Nvml), String> {
        let path = path.map_or(OsStr::new(NAME), Path::as_os_str);
        // SAFETY: loading a library runs its initialisers. This one is NVIDIA's, or the one that the operator has named; loading
        // it is what this is for, and the wrapper does the same a few lines below.
        let library = unsafe { SharedLibrary::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| error.to_string())?;
        for name in [c"nvmlInit_v2", c"nvmlShutdown", c"nvmlEventSetFree"] {
            // The wrapper panics where it needs one of these and there is none.
            // SAFETY: the symbol is looked up and not used, so its type does not matter.
            let found = unsafe { library.get::<*const c_void>(name.to_bytes_with_nul()) };
            if let Err(error) = found {
                return Err(format!("{} is not NVML: {error}", path.display()));
            }
        }
        let nvml = Nvml::builder().lib_path(path).init().map_err(|error| error.to_string())?;
        // SAFETY: the types are those of nvml.h for these names.
        let this = unsafe {
            Self {
                max_instances: symbol(&library, c"nvmlDeviceGetMaxMigDeviceCount"),
                instance_by_index: symbol(&library, c"nvmlDeviceGetMigDeviceHandleByIndex"),
                gpu_instance: symbol(&library, c"nvmlDeviceGetGpuInstanceId"),
                compute_instance: symbol(&library, c"nvmlDeviceGetComputeInstanceId"),
                wait: symbol(&library, c"nvmlEventSetWait_v2"),
                _library: library,
            }
        };
        Ok((this, nvml))
    }

    /// The MIG instances of a GPU that this process may use, each with its GPU instance and compute instance.
    pub(super) fn instances<'n>(&self, gpu: &Device<'n>, nvml: &'n Nvml) -> Vec<(Device<'n>, u32, u32)> {
        let (Some(max), Some(by_index)) = (self.max_instances, self.instance_by_index) else {
            return Vec::new();
        };
        // SAFETY: the handle is used while `gpu`, and so NVML, lives.
        let parent: RawDevice = unsafe { gpu.handle() }.cast();
        let count = number(max, parent).unwrap_or_default();
        (0..count)
            .filter_map(|index| {
                let mut raw: RawDevice = std::ptr::null_mut();
                // SAFETY: `parent` is a handle of this NVML; NVML writes one handle to `raw`, and only if it says success.
                let result = unsafe { by_index(parent, index, &raw mut raw) };
                // Numbers may be free: NVML_ERROR_NOT_FOUND.
                if result != SUCCESS || raw.is_null() {
                    return None;
                }
                let ids = (number(self.gpu_instance?, raw)?, number(self.compute_instance?, raw)?);
                // SAFETY: NVML has just given this handle, of the same kind as that of a GPU ("MIG device handle").
                let device = unsafe { Device::new(raw.cast(), nvml) };
                Some((device, ids.0, ids.1))
            })
            .collect()
    }

    /// Waits for an Xid error, for as long as NVML pleases but about `limit` at most; `None` if there was none.
    ///
    /// # Errors
    /// NVML cannot wait.
    pub(super) fn wait(
        &self,
        set: &EventSet<'_>,
        nvml: &Nvml,
        limit: Duration,
    ) -> Result<Option<XidEvent>, NvmlError> {
        let wait = self.wait.ok_or(NvmlError::FunctionNotFound)?;
        let mut event = RawEvent {
            device: std::ptr::null_mut(),
            event_type: 0,
            event_data: 0,
            gpu_instance: ANY,
            compute_instance: ANY,
        };
        // Rounded up: a wait of less than a millisecond would be none.
        let milliseconds =
            u32::try_from(limit.min(LONGEST_WAIT).as_millis()).unwrap_or_default().saturating_add(1);
        // SAFETY: the set lives as long as this call, and nobody else uses it meanwhile: it is not Sync. `event` has the layout of
        // nvmlEventData_t, and NVML fills it in if it says success.
        let result = unsafe { wait(set.handle().cast(), &raw mut event, milliseconds) };
        match result {
            SUCCESS if event.event_type & XID_CRITICAL_ERROR != 0 && !event.device.is_null() => {
                // SAFETY: NVML gives the handle of the GPU that the event is about.
                let device = unsafe { Device::new(event.device.cast(), nvml) };
                let instance = (event.gpu_instance != ANY && event.compute_instance != ANY)
                    .then_some((event.gpu_instance, event.compute_instance));
                Ok(Some(XidEvent { uuid: device.uuid().ok(), instance, xid: event.event_data }))
            }
            SUCCESS | TIMEOUT => Ok(None),
            GPU_IS_LOST => Err(NvmlError::GpuLost),
            other => Err(NvmlError::UnexpectedVariant(u32::try_from(other).unwrap_or(u32::MAX))),
        }
    }
}

/// A function of the library, if it has it.
///
/// # Safety
/// `F` must be the function's type.
unsafe fn symbol<F: Copy>(library: &SharedLibrary, name: &std::ffi::CStr) -> Option<F> {
    // SAFETY: by this function's own condition.
    unsafe { library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
}

/// What a function says of a device, if it says it.
fn number(function: Count, device: RawDevice) -> Option<u32> {
    let mut number: c_uint = 0;
    // SAFETY: the function is one of NVML's that take a device and a place for a number, and the device is a handle of this NVML.
    let result = unsafe { function(device, &raw mut number) };
    (result == SUCCESS).then_some(number)
}
