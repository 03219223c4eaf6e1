//! What is measured, in which order. Pure.

use serde::Serialize;

/// Lengths of texts, in tokens: a few words, a sentence, a paragraph; the model's limit comes with them.
const LENGTHS: [usize; 3] = [8, SENTENCE, 128];
/// About a sentence: what the later rounds are measured with.
const SENTENCE: usize = 32;
/// Inputs in a batch.
const ROWS: [usize; 5] = [1, 2, 4, 8, 16];
/// What `serve` puts together at most unless told otherwise, in sentences: 256 tokens on a CPU, no more than 64 texts on a GPU.
const CPU_BATCH: usize = 8;
const GPU_BATCH: usize = 64;
/// Inputs in a batch of the last round.
const CPU_ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const GPU_ROWS: [usize; 7] = [8, 32, 64, 128, 256, 512, 1024];
/// As `serve`: more model threads than this compete for memory bandwidth.
const MOST_INSTANCES: usize = 16;

/// How many forwards run side by side, and how many CPU threads each of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Arrangement {
    pub(super) instances: usize,
    pub(super) threads: usize,
}

/// One thing to measure: batches of so many inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) arrangement: Arrangement,
    pub(super) inputs: usize,
    /// In each of the texts. Inputs that are no texts count as one token, as everywhere.
    pub(super) tokens: usize,
}

impl Run {
    /// Tokens in a batch.
    pub(super) fn batch_tokens(&self) -> usize {
        self.inputs * self.tokens
    }
}

/// What the plan depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) on_gpu: bool,
    pub(super) cores: usize,
    /// CPU threads in a forward of the first round.
    pub(super) threads: usize,
    /// The model's limit, in tokens; 1 of a model that does not take texts.
    pub(super) longest: usize,
    /// Whether several inputs can go through the model together.
    pub(super) takes_batches: bool,
}

impl Plan {
    /// Lengths by batch sizes, the smallest batch first, so that what a short time leaves out are the largest.
    pub(super) fn shapes(&self) -> Vec<Run> {
        let arrangement = Arrangement { instances: 1, threads: self.threads };
        let shorter = LENGTHS.into_iter().filter(|length| *length < self.longest);
        let lengths = shorter.chain([self.longest]);
        let of_length = |tokens| ROWS.map(|inputs| Run { arrangement, inputs, tokens });
        let mut runs = self.possible(lengths.flat_map(of_length));
        runs.sort_by_key(Run::batch_tokens);
        runs
    }

    /// One alone, then everything that keeps all cores busy, fewest threads in a forward first.
    pub(super) fn arrangements(&self) -> Vec<Run> {
        let alone = Arrangement { instances: 1, threads: 1 };
        let mut all = vec![alone];
        if self.on_gpu {
            // The CPU threads of a forward only feed the GPU.
            all.push(Arrangement { instances: 2, threads: 1 });
        } else {
            let doubling = std::iter::successors(Some(1), |threads| Some(threads * 2));
            let threads = doubling.take_while(|threads| *threads < self.cores).chain([self.cores]);
            let filling = threads.map(|threads| Arrangement {
                instances: (self.cores / threads).clamp(1, MOST_INSTANCES),
                threads,
            });
            all.extend(filling.filter(|arrangement| *arrangement != alone));
        }
        let batch = if self.on_gpu { GPU_BATCH } else { CPU_BATCH };
        self.possible(all.into_iter().flat_map(|arrangement| self.sentences(arrangement, [1, batch])))
    }

    /// Sentences, more and more of them.
    pub(super) fn batches(&self, arrangement: Arrangement) -> Vec<Run> {
        self.possible(self.sentences(arrangement, if self.on_gpu { GPU_ROWS } else { CPU_ROWS }))
    }

    fn sentences<const N: usize>(&self, arrangement: Arrangement, rows: [usize; N]) -> [Run; N] {
        rows.map(|inputs| Run { arrangement, inputs, tokens: SENTENCE.min(self.longest) })
    }

    fn possible(&self, runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
        runs.into_iter().filter(|run| self.takes_batches || run.inputs == 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { on_gpu: false, cores: 2, threads: 1, longest: 512, takes_batches: true };

    fn arrangements(plan: Plan) -> Vec<(usize, usize)> {
        let mut all: Vec<_> = plan.arrangements().iter().map(|run| run.arrangement).collect();
        all.dedup();
        all.into_iter().map(|it| (it.instances, it.threads)).collect()
    }

    #[test]
    fn every_length_meets_every_batch_size_smallest_first() {
        let runs = PLAN.shapes();
        assert_eq!(runs.len(), 20);
        assert!(runs.is_sorted_by_key(Run::batch_tokens));
        assert_eq!(Plan { longest: 20, ..PLAN }.shapes().iter().map(|run| run.tokens).max(), Some(20));
    }

    #[test]
    fn arrangements_fill_the_cores_they_are_given() {
        assert_eq!(arrangements(PLAN), [(1, 1), (2, 1), (1, 2)]);
        assert_eq!(arrangements(Plan { cores: 1, ..PLAN }), [(1, 1)]);
        assert_eq!(arrangements(Plan { cores: 6, ..PLAN }), [(1, 1), (6, 1), (3, 2), (1, 4), (1, 6)]);
        assert_eq!(arrangements(Plan { cores: 64, ..PLAN })[1], (16, 1));
        assert_eq!(arrangements(Plan { on_gpu: true, cores: 64, ..PLAN }), [(1, 1), (2, 1)]);
    }

    #[test]
    fn batches_of_sentences_have_the_tokens_that_serve_counts() {
        let batches = PLAN.batches(Arrangement { instances: 2, threads: 1 });
        assert!(batches.iter().map(Run::batch_tokens).eq([32, 64, 128, 256, 512, 1024, 2048]));
    }

    #[test]
    fn what_is_no_text_has_no_length_and_what_takes_no_batches_gets_none() {
        let images = Plan { longest: 1, ..PLAN };
        assert!(images.shapes().iter().map(|run| (run.inputs, run.tokens)).eq(ROWS.map(|rows| (rows, 1))));
        let alone = Plan { takes_batches: false, ..images };
        assert_eq!(alone.shapes().len(), 1);
        assert!(alone.arrangements().iter().all(|run| run.inputs == 1));
    }
}
