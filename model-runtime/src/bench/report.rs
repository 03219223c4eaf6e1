//! The findings, in tables for people or as JSON.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::advice::{Advice, Cost, EQUAL_WITHIN, first_of_the_best};
use super::measure::Measured;
use super::plan::Arrangement;
use crate::loading::LoadedModel;

/// A cell of a table: `123.4 ms  5678/s`.
const CELL: usize = 19;
/// The first column of a table.
const STUB: usize = 20;

/// What was measured, and where.
#[derive(Debug, Serialize)]
pub(super) struct Subject {
    model: String,
    task: &'static str,
    device: String,
    precision: String,
    cores: usize,
    libtorch: &'static str,
    load_seconds: f64,
}

/// Everything that `bench` says.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) shapes: Vec<Measured>,
    pub(super) arrangements: Vec<Measured>,
    pub(super) batches: Vec<Measured>,
    pub(super) advice: Advice,
}

impl Subject {
    pub(super) fn new(model: &LoadedModel, cores: usize, load_time: Duration) -> Self {
        Self {
            model: model.description.name().to_owned(),
            task: model.description.task.kind().as_str(),
            device: model.devices.to_string(),
            precision: model.precision.to_string(),
            cores,
            libtorch: env!("PILOTLIGHT_TORCH_VERSION"),
            load_seconds: load_time.as_secs_f64(),
        }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { model, task, device, precision, cores, libtorch, load_seconds } = self;
        for (name, value) in [
            ("model", model.clone()),
            ("task", (*task).to_owned()),
            ("device", format!("{device}, {precision}, {}", counted(*cores, "CPU core"))),
            ("libtorch", (*libtorch).to_owned()),
            ("loaded in", format!("{load_seconds:.2} s, warm-up included")),
        ] {
            writeln!(out, "{name:<12} {value}")?;
        }
        Ok(())
    }
}

impl Findings {
    pub(super) fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.print_shapes(out)?;
        self.print_arrangements(out)?;
        self.print_batches(out)?;
        self.print_advice(out)
    }

    fn print_shapes(&self, out: &mut impl Write) -> io::Result<()> {
        let threads = self.shapes.first().map_or(1, |first| first.run.arrangement.threads);
        let how = Arrangement { instances: 1, threads };
        let rows: BTreeSet<usize> = self.shapes.iter().map(|it| it.run.tokens).collect();
        let rows =
            rows.into_iter().map(|tokens| (of_length(tokens), move |it: &Measured| it.run.tokens == tokens));
        print_table(out, &title("one forward at a time", &[described(how)]), &self.shapes, rows)
    }

    fn print_arrangements(&self, out: &mut impl Write) -> io::Result<()> {
        let tokens = self.arrangements.first().map_or(1, |first| first.run.tokens);
        let mut rows: Vec<Arrangement> = self.arrangements.iter().map(|it| it.run.arrangement).collect();
        rows.dedup();
        let rows =
            rows.into_iter().map(|row| (described(row), move |it: &Measured| it.run.arrangement == row));
        print_table(out, &title("forwards side by side", &[of_length(tokens)]), &self.arrangements, rows)
    }

    fn print_batches(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(first) = self.batches.first() else { return Ok(()) };
        let known = [of_length(first.run.tokens), described(first.run.arrangement)];
        writeln!(out, "\n{}", title("growing batches", &known))?;
        for batch in &self.batches {
            let size = match batch.run.tokens {
                1 => counted(batch.run.inputs, "input"),
                _ => counted(batch.run.batch_tokens(), "token"),
            };
            writeln!(out, "  {size:<STUB$}{}", cell(Some(batch)))?;
        }
        Ok(())
    }

    fn print_advice(&self, out: &mut impl Write) -> io::Result<()> {
        let Advice { arrangement, cost, for_lone_requests, .. } = &self.advice;
        writeln!(out)?;
        let mut recommend = |flags: String, why: String| writeln!(out, "{flags:<30}{why}");
        recommend("recommended".to_owned(), "because".to_owned())?;
        if let Some(arrangement) = arrangement {
            recommend(flags(*arrangement), self.why_arrangement())?;
        }
        if let Some(tokens) = self.advice.max_batch_tokens {
            recommend(format!("--max-batch-tokens {tokens}"), self.why_batch())?;
        }
        if let Some(size) = self.advice.max_batch_size {
            recommend(format!("--max-batch-size {size}"), self.why_batch())?;
        }
        if let (Some(padding), Some(Cost { forward_ms, token_ms })) = (self.advice.max_batch_padding, cost) {
            let why = format!(
                "a forward costs {forward_ms:.2} ms before its first token, and {token_ms:.3} ms a token"
            );
            recommend(format!("--max-batch-padding {padding}"), why)?;
        }
        if let Some(lone) = for_lone_requests {
            let Arrangement { threads, .. } = lone.run.arrangement;
            writeln!(
                out,
                "\na request that has the machine to itself takes {} with {} (see --threads)",
                milliseconds(lone),
                counted(threads, "thread")
            )?;
        }
        Ok(())
    }

    fn why_arrangement(&self) -> String {
        let Some(best) = first_of_the_best(&self.arrangements) else { return String::new() };
        let others = self.arrangements.iter().filter(|it| it.run.arrangement != best.run.arrangement);
        let next = others.max_by(|a, b| a.inputs_per_second().total_cmp(&b.inputs_per_second()));
        let next = next.map_or_else(String::new, |next| {
            format!("; next: {}, {:.0}/s", described(next.run.arrangement), next.inputs_per_second())
        });
        format!("{:.0}/s{next}", best.inputs_per_second())
    }

    fn why_batch(&self) -> String {
        let most = self.batches.iter().map(Measured::inputs_per_second).fold(0.0, f64::max);
        let per_second = first_of_the_best(&self.batches).map_or(0.0, Measured::inputs_per_second);
        let within = EQUAL_WITHIN * 100.0;
        format!("{per_second:.0}/s; the smallest batch within {within:.0} % of the most, {most:.0}/s")
    }
}

