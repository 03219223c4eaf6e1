//! What a forward costs beside a request, roughly: on it depends what a batch should be.

/// How fast a model is where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// On a GPU, which thousands of tokens keep busy.
    Gpu,
    /// On a CPU, where each token costs.
    Cpu,
    /// On a CPU, but so small that handling a request costs as much as a sentence.
    QuickOnCpu,
}
