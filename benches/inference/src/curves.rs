//! What each setting of the batching does to throughput and to the slowest answers, the others being as they are by default.

use std::path::Path;

use crate::answers::{self, Entity};
use crate::contender::Contender;
use crate::load;
use crate::plan::Plan;
use crate::plot::{self, Panel};
use crate::point::Point;
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
        flag("--max-batch-tokens", "256", &["32", "64", "128", "256", "512", "1024", "2048"]),
        flag("--max-batch-padding", "6", &["0", "2", "4", "6", "12", "24", "64", "256"]),
        flag("--max-batch-size", "32", &["1", "2", "4", "8", "16", "32"]),
        flag("--max-batch-delay", "0ms", &["0ms", "2ms", "5ms", "10ms", "20ms", "50ms"]),
        Sweep {
            title: "--instances × --threads",
            values: threads.to_vec(),
            default: "2 × 1",
            ordered: false,
        },
    ]
}

/// For each value of a setting and each number of clients: requests/s, and p99 in milliseconds.
type Curve = Vec<[(f64, f64); CLIENTS.len()]>;

/// Measures every value, prints the figures and draws the picture.
pub(crate) fn measure(plan: &Plan, model: &Path, picture: &Path) -> anyhow::Result<()> {
    let texts = texts::all();
    let expected = Server::start(Contender::Ours, plan, model, &texts, &[])?.answers()?;
    let mut panels = Vec::new();
    print_head();
    for sweep in sweeps() {
        let curve = sweep.measure(plan, model, &texts, &expected)?;
        sweep.print(&curve);
        panels.push(sweep.panel(&curve));
    }
    let names = CLIENTS.map(|clients| format!("{clients} client{}", if clients == 1 { "" } else { "s" }));
    std::fs::write(picture, plot::draw(&panels, &names))?;
    Ok(())
}

impl Sweep {
    fn measure(
        &self,
        plan: &Plan,
        model: &Path,
        texts: &[String],
        expected: &[Vec<Entity>],
    ) -> anyhow::Result<Curve> {
        let mut points: Vec<[Point; CLIENTS.len()]> =
            self.values.iter().map(|_| Default::default()).collect();
        for _ in 0..plan.rounds {
            for ((_, flags), points) in self.values.iter().zip(&mut points) {
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                let server = Server::start(Contender::Ours, plan, model, texts, &flags)?;
                for (clients, point) in CLIENTS.into_iter().zip(points) {
                    let turn = load::turn(server.target(), clients, plan.turn, || server.cpu_seconds())?;
                    if let Some(difference) = answers::compare(&turn.answers, expected)?.first_difference {
                        anyhow::bail!("{flags:?} answers wrongly: {difference}");
                    }
                    point.add(&turn);
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds to be drawn")]
        let medians = |point: &Point| (point.per_second.median(), point.p99.median() as f64 / 1e6);
        Ok(points.iter().map(|at| at.each_ref().map(medians)).collect())
    }

    #[expect(clippy::print_stdout, reason = "the figures of the picture")]
    fn print(&self, curve: &Curve) {
        for ((value, _), at) in self.values.iter().zip(curve) {
            let column =
                |of: fn(&(f64, f64)) -> f64| columns(at.each_ref().map(|point| format!("{:.0}", of(point))));
            println!("{:26} {value:>7} {} {}", self.title, column(|point| point.0), column(|point| point.1));
        }
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

#[expect(clippy::print_stdout, reason = "as above")]
fn print_head() {
    let clients = || columns(CLIENTS.map(|clients| format!("at {clients}")));
    println!("{:26} {:>7} {:>26} {:>26}", "", "", "requests/s", "p99, ms");
    println!("{:26} {:>7} {} {}", "setting", "value", clients(), clients());
}

fn columns(texts: [String; CLIENTS.len()]) -> String {
    texts.map(|text| format!("{text:>8}")).join(" ")
}
