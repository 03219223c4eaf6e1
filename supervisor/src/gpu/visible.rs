//! Which of the GPUs that NVML shows are this container's.
//!
//! Two variables have a say, and they speak to different readers:
//!
//! - `NVIDIA_VISIBLE_DEVICES` tells the container runtime which GPUs to bring into the container (NVIDIA Container Toolkit, "GPU
//!   enumeration"). Where it did, NVML shows those and no others, numbered from 0 again, so that the numbers in the list, which are the
//!   host's, mean nothing any more. So numbers are only followed where NVML shows more GPUs than the list has, which is to say that no
//!   runtime has acted on it. UUIDs mean the same everywhere and are always followed. `void` is what the runtime leaves behind
//!   when it has brought the GPUs in by another way (CDI), so it says nothing; nor do a list of CDI names, a path, or a list of
//!   which nothing is there.
//! - `CUDA_VISIBLE_DEVICES` tells CUDA which of the GPUs in the container to use (CUDA programming guide, "CUDA environment variables"). Its numbers
//!   are those inside the container, in NVML's order, which is CUDA's where all GPUs are alike or `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
//!   It ends at the first entry that is invalid, and an entry that comes twice leaves nothing, as PyTorch reads it too
//!   (`torch/cuda/__init__.py`, `_parse_visible_devices`).

/// A GPU, or a MIG instance of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its own UUID: `GPU-…` or `MIG-…`.
    pub(super) uuid: String,
    /// NVML's number of the GPU.
    pub(super) index: u32,
    /// Where in the GPU it is, if it is a MIG instance.
    pub(super) seat: Option<Seat>,
}

/// The place of a MIG instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// The GPU's UUID.
    pub(super) gpu: String,
    /// Its number among the GPU's instances.
    pub(super) number: u32,
    /// The GPU instance and the compute instance.
    pub(super) ids: (u32, u32),
}

impl Seen {
    fn board(&self) -> &str {
        self.seat.as_ref().map_or(&self.uuid, |seat| &seat.gpu)
    }
}

/// Which of `all`, in their order, are visible by both variables; `None` is a variable that is not set.
pub(super) fn choose(all: &[Seen], runtime: Option<&str>, cuda: Option<&str>) -> Vec<bool> {
    let (by_runtime, by_cuda) = (by_runtime(all, runtime), by_cuda(all, cuda));
    by_runtime.into_iter().zip(by_cuda).map(|(runtime, cuda)| runtime && cuda).collect()
}

/// By `NVIDIA_VISIBLE_DEVICES`.
fn by_runtime(all: &[Seen], list: Option<&str>) -> Vec<bool> {
    let everything = vec![true; all.len()];
    let entries = entries(list.unwrap_or_default());
    match entries.as_slice() {
        [] | ["all" | "void"] => everything,
        ["none"] => vec![false; all.len()],
        entries if entries.iter().all(|entry| entry.starts_with("GPU-") || entry.starts_with("MIG-")) => {
            let chosen: Vec<bool> =
                all.iter().map(|seen| entries.iter().any(|entry| is_named(seen, entry))).collect();
            if chosen.contains(&true) { chosen } else { everything }
        }
        entries => {
            // `2` is a GPU, `2:0` an instance of one.
            let numbers: Option<Vec<(u32, Option<u32>)>> =
                entries.iter().map(|entry| position(entry)).collect();
            let Some(numbers) = numbers else { return everything };
            let instances = numbers.iter().filter(|(_, instance)| instance.is_some()).count();
            let shown = if instances > 0 { all.len() } else { boards(all).len() };
            if shown <= numbers.len() {
                return everything;
            }
            let is_listed = |seen: &Seen| {
                let number = seen.seat.as_ref().map(|seat| seat.number);
                numbers
                    .iter()
                    .any(|(gpu, instance)| seen.index == *gpu && (instance.is_none() || *instance == number))
            };
            all.iter().map(is_listed).collect()
        }
    }
}

/// By `CUDA_VISIBLE_DEVICES`.
fn by_cuda(all: &[Seen], list: Option<&str>) -> Vec<bool> {
    let Some(list) = list else { return vec![true; all.len()] };
    let boards = boards(all);
    let mut chosen: Vec<Vec<bool>> = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let named: Vec<bool> = if entry.starts_with("GPU-") || entry.starts_with("MIG-") {
            all.iter().map(|seen| is_named(seen, entry)).collect()
        } else {
            let board = leading_number(entry).and_then(|number| boards.get(number));
            all.iter().map(|seen| board.is_some_and(|board| seen.board() == *board)).collect()
        };
        let is_ambiguous =
            boards.iter().filter(|board| !entry.is_empty() && board.starts_with(entry)).count() > 1;
        if !named.contains(&true) || is_ambiguous {
            break;
        }
        if chosen.contains(&named) {
            return vec![false; all.len()];
        }
        chosen.push(named);
    }
    (0..all.len()).map(|at| chosen.iter().any(|named| named.get(at).copied().unwrap_or_default())).collect()
}

/// Whether a UUID, or the beginning of one, or the older form `MIG-GPU-UUID/GPU INSTANCE/COMPUTE INSTANCE` is about this one.
fn is_named(seen: &Seen, entry: &str) -> bool {
    if seen.uuid.starts_with(entry) || (entry.starts_with("GPU-") && seen.board().starts_with(entry)) {
        return true;
    }
    let mut parts = entry.strip_prefix("MIG-").unwrap_or_default().split('/');
    let (gpu, ids) = (parts.next(), (parts.next(), parts.next()));
    seen.seat.as_ref().is_some_and(|seat| {
        gpu.is_some_and(|gpu| gpu.starts_with("GPU-") && seat.gpu.starts_with(gpu))
            && ids.0.and_then(|id| id.parse().ok()) == Some(seat.ids.0)
            && ids.1.and_then(|id| id.parse().ok()) == Some(seat.ids.1)
    })
}

