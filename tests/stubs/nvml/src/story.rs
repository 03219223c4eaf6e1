//! What the file says. One thing a line, fields separated by `;`:
//!
//! ```text
//! init 9                                  nvmlInit_v2 returns this nvmlReturn_t
//! hang                                    every call waits until this line is gone
//! quiet                                   a wait for events looks at this file once only, which costs as little as NVML's own
//! hang at exit                            so does the library's own clean-up
//! gpu uuid=GPU-1;name=NVIDIA A100;total=100;free=60;reserved=1;temperature=40;utilization=7;ecc=0
//! mig gpu=GPU-1;uuid=MIG-1;gi=3;ci=0;name=…;total=…;free=…
//! xid gpu=GPU-1;number=79                 an event, for whoever listened when the line was added; also gi=…;ci=…
//! ```
//!
//! A GPU may also have `error=15`, which all calls about it return, `handle=15`, which asking for it returns, `index=no`, as if the container
//! could not use it, `events=no` and `refuse=yes`. What a line leaves out, the GPU does not have.

use std::collections::BTreeMap;
use std::time::Duration;

/// Between two looks at the file while waiting for it to change.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) init: Option<u32>,
    pub(crate) hang: bool,
    pub(crate) quiet: bool,
    pub(crate) hang_at_exit: bool,
    pub(crate) devices: Vec<Device>,
    pub(crate) xids: Vec<Fields>,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) is_instance: bool,
    pub(crate) fields: Fields,
}

#[derive(Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    fn parse(text: &str) -> Self {
        let pairs = text.split(';').filter_map(|field| field.split_once('='));
        Self(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }
}

impl Story {
    /// As it stands; `None` if nobody tells one.
    pub(crate) fn read() -> Option<Self> {
        let text = std::fs::read_to_string(std::env::var_os("NVML_STAND_IN")?).ok()?;
        let mut story = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "init" => story.init = rest.parse().ok(),
                "hang" if rest == "at exit" => story.hang_at_exit = true,
                "hang" => story.hang = true,
                "quiet" => story.quiet = true,
                "gpu" | "mig" => {
                    story.devices.push(Device { is_instance: word == "mig", fields: Fields::parse(rest) });
                }
                "xid" => story.xids.push(Fields::parse(rest)),
                _ => {}
            }
        }
        Some(story)
    }

    /// As it stands once it no longer says that calls hang.
    pub(crate) fn told() -> Option<Self> {
        loop {
            let story = Self::read()?;
            if !story.hang {
                return Some(story);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The GPUs that this container can use, which is what NVML numbers.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| !device.is_instance && device.fields.text("index") != Some("no"))
    }

    pub(crate) fn by_uuid(&self, uuid: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.fields.text("uuid") == Some(uuid))
    }

    pub(crate) fn instances<'a>(&'a self, gpu: &'a str) -> impl Iterator<Item = &'a Device> {
        self.devices.iter().filter(move |device| device.is_instance && device.fields.text("gpu") == Some(gpu))
    }
}
