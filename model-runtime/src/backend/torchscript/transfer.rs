//! Between host memory and the model's device.
//!
//! A GPU copies from and to pinned memory (which the kernel never moves) by itself and at full speed; other memory goes through a buffer of the driver.
//! On a CPU nothing is copied.

use std::cell::RefCell;

use tch::{Kind, TchError, Tensor};

use super::super::Device;

thread_local! {
    /// Pinned memory that this model thread's results pass through. Pinning costs more than copying, so it is kept, and grows.
    static RESULTS: RefCell<Option<Tensor>> = const { RefCell::new(None) };
}

/// Puts a tensor of the host onto the device, without waiting until it is there: whatever uses it comes later in the same stream. The pinned copy may be
/// dropped before: libtorch's allocator gives its memory away only after the stream has passed the copy.
pub(super) fn to_device(tensor: Tensor, device: Device) -> Result<Tensor, TchError> {
    match device {
        Device::Cpu => Ok(tensor),
        Device::Cuda(_) => {
            let kind = tensor.f_kind()?;
            tensor.f_pin_memory(device.into())?.f_to_device_(device.into(), kind, true, false)
        }
    }
}

/// All elements of a tensor, row by row, as fp32. Waits for this thread's stream alone.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let flat = tensor.f_to_kind(Kind::Float)?.f_reshape([-1])?;
    let device = flat.device();
    if device == tch::Device::Cpu {
        return Vec::try_from(&flat);
    }
    RESULTS.with_borrow_mut(|kept| {
        let length = flat.numel();
        let buffer = match kept.take().filter(|kept| kept.numel() >= length) {
            Some(buffer) => buffer,
            None => {
                let room = i64::try_from(length.next_power_of_two()).unwrap_or(i64::MAX);
                Tensor::f_empty([room], (Kind::Float, tch::Device::Cpu))?.f_pin_memory(device)?
            }
        };
        let mut part = buffer.f_narrow(0, 0, i64::try_from(length).unwrap_or(i64::MAX))?;
        // Blocking, so that the numbers are there: libtorch waits for the current stream.
        part.f_copy_(&flat)?;
        let values = Vec::try_from(&part);
        *kept = Some(buffer);
        values
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_cpu_numbers_stay_what_they_are_and_become_fp32() {
        let tensor = to_device(Tensor::from_slice(&[1.5_f64, -2.0, 0.25, 3.0]), Device::Cpu).unwrap();
        let transposed = tensor.reshape([2, 2]).transpose(0, 1);
        assert_eq!(floats(&transposed).unwrap(), [1.5, 0.25, -2.0, 3.0]);
        assert_eq!(floats(&Tensor::from_slice::<f32>(&[])).unwrap(), [0_f32; 0]);
    }
}
