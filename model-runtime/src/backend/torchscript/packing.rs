//! Whether a model whose linear layers were packed for the CPU still answers as before.
//!
//! The pass is libtorch's and ours, the model anybody's: one that draws random numbers or overflows may answer otherwise, and is then run as it is.

use super::super::{Array, Datatype, Output};

/// The most that an answer's numbers may change, as a part of the largest of them: sums in another order change a millionth.
const TOLERANCE: f64 = 1e-3;

/// Whether these are the same answers but for rounding.
pub(super) fn equal_but_for_rounding(before: &[Output], after: &[Output]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(before, after)| same_output(before, after))
}

fn same_output(before: &Output, after: &Output) -> bool {
    match (before, after) {
        (Output::Rows(before), Output::Rows(after)) => {
            (before.columns, before.granularity) == (after.columns, after.granularity)
                && close(&widened(&before.values), &widened(&after.values))
        }
        (Output::Arrays(before), Output::Arrays(after)) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| same_array(before, after))
        }
        (Output::Rows(_), Output::Arrays(_)) | (Output::Arrays(_), Output::Rows(_)) => false,
    }
}

fn same_array(before: &Array, after: &Array) -> bool {
    let shaped = |array: &Array| (array.datatype(), array.shape().to_vec());
    if shaped(before) != shaped(after) {
        return false;
    }
    match before.datatype() {
        Datatype::Fp32 => close(&numbers(before, f32::from_le_bytes), &numbers(after, f32::from_le_bytes)),
        Datatype::Fp64 => close(&numbers(before, f64::from_le_bytes), &numbers(after, f64::from_le_bytes)),
        _ => before.bytes() == after.bytes(),
    }
}

