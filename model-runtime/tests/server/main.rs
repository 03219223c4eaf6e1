//! Tests of the real program on the real model, over HTTP and by signals.

#[cfg(test)]
mod access;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod device;
#[cfg(test)]
mod expected;
#[cfg(test)]
mod failing_model;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hot_change;
#[cfg(test)]
mod images;
#[cfg(test)]
mod life;
#[cfg(test)]
mod open_inference;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod predict;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod tensors;
#[cfg(test)]
mod traces;
