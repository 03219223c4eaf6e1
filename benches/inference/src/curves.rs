//! What each setting of the batching does to throughput and to the slowest answers, the others being as they are by default.
//!
//! Machines have moods that last for seconds and are larger than most of these differences. So a server with the default settings runs beside each other one,
//! they are asked in turns of a second, and what is drawn is a part of the default's.

use std::path::Path;

use crate::answers::{self, Entity};
use crate::contender::Contender;
use crate::figures::Figures;
use crate::load;
use crate::plan::Plan;
use crate::plot::{self, Panel};
use crate::server::Server;
use crate::texts;

const CLIENTS: [usize; 3] = [1, 8, 32];

/// A setting and the values that it is given.
struct Sweep {
    title: &'static str,
    /// How a value is written in the picture, and the flags that give it.
    values: Vec<(String, Vec<String>)>,
    /// The value that is the default on a CPU of two cores.
    default: &'static str,
    /// Whether the values are more and less of the same thing.
    ordered: bool,
}

fn sweeps() -> Vec<Sweep> {
    let flag = |title: &'static str, default: &'static str, values: &[&str]| Sweep {
        title,
        values: values
            .iter()
            .map(|value| ((*value).to_owned(), vec![title.to_owned(), (*value).to_owned()]))
            .collect(),
        default,
        ordered: true,
    };
    let threads = ["1 × 1", "1 × 2", "2 × 1", "2 × 2", "4 × 1"].map(|value| {
        let (instances, threads) = value.split_once(" × ").unwrap_or((value, "1"));
        (value.to_owned(), ["--instances", instances, "--threads", threads].map(str::to_owned).to_vec())
    });
    vec![
        flag("--max-batch-tokens", "256", &["32", "64", "128", "256", "512", "2048"]),
        flag("--max-batch-padding", "6", &["0", "2", "6", "12", "24", "256"]),
        flag("--max-batch-size", "32", &["1", "2", "4", "8", "32"]),
        flag("--max-batch-delay", "0ms", &["0ms", "5ms", "20ms", "50ms"]),
        Sweep {
            title: "--instances × --threads",
            values: threads.to_vec(),
            default: "2 × 1",
            ordered: false,
        },
    ]
}

/// For each value of a setting and each number of clients: requests/s and p99, in percent of the default's.
type Curve = Vec<[(f64, f64); CLIENTS.len()]>;

/// What one of two servers, asked in turns, did with a number of clients.
#[derive(Default)]
struct Side {
    per_second: Figures<f64>,
    /// Of all turns, in nanoseconds.
    latencies: Figures,
}

/// A server whose answers are looked at.
struct Asked<'a> {
    server: Server,
    name: &'a str,
    expected: &'a [Vec<Entity>],
}

/// Measures every value, prints the figures and draws the picture.
pub(crate) fn measure(plan: &Plan, model: &Path, picture: &Path) -> anyhow::Result<()> {
    let texts = texts::all();
    let start = |flags: &[&str]| Server::start(Contender::Ours, plan, model, &texts, flags);
    let expected = start(&[])?.answers()?;
    let default = Asked { server: start(&[])?, name: "the default", expected: &expected };
    let mut defaults: [Side; CLIENTS.len()] = Default::default();
    let mut panels = Vec::new();
    print_head();
    for sweep in sweeps() {
        let mut curve = Curve::new();
        for (value, flags) in &sweep.values {
            let at = if value == sweep.default {
                [(100.0, 100.0); CLIENTS.len()]
            } else {
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                let other = Asked { server: start(&flags)?, name: value, expected: &expected };
                compare(plan, &default, &other, &mut defaults)?
            };
            sweep.print(value, &at);
            curve.push(at);
        }
        panels.push(sweep.panel(&curve));
    }
    let names: Vec<String> =
        CLIENTS.iter().zip(&defaults).map(|(clients, side)| side.name(*clients)).collect();
    print_names(&names);
    std::fs::write(picture, plot::draw(&panels, &names))?;
    Ok(())
}

/// Both in turns, with each number of clients.
fn compare(
    plan: &Plan,
    default: &Asked<'_>,
    other: &Asked<'_>,
    defaults: &mut [Side; CLIENTS.len()],
) -> anyhow::Result<[(f64, f64); CLIENTS.len()]> {
    let mut found = [(0.0, 0.0); CLIENTS.len()];
    for ((clients, found), overall) in CLIENTS.into_iter().zip(&mut found).zip(defaults) {
        let (mut ratios, mut one, mut two) = (Figures::default(), Side::default(), Side::default());
        for _ in 0..plan.rounds {
            let (before, after) =
                (default.turn(plan, clients, &mut one)?, other.turn(plan, clients, &mut two)?);
            ratios.add(100.0 * after / before);
            overall.per_second.add(before);
        }
        *found = (ratios.median(), 100.0 * two.p99() / one.p99());
        overall.latencies.append(one.latencies);
    }
    Ok(found)
}

impl Asked<'_> {
    /// Requests a second.
    fn turn(&self, plan: &Plan, clients: usize, side: &mut Side) -> anyhow::Result<f64> {
        let turn = load::turn(self.server.target(), clients, plan.turn, || self.server.cpu_seconds())?;
        if let Some(difference) = answers::compare(&turn.answers, self.expected)?.first_difference {
            anyhow::bail!("{} answers wrongly: {difference}", self.name);
        }
        let per_second = turn.per_second();
        side.latencies.append(turn.latencies);
        Ok(per_second)
    }
}

impl Side {
    /// In milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds to be drawn")]
    fn p99(&self) -> f64 {
        self.latencies.percentile(99) as f64 / 1e6
    }

    /// What the default did, for the legend.
    fn name(&self, clients: usize) -> String {
        let plural = if clients == 1 { "" } else { "s" };
        format!("{clients} client{plural} (100 % = {:.0}/s, {:.0} ms)", self.per_second.median(), self.p99())
    }
}

impl Sweep {
    #[expect(clippy::print_stdout, reason = "the figures of the picture")]
    fn print(&self, value: &str, at: &[(f64, f64); CLIENTS.len()]) {
        let column =
            |of: fn(&(f64, f64)) -> f64| columns(at.each_ref().map(|point| format!("{:.0}", of(point))));
        println!("{:26} {value:>7} {} {}", self.title, column(|point| point.0), column(|point| point.1));
    }

    fn panel(self, curve: &Curve) -> Panel {
        let series = |clients: usize| curve.iter().filter_map(|at| at.get(clients).copied()).collect();
        Panel {
            title: self.title,
            default: self.values.iter().position(|(value, _)| value == self.default),
            ticks: self.values.into_iter().map(|(value, _)| value).collect(),
            ordered: self.ordered,
            series: (0..CLIENTS.len()).map(series).collect(),
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the percentages are of")]
fn print_names(names: &[String]) {
    names.iter().for_each(|name| println!("{name}"));
}

#[expect(clippy::print_stdout, reason = "as above")]
fn print_head() {
    let clients = || columns(CLIENTS.map(|clients| format!("at {clients}")));
    println!(
        "{:26} {:>7} {:>30} {:>30}",
        "", "", "requests/s, % of the default's", "p99, % of the default's"
    );
    println!("{:26} {:>7} {} {}", "setting", "value", clients(), clients());
}

fn columns(texts: [String; CLIENTS.len()]) -> String {
    texts.map(|text| format!("{text:>8}")).join(" ")
}