fn numbers<const SIZE: usize, F: Into<f64>>(array: &Array, read: impl Fn([u8; SIZE]) -> F) -> Vec<f64> {
    array.bytes().as_chunks::<SIZE>().0.iter().map(|bytes| read(*bytes).into()).collect()
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn close(before: &[f64], after: &[f64]) -> bool {
    let largest = before
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    let same = |(before, after): (&f64, &f64)| {
        // Infinities and NaN must stay what they are.
        (before - after).abs() <= TOLERANCE * largest
            || before == after
            || (before.is_nan() && after.is_nan())
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Backend as _, Device, Granularity, Precision, Rows, Sample, TorchScript};
    use super::*;
    use crate::config::cli::ServeArgs;
    use crate::config::{Running, RuntimeToml};
    use crate::model::Description;
    use std::path::Path;
    use std::process::Command;
    use std::sync::LazyLock;
    use tch::{CModule, Kind, Tensor};
    use tempfile::TempDir;

    /// What `tests/modules.py` writes.
    fn modules() -> &'static Path {
        static MODULES: LazyLock<TempDir> = LazyLock::new(|| {
            let directory = tempfile::tempdir().unwrap();
            let python = std::env::var_os("PILOTLIGHT_TORCH_PYTHON")
                .expect("PILOTLIGHT_TORCH_PYTHON: see .ci/install/env");
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modules.py");
            let run = Command::new(python).arg("-B").arg(script).arg(directory.path()).output().unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            directory
        });
        MODULES.path()
    }

    fn module(name: &str) -> CModule {
        let mut module = CModule::load(modules().join(name).join("model.pt")).unwrap();
        module.set_eval();
        module
    }

    /// The largest difference that packing makes, and how many layers were packed.
    fn packed(name: &str) -> (f64, u64) {
        let _no_grad = tch::no_grad_guard();
        let kind = match name {
            "double" => Kind::Double,
            "bf16" => Kind::BFloat16,
            _ => Kind::Float,
        };
        let mut module = module(name);
        let inputs =
            [1, 2, 77].map(|rows| Tensor::randn([rows, 300], (Kind::Float, tch::Device::Cpu)).to_kind(kind));
        let before = inputs.each_ref().map(|x| module.forward_ts(&[x]).unwrap());
        let layers = frozen_graph::pack(&mut module).unwrap();
        // More than once, because later runs are of the optimised graph.
        let difference = |(x, before): (&Tensor, &Tensor)| {
            let after = [(); 3].map(|()| module.forward_ts(&[x]).unwrap());
            after.map(|after| (before - after).abs().max().double_value(&[])).into_iter().fold(0.0, f64::max)
        };
        (inputs.iter().zip(&before).map(difference).fold(0.0, f64::max), layers)
    }

    #[test]
    fn packed_layers_compute_what_they_did() {
        let one = ["plain", "without_bias", "gelu", "gelu_tanh", "relu", "used_twice", "tied"]
            .map(|name| (name, 1));
        // The forked one is in a graph of its own, which stays as it is.
        for (name, expected) in one.into_iter().chain([("branch", 3), ("fork", 1), ("residual", 3)]) {
            let (difference, layers) = packed(name);
            assert_eq!(layers, expected, "{name}");
            assert!(difference < 1e-5, "{name}: {difference}");
        }
    }

    #[test]
    fn small_layers_and_those_in_other_formats_stay_as_they_are() {
        for name in ["small", "double", "bf16"] {
            assert_eq!(packed(name), (0.0, 0), "{name}");
        }
    }

    #[test]
    fn a_module_keeps_its_state() {
        let mut module = module("counter");
        let _no_grad = tch::no_grad_guard();
        let call = |module: &CModule| {
            let x = Tensor::zeros([1, 300], (Kind::Float, tch::Device::Cpu));
            module.forward_ts(&[x]).unwrap().double_value(&[0, 0])
        };
        assert!((call(&module) - 1.0).abs() < f64::EPSILON);
        frozen_graph::pack(&mut module).unwrap();
        assert!((call(&module) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_module_that_cannot_be_frozen_is_as_it_was() {
        let mut module = CModule::load(modules().join("plain/model.pt")).unwrap();
        module.set_train();
        let reason = frozen_graph::pack(&mut module).unwrap_err();
        assert!(reason.contains("eval mode"), "{reason}");
        let x = Tensor::zeros([1, 300], (Kind::Float, tch::Device::Cpu));
        assert_eq!(module.forward_ts(&[x]).unwrap().size(), [1, 300]);
    }

    #[test]
    fn a_model_that_answers_otherwise_when_packed_runs_as_it_is() {
        let dir = modules().join("random");
        let file = "task = \"tensors\"\n[[input_tensors]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [300]\n\
                    [[output_tensors]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [300]\n";
        let file = RuntimeToml::parse(file).unwrap();
        let running = Running::merge(&ServeArgs::from_flags(&[]).model, &file);
        let model = Description::read(&dir, &file, &running).unwrap();
        let (model, _) = TorchScript::load(&model, Precision::Fp32, Device::Cpu, &running).unwrap();
        let sample = Sample::Arrays(vec![Array::zeros(Datatype::Fp32, vec![300]).unwrap()]);
        assert_eq!(model.forward(&[&sample, &sample]).unwrap().len(), 2);
    }

    fn rows(values: &[f32]) -> Vec<Output> {
        vec![Output::Rows(Rows { values: values.to_vec(), columns: 1, granularity: Granularity::Whole })]
    }

    fn arrays(values: &[f32]) -> Vec<Output> {
        vec![Output::Arrays(vec![Array::from_f32(vec![values.len()], values).unwrap()])]
    }

    #[test]
    fn rounding_is_no_difference_and_anything_more_is() {
        for of in [rows, arrays] {
            let same = |before: &[f32], after: &[f32]| equal_but_for_rounding(&of(before), &of(after));
            assert!(
                same(&[10.0, 0.0], &[10.000_01, 0.000_01]),
                "small numbers among large ones round as these do"
            );
            assert!(!same(&[10.0, 0.0], &[10.0, 0.02]));
            assert!(!same(&[1e-9], &[-1e-9]), "a model whose numbers are all small is measured by these");
            assert!(!same(&[1.0], &[1.0, 1.0]));
            assert!(same(&[f32::NAN, f32::INFINITY, 1.0], &[f32::NAN, f32::INFINITY, 1.0]));
            assert!(!same(&[1.0, 2.0], &[f32::NAN, 2.0]));
            assert!(!same(&[f32::INFINITY, 2.0], &[f32::NEG_INFINITY, 2.0]));
        }
        assert!(!equal_but_for_rounding(&rows(&[1.0]), &arrays(&[1.0])));
    }

    #[test]
    fn whole_numbers_are_equal_or_not() {
        let counts = |values: &[u8]| {
            let bytes = bytes::Bytes::copy_from_slice(values);
            vec![Output::Arrays(vec![Array::new(Datatype::Uint8, vec![values.len()], bytes).unwrap()])]
        };
        assert!(equal_but_for_rounding(&counts(&[200, 1]), &counts(&[200, 1])));
        assert!(!equal_but_for_rounding(&counts(&[200, 1]), &counts(&[200, 0])));
    }
}
