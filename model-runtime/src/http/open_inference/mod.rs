//! The Open Inference Protocol, version 2, over HTTP (github.com/kserve/open-inference-protocol), with the extensions of Triton that its clients
//! use: binary tensor data, classification, parameters (github.com/triton-inference-server/server, docs/protocol).
//!
//! ```text
//!   body ──▶ request: JSON header, binary parts ──▶ tensors ──▶ samples ──▶ model ──▶ tensors ──▶ response
//!                                                   └─ by what the model takes, and what is sent: tensors.rs, texts_and_images.rs, token_ids.rs, pixel_values.rs
//! ```
//!
//! Not served, and said so: shared memory, sequences, tracing, loading models by clients, several models or versions.

mod bytes_elements;
mod classification;
pub(super) mod infer;
pub(super) mod metadata;
mod pixel_values;
mod raw_output;
pub(super) mod repository;
mod request;
mod response;
mod served_model;
pub(super) mod signature;
mod tensor;
mod tensors;
mod texts_and_images;
mod token_ids;

pub(super) use request::InferRequest;