/// The UUIDs of the GPUs, in order, each once.
fn boards(all: &[Seen]) -> Vec<&str> {
    let mut boards: Vec<&str> = all.iter().map(Seen::board).collect();
    boards.dedup();
    boards
}

fn entries(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

fn position(entry: &str) -> Option<(u32, Option<u32>)> {
    match entry.split_once(':') {
        None => Some((entry.parse().ok()?, None)),
        Some((gpu, instance)) => Some((gpu.parse().ok()?, Some(instance.parse().ok()?))),
    }
}

/// As CUDA's strtoul does it: `1st` is 1, `-1` and `first` are nothing.
fn leading_number(entry: &str) -> Option<usize> {
    let digits = entry.strip_prefix('+').unwrap_or(entry);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: u32) -> Vec<Seen> {
        (0..count).map(|index| Seen { uuid: format!("GPU-{index}{index}-x"), index, seat: None }).collect()
    }

    /// GPU 0 whole, GPU 1 in two instances.
    fn mixed() -> Vec<Seen> {
        let seat = |number| Some(Seat { gpu: "GPU-11-x".to_owned(), number, ids: (number + 5, 0) });
        vec![
            Seen { uuid: "GPU-00-x".to_owned(), index: 0, seat: None },
            Seen { uuid: "MIG-aa".to_owned(), index: 1, seat: seat(0) },
            Seen { uuid: "MIG-bb".to_owned(), index: 1, seat: seat(1) },
        ]
    }

    fn chosen(all: &[Seen], runtime: Option<&str>, cuda: Option<&str>) -> Vec<usize> {
        let choice = choose(all, runtime, cuda);
        choice.into_iter().enumerate().filter(|(_, chosen)| *chosen).map(|(at, _)| at).collect()
    }

    #[test]
    fn the_runtimes_list_is_followed_where_no_runtime_has_done_so() {
        let all = vec![0, 1, 2, 3];
        for (list, expected) in [
            ("", all.clone()),
            ("all", all.clone()),
            ("void", all.clone()),
            ("none", vec![]),
            ("2,3", vec![2, 3]),
            ("3", vec![3]),
            ("0,1,2,3", all.clone()),
            ("GPU-11-x", vec![1]),
            ("GPU-1, GPU-33", vec![1, 3]),
            ("GPU-unknown", all.clone()),
            ("nvidia.com/gpu=0", all.clone()),
            ("/var/run/nvidia-container-devices", all.clone()),
        ] {
            assert_eq!(chosen(&gpus(4), Some(list), None), expected, "{list}");
        }
        assert_eq!(chosen(&gpus(4), None, None), all);
    }

    #[test]
    fn a_list_that_the_runtime_has_followed_is_not_followed_again() {
        // The host's 2 and 3 are 0 and 1 in the container.
        assert_eq!(chosen(&gpus(2), Some("2,3"), None), [0, 1]);
        assert_eq!(chosen(&gpus(1), Some("7"), None), [0]);
        assert_eq!(chosen(&gpus(1), Some("2,3"), None), [0], "one of them is gone");
        let instance = vec![mixed()[2].clone()];
        assert_eq!(chosen(&instance, Some("0:3"), None), [0]);
    }

    #[test]
    fn cudas_list_ends_at_what_is_invalid_and_a_repeated_entry_leaves_nothing() {
        for (list, expected) in [
            ("", vec![]),
            ("-1", vec![]),
            ("NoDevFiles", vec![]),
            ("1", vec![1]),
            ("3,1", vec![1, 3]),
            (" 0 , 2 ", vec![0, 2]),
            ("0,2,-1,1", vec![0, 2]),
            ("0,9,1", vec![0]),
            ("0,,1", vec![0]),
            ("1st,2nd", vec![1, 2]),
            ("1,1", vec![]),
            ("GPU-11-x,GPU-33", vec![1, 3]),
            ("GPU-11-x,GPU-unknown,GPU-33", vec![1]),
            ("GPU-,GPU-33", vec![]),
        ] {
            assert_eq!(chosen(&gpus(4), None, Some(list)), expected, "{list:?}");
        }
    }

    #[test]
    fn cuda_chooses_among_what_the_runtime_left() {
        assert_eq!(chosen(&gpus(2), Some("2,3"), Some("1")), [1]);
        assert_eq!(chosen(&gpus(4), Some("GPU-11,GPU-22"), Some("1,3")), [1]);
        assert_eq!(chosen(&gpus(4), Some("none"), Some("0")), Vec::<usize>::new());
    }

    #[test]
    fn instances_are_chosen_by_uuid_by_number_and_by_place() {
        for (runtime, cuda, expected) in [
            (None, None, vec![0, 1, 2]),
            (Some("MIG-bb"), None, vec![2]),
            (Some("1:0"), None, vec![1]),
            (Some("1"), None, vec![1, 2]),
            (None, Some("MIG-aa"), vec![1]),
            (None, Some("MIG-GPU-11-x/6/0"), vec![2]),
            (None, Some("MIG-GPU-11-x/9/0"), vec![]),
            (None, Some("1"), vec![1, 2]),
            (None, Some("0"), vec![0]),
            (None, Some("GPU-11"), vec![1, 2]),
        ] {
            assert_eq!(chosen(&mixed(), runtime, cuda), expected, "{runtime:?} {cuda:?}");
        }
    }
}