/// Rows by what is asked of their measurements, columns by inputs in a batch.
fn print_table<R: Fn(&Measured) -> bool>(
    out: &mut impl Write,
    title: &str,
    measured: &[Measured],
    rows: impl Iterator<Item = (String, R)>,
) -> io::Result<()> {
    let columns: BTreeSet<usize> = measured.iter().map(|it| it.run.inputs).collect();
    let head: String = columns.iter().map(|inputs| format!("{:>CELL$}", counted(*inputs, "input"))).collect();
    writeln!(out, "\n{title}\n  {:<STUB$}{head}", "")?;
    let mut left_out = false;
    for (name, belongs) in rows {
        write!(out, "  {name:<STUB$}")?;
        for inputs in &columns {
            let found = measured.iter().find(|it| it.run.inputs == *inputs && belongs(it));
            left_out |= found.is_none();
            write!(out, "{}", cell(found))?;
        }
        writeln!(out)?;
    }
    if left_out {
        writeln!(out, "  (-: would have taken longer than the time there was; give more --seconds)")?;
    }
    Ok(())
}

fn cell(measured: Option<&Measured>) -> String {
    let text = measured.map_or_else(
        || "-".to_owned(),
        |it| format!("{} {:>6.0}/s", milliseconds(it), it.inputs_per_second()),
    );
    format!("{text:>CELL$}")
}

fn milliseconds(measured: &Measured) -> String {
    format!("{:.1} ms", measured.forward.as_secs_f64() * 1e3)
}

/// Only texts have a length.
fn of_length(tokens: usize) -> String {
    if tokens == 1 { String::new() } else { format!("{tokens} tokens each") }
}

/// What is known of the runs of a table, after its name.
fn title(name: &str, known: &[String]) -> String {
    let known = known.iter().filter(|part| !part.is_empty());
    known.fold(name.to_owned(), |title, part| format!("{title}, {part}"))
}

fn described(arrangement: Arrangement) -> String {
    let Arrangement { instances, threads } = arrangement;
    format!("{} x {}", counted(instances, "instance"), counted(threads, "thread"))
}

/// One thread is what `serve` takes unless told otherwise, and then lets a lone request have more.
fn flags(arrangement: Arrangement) -> String {
    match arrangement {
        Arrangement { instances, threads: 1 } => format!("--instances {instances}"),
        Arrangement { instances, threads } => format!("--instances {instances} --threads {threads}"),
    }
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
