//! The one line of a torch error that says what happened.

/// libtorch appends the C++ stack ("Exception raised from …"), and TorchScript puts a whole traceback before its last line.
pub(super) fn reason(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    one_line(&text)
}

/// The line of a message of libtorch's that says what happened.
pub(super) fn one_line(text: &str) -> String {
    let message = text.split("Exception raised from").next().unwrap_or(text);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let in_script = lines.iter().any(|line| line.starts_with("Traceback of TorchScript"));
    // An error of CUDA has lines of advice behind it.
    let raised = || lines.iter().rfind(|line| line.starts_with("RuntimeError:"));
    let chosen = if in_script { raised().or_else(|| lines.last()) } else { lines.first() };
    chosen.map_or_else(|| "unknown torch error".to_owned(), |line| (*line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_torchscript_traceback_the_last_line_is_kept() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized \
                    code (most recent call last):\n  File \"code/x.py\", line 10, in forward\nRuntimeError: index out of range\n";
        assert_eq!(one_line(text), "RuntimeError: index out of range");
    }

    #[test]
    fn advice_behind_an_error_of_cuda_is_left_out() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent call last):\n\
                    RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other \
                    API call, so the stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with \
                    `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\n";
        assert_eq!(one_line(text), "RuntimeError: CUDA error: device-side assert triggered");
        let (_, plain) = text.split_once("RuntimeError: ").unwrap();
        assert_eq!(one_line(plain), "CUDA error: device-side assert triggered");
    }

    #[test]
    fn of_a_cpp_error_the_first_line_is_kept() {
        let text = "PytorchStreamReader failed reading zip archive\nException raised from valid at x.cpp:175 (most recent \
                    call first):\nframe #0: c10::Error\n";
        assert_eq!(one_line(text), "PytorchStreamReader failed reading zip archive");
        assert_eq!(one_line(""), "unknown torch error");
    }
}
