//! What each setting of the batching does to throughput and to the slowest answers, the others being as they are by default.

use std::path::Path;

use crate::answers;
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
        flag("--max-batch-padding", "24", &["0", "8", "24", "64", "256", "1024"]),
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

/// Measures every value, prints the figures and draws the picture.
#[expect(clippy::print_stdout, reason = "the figures of the picture")]
pub(crate) fn measure(plan: &Plan, model: &Path, picture: &Path) -> anyhow::Result<()> {
    let texts = texts::all();
    let expected = Server::start(Contender::Ours, plan, model, &texts, &[])?.answers()?;
    let mut panels = Vec::new();
    println!("{:26} {:>8} {:>28} {:>28}", "", "", "requests/s", "p99, ms");
    println!("{:26} {:>8} {} {}", "setting", "value", clients(), clients());
    for sweep in sweeps() {
        let mut points: Vec<[Point; CLIENTS.len()]> =
            sweep.values.iter().map(|_| Default::default()).collect();
        for _ in 0..plan.rounds {
            for ((_, flags), points) in sweep.values.iter().zip(&mut points) {
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                let server = Server::start(Contender::Ours, plan, model, &texts, &flags)?;
                for (clients, point) in CLIENTS.into_iter().zip(points) {
                    let turn = load::turn(server.target(), clients, plan.turn, || server.cpu_seconds())?;
                    if let Some(difference) = answers::compare(&turn.answers, &expected)?.first_difference {
                        anyhow::bail!("{flags:?} answers wrongly: {difference}");
                    }
                    point.add(&turn);
                }
            }
        }
        let medians = points.iter().map(|at| {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds to be drawn")]
            at.each_ref().map(|point| (point.per_second.median(), point.p99.median() as f64 / 1e6))
        });
        let medians: Vec<[(f64, f64); CLIENTS.len()]> = medians.collect();
        for ((value, _), at) in sweep.values.iter().zip(&medians) {
            let column = |of: fn(&(f64, f64)) -> f64| {
                at.each_ref().map(|point| format!("{:>8.0}", of(point))).join(" ")
            };
            println!(
                "{:26} {value:>8} {:>28} {:>28}",
                sweep.title,
                column(|point| point.0),
                column(|point| point.1)
            );
        }
        panels.push(Panel {
            title: sweep.title,
            default: sweep.values.iter().position(|(value, _)| value == sweep.default),
            ticks: sweep.values.into_iter().map(|(value, _)| value).collect(),
            ordered: sweep.ordered,
            series: (0..CLIENTS.len())
                .map(|clients| medians.iter().filter_map(|at| at.get(clients).copied()).collect())
                .collect(),
        });
    }
    let names = CLIENTS.map(|clients| format!("{clients} client{}", if clients == 1 { "" } else { "s" }));
    std::fs::write(picture, plot::draw(&panels, &names))?;
    println!("wrote {}", picture.display());
    Ok(())
}

fn clients() -> String {
    format!("{:>28}", CLIENTS.map(|clients| format!("{:>8}", format!("at {clients}"))).join(" "))
}
